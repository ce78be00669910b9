//! A new policy revision changes settings, not evidence.

use super::*;

#[test]
fn settings_that_are_the_same_change_nothing() {
    for mut bench in [Bench::new(|_| {}), Bench::open(|_| {}), Bench::half_open(|_| {})] {
        bench.failures(2).after(1_000);
        let before = bench.breaker.clone();
        assert_eq!(bench.configure(|_| {}), Effect::default());
        assert_eq!(bench.breaker, before);
    }
}

#[test]
fn a_change_of_settings_is_no_transition_and_makes_nothing_late() {
    let mut bench = Bench::new(|_| {});
    bench.after(1_000);
    assert_eq!(bench.configure(|d| d.failure_threshold = 9), Effect::default());
    assert_eq!(disposition(&bench.result(Status::Error, |o| o.latency_ms = Some(500))), Disposition::Applied);
    assert_eq!(bench.view().last_transition, None);
}

#[test]
fn a_threshold_below_the_present_count_opens_at_the_next_failure() {
    let mut bench = Bench::new(|_| {});
    bench.failures(4);
    assert_eq!(bench.configure(|d| d.failure_threshold = 2), Effect::default());
    assert_eq!(bench.state(), State::Closed, "not at once");
    let mut spared = bench.clone();
    spared.success();
    spared.failure();
    assert_eq!(spared.state(), State::Closed, "a success ends the row first");
    bench.failure();
    assert_eq!((bench.state(), bench.view().failures_in_a_row), (State::Open, 5));
}

