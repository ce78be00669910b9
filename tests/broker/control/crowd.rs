//! More control requests than a worker can work on at once.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{refusal, to};
use crate::support::{Broker, Caller, Metrics, SOON, Stage, Worker, cli, eventually, free_port};

/// The places of a lane, and its queue.
const PLACES: usize = 64;
const QUEUE: usize = 256;

fn put(n: usize) -> Value {
    json!({"tenant_id": format!("t-{n}"), "policy": to("a")})
}

async fn crowd(caller: &Caller, size: usize) -> Vec<Value> {
    let bodies: Vec<_> = (0..size).map(put).collect();
    join_all(bodies.iter().map(|body| caller.control("policy.put", body))).await
}

fn with_code(answers: &[Value], code: &str) -> usize {
    answers.iter().filter(|answer| refusal(answer).0 == code).count()
}

fn waiting(metrics: &Metrics, lane: &str) -> f64 {
    metrics.value("router_control_waiting", &[("lane", lane)]).unwrap()
}

fn refused(metrics: &Metrics) -> f64 {
    metrics.value("router_queue_refused_total", &[("queue", "control")]).unwrap()
}

/// JetStream stands behind a leaf node, so that it can stand still while requests reach the worker.
struct Edge {
    hub: Broker,
    edge: Broker,
    worker: Worker,
    caller: Caller,
    _store: TempDir,
}

impl Edge {
    async fn start() -> Self {
        let (leaf, store) = (free_port(), tempfile::tempdir().unwrap());
        let hub = Broker::with_config(&format!(
            "jetstream {{ store_dir: {:?}, max_file_store: 1T, domain: hub }}\n\
             leafnodes {{ listen: \"127.0.0.1:{leaf}\" }}",
            store.path()
        ))
        .await;
        let edge = Broker::plain(&format!(
            "accounts {{ A {{ users: [{{ user: a, password: a }}] }} }}\nno_auth_user: a\n\
             default_js_domain: {{ A: hub }}\n\
             leafnodes {{ remotes: [{{ url: \"nats-leaf://127.0.0.1:{leaf}\", account: A }}] }}"
        ))
        .await;
        let worker = Worker::start(&edge, |launch| launch).await;
        let caller = Caller::connect(&edge).await;
        caller.put_policy("acme", &to("a")).await;
        Self { hub, edge, worker, caller, _store: store }
    }
}

#[tokio::test]
async fn changes_without_a_place_wait_their_turn_and_nobody_is_refused() {
    let stage = Stage::start().await;
    // Few enough that a loaded machine has made room for the last one within the second that it may wait.
    let answers = crowd(&stage.caller, PLACES + 32).await;
    assert!(answers.iter().all(|answer| answer["ok"] == true), "{answers:?}");
    let metrics = stage.worker.metrics().await;
    assert_eq!((refused(&metrics), waiting(&metrics, "ordinary")), (0.0, 0.0));
}

#[tokio::test]
async fn an_emergency_verb_has_a_place_while_changes_wait_and_are_refused() {
    let at = Edge::start().await;
    at.hub.pause();
    let meanwhile = async {
        let full = async || waiting(&at.worker.metrics().await, "ordinary") >= QUEUE as f64;
        eventually("the queue is full", SOON, full).await;
        let began = Instant::now();
        let flags = at.caller.command("flag.get", &json!({})).await;
        assert_eq!(flags["flags"][0]["circuit_breaker_enabled"], true);
        assert_eq!(at.caller.breaker("acme", "a").await["state"], "closed");
        assert!(began.elapsed() < Duration::from_millis(800), "{:?}", began.elapsed());
        // What needs JetStream is worked on too, and fails for want of it.
        let off = json!({"scope": "global", "circuit_breaker_enabled": false});
        assert_eq!(refusal(&at.caller.control("flag.set", &off).await).0, "unavailable");
    };
    let size = PLACES + QUEUE + 80;
    let (answers, ()) = tokio::join!(crowd(&at.caller, size), meanwhile);
    assert_eq!(with_code(&answers, "unavailable"), PLACES);
    assert_eq!(with_code(&answers, "overloaded"), QUEUE + 80);
    for (code, details) in answers.iter().map(refusal) {
        assert!(code != "overloaded" || details["retry_after_ms"] == 1_000, "{details}");
    }
    let metrics = at.worker.metrics().await;
    assert_eq!((refused(&metrics), waiting(&metrics, "ordinary")), ((QUEUE + 80) as f64, 0.0));
    at.hub.resume();
}

#[tokio::test]
async fn the_command_line_asks_again_until_it_has_a_place() {
    let at = Edge::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), to("b").to_string()).unwrap();
    at.hub.pause();
    let put = async {
        let full = async || waiting(&at.worker.metrics().await, "ordinary") >= QUEUE as f64;
        eventually("the queue is full", SOON, full).await;
        let args = ["policy", "put", "--tenant", "acme", "-f", file.path().to_str().unwrap(), "--timeout"];
        let at_once = cli(&at.edge, &[&args[..], &["500ms"]].concat()).await;
        let patient = async {
            let done = cli(&at.edge, &[&args[..], &["30s"]].concat()).await;
            (done, Instant::now())
        };
        let resume = async {
            let more = async || refused(&at.worker.metrics().await) >= (QUEUE + 82) as f64;
            eventually("it was refused", SOON, more).await;
            at.hub.resume();
        };
        let (patient, ()) = tokio::join!(patient, resume);
        (at_once, patient.0)
    };
    let (_, (at_once, patient)) = tokio::join!(crowd(&at.caller, PLACES + QUEUE + 80), put);
    assert_eq!(at_once.code, 1, "{at_once:?}");
    assert!(at_once.stderr.contains("overloaded: too many control requests wait"), "{at_once:?}");
    assert_eq!((patient.code, patient.stderr.as_str()), (0, ""), "{patient:?}");
    let acme = at.caller.command("policy.get", &json!({"tenant_id": "acme", "policy_id": "default"})).await;
    assert_eq!(acme["policy"], to("b"));
}
