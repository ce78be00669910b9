use serde_json::{Value, json};

use super::*;
use crate::policy::{Backoff, Growth, MAX_FAULTS, StatusMatch};

fn contract_example() -> Value {
    json!({
        "policy_id": "canary_policy", "version": "1.0",
        "providers": [{"name": "openai", "weight": 70}, {"name": "anthropic", "weight": 30}],
        "sticky": {"enabled": true, "session_key": "user_id", "ttl": "10m"},
        "fallbacks": [{
            "when": {"status": ["circuit_breaker_open", "timeout", "5xx"]}, "retry": 2, "to": "local_llm",
            "backoff": {"strategy": "exponential", "base_ms": 100, "max_ms": 5000, "jitter": true}
        }],
        "circuit_breaker": {
            "enabled": true, "failure_threshold": 5, "error_rate_threshold": 0.5,
            "error_rate_window_seconds": 60, "timeout_ms": 30000, "success_threshold": 2
        }
    })
}

#[test]
fn a_whole_document_becomes_the_policy_it_describes() {
    let policy = parse(&contract_example()).unwrap().policy;
    assert_eq!((policy.id().as_str(), policy.version()), ("canary_policy", "1.0"));
    let candidates: Vec<_> =
        policy.candidates().iter().map(|c| (c.provider.as_str(), c.weight, c.listed)).collect();
    let expected = [("openai", 70_000_000, true), ("anthropic", 30_000_000, true), ("local_llm", 0, false)];
    assert_eq!(candidates, expected);
    assert_eq!(policy.total_weight(), 100_000_000);

    let sticky = policy.sticky().unwrap();
    assert_eq!((sticky.session_key.as_str(), sticky.ttl_ms), ("user_id", Some(600_000)));

    let [fallback] = policy.fallbacks() else { panic!("one fallback") };
    assert_eq!((fallback.retry, fallback.to), (2, 2));
    assert!(fallback.when.matches("circuit_breaker_open", "any"));
    assert!(fallback.when.matches("503", "any") && !fallback.when.matches("error", "any"));
    let backoff = Backoff { strategy: Growth::Exponential, base_ms: 100, max_ms: 5_000, jitter: true };
    assert_eq!(fallback.backoff, Some(backoff));

    assert!(policy.breaker().enabled());
    assert_eq!(policy.breaker().open_ms(0, 1, 0), 30_000);
}

#[test]
fn what_a_document_leaves_out_has_its_default() {
    let policy = policy(json!({"fallbacks": [{"to": "anthropic"}]}));
    assert_eq!(policy.version(), "1.0");
    assert_eq!(policy.sticky(), None);
    assert!(!policy.breaker().enabled());
    let [fallback] = policy.fallbacks() else { panic!("one fallback") };
    assert_eq!((fallback.retry, fallback.to, fallback.backoff), (0, 1, None));
    assert!(fallback.when.matches("anything", "at.all"));
}

#[test]
fn the_effective_document_shows_every_default() {
    let effective = policy(json!({
        "fallbacks": [{"to": "local", "backoff": {}}, {"to": "openai", "when": {"status": 503}}]
    }))
    .effective();
    let expected = json!({
        "policy_id": "p", "version": "1.0",
        "providers": [{"name": "openai", "weight": 70}, {"name": "anthropic", "weight": 30}],
        "sticky": {"enabled": false},
        "fallbacks": [
            {"when": {}, "retry": 0, "to": "local",
             "backoff": {"strategy": "exponential", "base_ms": 100, "max_ms": 5000, "jitter": true}},
            {"when": {"status": ["503"]}, "retry": 0, "to": "openai"}
        ],
        "circuit_breaker": {
            "enabled": false, "failure_threshold": 5, "error_rate_threshold": 0.5,
            "error_rate_window_seconds": 60, "minimum_requests": 10, "timeout_ms": 60000,
            "success_threshold": 2, "half_open_max_calls": 3, "probe_timeout_ms": 30000,
            "latency_threshold_ms": null, "slow_call_rate_threshold": 0.5, "backoff_multiplier": 1.0,
            "max_timeout_ms": 300000, "jitter_ratio": 0.0, "enforce_percent": 100,
            "failure_statuses": ["error", "timeout"], "ignored_error_codes": []
        }
    });
    assert_eq!(effective, expected);
}

