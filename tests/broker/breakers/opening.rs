//! What opens a breaker, and what an open one refuses.

use serde_json::json;

use super::{ask_many, policy, probes, with};
use crate::support::{Stage, request};

#[tokio::test]
async fn failures_in_a_row_open_and_the_row_ends_with_a_success() {
    let stage = with(json!({"failure_threshold": 5, "timeout_ms": 60000})).await;
    let mut events = stage.caller.listen("beamline.router.v1.events.breaker.acme.a").await;
    stage.fail("acme", "a", 4).await;
    stage.results("acme", "a", "success", 1).await;
    stage.fail("acme", "a", 4).await;
    stage.state_is("acme", "a", "closed").await;
    assert_eq!(stage.caller.breaker("acme", "a").await["failure_count"], 4);
    assert_eq!(stage.caller.decided(&request("acme", "r")).await["provider_id"], "a");
    stage.fail("acme", "a", 1).await;
    let breaker = stage.caller.breaker("acme", "a").await;
    assert_eq!((&breaker["state"], &breaker["trips"]), (&json!("open"), &json!(1)));
    assert!(
        breaker["timeout_remaining_ms"].as_u64().is_some_and(|ms| (50_000..=60_000).contains(&ms)),
        "{breaker}"
    );
    assert!(probes(&ask_many(&stage, 20).await).is_empty());

    let event = events.next_json().await;
    assert_eq!((&event["from"], &event["to"]), (&json!("closed"), &json!("open")));
    assert_eq!(event["reason"], "failure_threshold_exceeded");
    assert_eq!((&event["tenant_id"], &event["provider_id"]), (&json!("acme"), &json!("a")));
    let lines = stage.worker.events("circuit_breaker_opened");
    assert_eq!(lines.len(), 1);
    for (field, value) in [
        ("level", json!("WARN")),
        ("tenant_id", json!("acme")),
        ("provider_id", json!("a")),
        ("policy_id", json!("default")),
        ("reason", json!("failure_threshold_exceeded")),
        ("failure_count", json!(5)),
    ] {
        assert_eq!(lines[0][field], value, "{field}");
    }
    assert!(lines[0]["error_rate"].is_number());
    let fail_fast = stage.worker.events("circuit_breaker_fail_fast");
    assert!((1..20).contains(&fail_fast.len()), "rate limited: {}", fail_fast.len());

    let metrics = stage.worker.metrics().await;
    let of = |name: &str, labels: &[(&str, &str)]| {
        let mut all = vec![("tenant_id", "acme"), ("provider_id", "a")];
        all.extend(labels);
        metrics.value(&format!("router_circuit_breaker_{name}"), &all)
    };
    assert_eq!(of("events_total", &[("event_type", "failure")]), Some(9.0));
    assert_eq!(of("events_total", &[("event_type", "success")]), Some(1.0));
    assert_eq!(of("events_total", &[("event_type", "fail_fast")]), Some(20.0));
    assert_eq!(
        of("state_transitions_total", &[("from", "closed"), ("to", "open"), ("state", "open")]),
        Some(1.0)
    );
    assert_eq!(of("trigger_reason_total", &[("reason", "failure_threshold_exceeded")]), Some(1.0));
    for (state, value) in [("closed", 0.0), ("open", 1.0), ("half_open", 0.0)] {
        assert_eq!(of("state", &[("state", state)]), Some(value), "{state}");
    }
    assert!(of("timeout_remaining_seconds", &[]).is_some_and(|s| s > 50.0 && s <= 60.0));
    assert!(of("last_transition_timestamp_seconds", &[]).is_some_and(|s| s > 1.7e9));
    // Nine of ten had failed when it opened, so of twenty refused about eighteen would have.
    assert!(of("requests_saved_total", &[]).is_some_and(|saved| (17.0..=20.0).contains(&saved)));
}

