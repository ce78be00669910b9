//! Others that follow events, and do not keep up.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{SOON, Stage, eventually};
use crate::traffic::{Asking, RECOVERY, policy, quick_breaker};

const TENANTS: [&str; 3] = ["acme", "umbra", "zeta"];

/// The next messages of a consumer, acknowledged: at most so many, and as many as come at once.
async fn fetch(consumer: &PullConsumer, most: usize) -> Vec<Value> {
    let batch = consumer.fetch().max_messages(most).messages().await.unwrap();
    let mut bodies = Vec::new();
    let mut batch = std::pin::pin!(batch);
    while let Some(message) = batch.next().await {
        let message = message.unwrap();
        bodies.push(serde_json::from_slice(&message.payload).unwrap());
        message.ack().await.unwrap();
    }
    bodies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_events_consumer_that_stalls_ends_at_the_true_state() {
    let stage = Stage::start().await;
    let caller = &stage.caller;
    for tenant in TENANTS {
        caller.put_policy(tenant, &policy(&["a"], quick_breaker())).await;
    }
    let events = caller.jetstream.get_stream("BEAMLINE_EVENTS").await.unwrap();
    let config = pull::Config {
        durable_name: Some("dashboard".to_owned()),
        ack_policy: AckPolicy::Explicit,
        filter_subject: "beamline.router.v1.events.breaker.>".to_owned(),
        ..Default::default()
    };
    let consumer = events.create_consumer(config).await.unwrap();
    let mut states: BTreeMap<String, Value> = BTreeMap::new();
    let mut follow = |events: Vec<Value>| {
        let count = events.len();
        for event in events {
            let tenant = event["tenant_id"].as_str().unwrap().to_owned();
            if let Some(before) = states.insert(tenant, event["to"].clone()) {
                assert_eq!(before, event["from"], "a transition is lacking before {event}");
            }
        }
        count
    };
    stage.fail("acme", "a", 3).await;
    let mut seen = 0;
    eventually("it follows", SOON, async || {
        seen += follow(fetch(&consumer, 10).await);
        seen == 1
    })
    .await;

    // It stalls, and much happens: every breaker opens, closes and opens again.
    for tenant in TENANTS {
        if tenant != "acme" {
            stage.fail(tenant, "a", 3).await;
        }
        caller.breaker_becomes(tenant, "a", "open").await;
        caller.probe_succeeds(tenant).await;
        caller.breaker_becomes(tenant, "a", "closed").await;
        stage.fail(tenant, "a", 3).await;
        stage.state_is(tenant, "a", "open").await;
    }
    caller.probe_succeeds("zeta").await;
    caller.breaker_becomes("zeta", "a", "closed").await;
    let transitions = stage.worker.count("router_circuit_breaker_state_transitions_total").await as usize;

    // And comes back.
    eventually("it has caught up", RECOVERY, async || {
        seen += follow(fetch(&consumer, 7).await);
        assert!(seen <= transitions, "more events than transitions");
        seen == transitions
    })
    .await;
    for tenant in TENANTS {
        let breaker = caller.breaker(tenant, "a").await;
        assert_eq!(states[tenant], breaker["state"], "{tenant}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_subscriber_that_stalls_slows_nothing_down() {
    let stage = Stage::start().await;
    let caller = &stage.caller;
    caller.put_policy("acme", &policy(&["a"], quick_breaker())).await;
    // It subscribes to all that the router says, and reads nothing from its socket.
    let mut stalled = TcpStream::connect(("127.0.0.1", stage.broker.port())).await.unwrap();
    let hello = "CONNECT {\"verbose\":false}\r\nSUB beamline.> 1\r\nSUB caf.> 2\r\nPING\r\n";
    stalled.write_all(hello.as_bytes()).await.unwrap();
    let mut greeting = Vec::new();
    while !greeting.ends_with(b"PONG\r\n") {
        greeting.push(stalled.read_u8().await.unwrap());
    }
    let asking = Asking::start(&caller.client, "acme", 100, Duration::from_secs(10));
    // Events as large as they get, more than all buffers on the way to it hold.
    let padding = "x".repeat(60_000);
    for _ in 0..400 {
        caller.client.publish("beamline.stall", padding.clone().into()).await.unwrap();
    }
    for round in 0..3 {
        stage.fail("acme", "a", 3).await;
        stage.state_is("acme", "a", "open").await;
        caller.probe_succeeds("acme").await;
        caller.breaker_becomes("acme", "a", "closed").await;
        let want = 3 * (round + 1) + 1;
        let mut events = caller.jetstream.get_stream("BEAMLINE_EVENTS").await.unwrap();
        eventually("all events are kept", SOON, async || events.info().await.unwrap().state.messages == want)
            .await;
    }
    let asked = asking.stop().await;
    assert!(asked.unanswered.is_empty(), "{asked:?}");
    assert!(asked.median() < Duration::from_millis(500), "{:?}", asked.median());
    for lost in ["router_queue_refused_total", "router_nats_publish_failures_total", "router_log_gaps_total"]
    {
        assert_eq!(stage.worker.count(lost).await, 0, "{lost}");
    }
    drop(stalled);
}
