use super::breaker::State::{HalfOpen, Open};
use super::*;

fn refused_of_a_thousand(bench: &Bench, at: Tick) -> usize {
    (0..1_000).filter(|n| matches!(bench.ask(&format!("r{n}"), at), Admission::Refuse { .. })).count()
}

#[test]
fn the_enforced_share_of_requests_is_refused_and_the_others_pass() {
    for (percent, least, most) in [(0, 0, 0), (30, 260, 340), (100, 1_000, 1_000)] {
        let open = Bench::open(|d| d.enforce_percent = percent);
        let refused = refused_of_a_thousand(&open, NOW);
        assert!((least..=most).contains(&refused), "{refused} of 1000 at {percent} %");
        // The same requests wherever they are asked.
        let forced = Bench::closed(|d| d.enforce_percent = percent);
        apply(forced.cell(), Input::Force { to: Open, ttl_ms: None }, NOW);
        assert_eq!(refused_of_a_thousand(&forced, NOW), refused);
        let full = Bench::half_open(|d| (d.enforce_percent, d.half_open_max_calls) = (percent, 1));
        assert_eq!(refused_of_a_thousand(&full, DEADLINE), refused);
    }
}

#[test]
fn a_request_outside_the_share_is_told_what_would_have_been() {
    let open = Bench::open(|d| d.enforce_percent = 0);
    assert_eq!(open.ask("r", NOW), Admission::WouldReject(Open));
    let full = Bench::half_open(|d| (d.enforce_percent, d.half_open_max_calls) = (0, 1));
    assert_eq!(full.ask("r", DEADLINE), Admission::WouldReject(HalfOpen));
}

#[test]
fn each_refusal_is_counted_where_it_belongs() {
    let bench = Bench::open(|d| d.enforce_percent = 30);
    let (inside, outside) = (request_where(true, 30), request_where(false, 30));
    for (request, expected) in [(&inside, (1, 0)), (&outside, (1, 1)), (&outside, (1, 2)), (&inside, (2, 2))]
    {
        let mut asking = bench.asking(request, NOW, &[]);
        asking.admit(0);
        assert!(asking.settle(|_, _| {}).is_none());
        assert_eq!(bench.refusals(), expected);
    }
}

#[test]
fn a_request_outside_the_share_claims_without_waiting_and_passes() {
    let bench = Bench::half_open(|d| d.enforce_percent = 0);
    let mut asking = bench.asking("r", DEADLINE, &[]);
    assert_eq!(asking.admit(0), Admission::Pass);
    let reservation = asking.settle(|_, _| {}).unwrap();
    assert!(Arc::ptr_eq(reservation.cell(), bench.cell()));
    // Whether it would have been refused is the fold's to say.
    assert_eq!(bench.refusals(), (0, 0));
}

#[test]
fn a_request_inside_the_share_waits_for_its_claim() {
    let bench = Bench::half_open(|d| d.enforce_percent = 30);
    assert_eq!(bench.ask(&request_where(true, 30), DEADLINE), Admission::Claim);
    assert_eq!(bench.ask(&request_where(false, 30), DEADLINE), Admission::Pass);
}

#[test]
fn claims_without_waiting_are_at_most_as_many_as_there_are_free_slots() {
    let bench = Bench::half_open(|d| (d.enforce_percent, d.half_open_max_calls) = (0, 3));
    let reserve = |id| {
        let mut asking = bench.asking(id, DEADLINE, &[]);
        let admission = asking.admit(0);
        (admission, asking.settle(|_, _| {}))
    };
    let (first, second) = (reserve("r1"), reserve("r2"));
    assert_eq!((first.0, second.0), (Admission::Pass, Admission::Pass));
    let third = reserve("r3");
    assert_eq!(third.0, Admission::WouldReject(HalfOpen));
    assert!(third.1.is_none());
    assert_eq!(bench.refusals(), (0, 1));
    drop(first);
    assert!(reserve("r4").1.is_some());
}

#[test]
fn with_the_log_out_of_reach_a_request_outside_the_share_passes_without_a_claim() {
    let bench = Bench::half_open(|d| d.enforce_percent = 0);
    bench.state.set_log_in_reach(false);
    let mut asking = bench.asking("r", DEADLINE, &[]);
    assert_eq!(asking.admit(0), Admission::WouldReject(HalfOpen));
    assert!(asking.settle(|_, _| {}).is_none());
    assert_eq!(bench.refusals(), (0, 1));
}

#[test]
fn reservations_are_bounded_by_the_free_slots_and_come_back_when_dropped() {
    let cell = cell("acme", "a", |_| {});
    assert!(cell.reserve_claim(0).is_none());
    let first = cell.reserve_claim(2).unwrap();
    let second = cell.reserve_claim(2).unwrap();
    assert!(cell.reserve_claim(2).is_none());
    // A slot more has become free.
    let third = cell.reserve_claim(3).unwrap();
    drop(first);
    assert!(cell.reserve_claim(2).is_none());
    drop((second, third));
    assert!(cell.reserve_claim(1).is_some());
}

#[test]
fn a_run_that_is_not_settled_gives_its_reservation_back_and_counts_nothing() {
    let bench = Bench::half_open(|d| (d.enforce_percent, d.half_open_max_calls) = (0, 2));
    for _ in 0..3 {
        assert_eq!(bench.ask("r", DEADLINE), Admission::Pass);
    }
    let open = Bench::open(|_| {});
    for _ in 0..3 {
        open.ask("r", NOW);
    }
    assert_eq!((bench.refusals(), open.refusals()), ((0, 0), (0, 0)));
}
