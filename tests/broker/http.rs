//! Peers over HTTP that send half of what they announce.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Process, SOON, Stage, eventually, post};

/// How long a probe and a scraper wait.
const AT_ONCE: Duration = Duration::from_secs(1);

const FORCE: &str = "/api/v1/breakers/acme/a/force";

/// What the guard of actions asks for.
fn head(port: u16) -> String {
    format!("host: 127.0.0.1:{port}\r\ncontent-type: application/json\r\nx-beamline-console: 1\r\n")
}

async fn stage() -> Stage {
    let stage = Stage::with(|l| l.switch("--console-actions")).await;
    let policy = json!({"policy_id": "default", "providers": [{"name": "a", "weight": 1}]});
    stage.caller.put_policy("acme", &policy).await;
    stage
}

/// A thousand connections, or as many as are let in, that send this and no more; they end with the process.
async fn hang(port: u16, text: &str) -> Process {
    let mut command = Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broker/hold.py"));
    command.args([&port.to_string(), "1000", text]);
    let process = Process::spawn("a thousand connections", &mut command);
    eventually("they hang", SOON, async || !process.stdout.all().is_empty()).await;
    process
}

async fn health_answers_beside(text: impl FnOnce(u16) -> String) {
    let stage = stage().await;
    let port = stage.worker.http_port();
    let _hanging = hang(port, &text(port)).await;
    eventually("with 256 places, all the others were closed", SOON, async || {
        stage.worker.metrics().await.sum("router_queue_refused_total", &[("queue", "http")]) >= 744.0
    })
    .await;
    for path in ["/healthz", "/readyz", "/metrics", "/healthz", "/readyz", "/metrics"] {
        let began = Instant::now();
        let page = stage.worker.get(path).await.unwrap_or_else(|| panic!("{path} does not answer"));
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        assert!(began.elapsed() < AT_ONCE, "{path} took {:?}", began.elapsed());
    }
    // An operator is let in too.
    let done = post(port, FORCE, &head(port), r#"{"state":"open"}"#).await.expect("an answer");
    assert_eq!(done.status, 200, "{}", done.body);
}

#[tokio::test]
async fn health_answers_while_a_thousand_requests_stop_in_their_heads() {
    health_answers_beside(|port| format!("GET /metrics HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept")).await;
}

#[tokio::test]
async fn health_answers_while_a_thousand_actions_stop_in_their_bodies() {
    let half =
        |port| format!("POST {FORCE} HTTP/1.1\r\n{}content-length: 100\r\n\r\n{{\"state\": \"op", head(port));
    health_answers_beside(half).await;
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up_and_one_that_dribbles_too() {
    let stage = stage().await;
    let port = stage.worker.http_port();
    let ask = async |dribbles: bool| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request = format!("POST {FORCE} HTTP/1.1\r\n{}content-length: 5000\r\n\r\n", head(port));
        stream.write_all(request.as_bytes()).await.unwrap();
        let (mut from, mut to) = stream.into_split();
        let dribbling = tokio::spawn(async move {
            while dribbles && to.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            // Dropped, this half would say that nothing more comes.
            tokio::time::sleep(SOON * 2).await;
        });
        let began = Instant::now();
        let mut answer = String::new();
        // To the end: the connection is closed.
        tokio::time::timeout(SOON, from.read_to_string(&mut answer)).await.expect("an end").unwrap();
        dribbling.abort();
        (answer, began.elapsed())
    };
    let (silent, dribbling) = tokio::join!(ask(false), ask(true));
    for (answer, took) in [silent, dribbling] {
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("\"code\":\"request_timeout\""), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
        assert!((Duration::from_secs(9)..SOON).contains(&took), "{took:?}");
    }
    stage.state_is("acme", "a", "closed").await;
}
