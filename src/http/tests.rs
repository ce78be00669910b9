use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::desk::Answer as Answered;
use super::*;
use crate::breaker::State;
use crate::clock::Clock;
use crate::domain::{PolicyId, ProviderId, TenantId};
use crate::telemetry::labels::{Queue, Verb};

/// A worker that is told what to say.
#[derive(Default)]
pub(in crate::http) struct Worker {
    dead: AtomicBool,
    pub(in crate::http) reasons: Mutex<Vec<String>>,
    page: Mutex<String>,
    pub(in crate::http) rows: Mutex<Vec<Row>>,
    pub(in crate::http) looks: AtomicU64,
    pub(in crate::http) refused: AtomicU64,
    pub(in crate::http) asked: Mutex<Vec<(Verb, Value)>>,
    /// Whether verbs stay without an answer, as they do while the broker stands still.
    pub(in crate::http) silent: AtomicBool,
    clock: OnceLock<Clock>,
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

impl Desk for Worker {
    fn overview(&self) -> Overview {
        Overview {
            worker: "w".to_owned(),
            now: 1_700_000_000_000 + self.tick(),
            nats: Nats { connected: true, ..Nats::default() },
            ..Overview::default()
        }
    }

    fn digest(&self) -> Digest {
        Digest::default()
    }

    fn breakers(&self) -> Vec<Row> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.rows.lock().unwrap().clone()
    }

    fn breaker(&self, tenant_id: &str, provider_id: &str) -> Option<Row> {
        self.rows.lock().unwrap().iter().find(|row| row.key() == (tenant_id, provider_id)).cloned()
    }

    fn buckets(&self, tenant_id: &str, provider_id: &str) -> Option<Vec<Bucket>> {
        self.breaker(tenant_id, provider_id).map(|_| Vec::new())
    }

    fn news(&self, _: u64) -> News {
        News::default()
    }

    fn transitions(&self, _: Asked) -> Answered<'_, Transitions> {
        Box::pin(async { Ok(Transitions { transitions: Vec::new(), complete: true }) })
    }

    fn control(&self, verb: Verb, body: Value) -> Answered<'_, Value> {
        self.asked.lock().unwrap().push((verb, body));
        Box::pin(async {
            if self.silent.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            Ok(json!({"ok": true, "in_force": true, "warnings": [], "breaker": {"state": "open"}}))
        })
    }

    fn tick(&self) -> u64 {
        self.clock.get_or_init(Clock::start).tick().0
    }

    fn count_refused(&self, _: Queue, n: u64) {
        self.refused.fetch_add(n, Ordering::Relaxed);
    }
}

pub(in crate::http) fn row(tenant_id: &str, provider_id: &str) -> Row {
    Row {
        tenant_id: TenantId::try_new(tenant_id).unwrap(),
        provider_id: ProviderId::try_new(provider_id).unwrap(),
        policy_id: PolicyId::try_new("default").unwrap(),
        enabled: true,
        state: State::Closed,
        since: 1_700_000_000_000,
        open_until: None,
        failure_count: 0,
        success_count: 0,
        error_rate: 0.0,
        error_rate_threshold: 0.5,
        minimum_requests: 10,
        window_requests: 0,
        window_failures: 0,
        window_slow: 0,
        mean_latency_ms: 0,
        half_open_in_flight: 0,
        trips: 0,
        opens: 0,
        forced: None,
        flag_off: false,
        fail_fast: 0,
        would_reject: 0,
        requests_saved: 0.0,
    }
}

pub(in crate::http) struct Server {
    pub(in crate::http) address: SocketAddr,
    pub(in crate::http) worker: Arc<Worker>,
    pub(in crate::http) stop: oneshot::Sender<()>,
    pub(in crate::http) task: JoinHandle<()>,
}

pub(in crate::http) async fn start() -> Server {
    start_with(Access::default()).await
}

