//! The broker that leads the log is cut off from the others, and does not know it yet.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{SplitCluster, Worker, eventually};
use crate::traffic::{Asking, policy};

/// An election, and the reader's own notice of it, on a busy machine.
const ELECTION: Duration = Duration::from_secs(60);
/// Three looks that find nothing confirmed, and what a busy machine adds.
const NOTICED: Duration = Duration::from_secs(9);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_beside_an_isolated_log_leader_does_not_stay_ready() {
    let cluster = SplitCluster::start().await;
    let maker = Worker::launch_in(
        &cluster.nodes[0].namespace,
        &cluster.nodes[0].host,
        &cluster.nodes[0].url(),
        |l| l.flag("--replicas", 3),
    );
    eventually("the worker is ready", ELECTION, async || maker.reasons().await.is_empty()).await;
    let caller = cluster.caller(0).await;
    let breaker = json!({"enabled": true, "failure_threshold": 50, "error_rate_threshold": 1.0});
    caller.put_policy("acme", &policy(&["a", "b"], breaker)).await;
    let leader = cluster.leader(&caller, "BEAMLINE_LOG").await;
    drop(maker);

    // Beside the leader, and with no way to another broker.
    let node = &cluster.nodes[leader];
    let worker = Worker::launch_in(&node.namespace, &node.host, &node.url(), |l| l.flag("--replicas", 3));
    eventually("the worker is ready", ELECTION, async || worker.reasons().await.is_empty()).await;
    let beside = cluster.caller(leader).await;
    let asking = Asking::start(&beside.client, "acme", 20, Duration::from_secs(5));
    asking.goes_on(40).await;

    assert_eq!(cluster.leader(&beside, "BEAMLINE_LOG").await, leader, "the same still leads");
    cluster.isolate(leader);
    let isolated = Instant::now();
    worker.says("log: cannot be reached").await;
    let noticed = isolated.elapsed();
    assert!(noticed < NOTICED, "only after {noticed:?}");
    // It stays so while nothing comes.
    let until = isolated + Duration::from_secs(15);
    while Instant::now() < until {
        let reasons = worker.reasons().await;
        assert!(
            reasons.iter().any(|r| r.starts_with("log: cannot") || r.starts_with("nats:")),
            "{reasons:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let asked = asking.stop().await;
    assert_eq!(asked.decided, asked.sent, "alone it goes on: {asked:?}");

    cluster.join(leader);
    worker.recovers().await;
    let metrics = worker.metrics().await;
    for lost in ["router_log_rebuilds_total", "router_log_gaps_total"] {
        assert_eq!(metrics.sum(lost, &[]), 0.0, "{lost}");
    }
}
