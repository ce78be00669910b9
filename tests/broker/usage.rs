//! Metering: one usage event for each result, whatever happens to results and to workers.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{self, DiscardPolicy};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::support::{Answer, Broker, Caller, Launch, SOON, Stage, Worker, eventually, request};
use crate::traffic::{Publishing, RECOVERY, policy, result};

/// All usage events that are kept.
async fn metered(caller: &Caller) -> Vec<Value> {
    let mut stream = caller.jetstream.get_stream("BEAMLINE_USAGE").await.unwrap();
    let expected = stream.info().await.unwrap().state.messages as usize;
    let config = pull::Config { ack_policy: AckPolicy::None, ..Default::default() };
    let consumer = stream.create_consumer(config).await.unwrap();
    let messages = consumer.stream().max_messages_per_batch(1_000).messages().await.unwrap();
    let bodies = messages.take(expected).map(|m| serde_json::from_slice(&m.unwrap().payload).unwrap());
    tokio::time::timeout(SOON, bodies.collect()).await.expect("all usage events are delivered")
}

/// Waits until every result has been looked at: none is undelivered, none unacknowledged.
async fn settled(caller: &Caller) {
    eventually("every result is looked at", RECOVERY * 2, async || {
        let consumer: Result<PullConsumer, _> = caller.log().await.get_consumer("usage").await;
        consumer.is_ok_and(|c| c.cached_info().num_pending == 0 && c.cached_info().num_ack_pending == 0)
    })
    .await;
}

#[tokio::test]
async fn a_usage_event_carries_what_the_result_told() {
    let stage = Stage::start().await;
    stage.caller.put_policy("acme", &policy(&["a"], json!({"enabled": true}))).await;
    let mut heard = stage.caller.listen("beamline.usage.v1.metered").await;
    let full = json!({
        "assignment_id": "n-1", "request_id": "r-1", "status": "success", "provider_id": "a",
        "job": {"type": "text.generate"}, "latency_ms": 850, "cost": 0.012, "trace_id": "t-1",
        "tenant_id": "acme", "timestamp": 1_706_371_200_000_u64, "error_code": "", "error_message": ""
    });
    let mut headers = HeaderMap::new();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    headers.insert("traceparent", parent);
    let body = full.to_string().into();
    let published = stage.caller.jetstream.publish_with_headers("caf.exec.result.v1", headers, body);
    published.await.unwrap().await.unwrap();
    let event = Answer::of(heard.next().await);
    assert_eq!(
        event.json(),
        json!({
            "version": "1", "tenant_id": "acme", "provider_id": "a", "event_type": "text.generate",
            "latency_ms": 850, "cost": 0.012, "status": "success", "trace_id": "t-1",
            "timestamp": 1_706_371_200_000_u64, "assignment_id": "n-1", "request_id": "r-1"
        })
    );
    assert_eq!(event.header("content-type"), Some("application/json"));
    assert_eq!(event.header("traceparent"), Some(parent));

    // What the result does not tell is absent, but for the time, which is then the log's.
    let bare = json!({"status": "cancelled", "provider_id": "a", "tenant_id": "acme"});
    stage.caller.result(&bare).await;
    let mut event = heard.next_json().await;
    assert!(event["timestamp"].as_u64().is_some_and(|t| t > 1_706_371_200_000), "{event}");
    event.as_object_mut().unwrap().remove("timestamp");
    assert_eq!(
        event,
        json!({"version": "1", "tenant_id": "acme", "provider_id": "a", "status": "cancelled"})
    );
}

