//! Breakers that refuse nobody, or a share.

use serde_json::json;

use super::{ask_many, ended, with};
use crate::support::{SOON, eventually, request};

#[tokio::test]
async fn in_shadow_all_is_tracked_and_nothing_refused() {
    let stage = with(json!({"failure_threshold": 2, "enforce_percent": 0, "timeout_ms": 60000})).await;
    stage.fail("acme", "a", 2).await;
    stage.state_is("acme", "a", "open").await;
    for (_, answer) in ask_many(&stage, 20).await {
        assert_eq!(answer["decision"]["provider_id"], "a", "{answer}");
        assert_eq!(answer["decision"]["reason"], "weighted");
    }
    let mut asked = request("acme", "r");
    asked["explain"] = json!(true);
    let told = stage.caller.decided(&asked).await["explanation"]["steps"][0].clone();
    assert_eq!((&told["result"], &told["state"]), (&json!("would_reject"), &json!("open")));
    let metrics = stage.worker.metrics().await;
    let events = |kind| metrics.sum("router_circuit_breaker_events_total", &[("event_type", kind)]);
    assert_eq!((events("would_reject"), events("fail_fast")), (21.0, 0.0));
}

#[tokio::test]
async fn in_shadow_a_breaker_recovers_like_any_other() {
    let stage = with(json!({"failure_threshold": 2, "enforce_percent": 0, "success_threshold": 2})).await;
    stage.fail("acme", "a", 2).await;
    stage.state_is("acme", "a", "open").await;
    // Nobody waits for a claim, and the results of those that got a slot judge.
    let mut claimed = 0;
    eventually("it closes", SOON, async || {
        let id = uuid::Uuid::new_v4().to_string();
        let mut asked = request("acme", &id);
        asked["explain"] = json!(true);
        let step = stage.caller.decided(&asked).await["explanation"]["steps"][0].clone();
        if step["result"] == "allowed" {
            assert_eq!(step["context"]["reason"], "not_enforced", "{step}");
            claimed += 1;
        }
        eventually("its claim is in the log", SOON, async || {
            let breaker = stage.caller.breaker("acme", "a").await;
            breaker["state"] != "half_open" || breaker["half_open_in_flight"] == 1
        })
        .await;
        ended(&stage, &id, "success").await;
        stage.caller.breaker("acme", "a").await["state"] == "closed"
    })
    .await;
    assert!(claimed >= 2, "it took two probes");
    let metrics = stage.worker.metrics().await;
    assert_eq!(metrics.sum("router_circuit_breaker_state_transitions_total", &[]), 3.0);
    assert_eq!(metrics.sum("router_circuit_breaker_events_total", &[("event_type", "fail_fast")]), 0.0);
}

#[tokio::test]
async fn a_share_of_requests_is_enforced_by_their_id() {
    let stage = with(json!({"failure_threshold": 1, "enforce_percent": 50, "timeout_ms": 60000})).await;
    stage.fail("acme", "a", 1).await;
    let mut refused = Vec::new();
    for round in 0..2 {
        for n in 0..200 {
            let answer = stage.caller.decide(&request("acme", &format!("r-{n}"))).await;
            if round == 0 {
                refused.push(answer["ok"] == false);
            } else {
                assert_eq!(refused[n], answer["ok"] == false, "the same request, the same share");
            }
        }
    }
    let count = refused.iter().filter(|r| **r).count();
    assert!((70..=130).contains(&count), "{count} of 200");
}
