use super::*;
use crate::routing::Excluded;

fn limited(
    first: RouteRequest<'static>,
    max_latency_ms: Option<f64>,
    max_cost: Option<f64>,
) -> RouteRequest<'static> {
    RouteRequest { constraints: Constraints { max_latency_ms, max_cost }, ..first }
}

#[test]
fn a_candidate_above_a_limit_is_out_before_the_draw() {
    let policy = three(json!({}));
    let request = limited(drawing(&policy, A), Some(500.0), None);
    let mut table = Table::passing().reporting(A, 501, 0);
    let Routed::To(choice) = run(&policy, &request, &mut table) else { panic!() };
    assert_eq!(choice.reason, Reason::Weighted);
    assert_ne!(choice.candidate, A);
    // Out means not even asked.
    assert_eq!(table.asked(), [choice.candidate]);
}

#[test]
fn a_mean_at_the_limit_is_within_it() {
    let policy = three(json!({}));
    let a = drawing(&policy, A);
    let rows = [
        (Some(500.0), None, 500, 0, true),
        (Some(499.5), None, 500, 0, false),
        (None, Some(0.012), 0, 12_000_000, true),
        (None, Some(0.012), 0, 12_000_001, false),
        (Some(0.0), Some(0.0), 0, 0, true),
        (Some(600.0), Some(0.5), 500, 500_000_001, false),
        (Some(400.0), Some(0.5), 500, 500_000_000, false),
        (Some(500.0), Some(0.5), 500, 500_000_000, true),
    ];
    for (latency, cost, observed_ms, observed_nanos, stays) in rows {
        let request = limited(a.clone(), latency, cost);
        let table = Table::passing().reporting(A, observed_ms, observed_nanos);
        assert_eq!(served(&policy, &request, table).0 == A, stays, "{latency:?} {cost:?}");
    }
}

#[test]
fn without_limits_no_mean_matters() {
    let policy = three(json!({}));
    let table = Table::passing().reporting(A, u64::MAX, u64::MAX);
    assert_eq!(served(&policy, &drawing(&policy, A), table).0, A);
}

#[test]
fn limits_that_exclude_everyone_are_told_with_what_was_observed() {
    let policy = three(json!({}));
    let request = limited(drawing(&policy, A), Some(100.0), Some(0.5));
    let means = [(A, 101, 0), (B, 50, 600_000_000), (C, 200, 700_000_000)];
    let mut table = means.iter().fold(Table::passing(), |t, (c, ms, nanos)| t.reporting(*c, *ms, *nanos));
    let Routed::Constrained(excluded) = run(&policy, &request, &mut table) else { panic!() };
    let of = |candidate, constraint, latency_ms, cost_nanos| Excluded {
        candidate,
        constraint,
        observed: Observed { latency_ms, cost_nanos },
    };
    assert_eq!(
        excluded,
        [
            of(A, "max_latency_ms", 101, 0),
            of(B, "max_cost", 50, 600_000_000),
            of(C, "max_latency_ms", 200, 700_000_000)
        ]
    );
    assert!(table.asked().is_empty());
}

#[test]
fn limits_and_refusals_together_are_an_open_circuit() {
    let policy = three(json!({}));
    let request = limited(drawing(&policy, A), Some(100.0), None);
    let mut table = Table::refusing(&[B]).reporting(A, 101, 0).reporting(C, 102, 0);
    assert_eq!(run(&policy, &request, &mut table), Routed::CircuitOpen(vec![refused(B)]));
}

#[test]
fn where_limits_leave_no_provider_a_rule_for_everything_still_serves() {
    let everything = falling_back(json!([{"to": "local"}]));
    let open_only = falling_back(json!([{"when": {"status": ["circuit_breaker_open"]}, "to": "local"}]));
    let request = limited(drawing(&everything, A), Some(100.0), None);
    let slow = || Table::passing().reporting(A, 101, 0).reporting(B, 101, 0).reporting(C, 101, 0);
    assert_eq!(served(&everything, &request, slow()), (LOCAL, Reason::Fallback));
    assert!(matches!(run(&open_only, &request, &mut slow()), Routed::Constrained(all) if all.len() == 3));
    let slow_too = slow().reporting(LOCAL, 101, 0);
    assert!(
        matches!(run(&everything, &request, &mut slow_too.clone()), Routed::Constrained(all) if all.len() == 4)
    );
    let refusing = slow().with(LOCAL, refuse(LOCAL));
    assert_eq!(run(&everything, &request, &mut refusing.clone()), Routed::CircuitOpen(vec![refused(LOCAL)]));
}

#[test]
fn a_retry_whose_target_is_excluded_is_served_by_the_draw() {
    let policy = falling_back(json!([
        {"when": {"status": ["timeout"]}, "to": "b"},
        {"when": {"status": ["circuit_breaker_open"]}, "to": "local"},
    ]));
    let request = limited(after("timeout", 2, drawing(&policy, A)), Some(100.0), None);
    let slow_b = || Table::passing().reporting(B, 101, 0);
    assert_eq!(served(&policy, &request, slow_b()).0, A);
    // And an open breaker in its way is a matter for the rule about open breakers.
    let table = slow_b().with(A, refuse(A));
    assert_eq!(served(&policy, &request, table), (LOCAL, Reason::CircuitBreakerFallback));
}

#[test]
fn a_rule_about_breakers_never_leads_to_an_excluded_target() {
    let policy = falling_back(json!([{"to": "c"}, {"to": "local"}]));
    let request = limited(drawing(&policy, A), Some(100.0), None);
    let table = Table::refusing(&[A]).reporting(C, 101, 0);
    assert_eq!(served(&policy, &request, table), (LOCAL, Reason::CircuitBreakerFallback));
}
