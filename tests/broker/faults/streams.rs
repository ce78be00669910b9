//! Streams and buckets that are deleted under running workers are made again, and what should stand in
//! them comes back.

use std::collections::BTreeSet;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::support::{Broker, Caller, SOON, Worker, eventually, request};
use crate::traffic::{RECOVERY, agree, policy, quick_breaker, result};

/// All messages that a stream keeps.
async fn kept(caller: &Caller, stream: &str) -> Vec<Value> {
    let mut stream = caller.jetstream.get_stream(stream).await.unwrap();
    let count = stream.info().await.unwrap().state.messages as usize;
    let config = pull::Config { ack_policy: AckPolicy::None, ..Default::default() };
    let consumer = stream.create_consumer(config).await.unwrap();
    let messages = consumer.stream().max_messages_per_batch(1_000).messages().await.unwrap();
    let bodies = messages.take(count).map(|m| serde_json::from_slice(&m.unwrap().payload).unwrap());
    tokio::time::timeout(SOON, bodies.collect()).await.expect("all messages are delivered")
}

/// The opening of a tenant's breaker, as events tell it.
fn openings(events: &[Value]) -> Vec<&str> {
    let opened = events.iter().filter(|e| e["kind"] == "breaker" && e["to"] == "open");
    opened.map(|e| e["tenant_id"].as_str().unwrap()).collect()
}

async fn remade(worker: &Worker, stream: &str) {
    let what = format!("{stream} is made again");
    eventually(&what, RECOVERY, async || {
        worker.events("stream_remade").iter().any(|line| line["stream"] == stream)
    })
    .await;
}

