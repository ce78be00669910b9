use super::{Bench, EPOCH, id_in, tenant};
use crate::breaker::{Cause, Counts, State, Transition};
use crate::domain::{Outcome, ProviderId, Stamp, Status};
use crate::log::Entry;
use crate::rollout::evidence::tenant::{MAX_ELSEWHERE, MAX_OPENS};
use crate::rollout::evidence::{Call, CallEnd, EntryFacts, Move, OpenRecord};
use crate::rollout::judge::{Open, Recovery};

fn moves(bench: &mut Bench, ms: u64, to: State, cause: Cause, open_for: Option<u64>) {
    let transition = Transition {
        from: State::Closed,
        to,
        cause,
        at: Stamp(EPOCH + ms),
        window: Counts::default(),
        failures_in_a_row: 5,
        trips: 1,
        open_until: open_for.map(|length| Stamp(EPOCH + ms + length)),
    };
    let (tenant_id, provider_id) = (tenant("t"), ProviderId::try_new("p").unwrap());
    let slow_over_ms = (cause == Cause::LatencyThresholdExceeded).then_some(100);
    let moved = Move {
        tenant_id: &tenant_id,
        provider_id: &provider_id,
        transition: &transition,
        threshold_ppm: 500_000,
        slow_over_ms,
        successes: 2,
    };
    bench.apply_with(ms, &Entry::Mark, &EntryFacts { moves: &[moved], ..EntryFacts::default() });
}

fn opens(bench: &mut Bench, ms: u64) {
    moves(bench, ms, State::Open, Cause::FailureThresholdExceeded, Some(4_000));
}

fn closes(bench: &mut Bench, ms: u64) {
    moves(bench, ms, State::Closed, Cause::ProbesSucceeded, None);
}

fn probe(bench: &mut Bench, ms: u64, ended: CallEnd) {
    let mut outcome = Outcome::of("t", "p", Status::Success, 0);
    outcome.request_id = Some(id_in(1, "probe").into());
    let facts = EntryFacts { call: Some(Call { ended, probe: true }), ..EntryFacts::default() };
    bench.apply_with(ms, &Entry::Result(outcome), &facts);
}

fn last_open(bench: &Bench) -> OpenRecord {
    bench.blocks().iter().flat_map(|block| &block.opens).next_back().unwrap().clone()
}

#[test]
fn calls_that_nobody_selected_judge_an_open() {
    let mut bench = Bench::started(&[("t", 50, 50), ("u", 50, 50)]);
    for n in 0..4 {
        bench.succeed(6_000, "t", &id_in(1, &format!("well-{n}")));
    }
    bench.beat(6_000, 11_000);
    bench.fail(11_000, "t", &id_in(1, "burst"));
    opens(&mut bench, 11_000);
    let position = bench.position;
    // Spared, spared, treated, begun before, a probe; then of others.
    bench.fail(12_000, "t", &id_in(90, "spared"));
    bench.succeed(12_000, "t", &id_in(91, "spared"));
    bench.fail(12_000, "t", &id_in(1, "treated"));
    bench.call(12_000, "t", &id_in(92, "before"), CallEnd::Failed, Some(1_001));
    bench.call(12_000, "t", &id_in(93, "neutral"), CallEnd::Neutral, None);
    probe(&mut bench, 12_000, CallEnd::Failed);
    bench.fail(13_000, "u", &id_in(1, "u"));
    bench.fail(13_000, "nobody", "watched");
    bench.beat(13_000, 21_001);
    bench.fail(21_001, "nobody", "too-late");
    closes(&mut bench, 22_000);
    bench.fail(22_000, "t", &id_in(94, "after"));
    bench.beat(22_000, 55_000);
    let open = last_open(&bench);
    assert_eq!((open.spared, open.elsewhere, open.base), ([3, 2], [2, 2], [4, 0]));
    assert_eq!((open.position, open.threshold_ppm, open.kind()), (position, 500_000, Open::Expected));
    assert_eq!((open.opened_at.0 - EPOCH, open.closed_at), (11_000, Some(Stamp(EPOCH + 22_000))));
    let windows: Vec<usize> = bench.blocks().iter().map(|block| block.opens.len()).collect();
    assert_eq!(windows, [0, 1, 1, 0, 0], "in each window that it touches, and in no other");
}

#[test]
fn a_recovery_counts_from_the_third_success_in_a_row() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    bench.call(6_000, "t", &id_in(1, "slow"), CallEnd::Succeeded, Some(900));
    opens(&mut bench, 10_000);
    bench.beat(10_000, 12_000);
    for (ms, succeeds) in [(12_000, true), (12_100, true), (12_200, false), (12_300, true), (12_400, true)] {
        if succeeds { bench.succeed(ms, "u", "x") } else { bench.fail(ms, "u", "x") }
    }
    bench.succeed(12_500, "u", "x");
    bench.succeed(12_600, "u", "x");
    bench.beat(12_600, 15_000);
    closes(&mut bench, 15_000);
    bench.beat(15_000, 35_000);
    let circuit = last_open(&bench).circuit();
    let since = |ms: u64| EPOCH + ms;
    assert_eq!((circuit.open_until, circuit.well_at), (since(14_000), Some(since(12_500))));
    assert_eq!((circuit.closed_at, circuit.slow_ms, circuit.successes), (Some(since(15_000)), 899, 2));
    assert_eq!((circuit.mean_gap_ms, circuit.recovery(since(35_000))), (10_000, Recovery::Closed));
}

