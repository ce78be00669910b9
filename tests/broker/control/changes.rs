//! Putting, patching, deleting, going back.

use std::collections::BTreeSet;

use async_nats::HeaderMap;
use serde_json::{Value, json};

use super::{paths, refusal, to};
use crate::support::{Stage, Worker, request};

#[tokio::test]
async fn a_put_answers_with_revision_effective_policy_and_warnings() {
    let stage = Stage::start().await;
    let policy = json!({
        "policy_id": "canary", "weights": {"a": 0.7, "b": 0.3}, "circuit_breaker": {"enabled": true, "timeout_ms": 30000},
        "sticky": {"enabled": true, "session_key": "user_id", "ttl": "10m"}
    });
    let answer = stage.caller.command("policy.put", &json!({"tenant_id": "acme", "policy": policy})).await;
    assert!(answer["revision"].as_u64().is_some_and(|r| r >= 1), "{answer}");
    assert_eq!(answer["in_force"], true);
    let effective = &answer["effective"];
    for (field, value) in [
        ("enabled", json!(true)),
        ("failure_threshold", json!(5)),
        ("error_rate_threshold", json!(0.5)),
        ("error_rate_window_seconds", json!(60)),
        ("minimum_requests", json!(10)),
        ("timeout_ms", json!(30000)),
        ("success_threshold", json!(2)),
        ("half_open_max_calls", json!(3)),
        ("probe_timeout_ms", json!(30000)),
        ("backoff_multiplier", json!(1.0)),
        ("max_timeout_ms", json!(300000)),
        ("jitter_ratio", json!(0.0)),
        ("enforce_percent", json!(100)),
        ("failure_statuses", json!(["error", "timeout"])),
        ("ignored_error_codes", json!([])),
    ] {
        let got = &effective["circuit_breaker"][field];
        assert_eq!(
            got.as_f64().map_or(got.clone(), Value::from),
            value.as_f64().map_or(value, Value::from),
            "{field}"
        );
    }
    assert_eq!(effective["providers"][0]["name"], "a");
    assert!(answer["warnings"].as_array().unwrap().iter().any(|w| w.to_string().contains("ttl")), "{answer}");
    // What is effective is itself a policy that means the same.
    let again = stage.caller.command("policy.put", &json!({"tenant_id": "acme", "policy": effective})).await;
    assert_eq!(&again["effective"], effective);
    assert!(again["revision"].as_u64() > answer["revision"].as_u64());
}

#[tokio::test]
async fn an_expected_revision_guards_every_change() {
    let stage = Stage::start().await;
    let caller = &stage.caller;
    let put = async |provider: &str, expected: Value| {
        let body = json!({"tenant_id": "acme", "policy": to(provider), "expected_revision": expected});
        caller.control("policy.put", &body).await
    };
    assert_eq!(refusal(&put("a", json!(7)).await).0, "conflict", "there is none yet");
    let first = put("a", json!(0)).await;
    let revision = first["revision"].as_u64().unwrap();
    let conflict = put("b", json!(0)).await;
    assert_eq!(refusal(&conflict).0, "conflict", "0 means that it must not exist");
    let body = json!({"tenant_id": "acme", "policy": to("b"), "expected_revision": 0}).to_string();
    let answer = caller.ask("beamline.router.control.v1.policy.put", HeaderMap::new(), body).await;
    assert_eq!(answer.header("Nats-Service-Error-Code"), Some("409"));
    assert!(answer.header("Nats-Service-Error").is_some());
    let second = put("b", json!(revision)).await["revision"].as_u64().unwrap();
    assert!(second > revision);
    assert_eq!(refusal(&put("c", json!(revision)).await).0, "conflict");
    let policy = json!({"tenant_id": "acme", "policy_id": "default", "expected_revision": revision});
    let with = |field: &str, value: Value| {
        let mut body = policy.clone();
        body[field] = value;
        body
    };
    let patch = with("patch", json!({"version": "2"}));
    assert_eq!(refusal(&caller.control("policy.patch", &patch).await).0, "conflict");
    assert_eq!(refusal(&caller.control("policy.delete", &policy).await).0, "conflict");
    let rollback = with("revision", json!(revision));
    assert_eq!(refusal(&caller.control("policy.rollback", &rollback).await).0, "conflict");
    assert_eq!(caller.decided(&request("acme", "r")).await["provider_id"], "b", "none of them changed it");
    for bad in [json!(-1), json!("7"), json!(1.5)] {
        let answer = put("c", bad).await;
        let (code, details) = refusal(&answer);
        assert_eq!((code, &details["field"]), ("invalid_request", &json!("expected_revision")));
    }
}

