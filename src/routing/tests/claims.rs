use super::*;
use crate::routing::Excluded;

#[test]
fn a_candidate_that_needs_a_claim_stops_the_decision() {
    let policy = three(json!({}));
    let request = drawing(&policy, B);
    let mut table = Table::passing().with(B, Admission::Claim);
    assert_eq!(run(&policy, &request, &mut table), Routed::Claim(B));
    assert_eq!(table.asked(), [B]);
}

#[test]
fn the_run_with_the_answer_takes_the_same_way_to_the_same_place() {
    let policy = falling_back(json!([{"when": {"status": ["circuit_breaker_open"]}, "to": "local"}]));
    for n in 0..100 {
        let id = format!("r{n}");
        let request = request(&id);
        let drawn = served(&policy, &request, Table::passing()).0;
        let out = Table::refusing(&[drawn]);

        let mut first = out.clone().with(LOCAL, Admission::Claim);
        assert_eq!(run(&policy, &request, &mut first), Routed::Claim(LOCAL));
        let mut granted = out.clone().with(LOCAL, Admission::Probe);
        let Routed::To(choice) = run(&policy, &request, &mut granted) else { panic!() };
        assert_eq!(
            (choice.candidate, choice.probe, choice.reason),
            (LOCAL, true, Reason::CircuitBreakerFallback)
        );
        assert_eq!(granted.asked(), first.asked());

        let mut refused = out.with(LOCAL, refuse(LOCAL));
        let Routed::To(choice) = run(&policy, &request, &mut refused) else { panic!() };
        assert!(choice.candidate < LOCAL && choice.candidate != drawn);
        assert_eq!(refused.asked(), [first.asked(), vec![choice.candidate]].concat());
    }
}

#[test]
fn claims_are_made_one_after_another_where_each_is_refused() {
    let policy = three(json!({}));
    let request = drawing(&policy, A);
    let mut table = (A..=C).fold(Table::passing(), |t, c| t.with(c, Admission::Claim));
    let mut order = Vec::new();
    loop {
        match run(&policy, &request, &mut table) {
            Routed::Claim(candidate) => {
                assert!(!order.contains(&candidate));
                order.push(candidate);
                table = table.with(candidate, refuse(candidate));
            }
            other => {
                assert_eq!(other, Routed::CircuitOpen(order.iter().map(|c| refused(*c)).collect()));
                break;
            }
        }
    }
    assert_eq!(order.len(), 3);
    assert_eq!(order[0], A);
}

#[test]
fn no_candidate_is_asked_twice_though_rules_and_draws_name_it_often() {
    let policy =
        falling_back(json!([{"to": "a"}, {"to": "local"}, {"to": "b"}, {"to": "local"}, {"to": "c"}]));
    for n in 0..50 {
        let id = format!("r{n}");
        let mut table = Table::refusing(&[A, B, C, LOCAL]);
        let Routed::CircuitOpen(all) = run(&policy, &request(&id), &mut table) else { panic!() };
        assert_eq!(all.len(), 4);
        let mut asked = table.asked();
        asked.sort_unstable();
        assert_eq!(asked, [A, B, C, LOCAL]);
    }
}

#[test]
fn the_trail_tells_each_step_in_order() {
    let policy = falling_back(json!([{"when": {"status": ["circuit_breaker_open"]}, "to": "local"}]));
    let request = RouteRequest {
        constraints: Constraints { max_latency_ms: Some(100.0), max_cost: None },
        ..drawing(&policy, A)
    };
    let mut table = Table::refusing(&[A, LOCAL]).reporting(B, 150, 0);
    let mut trail = Trail::new(true);
    decide(&policy, &request, &mut table, &mut trail);
    let excluded = Excluded {
        candidate: B,
        constraint: "max_latency_ms",
        observed: Observed { latency_ms: 150, cost_nanos: 0 },
    };
    assert_eq!(
        trail.steps(),
        [
            Step::Constraint(excluded),
            Step::Check { candidate: A, admission: refuse(A) },
            Step::Fallback { candidate: LOCAL },
            Step::Check { candidate: LOCAL, admission: refuse(LOCAL) },
            Step::Fallback { candidate: C },
            Step::Check { candidate: C, admission: Admission::Pass },
        ]
    );
}

#[test]
fn the_trail_of_a_used_up_retry_begins_with_the_fallback() {
    let policy = falling_back(json!([{"to": "local"}]));
    let mut trail = Trail::new(true);
    decide(&policy, &after("error", 2, drawing(&policy, A)), &mut Table::passing(), &mut trail);
    let check = Step::Check { candidate: LOCAL, admission: Admission::Pass };
    assert_eq!(trail.steps(), [Step::Fallback { candidate: LOCAL }, check]);
}

#[test]
fn an_unwanted_trail_keeps_nothing() {
    let mut trail = Trail::new(false);
    decide(&three(json!({})), &request("r"), &mut Table::refusing(&[A, B, C]), &mut trail);
    assert!(trail.steps().is_empty());
}
