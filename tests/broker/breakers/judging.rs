//! Which results count, and what a worker knows of them after a restart.

use beamline_router::wire::proto;
use prost::Message as _;
use serde_json::{Value, json};

use super::{patient, with};
use crate::support::{Worker, request};

#[tokio::test]
async fn each_result_is_judged_once_and_only_if_it_makes_sense() {
    let stage = with(json!({"failure_threshold": 100, "ignored_error_codes": ["bad_prompt"]})).await;
    let base = json!({"request_id": "r-1", "status": "error", "provider_id": "a", "tenant_id": "acme", "latency_ms": 5});
    let but = |changes: Value| {
        let mut body = base.clone();
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        body
    };
    let protobuf = proto::ExecResult {
        status: "error".to_owned(),
        provider_id: "a".to_owned(),
        tenant_id: "acme".to_owned(),
        request_id: "r-p".to_owned(),
        ..proto::ExecResult::default()
    };
    let mut last = 0;
    for (subject, body) in [
        // Judged: two.
        ("", but(json!({"assignment_id": "as-1"}))),
        ("", base.clone()),
        // Copies: of the assignment whatever it says now, and of the body.
        ("", but(json!({"assignment_id": "as-1", "status": "success", "latency_ms": 7}))),
        ("", base.clone()),
        // In the tenant's subject: judged, two.
        (".acme", but(json!({"request_id": "r-2"}))),
        (".acme", but(json!({"request_id": "r-3", "tenant_id": null}))),
        // Ignored: two.
        ("", but(json!({"request_id": "r-4", "status": "cancelled"}))),
        ("", but(json!({"request_id": "r-5", "error_code": "bad_prompt"}))),
        // Rejected: nine.
        (".other", but(json!({"request_id": "r-6"}))),
        ("", but(json!({"request_id": "r-7", "status": "great"}))),
        ("", but(json!({"request_id": "r-8", "latency_ms": -1}))),
        ("", but(json!({"request_id": "r-9", "latency_ms": 1e12}))),
        ("", but(json!({"request_id": "r-10", "latency_ms": "5"}))),
        ("", but(json!({"request_id": "r-11", "tenant_id": "nobody"}))),
        ("", but(json!({"request_id": "r-12", "provider_id": "nobody"}))),
        ("", but(json!({"request_id": "r-13", "tenant_id": null}))),
        ("", but(json!({"request_id": "r-14", "status": null}))),
    ] {
        last = stage.caller.result_on(&format!("caf.exec.result.v1{subject}"), &body).await;
    }
    // Judged: one more.
    let publish =
        stage.caller.jetstream.publish("caf.exec.result.v1", protobuf.encode_to_vec().into()).await.unwrap();
    last = last.max(publish.await.unwrap().sequence);
    stage.worker.applied(last).await;
    let metrics = stage.worker.metrics().await;
    for (disposition, count) in
        [("applied", 5.0), ("duplicate", 2.0), ("ignored", 2.0), ("rejected", 9.0), ("late", 0.0)]
    {
        assert_eq!(
            metrics.sum("router_results_total", &[("disposition", disposition)]),
            count,
            "{disposition}"
        );
    }
    let breaker = stage.caller.breaker("acme", "a").await;
    assert_eq!((&breaker["failure_count"], &breaker["window_requests"]), (&json!(5), &json!(5)));
}

#[tokio::test]
async fn a_call_that_began_before_the_last_transition_is_late() {
    let stage = with(json!({"failure_threshold": 2})).await;
    stage.fail("acme", "a", 1).await;
    stage.caller.command("breaker.reset", &json!({"tenant_id": "acme", "provider_id": "a"})).await;
    for n in 0..3 {
        let result = json!({
            "request_id": format!("r-{n}"), "status": "error", "provider_id": "a", "tenant_id": "acme",
            "latency_ms": 30_000
        });
        let position = stage.caller.result(&result).await;
        stage.worker.applied(position).await;
    }
    stage.state_is("acme", "a", "closed").await;
    let metrics = stage.worker.metrics().await;
    assert_eq!(metrics.sum("router_results_total", &[("disposition", "late")]), 3.0);
}

#[tokio::test]
async fn a_worker_that_restarts_knows_what_was_and_counts_it_not_again() {
    let mut stage = with(json!({"failure_threshold": 3, "timeout_ms": 60000})).await;
    stage.fail("acme", "a", 3).await;
    let before = stage.caller.breaker("acme", "a").await;
    stage.worker.kill();
    stage.worker = Worker::start(&stage.broker, patient).await;
    let after = stage.caller.breaker("acme", "a").await;
    for field in ["state", "since", "failure_count", "window_requests", "trips"] {
        assert_eq!(before[field], after[field], "{field}");
    }
    assert_eq!(stage.caller.decide(&request("acme", "r")).await["error"]["code"], "circuit_open");
    let metrics = stage.worker.metrics().await;
    assert_eq!(metrics.sum("router_circuit_breaker_events_total", &[("event_type", "failure")]), 0.0);
    assert_eq!(metrics.sum("router_results_total", &[]), 0.0);
    assert_eq!(stage.worker.events("circuit_breaker_opened").len(), 0);
}
