use super::*;

#[test]
fn the_first_call_ever_that_fails_opens_nothing() {
    let mut bench = Bench::new(|_| {});
    assert_eq!(bench.failure(), Disposition::Applied);
    assert_eq!((bench.state(), bench.window()), (State::Closed, (1, 1)));
    assert_eq!(bench.breaker.counts(bench.now).error_rate().as_f64(), 1.0);
}

#[test]
fn the_first_call_ever_opens_only_where_settings_ask_for_one_request() {
    let mut by_rate = Bench::new(|d| d.minimum_requests = 1);
    by_rate.failure();
    assert_eq!(by_rate.state(), State::Open);
    let mut by_row = Bench::new(|d| d.failure_threshold = 1);
    by_row.failure();
    assert_eq!(by_row.state(), State::Open);
}

#[test]
fn failures_in_a_row_open_at_the_threshold_and_not_before() {
    let mut bench = Bench::new(|_| {});
    bench.failures(4);
    assert_eq!((bench.state(), bench.view().failures_in_a_row), (State::Closed, 4));
    let effect = bench.result(Status::Timeout, |_| {});
    assert_eq!(moves(&effect), [(State::Closed, State::Open, Cause::FailureThresholdExceeded)]);
    let told = effect.transitions[0];
    assert_eq!((told.at, told.failures_in_a_row, told.trips), (START, 5, 1));
    assert_eq!((told.window.requests, told.window.failures), (5, 5));
    assert_eq!(told.open_until, Some(START.plus(60_000)));
    assert_eq!(bench.breaker.failure_share().as_f64(), 1.0);
}

#[test]
fn a_success_ends_the_row() {
    let mut bench = Bench::new(|d| d.minimum_requests = 100);
    for _ in 0..10 {
        bench.failures(4).successes(1);
    }
    assert_eq!((bench.state(), bench.view().failures_in_a_row), (State::Closed, 0));
}

#[test]
fn the_row_ends_when_a_whole_window_passes_without_a_result_and_not_a_moment_before() {
    let mut ended = Bench::new(|_| {});
    ended.failures(4).after(60_000);
    assert_eq!(ended.view().failures_in_a_row, 0);
    ended.failure();
    assert_eq!((ended.state(), ended.view().failures_in_a_row), (State::Closed, 1));

    let mut goes_on = Bench::new(|_| {});
    goes_on.failures(4).after(59_999);
    assert_eq!(goes_on.view().failures_in_a_row, 4);
    goes_on.failure();
    assert_eq!(goes_on.state(), State::Open);
}

