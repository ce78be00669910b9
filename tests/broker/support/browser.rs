//! A real Chromium, driven over WebDriver.

use std::io::{Read as _, Write as _};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::broker::free_port;
use super::process::{Process, tool};
use super::{SOON, eventually, within};

/// How long one command to the driver may take; the first one starts a browser on a busy machine.
const COMMAND: Duration = Duration::from_secs(60);

/// A browser with a fresh profile; closed when dropped.
pub(crate) struct Browser {
    session: String,
    port: u16,
    _driver: Process,
    // After its driver.
    _profile: TempDir,
}

impl Browser {
    /// Starts one; `None` if this machine has none. CI must have it.
    pub(crate) async fn start() -> Option<Self> {
        let Some(program) = tool("CHROMEDRIVER_BIN", "chromedriver") else {
            assert!(std::env::var_os("CI").is_none(), "no chromedriver: run scripts/tools.py test as root");
            eprintln!("no chromedriver: run scripts/tools.py test as root; what needs it is left out");
            return None;
        };
        for _ in 0..5 {
            let (port, profile) = (free_port(), tempfile::tempdir().unwrap());
            let mut command = Command::new(&program);
            command.arg(format!("--port={port}"));
            let mut driver = Process::spawn(&format!("chromedriver on {port}"), &mut command);
            let up = within(SOON, async || {
                if driver.exited().is_some() {
                    return Some(false);
                }
                let told = send(port, "GET", "/status", &Value::Null).await?;
                (told["ready"] == true).then_some(true)
            });
            if up.await != Some(true) {
                continue;
            }
            let mut args = [
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
            ]
            .map(str::to_owned)
            .to_vec();
            args.push(format!("--user-data-dir={}", profile.path().display()));
            let options = json!({"capabilities": {"alwaysMatch": {
                "browserName": "chrome",
                "goog:chromeOptions": {"args": args},
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }}});
            let told = send(port, "POST", "/session", &options).await;
            let session = told.as_ref().and_then(|told| told["sessionId"].as_str());
            let session = session.unwrap_or_else(|| panic!("no browser: {told:?}"));
            let session = format!("/session/{session}");
            return Some(Self { session, port, _driver: driver, _profile: profile });
        }
        panic!("chromedriver does not start");
    }

    async fn command(&self, path: &str, body: &Value) -> Value {
        let path = format!("{}/{path}", self.session);
        send(self.port, "POST", &path, body).await.unwrap_or_else(|| panic!("no answer to {path}"))
    }

    pub(crate) async fn open(&self, url: &str) {
        self.command("url", &json!({ "url": url })).await;
    }

    /// Runs a function's body in the page; its `return` is the answer.
    pub(crate) async fn run(&self, script: &str) -> Value {
        let told = self.command("execute/sync", &json!({ "script": script, "args": [] })).await;
        assert!(told.get("error").is_none(), "{script}\n{told:#}");
        told
    }

    /// Runs the body of an asynchronous function in the page.
    pub(crate) async fn run_async(&self, script: &str) -> Value {
        let script = format!(
            "const done = arguments[0]; (async () => {{ {script} }})().then(done, (e) => done(`${{e}}`));"
        );
        self.command("execute/async", &json!({ "script": script, "args": [] })).await
    }

    /// Waits until the body of a function in the page returns something true.
    pub(crate) async fn sees(&self, what: &str, script: &str) {
        eventually(what, 2 * SOON, async || {
            let told = self.run(script).await;
            !matches!(told, Value::Null | Value::Bool(false)) && told != json!(0)
        })
        .await;
    }

    /// Types keys, each pressed and let go. `\u{e007}` is Enter, `\u{e00c}` Escape, `\u{e004}` Tab.
    pub(crate) async fn keys(&self, text: &str) {
        let presses = text.chars().flat_map(|key| {
            [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})]
        });
        let presses: Vec<_> = presses.collect();
        self.command("actions", &json!({"actions": [{"type": "key", "id": "keys", "actions": presses}]}))
            .await;
    }

    /// A command of the browser's own protocol.
    pub(crate) async fn cdp(&self, command: &str, params: &Value) -> Value {
        self.command("goog/cdp/execute", &json!({ "cmd": command, "params": params })).await
    }

    /// The size of the window, in pixels of the page.
    pub(crate) async fn size(&self, width: u32, height: u32) {
        let params = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.cdp("Emulation.setDeviceMetricsOverride", &params).await;
    }

    /// What the system prefers: `dark` or `light`; and that nothing moves.
    pub(crate) async fn prefers(&self, scheme: &str) {
        let still = json!({"name": "prefers-reduced-motion", "value": "reduce"});
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}, still]});
        self.cdp("Emulation.setEmulatedMedia", &features).await;
    }

    /// What the page said on its console since this was last asked, but for what the network did.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let lines = self.command("se/log", &json!({"type": "browser"})).await;
        let lines = lines.as_array().cloned().unwrap_or_default();
        let said = lines.iter().filter(|l| l["source"] != "network" && l["level"] != "INFO");
        said.map(|line| line["message"].to_string()).collect()
    }

    /// The addresses that pages asked for since this was last asked; the browser's own pages left out.
    pub(crate) async fn requests(&self) -> Vec<String> {
        let lines = self.command("se/log", &json!({"type": "performance"})).await;
        let events = lines.as_array().cloned().unwrap_or_default();
        let told = events.iter().filter_map(|line| {
            let event: Value = serde_json::from_str(line["message"].as_str()?).ok()?;
            let message = &event["message"];
            let sent = message["method"] == "Network.requestWillBeSent";
            sent.then(|| message["params"]["request"]["url"].as_str().unwrap_or_default().to_owned())
        });
        told.filter(|url| !["chrome:", "about:", "data:"].iter().any(|own| url.starts_with(own))).collect()
    }
}

impl Drop for Browser {
    /// Ends the browser: its driver, killed, would leave it running.
    fn drop(&mut self) {
        let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", self.port)) else { return };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
        let _ = write!(
            stream,
            "DELETE {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            self.session
        );
        let _ = stream.read(&mut [0; 64]);
    }
}

/// One command: its value, or the error in its place. `None` if nobody answers.
async fn send(port: u16, method: &str, path: &str, body: &Value) -> Option<Value> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let exchange = async {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await.ok()?;
        let mut bytes = Vec::new();
        // The driver may keep the connection open: its length tells the end.
        loop {
            if let Some(told) = whole(&bytes) {
                return Some(told["value"].clone());
            }
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
    };
    tokio::time::timeout(COMMAND, exchange).await.ok().flatten()
}

/// The body of an answer, once all of it is there.
fn whole(bytes: &[u8]) -> Option<Value> {
    let split = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..split]).to_ascii_lowercase();
    let length =
        head.lines().find_map(|l| l.strip_prefix("content-length:"))?.trim().parse::<usize>().ok()?;
    let body = bytes.get(split + 4..split + 4 + length)?;
    serde_json::from_slice(body).ok()
}
