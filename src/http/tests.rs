use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

#[derive(Default)]
struct Worker {
    dead: AtomicBool,
    reasons: Mutex<Vec<String>>,
    page: Mutex<String>,
}

impl Probe for Worker {
    fn alive(&self) -> bool {
        !self.dead.load(Ordering::Relaxed)
    }

    fn not_ready(&self) -> Vec<String> {
        self.reasons.lock().unwrap().clone()
    }

    fn metrics(&self) -> String {
        self.page.lock().unwrap().clone()
    }
}

struct Server {
    address: SocketAddr,
    worker: Arc<Worker>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn start() -> Server {
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let worker = Arc::new(Worker::default());
    let (stop, stopped) = oneshot::channel::<()>();
    let probe: Arc<dyn Probe> = worker.clone();
    let task = tokio::spawn(serve(listener, probe, async move {
        let _ = stopped.await;
    }));
    Server { address, worker, stop, task }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> serde_json::Value {
        assert!(self.head.contains("content-type: application/json"), "{}", self.head);
        serde_json::from_str(&self.body).unwrap()
    }
}

async fn say(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut text)).await.unwrap().unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

async fn ask(server: &Server, method: &str, path: &str) -> Answer {
    say(server.address, &format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn metrics_are_openmetrics_and_never_stored() {
    let server = start().await;
    *server.worker.page.lock().unwrap() = "a 1\n# EOF\n".to_owned();
    let answer = ask(&server, "GET", "/metrics").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "a 1\n# EOF\n"));
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(answer.head.contains(kind), "{}", answer.head);
    assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
    server.worker.page.lock().unwrap().clear();
    assert_eq!(ask(&server, "GET", "/metrics").await.status, 500);
}

#[tokio::test]
async fn health_says_whether_the_process_works() {
    let server = start().await;
    let answer = ask(&server, "GET", "/healthz").await;
    assert_eq!((answer.status, answer.json()), (200, serde_json::json!({"alive": true})));
    server.worker.dead.store(true, Ordering::Relaxed);
    let answer = ask(&server, "GET", "/healthz").await;
    assert_eq!((answer.status, answer.json()), (503, serde_json::json!({"alive": false})));
    assert_eq!(ask(&server, "HEAD", "/healthz").await.body, "");
}

#[tokio::test]
async fn readiness_lists_what_is_lacking() {
    let server = start().await;
    let answer = ask(&server, "GET", "/readyz").await;
    assert_eq!((answer.status, answer.json()), (200, serde_json::json!([])));
    *server.worker.reasons.lock().unwrap() = vec!["not connected".to_owned(), "log \"behind\"".to_owned()];
    let answer = ask(&server, "GET", "/readyz").await;
    assert_eq!(answer.status, 503);
    let reasons = serde_json::json!(["not connected", "log \"behind\""]);
    assert_eq!(answer.json(), reasons);
}

#[tokio::test]
async fn the_page_needs_nothing_but_this_worker() {
    let server = start().await;
    let answer = ask(&server, "GET", "/").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-security-policy: default-src 'none'"), "{}", answer.head);
    assert!(answer.body.contains(env!("CARGO_PKG_VERSION")) && answer.body.contains("href=\"/metrics\""));
    assert!(!answer.body.contains("http://") && !answer.body.contains("https://"));
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_taken_are_told_in_json() {
    let server = start().await;
    let answer = ask(&server, "GET", "/nope%22%3Cb%3E").await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (404, Some("not_found")));
    let answer = ask(&server, "POST", "/readyz").await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (405, Some("method_not_allowed")));
    assert!(answer.head.contains("allow: get,head"), "{}", answer.head);
}

#[tokio::test]
async fn headers_beyond_the_bound_are_refused() {
    let server = start().await;
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(20_000));
    assert_eq!(say(server.address, &request).await.status, 431);
}

#[tokio::test]
async fn a_stop_waits_for_no_idle_peer_and_takes_no_new_one() {
    let server = start().await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    server.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), server.task).await.unwrap().unwrap();
    // The port is free again, and another test's server may have it by now: only that would answer.
    *server.worker.reasons.lock().unwrap() = vec!["the stopped one".to_owned()];
    let mut successor = match TcpStream::connect(server.address).await {
        Ok(successor) => successor,
        Err(error) => return assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused),
    };
    successor.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let _ = successor.read_to_string(&mut answer).await;
    assert!(!answer.contains("the stopped one"), "{answer}");
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let server = start().await;
    let error = bind(server.address).await.unwrap_err();
    let told = error.to_string();
    assert!(told.contains(&server.address.to_string()) && told.contains("--http-addr"), "{told}");
}
