//! A broker whose disk is full.

use std::time::Duration;

use crate::support::{Broker, Caller, Worker, request};
use crate::traffic::{RECOVERY, policy, quick_breaker, until_acknowledged};

/// Publishes results of this many bytes until the log takes none. The disk has less than 64 MiB.
async fn fill(caller: &Caller, bytes: usize) -> bool {
    for _ in 0..(64 << 20) / bytes {
        let publish = async {
            caller.jetstream.publish("caf.exec.result.v1", vec![b'x'; bytes].into()).await.ok()?.await.ok()
        };
        if tokio::time::timeout(Duration::from_secs(3), publish).await.ok().flatten().is_none() {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn a_broker_with_a_full_disk_shows_until_it_has_room_and_is_restarted() {
    let mut broker = Broker::on_a_small_disk(32).await;
    let worker = Worker::start(&broker, |l| l.flag("--reconcile-interval-ms", 500)).await;
    let caller = Caller::connect(&broker).await;
    caller.put_policy("acme", &policy(&["a"], quick_breaker())).await;
    assert!(fill(&caller, 128 << 10).await, "the disk is full");
    assert!(fill(&caller, 256).await, "for short ones too");
    // Requests are decided, and that alone shows what the log does.
    let asking = crate::traffic::Asking::start(&caller.client, "acme", 5, Duration::from_secs(5));
    worker.says("storage: BEAMLINE_LOG is there and takes nothing").await;
    let metrics = worker.metrics().await;
    assert_eq!(metrics.value("router_nats_trouble", &[("kind", "storage")]), Some(1.0));

    broker.enlarge_disk(128);
    assert!(fill(&caller, 256).await, "room alone does not help");
    let reasons = worker.reasons().await;
    assert!(reasons.iter().any(|r| r.starts_with("storage: ")), "{reasons:?}");
    broker.restart().await;
    worker.recovers().await;
    let asked = asking.stop().await;
    assert!(asked.refused.is_empty(), "{asked:?}");
    let result = crate::traffic::result("acme", "a", "n-1", "success").to_string();
    let last = tokio::time::timeout(RECOVERY, until_acknowledged(&caller, result)).await.unwrap();
    worker.applied(last).await;
    assert_eq!(caller.decided(&request("acme", "r-1")).await["provider_id"], "a");
}
