use super::*;

#[test]
fn forced_open_refuses_without_end_until_auto() {
    let mut bench = Bench::new(|_| {});
    let effect = bench.force(State::Open, None);
    assert_eq!(moves(&effect), [(State::Closed, State::Open, Cause::Forced)]);
    assert_eq!(effect.transitions[0].open_until, None);
    assert_eq!(bench.after(100 * DAY_MS).claim("a"), refused(State::Open, 60_000));
    assert_eq!(bench.view().remaining_ms, None);
    assert_eq!(bench.view().forced, Some((State::Open, None)));
    assert_eq!(bench.success(), Disposition::Ignored);
    assert_eq!((bench.state(), bench.view().trips), (State::Open, 0));
}

#[test]
fn forced_closed_admits_and_counts_whatever_comes_and_opens_for_nothing() {
    let mut bench = Bench::new(|_| {});
    bench.force(State::Closed, None);
    bench.failures(50);
    assert_eq!((bench.state(), bench.window()), (State::Closed, (50, 50)));
    assert_eq!(bench.view().failures_in_a_row, 0);
    assert_eq!(bench.claim("a"), Verdict::NotNeeded);
}

#[test]
fn after_forced_closed_it_is_closed_and_empty_whatever_it_was_before() {
    for mut bench in [Bench::new(|_| {}), Bench::open(|_| {}), Bench::half_open(|_| {})] {
        bench.force(State::Closed, None);
        bench.failures(50);
        let effect = bench.apply(Input::Unforce);
        assert_eq!(moves(&effect), [(State::Closed, State::Closed, Cause::ForceLifted)]);
        assert_eq!(
            (bench.state(), bench.window(), bench.view().failures_in_a_row),
            (State::Closed, (0, 0), 0)
        );
        assert_eq!(bench.in_flight(), 0);
        bench.failures(4);
        assert_eq!(bench.state(), State::Closed);
        bench.failure();
        assert_eq!(bench.state(), State::Open);
    }
}

#[test]
fn after_forced_open_it_is_half_open_with_every_slot_free_whatever_it_was_before() {
    for mut bench in [Bench::new(|_| {}), Bench::open(|_| {}), Bench::half_open(|_| {})] {
        bench.force(State::Open, None);
        let effect = bench.after(1_000).apply(Input::Unforce);
        assert_eq!(moves(&effect), [(State::Open, State::HalfOpen, Cause::ForceLifted)]);
        assert_eq!((bench.in_flight(), bench.view().successes_in_a_row, bench.window()), (0, 0, (0, 0)));
        assert_eq!(bench.success(), Disposition::Ignored, "half-open is judged by claims alone");
        for n in 0..2 {
            assert_eq!(bench.claim(&format!("p{n}")), Verdict::Granted);
        }
        bench.probe("p0", Status::Success);
        bench.probe("p1", Status::Success);
        assert_eq!(bench.state(), State::Closed);
    }
}

#[test]
fn a_force_ends_with_its_ttl_at_the_next_input_and_not_a_moment_before() {
    let mut bench = Bench::new(|_| {});
    bench.force(State::Open, Some(5_000));
    assert_eq!(bench.after(4_999).claim("a"), refused(State::Open, 1));
    assert_eq!((bench.state(), bench.remaining()), (State::Open, 1));
    bench.after(1);
    assert_eq!(bench.view().state, State::HalfOpen, "who looks sees that it is over");
    let over = bench.now;
    bench.after(700);
    let claim = Claim { request_id: "a", claim: ClaimId(9), latest: bench.now, lease_ms: 0 };
    let effect = bench.apply(Input::Claim(claim));
    assert_eq!(moves(&effect), [(State::Open, State::HalfOpen, Cause::ForceLifted)]);
    assert_eq!(effect.transitions[0].at, over, "it ended when its time was over, whenever that was found");
    assert_eq!((effect.verdict, bench.view().forced), (Some(Verdict::Granted), None));
}

