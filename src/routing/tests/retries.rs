use super::*;

fn doubling(retry: u32) -> Value {
    json!([{
        "when": {"status": ["timeout", "5xx"]}, "retry": retry, "to": "local",
        "backoff": {"strategy": "exponential", "base_ms": 100, "max_ms": 5_000, "jitter": false},
    }])
}

/// Who serves, why, and the wait.
fn row(policy: &Policy, request: &RouteRequest<'_>) -> (usize, Reason, Option<u64>) {
    let choice = chosen(policy, request, Table::passing());
    (choice.candidate, choice.reason, choice.backoff_ms)
}

#[test]
fn retries_stay_on_the_drawn_provider_with_growing_waits_until_they_are_used_up() {
    let policy = falling_back(doubling(2));
    let first = drawing(&policy, B);
    assert_eq!(row(&policy, &first), (B, Reason::Weighted, None));
    // The attempt told is this request's own ordinal: the second is the first retry.
    let rows = [
        (2, (B, Reason::Weighted, Some(100))),
        (3, (B, Reason::Weighted, Some(200))),
        (4, (LOCAL, Reason::Fallback, None)),
        (5, (LOCAL, Reason::Fallback, None)),
        (u32::MAX, (LOCAL, Reason::Fallback, None)),
    ];
    for (attempt, expected) in rows {
        assert_eq!(row(&policy, &after("timeout", attempt, first.clone())), expected, "attempt {attempt}");
    }
}

#[test]
fn without_retries_the_target_serves_the_second_attempt() {
    let policy = falling_back(json!([{"when": {"status": ["timeout"]}, "to": "local"}]));
    let first = drawing(&policy, A);
    assert_eq!(row(&policy, &after("timeout", 2, first)), (LOCAL, Reason::Fallback, None));
}

#[test]
fn without_a_backoff_a_retry_names_no_wait() {
    let policy = falling_back(json!([{"when": {"status": ["timeout"]}, "retry": 1, "to": "local"}]));
    let first = drawing(&policy, A);
    assert_eq!(row(&policy, &after("timeout", 2, first)), (A, Reason::Weighted, None));
}

#[test]
fn a_status_matches_its_own_word_or_its_class() {
    let policy = falling_back(doubling(0));
    let first = drawing(&policy, C);
    for (status, matches) in [
        ("timeout", true),
        ("500", true),
        ("503", true),
        ("599", true),
        ("600", false),
        ("404", false),
        ("5000", false),
        ("error", false),
        ("Timeout", false),
        ("", false),
    ] {
        let expected = if matches { (LOCAL, Reason::Fallback, None) } else { (C, Reason::Weighted, None) };
        assert_eq!(row(&policy, &after(status, 2, first.clone())), expected, "{status}");
    }
}

#[test]
fn a_rule_without_a_condition_matches_every_ending() {
    let policy = falling_back(json!([{"to": "local"}]));
    let first = drawing(&policy, A);
    for status in ["timeout", "error", "418", "anything"] {
        assert_eq!(row(&policy, &after(status, 2, first.clone())), (LOCAL, Reason::Fallback, None));
    }
}

#[test]
fn a_rule_for_another_message_type_has_no_say() {
    let policy =
        falling_back(json!([{"when": {"status": ["timeout"], "message_type": "embed"}, "to": "local"}]));
    let first = drawing(&policy, A);
    assert_eq!(row(&policy, &after("timeout", 2, first.clone())), (A, Reason::Weighted, None));
    let embed = RouteRequest { task_type: "embed".into(), ..first };
    assert_eq!(row(&policy, &after("timeout", 2, embed)), (LOCAL, Reason::Fallback, None));
}

#[test]
fn the_first_rule_that_matches_decides_even_if_a_later_one_would_too() {
    let policy = falling_back(json!([
        {"when": {"status": ["error"]}, "to": "c"},
        {"when": {"status": ["timeout"]}, "retry": 1, "to": "b"},
        {"when": {"status": ["timeout"]}, "to": "local"},
    ]));
    let first = drawing(&policy, A);
    assert_eq!(row(&policy, &after("timeout", 2, first.clone())), (A, Reason::Weighted, None));
    assert_eq!(row(&policy, &after("timeout", 3, first.clone())), (B, Reason::Fallback, None));
    assert_eq!(row(&policy, &after("error", 2, first)), (C, Reason::Fallback, None));
}

#[test]
fn a_retry_of_a_session_stays_sticky() {
    let policy = three(json!({"sticky": {"enabled": true, "session_key": "user"}, "fallbacks": doubling(1)}));
    let first = RouteRequest { context: Attributes::Json(r#"{"user":"u-1"}"#), ..request("r") };
    let (kept, reason, _) = row(&policy, &first);
    assert_eq!(reason, Reason::Sticky);
    let first = RouteRequest { request_id: "another".into(), ..first };
    assert_eq!(row(&policy, &after("timeout", 2, first)), (kept, Reason::Sticky, Some(100)));
}

#[test]
fn a_retry_whose_provider_is_refused_by_now_goes_elsewhere_without_a_wait() {
    let policy = falling_back(doubling(3));
    let second = after("timeout", 2, drawing(&policy, A));
    let choice = chosen(&policy, &second, Table::refusing(&[A]));
    assert!(choice.candidate == B || choice.candidate == C);
    assert_eq!((choice.reason, choice.backoff_ms), (Reason::CircuitBreakerFallback, None));
}

#[test]
fn a_target_that_refuses_leaves_the_rest_by_weight() {
    let policy = falling_back(doubling(0));
    let second = after("timeout", 2, drawing(&policy, A));
    let choice = chosen(&policy, &second, Table::refusing(&[LOCAL]));
    assert!(choice.candidate < LOCAL);
    assert_eq!(choice.reason, Reason::CircuitBreakerFallback);
    let mut table = Table::refusing(&[A, B, C, LOCAL]);
    assert!(matches!(run(&policy, &second, &mut table), Routed::CircuitOpen(all) if all.len() == 4));
}

#[test]
fn the_jitter_of_a_wait_is_the_requests_own_and_the_same_each_time() {
    let policy = falling_back(json!([{
        "when": {"status": ["timeout"]}, "retry": 1, "to": "local",
        "backoff": {"strategy": "fixed", "base_ms": 1_000, "max_ms": 5_000, "jitter": true},
    }]));
    let mut waits = std::collections::BTreeSet::new();
    for n in 0..200 {
        let id = format!("r{n}");
        let retry = RouteRequest {
            previous: Some(Previous { status: "timeout".into(), attempt: 2 }),
            ..request(&id)
        };
        let wait = row(&policy, &retry).2.unwrap();
        assert!((1_000..=1_100).contains(&wait));
        assert_eq!(row(&policy, &retry).2, Some(wait));
        waits.insert(wait);
    }
    assert!(waits.len() > 50, "{} different waits", waits.len());
}
