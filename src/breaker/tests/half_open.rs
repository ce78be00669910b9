use super::*;

#[test]
fn slots_are_granted_up_to_the_cap_and_then_refused() {
    let mut bench = Bench::half_open(|_| {});
    assert_eq!((bench.claim("second"), bench.claim("third")), (Verdict::Granted, Verdict::Granted));
    assert_eq!(bench.claim("fourth"), refused(State::HalfOpen, 1_000));
    assert_eq!(bench.in_flight(), 3);
    assert_eq!(bench.after(29_400).claim("fourth"), refused(State::HalfOpen, 600), "a lease ends sooner");
}

#[test]
fn a_thousand_claims_at_the_moment_the_deadline_passes_get_as_many_slots_as_there_are() {
    let mut bench = Bench::open(|_| {});
    bench.after(60_000);
    let granted = (0..1_000).filter(|n| bench.claim(&format!("r{n}")) == Verdict::Granted).count();
    assert_eq!((granted, bench.in_flight()), (3, 3));
}

#[test]
fn enough_probes_in_a_row_close_it() {
    let mut bench = Bench::half_open(|_| {});
    bench.claim("second");
    let effect = bench.probe("first", Status::Success);
    assert_eq!((disposition(&effect), moves(&effect)), (Disposition::Applied, vec![]));
    assert_eq!((effect.freed, bench.view().successes_in_a_row), (Some(ClaimId(1)), 1));
    let effect = bench.probe("second", Status::Success);
    assert_eq!(moves(&effect), [(State::HalfOpen, State::Closed, Cause::ProbesSucceeded)]);
    assert!(effect.judged.unwrap().probe);
}

#[test]
fn recovery_closes_although_the_old_window_is_full_of_failures_and_starts_empty() {
    let mut bench = Bench::open(|d| (d.timeout_ms, d.error_rate_window_seconds) = (1_000, 3_600));
    bench.after(1_000);
    assert_eq!(bench.window(), (5, 5));
    for n in 0..2 {
        bench.claim(&format!("p{n}"));
    }
    bench.probe("p0", Status::Success);
    let closing = bench.probe("p1", Status::Success);
    assert_eq!(closing.transitions[0].window.failures, 5, "told as it was before it was cleared");
    assert_eq!((bench.state(), bench.window(), bench.view().failures_in_a_row), (State::Closed, (0, 0), 0));
    bench.failures(4);
    assert_eq!(bench.state(), State::Closed, "nor do old failures help new ones");
}

