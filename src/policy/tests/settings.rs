use serde_json::{Value, json};

use super::*;

/// A row of the documented table: the least and the most that are taken, and just outside of each.
struct Row(&'static str, Value, Value, Value, Value);

fn table() -> Vec<Row> {
    vec![
        Row("failure_threshold", json!(1), json!(100), json!(0), json!(101)),
        Row("error_rate_threshold", json!(0.000_001), json!(1), json!(0), json!(1.000_001)),
        Row("error_rate_window_seconds", json!(1), json!(3_600), json!(0), json!(3_601)),
        Row("minimum_requests", json!(1), json!(10_000), json!(0), json!(10_001)),
        Row("timeout_ms", json!(1_000), json!(300_000), json!(999), json!(300_001)),
        Row("success_threshold", json!(1), json!(10), json!(0), json!(11)),
        Row("half_open_max_calls", json!(1), json!(100), json!(0), json!(101)),
        Row("probe_timeout_ms", json!(1_000), json!(300_000), json!(999), json!(300_001)),
        Row("latency_threshold_ms", json!(1), json!(300_000), json!(0), json!(300_001)),
        Row("slow_call_rate_threshold", json!(0.000_001), json!(1), json!(0), json!(1.000_001)),
        Row("backoff_multiplier", json!(1), json!(10), json!(0.999_999), json!(10.000_001)),
        Row("max_timeout_ms", json!(1_000), json!(3_600_000), json!(999), json!(3_600_001)),
        Row("jitter_ratio", json!(0), json!(0.5), json!(-0.000_001), json!(0.500_001)),
        Row("enforce_percent", json!(0), json!(100), json!(-1), json!(101)),
    ]
}

/// With the shortest timeout, so that the least `max_timeout_ms` is not below it.
fn block(field: &str, value: &Value) -> Value {
    let mut block = json!({"enabled": true, "timeout_ms": 1_000});
    block[field] = value.clone();
    json!({ "circuit_breaker": block })
}

#[test]
fn each_field_takes_both_ends_of_its_range() {
    for Row(field, least, most, ..) in table() {
        for value in [least, most] {
            let policy = policy(block(field, &value));
            let shown = policy.effective()["circuit_breaker"][field].clone();
            assert_eq!(shown.as_f64(), value.as_f64(), "{field}");
        }
    }
}

#[test]
fn each_field_refuses_what_is_just_outside_its_range() {
    for Row(field, _, _, below, above) in table() {
        for value in [below, above] {
            assert_eq!(paths(block(field, &value)), [format!("/circuit_breaker/{field}")], "{value}");
        }
    }
}

#[test]
fn a_value_of_the_wrong_type_is_told_with_the_range_and_what_it_is() {
    for Row(field, ..) in table() {
        let mut wrong = vec![json!("5"), json!(true), json!([1]), json!({}), json!(-5), json!(1e300)];
        if field != "latency_threshold_ms" {
            wrong.push(json!(null));
        }
        for value in wrong {
            let [fault] = &faults(block(field, &value))[..] else { panic!("one fault for {field} {value}") };
            assert_eq!(fault.path, format!("/circuit_breaker/{field}"));
            assert!(fault.message.starts_with("must be a "), "{field} {value}: {}", fault.message);
        }
    }
    let message = |field, value: Value| faults(block(field, &value))[0].message.clone();
    assert_eq!(
        message("timeout_ms", json!("30s")),
        "must be a whole number from 1000 to 300000, not a string"
    );
    assert_eq!(message("success_threshold", json!(1.5)), "must be a whole number from 1 to 10, not 1.5");
    assert_eq!(message("jitter_ratio", json!(null)), "must be a number from 0 to 0.5, not null");
}

#[test]
fn whole_numbers_may_be_written_with_a_point_and_nothing_behind_it() {
    assert_eq!(
        policy(block("failure_threshold", &json!(7.0))),
        policy(block("failure_threshold", &json!(7)))
    );
}

#[test]
fn no_rule_between_fields_is_judged_by_a_value_that_is_no_number() {
    let found = paths(json!({"circuit_breaker": {"timeout_ms": "20s", "max_timeout_ms": 30_000}}));
    assert_eq!(found, ["/circuit_breaker/timeout_ms"]);
}

#[test]
fn the_longest_timeout_may_not_be_below_the_timeout() {
    let found = faults(json!({"circuit_breaker": {"timeout_ms": 5_000, "max_timeout_ms": 4_999}}));
    assert_eq!((found.len(), found[0].path.as_str()), (1, "/circuit_breaker/max_timeout_ms"));
    assert_eq!(paths(json!({"circuit_breaker": {"timeout_ms": 5_000, "max_timeout_ms": 5_000}})).len(), 0);
    // The default timeout counts too.
    assert_eq!(
        paths(json!({"circuit_breaker": {"max_timeout_ms": 59_999}})),
        ["/circuit_breaker/max_timeout_ms"]
    );
}

#[test]
fn failure_statuses_are_statuses_and_success_is_none_of_them() {
    let statuses = |list: Value| paths(block("failure_statuses", &list));
    assert_eq!(statuses(json!(["error", "timeout", "cancelled"])), Vec::<String>::new());
    assert_eq!(statuses(json!([])), Vec::<String>::new());
    assert_eq!(statuses(json!(["success"])), ["/circuit_breaker/failure_statuses"]);
    assert_eq!(statuses(json!("error")), ["/circuit_breaker/failure_statuses"]);
    assert_eq!(
        statuses(json!(["error", 5, "5xx", "error", "Timeout"])),
        [
            "/circuit_breaker/failure_statuses/1",
            "/circuit_breaker/failure_statuses/3",
            "/circuit_breaker/failure_statuses/2",
            "/circuit_breaker/failure_statuses/4",
        ]
    );
}

#[test]
fn ignored_codes_are_texts_none_twice_within_the_bounds_of_the_breaker() {
    let codes = |list: Value| paths(block("ignored_error_codes", &list));
    assert_eq!(codes(json!(["bad_prompt", "401"])), Vec::<String>::new());
    assert_eq!(
        codes(json!(["a", "a", 401])),
        ["/circuit_breaker/ignored_error_codes/1", "/circuit_breaker/ignored_error_codes/2"]
    );
    assert_eq!(codes(json!([""])), ["/circuit_breaker/ignored_error_codes/0"]);
    assert_eq!(codes(json!(["x".repeat(129)])), ["/circuit_breaker/ignored_error_codes"]);
    let many: Vec<_> = (0..65).map(|n| n.to_string()).collect();
    assert_eq!(codes(json!(many)), ["/circuit_breaker/ignored_error_codes"]);
    assert_eq!(codes(json!(null)), ["/circuit_breaker/ignored_error_codes"]);
}

#[test]
fn null_says_that_no_latency_is_too_long() {
    let policy = policy(block("latency_threshold_ms", &json!(null)));
    assert_eq!(policy.breaker().to_draft().latency_threshold_ms, None);
}

#[test]
fn a_block_that_is_no_object_is_one_fault() {
    for value in [json!([]), json!(true), json!("on")] {
        assert_eq!(paths(json!({ "circuit_breaker": value })), ["/circuit_breaker"]);
    }
}

#[test]
fn a_block_that_is_off_is_checked_all_the_same() {
    let found = paths(json!({"circuit_breaker": {"enabled": false, "failure_threshold": 0}}));
    assert_eq!(found, ["/circuit_breaker/failure_threshold"]);
}
