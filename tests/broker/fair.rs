//! One tenant's flood, and what a quiet tenant beside it notices.

use std::time::{Duration, Instant};

use async_nats::{Client, HeaderMap};
use beamline_router::wire::proto;
use bytes::Bytes;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::{Answer, Broker, Caller, Stage, Worker, request};

/// Requests of the quiet tenant in one measurement: its 99th percentile is the fifth longest.
const SAMPLES: usize = 500;
/// Other tests run on the same cores, so a measurement is repeated until one is undisturbed.
const ROUNDS: usize = 8;
const MOST: f64 = 3.0;

/// What a flood is made of.
#[derive(Clone)]
struct Sent {
    subject: &'static str,
    headers: HeaderMap,
    body: Bytes,
}

impl Sent {
    fn on(subject: &'static str, body: Bytes) -> Self {
        Self { subject, headers: HeaderMap::new(), body }
    }
}

/// Messages that come as long as this lives, so many in a second.
struct Flood(JoinHandle<()>);

impl Flood {
    async fn start(broker: &Broker, sent: Sent, per_second: u32) -> Self {
        let client: Client = async_nats::connect(broker.url()).await.unwrap();
        Self(tokio::spawn(async move {
            let mut ticker = tokio::time::interval(Duration::from_secs(1) / per_second);
            loop {
                ticker.tick().await;
                let Sent { subject, headers, body } = sent.clone();
                client.publish_with_reply_and_headers(subject, "_INBOX.nobody", headers, body).await.unwrap();
                client.flush().await.unwrap();
            }
        }))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn stage() -> Stage {
    let stage = Stage::with(|l| l.flag("--reconcile-interval-ms", 100)).await;
    for tenant in ["quiet", "flood"] {
        let policy = json!({
            "policy_id": "default", "providers": [{"name": "a", "weight": 100}],
            "circuit_breaker": {"enabled": true, "failure_threshold": 5}
        });
        // Version 3 bounds results.
        stage.put_once_the_fold_has(3, tenant, &policy).await;
    }
    stage
}

/// The 99th percentile of the quiet tenant's waits. Each of its requests is decided.
async fn p99(caller: &Caller) -> Duration {
    let mut waits = Vec::with_capacity(SAMPLES);
    for n in 0..SAMPLES {
        let asked = request("quiet", &format!("q-{n}"));
        let began = Instant::now();
        caller.decided(&asked).await;
        waits.push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    waits.sort_unstable();
    waits[SAMPLES * 99 / 100]
}

async fn is_hardly_noticed(stage: &Stage, sent: Sent, per_second: u32) {
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let alone = p99(&stage.caller).await;
        let flood = Flood::start(&stage.broker, sent.clone(), per_second).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let beside = p99(&stage.caller).await;
        drop(flood);
        ratios.push(beside.as_secs_f64() / alone.as_secs_f64());
        if ratios.last().is_some_and(|ratio| *ratio <= MOST) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let subject = sent.subject;
    panic!("the p99 of a quiet tenant beside {subject}, as ratios to its p99 alone: {ratios:.1?}");
}

/// A decide request of about so many bytes whose members are many and short.
fn crowded(tenant: &str, bytes: usize) -> Bytes {
    let mut asked = request(tenant, "f");
    let members = bytes / 12;
    asked["metadata"] = (0..members).map(|n| (format!("k{n:05}"), json!(n % 10))).collect::<Value>();
    asked.to_string().into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_that_fills_the_queue_takes_no_place_of_another_tenant() {
    let stage = stage().await;
    let client = async_nats::connect(stage.broker.url()).await.unwrap();
    let (flood, long) = (crowded("flood", 55 << 10), crowded("quiet", 20 << 10));
    for n in 0..5 {
        // More than there is room for, and less than the broker keeps for a connection.
        for _ in 0..700 {
            let subject = "beamline.router.v1.tenant.flood.decide";
            client.publish_with_reply(subject, "_INBOX.nobody", flood.clone()).await.unwrap();
        }
        client.flush().await.unwrap();
        // A short one, and a long one that waits where the flood does.
        for body in [request("quiet", &format!("q-{n}")).to_string().into(), long.clone()] {
            let subject = "beamline.router.v1.tenant.quiet.decide";
            let answer = stage.caller.ask(subject, HeaderMap::new(), body).await.json();
            assert_eq!(answer["ok"], true, "{answer}");
        }
    }
    let metrics = stage.worker.metrics().await;
    assert!(metrics.sum("router_queue_refused_total", &[("queue", "decide")]) > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_request_is_answered_before_long_ones_that_came_first() {
    const BURSTS: usize = 40;
    const LONG: usize = 4;
    let stage = stage().await;
    let body = crowded("flood", 55 << 10);
    assert!((48 << 10..64 << 10).contains(&body.len()), "{}", body.len());
    let client = &stage.caller.client;
    let inbox = client.new_inbox();
    let mut answers = stage.caller.listen(&format!("{inbox}.*")).await;
    let mut overtook = 0;
    for n in 0..BURSTS {
        for _ in 0..LONG {
            let subject = "beamline.router.v1.tenant.flood.decide";
            client.publish_with_reply(subject, format!("{inbox}.long"), body.clone()).await.unwrap();
        }
        let (subject, short) =
            ("beamline.router.v1.tenant.quiet.decide", request("quiet", &format!("q-{n}")));
        client.publish_with_reply(subject, format!("{inbox}.short"), short.to_string().into()).await.unwrap();
        client.flush().await.unwrap();
        let mut order = Vec::new();
        for _ in 0..=LONG {
            let answer = answers.next().await;
            order.push(answer.subject.ends_with("short"));
            assert_eq!(Answer::of(answer).json()["ok"], true);
        }
        overtook += usize::from(order.last() != Some(&true));
    }
    // The machine may run the second thread first.
    assert!(overtook >= BURSTS / 2, "{overtook} of {BURSTS}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_too_long_do_not_delay_others() {
    let stage = stage().await;
    let body = crowded("flood", 1_000_000);
    is_hardly_noticed(&stage, Sent::on("beamline.router.v1.tenant.flood.decide", body), 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_with_long_headers_do_not_delay_others() {
    let stage = stage().await;
    let mut headers = HeaderMap::new();
    let value = "y".repeat(400);
    (0..2_000).for_each(|_| headers.append("x", value.as_str()));
    let subject = "beamline.router.v1.tenant.flood.decide";
    let answer = stage.caller.ask(subject, headers.clone(), "{}").await.json();
    assert_eq!(answer["error"]["code"], "invalid_request", "{answer}");
    assert_eq!(answer["error"]["details"]["field"], "headers");
    is_hardly_noticed(&stage, Sent { headers, ..Sent::on(subject, "{}".into()) }, 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushed_requests_of_one_tenant_do_not_delay_another() {
    let stage = stage().await;
    let _executor = stage.caller.listen("caf.exec.assign.v1").await;
    // Nobody reports results: the timeouts would open a breaker, and nothing would be pushed any more.
    let off = json!({
        "policy_id": "default", "providers": [{"name": "a", "weight": 100}], "circuit_breaker": {"enabled": false}
    });
    stage.caller.put_policy("flood", &off).await;
    let mut asked = request("flood", "f");
    asked["push_assignment"] = json!(true);
    is_hardly_noticed(
        &stage,
        Sent::on("beamline.router.v1.tenant.flood.decide", asked.to_string().into()),
        500,
    )
    .await;
    let metrics = stage.worker.metrics().await;
    assert_eq!(metrics.sum("router_decisions_total", &[("outcome", "circuit_open")]), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_claim_slots_do_not_delay_another_tenant() {
    let stage = stage().await;
    let breaker = json!({
        "enabled": true, "failure_threshold": 1, "timeout_ms": 1_000, "half_open_max_calls": 100,
        "success_threshold": 10, "probe_timeout_ms": 1_000
    });
    let policy = json!({
        "policy_id": "default", "providers": [{"name": "a", "weight": 100}], "circuit_breaker": breaker
    });
    stage.caller.put_policy("flood", &policy).await;
    stage.fail("flood", "a", 1).await;
    let body = request("flood", "f").to_string().into();
    is_hardly_noticed(&stage, Sent::on("beamline.router.v1.tenant.flood.decide", body), 500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_results_of_one_tenant_do_not_delay_another() {
    let stage = stage().await;
    let result = |metadata: usize| {
        let metadata = (0..metadata).map(|n| (format!("k{n:06}"), String::new())).collect();
        Bytes::from(
            proto::ExecResult {
                status: "success".to_owned(),
                provider_id: "a".to_owned(),
                tenant_id: "flood".to_owned(),
                job: Some(proto::Job { r#type: "t".to_owned(), metadata }),
                ..Default::default()
            }
            .encode_to_vec(),
        )
    };
    let long = result(85_000);
    assert!((900_000..1_000_000).contains(&long.len()), "{}", long.len());
    is_hardly_noticed(&stage, Sent::on("caf.exec.result.v1.flood", long), 20).await;
    let metrics = stage.worker.metrics().await;
    assert!(metrics.sum("router_results_total", &[("disposition", "rejected")]) > 0.0);
    assert_eq!(metrics.sum("router_results_total", &[("disposition", "applied")]), 0.0, "too long");
    is_hardly_noticed(&stage, Sent::on("caf.exec.result.v1.flood", result(5_500)), 60).await;
    let metrics = stage.worker.metrics().await;
    let judged: f64 = ["applied", "duplicate"]
        .iter()
        .map(|disposition| metrics.sum("router_results_total", &[("disposition", disposition)]))
        .sum();
    assert!(judged > 0.0, "within the bound: {metrics:?}");
}

#[tokio::test]
async fn a_log_takes_no_entry_longer_than_it_needs_whatever_the_broker_takes() {
    let broker = Broker::with_config("max_payload: 8388608").await;
    let _worker = Worker::start(&broker, |l| l).await;
    let caller = Caller::connect(&broker).await;
    let publish = async |bytes: usize| {
        let body = Bytes::from(vec![b'x'; bytes]);
        caller.jetstream.publish("caf.exec.result.v1.acme", body).await.unwrap().await
    };
    assert!(publish(1_000_000).await.is_ok());
    let refused = publish(1_100_000).await.unwrap_err().to_string();
    assert!(refused.contains("message size exceeds maximum allowed"), "{refused}");
}