#[test]
fn a_threshold_above_the_present_count_lets_the_row_grow_on() {
    let mut bench = Bench::new(|_| {});
    bench.failures(4).configure(|d| d.failure_threshold = 7);
    bench.failures(2);
    assert_eq!(bench.state(), State::Closed);
    bench.failure();
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn a_lower_rate_or_minimum_judges_from_the_next_result_on() {
    let mut rate = Bench::new(|d| (d.failure_threshold, d.error_rate_threshold) = (100, 0.9));
    rate.successes(10).failures(10).configure(|d| d.error_rate_threshold = 0.4);
    assert_eq!(rate.state(), State::Closed);
    rate.success();
    assert_eq!(rate.state(), State::Open);
    let mut minimum = Bench::new(|d| (d.failure_threshold, d.minimum_requests) = (100, 50));
    minimum.failures(20).configure(|d| d.minimum_requests = 10);
    assert_eq!(minimum.state(), State::Closed);
    minimum.failure();
    assert_eq!(minimum.state(), State::Open);
}

#[test]
fn a_shorter_timeout_applies_from_now_while_open() {
    let mut bench = Bench::open(|_| {});
    bench.after(10_000).configure(|d| d.timeout_ms = 15_000);
    assert_eq!(bench.remaining(), 5_000);
    bench.configure(|d| d.timeout_ms = 5_000);
    assert_eq!((bench.state(), bench.remaining()), (State::Open, 0));
    assert_eq!(bench.claim("a"), Verdict::Granted);
}

#[test]
fn a_longer_timeout_applies_from_now_while_open_even_past_the_old_deadline() {
    let mut bench = Bench::open(|_| {});
    bench.after(70_000).configure(|d| d.timeout_ms = 100_000);
    assert_eq!(bench.claim("a"), refused(State::Open, 30_000));
}

#[test]
fn a_lower_longest_time_cuts_a_hint_that_holds_and_a_higher_one_does_not_bring_it_back() {
    let mut bench = Bench::new(|_| {});
    bench.failures(4).result(Status::Error, |o| o.retry_after_ms = Some(250_000));
    bench.configure(|d| d.max_timeout_ms = 120_000);
    assert_eq!(bench.remaining(), 120_000);
    bench.configure(|d| d.max_timeout_ms = 300_000);
    assert_eq!(bench.remaining(), 250_000, "the hint is kept as it came");
    let mut cut = Bench::new(|d| d.max_timeout_ms = 120_000);
    cut.failures(4).result(Status::Error, |o| o.retry_after_ms = Some(250_000));
    cut.configure(|d| d.max_timeout_ms = 300_000);
    assert_eq!(cut.remaining(), 120_000, "cut when it came, by the settings of that moment");
    cut.configure(|d| d.max_timeout_ms = 130_000);
    cut.after(1_000);
    cut.result(Status::Error, |o| (o.latency_ms, o.retry_after_ms) = (Some(2_000), Some(250_000)));
    cut.configure(|d| d.max_timeout_ms = 300_000);
    assert_eq!(cut.remaining(), 129_000, "so is one that came late");
}

#[test]
fn a_longer_window_keeps_what_is_in_it_for_longer() {
    let mut bench = Bench::new(|d| d.failure_threshold = 100);
    bench.failures(5).after(59_000).configure(|d| d.error_rate_window_seconds = 120);
    assert_eq!(bench.window(), (5, 5));
    assert_eq!(bench.after(60_999).window(), (5, 5));
    assert_eq!(bench.after(1).window(), (0, 0), "gone 120 s after they came");
}

#[test]
fn a_shorter_window_keeps_what_fits() {
    let mut bench = Bench::new(|d| d.failure_threshold = 100);
    bench.failures(5).after(40_000).successes(3);
    bench.after(9_000).configure(|d| d.error_rate_window_seconds = 20);
    assert_eq!(bench.window(), (3, 0));
    // They are kept by the six-second bucket that they lay in, which began 4 s before they came.
    assert_eq!(bench.after(6_999).window(), (3, 0));
    assert_eq!(bench.after(1).window(), (0, 0));
}

#[test]
fn what_a_shorter_window_dropped_does_not_come_back_with_a_longer_one() {
    let mut bench = Bench::new(|d| d.failure_threshold = 100);
    bench.failures(5).after(30_000).configure(|d| d.error_rate_window_seconds = 10);
    assert_eq!(bench.view().failures_in_a_row, 0, "30 s without a result end the row now");
    bench.configure(|d| d.error_rate_window_seconds = 600);
    assert_eq!((bench.window(), bench.view().failures_in_a_row), ((0, 0), 0));
    let mut row = Bench::new(|d| d.error_rate_window_seconds = 10);
    row.failures(4).after(10_000).configure(|d| d.error_rate_window_seconds = 600);
    assert_eq!(row.view().failures_in_a_row, 0);
    row.failure();
    assert_eq!(row.state(), State::Closed);
}

#[test]
fn a_cap_below_what_is_in_flight_takes_no_slot_away_and_grants_none_until_below_it() {
    let mut bench = Bench::half_open(|d| d.success_threshold = 10);
    bench.claim("second");
    bench.claim("third");
    assert_eq!(bench.configure(|d| d.half_open_max_calls = 1), Effect::default());
    assert_eq!(bench.in_flight(), 3);
    assert!(bench.probe("third", Status::Success).judged.unwrap().probe);
    assert_eq!(bench.claim("d"), refused(State::HalfOpen, 1_000));
    bench.probe("second", Status::Success);
    assert_eq!(bench.claim("d"), refused(State::HalfOpen, 1_000));
    bench.probe("first", Status::Success);
    assert_eq!((bench.claim("d"), bench.claim("e")), (Verdict::Granted, refused(State::HalfOpen, 1_000)));
}

#[test]
fn a_higher_cap_has_free_slots_at_once() {
    let mut bench = Bench::half_open(|d| d.half_open_max_calls = 1);
    assert_eq!(bench.claim("b"), refused(State::HalfOpen, 1_000));
    bench.configure(|d| d.half_open_max_calls = 2);
    assert_eq!((bench.claim("b"), bench.claim("c")), (Verdict::Granted, refused(State::HalfOpen, 1_000)));
}

#[test]
fn another_probe_timeout_holds_for_the_leases_that_come() {
    let mut bench = Bench::half_open(|_| {});
    bench.configure(|d| d.probe_timeout_ms = 1_000);
    bench.claim("short");
    bench.after(1_000);
    assert_eq!(bench.in_flight(), 1);
    assert!(bench.probe("first", Status::Success).judged.unwrap().probe);
}

#[test]
fn a_success_threshold_at_or_below_the_present_count_closes_at_the_next_success() {
    let mut bench = Bench::half_open(|d| d.success_threshold = 10);
    for n in 0..3 {
        bench.claim(&format!("p{n}"));
    }
    bench.probe("p0", Status::Success);
    bench.probe("p1", Status::Success);
    bench.configure(|d| d.success_threshold = 1);
    assert_eq!(bench.state(), State::HalfOpen);
    bench.probe("first", Status::Success);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn disabling_clears_it_whatever_it_was() {
    for mut bench in [Bench::new(|_| {}), Bench::open(|_| {}), Bench::half_open(|_| {})] {
        let from = bench.state();
        bench.failures(3);
        let effect = bench.after(1_000).configure(|d| d.enabled = false);
        let told = if from == State::Closed { vec![] } else { vec![(from, State::Closed, Cause::Disabled)] };
        assert_eq!(moves(&effect), told);
        assert_eq!(
            (bench.state(), bench.window(), bench.view().failures_in_a_row),
            (State::Closed, (0, 0), 0)
        );
        assert_eq!(bench.in_flight(), 0);
    }
}

#[test]
fn disabled_it_counts_refuses_nothing_and_is_enabled_without_evidence() {
    let mut bench = Bench::new(|d| d.enabled = false);
    bench.failures(50);
    assert_eq!(
        (bench.state(), bench.window(), bench.claim("a")),
        (State::Closed, (50, 50), Verdict::NotNeeded)
    );
    assert_eq!(bench.configure(|d| d.enabled = true), Effect::default());
    assert_eq!((bench.window(), bench.view().failures_in_a_row), ((0, 0), 0));
    bench.failures(4);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn a_force_holds_while_disabled_and_leaves_it_closed() {
    let mut bench = Bench::new(|d| d.enabled = false);
    bench.force(State::Open, None);
    assert_eq!(bench.claim("a"), refused(State::Open, 60_000));
    let effect = bench.apply(Input::Unforce);
    assert_eq!(moves(&effect), [(State::Open, State::Closed, Cause::ForceLifted)]);
    assert_eq!(bench.claim("a"), Verdict::NotNeeded);
}

#[test]
fn other_failure_statuses_and_ignored_codes_judge_what_comes_and_not_what_came() {
    let mut bench = Bench::new(|_| {});
    bench.failures(4).configure(|d| d.failure_statuses = vec![Status::Timeout]);
    assert_eq!(bench.window(), (4, 4));
    assert_eq!((bench.failure(), bench.window()), (Disposition::Applied, (5, 4)));
    bench.configure(|d| d.ignored_error_codes = vec!["quota".to_owned()]);
    let effect = bench.result(Status::Timeout, |o| o.error_code = Some("quota".into()));
    assert_eq!((disposition(&effect), bench.window()), (Disposition::Ignored, (5, 4)));
}
