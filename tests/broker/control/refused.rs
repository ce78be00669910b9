//! What is wrong is told, all of it, and changes nothing.

use std::collections::BTreeSet;

use async_nats::HeaderMap;
use serde_json::json;

use super::{paths, refusal, to};
use crate::support::{Stage, request};

#[tokio::test]
async fn every_fault_of_a_document_is_told_at_once_by_its_pointer() {
    let stage = Stage::start().await;
    let caller = &stage.caller;
    caller.put_policy("acme", &to("a")).await;
    let bad = json!({
        "policy_id": "default", "version": 7, "unknown": 1, "pre": [], "validators": [], "post": [],
        "rate_limit": {}, "health_check": {},
        "providers": [{"name": "a", "weight": 101}, {"name": "a", "weight": 1}, {"weight": 1}],
        "sticky": {"enabled": true},
        "fallbacks": [{"retry": -1}, {"to": "b", "backoff": {"strategy": "wild"}}],
        "circuit_breaker": {"enabled": "yes", "timeout_ms": 999, "a/b~c": 1, "max_timeout_ms": 5}
    });
    let want = BTreeSet::from([
        "/version",
        "/unknown",
        "/pre",
        "/validators",
        "/post",
        "/rate_limit",
        "/health_check",
        "/providers/0/weight",
        "/providers/1/name",
        "/providers/2/name",
        "/sticky/session_key",
        "/fallbacks/0/retry",
        "/fallbacks/0/to",
        "/fallbacks/1/backoff/strategy",
        "/circuit_breaker/enabled",
        "/circuit_breaker/timeout_ms",
        "/circuit_breaker/a~1b~0c",
        "/circuit_breaker/max_timeout_ms",
    ]);
    let told = caller.command("policy.validate", &json!({"policy": bad})).await;
    assert_eq!(paths(&told["faults"]), want);
    let answer = caller.control("policy.put", &json!({"tenant_id": "acme", "policy": bad})).await;
    let (code, details) = refusal(&answer);
    assert_eq!(code, "invalid_request");
    assert_eq!(details["faults"], told["faults"]);
    assert_eq!(caller.decided(&request("acme", "r")).await["provider_id"], "a", "what is running stays");

    let sound = caller.command("policy.validate", &json!({"policy": to("b")})).await;
    assert_eq!(sound["faults"], json!([]));
    assert!(sound["warnings"].is_array());
    assert_eq!(caller.decided(&request("acme", "r")).await["provider_id"], "a", "nothing is put");

    let only_breaker = json!({"policy_id": "default", "circuit_breaker": {"enabled": true}});
    let told = caller.command("policy.validate", &json!({"policy": only_breaker})).await;
    assert!(told["faults"].to_string().contains("policy.patch"), "{told}");
}

#[tokio::test]
async fn a_bad_control_request_names_its_field_and_changes_nothing() {
    let stage = Stage::start().await;
    let caller = &stage.caller;
    caller.put_policy("acme", &to("a")).await;
    for (verb, body, field) in [
        ("policy.put", json!({"policy": to("b")}), "tenant_id"),
        ("policy.put", json!({"tenant_id": "a b", "policy": to("b")}), "tenant_id"),
        ("policy.put", json!({"tenant_id": 7, "policy": to("b")}), "tenant_id"),
        ("policy.put", json!({"tenant_id": "acme"}), "policy"),
        (
            "policy.put",
            json!({"tenant_id": "acme", "policy": to("b"), "expected_revison": 0}),
            "expected_revison",
        ),
        ("policy.put", json!({"tenant_id": "acme", "policy": to("b"), "actor": 7}), "actor"),
        ("policy.patch", json!({"tenant_id": "acme", "patch": {}}), "policy_id"),
        ("policy.patch", json!({"tenant_id": "acme", "policy_id": "default"}), "patch"),
        ("policy.rollback", json!({"tenant_id": "acme", "policy_id": "default"}), "revision"),
        (
            "policy.rollback",
            json!({"tenant_id": "acme", "policy_id": "default", "revision": "1"}),
            "revision",
        ),
        ("policy.get", json!({"tenant_id": "acme"}), "policy_id"),
        ("policy.list", json!({"limit": 0}), "limit"),
        ("policy.list", json!({"limit": "x"}), "limit"),
        ("policy.list", json!({"cursor": "nonsense"}), "cursor"),
        ("policy.list", json!({"cursor": 7}), "cursor"),
        ("policy.validate", json!({}), "policy"),
        ("breaker.get", json!({"tenant_id": "acme"}), "provider_id"),
        ("breaker.list", json!({"state": "ajar"}), "state"),
        ("breaker.force", json!({"tenant_id": "acme", "provider_id": "a"}), "state"),
        ("breaker.force", json!({"tenant_id": "acme", "provider_id": "a", "state": "half_open"}), "state"),
        (
            "breaker.force",
            json!({"tenant_id": "acme", "provider_id": "a", "state": "open", "ttl_seconds": 0}),
            "ttl_seconds",
        ),
        ("flag.set", json!({"circuit_breaker_enabled": false}), "scope"),
        ("flag.set", json!({"scope": "world", "circuit_breaker_enabled": false}), "scope"),
        ("flag.set", json!({"scope": "tenant", "circuit_breaker_enabled": false}), "tenant_id"),
        ("flag.set", json!({"scope": "global"}), "circuit_breaker_enabled"),
        ("flag.set", json!({"scope": "global", "circuit_breaker_enabled": "no"}), "circuit_breaker_enabled"),
    ] {
        let answer = caller.control(verb, &body).await;
        let (code, details) = refusal(&answer);
        assert_eq!((code, &details["field"]), ("invalid_request", &json!(field)), "{verb} {body}: {answer}");
    }
    for verb in ["policy.putt", "policy", "policy.put.more", "x", "breaker.open"] {
        let answer = caller.control(verb, &json!({})).await;
        assert_eq!(refusal(&answer).0, "not_found", "{verb}");
    }
    for body in ["[]", "{", "7", "\u{0}"] {
        let answer = caller.ask("beamline.router.control.v1.policy.put", HeaderMap::new(), body).await;
        assert_eq!(refusal(&answer.json()).0, "invalid_request");
        assert_eq!(answer.header("Nats-Service-Error-Code"), Some("400"));
    }
    let policies = caller.command("policy.list", &json!({})).await;
    assert_eq!(policies["policies"].as_array().unwrap().len(), 1);
}
