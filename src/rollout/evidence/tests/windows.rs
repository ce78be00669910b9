use super::{Bench, EPOCH, id_in, rollout, settings, step_of, tenant};
use crate::domain::Stamp;
use crate::log::{Entry, JudgedWindow, TallyEntry};
use crate::rollout::evidence::marks::Marks;
use crate::rollout::evidence::{EntryFacts, LatencyHistogram};
use crate::rollout::judge::quantile;

#[test]
fn windows_count_from_the_first_step_and_empty_ones_are_there() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    bench.beat(5_000, 29_999);
    bench.succeed(29_999, "t", &id_in(1, "last"));
    bench.succeed(30_000, "t", &id_in(1, "first"));
    bench.beat(30_000, 43_000);
    let blocks = bench.blocks();
    assert_eq!(blocks.iter().map(|block| block.number).collect::<Vec<_>>(), [0, 1, 2, 3]);
    for block in &blocks {
        assert_eq!(block.start, Stamp(EPOCH + block.number * 10_000));
        assert_eq!(block.end, Stamp(EPOCH + block.number * 10_000 + 10_000));
        assert!(!block.incomplete && !block.untreated && !block.purged && block.missing == 0);
    }
    assert_eq!((bench.plain(0), bench.plain(2), bench.plain(3)), ([0; 4], [1, 0, 0, 0], [1, 0, 0, 0]));
}

#[test]
fn a_window_closes_once_its_end_and_the_time_to_settle_have_passed_and_workers_cover_it() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    bench.beat(5_000, 11_000);
    bench.apply(11_999, &Entry::Mark);
    assert!(bench.blocks().is_empty());
    bench.apply(12_000, &Entry::Mark);
    assert_eq!(bench.blocks().len(), 1);
    let mut bench = Bench::started(&[("t", 50, 50)]);
    bench.tally(9_999, "b");
    bench.beat(5_000, 13_000);
    assert!(bench.blocks().is_empty());
    bench.tally(13_000, "b");
    assert_eq!(bench.blocks().len(), 1);
}

#[test]
fn another_length_ends_the_window_and_begins_the_next() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    bench.beat(5_000, 14_000);
    bench.step(14_000, 2, &[("t", 50, 50)], settings(4_000, 2_000));
    // No length yet: the window takes the new one.
    bench.step(14_000, 3, &[("t", 50, 50)], settings(5_000, 2_000));
    bench.beat(14_000, 30_000);
    let spans: Vec<_> =
        bench.blocks().iter().map(|b| (b.number, b.start.0 - EPOCH, b.end.0 - EPOCH, b.step)).collect();
    assert_eq!(
        spans,
        [(0, 0, 10_000, 1), (1, 10_000, 14_000, 1), (2, 14_000, 19_000, 3), (3, 19_000, 24_000, 3)]
    );
}

#[test]
fn a_step_within_a_window_splits_its_rows_and_holds_from_the_next_window_on() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    bench.succeed(5_000, "t", &id_in(20, "x"));
    bench.beat(5_000, 12_000);
    bench.succeed(12_000, "t", &id_in(20, "y"));
    bench.beat(12_000, 14_000);
    bench.step(14_000, 2, &[("t", 10, 10)], settings(10_000, 2_000));
    bench.beat(14_000, 17_000);
    bench.succeed(17_000, "t", &id_in(20, "z"));
    bench.beat(17_000, 33_000);
    let rows: Vec<_> = bench.rows().iter().map(|(n, r)| (*n, r.step, r.percent, r.plain)).collect();
    assert_eq!(rows, [(0, 1, 50, [1, 0, 0, 0]), (1, 1, 50, [1, 0, 0, 0]), (1, 2, 10, [0, 0, 1, 0])]);
    assert_eq!((bench.block(1).step, bench.block(2).step), (1, 2));
}

#[test]
fn a_jump_is_a_cut_and_the_windows_that_it_touches_are_incomplete() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    bench.beat(5_000, 15_000);
    bench.succeed(15_000, "t", &id_in(1, "open"));
    // Three intervals of 10 s are no jump.
    bench.succeed(45_000, "t", &id_in(1, "no-jump"));
    bench.tally(45_000, "a");
    bench.beat(45_000, 55_000);
    bench.succeed(55_000, "t", &id_in(1, "lost"));
    bench.succeed(85_001, "t", &id_in(1, "soon"));
    bench.beat(85_001, 113_000);
    let incomplete: Vec<u64> = bench.blocks().iter().filter(|b| b.incomplete).map(|b| b.number).collect();
    assert_eq!(incomplete, [5, 6, 7, 8]);
    let of: Vec<_> = bench.rows().iter().map(|(n, r)| (*n, r.plain[0])).collect();
    assert_eq!(of, [(1, 1), (4, 1)]);
}

