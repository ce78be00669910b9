//! How a worker reads the bucket of policies when it starts.
//!
//! The measurement runs when asked for, best with a release build:
//!
//! `cargo test --release --locked --test broker reading -- --ignored --nocapture`
//!
//! `BEAMLINE_ROUTER_BIN` names another program to measure than the one that was built with it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use serde_json::json;

use crate::support::{Broker, Caller, Worker, eventually};
use crate::traffic::{RECOVERY, policy, quick_breaker};

/// Puts policies as `nats kv put` does, many at once.
async fn put_many(caller: &Caller, policies: usize) {
    let document = policy(&["a"], quick_breaker()).to_string();
    let puts = (0..policies).map(|n| {
        let document = Bytes::from(document.clone());
        async move {
            let subject = format!("$KV.BEAMLINE_POLICIES.t-{n}.default");
            caller.jetstream.publish(subject, document).await.unwrap().await.unwrap();
        }
    });
    stream::iter(puts).buffer_unordered(64).collect::<Vec<()>>().await;
}

async fn has_all(worker: &Worker, policies: usize, bound: Duration) {
    eventually("all policies are in force", bound, async || {
        let page = worker.get("/metrics").await;
        page.is_some_and(|page| page.body.contains(&format!("\nrouter_policies {policies}\n")))
            && worker.reasons().await.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_reads_the_bucket_with_one_consumer_and_not_with_a_request_for_each_policy() {
    const POLICIES: usize = 500;
    let broker = Broker::start().await;
    let caller = Caller::connect(&broker).await;
    let mut worker = Worker::start(&broker, |l| l).await;
    // One key with a history, which a start does not read, and one that ends with damage.
    for provider in ["b", "c", "d"] {
        caller.put_policy("old", &policy(&[provider], quick_breaker())).await;
    }
    worker.stop().await;
    put_many(&caller, POLICIES).await;
    let broken = caller.policies().await;
    broken.put("broken.default", Bytes::from(policy(&["z"], quick_breaker()).to_string())).await.unwrap();
    broken.put("broken.default", Bytes::from_static(b"no json")).await.unwrap();

    // The log does not tell of most of them, and then of all.
    for _ in 0..2 {
        let mut single = caller.listen("$JS.API.STREAM.MSG.GET.KV_BEAMLINE_POLICIES").await;
        let mut made = caller.listen("$JS.API.CONSUMER.CREATE.>").await;
        let mut worker = Worker::launch(&broker, |l| l);
        has_all(&worker, POLICIES + 2, RECOVERY).await;
        let single = single.come().await.len();
        assert!(single < 20, "{single} requests for single revisions");
        let made = made.come().await;
        let ours = made.iter().filter(|made| made.subject.contains("KV_BEAMLINE_POLICIES"));
        assert_eq!(ours.count(), 1);
        assert_eq!(caller.decided(&asked("t-499")).await["provider_id"], "a");
        assert_eq!(caller.decided(&asked("old")).await["provider_id"], "d");
        assert_eq!(caller.decided(&asked("broken")).await["provider_id"], "z");
        worker.stop().await;
    }
}

fn asked(tenant: &str) -> serde_json::Value {
    crate::support::request(tenant, "r-1")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement of minutes"]
async fn how_long_a_start_with_many_policies_takes() {
    const POLICIES: usize = 20_000;
    const BOUND: Duration = Duration::from_secs(600);
    let broker = Broker::start().await;
    let caller = Caller::connect(&broker).await;
    let mut worker = Worker::start(&broker, |l| l).await;
    worker.stop().await;
    put_many(&caller, POLICIES).await;
    // It enters them in the log.
    let mut first = Worker::launch(&broker, |l| l);
    has_all(&first, POLICIES, BOUND).await;
    first.stop().await;
    for _ in 0..3 {
        let began = Instant::now();
        let mut worker = Worker::launch(&broker, |l| l);
        let logs = async |event: &str| {
            eventually(event, BOUND, async || !worker.events(event).is_empty()).await;
            began.elapsed().as_millis()
        };
        let caught_up_ms = logs("log_caught_up").await;
        let compared_ms = logs("policies_loaded").await - caught_up_ms;
        let line =
            json!({"policies": POLICIES, "log_read_ms": caught_up_ms, "buckets_compared_ms": compared_ms});
        eprintln!("{line}");
        worker.stop().await;
    }
}
