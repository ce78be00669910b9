use super::*;

#[test]
fn it_refuses_until_its_deadline_and_grants_at_it() {
    let mut bench = Bench::open(|_| {});
    assert_eq!(bench.claim("a"), refused(State::Open, 60_000));
    assert_eq!(bench.after(59_999).claim("a"), refused(State::Open, 1));
    assert_eq!(bench.state(), State::Open);
    assert_eq!(bench.after(1).claim("a"), Verdict::Granted);
    assert_eq!((bench.state(), bench.in_flight()), (State::HalfOpen, 1));
}

#[test]
fn past_its_deadline_it_stays_open_until_somebody_claims() {
    let mut bench = Bench::open(|_| {});
    bench.after(100 * DAY_MS);
    assert_eq!(bench.failure(), Disposition::Ignored);
    bench.apply(Input::Release(ClaimId(9)));
    assert_eq!((bench.state(), bench.remaining()), (State::Open, 0));
    bench.claims = 41;
    let claim = Claim { request_id: "a", claim: ClaimId(42), latest: bench.now, lease_ms: 0 };
    let effect = bench.apply(Input::Claim(claim));
    assert_eq!(effect.verdict, Some(Verdict::Granted));
    assert_eq!(moves(&effect), [(State::Open, State::HalfOpen, Cause::TimeoutElapsed)]);
    assert_eq!((effect.transitions[0].at, effect.transitions[0].open_until), (bench.now, None));
}

#[test]
fn a_claim_that_lands_late_leaves_it_open() {
    let mut bench = Bench::open(|_| {});
    bench.after(60_000);
    assert_eq!(bench.claim_with("a", bench.now.minus(1), 0), refused(State::Open, 0));
    assert_eq!(bench.state(), State::Open);
    assert_eq!(bench.claim_with("a", bench.now, 0), Verdict::Granted);
}

#[test]
fn a_result_from_before_the_trip_is_late_and_one_from_after_it_a_stray() {
    let mut bench = Bench::open(|_| {});
    let window = bench.window();
    bench.after(100);
    for status in [Status::Success, Status::Error] {
        assert_eq!(disposition(&bench.result(status, |o| o.latency_ms = Some(101))), Disposition::Late);
        assert_eq!(disposition(&bench.result(status, |o| o.latency_ms = Some(100))), Disposition::Ignored);
    }
    assert_eq!((bench.window(), bench.state(), bench.remaining()), (window, State::Open, 59_900));
}

#[test]
fn a_retry_hint_from_before_it_opened_holds_it() {
    let mut bench = Bench::open(|_| {});
    bench.after(10_000);
    let effect =
        bench.result(Status::Error, |o| (o.latency_ms, o.retry_after_ms) = (Some(10_001), Some(100_000)));
    assert_eq!((disposition(&effect), bench.remaining()), (Disposition::Late, 100_000));
    let effect =
        bench.result(Status::Error, |o| (o.latency_ms, o.retry_after_ms) = (Some(10_001), Some(60_000)));
    assert_eq!((disposition(&effect), bench.remaining()), (Disposition::Late, 100_000), "never shorter");
}

#[test]
fn a_retry_hint_of_a_stray_a_success_or_an_ignored_error_holds_nothing() {
    let mut bench = Bench::open(|d| d.ignored_error_codes = vec!["bad_request".to_owned()]);
    bench.after(10_000);
    bench.result(Status::Error, |o| o.retry_after_ms = Some(100_000));
    bench.result(Status::Success, |o| (o.latency_ms, o.retry_after_ms) = (Some(10_001), Some(100_000)));
    bench.result(Status::Cancelled, |o| (o.latency_ms, o.retry_after_ms) = (Some(10_001), Some(100_000)));
    bench.result(Status::Error, |o| {
        (o.latency_ms, o.retry_after_ms) = (Some(10_001), Some(100_000));
        o.error_code = Some("bad_request".into());
    });
    assert_eq!(bench.remaining(), 50_000);
}

#[test]
fn a_retry_hint_is_cut_to_the_longest_open_time_since_it_opened() {
    let mut bench = Bench::open(|d| d.max_timeout_ms = 120_000);
    bench.after(10_000);
    bench.result(Status::Error, |o| (o.latency_ms, o.retry_after_ms) = (Some(10_001), Some(u64::MAX)));
    assert_eq!(bench.remaining(), 110_000);
}