#[tokio::test]
async fn an_open_provider_falls_back_by_rule_then_by_weight() {
    let stage = Stage::start().await;
    let breaker = json!({"enabled": true, "failure_threshold": 2, "timeout_ms": 60000});
    let providers = json!([{"name": "a", "weight": 100}, {"name": "b", "weight": 0}]);
    let by_rule = json!({
        "policy_id": "default", "providers": providers, "circuit_breaker": breaker,
        "fallbacks": [{"when": {"status": ["timeout"]}, "to": "never"},
                      {"when": {"status": ["circuit_breaker_open"]}, "to": "local"}]
    });
    let by_weight = json!({
        "policy_id": "weights", "circuit_breaker": breaker,
        "providers": [{"name": "a", "weight": 50}, {"name": "b", "weight": 50}]
    });
    stage.caller.put_policy("acme", &by_rule).await;
    stage.caller.put_policy("acme", &by_weight).await;
    stage.fail("acme", "a", 2).await;
    let decision = stage.caller.decided(&request("acme", "r-1")).await;
    assert_eq!(
        (&decision["provider_id"], &decision["reason"], &decision["priority"], &decision["fallback_used"]),
        (&json!("local"), &json!("circuit_breaker_fallback"), &json!(20), &json!(true))
    );
    let mut reasons = std::collections::BTreeSet::new();
    for n in 0..30 {
        let mut asked = request("acme", &format!("r-{n}"));
        asked["policy_id"] = json!("weights");
        let decision = stage.caller.decided(&asked).await;
        assert_eq!(decision["provider_id"], "b");
        reasons.insert(decision["reason"].as_str().unwrap().to_owned());
    }
    assert_eq!(reasons.into_iter().collect::<Vec<_>>(), ["circuit_breaker_fallback", "weighted"]);
    stage.fail("acme", "local", 2).await;
    let answer = stage.caller.decide(&request("acme", "r-1")).await;
    assert_eq!(answer["error"]["code"], "circuit_open", "{answer}");
    let mut told: Vec<_> = answer["error"]["details"]["providers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["provider_id"].as_str().unwrap())
        .collect();
    told.sort_unstable();
    assert_eq!(told, ["a", "local"]);
}

#[tokio::test]
async fn tenants_do_not_share_breakers_and_no_breaker_no_refusal() {
    let stage = Stage::start().await;
    for tenant in ["acme", "other"] {
        stage.caller.put_policy(tenant, &policy(json!({"failure_threshold": 2, "timeout_ms": 60000}))).await;
    }
    let mut off = policy(json!({"failure_threshold": 2}));
    off["circuit_breaker"]["enabled"] = json!(false);
    stage.caller.put_policy("off", &off).await;
    let absent = json!({"policy_id": "default", "providers": [{"name": "a", "weight": 100}]});
    stage.caller.put_policy("absent", &absent).await;
    for tenant in ["acme", "off", "absent"] {
        stage.fail(tenant, "a", 15).await;
    }
    assert_eq!(stage.caller.decide(&request("acme", "r")).await["error"]["code"], "circuit_open");
    for tenant in ["other", "off", "absent"] {
        assert_eq!(stage.caller.decided(&request(tenant, "r")).await["provider_id"], "a", "{tenant}");
    }
}

#[tokio::test]
async fn rates_judge_from_the_minimum_of_requests_on() {
    let stage =
        with(json!({"failure_threshold": 100, "minimum_requests": 10, "error_rate_threshold": 0.5})).await;
    stage.fail("acme", "a", 1).await;
    stage.results("acme", "a", "success", 4).await;
    stage.fail("acme", "a", 4).await;
    stage.state_is("acme", "a", "closed").await;
    stage.results("acme", "a", "timeout", 1).await;
    stage.state_is("acme", "a", "open").await;
    let metrics = stage.worker.metrics().await;
    let reason = [("reason", "error_rate_threshold_exceeded")];
    assert_eq!(metrics.sum("router_circuit_breaker_trigger_reason_total", &reason), 1.0);
}

#[tokio::test]
async fn slow_calls_open_too() {
    let stage =
        with(json!({"latency_threshold_ms": 100, "minimum_requests": 4, "slow_call_rate_threshold": 0.75}))
            .await;
    for (n, latency) in [50, 200, 200, 200].into_iter().enumerate() {
        stage.state_is("acme", "a", "closed").await;
        let result = json!({
            "request_id": format!("r-{n}"), "status": "success", "provider_id": "a", "tenant_id": "acme",
            "latency_ms": latency
        });
        let position = stage.caller.result(&result).await;
        stage.worker.applied(position).await;
    }
    stage.state_is("acme", "a", "open").await;
    let metrics = stage.worker.metrics().await;
    let reason = [("reason", "latency_threshold_exceeded")];
    assert_eq!(metrics.sum("router_circuit_breaker_trigger_reason_total", &reason), 1.0);
}

#[tokio::test]
async fn a_provider_that_asks_to_be_left_alone_is() {
    let stage = with(json!({"failure_threshold": 1, "max_timeout_ms": 40000})).await;
    for (hint, at_most) in [(20_000, 20_000), (3_600_000, 40_000)] {
        let result = json!({
            "request_id": format!("r-{hint}"), "status": "error", "provider_id": "a", "tenant_id": "acme",
            "retry_after_ms": hint
        });
        let position = stage.caller.result(&result).await;
        stage.worker.applied(position).await;
        let remaining = stage.caller.breaker("acme", "a").await["timeout_remaining_ms"].as_u64().unwrap();
        assert!((at_most - 5_000..=at_most).contains(&remaining), "{hint}: {remaining}");
        stage.caller.command("breaker.reset", &json!({"tenant_id": "acme", "provider_id": "a"})).await;
    }
}

#[tokio::test]
async fn a_new_revision_changes_settings_and_not_evidence() {
    let stage = with(json!({"failure_threshold": 5, "timeout_ms": 60000})).await;
    stage.fail("acme", "a", 4).await;
    stage.caller.put_policy("acme", &policy(json!({"failure_threshold": 6, "timeout_ms": 60000}))).await;
    assert_eq!(stage.caller.breaker("acme", "a").await["failure_count"], 4);
    stage.fail("acme", "a", 1).await;
    stage.state_is("acme", "a", "closed").await;
    stage.fail("acme", "a", 1).await;
    stage.state_is("acme", "a", "open").await;
    let opened = stage.caller.breaker("acme", "a").await["since"].clone();
    stage.caller.put_policy("acme", &policy(json!({"failure_threshold": 50, "timeout_ms": 60000}))).await;
    let breaker = stage.caller.breaker("acme", "a").await;
    assert_eq!((&breaker["state"], &breaker["since"]), (&json!("open"), &opened));
}