#[tokio::test]
async fn copies_and_rejected_results_meter_nothing_and_all_others_meter_once() {
    let stage = Stage::start().await;
    stage
        .caller
        .put_policy("acme", &policy(&["a"], json!({"enabled": true, "ignored_error_codes": ["E1"]})))
        .await;
    let mut ignored = result("acme", "a", "ignored", "error");
    ignored["error_code"] = json!("E1");
    let counted = [
        result("acme", "a", "fine", "success"),
        result("acme", "a", "failed", "error"),
        result("acme", "a", "slow", "timeout"),
        result("acme", "a", "gone", "cancelled"),
        ignored,
    ];
    // Twice through the log, and a third time that the stream itself knows for a copy.
    for body in counted.iter().chain(&counted) {
        stage.caller.result(body).await;
    }
    let rejected = [
        result("acme", "a", "r1", "exploded"),
        result("acme", "nobody", "r2", "success"),
        result("nobody", "a", "r3", "success"),
        json!({"assignment_id": "r4", "status": "success", "provider_id": "a", "tenant_id": "acme", "latency_ms": -1}),
        json!("no result"),
    ];
    for body in &rejected {
        stage.caller.result(body).await;
    }
    let elsewhere = result("acme", "a", "r5", "success");
    stage.caller.result_on("caf.exec.result.v1.umbra", &elsewhere).await;
    stage.caller.result_on("caf.exec.result.v1.acme", &result("acme", "a", "own", "success")).await;
    settled(&stage.caller).await;

    let mut statuses: Vec<_> = metered(&stage.caller)
        .await
        .iter()
        .map(|e| (e["assignment_id"].as_str().unwrap().to_owned(), e["status"].as_str().unwrap().to_owned()))
        .collect();
    statuses.sort_unstable();
    let want = [
        ("failed", "error"),
        ("fine", "success"),
        ("gone", "cancelled"),
        ("ignored", "error"),
        ("own", "success"),
        ("slow", "timeout"),
    ];
    assert_eq!(statuses, want.map(|(id, status)| (id.to_owned(), status.to_owned())));
    let metrics = stage.worker.metrics().await;
    assert_eq!(metrics.sum("router_results_total", &[("disposition", "duplicate")]), 5.0);
    assert_eq!(metrics.sum("router_results_total", &[("disposition", "rejected")]), 6.0);
    let usage = |outcome| metrics.sum("router_usage_events_total", &[("outcome", outcome)]);
    assert_eq!((usage("published"), usage("skipped")), (6.0, 11.0));
}

#[tokio::test]
async fn a_worker_told_not_to_meter_leaves_it_to_others() {
    let stage = Stage::with(|l| l.flag("--usage-metering", "off")).await;
    stage.caller.put_policy("acme", &policy(&["a"], json!({"enabled": true}))).await;
    let last = stage.caller.result(&result("acme", "a", "n-1", "success")).await;
    stage.worker.applied(last).await;
    assert!(stage.caller.log().await.consumer_names().next().await.is_some(), "the reader reads");
    assert!(metered(&stage.caller).await.is_empty());
    // One that comes later meters from the beginning.
    let _other = Worker::start(&stage.broker, |l| l).await;
    eventually("it is metered", SOON, async || metered(&stage.caller).await.len() == 1).await;
}

#[tokio::test]
async fn a_worker_that_begins_later_meters_by_what_the_fold_said_then() {
    let stage = Stage::with(|l| l.flag("--usage-metering", "off").flag("--snapshot-every", 100)).await;
    let caller = &stage.caller;
    // No policy names the provider yet: they are rejected.
    let ids = |what: &'static str| (0..20).map(move |n| format!("{what}-{n}"));
    for id in ids("early") {
        caller.result(&result("acme", "a", &id, "success")).await;
    }
    caller.put_policy("acme", &policy(&["a"], json!({"enabled": true}))).await;
    let mut last = 0;
    // Each of them twice.
    for id in (0..150).map(|n| format!("n-{n}")) {
        for _ in 0..2 {
            last = caller.result(&result("acme", "a", &id, "success")).await;
        }
    }
    stage.worker.applied(last).await;
    let stored = async || {
        stage.worker.metrics().await.sum("router_log_snapshots_total", &[("outcome", "stored")]) >= 3.0
    };
    eventually("snapshots are stored", SOON, stored).await;
    let second = Worker::start(&stage.broker, |l| l.flag("--snapshot-every", 100)).await;
    settled(caller).await;
    let events = metered(caller).await;
    let early = events.iter().filter(|e| e["assignment_id"].as_str().unwrap().starts_with("early"));
    assert_eq!((early.count(), events.len()), (0, 150), "what the fold rejected is not metered");
    let metrics = second.metrics().await;
    let usage = |outcome| metrics.sum("router_usage_events_total", &[("outcome", outcome)]);
    assert_eq!((usage("published"), usage("skipped")), (150.0, 170.0));
    assert_eq!(metrics.sum("router_usage_unjudged_total", &[]), 0.0);
}

