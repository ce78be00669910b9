use super::*;

const ON_OPEN: &str = "circuit_breaker_open";

#[test]
fn a_refused_draw_goes_to_the_target_of_the_rule_for_an_open_breaker() {
    let policy = falling_back(json!([{"when": {"status": [ON_OPEN]}, "to": "local"}]));
    let request = drawing(&policy, A);
    let choice = chosen(&policy, &request, Table::refusing(&[A]));
    assert_eq!((choice.candidate, choice.reason), (LOCAL, Reason::CircuitBreakerFallback));
    assert_eq!((choice.probe, choice.backoff_ms), (false, None));
}

#[test]
fn a_rule_says_nothing_while_the_drawn_provider_admits() {
    let policy = falling_back(json!([{"to": "local"}]));
    let request = drawing(&policy, B);
    assert_eq!(served(&policy, &request, Table::passing()), (B, Reason::Weighted));
}

#[test]
fn a_rule_is_skipped_where_its_status_or_its_message_type_does_not_match() {
    let rows = [
        (json!({"status": [ON_OPEN]}), true),
        (json!({"status": ["timeout", ON_OPEN]}), true),
        (json!({}), true),
        (json!({"message_type": "chat"}), true),
        (json!({"status": [ON_OPEN], "message_type": ["embed", "chat"]}), true),
        (json!({"status": ["timeout", "5xx"]}), false),
        (json!({"status": [ON_OPEN], "message_type": "embed"}), false),
        (json!({"status": ["timeout"], "message_type": "chat"}), false),
    ];
    for (when, matches) in rows {
        let policy = falling_back(json!([{"when": when, "to": "local"}]));
        let request = drawing(&policy, A);
        let (candidate, reason) = served(&policy, &request, Table::refusing(&[A]));
        assert_eq!(candidate == LOCAL, matches, "{when}");
        assert_eq!(reason, Reason::CircuitBreakerFallback);
    }
    let absent = falling_back(json!([{"to": "local"}]));
    assert_eq!(served(&absent, &drawing(&absent, A), Table::refusing(&[A])).0, LOCAL);
}

#[test]
fn rules_are_tried_in_order_until_a_target_admits() {
    let policy = falling_back(json!([
        {"when": {"status": ["timeout"]}, "to": "elsewhere"},
        {"when": {"status": [ON_OPEN]}, "to": "c"},
        {"when": {"status": [ON_OPEN]}, "to": "b"},
        {"to": "last"},
    ]));
    let (elsewhere, last) = (3, 4);
    let request = drawing(&policy, A);
    let rows = [(vec![A], C), (vec![A, C], B), (vec![A, B, C], last)];
    for (out, expected) in rows {
        assert_eq!(
            served(&policy, &request, Table::refusing(&out)),
            (expected, Reason::CircuitBreakerFallback)
        );
    }
    let mut table = Table::refusing(&[A, B, C, last]);
    assert_eq!(
        run(&policy, &request, &mut table),
        Routed::CircuitOpen([A, C, B, last].map(refused).to_vec())
    );
    assert!(!table.asked().contains(&elsewhere));
}

#[test]
fn where_no_rule_helps_the_rest_serve() {
    for fallbacks in
        [json!([]), json!([{"when": {"status": ["error"]}, "to": "local"}]), json!([{"to": "a"}])]
    {
        let policy = falling_back(fallbacks);
        let request = drawing(&policy, A);
        let (candidate, reason) = served(&policy, &request, Table::refusing(&[A]));
        assert!(candidate == B || candidate == C);
        assert_eq!(reason, Reason::CircuitBreakerFallback);
        assert_eq!(served(&policy, &request, Table::refusing(&[A, B])).0, C);
        assert_eq!(served(&policy, &request, Table::refusing(&[A, C])).0, B);
    }
}

#[test]
fn the_rest_share_the_refused_draws_by_their_weights() {
    let policy = three(json!({}));
    let mut times = [0_u32; 3];
    for n in 0..60_000 {
        let id = format!("n{n}");
        if served(&policy, &request(&id), Table::passing()).0 == A {
            times[served(&policy, &request(&id), Table::refusing(&[A])).0] += 1;
        }
    }
    let all: u32 = times.iter().sum();
    assert_eq!(times[A], 0);
    assert!((f64::from(times[B]) / f64::from(all) - 0.6).abs() < 0.01, "{times:?}");
    assert!((f64::from(times[C]) / f64::from(all) - 0.4).abs() < 0.01, "{times:?}");
}

#[test]
fn with_nobody_left_every_refused_candidate_is_told_with_its_own_hint() {
    let policy = falling_back(json!([{"when": {"status": [ON_OPEN]}, "to": "local"}]));
    let request = drawing(&policy, B);
    let half_open = Admission::Refuse { state: State::HalfOpen, retry_after_ms: 7 };
    let mut table = Table::refusing(&[A, B, C]).with(LOCAL, half_open);
    let Routed::CircuitOpen(mut told) = run(&policy, &request, &mut table) else { panic!() };
    assert_eq!(told.first(), Some(&refused(B)));
    assert_eq!(told.get(1), Some(&Refused { candidate: LOCAL, state: State::HalfOpen, retry_after_ms: 7 }));
    told.sort_by_key(|r| r.candidate);
    let candidates: Vec<_> = told.iter().map(|r| r.candidate).collect();
    assert_eq!(candidates, [A, B, C, LOCAL]);
    assert_eq!(told.iter().map(|r| r.retry_after_ms).min(), Some(7));
}

#[test]
fn a_probe_of_a_fallback_target_is_a_probe() {
    let policy = falling_back(json!([{"to": "local"}]));
    let request = drawing(&policy, A);
    let choice = chosen(&policy, &request, Table::refusing(&[A]).with(LOCAL, Admission::Probe));
    assert_eq!(
        (choice.candidate, choice.reason, choice.probe),
        (LOCAL, Reason::CircuitBreakerFallback, true)
    );
}