#[test]
fn the_older_forms_mean_the_same_as_the_present_ones() {
    let older = json!({
        "policy_id": "p", "weights": {"openai": 0.7, "anthropic": 0.3}, "fallback": {"provider": "local_llm"}
    });
    let present = json!({
        "policy_id": "p",
        "providers": [{"name": "anthropic", "weight": 30}, {"name": "openai", "weight": 70}],
        "fallbacks": [{"to": "local_llm"}]
    });
    assert_eq!(parse(&older).unwrap().policy, parse(&present).unwrap().policy);
}

#[test]
fn older_and_present_forms_of_one_thing_may_not_stand_together() {
    assert_eq!(paths(json!({"weights": {"a": 1}})), ["/weights"]);
    assert_eq!(paths(json!({"fallbacks": [], "fallback": {"provider": "a"}})), ["/fallback"]);
}

#[test]
fn fields_that_this_router_does_not_implement_are_refused_and_told_so() {
    for name in ["pre", "validators", "post", "rate_limit", "health_check"] {
        let [fault] = &faults(json!({ name: {} }))[..] else { panic!("one fault for {name}") };
        assert_eq!(fault.path, format!("/{name}"));
        assert_eq!(fault.message, "is not implemented by this router; remove it");
    }
}

#[test]
fn what_the_older_router_took_is_refused_with_advice() {
    let found = faults(json!({
        "metadata": {"owner": "me"}, "tenant_id": "t",
        "sticky": {"enabled": true, "session_key": "u", "ttl_seconds": 600},
        "fallback": {"provider": "openai", "conditions": ["timeout"]}
    }));
    let paths: Vec<_> = found.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(paths, ["/metadata", "/tenant_id", "/fallback/conditions", "/sticky/ttl_seconds"]);
    assert!(found.iter().all(|f| !f.message.contains("did you mean")));
}

#[test]
fn a_misspelt_field_is_refused_and_the_nearest_known_one_is_suggested() {
    let found = faults(json!({
        "verison": "1",
        "circuit_breaker": {"failureThreshold": 3, "colour": 1},
        "fallbacks": [{"to": "openai", "when": {"statuses": "x"}, "backoff": {"base": 1}}],
        "sticky": {"enabled": false, "sesion_key": "u"}
    }));
    let told: Vec<_> = found.iter().map(|f| (f.path.as_str(), f.message.as_str())).collect();
    assert_eq!(
        &told[..4],
        [
            ("/verison", "is no field of a policy; did you mean version?"),
            ("/fallbacks/0/when/statuses", "is no field of a policy; did you mean status?"),
            ("/fallbacks/0/backoff/base", "is no field of a policy; did you mean base_ms?"),
            ("/sticky/sesion_key", "is no field of a policy; did you mean session_key?"),
        ]
    );
    assert_eq!(told[4].0, "/circuit_breaker/colour");
    assert!(told[4].1.starts_with("is no field of a policy; known here: enabled, failure_threshold, "));
    assert_eq!(
        told[5],
        ("/circuit_breaker/failureThreshold", "is no field of a policy; did you mean failure_threshold?")
    );
}

