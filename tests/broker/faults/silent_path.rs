//! A path that drops what is sent, and closes no connection.

use std::time::{Duration, Instant};

use crate::support::{Broker, Caller, Relay, Worker, eventually, request};
use crate::traffic::{RECOVERY, ask, policy, quick_breaker};

/// The last connection is given up after 6 s, and a try on the path that is cut may take 5 s more. By the third missing
/// PONG, ten seconds apart, it takes 30 s.
const BACK: Duration = Duration::from_secs(25);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_path_is_left_for_another_within_seconds() {
    let broker = Broker::start().await;
    let (first, second) = (Relay::to(broker.port()).await, Relay::to(broker.port()).await);
    // So that all connections are on the first.
    second.freeze();
    let worker = Worker::launch_to(&format!("{},{}", first.url(), second.url()), |l| l);
    worker.recovers().await;
    second.thaw();
    let caller = Caller::connect(&broker).await;
    caller.put_policy("acme", &policy(&["a"], quick_breaker())).await;

    first.freeze();
    let cut = Instant::now();
    worker.says("log: cannot be reached").await;
    worker.recovers().await;
    let away = cut.elapsed();
    assert!(away < BACK, "only after {away:?}");
    assert!(!worker.events("nats_path_silent").is_empty());
    // The broker goes on sending requests into the old path until it notices; the others are answered.
    eventually("requests are answered", RECOVERY, async || {
        let answer = ask(caller.client.clone(), request("acme", "r-1"), Duration::from_millis(500)).await;
        answer.is_ok_and(|(answer, _)| answer["decision"]["provider_id"] == "a")
    })
    .await;
    // And what happens is read.
    let last = caller.failures("acme", "a", 3).await;
    worker.applied(last).await;
    let metrics = worker.metrics().await;
    assert_eq!(metrics.sum("router_log_rebuilds_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_mended_before_another_is_found_costs_nothing() {
    let broker = Broker::start().await;
    let path = Relay::to(broker.port()).await;
    let mut worker = Worker::launch_to(&path.url(), |l| l);
    worker.ready().await;
    let caller = Caller::connect(&broker).await;
    caller.put_policy("acme", &policy(&["a"], quick_breaker())).await;
    path.freeze();
    worker.says("log: cannot be reached").await;
    eventually("the path is seen to be silent", RECOVERY, async || {
        !worker.events("nats_path_silent").is_empty()
    })
    .await;
    path.thaw();
    worker.recovers().await;
    let last = caller.failures("acme", "a", 3).await;
    worker.applied(last).await;
    let metrics = worker.metrics().await;
    for lost in ["router_log_rebuilds_total", "router_log_gaps_total"] {
        assert_eq!(metrics.sum(lost, &[]), 0.0, "{lost}");
    }
}
