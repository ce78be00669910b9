//! Streams and brokers that have no room left: it shows while it lasts, and goes away after it.

use std::time::Duration;

use async_nats::jetstream::stream::DiscardPolicy;
use serde_json::Value;

use crate::support::{Broker, Caller, Launch, SOON, Stage, Worker, eventually, request};
use crate::traffic::{RECOVERY, policy, quick_breaker, result};

fn eager(launch: Launch) -> Launch {
    launch.flag("--reconcile-interval-ms", 500)
}

/// Whether the log takes a result.
async fn takes(caller: &Caller, id: &str, padding: usize) -> bool {
    let mut body = result("acme", "a", id, "success");
    body["error_message"] = Value::String("x".repeat(padding));
    let publish = async {
        caller.jetstream.publish("caf.exec.result.v1", body.to_string().into()).await.ok()?.await.ok()
    };
    tokio::time::timeout(Duration::from_secs(5), publish).await.ok().flatten().is_some()
}

async fn trouble(worker: &Worker, kind: &str) -> bool {
    worker.metrics().await.value("router_nats_trouble", &[("kind", kind)]) == Some(1.0)
}

#[tokio::test]
async fn a_log_that_refuses_entries_at_its_limit_shows_until_there_is_room() {
    let stage = Stage::with(eager).await;
    let (caller, worker) = (&stage.caller, &stage.worker);
    caller.put_policy("acme", &policy(&["a"], quick_breaker())).await;
    let mut config = caller.log().await.cached_info().config.clone();
    config.discard = DiscardPolicy::New;
    config.max_bytes = 64 << 10;
    caller.jetstream.update_stream(&config).await.unwrap();
    assert!(!trouble(worker, "full").await);
    let mut n = 0;
    eventually("the log is full", RECOVERY, async || {
        n += 1;
        !takes(caller, &format!("n-{n}"), 1_000).await
    })
    .await;
    worker.says("full: BEAMLINE_LOG").await;
    assert!(trouble(worker, "full").await);
    assert!(!worker.events("storage_trouble").is_empty());
    let alerts = worker.get("/api/v1/alerts").await.unwrap().json();
    let alert = alerts["alerts"].as_array().unwrap().iter().find(|a| a["name"] == "RouterNatsTrouble");
    let alert = alert.unwrap_or_else(|| panic!("{alerts}"));
    assert_eq!(alert["status"], "pending", "it may be over soon");
    assert!(alert["summary"].as_str().unwrap().contains("full: BEAMLINE_LOG holds"), "{alert}");
    assert_eq!(caller.decided(&request("acme", "r-1")).await["provider_id"], "a", "it goes on deciding");

    config.max_bytes = 64 << 20;
    caller.jetstream.update_stream(&config).await.unwrap();
    worker.recovers().await;
    assert!(!trouble(worker, "full").await);
    assert!(!worker.events("storage_recovered").is_empty());
    let last = caller.failures("acme", "a", 3).await;
    worker.applied(last).await;
    stage.state_is("acme", "a", "open").await;
}

#[tokio::test]
async fn a_broker_whose_storage_is_used_up_shows_until_there_is_room() {
    let Stage { caller, worker, mut broker } = Stage::with(eager).await;
    caller.put_policy("acme", &policy(&["a"], quick_breaker())).await;
    for n in 0..40 {
        assert!(takes(&caller, &format!("n-{n}"), 60_000).await);
    }
    // As a disk that has filled up: what stands is more than there may be.
    broker.restart_with_storage("1M").await;
    worker.says("storage: the broker stores nothing").await;
    assert!(trouble(&worker, "storage").await);
    assert!(!takes(&caller, "refused", 10).await, "so it is for executors");
    assert!(!worker.events("storage_trouble").is_empty());
    assert_eq!(worker.get("/healthz").await.unwrap().status, 200);
    eventually("it goes on deciding", SOON, async || {
        let answer = crate::traffic::ask(caller.client.clone(), request("acme", "r-1"), SOON).await;
        answer.is_ok_and(|(answer, _)| answer["decision"]["provider_id"] == "a")
    })
    .await;

    broker.restart_with_storage("1T").await;
    worker.recovers().await;
    assert!(!trouble(&worker, "storage").await);
    let last = caller.failures("acme", "a", 3).await;
    worker.applied(last).await;
    caller.breaker_becomes("acme", "a", "open").await;
    drop(broker);
}

#[tokio::test]
async fn streams_that_cannot_be_made_again_are_told_until_they_can() {
    let stage = Stage::with(eager).await;
    let Stage { caller, worker, mut broker } = stage;
    // Less than the stream of events reserves, and more than what is used.
    caller.jetstream.delete_stream("BEAMLINE_EVENTS").await.ok();
    broker.restart_with_storage("8M").await;
    worker.says("streams: BEAMLINE_EVENTS gone").await;
    assert!(trouble(&worker, "streams").await);
    broker.restart_with_storage("1T").await;
    worker.recovers().await;
    assert!(!trouble(&worker, "streams").await);
    assert!(caller.jetstream.get_stream("BEAMLINE_EVENTS").await.is_ok());
    let _: &Broker = &broker;
}
