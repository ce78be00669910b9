use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;

use super::failed::StandFailed;
use super::http;
use super::process::Process;

/// Where it is looked for when nobody names one.
const ON_PATH: &str = "nats-server";

/// Before 2.12 the server drops core publishes to a stream from a queue of 10,000 on.
const LEAST: [u64; 3] = [2, 12, 0];

/// A server that starts on an empty folder takes a fraction of a second.
const READY_SECONDS: u64 = 20;

const POLL: Duration = Duration::from_millis(20);

/// It keeps nothing that outlives the command: no need to wait longer for it.
const GRACE: Duration = Duration::from_secs(2);

/// The broker: a nats-server with JetStream, on a port that the system chose.
#[derive(Debug)]
pub(in crate::cli) struct Broker {
    process: Process,
    pub(in crate::cli) version: String,
    /// `nats://127.0.0.1:<port>`
    pub(in crate::cli) url: String,
    monitor: u16,
}

/// What nats-server writes to its ports file.
#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
    monitoring: Vec<String>,
}

impl Broker {
    /// Starts one in a folder, with more in its configuration, and waits until it listens.
    pub(in crate::cli) async fn start(
        program: Option<&Path>,
        folder: &Path,
        more: &str,
    ) -> Result<Self, StandFailed> {
        let program = program.unwrap_or(Path::new(ON_PATH));
        let version = version_of(program).await?;
        let config = folder.join("nats-server.conf");
        std::fs::write(&config, configuration(folder) + more).map_err(StandFailed::Folder)?;
        let mut command = Command::new(program);
        command.arg("--config").arg(&config);
        let process = Process::spawn("nats-server", command, folder.join("nats-server.log"))?;
        let mut broker = Self { process, version, url: String::new(), monitor: 0 };
        let listens = async {
            loop {
                broker.process.check()?;
                if let Some(told) = told(folder) {
                    return Ok(told);
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let told = tokio::time::timeout(Duration::from_secs(READY_SECONDS), listens).await;
        (broker.url, broker.monitor) = told.unwrap_or_else(|_| {
            Err(StandFailed::NotReady {
                name: "nats-server".to_owned(),
                seconds: READY_SECONDS,
                reasons: String::new(),
                log: broker.process.last_words(),
            })
        })?;
        Ok(broker)
    }

    /// Its process id; none once it has ended.
    pub(in crate::cli) fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// What its monitoring says under a path, such as `/varz`.
    pub(in crate::cli) async fn monitoring(&self, path: &str) -> Option<serde_json::Value> {
        let (status, body) = http::get(self.monitor, path).await?;
        serde_json::from_str(&body).ok().filter(|_| status == 200)
    }

    /// Fails if it has ended by itself.
    pub(in crate::cli) fn check(&mut self) -> Result<(), StandFailed> {
        self.process.check()
    }

    pub(in crate::cli) async fn stop(&mut self) {
        self.process.stop(GRACE).await;
    }
}

/// The storage limit is set since the default follows the free space of the disk, and the streams'
/// reservations may exceed that of a small one; a command fills some megabytes.
fn configuration(folder: &Path) -> String {
    let quoted = |path: PathBuf| serde_json::Value::from(path.to_string_lossy()).to_string();
    format!(
        "listen: \"127.0.0.1:-1\"\nhttp: \"127.0.0.1:-1\"\nports_file_dir: {}\njetstream {{ store_dir: {}, max_file_store: 1TB, max_memory_store: 64MB }}\n",
        quoted(folder.to_owned()),
        quoted(folder.join("jetstream")),
    )
}

/// The URL and the port of the monitoring in the ports file, once it is written.
fn told(folder: &Path) -> Option<(String, u16)> {
    let mut entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let path = entries.find(|path| path.extension().is_some_and(|extension| extension == "ports"))?;
    let ports: Ports = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let (_, monitor) = ports.monitoring.first()?.rsplit_once(':')?;
    Some((ports.nats.into_iter().next()?, monitor.parse().ok()?))
}

async fn version_of(program: &Path) -> Result<String, StandFailed> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = command
        .output()
        .await
        .map_err(|source| StandFailed::Spawn { program: program.to_owned(), source })?;
    let told = String::from_utf8_lossy(&output.stdout);
    let version = told.rsplit_once(['v', ' ']).map(|(_, version)| version.trim()).unwrap_or_default();
    match numbers(version) {
        None => Err(StandFailed::NoNatsServer { program: program.to_owned() }),
        Some(numbers) if numbers < LEAST => Err(StandFailed::TooOld {
            program: program.to_owned(),
            version: version.to_owned(),
            least: "2.12".to_owned(),
        }),
        Some(_) => Ok(version.to_owned()),
    }
}

/// `2.12.0-RC.1` is 2, 12, 0.
fn numbers(version: &str) -> Option<[u64; 3]> {
    let release = version.split(['-', '+']).next()?;
    let mut parts = release.split('.').map(|part| part.parse().ok());
    Some([parts.next()??, parts.next()??, parts.next()??])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(numbers("2.15.1"), Some([2, 15, 1]));
        assert_eq!(numbers("2.12.0-RC.1"), Some([2, 12, 0]));
        assert!(numbers("2.9.25").is_some_and(|version| version < LEAST));
        for text in ["", "2", "2.12", "v2.12.1", "x.y.z"] {
            assert_eq!(numbers(text), None, "{text}");
        }
    }
}
