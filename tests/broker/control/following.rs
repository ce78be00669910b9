//! Who learns of a change, and when.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{paths, to};
use crate::support::{SOON, Stage, Worker, eventually, request};

#[tokio::test]
async fn a_plain_publish_does_the_same_and_tells_of_it_on_the_events_subject() {
    let stage = Stage::start().await;
    let caller = &stage.caller;
    let mut events = caller.listen("beamline.router.v1.events.>").await;
    let publish = async |verb: &str, body: Value| {
        let subject = format!("beamline.router.control.v1.{verb}");
        caller.client.publish(subject, body.to_string().into()).await.unwrap();
    };
    publish("policy.put", json!({"tenant_id": "a.b", "policy": to("a"), "actor": "me"})).await;
    let event = events.next().await;
    assert_eq!(event.subject.as_str(), "beamline.router.v1.events.policy.a%2Eb");
    let body: Value = serde_json::from_slice(&event.payload).unwrap();
    assert_eq!((&body["tenant_id"], &body["change"]), (&json!("a.b"), &json!("put")));
    assert_eq!((&body["policy_id"], &body["actor"]), (&json!("default"), &json!("me")));
    assert_eq!(caller.decided(&request("a.b", "r")).await["policy_revision"], body["revision"]);

    let bad = json!({"tenant_id": "acme", "policy": {"policy_id": "default", "providers": []}});
    publish("policy.put", bad.clone()).await;
    let event = events.next().await;
    assert_eq!(event.subject.as_str(), "beamline.router.v1.events.control_rejected.acme");
    let body: Value = serde_json::from_slice(&event.payload).unwrap();
    assert_eq!(body["error"]["code"], "invalid_request");
    assert_eq!(paths(&body["error"]["details"]["faults"]), BTreeSet::from(["/providers"]));
    publish("no.such.verb", json!({})).await;
    let event = events.next().await;
    assert!(event.subject.starts_with("beamline.router.v1.events.control_rejected."), "{}", event.subject);
    let body: Value = serde_json::from_slice(&event.payload).unwrap();
    assert_eq!(body["error"]["code"], "not_found");
    // Who waits for an answer has it; no event.
    caller.control("policy.put", &json!({"tenant_id": "acme", "policy": {}})).await;
    assert_eq!(events.come().await.len(), 0);
    // The stream of events keeps them for those who come later, each once.
    let mut stream = caller.jetstream.get_stream("BEAMLINE_EVENTS").await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 3);
}

#[tokio::test]
async fn the_worker_that_answers_decides_by_a_change_at_once() {
    let stage = Stage::start().await;
    for n in 0..30 {
        let provider = format!("p-{n}");
        let revision = stage.caller.put_policy("acme", &to(&provider)).await;
        let decision = stage.caller.decided(&request("acme", "r")).await;
        assert_eq!(
            (&decision["provider_id"], &decision["policy_revision"]),
            (&json!(provider), &json!(revision))
        );
    }
}

#[tokio::test]
async fn a_result_published_after_the_answer_is_judged_under_it() {
    let stage = Stage::start().await;
    let mut last = 0;
    for n in 0..20 {
        let provider = format!("p-{n}");
        stage.caller.put_policy("acme", &to(&provider)).await;
        let result = json!({
            "request_id": "r", "status": "error", "provider_id": provider, "tenant_id": "acme", "latency_ms": 0
        });
        last = stage.caller.result(&result).await;
    }
    stage.worker.applied(last).await;
    let metrics = stage.worker.metrics().await;
    assert_eq!(metrics.sum("router_results_total", &[("disposition", "applied")]), 20.0);
}

