//! A worker that was away for longer than the events stream remembers ids, or no worker at all: each event stands once
//! all the same.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::support::{Broker, Caller, SOON, Worker, eventually};
use crate::traffic::{RECOVERY, policy};

/// What the events stream remembers ids for; the router's own is five minutes.
const WINDOW: Duration = Duration::from_secs(2);

/// A broker whose events stream stands before the first worker comes.
async fn broker() -> (Broker, Caller) {
    let broker = Broker::start().await;
    let caller = Caller::connect(&broker).await;
    let events = stream::Config {
        name: "BEAMLINE_EVENTS".to_owned(),
        subjects: vec!["beamline.router.v1.events.>".to_owned()],
        duplicate_window: WINDOW,
        ..Default::default()
    };
    caller.jetstream.create_stream(events).await.unwrap();
    (broker, caller)
}

/// How often each event stands in the stream, by tenant and what happened.
async fn standing(caller: &Caller) -> BTreeMap<String, usize> {
    let mut events = caller.jetstream.get_stream("BEAMLINE_EVENTS").await.unwrap();
    let count = events.info().await.unwrap().state.messages as usize;
    let config = pull::Config { ack_policy: AckPolicy::None, ..Default::default() };
    let messages = events.create_consumer(config).await.unwrap().messages().await.unwrap();
    let names = messages.take(count).filter_map(async |message| {
        let event: Value = serde_json::from_slice(&message.unwrap().payload).ok()?;
        let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
        Some(format!("{} {} {}{}", text("tenant_id"), text("kind"), text("change"), text("to")))
    });
    let names: Vec<_> = tokio::time::timeout(SOON, names.collect()).await.expect("all events are delivered");
    let mut standing = BTreeMap::new();
    for name in names {
        *standing.entry(name).or_default() += 1;
    }
    standing
}

/// Waits until the stream has forgotten all ids that it knew at the call.
async fn ids_are_forgotten(caller: &Caller) {
    let publish = async || {
        let message = PublishMessage::build().payload("{}".into()).message_id("a test's own");
        let ack = caller.jetstream.send_publish("beamline.router.v1.events.test", message).await.unwrap();
        ack.await.unwrap().duplicate
    };
    publish().await;
    eventually("the window is over", RECOVERY, async || !publish().await).await;
}

/// A breaker that opens at the third failure and stays open.
fn breaker() -> Value {
    json!({"enabled": true, "failure_threshold": 3, "timeout_ms": 300_000})
}

/// Puts a policy for each tenant.
async fn put_all(caller: &Caller, tenants: &[&str]) {
    for tenant in tenants {
        caller.put_policy(tenant, &policy(&["a"], breaker())).await;
    }
}

/// Opens a tenant's breaker.
async fn opens(caller: &Caller, tenant: &str) -> u64 {
    caller.failures(tenant, "a", 3).await
}

async fn told(caller: &Caller, tenant: &str) {
    let event = format!("{tenant} breaker open");
    eventually(&event, RECOVERY, async || standing(caller).await.contains_key(&event)).await;
}

fn once_each(standing: &BTreeMap<String, usize>, tenants: &[&str], events: &[&str]) {
    for tenant in tenants {
        for event in events {
            let event = format!("{tenant} {event}");
            assert_eq!(standing.get(&event), Some(&1), "{event}: {standing:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_was_away_does_not_repeat_what_others_published() {
    let (broker, caller) = broker().await;
    let (away, mut there) = tokio::join!(Worker::start(&broker, |l| l), Worker::start(&broker, |l| l));
    // While it is away it would be asked, too.
    put_all(&caller, &["acme", "umbra", "zeta", "marker"]).await;
    away.applied(caller.log_end().await).await;
    away.pause();
    for tenant in ["acme", "umbra", "zeta"] {
        opens(&caller, tenant).await;
        told(&caller, tenant).await;
    }
    ids_are_forgotten(&caller).await;
    away.resume();
    away.applied(caller.log_end().await).await;
    // What it publishes from here on stands behind all that it would repeat.
    there.kill();
    opens(&caller, "marker").await;
    told(&caller, "marker").await;
    // Its copy of the last policy's event may have been on its way when it was stopped.
    once_each(&standing(&caller).await, &["acme", "umbra", "zeta", "marker"], &["breaker open"]);
    let looked = away.events("events_late");
    let sum = |field: &str| looked.iter().map(|line| line[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("late"), sum("standing")), (3, 3), "{looked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_was_alone_publishes_what_nobody_did() {
    let (broker, caller) = broker().await;
    let worker = Worker::start(&broker, |l| l).await;
    put_all(&caller, &["before", "acme", "marker"]).await;
    opens(&caller, "before").await;
    told(&caller, "before").await;
    worker.pause();
    let last = opens(&caller, "acme").await;
    ids_are_forgotten(&caller).await;
    worker.resume();
    worker.applied(last).await;
    told(&caller, "acme").await;
    opens(&caller, "marker").await;
    told(&caller, "marker").await;
    once_each(&standing(&caller).await, &["before", "acme", "marker"], &["policy put", "breaker open"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_while_no_worker_is_there_is_published_by_those_that_start() {
    let (broker, caller) = broker().await;
    let mut worker = Worker::start(&broker, |l| l).await;
    put_all(&caller, &["before", "acme", "umbra", "marker"]).await;
    opens(&caller, "before").await;
    told(&caller, "before").await;
    worker.kill();
    opens(&caller, "acme").await;
    opens(&caller, "umbra").await;
    ids_are_forgotten(&caller).await;
    let started = tokio::join!(Worker::start(&broker, |l| l), Worker::start(&broker, |l| l));
    told(&caller, "acme").await;
    told(&caller, "umbra").await;
    opens(&caller, "marker").await;
    told(&caller, "marker").await;
    once_each(&standing(&caller).await, &["before", "acme", "umbra", "marker"], &["breaker open"]);
    for worker in [started.0, started.1] {
        let metrics = worker.metrics().await;
        assert_eq!(metrics.sum("router_results_total", &[]), 3.0, "only the marker's are news");
    }
}
