//! How long a worker takes to catch up with a log of a million results and no snapshot. A measurement,
//! not a test: it runs when asked for, best with a release build:
//!
//! `cargo test --release --locked --test broker catch_up -- --ignored --nocapture`
//!
//! `BEAMLINE_ROUTER_BIN` names another program to measure than the one that was built with it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;

use crate::support::{Broker, Caller, Worker, eventually};

const RESULTS: u64 = 1_000_000;
const TENANTS: u64 = 100;
/// The bound: two cores, shared with the broker.
const BOUND: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement of a minute"]
async fn a_million_results_are_caught_up_within_five_seconds() {
    let broker = Broker::start().await;
    let caller = Caller::connect(&broker).await;
    let mut worker = Worker::start(&broker, |w| w.flag("--usage-metering", "off")).await;
    let policy = json!({
        "policy_id": "default",
        "providers": [{"name": "a", "weight": 50}, {"name": "b", "weight": 30}, {"name": "c", "weight": 20}],
        "circuit_breaker": {"enabled": true}
    });
    for tenant in 0..TENANTS {
        caller.put_policy(&format!("t{tenant}"), &policy).await;
    }
    worker.stop().await;

    let before = caller.log_end().await;
    let providers = ["a", "b", "c"];
    for n in 0..RESULTS {
        let body = json!({
            "assignment_id": format!("00000000-0000-4000-8000-{n:012}"),
            "request_id": format!("r-{n}"),
            "tenant_id": format!("t{}", n % TENANTS),
            "provider_id": providers[(n % 3) as usize],
            "status": if n % 10 == 0 { "error" } else { "success" },
            "job": {"type": "text.generate"}, "latency_ms": 100 + n % 900, "cost": 0.001
        });
        caller.client.publish("caf.exec.result.v1", Bytes::from(body.to_string())).await.unwrap();
        // Not faster than the stream writes: it drops what it cannot queue.
        if n % 5_000 == 0 {
            let sent = before + n;
            eventually("the stream keeps up", Duration::from_secs(60), async || {
                caller.log_end().await + 20_000 >= sent
            })
            .await;
        }
    }
    eventually("the stream holds all of them", Duration::from_secs(120), async || {
        caller.log_end().await >= before + RESULTS
    })
    .await;
    // Snapshots would make it easy.
    let _ = caller.jetstream.delete_key_value("BEAMLINE_SNAPSHOTS").await;

    let started = Instant::now();
    let worker = Worker::launch(&broker, |w| w.flag("--usage-metering", "off"));
    eventually("the worker has caught up", Duration::from_secs(120), async || {
        !worker.events("log_caught_up").is_empty()
    })
    .await;
    let took = started.elapsed();
    let replayed = worker.events("log_caught_up")[0]["replayed"].as_u64().unwrap();
    eprintln!(
        "caught up with {replayed} entries in {:.2} s from the start of the process: {:.0} a second",
        took.as_secs_f64(),
        replayed as f64 / took.as_secs_f64()
    );
    assert!(replayed >= RESULTS);
    assert!(took <= BOUND, "{took:?}");
}