#[test]
fn a_row_may_be_longer_than_a_window_if_no_gap_in_it_is() {
    let mut bench = Bench::new(|_| {});
    for _ in 0..4 {
        bench.failures(1).after(50_000);
    }
    bench.failure();
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn an_error_rate_exactly_at_the_threshold_opens_and_one_below_does_not() {
    let mut below = Bench::new(|d| (d.failure_threshold, d.error_rate_threshold) = (100, 0.6));
    below.successes(5).failures(5);
    assert_eq!((below.window(), below.state()), ((10, 5), State::Closed));
    let mut at = Bench::new(|d| (d.failure_threshold, d.error_rate_threshold) = (100, 0.6));
    at.successes(4).failures(5);
    let effect = at.result(Status::Error, |_| {});
    assert_eq!(moves(&effect), [(State::Closed, State::Open, Cause::ErrorRateThresholdExceeded)]);
    assert_eq!(at.breaker.failure_share().as_f64(), 0.6);
}

#[test]
fn an_error_rate_threshold_of_one_opens_only_when_every_call_failed() {
    let all = |d: &mut SettingsDraft| (d.failure_threshold, d.error_rate_threshold) = (100, 1.0);
    let mut one_good = Bench::new(all);
    one_good.successes(1).failures(50);
    assert_eq!(one_good.state(), State::Closed);
    let mut none_good = Bench::new(all);
    none_good.failures(9);
    assert_eq!(none_good.state(), State::Closed);
    none_good.failure();
    assert_eq!(none_good.state(), State::Open);
}

#[test]
fn rates_do_not_judge_below_minimum_requests() {
    let mut bench = Bench::new(|d| (d.failure_threshold, d.minimum_requests) = (100, 20));
    bench.failures(19);
    assert_eq!(bench.state(), State::Closed);
    bench.failure();
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn a_success_that_fills_minimum_requests_may_be_what_opens() {
    let mut bench = Bench::new(|d| d.failure_threshold = 100);
    bench.failures(9);
    let effect = bench.result(Status::Success, |o| o.retry_after_ms = Some(200_000));
    assert_eq!(moves(&effect), [(State::Closed, State::Open, Cause::ErrorRateThresholdExceeded)]);
    assert_eq!(bench.remaining(), 60_000, "a hint on a success is none");
}

#[test]
fn idle_gaps_of_a_bucket_a_window_and_a_hundred_days_leave_what_is_left() {
    let mut bench = Bench::new(|d| d.failure_threshold = 100);
    bench.failures(5).after(6_000).successes(2);
    assert_eq!(bench.window(), (7, 5));
    assert_eq!(bench.after(53_999).window(), (7, 5));
    assert_eq!(bench.after(1).window(), (2, 0), "one window after they came");
    assert_eq!(bench.after(6_000).window(), (0, 0));
    bench.failures(9);
    assert_eq!(bench.after(100 * DAY_MS).window(), (0, 0));
    bench.failure();
    assert_eq!((bench.window(), bench.state()), ((1, 1), State::Closed));
}

#[test]
fn failures_that_slid_out_of_the_window_open_nothing() {
    let mut bench = Bench::new(|d| d.failure_threshold = 100);
    for _ in 0..20 {
        bench.failures(4).successes(5).after(66_000);
    }
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn results_in_another_order_leave_the_same_window() {
    let run = |statuses: &[Status]| {
        let mut bench = Bench::new(|d| (d.failure_threshold, d.minimum_requests) = (100, 100));
        for status in statuses {
            bench.result(*status, |o| o.latency_ms = Some(100));
        }
        (bench.breaker.counts(bench.now), bench.state())
    };
    let mut statuses = [Status::Error, Status::Success, Status::Success, Status::Error, Status::Timeout];
    let forth = run(&statuses);
    statuses.reverse();
    assert_eq!(run(&statuses), forth);
}

#[test]
fn calls_slower_than_the_threshold_open_at_their_share_and_calls_as_fast_as_it_are_not_slow() {
    let slow = |d: &mut SettingsDraft| d.latency_threshold_ms = Some(1_000);
    let mut bench = Bench::new(slow);
    for ms in [1_000, 1_000, 1_000, 1_000, 1_000, 1_001, 1_001, 1_001, 1_001] {
        bench.result(Status::Success, |o| o.latency_ms = Some(ms));
    }
    assert_eq!((bench.breaker.counts(bench.now).slow, bench.state()), (4, State::Closed));
    let mut spared = bench.clone();
    spared.result(Status::Success, |_| {});
    assert_eq!(spared.state(), State::Closed, "a call that tells no latency is not slow");
    let mut few = Bench::new(slow);
    few.successes(10).result(Status::Success, |o| o.latency_ms = Some(5_000));
    assert_eq!(few.state(), State::Closed, "one slow call is no share");
    let effect = bench.result(Status::Success, |o| o.latency_ms = Some(5_000));
    assert_eq!(moves(&effect), [(State::Closed, State::Open, Cause::LatencyThresholdExceeded)]);
    assert_eq!(bench.breaker.failure_share().as_f64(), 0.0);
}

#[test]
fn without_a_latency_threshold_no_call_is_slow() {
    let mut bench = Bench::new(|_| {});
    for _ in 0..20 {
        bench.result(Status::Success, |o| o.latency_ms = Some(86_400_000));
    }
    assert_eq!((bench.breaker.counts(bench.now).slow, bench.state()), (0, State::Closed));
}

#[test]
fn ignored_codes_and_cancelled_calls_are_neither_success_nor_failure() {
    let mut bench = Bench::new(|d| d.ignored_error_codes = vec!["bad_request".to_owned()]);
    bench.failures(4);
    for status in [Status::Error, Status::Timeout, Status::Cancelled] {
        let effect = bench.result(status, |o| o.error_code = Some("bad_request".into()));
        assert_eq!(disposition(&effect), Disposition::Ignored);
    }
    assert_eq!(disposition(&bench.result(Status::Cancelled, |_| {})), Disposition::Ignored);
    assert_eq!(
        (bench.window(), bench.view().failures_in_a_row),
        ((4, 4), 4),
        "the row neither grew nor ended"
    );
    let effect = bench.result(Status::Success, |o| o.error_code = Some("bad_request".into()));
    assert_eq!(disposition(&effect), Disposition::Applied, "a success is one, whatever code it bears");
    let effect = bench.result(Status::Error, |o| o.error_code = Some("other".into()));
    assert_eq!((disposition(&effect), bench.window()), (Disposition::Applied, (6, 5)));
}

#[test]
fn failure_statuses_say_what_fails_and_the_rest_succeeds() {
    let mut bench = Bench::new(|d| d.failure_statuses = vec![Status::Timeout, Status::Cancelled]);
    assert_eq!(disposition(&bench.result(Status::Cancelled, |_| {})), Disposition::Applied);
    assert_eq!((bench.window(), bench.view().failures_in_a_row), ((1, 1), 1));
    assert_eq!(bench.failure(), Disposition::Applied);
    assert_eq!((bench.window(), bench.view().failures_in_a_row), ((2, 1), 0), "an error that is not named");
}

#[test]
fn a_retry_hint_on_the_failure_that_opens_holds_it_open_and_one_before_does_not() {
    let mut bench = Bench::new(|_| {});
    for _ in 0..4 {
        bench.result(Status::Error, |o| o.retry_after_ms = Some(250_000));
    }
    let effect = bench.result(Status::Error, |o| o.retry_after_ms = Some(90_000));
    assert_eq!(effect.transitions[0].open_until, Some(START.plus(90_000)), "and it is told at once");
    assert_eq!(bench.remaining(), 90_000);
}

#[test]
fn a_retry_hint_never_shortens_and_is_cut_to_the_longest_open_time() {
    let with = |hint| {
        let mut bench = Bench::new(|_| {});
        bench.failures(4).result(Status::Error, |o| o.retry_after_ms = Some(hint));
        bench.remaining()
    };
    assert_eq!((with(0), with(59_999), with(60_001)), (60_000, 60_000, 60_001));
    assert_eq!((with(300_000), with(300_001), with(u64::MAX)), (300_000, 300_000, 300_000));
}

#[test]
fn a_result_from_before_the_trip_is_late_in_the_next_closed_time() {
    let mut bench = Bench::half_open(|d| d.success_threshold = 1);
    bench.probe("first", Status::Success);
    assert_eq!(bench.state(), State::Closed);
    bench.after(10);
    assert_eq!(disposition(&bench.result(Status::Error, |o| o.latency_ms = Some(70_000))), Disposition::Late);
    assert_eq!(disposition(&bench.result(Status::Error, |o| o.latency_ms = Some(11))), Disposition::Late);
    assert_eq!(bench.window(), (0, 0));
    assert_eq!(disposition(&bench.result(Status::Error, |o| o.latency_ms = Some(10))), Disposition::Applied);
    assert_eq!(bench.window(), (1, 1));
}

#[test]
fn a_result_without_latency_or_timestamp_began_when_it_came() {
    let mut bench = Bench::half_open(|d| d.success_threshold = 1);
    bench.probe("first", Status::Success);
    assert_eq!((bench.failure(), bench.window()), (Disposition::Applied, (1, 1)));
}

#[test]
fn a_results_own_timestamp_pulls_its_beginning_back_by_a_minute_at_most_and_never_forth() {
    let mut bench = Bench::half_open(|d| d.success_threshold = 1);
    bench.probe("first", Status::Success);
    let closed_at = bench.now;
    let written = |bench: &mut Bench, at: Stamp| {
        disposition(&bench.result(Status::Error, |o| (o.timestamp_ms, o.latency_ms) = (Some(at.0), Some(5))))
    };
    bench.after(30_000);
    assert_eq!(written(&mut bench, closed_at.plus(4)), Disposition::Late);
    assert_eq!(written(&mut bench, closed_at.plus(5)), Disposition::Applied);
    bench.after(30_004);
    assert_eq!(written(&mut bench, Stamp(0)), Disposition::Late, "60,005 ms ago");
    bench.after(1);
    assert_eq!(written(&mut bench, Stamp(0)), Disposition::Applied, "as of 60,005 ms ago, when it closed");
    let effect = bench.result(Status::Error, |o| {
        (o.timestamp_ms, o.latency_ms) = (Some(closed_at.plus(DAY_MS).0), Some(60_006));
    });
    assert_eq!(disposition(&effect), Disposition::Late, "written tomorrow, it came now all the same");
}

#[test]
fn the_making_of_a_breaker_makes_no_result_late() {
    let mut bench = Bench::new(|_| {});
    assert_eq!(
        disposition(&bench.result(Status::Error, |o| o.latency_ms = Some(DAY_MS))),
        Disposition::Applied
    );
}

#[test]
fn one_poisonous_request_that_fails_once_on_every_provider_of_a_chain_opens_none() {
    let mut chain = vec![Bench::new(|_| {}); 5];
    for bench in &mut chain {
        bench.successes(1);
        bench.result(Status::Error, |o| o.request_id = Some("poison".into()));
        assert_eq!(bench.state(), State::Closed);
    }
    // Nor do its retries, as many as a rule with `retry: 2` makes.
    for bench in &mut chain {
        for _ in 0..2 {
            bench.result(Status::Error, |o| o.request_id = Some("poison".into()));
        }
        assert_eq!(bench.state(), State::Closed);
    }
}

#[test]
fn a_claim_is_not_needed_and_a_release_does_nothing() {
    let mut bench = Bench::new(|_| {});
    bench.failures(1).after(1_000);
    let before = bench.breaker.clone();
    assert_eq!(bench.claim("r"), Verdict::NotNeeded);
    assert_eq!(bench.apply(Input::Release(ClaimId(1))), Effect::default());
    assert_eq!(bench.breaker, before);
}
