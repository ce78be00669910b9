use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::broker::{Broker, free_port};
use super::caller::Caller;
use super::http::{self, Page};
use super::metrics::Metrics;
use super::process::{Done, Process, run};
use super::{SOON, eventually};

const PROGRAM: &str = env!("CARGO_BIN_EXE_beamline-router");

/// How a worker is started.
#[derive(Default)]
pub(crate) struct Launch {
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl Launch {
    /// A flag with its value.
    pub(crate) fn flag(mut self, flag: &str, value: impl ToString) -> Self {
        self.args.extend([flag.to_owned(), value.to_string()]);
        self
    }

    /// A flag that stands alone.
    pub(crate) fn switch(mut self, flag: &str) -> Self {
        self.args.push(flag.to_owned());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }
}

/// A running `beamline-router serve`; killed when dropped.
pub(crate) struct Worker {
    process: Process,
    host: String,
    http: u16,
}

impl Worker {
    /// Starts one and waits until it is ready.
    pub(crate) async fn start(broker: &Broker, settings: impl FnOnce(Launch) -> Launch) -> Self {
        let mut worker = Self::launch(broker, settings);
        worker.ready().await;
        worker
    }

    /// Starts one and does not wait.
    pub(crate) fn launch(broker: &Broker, settings: impl FnOnce(Launch) -> Launch) -> Self {
        Self::launch_by(program(), "127.0.0.1", &broker.url(), settings)
    }

    /// Starts one that connects to these servers, and does not wait.
    pub(crate) fn launch_to(url: &str, settings: impl FnOnce(Launch) -> Launch) -> Self {
        Self::launch_by(program(), "127.0.0.1", url, settings)
    }

    /// Starts one in a network namespace, with its HTTP side at an address there, and does not wait.
    pub(crate) fn launch_in(
        namespace: &str,
        host: &str,
        url: &str,
        settings: impl FnOnce(Launch) -> Launch,
    ) -> Self {
        let mut command = cleared(Command::new("ip"));
        command.args(["netns", "exec", namespace]).arg(program().get_program());
        Self::launch_by(command, host, url, settings)
    }

    fn launch_by(
        mut command: Command,
        host: &str,
        url: &str,
        settings: impl FnOnce(Launch) -> Launch,
    ) -> Self {
        let http = free_port();
        let Launch { args, env } = settings(Launch::default());
        command.arg("serve").env("NATS_URL", url).env("BEAMLINE_HTTP_ADDR", format!("{host}:{http}"));
        command.args(args).envs(env);
        let process = Process::spawn(&format!("worker with http on {http}"), &mut command);
        Self { process, host: host.to_owned(), http }
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn ready(&mut self) {
        let (process, host, http) = (&mut self.process, &self.host, self.http);
        eventually("the worker is ready", SOON, async || {
            if let Some(status) = process.exited() {
                panic!("the worker ended: {status}");
            }
            http::get_at(host, http, "/readyz").await.is_some_and(|page| page.status == 200)
        })
        .await;
    }

    pub(crate) fn http_port(&self) -> u16 {
        self.http
    }

    /// GET from its HTTP side; `None` if it does not answer.
    pub(crate) async fn get(&self, path: &str) -> Option<Page> {
        http::get_at(&self.host, self.http, path).await
    }

    /// Scrapes its metrics.
    pub(crate) async fn metrics(&self) -> Metrics {
        let page = self.get("/metrics").await.expect("metrics are served");
        assert_eq!(page.status, 200, "{}", page.body);
        Metrics::parse(&page.body)
    }

    /// What it logged, line by line; what is no JSON is left out.
    pub(crate) fn logs(&self) -> Vec<Value> {
        self.process.stdout.all().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// What it logged with this in `event`.
    pub(crate) fn events(&self, event: &str) -> Vec<Value> {
        self.logs().into_iter().filter(|line| line["event"] == event).collect()
    }

    /// Standard output as it came.
    pub(crate) fn stdout(&self) -> String {
        self.process.stdout.all().join("\n")
    }

    /// Standard error as it came.
    pub(crate) fn stderr(&self) -> String {
        self.process.stderr.all().join("\n")
    }

    /// SIGTERM, and does not wait.
    pub(crate) fn terminate(&self) {
        self.process.signal("TERM");
    }

    /// SIGHUP: it reads its credentials again.
    pub(crate) fn hang_up(&self) {
        self.process.signal("HUP");
    }

    /// Waits for its end: the exit code, -1 if a signal ended it.
    pub(crate) async fn exit_code(&mut self, bound: Duration) -> i32 {
        self.process.ends(bound).await.code().unwrap_or(-1)
    }

    /// SIGTERM, and the exit code.
    pub(crate) async fn stop(&mut self) -> i32 {
        self.terminate();
        self.exit_code(SOON).await
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    pub(crate) fn pause(&self) {
        self.process.pause();
    }

    pub(crate) fn resume(&self) {
        self.process.signal("CONT");
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.process.exited().is_none()
    }

    /// Waits until it decides by what the caller just put: until it has read what the log holds now.
    pub(crate) async fn follows(&self, caller: &Caller) {
        self.applied(caller.log_end().await).await;
    }

    /// Waits until it has applied the log up to this sequence.
    pub(crate) async fn applied(&self, sequence: u64) {
        eventually("the log is applied", SOON, async || {
            let metrics = self.metrics().await;
            #[expect(clippy::cast_precision_loss, reason = "no test writes 2^53 entries")]
            let reached = metrics.value("router_log_position", &[]) >= Some(sequence as f64);
            reached
        })
        .await;
    }
}

/// Where the program stands.
pub(crate) fn program_folder() -> &'static Path {
    Path::new(PROGRAM).parent().unwrap()
}

/// The program with nothing of this process's environment that it would read.
pub(super) fn program() -> Command {
    let named = std::env::var_os("BEAMLINE_ROUTER_BIN");
    cleared(Command::new(named.as_deref().unwrap_or(PROGRAM.as_ref())))
}

/// A command with nothing of this process's environment that the program would read.
fn cleared(mut command: Command) -> Command {
    command.env_clear();
    for kept in ["PATH", "HOME", "TMPDIR", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command
}

/// Runs a command of the program to its end, against a broker.
pub(crate) async fn cli(broker: &Broker, args: &[&str]) -> Done {
    let mut command = program();
    command.env("NATS_URL", broker.url()).args(args);
    run(command, "").await
}

/// Runs the program to its end with this environment and nothing else; `folder` is where it stands.
pub(crate) async fn bare(args: &[&str], env: &[(&str, &str)], folder: &Path) -> Done {
    let mut command = program();
    command.envs(env.iter().copied()).args(args).current_dir(folder);
    run(command, "").await
}
