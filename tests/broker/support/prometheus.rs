//! What watches the router: Prometheus, Alertmanager, and somebody who is told.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::broker::free_port;
use super::process::{Process, tool};
use super::{SOON, http, within};

/// A server of Prometheus's family, on a port and in a folder of its own.
struct Server {
    port: u16,
    // Before its folder.
    _process: Process,
    _folder: TempDir,
}

impl Server {
    /// Starts one with these files; `None` if this machine has none. CI must have it.
    async fn start(
        name: &str,
        files: &[(&str, &str)],
        args: impl Fn(u16, &str) -> Vec<String>,
    ) -> Option<Self> {
        let Some(program) = tool(&format!("{}_BIN", name.to_uppercase()), name) else {
            assert!(std::env::var_os("CI").is_none(), "no {name}: run scripts/tools.py test");
            eprintln!("no {name}: run scripts/tools.py test; what needs it is left out");
            return None;
        };
        for _ in 0..5 {
            let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
            for (file, text) in files {
                std::fs::write(folder.path().join(file), text).unwrap();
            }
            let mut command = Command::new(&program);
            command.args(args(port, folder.path().to_str().unwrap()));
            // An Alertmanager that scripts/tools.py fetched looks for its templates where it is started.
            let share = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/share").join(name);
            if share.exists() {
                command.current_dir(share);
            }
            let mut process = Process::spawn(&format!("{name} on {port}"), &mut command);
            let up = within(SOON, async || {
                if process.exited().is_some() {
                    return Some(false);
                }
                http::get(port, "/-/ready").await.is_some_and(|page| page.status == 200).then_some(true)
            });
            if up.await == Some(true) {
                return Some(Self { port, _process: process, _folder: folder });
            }
        }
        panic!("{name} does not start");
    }
}

/// A Prometheus that scrapes a worker often.
pub(crate) struct Prometheus(Server);

impl Prometheus {
    /// With these rules; tells this Alertmanager.
    pub(crate) async fn start(worker: u16, rules: &str, alertmanager: &Alertmanager) -> Option<Self> {
        let config = format!(
            "global: {{scrape_interval: 300ms, scrape_timeout: 300ms, evaluation_interval: 300ms}}\n\
             rule_files: [rules.yml]\n\
             alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{}']}}]}}]}}\n\
             scrape_configs:\n\
             - {{job_name: beamline-router, static_configs: [{{targets: ['127.0.0.1:{worker}']}}]}}\n",
            alertmanager.0.port
        );
        let args = |port: u16, folder: &str| {
            vec![
                format!("--config.file={folder}/prometheus.yml"),
                format!("--storage.tsdb.path={folder}/data"),
                format!("--web.listen-address=127.0.0.1:{port}"),
            ]
        };
        let files = [("prometheus.yml", config.as_str()), ("rules.yml", rules)];
        Server::start("prometheus", &files, args).await.map(Self)
    }

    /// What a query returns now: a vector's series, or a scalar as one.
    pub(crate) async fn query(&self, query: &str) -> Vec<Value> {
        let path = format!("/api/v1/query?query={}", encoded(query));
        let Some(page) = http::get(self.0.port, &path).await else { return Vec::new() };
        let answer = page.json();
        assert_eq!(answer["status"], "success", "{query}\n{answer}");
        match &answer["data"]["result"] {
            Value::Array(series) => series.clone(),
            scalar => vec![scalar.clone()],
        }
    }

    /// All rules, each with its query and its health.
    pub(crate) async fn rules(&self) -> Vec<Value> {
        let page = http::get(self.0.port, "/api/v1/rules").await.expect("Prometheus answers");
        let groups = page.json()["data"]["groups"].as_array().unwrap().clone();
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }
}

/// An Alertmanager that tells a webhook at once.
pub(crate) struct Alertmanager(Server);

impl Alertmanager {
    pub(crate) async fn start(webhook: &Webhook) -> Option<Self> {
        let config = format!(
            "route: {{receiver: test, group_by: ['...'], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}\n\
             receivers:\n\
             - {{name: test, webhook_configs: [{{url: 'http://127.0.0.1:{}/', send_resolved: true}}]}}\n",
            webhook.port
        );
        let args = |port: u16, folder: &str| {
            vec![
                format!("--config.file={folder}/alertmanager.yml"),
                format!("--storage.path={folder}/data"),
                format!("--web.listen-address=127.0.0.1:{port}"),
                "--cluster.listen-address=".to_owned(),
            ]
        };
        Server::start("alertmanager", &[("alertmanager.yml", &config)], args).await.map(Self)
    }
}

/// Who is told of alerts.
pub(crate) struct Webhook {
    port: u16,
    alerts: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl Webhook {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let alerts = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&alerts);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(take(stream, Arc::clone(&kept)));
            }
        });
        Self { port, alerts, task }
    }

    /// The alerts that it was told of so far, each as often as it was told.
    pub(crate) fn alerts(&self) -> Vec<Value> {
        self.alerts.lock().unwrap().clone()
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes the notifications of one connection.
async fn take(mut stream: TcpStream, alerts: Arc<Mutex<Vec<Value>>>) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        let body = loop {
            if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
                let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
                let body = &bytes[end + 4..];
                if body.len() >= length? {
                    break body.to_vec();
                }
            }
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        // One notification at a time on a connection: nothing follows before the answer.
        bytes.clear();
        let told: Value = serde_json::from_slice(&body).ok()?;
        alerts.lock().unwrap().extend(told["alerts"].as_array()?.iter().cloned());
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.ok()?;
    }
}

/// Percent-encoded, as a query's value wants it.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}
