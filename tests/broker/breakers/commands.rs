//! What operators do to breakers, and see of them.

use std::time::Duration;

use serde_json::{Value, json};

use super::{ask_many, patient, policy, probes, with};
use crate::support::{SOON, Stage, Worker, eventually, request};

#[tokio::test]
async fn a_forced_breaker_moves_only_by_force() {
    let mut stage = with(json!({"failure_threshold": 2, "timeout_ms": 60000})).await;
    let second = Worker::start(&stage.broker, patient).await;
    let force = async |stage: &Stage, state: &str, ttl: Option<u64>| {
        let body = json!({"tenant_id": "acme", "provider_id": "a", "state": state, "ttl_seconds": ttl, "reason": "x"});
        stage.caller.command("breaker.force", &body).await["breaker"].clone()
    };
    let breaker = force(&stage, "open", None).await;
    assert_eq!((&breaker["state"], breaker["forced"].is_null()), (&json!("open"), false), "{breaker}");
    let end = stage.caller.log_end().await;
    second.applied(end).await;
    assert!(probes(&ask_many(&stage, 20).await).is_empty(), "on both workers");
    stage.results("acme", "a", "success", 3).await;
    stage.caller.command("breaker.reset", &json!({"tenant_id": "acme", "provider_id": "a"})).await;
    stage.state_is("acme", "a", "open").await;
    // It outlives restarts.
    assert_eq!(stage.worker.stop().await, 0);
    drop(second);
    stage.worker = Worker::start(&stage.broker, patient).await;
    stage.state_is("acme", "a", "open").await;
    assert!(probes(&ask_many(&stage, 5).await).is_empty());

    force(&stage, "closed", None).await;
    stage.fail("acme", "a", 5).await;
    stage.state_is("acme", "a", "closed").await;
    stage.caller.decided(&request("acme", "r")).await;
    let breaker = force(&stage, "auto", None).await;
    assert_eq!((&breaker["state"], &breaker["forced"]), (&json!("closed"), &Value::Null));
    assert_eq!(breaker["failure_count"], 0, "after forced closed: closed and empty");
    stage.fail("acme", "a", 2).await;
    stage.state_is("acme", "a", "open").await;

    // Forced open for a second, then half-open by the first request.
    force(&stage, "open", Some(1)).await;
    assert!(probes(&ask_many(&stage, 5).await).is_empty());
    eventually("a probe passes after the ttl", SOON, async || !probes(&ask_many(&stage, 1).await).is_empty())
        .await;
    stage.state_is("acme", "a", "half_open").await;
    let breaker =
        stage.caller.command("breaker.reset", &json!({"tenant_id": "acme", "provider_id": "a"})).await;
    let breaker = &breaker["breaker"];
    assert_eq!((&breaker["state"], &breaker["failure_count"]), (&json!("closed"), &json!(0)));
    let unknown = json!({"tenant_id": "acme", "provider_id": "nobody", "state": "open"});
    for verb in ["breaker.force", "breaker.reset", "breaker.get"] {
        let mut body = unknown.clone();
        if verb != "breaker.force" {
            body.as_object_mut().unwrap().remove("state");
        }
        assert_eq!(stage.caller.control(verb, &body).await["error"]["code"], "not_found", "{verb}");
    }
}

#[tokio::test]
async fn breakers_are_listed_by_tenant_provider_and_state() {
    let stage = with(json!({"failure_threshold": 1, "timeout_ms": 60000})).await;
    let mut two = policy(json!({"failure_threshold": 1, "timeout_ms": 60000}));
    two["providers"] = json!([{"name": "a", "weight": 50}, {"name": "b", "weight": 50}]);
    stage.caller.put_policy("other", &two).await;
    stage.fail("other", "a", 1).await;
    let list = async |filter: Value| {
        let answer = stage.caller.command("breaker.list", &filter).await;
        let told = answer["breakers"].as_array().unwrap().iter();
        told.map(|b| format!("{}/{}", b["tenant_id"].as_str().unwrap(), b["provider_id"].as_str().unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(list(json!({})).await, ["acme/a", "other/a", "other/b"]);
    assert_eq!(list(json!({"tenant_id": "other"})).await, ["other/a", "other/b"]);
    assert_eq!(list(json!({"provider_id": "a"})).await, ["acme/a", "other/a"]);
    assert_eq!(list(json!({"state": "open"})).await, ["other/a"]);
    assert_eq!(list(json!({"state": "closed", "provider_id": "a"})).await, ["acme/a"]);
    let breaker = stage.caller.breaker("other", "a").await;
    for field in [
        "state",
        "since",
        "failure_count",
        "success_count",
        "error_rate",
        "window_requests",
        "window_failures",
        "half_open_in_flight",
        "timeout_remaining_ms",
        "trips",
        "forced",
        "settings",
        "policy_id",
    ] {
        assert!(breaker.get(field).is_some(), "{field}");
    }
    let age = Duration::from_millis(breaker["timeout_remaining_ms"].as_u64().unwrap());
    assert!(age <= Duration::from_secs(60));
}
