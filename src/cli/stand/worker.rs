use std::path::Path;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::process::Command;

use super::failed::StandFailed;
use super::http;
use super::process::Process;
use crate::config::all_keys;

/// How long a worker may take from its start until it is ready.
const READY_SECONDS: u64 = 20;

/// A free port may be taken by someone else before the worker listens on it.
const TRIES: u32 = 3;

const POLL: Duration = Duration::from_millis(50);

/// A drain with nothing under way is done at once.
const GRACE: Duration = Duration::from_secs(5);

/// A worker: this program, run as `serve`.
#[derive(Debug)]
pub(in crate::cli) struct WorkerProcess {
    process: Process,
    port: u16,
}

/// How a worker is started.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Start<'a> {
    /// Another build than this program.
    pub(in crate::cli) program: Option<&'a Path>,
    /// What it is told by when it fails.
    pub(in crate::cli) name: &'a str,
    /// Its name among the workers, and its log's.
    pub(in crate::cli) worker_name: &'a str,
    pub(in crate::cli) broker_url: &'a str,
    pub(in crate::cli) folder: &'a Path,
    /// Further flags of `serve`.
    pub(in crate::cli) args: &'a [&'a str],
    /// Variables beside the environment's.
    pub(in crate::cli) env: &'a [(&'a str, &'a str)],
}

/// What a worker's metrics say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Page {
    pub(in crate::cli) position: Option<String>,
    pub(in crate::cli) digest: Option<String>,
    pub(in crate::cli) policies: Option<u64>,
    pub(in crate::cli) decisions: u64,
    /// All of it.
    pub(in crate::cli) text: String,
}

impl WorkerProcess {
    /// Starts one; it is ready some time later.
    async fn start(start: &Start<'_>) -> Result<Self, StandFailed> {
        let program = match start.program {
            Some(program) => program.to_owned(),
            None => std::env::current_exe()
                .map_err(|source| StandFailed::Spawn { program: "beamline-router".into(), source })?,
        };
        let port = free_port().await.map_err(StandFailed::Folder)?;
        let mut command = Command::new(program);
        // What the environment says of other brokers and workers is none of this
        // one's; OTEL_* holds.
        all_keys().for_each(|key| {
            command.env_remove(key.env);
        });
        command.args(["serve", "--nats-url", start.broker_url]);
        command.args(["--http-addr", &format!("127.0.0.1:{port}")]);
        command.args(["--worker-name", start.worker_name]).args(start.args);
        command.envs(start.env.iter().copied());
        let log = start.folder.join(format!("{}.log", start.worker_name));
        let process = Process::spawn(start.name, command, log)?;
        Ok(Self { process, port })
    }

    pub(in crate::cli) fn name(&self) -> &str {
        &self.process.name
    }

    /// Its process id; none once it has ended.
    pub(in crate::cli) fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// What it is told by in a line: process id and address.
    pub(in crate::cli) fn address(&self) -> String {
        let id = self.id().unwrap_or_default();
        format!("process {id}, http://127.0.0.1:{}", self.port)
    }