#[tokio::test]
async fn of_two_that_expect_the_same_revision_one_wins() {
    let stage = Stage::start().await;
    let _second = Worker::start(&stage.broker, |l| l).await;
    let revision = stage.caller.put_policy("acme", &to("a")).await;
    let puts = (0..8).map(|n| {
        let caller = stage.caller.clone();
        async move {
            let body =
                json!({"tenant_id": "acme", "policy": to(&format!("p{n}")), "expected_revision": revision});
            caller.control("policy.put", &body).await
        }
    });
    let answers = futures_util::future::join_all(puts).await;
    let won: Vec<_> = answers.iter().filter(|a| a["ok"] == true).collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    assert!(answers.iter().filter(|a| a["ok"] == false).all(|a| a["error"]["code"] == "conflict"));
    let got = stage.caller.command("policy.get", &json!({"tenant_id": "acme", "policy_id": "default"})).await;
    assert_eq!(got["revision"], won[0]["revision"]);
}

#[tokio::test]
async fn patches_at_the_same_time_all_count() {
    let stage = Stage::start().await;
    let _second = Worker::start(&stage.broker, |l| l).await;
    stage.caller.put_policy("acme", &to("a")).await;
    let fields = ["failure_threshold", "success_threshold", "half_open_max_calls", "minimum_requests"];
    let patches = fields.map(|field| {
        let caller = stage.caller.clone();
        async move {
            let body = json!({"tenant_id": "acme", "policy_id": "default", "patch": {"circuit_breaker": {field: 7}}});
            caller.command("policy.patch", &body).await
        }
    });
    futures_util::future::join_all(patches).await;
    let got = stage.caller.command("policy.get", &json!({"tenant_id": "acme", "policy_id": "default"})).await;
    for field in fields {
        assert_eq!(got["policy"]["circuit_breaker"][field], 7, "{got}");
    }
}

#[tokio::test]
async fn a_patch_merges_and_must_leave_a_sound_policy() {
    let stage = Stage::start().await;
    let caller = &stage.caller;
    let mut policy = to("a");
    policy["circuit_breaker"] = json!({"enabled": true, "timeout_ms": 2000, "failure_threshold": 3});
    let revision = caller.put_policy("acme", &policy).await;
    let patch = async |patch: Value| {
        let body = json!({"tenant_id": "acme", "policy_id": "default", "patch": patch});
        caller.control("policy.patch", &body).await
    };
    let answer = patch(json!({"circuit_breaker": {"timeout_ms": 5000, "failure_threshold": null}})).await;
    assert!(answer["revision"].as_u64().unwrap() > revision, "{answer}");
    let breaker = &answer["effective"]["circuit_breaker"];
    assert_eq!((&breaker["timeout_ms"], &breaker["failure_threshold"]), (&json!(5000), &json!(5)));
    assert_eq!(breaker["enabled"], true);
    assert_eq!(caller.breaker("acme", "a").await["settings"]["timeout_ms"], 5000, "in force");

    let answer =
        patch(json!({"circuit_breaker": {"timeout_ms": 1, "jitter_ratio": 0.9}, "providers": null})).await;
    let (code, details) = refusal(&answer);
    assert_eq!(code, "invalid_request");
    let want = BTreeSet::from(["/circuit_breaker/timeout_ms", "/circuit_breaker/jitter_ratio", "/providers"]);
    assert_eq!(paths(&details["faults"]), want, "all at once");
    assert_eq!(refusal(&patch(json!({"policy_id": "other"})).await).0, "invalid_request");
    assert_eq!(refusal(&patch(json!([1])).await).0, "invalid_request");
    assert_eq!(caller.breaker("acme", "a").await["settings"]["timeout_ms"], 5000, "what is running stays");
    let missing = json!({"tenant_id": "acme", "policy_id": "none", "patch": {}});
    let answer = caller.control("policy.patch", &missing).await;
    assert_eq!(refusal(&answer).0, "policy_not_found");
}

