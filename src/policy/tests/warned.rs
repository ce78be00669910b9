use serde_json::{Value, json};

use super::*;

/// The one warning, checked to say this.
fn warned(change: Value, says: &str) {
    let list = warnings(change);
    assert_eq!(list.len(), 1, "{list:?}");
    assert!(list[0].contains(says), "{}", list[0]);
}

fn silent(change: Value) {
    assert_eq!(warnings(change), Vec::<String>::new());
}

fn weights(list: &[f64]) -> Value {
    let provider = |(n, weight): (usize, &f64)| json!({"name": format!("p{n}"), "weight": weight});
    json!({"providers": list.iter().enumerate().map(provider).collect::<Vec<_>>()})
}

#[test]
fn a_plain_document_warns_of_nothing() {
    silent(json!({}));
    silent(json!({"circuit_breaker": {"enabled": true}, "fallbacks": [{"to": "openai"}]}));
    silent(json!({"circuit_breaker": {}, "sticky": {"enabled": true, "session_key": "u"}}));
}

#[test]
fn weights_that_miss_the_whole_are_told() {
    warned(weights(&[70.0, 20.5]), "sum to 90.5, not 100");
    warned(weights(&[0.5, 0.4]), "sum to 0.9, not 100");
    silent(weights(&[33.33, 33.33, 33.33]));
    silent(weights(&[0.7, 0.3]));
    silent(weights(&[1.0]));
    silent(weights(&[40.0]));
}

#[test]
fn a_provider_that_nothing_can_choose_is_told() {
    warned(weights(&[100.0, 0.0]), "no draw chooses it: p1");
    let mut named = weights(&[100.0, 0.0]);
    named["fallbacks"] = json!([{"to": "p1"}]);
    silent(named);
}

#[test]
fn targets_outside_of_providers_are_told_in_one_warning() {
    warned(json!({"fallbacks": [{"to": "x"}, {"to": "x"}]}), "a breaker of its own: x");
    let many: Vec<_> = (0..200).map(|n| json!({"to": format!("t{n}")})).collect();
    warned(json!({ "fallbacks": many }), "t0, t1, t2, t3, t4 and 195 more");
}

#[test]
fn a_ttl_is_told_to_have_no_effect() {
    warned(
        json!({"sticky": {"enabled": true, "session_key": "u", "ttl": "10m"}}),
        "sticky.ttl has no effect",
    );
}

#[test]
fn a_breaker_block_without_its_switch_is_told_to_be_off() {
    warned(json!({"circuit_breaker": {"failure_threshold": 3}}), "enabled is absent");
    silent(json!({"circuit_breaker": {"enabled": false, "failure_threshold": 3}}));
}

#[test]
fn shadow_mode_and_settings_without_effect_are_told_where_the_breaker_is_on() {
    for (setting, says) in [
        (json!({"enforce_percent": 0}), "shadow mode"),
        (json!({"failure_statuses": []}), "no result is a failure"),
        (json!({"slow_call_rate_threshold": 0.3}), "without latency_threshold_ms"),
        (json!({"timeout_ms": 300_000, "backoff_multiplier": 2}), "backoff_multiplier has no effect"),
        (json!({"max_timeout_ms": 60_000, "jitter_ratio": 0.1}), "jitter_ratio only shortens"),
    ] {
        let mut block = setting.clone();
        merge_patch(&mut block, &json!({"enabled": true}));
        warned(json!({ "circuit_breaker": block }), says);
        merge_patch(&mut block, &json!({"enabled": false}));
        silent(json!({ "circuit_breaker": block }));
    }
    silent(json!({"circuit_breaker": {
        "enabled": true, "slow_call_rate_threshold": 0.3, "latency_threshold_ms": 900,
        "backoff_multiplier": 2, "jitter_ratio": 0.1
    }}));
}

#[test]
fn the_effective_document_warns_of_nothing_new() {
    for change in [
        json!({}),
        json!({"circuit_breaker": {"enabled": true}}),
        json!({"sticky": {"enabled": true, "session_key": "u", "ttl": "10m"}, "fallbacks": [{"to": "x"}]}),
    ] {
        let first = parse(&document(change)).unwrap();
        assert_eq!(parse(&first.policy.effective()).unwrap().warnings, first.warnings);
    }
}