#[test]
fn windows_stay_in_order_where_the_clock_is_set_back() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    let hour = 3_600_000;
    let mut bench2 = Bench::new();
    bench2.step(hour, 1, &[("t", 50, 50)], settings(10_000, 2_000));
    bench2.beat(hour, hour + 15_000);
    bench2.succeed(hour + 15_000, "t", &id_in(1, "open"));
    bench2.beat(0, 20_000);
    bench2.succeed(20_000, "t", &id_in(1, "later"));
    bench2.beat(20_000, 40_000);
    // The first entry by the new clock is one second in; time went on from 15 s.
    let rows: Vec<_> = bench2.rows().iter().map(|(n, r)| (*n, r.plain[0])).collect();
    assert_eq!(rows, [(3, 1)]);
    assert!(bench2.blocks().iter().all(|b| b.end.since(b.start) == 10_000));
    // Five minutes are no set back.
    bench.beat(5_000, 301_000);
    bench.succeed(2_000, "t", &id_in(1, "behind"));
    bench.beat(301_000, 330_000);
    assert_eq!(bench.plain(30), [1, 0, 0, 0]);
}

#[test]
fn a_purge_is_a_cut_and_told() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    bench.succeed(6_000, "t", &id_in(1, "open"));
    bench.apply_with(6_000, &Entry::Mark, &EntryFacts { gap: true, ..EntryFacts::default() });
    bench.beat(6_000, 30_000);
    let told: Vec<_> = bench.blocks().iter().map(|b| (b.purged, b.incomplete, b.dropped)).collect();
    assert_eq!(told, [(true, true, 1), (false, false, 0)]);
}

#[test]
fn a_window_is_kept_until_every_live_worker_has_judged_it() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    bench.beat(5_000, 45_000);
    bench.tally(45_000, "b");
    let judged = |bench: &mut Bench, worker: &str, window: u64| {
        let end = Stamp(EPOCH + (window + 1) * 10_000);
        let judged = [(rollout("r"), JudgedWindow { number: window, end })].into();
        let entry = TallyEntry { judged, ..bench.tally_of(worker) };
        bench.apply(45_500, &Entry::Tally(entry));
    };
    assert_eq!(bench.evidence.unjudged_ms(&rollout("r")), Some(45_000));
    judged(&mut bench, "a", 2);
    assert_eq!((bench.blocks().len(), bench.evidence.unjudged_ms(&rollout("r"))), (4, Some(15_500)));
    judged(&mut bench, "b", 1);
    assert_eq!(bench.blocks().iter().map(|b| b.number).collect::<Vec<_>>(), [2, 3]);
    // What was not closed cannot be judged.
    judged(&mut bench, "a", 99);
    assert_eq!(bench.evidence.unjudged_ms(&rollout("r")), Some(15_500));
    assert_eq!(bench.evidence.unjudged_ms(&rollout("other")), None);
    judged(&mut bench, "b", 99);
    assert_eq!(bench.blocks().iter().map(|b| b.number).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn numbers_go_on_after_an_empty_step_and_begin_anew_with_another_stream() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    bench.beat(5_000, 25_000);
    bench.apply(25_000, &step_of("r", 2, None));
    assert!(bench.blocks().is_empty() && bench.evidence.rollouts().next().is_none());
    bench.apply(25_000, &step_of("r", 3, None));
    bench.beat(25_000, 31_000);
    bench.step(31_000, 2, &[("t", 50, 50)], settings(10_000, 2_000));
    assert!(bench.evidence.rollouts().next().is_none());
    bench.step(31_000, 4, &[("t", 50, 50)], settings(10_000, 2_000));
    bench.beat(31_000, 45_000);
    assert_eq!((bench.blocks()[0].number, bench.blocks()[0].start), (3, Stamp(EPOCH + 31_000)));
    let Entry::Step(mut entry) = step_of("r", 1, Some(super::overlay(&[], settings(10_000, 2_000)))) else {
        unreachable!()
    };
    entry.number.made = 8;
    bench.apply(45_000, &Entry::Step(entry));
    bench.beat(45_000, 60_000);
    assert_eq!((bench.blocks()[0].number, bench.blocks()[0].made), (0, 8));
    // A stream that has no such rollout yet takes away what its predecessor laid over policies.
    for (made, ends) in [(9, 60_000), (10, 61_000)] {
        let Entry::Step(mut empty) = step_of("r", 0, None) else { unreachable!() };
        empty.number.made = made;
        bench.apply(ends, &Entry::Step(empty));
    }
    let Entry::Step(mut entry) = step_of("r", 2, Some(super::overlay(&[], settings(10_000, 2_000)))) else {
        unreachable!()
    };
    entry.number.made = 10;
    bench.apply(61_000, &Entry::Step(entry));
    bench.beat(61_000, 80_000);
    assert_eq!((bench.blocks()[0].number, bench.blocks()[0].made), (0, 10));
}