#[test]
fn one_failed_probe_opens_it_again_and_the_other_probes_are_late() {
    let mut bench = Bench::half_open(|_| {});
    bench.claim("second");
    bench.after(500).probe("first", Status::Success);
    let effect = bench.probe("second", Status::Timeout);
    assert_eq!(moves(&effect), [(State::HalfOpen, State::Open, Cause::HalfOpenFailure)]);
    assert_eq!((bench.remaining(), bench.in_flight()), (60_000, 0));

    let mut bench = Bench::half_open(|_| {});
    bench.claim("second");
    bench.after(500).probe("first", Status::Error);
    let late = bench.result(Status::Success, |o| {
        (o.request_id, o.latency_ms) = (Some("second".into()), Some(500));
    });
    assert_eq!((disposition(&late), late.judged.unwrap().probe), (Disposition::Late, false));
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn successes_are_counted_anew_after_it_opened_again() {
    let mut bench = Bench::half_open(|d| d.success_threshold = 3);
    bench.probe("first", Status::Success);
    bench.claim("a");
    bench.probe("a", Status::Success);
    bench.claim("b");
    bench.probe("b", Status::Error);
    bench.after(60_000).claim("c");
    bench.probe("c", Status::Success);
    assert_eq!((bench.state(), bench.view().successes_in_a_row), (State::HalfOpen, 1));
}

#[test]
fn a_success_threshold_above_the_cap_is_reached_by_slots_that_come_free() {
    let mut bench = Bench::half_open(|d| (d.success_threshold, d.half_open_max_calls) = (5, 1));
    bench.probe("first", Status::Success);
    for request in ["b", "c", "d", "e"] {
        assert_eq!(bench.claim(request), Verdict::Granted);
        assert_eq!(bench.state(), State::HalfOpen);
        bench.result(Status::Success, |o| o.request_id = Some(request.into()));
    }
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn lost_probes_give_their_slots_back_and_count_as_neither() {
    let mut bench = Bench::half_open(|_| {});
    for round in 0..5 {
        for n in 0..3 {
            bench.claim(&format!("lost-{round}-{n}"));
        }
        assert_eq!(bench.in_flight(), 3);
        bench.after(29_999);
        assert_eq!(bench.in_flight(), 3);
        bench.after(1);
        assert_eq!(bench.in_flight(), 0);
    }
    let claim = Claim { request_id: "p", claim: ClaimId(99), latest: bench.now, lease_ms: 0 };
    let effect = bench.apply(Input::Claim(claim));
    assert_eq!((effect.verdict, effect.expired_leases), (Some(Verdict::Granted), 3));
    assert_eq!(
        (bench.state(), bench.window(), bench.view().successes_in_a_row),
        (State::HalfOpen, (0, 0), 0)
    );
    bench.probe("p", Status::Success);
    bench.claim("q");
    bench.probe("q", Status::Success);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn a_probe_whose_lease_has_ended_judges_nothing() {
    let mut bench = Bench::half_open(|_| {});
    let mut in_time = bench.clone();
    in_time.after(29_999).probe("first", Status::Error);
    assert_eq!(in_time.state(), State::Open);
    let effect = bench.after(30_000).probe("first", Status::Error);
    assert_eq!((disposition(&effect), effect.expired_leases, effect.freed), (Disposition::Ignored, 1, None));
    assert_eq!(bench.state(), State::HalfOpen);
}

#[test]
fn a_lease_lasts_as_long_as_its_assignment_if_that_is_longer() {
    let mut bench = Bench::open(|d| d.half_open_max_calls = 1);
    bench.after(60_000);
    assert_eq!(bench.claim_with("a", bench.now, 61_000), Verdict::Granted);
    assert_eq!(bench.after(60_999).claim("b"), refused(State::HalfOpen, 1));
    let now = bench.after(1).now;
    assert_eq!(
        bench.claim_with("b", now, 1),
        Verdict::Granted,
        "an assignment that ends sooner shortens nothing"
    );
    assert_eq!(bench.after(29_999).claim("c"), refused(State::HalfOpen, 1));
    assert_eq!(bench.after(1).claim("c"), Verdict::Granted);
}

#[test]
fn a_cancelled_probe_and_one_with_an_ignored_code_free_their_slots_and_count_as_neither() {
    let mut bench = Bench::half_open(|d| d.ignored_error_codes = vec!["bad_request".to_owned()]);
    bench.claim("second");
    bench.claim("third");
    bench.probe("first", Status::Success);
    let effect = bench.probe("second", Status::Cancelled);
    assert_eq!((disposition(&effect), effect.freed), (Disposition::Ignored, Some(ClaimId(2))));
    let effect = bench.result(Status::Error, |o| {
        (o.request_id, o.error_code) = (Some("third".into()), Some("bad_request".into()));
    });
    assert_eq!((disposition(&effect), effect.freed), (Disposition::Ignored, Some(ClaimId(3))));
    assert_eq!((bench.state(), bench.in_flight(), bench.view().successes_in_a_row), (State::HalfOpen, 0, 1));
}

#[test]
fn a_request_that_holds_a_slot_gets_no_second_one() {
    let mut bench = Bench::half_open(|_| {});
    assert_eq!(bench.claim("first"), refused(State::HalfOpen, 1_000));
    assert_eq!(bench.in_flight(), 1);
    bench.probe("first", Status::Success);
    assert_eq!(bench.claim("first"), Verdict::Granted, "but may probe again once it has answered");
}

#[test]
fn a_claim_that_lands_late_takes_no_slot() {
    let mut bench = Bench::half_open(|_| {});
    assert_eq!(bench.claim_with("b", bench.now.minus(1), 0), refused(State::HalfOpen, 1_000));
    assert_eq!(bench.in_flight(), 1);
    assert_eq!(bench.claim_with("b", bench.now, 0), Verdict::Granted);
}

#[test]
fn a_release_frees_only_the_slot_of_its_claim() {
    let mut bench = Bench::half_open(|_| {});
    bench.claim("second");
    assert_eq!(bench.apply(Input::Release(ClaimId(77))).freed, None);
    assert_eq!(bench.in_flight(), 2);
    assert_eq!(bench.apply(Input::Release(ClaimId(2))).freed, Some(ClaimId(2)));
    assert_eq!(bench.in_flight(), 1);
    assert_eq!(bench.apply(Input::Release(ClaimId(2))).freed, None, "twice does nothing");
    assert!(bench.probe("first", Status::Success).judged.unwrap().probe);
    assert!(!bench.probe("second", Status::Error).judged.unwrap().probe, "it gave its slot up");
    assert_eq!(bench.state(), State::HalfOpen);
}

#[test]
fn only_claimed_requests_judge() {
    let mut bench = Bench::half_open(|d| d.success_threshold = 1);
    let before = bench.breaker.clone();
    for status in [Status::Success, Status::Error] {
        assert_eq!(disposition(&bench.result(status, |_| {})), Disposition::Ignored);
        assert_eq!(disposition(&bench.probe("stranger", status)), Disposition::Ignored);
    }
    assert_eq!(bench.breaker, before);
}

#[test]
fn the_second_copy_of_a_probes_result_is_a_stray() {
    let mut bench = Bench::half_open(|_| {});
    bench.probe("first", Status::Success);
    let effect = bench.probe("first", Status::Success);
    assert_eq!((disposition(&effect), effect.judged.unwrap().probe), (Disposition::Ignored, false));
    assert_eq!((bench.state(), bench.view().successes_in_a_row), (State::HalfOpen, 1));
}

#[test]
fn a_result_from_before_the_trip_is_late_and_a_probes_never_is() {
    let mut bench = Bench::half_open(|_| {});
    bench.after(10);
    let old = |o: &mut Outcome<'static>| o.latency_ms = Some(70_010);
    assert_eq!(disposition(&bench.result(Status::Error, old)), Disposition::Late);
    assert_eq!((bench.state(), bench.window()), (State::HalfOpen, (0, 0)));
    let effect = bench.result(Status::Success, |o| {
        (o.request_id, o.latency_ms) = (Some("first".into()), Some(70_010));
    });
    assert_eq!(disposition(&effect), Disposition::Applied);
    assert_eq!(bench.view().successes_in_a_row, 1);
}

#[test]
fn a_result_of_a_call_that_began_while_it_was_open_is_late() {
    let mut bench = Bench::half_open(|_| {});
    bench.after(10);
    let effect = bench.result(Status::Success, |o| o.latency_ms = Some(11));
    assert_eq!(disposition(&effect), Disposition::Late);
    let effect = bench.result(Status::Success, |o| o.latency_ms = Some(10));
    assert_eq!(disposition(&effect), Disposition::Ignored, "a stray");
}

#[test]
fn probes_that_answer_in_another_order_count_the_same() {
    let mut bench = Bench::half_open(|d| d.success_threshold = 3);
    bench.claim("second");
    bench.claim("third");
    for request in ["third", "first", "second"] {
        assert!(bench.probe(request, Status::Success).judged.unwrap().probe);
    }
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn a_slow_probe_is_a_failed_one() {
    let mut bench = Bench::half_open(|d| (d.latency_threshold_ms, d.success_threshold) = (Some(1_000), 1));
    let effect = bench.result(Status::Success, |o| {
        (o.request_id, o.latency_ms, o.retry_after_ms) = (Some("first".into()), Some(1_001), Some(200_000));
    });
    assert_eq!(moves(&effect), [(State::HalfOpen, State::Open, Cause::HalfOpenFailure)]);
    assert_eq!(bench.remaining(), 60_000, "but a hint on a success is none");
}

#[test]
fn a_failed_probes_retry_hint_holds_it_open() {
    let mut bench = Bench::half_open(|_| {});
    let effect = bench.result(Status::Error, |o| {
        (o.request_id, o.retry_after_ms) = (Some("first".into()), Some(200_000));
    });
    assert_eq!(effect.transitions[0].open_until, Some(bench.now.plus(200_000)));
    assert_eq!(bench.remaining(), 200_000);
}

#[test]
fn a_clock_set_back_starts_each_lease_anew_at_its_own_length() {
    let mut bench = Bench::half_open(|_| {});
    bench.claim_with("long", bench.now, 61_000);
    bench.after(20_000);
    bench.now = bench.now.minus(DAY_MS);
    bench.apply(Input::ClockSetBack);
    assert_eq!((bench.state(), bench.in_flight()), (State::HalfOpen, 2));
    bench.after(30_000);
    assert_eq!(bench.in_flight(), 1);
    assert!(bench.after(30_999).probe("long", Status::Success).judged.unwrap().probe);
}
