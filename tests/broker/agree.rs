//! Workers that read one log are one breaker: they agree, whatever is killed, and hand out no more
//! probes together than one would.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{AckPolicy, pull};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::support::{Broker, Caller, Launch, SOON, Worker, eventually, request};
use crate::traffic::{RECOVERY, agree, ask, policy, result, until_acknowledged};

const TENANTS: [&str; 4] = ["acme", "umbra", "zeta", "nought"];
const PROVIDERS: [&str; 3] = ["a", "b", "c"];

/// A claim's round trip is far below this, and a busy machine does not turn a probe away.
fn patient(launch: Launch) -> Launch {
    launch.flag("--claim-wait-ms", 2_000)
}

async fn three(broker: &Broker) -> [Worker; 3] {
    let start = || Worker::start(broker, patient);
    let (first, second, third) = tokio::join!(start(), start(), start());
    [first, second, third]
}

/// Clients that ask and executors that answer: each decision has its result, and a provider that is in
/// trouble fails four times of five.
struct Traffic {
    stop: CancellationToken,
    results: Arc<AtomicU64>,
    task: JoinHandle<u64>,
}

impl Traffic {
    fn start(caller: &Caller, rate: u64) -> Self {
        let (stop, results) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let task = tokio::spawn(Self::run(caller.clone(), rate, stop.clone(), Arc::clone(&results)));
        Self { stop, results, task }
    }