#[test]
fn time_under_a_flag_or_a_force_is_untreated() {
    let mut bench = Bench::started(&[("t", 50, 50), ("u", 50, 50)]);
    bench.beat(5_000, 15_000);
    let told = |bench: &mut Bench, ms, untreated| {
        let untreated = [(tenant("t"), untreated)];
        bench.apply_with(ms, &Entry::Mark, &EntryFacts { untreated: &untreated, ..EntryFacts::default() });
    };
    told(&mut bench, 15_000, true);
    bench.beat(15_000, 35_000);
    told(&mut bench, 35_000, false);
    bench.beat(35_000, 55_000);
    let of: Vec<bool> = bench.blocks().iter().map(|b| b.is_untreated(&tenant("t"))).collect();
    assert_eq!(of, [false, true, true, true, false]);
    assert!(bench.blocks().iter().all(|b| !b.is_untreated(&tenant("u"))));
}

#[test]
fn a_block_reads_as_it_was_written_and_another_has_another_digest() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    bench.call(6_000, "t", &id_in(1, "x"), crate::rollout::evidence::CallEnd::Succeeded, Some(250));
    bench.beat(6_000, 23_000);
    let block = bench.block(0).clone();
    let text = serde_json::to_string(&block).unwrap();
    assert_eq!(serde_json::from_str::<super::EvidenceBlock>(&text).unwrap(), block);
    assert_eq!(
        postcard::from_bytes::<super::EvidenceBlock>(&postcard::to_stdvec(&block).unwrap()).unwrap(),
        block
    );
    let mut other = block.clone();
    other.rows[0].plain[1] += 1;
    assert!(other.digest() != block.digest() && bench.block(1).digest() != block.digest());
    assert_eq!(block.clone().digest(), block.digest());
}

#[test]
fn marks_hold_ranges_without_overlap() {
    let mut marks = Marks::default();
    marks.add(2, 3);
    marks.add(7, 8);
    marks.add(9, 9);
    marks.begin(12);
    let of = |marks: &Marks| (0..14).filter(|n| marks.contains(*n)).collect::<Vec<u64>>();
    assert_eq!(of(&marks), [2, 3, 7, 8, 9, 12, 13]);
    marks.end(12);
    marks.end(20);
    assert_eq!(of(&marks), [2, 3, 7, 8, 9, 12]);
    marks.forget_below(8);
    assert_eq!(of(&marks), [7, 8, 9, 12]);
    marks.add(3, 13);
    assert_eq!(of(&marks), (3..14).collect::<Vec<_>>());
}

proptest::proptest! {
    #[test]
    fn a_histograms_quantile_is_the_nearest_rank_within_an_hundred_and_twenty_eighth(
        values in proptest::collection::vec(0_u64..2_000_000, 1..200), small in proptest::bool::ANY, permille in 0_u16..1_001,
    ) {
        let values: Vec<u64> = values.into_iter().map(|v| if small { v % 128 } else { v }).collect();
        let mut histogram = LatencyHistogram::default();
        values.iter().for_each(|value| histogram.add(*value));
        let (exact, ours) = (quantile(&values, permille).unwrap(), histogram.quantile(permille).unwrap());
        proptest::prop_assert!(exact.abs_diff(ours) * 128 <= exact, "{exact} {ours}");
        let bytes = postcard::to_stdvec(&histogram).unwrap();
        proptest::prop_assert_eq!(postcard::from_bytes::<LatencyHistogram>(&bytes).unwrap(), histogram.clone());
        let mut twice = histogram.clone();
        twice.merge(&histogram);
        proptest::prop_assert_eq!(twice.count(), 2 * values.len() as u64);
    }
}

#[test]
fn a_damaged_histogram_is_refused() {
    for text in ["[1]", "[3,1,2,1]", "[1,0]", "[1,1,1,1]", "[60000,1]"] {
        assert!(serde_json::from_str::<LatencyHistogram>(text).is_err(), "{text}");
    }
    assert!(serde_json::from_str::<LatencyHistogram>("[]").unwrap().is_empty());
    let mut longest = LatencyHistogram::default();
    longest.add(u64::MAX);
    assert!(longest.quantile(500).unwrap() > u64::from(u32::MAX) - (1 << 26));
    assert_eq!(LatencyHistogram::default().quantile(500), None);
}

#[test]
fn what_is_closed_has_another_revision_once_it_is_judged_or_its_rollout_ends() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    let mut revisions = vec![bench.evidence.closed_revision()];
    let mut look = |bench: &Bench, closed: usize| {
        let revision = bench.evidence.closed_revision();
        assert_eq!(bench.evidence.all_closed().len(), closed);
        assert!(revision > *revisions.last().unwrap(), "{revisions:?}, {revision}");
        revisions.push(revision);
    };
    bench.beat(5_000, 25_000);
    look(&bench, 2);
    let mut judged = bench.tally_of("a");
    judged.judged = [(rollout("r"), JudgedWindow { number: 0, end: Stamp(EPOCH + 10_000) })].into();
    bench.apply(25_000, &Entry::Tally(judged));
    look(&bench, 1);
    bench.apply(25_000, &step_of("r", 2, None));
    look(&bench, 0);
    // Nothing is there that could change.
    let ended = bench.evidence.closed_revision();
    bench.step(25_000, 3, &[("t", 50, 50)], settings(10_000, 2_000));
    bench.apply(25_000, &step_of("r", 4, None));
    assert_eq!(bench.evidence.closed_revision(), ended);
}