pub(in crate::http) async fn start_with(access: Access) -> Server {
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let worker = Arc::new(Worker::default());
    let (stop, stopped) = oneshot::channel::<()>();
    let desk: Arc<dyn Desk> = worker.clone();
    let task = tokio::spawn(serve(listener, desk, access, async move {
        let _ = stopped.await;
    }));
    Server { address, worker, stop, task }
}

pub(in crate::http) struct Answer {
    pub(in crate::http) status: u16,
    pub(in crate::http) head: String,
    pub(in crate::http) body: String,
}

impl Answer {
    pub(in crate::http) fn json(&self) -> Value {
        assert!(self.head.contains("content-type: application/json"), "{}", self.head);
        serde_json::from_str(&self.body).unwrap()
    }
}

pub(in crate::http) async fn say(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut text)).await.unwrap().unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

pub(in crate::http) async fn ask(server: &Server, method: &str, path: &str) -> Answer {
    say(server.address, &format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
        .await
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
async fn the_console_needs_nothing_but_this_worker() {
    let server = start().await;
    let page = ask(&server, "GET", "/").await;
    let mut files = vec!["/".to_owned()];
    for (at, start) in page.body.match_indices("=\"/console/").map(|(at, s)| (at, at + s.len())) {
        files.push(format!("/console/{}", page.body[start..].split('"').next().unwrap()));
        assert!(at > 0);
    }
    assert!(files.len() >= 5, "{files:?}");
    let mut at = 0;
    while let Some(path) = files.get(at).cloned() {
        let answer = ask(&server, "GET", &path).await;
        assert_eq!(answer.status, 200, "{path}");
        for header in
            ["content-security-policy: default-src 'none'; script-src 'self'", "etag: \"", "nosniff"]
        {
            assert!(answer.head.contains(header), "{path}: {}", answer.head);
        }
        let svg = answer.body.replace("http://www.w3.org/2000/svg", "");
        assert!(!svg.contains("http://") && !svg.contains("https://"), "{path} names another host");
        for bad in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            " style=",
            " onclick=",
        ] {
            assert!(!answer.body.contains(bad), "{path} has {bad}");
        }
        for import in answer.body.split("from \"./").skip(1) {
            let path = format!("/console/{}", import.split('"').next().unwrap());
            if !files.contains(&path) {
                files.push(path);
            }
        }
        at += 1;
    }
    assert!(files.len() >= 14, "{files:?}");
    assert_eq!(ask(&server, "GET", "/console/nothing.js").await.status, 404);
    assert_eq!(ask(&server, "GET", "/console/..%2Fmod.rs").await.status, 404);
}

#[tokio::test]
async fn a_file_that_is_known_is_not_sent_again() {
    let server = start().await;
    let answer = ask(&server, "GET", "/console/app.css").await;
    let tag = answer.head.lines().find_map(|l| l.strip_prefix("etag: ")).unwrap().to_owned();
    let again = |tag: &str| {
        format!(
            "GET /console/app.css HTTP/1.1\r\nHost: x\r\nIf-None-Match: {tag}\r\nConnection: close\r\n\r\n"
        )
    };
    let answer = say(server.address, &again(&tag)).await;
    assert_eq!((answer.status, answer.body.as_str()), (304, ""));
    assert_eq!(say(server.address, &again("\"other\"")).await.status, 200);
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
    let mut answer = String::new();
    let asked = async {
        let mut successor = TcpStream::connect(server.address).await?;
        successor.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
        successor.read_to_string(&mut answer).await
    };
    // Whether it refuses, breaks off, or says nothing.
    let _ = tokio::time::timeout(Duration::from_secs(5), asked).await;
    assert!(!answer.contains("the stopped one"), "{answer}");
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let server = start().await;
    let error = bind(server.address).await.unwrap_err();
    let told = error.to_string();
    assert!(told.contains(&server.address.to_string()) && told.contains("--http-addr"), "{told}");
}
