//! Changes of the same keys at the same time, over several workers and a cluster's three replicas of each
//! bucket: a leader refuses what it cannot compare yet, and that is no verdict.

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::support::Caller;
use crate::traffic::{policy, quick_breaker};

/// Changes, and how many of them are under way at once: fewer than three workers have places.
const PUTS: usize = 450;
const AT_ONCE: usize = 90;
/// Few, so that changes of one key meet.
const KEYS: usize = 9;

async fn put(caller: &Caller, tenant: &str, n: usize, expected: Option<u64>) -> Value {
    let mut policy = policy(&["a"], quick_breaker());
    policy["version"] = json!(format!("v{n}"));
    let mut body = json!({"tenant_id": tenant, "policy": policy});
    if let Some(expected) = expected {
        body["expected_revision"] = json!(expected);
    }
    caller.control("policy.put", &body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster_concurrent_puts_all_succeed_and_of_those_that_compare_one_does() {
    let cluster = Cluster::start().await;
    let _workers = tokio::join!(cluster.worker(), cluster.worker(), cluster.worker());
    let caller = Caller::to(&cluster.urls()).await;

    let caller = &caller;
    let puts = stream::iter(0..PUTS)
        .map(|n| async move { put(caller, &format!("t-{}", n % KEYS), n, None).await })
        .buffer_unordered(AT_ONCE);
    let answers: Vec<Value> = puts.collect().await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer["ok"] != true).collect();
    assert!(refused.is_empty(), "{} of {PUTS}: {:?}", refused.len(), refused[0]);

    let mut present = put(caller, "acme", 0, Some(0)).await["revision"].as_u64().unwrap();
    for round in 1..=12 {
        let rivals = (0..8).map(|n| put(caller, "acme", 10 * round + n, Some(present)));
        let answers = join_all(rivals).await;
        let won: Vec<_> = answers.iter().filter(|answer| answer["ok"] == true).collect();
        assert_eq!(won.len(), 1, "round {round}: {answers:?}");
        let revision = won[0]["revision"].as_u64().unwrap();
        for lost in answers.iter().filter(|answer| answer["ok"] != true) {
            let error = &lost["error"];
            assert_eq!(
                (&error["code"], &error["details"]["revision"]),
                (&json!("conflict"), &json!(revision))
            );
        }
        present = revision;
    }
}