#[tokio::test]
async fn history_keeps_what_was_and_a_rollback_brings_it_back_as_a_new_revision() {
    let stage = Stage::start().await;
    let caller = &stage.caller;
    let policy = json!({"tenant_id": "acme", "policy_id": "default"});
    let with = |field: &str, value: Value| {
        let mut body = policy.clone();
        body[field] = value;
        body
    };
    let put = async |provider: &str| {
        let body = json!({"tenant_id": "acme", "policy": to(provider), "actor": "Zoë", "reason": "because"});
        caller.command("policy.put", &body).await["revision"].as_u64().unwrap()
    };
    let first = put("a").await;
    caller.put_policy("other", &to("x")).await;
    let second = put("b").await;
    let deleted = caller.command("policy.delete", &policy).await["revision"].as_u64().unwrap();
    let third = put("c").await;
    let answer = caller.command("policy.history", &policy).await;
    let revisions = answer["revisions"].as_array().unwrap();
    let told: Vec<_> = revisions
        .iter()
        .map(|r| (r["revision"].as_u64().unwrap(), r["operation"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [(first, "put"), (second, "put"), (deleted, "delete"), (third, "put")]);
    assert_eq!(revisions[0]["policy"], to("a"));
    assert_eq!((&revisions[0]["actor"], &revisions[0]["reason"]), (&json!("Zoë"), &json!("because")));
    assert!(revisions[0]["at"].as_str().unwrap().starts_with("20"), "{}", revisions[0]);
    assert!(revisions[2].get("policy").is_none_or(Value::is_null));
    let page = caller.command("policy.history", &with("limit", json!(3))).await;
    let mut next = with("limit", json!(3));
    next["cursor"] = page["cursor"].clone();
    let rest = caller.command("policy.history", &next).await;
    assert_eq!(rest["revisions"], json!([revisions[3]]));
    assert!(rest.get("cursor").is_none_or(Value::is_null));

    let answer = caller.command("policy.rollback", &with("revision", json!(second))).await;
    assert!(answer["revision"].as_u64().unwrap() > third);
    let decision = caller.decided(&request("acme", "r")).await;
    assert_eq!((&decision["provider_id"], &decision["policy_revision"]), (&json!("b"), &answer["revision"]));
    let oldest = async || caller.command("policy.history", &policy).await["revisions"][0]["revision"].clone();
    assert_eq!(oldest().await, first);
    for _ in 0..60 {
        caller.put_policy("acme", &to("b")).await;
    }
    assert_ne!(oldest().await, first, "64 are kept");
    for missing in [first, deleted, 999] {
        let answer = caller.control("policy.rollback", &with("revision", json!(missing))).await;
        assert_eq!(refusal(&answer).0, "not_found", "{missing}");
    }
    let nobody = json!({"tenant_id": "nobody", "policy_id": "default"});
    for verb in ["policy.history", "policy.get", "policy.delete"] {
        assert_eq!(refusal(&caller.control(verb, &nobody).await).0, "policy_not_found", "{verb}");
    }
}

#[tokio::test]
async fn a_deleted_policy_decides_no_more() {
    let stage = Stage::start().await;
    let caller = &stage.caller;
    caller.put_policy("acme", &to("a")).await;
    caller.decided(&request("acme", "r")).await;
    let policy = json!({"tenant_id": "acme", "policy_id": "default"});
    caller.command("policy.delete", &policy).await;
    assert_eq!(caller.decide(&request("acme", "r")).await["error"]["code"], "policy_not_found");
    assert_eq!(refusal(&caller.control("policy.get", &policy).await).0, "policy_not_found");
    assert_eq!(refusal(&caller.control("policy.delete", &policy).await).0, "policy_not_found");
    let breaker = json!({"tenant_id": "acme", "provider_id": "a"});
    assert_eq!(refusal(&caller.control("breaker.get", &breaker).await).0, "not_found");
    assert_eq!(caller.command("policy.list", &json!({})).await["policies"], json!([]));
    let put = json!({"tenant_id": "acme", "policy": to("b"), "expected_revision": 0});
    caller.command("policy.put", &put).await;
    assert_eq!(caller.decided(&request("acme", "r")).await["provider_id"], "b");
}

#[tokio::test]
async fn policies_that_disagree_about_a_provider_are_warned_of_and_the_newest_holds() {
    let stage = Stage::start().await;
    let caller = &stage.caller;
    let policy = |id: &str, timeout: u64| {
        json!({"policy_id": id, "providers": [{"name": "a", "weight": 1}],
               "circuit_breaker": {"enabled": true, "timeout_ms": timeout}})
    };
    let put = async |id: &str, timeout: u64| {
        caller.command("policy.put", &json!({"tenant_id": "acme", "policy": policy(id, timeout)})).await["warnings"].clone()
    };
    let holds = async |timeout: u64| {
        let breaker = caller.breaker("acme", "a").await;
        assert_eq!(breaker["settings"]["timeout_ms"], timeout, "{breaker:#}");
        breaker["policy_id"].clone()
    };
    assert_eq!(put("one", 1_000).await, json!([]));
    let warnings = put("two", 2_000).await;
    assert!(warnings.to_string().contains("one"), "{warnings}");
    assert_eq!(holds(2_000).await, "two");
    assert!(!put("three", 2_000).await.to_string().contains("two"), "the same is no difference");
    caller.command("policy.delete", &json!({"tenant_id": "acme", "policy_id": "three"})).await;
    caller.command("policy.delete", &json!({"tenant_id": "acme", "policy_id": "two"})).await;
    assert_eq!(holds(1_000).await, "one");
}