#[test]
fn a_probe_that_fails_prolongs_the_open_and_the_provider_is_not_well() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    opens(&mut bench, 6_000);
    for ms in [6_100, 6_200, 6_300] {
        bench.succeed(ms, "u", "x");
    }
    bench.beat(6_300, 11_000);
    moves(&mut bench, 11_000, State::HalfOpen, Cause::TimeoutElapsed, None);
    moves(&mut bench, 11_500, State::Open, Cause::HalfOpenFailure, Some(5_000));
    bench.beat(11_500, 25_000);
    let records: Vec<&OpenRecord> = bench.blocks().iter().flat_map(|block| &block.opens).collect();
    assert_eq!(records.len(), 2, "one circuit in two windows");
    assert_eq!(records[0].position, records[1].position);
    assert_eq!((records[1].open_until, records[1].well_at), (Stamp(EPOCH + 16_500), None));
}

#[test]
fn calls_of_others_count_up_to_a_bound_and_still_tell_when_the_provider_is_well() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    opens(&mut bench, 6_000);
    for _ in 0..MAX_ELSEWHERE + 10 {
        bench.fail(7_000, "nobody", "x");
    }
    for (ms, succeeds) in [(7_100, true), (7_200, true), (7_300, false), (7_400, true), (7_500, true)] {
        if succeeds { bench.succeed(ms, "nobody", "x") } else { bench.fail(ms, "nobody", "x") }
    }
    assert!(bench.evidence.looks_at("nobody", "p"), "it is not well yet");
    bench.succeed(7_600, "nobody", "x");
    assert!(!bench.evidence.looks_at("nobody", "p"), "nothing is left to learn");
    bench.beat(7_600, 13_000);
    let first = last_open(&bench);
    assert_eq!((first.elsewhere, first.well_at), ([MAX_ELSEWHERE; 2], Some(Stamp(EPOCH + 7_600))));
    moves(&mut bench, 13_500, State::Open, Cause::HalfOpenFailure, Some(5_000));
    assert!(bench.evidence.looks_at("nobody", "p"), "a probe has failed");
    bench.fail(13_600, "nobody", "x");
    for ms in [13_700, 13_800, 13_900] {
        bench.succeed(ms, "nobody", "x");
    }
    bench.beat(13_900, 25_000);
    assert_eq!(last_open(&bench).well_at, Some(Stamp(EPOCH + 13_900)));
}

#[test]
fn what_an_operator_opens_is_a_drill() {
    for (cause, drill) in [
        (Cause::Forced, true),
        (Cause::ForceLifted, true),
        (Cause::Flag, true),
        (Cause::ErrorRateThresholdExceeded, false),
    ] {
        let mut bench = Bench::started(&[("t", 50, 50)]);
        moves(&mut bench, 6_000, State::Open, cause, None);
        bench.beat(6_000, 13_000);
        let open = last_open(&bench);
        assert_eq!((open.drill, open.kind() == Open::Drill), (drill, drill), "{cause:?}");
        assert_eq!(open.open_until, Stamp(u64::MAX));
    }
}

#[test]
fn where_slow_calls_opened_it_a_slow_call_counts_as_failed() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    moves(&mut bench, 6_000, State::Open, Cause::LatencyThresholdExceeded, Some(4_000));
    bench.call(8_000, "t", &id_in(90, "slow"), CallEnd::Succeeded, Some(101));
    bench.call(8_000, "t", &id_in(91, "fast"), CallEnd::Succeeded, Some(100));
    bench.beat(8_000, 13_000);
    assert_eq!(last_open(&bench).spared, [2, 1]);
}

#[test]
fn at_share_0_all_calls_are_spared() {
    let mut bench = Bench::started(&[("t", 0, 50)]);
    opens(&mut bench, 6_000);
    bench.fail(8_000, "t", &id_in(1, "x"));
    bench.beat(8_000, 13_000);
    assert_eq!(last_open(&bench).spared, [1, 1]);
}

#[test]
fn circuits_of_tenants_that_left_are_not_followed() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    opens(&mut bench, 6_000);
    assert!(bench.evidence.looks_at("nobody", "p"));
    let left = [(tenant("t"), crate::rollout::evidence::Leaving::Deleted)];
    bench.apply_with(6_500, &Entry::Mark, &EntryFacts { left: &left, ..EntryFacts::default() });
    assert!(!bench.evidence.looks_at("nobody", "p"));
    bench.beat(6_500, 13_000);
    assert!(bench.block(0).opens.is_empty());
}

#[test]
fn opens_beyond_the_bound_are_dropped_and_told() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    for _ in 0..MAX_OPENS + 2 {
        opens(&mut bench, 6_000);
        closes(&mut bench, 6_000);
    }
    opens(&mut bench, 6_000);
    assert!(bench.evidence.looks_at("nobody", "p"));
    closes(&mut bench, 6_000);
    assert!(!bench.evidence.looks_at("nobody", "p"));
    bench.beat(6_000, 13_000);
    let losses = bench.evidence.losses(&crate::rollout::evidence::tests::rollout("r")).unwrap();
    assert_eq!((bench.block(0).opens.len(), losses.opens), (MAX_OPENS, 3));
}