async fn pair(broker: &Broker) -> [Worker; 2] {
    let start = || Worker::start(broker, |l| l.flag("--reconcile-interval-ms", 500));
    let (first, second) = tokio::join!(start(), start());
    [first, second]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_events_and_usage_that_were_deleted_are_made_again_and_go_on() {
    let broker = Broker::start().await;
    let workers = pair(&broker).await;
    let caller = Caller::connect(&broker).await;
    for tenant in ["before", "during", "after"] {
        caller.put_policy(tenant, &policy(&["a"], quick_breaker())).await;
    }
    caller.failures("before", "a", 3).await;
    eventually("the opening is told", SOON, async || {
        openings(&kept(&caller, "BEAMLINE_EVENTS").await) == ["before"]
    })
    .await;
    eventually("its results are metered", SOON, async || kept(&caller, "BEAMLINE_USAGE").await.len() == 3)
        .await;

    caller.jetstream.delete_stream("BEAMLINE_EVENTS").await.unwrap();
    caller.jetstream.delete_stream("BEAMLINE_USAGE").await.unwrap();
    // What happens while they are gone waits for them.
    let during = caller.failures("during", "a", 3).await;
    for stream in ["BEAMLINE_EVENTS", "BEAMLINE_USAGE"] {
        let what = format!("{stream} is there");
        eventually(&what, RECOVERY, async || caller.jetstream.get_stream(stream).await.is_ok()).await;
        let told = async |worker: &Worker| {
            worker.events("stream_remade").iter().any(|line| line["stream"] == stream)
        };
        eventually("somebody says so", SOON, async || told(&workers[0]).await || told(&workers[1]).await)
            .await;
    }
    let remade = workers[0].count("router_nats_remade_total").await
        + workers[1].count("router_nats_remade_total").await;
    assert!(remade >= 2, "{remade}");
    let last = caller.failures("after", "a", 3).await;
    assert_eq!(last, during + 3, "no entry is lost or added");
    agree(&workers.each_ref(), last).await;

    eventually("events go on", RECOVERY, async || {
        openings(&kept(&caller, "BEAMLINE_EVENTS").await).contains(&"after")
    })
    .await;
    let events = kept(&caller, "BEAMLINE_EVENTS").await;
    assert_eq!(openings(&events), ["during", "after"], "each once, though two workers tell");
    eventually("usage goes on", RECOVERY, async || kept(&caller, "BEAMLINE_USAGE").await.len() == 6).await;
    let usage = kept(&caller, "BEAMLINE_USAGE").await;
    let metered: BTreeSet<_> = usage.iter().map(|u| u["assignment_id"].as_str().unwrap()).collect();
    assert_eq!(metered.len(), 6, "each once");
    assert!(usage.iter().all(|u| u["tenant_id"] != "before"));
    for worker in &workers {
        worker.recovers().await;
        assert_eq!(worker.count("router_log_rebuilds_total").await, 0);
        assert_eq!(worker.count("router_log_gaps_total").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_usage_consumer_is_made_again_behind_what_was_metered() {
    let broker = Broker::start().await;
    let mut workers = pair(&broker).await;
    let caller = Caller::connect(&broker).await;
    caller.put_policy("acme", &policy(&["a"], json!({"enabled": true}))).await;
    let mut sent = 0;
    let mut publish = async |count: usize| {
        for _ in 0..count {
            caller.result(&result("acme", "a", &format!("n-{sent}"), "success")).await;
            sent += 1;
        }
        sent
    };
    let metered = async |count: usize| {
        let what = format!("{count} results are metered");
        eventually(&what, RECOVERY, async || kept(&caller, "BEAMLINE_USAGE").await.len() >= count).await;
    };
    let all = publish(300).await;
    metered(all).await;
    // From here on the stream knows no event for a copy: what is metered again stands there twice.
    let forgetful = async || {
        let mut config =
            caller.jetstream.get_stream("BEAMLINE_USAGE").await.unwrap().cached_info().config.clone();
        config.duplicate_window = std::time::Duration::from_millis(100);
        caller.jetstream.update_stream(config).await.unwrap();
    };
    forgetful().await;
    let end = caller.log_end().await;
    for worker in &workers {
        eventually("the worker knows how far it has come", RECOVERY, async || {
            worker.count("router_usage_log_position").await >= end
        })
        .await;
    }
    caller.log().await.delete_consumer("usage").await.unwrap();
    let all = publish(50).await;
    metered(all).await;
    eventually("somebody says so", SOON, async || {
        workers.iter().any(|worker| !worker.events("usage_consumer_remade").is_empty())
    })
    .await;

    // And a worker that was not there sees it from the last events.
    for worker in &mut workers {
        assert_eq!(worker.stop().await, 0);
    }
    caller.log().await.delete_consumer("usage").await.unwrap();
    let all = publish(50).await;
    let fresh = Worker::start(&broker, |l| l).await;
    metered(all).await;
    assert!(!fresh.events("usage_consumer_remade").is_empty());

    let usage = kept(&caller, "BEAMLINE_USAGE").await;
    let ids: BTreeSet<_> = usage.iter().map(|u| u["assignment_id"].as_str().unwrap()).collect();
    assert_eq!((usage.len(), ids.len()), (all, all), "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_buckets_of_policies_and_flags_are_made_again_and_filled_by_running_workers() {
    let broker = Broker::start().await;
    let workers = pair(&broker).await;
    let caller = Caller::connect(&broker).await;
    caller.put_policy("acme", &policy(&["a"], quick_breaker())).await;
    caller.put_policy("umbra", &policy(&["b"], quick_breaker())).await;
    let off = json!({"scope": "tenant", "tenant_id": "umbra", "circuit_breaker_enabled": false});
    caller.command("flag.set", &off).await;
    let on = json!({"scope": "tenant", "tenant_id": "acme", "circuit_breaker_enabled": true});
    caller.command("flag.set", &on).await;

    for bucket in ["BEAMLINE_FLAGS", "BEAMLINE_POLICIES"] {
        caller.jetstream.delete_key_value(bucket).await.unwrap();
        eventually("it is there", RECOVERY, async || caller.jetstream.get_key_value(bucket).await.is_ok())
            .await;
    }
    let value = async |bucket: &str, key: &str| -> Option<Value> {
        let store = caller.jetstream.get_key_value(bucket).await.ok()?;
        let bytes = store.get(key).await.ok()??;
        serde_json::from_slice(&bytes).ok()
    };
    eventually("the switch is back", RECOVERY, async || {
        value("BEAMLINE_FLAGS", "tenant.umbra").await == Some(json!({"circuit_breaker_enabled": false}))
    })
    .await;
    eventually("the other one too", RECOVERY, async || {
        value("BEAMLINE_FLAGS", "tenant.acme").await == Some(json!({"circuit_breaker_enabled": true}))
    })
    .await;
    for tenant in ["acme", "umbra"] {
        let key = format!("{tenant}.default");
        eventually("the policy is back", RECOVERY, async || value("BEAMLINE_POLICIES", &key).await.is_some())
            .await;
    }
    assert!(workers.iter().any(|w| !w.events("flag_not_in_bucket").is_empty()));
    // What they held was in force all the time, and a change comes into force as ever.
    assert!(!caller.flag(Some("umbra")).await);
    let last = caller.failures("umbra", "b", 5).await;
    agree(&workers.each_ref(), last).await;
    assert_eq!(caller.decided(&request("umbra", "r-1")).await["provider_id"], "b");
    let on = json!({"scope": "tenant", "tenant_id": "umbra", "circuit_breaker_enabled": true});
    assert_eq!(caller.command("flag.set", &on).await["in_force"], true);
    caller.failures("umbra", "b", 3).await;
    caller.breaker_becomes("umbra", "b", "open").await;
    for worker in &workers {
        worker.recovers().await;
        assert_eq!(worker.count("router_log_rebuilds_total").await, 0);
    }

    // A switch that is purged, its marker and all, is on again to who compares the whole bucket.
    let off = json!({"scope": "tenant", "tenant_id": "acme", "circuit_breaker_enabled": false});
    caller.command("flag.set", &off).await;
    let stream = caller.jetstream.get_stream("KV_BEAMLINE_FLAGS").await.unwrap();
    stream.purge().filter("$KV.BEAMLINE_FLAGS.tenant.acme").await.unwrap();
    let _fresh = Worker::start(&broker, |l| l).await;
    eventually("what was purged is on", RECOVERY, async || caller.flag(Some("acme")).await).await;
}

#[tokio::test]
async fn a_worker_remakes_the_bucket_of_snapshots() {
    let broker = Broker::start().await;
    let worker = Worker::start(&broker, |l| l.flag("--reconcile-interval-ms", 300)).await;
    let caller = Caller::connect(&broker).await;
    caller.jetstream.delete_key_value("BEAMLINE_SNAPSHOTS").await.unwrap();
    remade(&worker, "KV_BEAMLINE_SNAPSHOTS").await;
    worker.recovers().await;
}