#[tokio::test]
async fn every_worker_decides_by_a_change_within_a_second() {
    let stage = Stage::start().await;
    let workers = [Worker::start(&stage.broker, |l| l).await, Worker::start(&stage.broker, |l| l).await];
    let decided = async || {
        let mut sums = Vec::new();
        for worker in workers.iter().chain([&stage.worker]) {
            sums.push(worker.metrics().await.sum("router_decisions_total", &[]));
        }
        sums
    };
    let before = decided().await;
    let mut slowest = Duration::ZERO;
    for n in 0..10 {
        let provider = format!("p-{n}");
        stage.caller.put_policy("acme", &to(&provider)).await;
        let put = Instant::now();
        let mut in_a_row = 0;
        while in_a_row < 30 {
            let answer = stage.caller.decide(&request("acme", &format!("r-{n}"))).await;
            if answer["decision"]["provider_id"] == provider.as_str() {
                in_a_row += 1;
            } else {
                assert!(put.elapsed() < Duration::from_secs(1), "{answer} after {:?}", put.elapsed());
                in_a_row = 0;
                slowest = slowest.max(put.elapsed());
            }
        }
    }
    for (before, after) in before.into_iter().zip(decided().await) {
        assert!(after - before > 30.0, "every worker took its share: {before} to {after}");
    }
    assert!(slowest < Duration::from_secs(1));
}

#[tokio::test]
async fn an_edit_of_the_bucket_itself_is_followed_and_a_bad_one_is_not() {
    let settings = |l: crate::support::Launch| l.flag("--reconcile-interval-ms", 200);
    let stage = Stage::with(settings).await;
    let second = Worker::start(&stage.broker, settings).await;
    let caller = &stage.caller;
    let bucket = caller.policies().await;
    let decides = async |provider: &str, revision: u64| {
        let mut in_a_row = 0;
        eventually(&format!("both workers decide for {provider}"), SOON, async || {
            let answer = caller.decide(&request("acme", "r")).await;
            let decision = &answer["decision"];
            let same = decision["provider_id"] == provider && decision["policy_revision"] == revision;
            in_a_row = if same { in_a_row + 1 } else { 0 };
            in_a_row == 20
        })
        .await;
    };
    let put = async |text: &str| bucket.put("acme.default", text.to_owned().into()).await.unwrap();
    let revision = put(&to("a").to_string()).await;
    decides("a", revision).await;
    let pretty = format!("{:#}\n", to("b"));
    let revision = put(&pretty).await;
    decides("b", revision).await;

    let other_id = json!({"policy_id": "other", "providers": [{"name": "c", "weight": 1}]}).to_string();
    for bad in ["", "no JSON", "[]", "{\"policy_id\": \"default\", \"providers\": []}", other_id.as_str()] {
        let bad_revision = put(bad).await;
        for worker in [&stage.worker, &second] {
            eventually("the refusal is logged", SOON, async || {
                worker.logs().iter().any(|l| l["revision"] == bad_revision && l["level"] == "ERROR")
            })
            .await;
        }
        // What was in force stays so, and is put back.
        decides("b", bad_revision + 1).await;
    }
    let revision = put(&to("d").to_string()).await;
    decides("d", revision).await;
    bucket.delete("acme.default").await.unwrap();
    eventually("it is gone on both", SOON, async || {
        for worker in [&stage.worker, &second] {
            if worker.metrics().await.value("router_policies", &[]) != Some(0.0) {
                return false;
            }
        }
        caller.decide(&request("acme", "r")).await["error"]["code"] == "policy_not_found"
    })
    .await;
}

#[tokio::test]
async fn a_reader_that_restarts_finds_every_policy() {
    let mut stage = Stage::start().await;
    for n in 0..5 {
        stage.caller.put_policy(&format!("t-{n}"), &to(&format!("p-{n}"))).await;
    }
    stage.caller.command("policy.delete", &json!({"tenant_id": "t-4", "policy_id": "default"})).await;
    assert_eq!(stage.worker.stop().await, 0);
    stage.worker = Worker::start(&stage.broker, |l| l).await;
    for n in 0..4 {
        let tenant = format!("t-{n}");
        assert_eq!(stage.caller.decided(&request(&tenant, "r")).await["provider_id"], format!("p-{n}"));
    }
    assert_eq!(stage.caller.decide(&request("t-4", "r")).await["error"]["code"], "policy_not_found");
    assert_eq!(stage.worker.metrics().await.value("router_policies", &[]), Some(4.0));
}