    /// Waits until it is ready.
    pub(in crate::cli) async fn ready(&mut self) -> Result<(), StandFailed> {
        let mut reasons = String::new();
        let ready = async {
            loop {
                self.process.check()?;
                match http::get(self.port, "/readyz").await {
                    Some((200, _)) => return Ok(()),
                    Some((_, body)) => reasons = reasons_in(&body),
                    None => {}
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let ready = tokio::time::timeout(Duration::from_secs(READY_SECONDS), ready).await;
        ready.unwrap_or_else(|_| {
            let (name, log) = (self.process.name.clone(), self.process.last_words());
            Err(StandFailed::NotReady { name, seconds: READY_SECONDS, reasons, log })
        })
    }

    /// Fails if it has ended by itself.
    pub(in crate::cli) fn check(&mut self) -> Result<(), StandFailed> {
        self.process.check()
    }

    /// What its metrics say now.
    pub(in crate::cli) async fn page(&self) -> Option<Page> {
        match http::get(self.port, "/metrics").await {
            Some((200, text)) => Some(Page::read(&text)),
            _ => None,
        }
    }

    /// How many lines of its log name one of these events.
    pub(in crate::cli) fn logged(&self, events: &[&str]) -> u64 {
        let log = self.process.log();
        log.lines().filter(|line| events.iter().any(|event| line.contains(event))).count() as u64
    }

    /// Drains it. Whether it ended in its own way, with exit status 0.
    pub(in crate::cli) async fn stop(&mut self) -> bool {
        self.process.stop(GRACE).await.is_some_and(|status| status.success())
    }
}

/// Starts one and waits until it is ready, on another port if the first was gone.
pub(in crate::cli) async fn start_ready(
    start: &Start<'_>,
    workers: &mut Vec<WorkerProcess>,
) -> Result<(), StandFailed> {
    let mut tries = 0;
    loop {
        tries += 1;
        // It stands among the others before it is waited for, so that it is ended with them.
        workers.push(WorkerProcess::start(start).await?);
        let Some(worker) = workers.last_mut() else { continue };
        match worker.ready().await {
            Err(StandFailed::Ended { .. }) if tries < TRIES => {
                workers.pop();
            }
            outcome => return outcome,
        }
    }
}

impl Page {
    fn read(text: &str) -> Self {
        let mut page = Self { text: text.to_owned(), ..Self::default() };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let family = series.split_once('{').map_or(series, |(family, _)| family);
            match family {
                "router_log_position" => page.position = Some(value.to_owned()),
                "router_log_state_digest" => page.digest = Some(value.to_owned()),
                "router_policies" => page.policies = value.parse().ok(),
                "router_decisions_total" => page.decisions += value.parse::<u64>().unwrap_or(0),
                _ => {}
            }
        }
        page
    }

    /// The sum over those of a family's series that have all of these labels, each as `name="value"`.
    pub(in crate::cli) fn sum(&self, family: &str, labels: &[&str]) -> u64 {
        let lines = self.text.lines().filter(|line| !line.starts_with('#'));
        let series = lines.filter_map(|line| line.rsplit_once(' ')).filter(|(series, _)| {
            series.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        });
        let wanted = series.filter(|(series, _)| labels.iter().all(|label| has(series, label)));
        wanted.filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
    }
}

/// Whether a series has a label, the whole of it.
fn has(series: &str, label: &str) -> bool {
    series.match_indices(label).any(|(at, _)| series[..at].ends_with(['{', ',']))
}

async fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?.port())
}

fn reasons_in(body: &str) -> String {
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let reasons = body.get("reasons").and_then(|reasons| reasons.as_array()).cloned().unwrap_or_default();
    reasons.iter().filter_map(|reason| reason.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_metrics_tells_position_digest_and_decisions() {
        let page = Page::read(
            "# HELP router_decisions Requests.\n# TYPE router_decisions counter\n\
             router_decisions_total{outcome=\"decided\",reason=\"weighted\"} 12\n\
             router_decisions_total{outcome=\"circuit_open\",reason=\"\"} 3\n\
             router_log_position 40\nrouter_log_state_digest 9007199254740991\nrouter_policies 3\n# EOF\n",
        );
        let want = Page {
            position: Some("40".to_owned()),
            digest: Some("9007199254740991".to_owned()),
            policies: Some(3),
            decisions: 15,
            text: page.text.clone(),
        };
        assert_eq!(page, want);
        let decisions = |labels: &[&str]| page.sum("router_decisions_total", labels);
        assert_eq!((decisions(&[]), decisions(&["outcome=\"decided\""])), (15, 12));
        assert_eq!(decisions(&["come=\"decided\""]), 0, "the whole of a label");
        assert_eq!(decisions(&["outcome=\"decided\"", "reason=\"\""]), 0);
        assert_eq!(page.sum("router_log", &[]), 0, "the whole of a family's name");
    }
}