#[test]
fn a_call_that_began_after_the_ttl_is_not_late_though_it_is_the_first_to_find_it_over() {
    let mut bench = Bench::new(|d| d.failure_threshold = 1);
    bench.force(State::Closed, Some(1_000));
    bench.after(3_000);
    let judged = bench.result(Status::Error, |o| o.latency_ms = Some(1_500));
    assert_eq!(judged.judged.map(|j| j.disposition), Some(Disposition::Applied));
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn a_ttl_of_nothing_is_over_at_the_next_input() {
    let mut bench = Bench::new(|_| {});
    bench.force(State::Open, Some(0));
    assert_eq!(bench.state(), State::Open);
    bench.apply(Input::Release(ClaimId(1)));
    assert_eq!(bench.state(), State::HalfOpen);
}

#[test]
fn nothing_but_force_commands_and_the_ttl_moves_a_force() {
    for to in [State::Open, State::Closed] {
        let mut bench = Bench::half_open(|_| {});
        bench.force(to, Some(DAY_MS));
        bench.failures(20).successes(20);
        bench.probe("first", Status::Error);
        bench.claim("x");
        bench.apply(Input::Release(ClaimId(1)));
        assert_eq!(bench.apply(Input::Reset), Effect::default());
        bench.apply(Input::Suspend(true));
        bench.apply(Input::Suspend(false));
        bench.configure(|d| d.failure_threshold = 1);
        bench.configure(|d| d.enabled = false);
        bench.configure(|d| d.enabled = true);
        bench.apply(Input::ClockSetBack);
        bench.failures(20);
        assert_eq!((bench.state(), bench.view().forced), (to, Some((to, Some(bench.now.plus(DAY_MS))))));
    }
}

#[test]
fn while_forced_what_lies_beneath_does_not_move() {
    let mut bench = Bench::half_open(|_| {});
    bench.force(State::Open, None);
    let before = bench.breaker.clone();
    let effect = bench.probe("first", Status::Error);
    assert_eq!(
        (disposition(&effect), effect.judged.unwrap().probe, effect.freed),
        (Disposition::Ignored, false, None)
    );
    assert_eq!(bench.apply(Input::Release(ClaimId(1))), Effect::default());
    bench.claim("other");
    bench.after(DAY_MS).failure();
    assert_eq!(bench.breaker, before);
}

#[test]
fn a_new_force_takes_the_place_of_the_old_one_with_its_ttl() {
    let mut bench = Bench::new(|_| {});
    bench.force(State::Open, Some(5_000));
    let effect = bench.after(1_000).force(State::Open, Some(60_000));
    assert_eq!(moves(&effect), [(State::Open, State::Open, Cause::Forced)], "told though it shows the same");
    assert_eq!(bench.remaining(), 60_000);
    let effect = bench.force(State::Closed, None);
    assert_eq!(moves(&effect), [(State::Open, State::Closed, Cause::Forced)]);
    assert_eq!(bench.view().forced, Some((State::Closed, None)));
}

#[test]
fn half_open_cannot_be_forced_and_is_taken_as_closed() {
    let mut bench = Bench::new(|_| {});
    bench.force(State::HalfOpen, None);
    assert_eq!(bench.view().forced, Some((State::Closed, None)));
}

#[test]
fn auto_without_a_force_does_nothing() {
    for mut bench in [Bench::new(|_| {}), Bench::open(|_| {}), Bench::half_open(|_| {})] {
        let before = bench.breaker.clone();
        assert_eq!(bench.apply(Input::Unforce), Effect::default());
        assert_eq!(bench.breaker, before);
    }
}

#[test]
fn a_force_makes_earlier_calls_late_and_so_does_its_end() {
    let mut bench = Bench::new(|_| {});
    bench.after(1_000).force(State::Closed, None);
    let earlier = |o: &mut Outcome<'static>| o.latency_ms = Some(1);
    assert_eq!(disposition(&bench.result(Status::Error, earlier)), Disposition::Late);
    bench.after(1_000).apply(Input::Unforce);
    assert_eq!(disposition(&bench.result(Status::Error, earlier)), Disposition::Late);
    assert_eq!(bench.window(), (0, 0));
}

#[test]
fn a_clock_set_back_starts_a_ttl_anew() {
    let mut bench = Bench::new(|_| {});
    bench.force(State::Open, Some(60_000));
    bench.after(50_000);
    bench.now = bench.now.minus(DAY_MS);
    bench.apply(Input::ClockSetBack);
    assert_eq!(bench.remaining(), 60_000);
}

#[test]
fn a_reset_closes_it_and_sets_every_counter_to_zero() {
    for mut bench in [Bench::new(|_| {}), Bench::open(|_| {}), Bench::half_open(|_| {})] {
        let from = bench.state();
        bench.failures(3).after(1_000);
        let effect = bench.apply(Input::Reset);
        assert_eq!(moves(&effect), [(from, State::Closed, Cause::Reset)]);
        let view = bench.view();
        assert_eq!(
            (view.state, view.trips, view.failures_in_a_row, view.half_open_in_flight),
            (State::Closed, 0, 0, 0)
        );
        assert_eq!((bench.window(), view.failure_share.as_f64()), ((0, 0), 0.0));
        assert_eq!(disposition(&bench.result(Status::Error, |o| o.latency_ms = Some(1))), Disposition::Late);
        assert_eq!(bench.failure(), Disposition::Applied);
    }
}

#[test]
fn a_reset_starts_the_backoff_over() {
    let mut bench = Bench::half_open(|d| d.backoff_multiplier = 2.0);
    bench.probe("first", Status::Error);
    assert_eq!(bench.remaining(), 120_000);
    bench.apply(Input::Reset);
    bench.trip();
    assert_eq!(bench.remaining(), 60_000);
}

#[test]
fn with_the_flag_off_results_are_counted_and_judge_nothing() {
    let mut bench = Bench::new(|_| {});
    assert_eq!(bench.apply(Input::Suspend(true)), Effect::default());
    assert_eq!(bench.failures(50).failure(), Disposition::Applied);
    assert_eq!((bench.state(), bench.window(), bench.view().suspended), (State::Closed, (51, 51), true));
    assert_eq!(bench.claim("a"), Verdict::NotNeeded);
}

#[test]
fn with_the_flag_on_again_it_starts_closed_and_empty_whatever_it_was_before() {
    for mut bench in [Bench::new(|_| {}), Bench::open(|_| {}), Bench::half_open(|_| {})] {
        let from = bench.state();
        let effect = bench.apply(Input::Suspend(true));
        let told = if from == State::Closed { vec![] } else { vec![(from, State::Closed, Cause::Flag)] };
        assert_eq!(moves(&effect), told);
        assert_eq!(bench.window(), (0, 0), "off, it counts from zero");
        bench.failures(50).apply(Input::Suspend(false));
        assert_eq!(
            (bench.state(), bench.window(), bench.view().failures_in_a_row),
            (State::Closed, (0, 0), 0)
        );
        assert_eq!((bench.in_flight(), bench.view().suspended), (0, false));
        bench.failures(4);
        assert_eq!(bench.state(), State::Closed);
    }
}

#[test]
fn a_flag_set_to_what_it_is_changes_nothing() {
    let mut bench = Bench::half_open(|_| {});
    let before = bench.breaker.clone();
    assert_eq!(bench.apply(Input::Suspend(false)), Effect::default());
    assert_eq!(bench.breaker, before);
    bench.apply(Input::Suspend(true));
    bench.failures(3);
    let before = bench.breaker.clone();
    assert_eq!(bench.apply(Input::Suspend(true)), Effect::default());
    assert_eq!(bench.breaker, before);
}

#[test]
fn the_flag_goes_before_a_force_and_a_force_before_the_breakers_own_judgement() {
    let mut bench = Bench::open(|_| {});
    bench.force(State::Closed, None);
    assert_eq!((bench.state(), bench.claim("a")), (State::Closed, Verdict::NotNeeded));
    bench.force(State::Open, None);
    assert_eq!((bench.state(), bench.claim("a")), (State::Open, refused(State::Open, 60_000)));
    let effect = bench.apply(Input::Suspend(true));
    assert_eq!(moves(&effect), [(State::Open, State::Closed, Cause::Flag)]);
    assert_eq!((bench.state(), bench.claim("a")), (State::Closed, Verdict::NotNeeded));
    assert_eq!(bench.success(), Disposition::Applied, "counted, as with no force");
    assert_eq!(bench.view().forced, Some((State::Open, None)));
    let effect = bench.apply(Input::Suspend(false));
    assert_eq!(moves(&effect), [(State::Closed, State::Open, Cause::Flag)]);
    assert_eq!((bench.state(), bench.claim("a")), (State::Open, refused(State::Open, 60_000)));
}

#[test]
fn a_force_that_ends_while_the_flag_is_off_leaves_it_closed_and_empty() {
    let mut bench = Bench::new(|_| {});
    bench.force(State::Open, Some(1_000));
    bench.apply(Input::Suspend(true));
    bench.after(2_000).failures(3);
    assert_eq!((bench.view().forced, bench.state()), (None, State::Closed));
    bench.apply(Input::Suspend(false));
    assert_eq!((bench.state(), bench.window()), (State::Closed, (0, 0)));
    assert_eq!(bench.claim("a"), Verdict::NotNeeded);
}

#[test]
fn shadow_mode_tracks_all_the_same_and_tells_the_gate_its_share() {
    let mut shadow = Bench::half_open(|d| d.enforce_percent = 0);
    let mut full = Bench::half_open(|_| {});
    for bench in [&mut shadow, &mut full] {
        assert_eq!(bench.claim("second"), Verdict::Granted);
        bench.probe("first", Status::Success);
        bench.probe("second", Status::Error);
    }
    assert_eq!(shadow.view(), full.view());
    assert_eq!(shadow.breaker.gate().position, full.breaker.gate().position);
    assert_eq!((shadow.breaker.gate().enforce_percent, full.breaker.gate().enforce_percent), (0, 100));
}