#[tokio::test]
async fn a_usage_stream_that_refuses_new_events_holds_the_metering_back_until_there_is_room() {
    let stage = Stage::with(|l| l.flag("--reconcile-interval-ms", 500)).await;
    let caller = &stage.caller;
    caller.put_policy("acme", &policy(&["a"], json!({"enabled": true}))).await;
    let mut usage = caller.jetstream.get_stream("BEAMLINE_USAGE").await.unwrap();
    let mut config = usage.cached_info().config.clone();
    (config.discard, config.max_bytes) = (DiscardPolicy::New, 16 << 10);
    caller.jetstream.update_stream(&config).await.unwrap();
    for n in 0..100 {
        caller.result(&result("acme", "a", &format!("n-{n}"), "success")).await;
    }
    stage.worker.says("full: BEAMLINE_USAGE").await;
    assert!(usage.info().await.unwrap().state.messages < 100, "it has no room for all");
    assert!(!stage.worker.events("usage_not_published").is_empty());
    assert_eq!(caller.decided(&request("acme", "r-1")).await["provider_id"], "a", "it goes on deciding");

    config.max_bytes = 1 << 20;
    caller.jetstream.update_stream(&config).await.unwrap();
    stage.worker.recovers().await;
    settled(caller).await;
    let events = metered(caller).await;
    let ids: std::collections::BTreeSet<_> = events.iter().map(|e| e["assignment_id"].to_string()).collect();
    assert_eq!((events.len(), ids.len()), (100, 100), "each once");
}

#[tokio::test]
async fn a_usage_stream_that_keeps_events_for_too_short_a_time_shows_until_it_keeps_them_for_longer() {
    let limits = |l: Launch| l.flag("--usage-max-bytes", "1MiB").flag("--usage-max-age", "3h");
    let stage =
        Stage::with(|l| limits(l).flag("--reconcile-interval-ms", 100).flag("--usage-min-retention", "2h"))
            .await;
    let caller = &stage.caller;
    caller.put_policy("acme", &policy(&["a"], json!({"enabled": true}))).await;
    let covered = async || stage.worker.metrics().await.value("router_usage_retention_seconds", &[]);
    assert!(covered().await.is_some_and(f64::is_nan), "not measured yet");
    let publishing = Publishing::start(caller, 100, |n| result("acme", "a", &format!("n-{n}"), "success"));
    eventually("it is logged", 4 * SOON, async || !stage.worker.events("usage_retention_low").is_empty())
        .await;
    let line = &stage.worker.events("usage_retention_low")[0];
    assert_eq!(line["wanted_s"], 7_200, "{line}");
    assert!(line["covered_s"].as_f64().is_some_and(|s| s < 7_200.0), "{line}");
    assert!(covered().await.is_some_and(|s| s < 7_200.0));
    assert_eq!(stage.worker.metrics().await.value("router_usage_min_retention_seconds", &[]), Some(7_200.0));
    publishing.stop().await;
    // Nothing comes any more, and the age alone bounds it.
    let recovered = async || !stage.worker.events("usage_retention_recovered").is_empty();
    eventually("it recovers", 4 * SOON, recovered).await;
    eventually("the age alone bounds it", SOON, async || covered().await == Some(10_800.0)).await;
}

