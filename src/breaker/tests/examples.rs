//! The examples of docs/breakers.md.

use super::*;

/// To so many milliseconds after noon, which is the bench's beginning.
fn at(bench: &mut Bench, ms: u64) -> &mut Bench {
    bench.now = START.plus(ms);
    bench
}

#[test]
fn five_in_a_row() {
    let mut bench = Bench::new(|d| (d.failure_threshold, d.timeout_ms) = (5, 30_000));
    for ms in [0, 500, 1_000, 1_500] {
        at(&mut bench, ms).failure();
    }
    assert_eq!((bench.state(), bench.window()), (State::Closed, (4, 4)));
    let effect = at(&mut bench, 2_000).result(Status::Error, |_| {});
    assert_eq!(moves(&effect), [(State::Closed, State::Open, Cause::FailureThresholdExceeded)]);
    assert_eq!(effect.transitions[0].open_until, Some(START.plus(32_000)));
    let effect = at(&mut bench, 2_400).result(Status::Error, |o| o.latency_ms = Some(1_500));
    assert_eq!(disposition(&effect), Disposition::Late);
    assert_eq!(at(&mut bench, 10_000).claim("x"), refused(State::Open, 22_000));
    at(&mut bench, 32_000);
    assert_eq!((bench.state(), bench.remaining()), (State::Open, 0));
    assert_eq!(at(&mut bench, 33_200).claim("A"), Verdict::Granted);
    assert_eq!(bench.state(), State::HalfOpen);
    assert_eq!(schedule::slots(&bench.breaker)[0].2, START.plus(63_200));
    at(&mut bench, 33_300);
    assert_eq!((bench.claim("B"), bench.claim("C")), (Verdict::Granted, Verdict::Granted));
    assert_eq!(bench.claim("D"), refused(State::HalfOpen, 1_000));
    at(&mut bench, 34_000).probe("A", Status::Success);
    assert_eq!(bench.view().successes_in_a_row, 1);
    let effect = at(&mut bench, 34_100).probe("B", Status::Success);
    assert_eq!(moves(&effect), [(State::HalfOpen, State::Closed, Cause::ProbesSucceeded)]);
    assert_eq!((bench.window(), bench.view().failures_in_a_row), ((0, 0), 0));
    let effect = at(&mut bench, 34_600).result(Status::Error, |o| {
        (o.request_id, o.latency_ms) = (Some("C".into()), Some(1_300));
    });
    assert_eq!((disposition(&effect), bench.window()), (Disposition::Late, (0, 0)));
}

#[test]
fn by_rate() {
    let mut bench = Bench::new(|_| {});
    for n in 0..9 {
        if n % 2 == 0 {
            bench.success()
        } else {
            bench.failure()
        };
    }
    assert_eq!((bench.state(), bench.window()), (State::Closed, (9, 4)));
    let mut spared = bench.clone();
    spared.success();
    assert_eq!((spared.state(), spared.window()), (State::Closed, (10, 4)));
    bench.failure();
    assert_eq!((bench.state(), bench.window()), (State::Open, (10, 5)));
}

#[test]
fn slow_calls() {
    let mut bench = Bench::new(|d| d.latency_threshold_ms = Some(1_000));
    for n in 0..10 {
        assert_eq!(bench.state(), State::Closed);
        bench.result(Status::Success, |o| o.latency_ms = Some(if n < 5 { 1_001 } else { 1_000 }));
    }
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn backoff() {
    let waits = |change: fn(&mut SettingsDraft)| {
        let mut bench = Bench::open(|d| {
            (d.timeout_ms, d.backoff_multiplier, d.max_timeout_ms) = (10_000, 2.0, 60_000);
            d.success_threshold = 1;
            change(d);
        });
        let mut waits = vec![bench.remaining()];
        for status in [Status::Error, Status::Error, Status::Error, Status::Error, Status::Success] {
            bench.after(bench.remaining()).claim("p");
            bench.probe("p", status);
            if status == Status::Success {
                bench.trip();
            }
            waits.push(bench.remaining());
        }
        waits
    };
    assert_eq!(waits(|_| {}), [10_000, 20_000, 40_000, 60_000, 60_000, 10_000]);
    let spread = waits(|d| d.jitter_ratio = 0.1);
    assert!((9_000..=11_000).contains(&spread[0]) && spread.iter().all(|ms| *ms <= 60_000), "{spread:?}");
}

#[test]
fn a_provider_that_says_when() {
    let mut bench = Bench::new(|_| {});
    bench.failures(4).result(Status::Error, |o| o.retry_after_ms = Some(120_000));
    assert_eq!(bench.remaining(), 120_000);
    let late =
        |hint| move |o: &mut Outcome<'static>| (o.latency_ms, o.retry_after_ms) = (Some(6_000), Some(hint));
    bench.after(5_000).result(Status::Error, late(150_000));
    assert_eq!(bench.remaining(), 150_000);
    bench.result(Status::Error, late(3_600_000));
    assert_eq!(bench.remaining(), 295_000);
}

#[test]
fn lost_probes() {
    let mut bench = Bench::half_open(|_| {});
    assert_eq!((bench.claim("b"), bench.claim("c")), (Verdict::Granted, Verdict::Granted));
    let window = bench.window();
    assert_eq!(bench.after(29_999).claim("d"), refused(State::HalfOpen, 1));
    assert_eq!(bench.after(1).claim("d"), Verdict::Granted);
    assert_eq!((bench.state(), bench.view().successes_in_a_row), (State::HalfOpen, 0));
    assert!(bench.window().0 <= window.0);
}
