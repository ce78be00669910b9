//! Claims over a path that is slow: how long they are waited for, and what becomes of slots that come too late.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{ended, policy};
use crate::support::{Broker, Caller, Launch, Relay, SOON, Stage, Worker, eventually, request, within};

/// A worker behind a relay, and a client that speaks to the broker directly.
struct Far {
    stage: Stage,
    relay: Relay,
}

impl Far {
    async fn start() -> Self {
        let broker = Broker::start().await;
        let relay = Relay::to(broker.port()).await;
        let url = relay.url();
        let eager = |l: Launch| l.env("NATS_URL", url).flag("--reconcile-interval-ms", 500);
        let worker = Worker::start(&broker, eager).await;
        let caller = Caller::connect(&broker).await;
        Self { stage: Stage { caller, worker, broker }, relay }
    }

    /// Waits for the version of the fold by which slots are taken over.
    async fn takes_slots_over(&self) {
        eventually("the fold has the version", SOON, async || {
            self.stage.worker.metrics().await.value("router_fold_version", &[]) >= Some(4.0)
        })
        .await;
    }

    async fn claims(&self, outcome: &str) -> f64 {
        self.stage.worker.metrics().await.sum("router_claims_total", &[("outcome", outcome)])
    }

    /// Opens the breaker, waits until its open time is over, and makes the path so slow at once that the first
    /// claim is answered long after its request has given up.
    async fn grants_too_late(&self, breaker: Value) {
        self.stage.caller.put_policy("acme", &policy(breaker)).await;
        self.stage.fail("acme", "a", 1).await;
        eventually("the open time is over", SOON, async || {
            self.stage.caller.breaker("acme", "a").await["timeout_remaining_ms"] == 0
        })
        .await;
        self.relay.delay(Duration::from_millis(400));
        let answer = self.stage.caller.decide(&request("acme", "r-first")).await;
        assert_eq!(answer["error"]["code"], "circuit_open", "{answer}");
        assert_eq!(self.claims("timed_out").await, 1.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breaker_recovers_though_the_broker_is_200_ms_away() {
    const SLOTS: usize = 3;
    let far = Far::start().await;
    let (caller, worker) = (&far.stage.caller, &far.stage.worker);
    let breaker = json!({"failure_threshold": 1, "success_threshold": 3, "half_open_max_calls": SLOTS});
    caller.put_policy("acme", &policy(breaker)).await;
    far.relay.delay(Duration::from_millis(100));
    far.stage.fail("acme", "a", 1).await;
    let mut out = BTreeSet::new();
    let (mut most, mut slowest) = (0, Duration::ZERO);
    let closed = within(2 * SOON, async || {
        let asked = Instant::now();
        let answers = super::ask_many(&far.stage, 5).await;
        slowest = slowest.max(asked.elapsed());
        for (id, answer) in answers {
            let decision = &answer["decision"];
            if decision["probe"] == true {
                out.insert(id);
            } else if decision["provider_id"] == "a" {
                return true;
            }
            assert_ne!(answer["error"]["code"], "overloaded", "{answer}");
        }
        // Each probe is out for a while before it ends, so that others are asked for meanwhile.
        most = most.max(out.len());
        if let Some(id) = out.pop_first() {
            ended(&far.stage, &id, "success").await;
        }
        false
    })
    .await;
    let mut counts = Vec::new();
    for outcome in ["granted", "taken_over", "timed_out", "unused", "refused"] {
        counts.push((outcome, far.claims(outcome).await));
    }
    assert!(closed.is_some(), "it did not recover: {counts:?}");
    assert!(most <= SLOTS, "{most} probes at once");
    // The claim's wait is bounded by a second; the path takes 200 ms more.
    assert!(slowest < SOON, "{slowest:?}");
    let used = counts[0].1 + counts[1].1;
    assert!(used >= 3.0 && used > counts[3].1, "most grants are used: {counts:?}");
    assert!(!worker.events("circuit_breaker_closed").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_comes_too_late_serves_the_next_request_of_its_breaker() {
    let far = Far::start().await;
    far.takes_slots_over().await;
    let breaker = json!({
        "failure_threshold": 1, "success_threshold": 1, "half_open_max_calls": 1, "probe_timeout_ms": 300_000
    });
    far.grants_too_late(breaker).await;
    // The only slot is granted to a request that is answered already.
    let probe = eventually("the next request probes", SOON, async || {
        let probes = super::ask_many(&far.stage, 3).await;
        let mut probes = probes.into_iter().filter(|(_, answer)| answer["decision"]["probe"] == true);
        let first = probes.next();
        assert!(probes.next().is_none(), "one slot, one probe");
        first.map(|(id, _)| id)
    })
    .await;
    assert_ne!(probe, "r-first");
    assert_eq!((far.claims("taken_over").await, far.claims("unused").await), (1.0, 0.0));
    ended(&far.stage, &probe, "success").await;
    far.stage.caller.breaker_becomes("acme", "a", "closed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_comes_too_late_and_that_nobody_takes_over_is_given_back() {
    // No lease ends by its time here.
    let breaker = json!({"failure_threshold": 1, "half_open_max_calls": 1, "probe_timeout_ms": 300_000});
    let far = Far::start().await;
    far.takes_slots_over().await;
    far.grants_too_late(breaker).await;
    eventually("nobody holds the slot", SOON, async || {
        let breaker = far.stage.caller.breaker("acme", "a").await;
        breaker["state"] == "half_open" && breaker["half_open_in_flight"] == 0
    })
    .await;
    assert_eq!((far.claims("taken_over").await, far.claims("unused").await), (0.0, 1.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_ends_gives_back_the_slots_that_it_keeps() {
    let Far { stage, relay } = {
        let far = Far::start().await;
        far.takes_slots_over().await;
        let breaker = json!({"failure_threshold": 1, "half_open_max_calls": 1, "probe_timeout_ms": 300_000});
        far.grants_too_late(breaker).await;
        far
    };
    let Stage { mut worker, broker, caller } = stage;
    assert_eq!(worker.stop().await, 0);
    drop(relay);
    let _second = Worker::start(&broker, |l| l).await;
    eventually("nobody holds the slot", SOON, async || {
        let breaker = caller.breaker("acme", "a").await;
        breaker["state"] == "half_open" && breaker["half_open_in_flight"] == 0
    })
    .await;
}