#[tokio::test]
async fn limits_are_those_of_the_settings_and_what_stands_is_left_and_reported_once() {
    let stage = Stage::with(|l| {
        let usage = l.flag("--usage-max-age", "3h").flag("--usage-max-bytes", "2MiB");
        usage.flag("--events-max-age", "4h").flag("--events-max-bytes", "3MiB")
    })
    .await;
    let limits = async |stream| {
        let config = stage.caller.jetstream.get_stream(stream).await.unwrap().cached_info().config.clone();
        (config.max_age.as_secs(), config.max_bytes)
    };
    assert_eq!(limits("BEAMLINE_USAGE").await, (10_800, 2 << 20));
    assert_eq!(limits("BEAMLINE_EVENTS").await, (14_400, 3 << 20));
    let second = Worker::start(&stage.broker, |l| {
        l.flag("--usage-max-age", "3h").flag("--events-max-age", "4h").flag("--reconcile-interval-ms", 100)
    })
    .await;
    let said = || second.events("stream_limit_differs");
    eventually("both differences are logged", SOON, async || said().len() >= 2).await;
    // Once: thirty looks later there are no more.
    eventually("it has looked thirty times", SOON, async || {
        let covered = second.metrics().await.value("router_usage_retention_seconds", &[]);
        covered.is_some_and(|s| !s.is_nan())
    })
    .await;
    let mut lines: Vec<_> = said().iter().map(|l| format!("{} {}", l["stream"], l["limit"])).collect();
    lines.sort_unstable();
    assert_eq!(lines, [r#""BEAMLINE_EVENTS" "max_bytes""#, r#""BEAMLINE_USAGE" "max_bytes""#]);
    assert_eq!(limits("BEAMLINE_USAGE").await, (10_800, 2 << 20), "it is left as it is");
    assert!(stage.worker.events("stream_limit_differs").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_result_is_metered_once_though_one_worker_is_killed_and_another_stands_still() {
    let broker = Broker::start().await;
    let (mut first, second) = (Worker::start(&broker, |l| l).await, Worker::start(&broker, |l| l).await);
    let caller = Caller::connect(&broker).await;
    let tenants = ["acme", "umbra", "zeta"];
    for tenant in tenants {
        caller.put_policy(tenant, &policy(&["a", "b"], json!({"enabled": true}))).await;
    }
    // Every third result is published twice, and every fifth makes no sense.
    let make = move |n: u64| {
        let id = format!("n-{}", if n % 3 == 2 { n - 1 } else { n });
        let provider = if n % 5 == 4 { "nobody" } else { "a" };
        let tenant = tenants[(n / 15) as usize % 3];
        result(tenant, provider, &id, ["success", "error", "timeout"][n as usize / 3 % 3])
    };
    let publishing = Publishing::start(&caller, 600, make);
    publishing.reaches(600).await;
    let sent = async |worker: &Worker| {
        worker.metrics().await.sum("router_usage_events_total", &[("outcome", "published")])
    };
    eventually("both meter", SOON, async || sent(&first).await > 0.0 && sent(&second).await > 0.0).await;
    first.kill();
    publishing.goes_on(600).await;
    let third = Worker::start(&broker, |l| l).await;
    publishing.goes_on(600).await;
    second.pause();
    publishing.goes_on(600).await;
    let published = publishing.stop().await;
    // What the dead and the paused one held is delivered to the other.
    settled(&caller).await;
    second.resume();
    second.applied(published.last).await;
    // And with a consumer that is made again.
    caller.log().await.delete_consumer("usage").await.unwrap();
    let after = result("acme", "a", "n-after", "success");
    caller.result(&after).await;
    eventually("metering goes on", RECOVERY, async || {
        metered(&caller).await.iter().any(|event| event["assignment_id"] == "n-after")
    })
    .await;
    settled(&caller).await;
    drop(third);

    let mut want = BTreeMap::from([("n-after".to_owned(), after)]);
    for n in 0..published.results {
        let body = make(n);
        if body["provider_id"] == "a" {
            // The first of two copies is the one that is judged.
            want.entry(body["assignment_id"].as_str().unwrap().to_owned()).or_insert(body);
        }
    }
    let events = metered(&caller).await;
    let mut have = BTreeMap::new();
    for event in &events {
        let id = event["assignment_id"].as_str().unwrap().to_owned();
        assert!(have.insert(id.clone(), event).is_none(), "{id} is metered twice");
    }
    assert!(want.keys().eq(have.keys()), "metered {} of {}", have.len(), want.len());
    for (id, body) in &want {
        for field in ["tenant_id", "provider_id", "request_id"] {
            assert_eq!(body[field], have[id][field], "{id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stood_still_meters_nothing_that_another_one_has_metered_meanwhile() {
    let broker = Broker::start().await;
    let caller = Caller::connect(&broker).await;
    // The router's own knows ids for five minutes, and whoever stands still for longer publishes copies that it takes.
    let forgetful = stream::Config {
        name: "BEAMLINE_USAGE".to_owned(),
        subjects: vec!["beamline.usage.v1.metered".to_owned()],
        duplicate_window: Duration::from_millis(100),
        ..Default::default()
    };
    caller.jetstream.create_stream(forgetful).await.unwrap();
    let still = Worker::start(&broker, |l| l).await;
    caller.put_policy("acme", &policy(&["a"], json!({"enabled": true}))).await;
    still.applied(caller.log_end().await).await;
    still.pause();
    // The request for results of the one that stands still comes first, so they are delivered to it.
    let _other = Worker::start(&broker, |l| l).await;
    for n in 0..300 {
        caller.result(&result("acme", "a", &format!("n-{n}"), "success")).await;
    }
    // What was delivered to the one that stands still is delivered again.
    settled(&caller).await;
    assert_eq!(metered(&caller).await.len(), 300);
    let sent = async || still.metrics().await.sum("router_usage_events_total", &[("outcome", "published")]);
    still.resume();
    let (before, mut more) = (sent().await, 0);
    eventually("it meters again", RECOVERY * 2, async || {
        caller.result(&result("acme", "a", &format!("more-{more}"), "success")).await;
        more += 1;
        sent().await > before
    })
    .await;
    settled(&caller).await;
    let mut count = BTreeMap::<String, usize>::new();
    for event in metered(&caller).await {
        *count.entry(event["assignment_id"].to_string()).or_default() += 1;
    }
    let twice: Vec<_> = count.iter().filter(|(_, times)| **times > 1).collect();
    assert_eq!(count.len(), 300 + more);
    assert!(twice.is_empty(), "metered twice: {twice:?}");
}