#[test]
fn a_retry_hint_that_comes_past_the_deadline_makes_it_refuse_again_if_nobody_claimed() {
    let mut bench = Bench::open(|_| {});
    bench.after(70_000);
    assert_eq!(bench.remaining(), 0);
    bench.result(Status::Error, |o| (o.latency_ms, o.retry_after_ms) = (Some(70_001), Some(5_000)));
    assert_eq!(bench.claim("a"), refused(State::Open, 5_000));
}

#[test]
fn each_reopening_waits_longer_up_to_the_longest_and_a_close_starts_over() {
    let mut bench = Bench::open(|d| {
        (d.timeout_ms, d.backoff_multiplier, d.max_timeout_ms, d.success_threshold) =
            (10_000, 2.0, 35_000, 1);
    });
    let mut waits = vec![bench.remaining()];
    for _ in 0..4 {
        bench.after(bench.remaining()).claim("p");
        bench.probe("p", Status::Error);
        waits.push(bench.remaining());
    }
    assert_eq!(waits, [10_000, 20_000, 35_000, 35_000, 35_000]);
    bench.after(35_000).claim("p");
    bench.probe("p", Status::Success);
    bench.trip();
    assert_eq!((bench.remaining(), bench.view().trips), (10_000, 6));
}

#[test]
fn without_a_multiplier_every_reopening_waits_the_same() {
    let mut bench = Bench::open(|_| {});
    for _ in 0..20 {
        bench.after(bench.remaining()).claim("p");
        bench.probe("p", Status::Error);
        assert_eq!(bench.remaining(), 60_000);
    }
}

#[test]
fn jitter_spreads_the_open_time_by_key_and_by_trip_within_its_share_and_the_longest() {
    let draft = draft(|d| (d.jitter_ratio, d.max_timeout_ms) = (0.25, 65_000));
    let waits = |seed| {
        let mut bench = Bench { breaker: Breaker::new(checked(&draft), seed, START), ..Bench::new(|_| {}) };
        (0..8)
            .map(|_| {
                bench.trip();
                let wait = bench.remaining();
                bench.apply(Input::Suspend(true));
                bench.apply(Input::Suspend(false));
                wait
            })
            .collect::<Vec<_>>()
    };
    let all: Vec<_> = (0..100).flat_map(waits).collect();
    assert!(all.iter().all(|ms| (45_000..=65_000).contains(ms)), "{all:?}");
    assert!(all.iter().min() < Some(&46_000) && all.iter().max() == Some(&65_000));
    assert_eq!(waits(1), waits(1), "every worker draws the same");
    assert_ne!(waits(1), waits(2), "keys differ");
    assert!(waits(1).windows(2).any(|w| w[0] != w[1]), "trips differ");
}

#[test]
fn a_clock_set_back_starts_the_open_time_anew_and_drops_the_hint_with_the_window() {
    let mut bench = Bench::new(|_| {});
    bench.failures(4).result(Status::Error, |o| o.retry_after_ms = Some(200_000));
    bench.after(30_000);
    bench.now = bench.now.minus(DAY_MS);
    assert_eq!(bench.apply(Input::ClockSetBack), Effect::default());
    assert_eq!((bench.state(), bench.remaining(), bench.window()), (State::Open, 60_000, (0, 0)));
    assert_eq!(bench.view().since, bench.now);
    assert_eq!(bench.after(60_000).claim("a"), Verdict::Granted);
}

#[test]
fn after_a_clock_set_back_results_are_not_late_for_as_long_as_it_was_set_back() {
    let mut bench = Bench::new(|_| {});
    bench.apply(Input::Reset);
    bench.now = bench.now.minus(DAY_MS);
    bench.apply(Input::ClockSetBack);
    let took = |o: &mut Outcome<'static>| o.latency_ms = Some(100);
    assert_eq!(disposition(&bench.after(99).result(Status::Error, took)), Disposition::Late);
    assert_eq!(disposition(&bench.after(1).result(Status::Error, took)), Disposition::Applied);
}

#[test]
fn after_a_clock_set_back_the_window_slides_by_the_new_time() {
    let mut bench = Bench::new(|d| d.failure_threshold = 100);
    bench.failures(4);
    bench.now = bench.now.minus(DAY_MS);
    bench.apply(Input::ClockSetBack);
    assert_eq!((bench.window(), bench.view().failures_in_a_row), ((0, 0), 0));
    bench.failures(4).after(60_000);
    assert_eq!(bench.window(), (0, 0));
    bench.failure();
    assert_eq!((bench.window(), bench.state()), ((1, 1), State::Closed));
}