#[test]
fn all_faults_of_a_document_are_told_at_once() {
    let found = paths(json!({
        "policy_id": "no spaces", "version": 1,
        "providers": [
            {"name": "a", "weight": -1}, {"name": "a", "weight": 1}, {"weight": 101}, "b",
            {"name": "", "weight": "x"}
        ],
        "sticky": {"enabled": "yes", "ttl": "soon"},
        "fallbacks": [
            {"retry": 101},
            {"to": "a", "backoff": {"strategy": "quick", "base_ms": 200, "max_ms": 100}}
        ],
        "circuit_breaker": {
            "timeout_ms": "30s", "failure_threshold": 0, "enabled": 1, "error_rate_threshold": "half"
        }
    }));
    let expected = [
        "/policy_id",
        "/version",
        "/providers/0/weight",
        "/providers/1/name",
        "/providers/2/name",
        "/providers/2/weight",
        "/providers/3",
        "/providers/4/name",
        "/providers/4/weight",
        "/fallbacks/0/retry",
        "/fallbacks/0/to",
        "/fallbacks/1/backoff/max_ms",
        "/fallbacks/1/backoff/strategy",
        "/sticky/enabled",
        "/sticky/ttl",
        "/circuit_breaker/enabled",
        "/circuit_breaker/failure_threshold",
        "/circuit_breaker/error_rate_threshold",
        "/circuit_breaker/timeout_ms",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_document_that_is_no_object_is_one_fault_of_the_whole() {
    for value in [json!(null), json!([]), json!("p"), json!(1)] {
        let found = parse(&value).unwrap_err();
        assert_eq!((found.len(), found[0].path.as_str()), (1, ""), "{value}");
    }
}

#[test]
fn a_breaker_block_alone_is_told_of_policy_patch() {
    for nobody in [json!(null), json!([])] {
        let found = faults(json!({"providers": nobody, "circuit_breaker": {"enabled": true}}));
        assert_eq!((found.len(), found[0].path.as_str()), (1, "/providers"));
        assert!(found[0].message.contains("policy.patch"), "{}", found[0].message);
    }
    assert!(!faults(json!({"providers": null}))[0].message.contains("policy.patch"));
}

#[test]
fn providers_must_be_there_be_named_once_and_have_weight() {
    let only = |providers: Value| paths(json!({ "providers": providers }));
    assert_eq!(only(json!([])), ["/providers"]);
    assert_eq!(only(json!({"a": 1})), ["/providers"]);
    assert_eq!(only(json!([{"name": "a", "weight": 0}])), ["/providers"]);
    assert_eq!(only(json!([{"name": "a", "weight": 1}, {"name": "a", "weight": 2}])), ["/providers/1/name"]);
    assert_eq!(only(json!([{"name": "a b", "weight": 1}])), ["/providers/0/name"]);
    assert_eq!(only(json!([{"name": "a", "weight": 1, "cost": 2}])), ["/providers/0/cost"]);
    for weight in [json!(-0.1), json!(100.1), json!("1"), json!(null), json!(true)] {
        assert_eq!(only(json!([{"name": "a", "weight": weight}])), ["/providers/0/weight"]);
    }
    for weight in [json!(0.1), json!(100), json!(1e-9)] {
        assert_eq!(only(json!([{"name": "a", "weight": weight}])), Vec::<String>::new());
    }
    let older = |weights: Value| paths(json!({"providers": null, "weights": weights}));
    assert_eq!(older(json!({})), ["/weights"]);
    assert_eq!(older(json!({"a": 0})), ["/weights"]);
    assert_eq!(older(json!({"a b": 1, "c": 101})), ["/weights/a b", "/weights/c"]);
    assert_eq!(older(json!(["a"])), ["/weights"]);
}

#[test]
fn lists_are_bounded() {
    let providers = |n: usize| {
        let list: Vec<_> = (0..n).map(|i| json!({"name": format!("p{i}"), "weight": 1})).collect();
        paths(json!({ "providers": list }))
    };
    assert_eq!(providers(256), Vec::<String>::new());
    assert_eq!(providers(257), ["/providers"]);
    let fallbacks = |n: usize| paths(json!({"fallbacks": vec![json!({"to": "openai"}); n]}));
    assert_eq!(fallbacks(256), Vec::<String>::new());
    assert_eq!(fallbacks(257), ["/fallbacks"]);
    let words = |n: usize| {
        let list: Vec<_> = (0..n).map(|i| format!("s{i}")).collect();
        paths(json!({"fallbacks": [{"to": "openai", "when": {"status": list, "message_type": list}}]}))
    };
    assert_eq!(words(64), Vec::<String>::new());
    assert_eq!(words(65), ["/fallbacks/0/when/status", "/fallbacks/0/when/message_type"]);
    assert_eq!(words(0), ["/fallbacks/0/when/status", "/fallbacks/0/when/message_type"]);
}

#[test]
fn faults_are_bounded_however_wrong_the_document_is() {
    let wrong: serde_json::Map<_, _> = (0..10_000).map(|n| (format!("x{n}"), json!(0))).collect();
    let found = faults(Value::Object(wrong));
    assert_eq!(found.len(), MAX_FAULTS + 1);
    assert_eq!(found[MAX_FAULTS].message, "has 9900 more faults, not listed");
}

#[test]
fn a_condition_takes_one_word_or_many_and_numbers_as_text() {
    let when = |when: Value| {
        policy(json!({"fallbacks": [{"to": "openai", "when": when}]})).fallbacks()[0].when.clone()
    };
    assert_eq!(when(json!({"status": "5xx"})).statuses, Some(vec![StatusMatch::Class(5)]));
    assert_eq!(when(json!({"status": 503})), when(json!({"status": ["503"]})));
    assert_eq!(when(json!({"message_type": "chat"})).message_types, Some(vec!["chat".to_owned()]));
    assert_eq!(when(json!({})), when(json!({})));

    let refused = |when: Value| paths(json!({"fallbacks": [{"to": "openai", "when": when}]}));
    assert_eq!(refused(json!("timeout")), ["/fallbacks/0/when"]);
    assert_eq!(
        refused(json!({"status": {}, "message_type": 1})),
        ["/fallbacks/0/when/status", "/fallbacks/0/when/message_type"]
    );
    assert_eq!(
        refused(json!({"status": ["a", "", "a", null, 1.5, -1, "x".repeat(256)]})),
        [
            "/fallbacks/0/when/status/1",
            "/fallbacks/0/when/status/2",
            "/fallbacks/0/when/status/3",
            "/fallbacks/0/when/status/4",
            "/fallbacks/0/when/status/5",
            "/fallbacks/0/when/status/6",
        ]
    );
}

#[test]
fn the_longest_wait_is_never_below_the_base() {
    let backoff = |block: Value| paths(json!({"fallbacks": [{"to": "openai", "backoff": block}]}));
    assert_eq!(backoff(json!({"base_ms": 0, "max_ms": 0})), Vec::<String>::new());
    assert_eq!(backoff(json!({"base_ms": 3_600_000, "max_ms": 3_600_000})), Vec::<String>::new());
    assert_eq!(backoff(json!({"base_ms": 3_600_001})), ["/fallbacks/0/backoff/base_ms"]);
    assert_eq!(backoff(json!({"max_ms": 99})), ["/fallbacks/0/backoff/max_ms"]);
    assert_eq!(backoff(json!({"max_ms": 3_600_001})), ["/fallbacks/0/backoff/max_ms"]);
    assert_eq!(backoff(json!({"jitter": 0.1})), ["/fallbacks/0/backoff/jitter"]);
    assert_eq!(backoff(json!(100)), ["/fallbacks/0/backoff"]);

    let found = policy(json!({"fallbacks": [{"to": "openai", "backoff": {"base_ms": 9_000}}]}));
    assert_eq!(found.fallbacks()[0].backoff.map(|b| b.max_ms), Some(9_000));
}

#[test]
fn retries_are_whole_and_bounded() {
    let retry = |retry: Value| paths(json!({"fallbacks": [{"to": "openai", "retry": retry}]}));
    for sound in [json!(0), json!(100), json!(2.0)] {
        assert_eq!(retry(sound), Vec::<String>::new());
    }
    for wrong in [json!(101), json!(-1), json!(1.5), json!("2"), json!(null), json!(1e300)] {
        assert_eq!(retry(wrong), ["/fallbacks/0/retry"]);
    }
}

#[test]
fn sticky_needs_its_switch_and_where_on_its_key() {
    let sticky = |block: Value| paths(json!({ "sticky": block }));
    assert_eq!(sticky(json!({"session_key": "u"})), ["/sticky/enabled"]);
    assert_eq!(sticky(json!({"enabled": true})), ["/sticky/session_key"]);
    assert_eq!(sticky(json!({"enabled": true, "session_key": ""})), ["/sticky/session_key"]);
    assert_eq!(sticky(json!({"enabled": true, "session_key": "k".repeat(256)})), ["/sticky/session_key"]);
    assert_eq!(sticky(json!({"enabled": true, "session_key": "k".repeat(255)})), Vec::<String>::new());
    assert_eq!(sticky(json!(true)), ["/sticky"]);
}

#[test]
fn a_sticky_block_that_is_off_is_kept_to_be_switched_on_again() {
    let off = policy(json!({"sticky": {"enabled": false, "session_key": "u", "ttl": 60}}));
    assert_eq!(off.sticky(), None);
    let mut document = off.effective();
    assert_eq!(document["sticky"], json!({"enabled": false, "session_key": "u", "ttl": "1m"}));
    merge_patch(&mut document, &json!({"sticky": {"enabled": true}}));
    assert_eq!(parse(&document).unwrap().policy.sticky().map(|s| s.session_key.as_str()), Some("u"));
}

#[test]
fn many_fallbacks_to_one_stranger_make_one_candidate() {
    let policy = policy(json!({"fallbacks": [{"to": "x"}, {"to": "openai"}, {"to": "y"}, {"to": "x"}]}));
    let names: Vec<_> = policy.candidates().iter().map(|c| c.provider.as_str()).collect();
    assert_eq!(names, ["openai", "anthropic", "x", "y"]);
    assert_eq!(policy.fallbacks().iter().map(|f| f.to).collect::<Vec<_>>(), [2, 0, 3, 2]);
    assert_eq!(policy.total_weight(), 100_000_000);
}