    async fn run(caller: Caller, rate: u64, stop: CancellationToken, results: Arc<AtomicU64>) -> u64 {
        let began = Instant::now();
        let (mut n, mut waiting, mut last) = (0, JoinSet::new(), 0);
        while !stop.is_cancelled() {
            while n < rate * began.elapsed().as_millis() as u64 / 1_000 {
                waiting.spawn(Self::one(caller.clone(), n, Arc::clone(&results)));
                n += 1;
            }
            while let Some(done) = waiting.try_join_next() {
                last = last.max(done.unwrap());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        waiting.join_all().await.into_iter().fold(last, u64::max)
    }

    async fn one(caller: Caller, n: u64, results: Arc<AtomicU64>) -> u64 {
        let tenant = TENANTS[n as usize % TENANTS.len()];
        let id = uuid::Uuid::new_v4().to_string();
        let Ok((answer, _)) = ask(caller.client.clone(), request(tenant, &id), SOON).await else { return 0 };
        let Some(provider) = answer["decision"]["provider_id"].as_str() else { return 0 };
        // Each has its turn to be in trouble.
        let troubled = PROVIDERS[n as usize / 400 % PROVIDERS.len()] == provider;
        let status = if troubled && !n.is_multiple_of(5) { "error" } else { "success" };
        let mut body = result(tenant, provider, &format!("n-{id}"), status);
        body["request_id"] = json!(id);
        let sequence = until_acknowledged(&caller, body.to_string()).await;
        results.fetch_add(1, Ordering::Relaxed);
        sequence
    }

    async fn goes_on(&self, more: u64) {
        let wanted = self.results.load(Ordering::Relaxed) + more;
        let what = format!("{wanted} results");
        eventually(&what, RECOVERY, async || self.results.load(Ordering::Relaxed) >= wanted).await;
    }

    /// Stops, waits for what is on its way, and tells the last result's place.
    async fn stop(self) -> u64 {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

async fn put_policies(caller: &Caller) {
    let breaker = json!({
        "enabled": true, "failure_threshold": 4, "timeout_ms": 1000, "success_threshold": 2,
        "probe_timeout_ms": 2000, "backoff_multiplier": 1.5, "jitter_ratio": 0.3
    });
    for tenant in TENANTS {
        caller.put_policy(tenant, &policy(&PROVIDERS, breaker.clone())).await;
    }
}

/// All events of breakers, in order.
async fn breaker_events(caller: &Caller) -> Vec<Value> {
    let stream = caller.jetstream.get_stream("BEAMLINE_EVENTS").await.unwrap();
    let filter_subject = "beamline.router.v1.events.breaker.>".to_owned();
    let config = pull::Config { ack_policy: AckPolicy::None, filter_subject, ..Default::default() };
    let consumer = stream.create_consumer(config).await.unwrap();
    let count = consumer.cached_info().num_pending as usize;
    let messages = consumer.stream().max_messages_per_batch(1_000).messages().await.unwrap();
    let bodies = messages.take(count).map(|m| serde_json::from_slice(&m.unwrap().payload).unwrap());
    tokio::time::timeout(SOON, bodies.collect()).await.expect("all events are delivered")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_workers_agree_under_load_and_one_killed_catches_up_with_them() {
    let broker = Broker::start().await;
    let [first, second, mut third] = three(&broker).await;
    let caller = Caller::connect(&broker).await;
    put_policies(&caller).await;

    let traffic = Traffic::start(&caller, 250);
    traffic.goes_on(400).await;
    // What is scraped at one position is one digest, under load too.
    let mut seen = BTreeMap::new();
    for _ in 0..30 {
        let (a, b, c) = tokio::join!(first.standing(), second.standing(), third.standing());
        for (position, digest) in [a, b, c] {
            let known = *seen.entry(position).or_insert(digest);
            assert_eq!(known, digest, "two digests at {position}");
        }
    }
    third.kill();
    traffic.goes_on(300).await;
    third = Worker::start(&broker, patient).await;
    traffic.goes_on(300).await;
    let last = traffic.stop().await;
    let all = [&first, &second, &third];
    let (position, _) = agree(&all, last).await;

    // Another result that is judged is another digest, on all.
    caller.put_policy("calm", &policy(&["a"], json!({"enabled": true}))).await;
    let (_, digest) = agree(&all, last).await;
    let mut digests = BTreeSet::from([digest]);
    for status in ["success", "error", "error"] {
        let last = caller.result(&result("calm", "a", &uuid::Uuid::new_v4().to_string(), status)).await;
        assert!(digests.insert(agree(&all, last).await.1), "a result that changes nothing");
    }
    assert!(position > 1_000);

    // One that was there all the time has told of each transition, and the stream holds it once.
    let transitions =
        first.metrics().await.sum("router_circuit_breaker_state_transitions_total", &[]) as usize;
    assert!(transitions > 10, "only {transitions} transitions");
    let events = eventually("all transitions are kept", SOON, async || {
        let events = breaker_events(&caller).await;
        (events.len() >= transitions).then_some(events)
    })
    .await;
    assert_eq!(events.len(), transitions);
    // Who follows events alone ends at the true state.
    let mut states = BTreeMap::new();
    for event in &events {
        let key = (event["tenant_id"].as_str().unwrap(), event["provider_id"].as_str().unwrap());
        if let Some((position, to)) = states.insert(key, (event["position"].as_u64(), event["to"].clone())) {
            assert!(position <= event["position"].as_u64(), "out of order: {event}");
            assert_eq!(to, event["from"], "a transition is lacking before {event}");
        }
    }
    for ((tenant, provider), (_, state)) in states {
        assert_eq!(caller.breaker(tenant, provider).await["state"], state, "{tenant} {provider}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stood_still_under_load_catches_up_with_the_others() {
    // Longer than its reader and the broker's writes bear it.
    const STILL: Duration = Duration::from_secs(12);
    let broker = Broker::start().await;
    let (first, second) = tokio::join!(Worker::start(&broker, patient), Worker::start(&broker, patient));
    let caller = Caller::connect(&broker).await;
    put_policies(&caller).await;
    let traffic = Traffic::start(&caller, 150);
    traffic.goes_on(150).await;

    second.pause();
    let until = Instant::now() + STILL;
    tokio::time::sleep_until(until.into()).await;
    second.resume();
    second.recovers().await;
    traffic.goes_on(150).await;
    let last = traffic.stop().await;
    agree(&[&first, &second], last).await;
    for lost in ["router_log_rebuilds_total", "router_log_gaps_total", "router_nats_slow_consumer_total"] {
        assert_eq!(second.count(lost).await, 0, "{lost}");
    }
}

#[tokio::test]
async fn a_restart_of_all_workers_forgets_nothing() {
    let broker = Broker::start().await;
    let [mut first, mut second, mut third] = three(&broker).await;
    let caller = Caller::connect(&broker).await;
    let breaker = json!({"enabled": true, "failure_threshold": 3, "timeout_ms": 60_000});
    caller.put_policy("open", &policy(&["a"], breaker.clone())).await;
    caller.put_policy("forced", &policy(&["a", "b"], breaker.clone())).await;
    let half = json!({
        "enabled": true, "failure_threshold": 3, "timeout_ms": 1000, "probe_timeout_ms": 120_000,
        "success_threshold": 1
    });
    caller.put_policy("half", &policy(&["a"], half)).await;
    caller.put_policy("closed", &policy(&["a"], breaker)).await;
    caller.failures("half", "a", 3).await;
    caller.failures("open", "a", 3).await;
    caller.failures("closed", "a", 2).await;
    let force = |provider: &str, state: &str, ttl: Value| {
        let mut body = json!({"tenant_id": "forced", "provider_id": provider, "state": state});
        if ttl.is_u64() {
            body["ttl_seconds"] = ttl;
        }
        body
    };
    caller.command("breaker.force", &force("a", "open", Value::Null)).await;
    caller.command("breaker.force", &force("b", "closed", json!(600))).await;
    // A probe is on its way.
    let probe = eventually("a request probes", SOON, async || {
        let id = uuid::Uuid::new_v4().to_string();
        (caller.decide(&request("half", &id)).await["decision"]["probe"] == true).then_some(id)
    })
    .await;

    let keys = [("open", "a"), ("forced", "a"), ("forced", "b"), ("half", "a"), ("closed", "a")];
    let look = async || join_all(keys.map(|(tenant, provider)| caller.breaker(tenant, provider))).await;
    let standing = agree(&[&first, &second, &third], 1).await;
    let (before, at) = (look().await, Instant::now());
    for worker in [&mut first, &mut second, &mut third] {
        worker.kill();
    }
    let again = three(&broker).await;
    let (after, later) = (look().await, Instant::now());
    assert_eq!(agree(&again.each_ref(), 1).await, standing, "the same position and the same digest");

    let fields = [
        "state",
        "since",
        "failure_count",
        "success_count",
        "window_requests",
        "window_failures",
        "half_open_in_flight",
        "trips",
        "forced",
        "settings",
        "policy_id",
        "last_transition",
    ];
    for (before, after) in before.iter().zip(&after) {
        for field in fields {
            assert_eq!(before[field], after[field], "{field}\n{before:#}\n{after:#}");
        }
    }
    let remaining = |breaker: &Value| breaker["timeout_remaining_ms"].as_u64().unwrap() as i64;
    let (was, is) = (remaining(&before[0]), remaining(&after[0]));
    let passed = (later - at).as_millis() as i64;
    assert!(is > 0 && (was - passed - is).abs() < 300, "{was} ms remained, {passed} ms later {is} ms");
    assert_eq!(before[3]["half_open_in_flight"], 1);

    let code = async |tenant: &str| caller.decide(&request(tenant, "r-1")).await["error"]["code"].clone();
    assert_eq!(code("open").await, "circuit_open");
    assert_eq!(caller.decided(&request("forced", "r-1")).await["provider_id"], "b");
    // The probe that was asked of a dead worker is judged by those that live.
    let mut probed = result("half", "a", "n-probe", "success");
    probed["request_id"] = json!(probe);
    caller.result(&probed).await;
    caller.breaker_becomes("half", "a", "closed").await;
    // And the row of failures goes on.
    caller.failures("closed", "a", 1).await;
    caller.breaker_becomes("closed", "a", "open").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_at_the_open_deadline_get_no_more_probes_than_there_are_slots() {
    const SLOTS: u64 = 3;
    let broker = Broker::start().await;
    let workers = three(&broker).await;
    let caller = Caller::connect(&broker).await;
    let breaker = json!({
        "enabled": true, "failure_threshold": 3, "timeout_ms": 2000, "success_threshold": 2,
        "half_open_max_calls": SLOTS, "probe_timeout_ms": 6000
    });
    caller.put_policy("acme", &policy(&["a"], breaker)).await;
    caller.failures("acme", "a", 3).await;
    caller.breaker_becomes("acme", "a", "open").await;
    // Every worker is asked from connections of its own.
    let clients = join_all((0..4).map(|_| Caller::connect(&broker))).await;

    let remaining = caller.breaker("acme", "a").await["timeout_remaining_ms"].as_u64().unwrap();
    let deadline = Instant::now() + Duration::from_millis(remaining);
    tokio::time::sleep_until((deadline - Duration::from_millis(30)).into()).await;
    let mut asked = JoinSet::new();
    for n in 0..1_000 {
        asked.spawn(ask(clients[n % 4].client.clone(), request("acme", &format!("r-{n}")), SOON));
    }
    let answers = asked.join_all().await;
    let took = deadline.elapsed();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for answer in &answers {
        let (answer, _) = answer.as_ref().expect("every request is answered");
        let kind = if answer["decision"]["probe"] == true {
            "probe"
        } else {
            answer["error"]["code"].as_str().unwrap_or("passed")
        };
        *counts.entry(kind).or_default() += 1;
    }
    assert!(took < Duration::from_secs(6), "took {took:?}: slots may have been given back by then");
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), ["circuit_open", "probe"], "{counts:?}");
    assert!((1..=SLOTS).contains(&counts["probe"]), "{counts:?}");
    let breaker = caller.breaker("acme", "a").await;
    assert_eq!(
        (&breaker["state"], &breaker["half_open_in_flight"]),
        (&json!("half_open"), &json!(counts["probe"]))
    );
    let mut claims = 0.0;
    for worker in &workers {
        let metrics = worker.metrics().await;
        claims += metrics.sum("router_claims_total", &[]);
        assert!(metrics.sum("router_decisions_total", &[]) > 0.0, "a worker had nothing to do");
    }
    // A refused crowd does not flood the log: at most as many claims at a time as slots are free.
    let entries = agree(&workers.each_ref(), 1).await.0;
    assert!(claims < 100.0 && entries < 200, "{claims} claims, {entries} entries");

    // All probes are lost. Their slots come back, and later probes close the circuit.
    assert_eq!(caller.decide(&request("acme", "r-x")).await["error"]["code"], "circuit_open");
    caller.probe_succeeds("acme").await;
    caller.probe_succeeds("acme").await;
    caller.breaker_becomes("acme", "a", "closed").await;
    assert_eq!(caller.decided(&request("acme", "r-y")).await["probe"], false);
    agree(&workers.each_ref(), 1).await;
    let expired =
        workers[0].metrics().await.sum("router_circuit_breaker_events_total", &[("event_type", "success")]);
    assert_eq!(expired, 2.0, "only probes were judged");
}
