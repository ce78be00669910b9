//! The broker that leads the log is cut off from the others, and does not know it yet.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{SplitCluster, Worker, eventually, request};
use crate::traffic::{Asking, RECOVERY, ask, policy, result, until_acknowledged};

/// An election, and the reader's own notice of it, on a busy machine.
const ELECTION: Duration = Duration::from_secs(60);
/// It takes 7 s at most, and longer on a busy machine.
const NOTICED: Duration = Duration::from_secs(20);
/// The log is found out of reach (7 s), an election is waited for (10 s), and another server is tried, where the management
/// connection may come to the isolated one again: after 5, 10 and 20 s.
const MOVED: Duration = Duration::from_secs(90);

/// Has the streams made and a policy put, and gives the broker that leads the log.
async fn prepare(cluster: &SplitCluster, breaker: Value) -> usize {
    let maker = Worker::launch_to(&cluster.urls(), |l| l.flag("--replicas", 3));
    eventually("the worker is ready", ELECTION, async || maker.reasons().await.is_empty()).await;
    let caller = cluster.caller(0).await;
    caller.put_policy("acme", &policy(&["a"], breaker)).await;
    cluster.leader(&caller, "BEAMLINE_LOG").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_leaves_an_isolated_server_and_refuses_what_was_opened_meanwhile() {
    let cluster = SplitCluster::start().await;
    let breaker = json!({"enabled": true, "failure_threshold": 3, "timeout_ms": 300_000});
    let leader = prepare(&cluster, breaker).await;
    // It is told of the leader alone, and learns of the others.
    let worker = Worker::launch_to(&cluster.nodes[leader].url(), |l| l.flag("--replicas", 3));
    eventually("the worker is ready", ELECTION, async || worker.reasons().await.is_empty()).await;
    let (beside, elsewhere) = (cluster.caller(leader).await, cluster.caller((leader + 1) % 3).await);
    let asking = Asking::start(&beside.client, "acme", 20, Duration::from_secs(5));
    asking.goes_on(40).await;

    assert_eq!(cluster.leader(&beside, "BEAMLINE_LOG").await, leader, "the same still leads");
    cluster.isolate(leader);
    for n in 0..3 {
        let failed = result("acme", "a", &format!("n-{n}"), "error").to_string();
        tokio::time::timeout(ELECTION, until_acknowledged(&elsewhere, failed)).await.unwrap();
    }
    eventually("the worker refuses, on the side of the others", MOVED, async || {
        let answer = ask(elsewhere.client.clone(), request("acme", "r-1"), Duration::from_secs(2)).await;
        answer.is_ok_and(|(answer, _)| answer["error"]["code"] == "circuit_open")
    })
    .await;
    let _ = asking.stop().await;
    let answer = ask(beside.client.clone(), request("acme", "r-2"), Duration::from_secs(2)).await;
    assert!(answer.is_err(), "nobody decides beside the isolated server: {answer:?}");
    eventually("the worker is ready", RECOVERY, async || worker.reasons().await.is_empty()).await;
    let metrics = worker.metrics().await;
    assert_eq!(metrics.sum("router_log_rebuilds_total", &[]), 0.0);
}

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
    let until = Instant::now() + Duration::from_secs(5);
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
