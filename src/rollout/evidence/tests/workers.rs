use super::{Bench, asked, run, settings, tenant};
use crate::domain::arm_hash;
use crate::log::{Entry, Fate, Met, TallyEntry};

fn met(id: &str) -> Vec<Met> {
    vec![Met { hash: arm_hash(id), fate: Fate::Spared, retry: false }]
}

fn incomplete(bench: &Bench) -> Vec<u64> {
    bench.blocks().iter().filter(|block| block.incomplete).map(|block| block.number).collect()
}

#[test]
fn a_silent_worker_is_lost_after_three_intervals_and_the_windows_it_did_not_cover_are_incomplete() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    bench.beat(5_000, 12_000);
    bench.tally(12_000, "b");
    // Thirty seconds of silence are no loss yet.
    bench.beat(12_000, 42_000);
    assert_eq!(bench.blocks().len(), 1);
    bench.beat(42_000, 65_000);
    assert_eq!(incomplete(&bench), [1, 2, 3, 4]);
    assert_eq!(bench.blocks().len(), 6);
    // It comes back: it may have served in between.
    bench.tally(65_000, "b");
    bench.beat(65_000, 72_500);
    bench.tally(72_500, "b");
    bench.beat(72_500, 85_000);
    bench.tally(85_000, "b");
    assert_eq!(incomplete(&bench), [1, 2, 3, 4, 6]);
}

#[test]
fn a_worker_that_is_too_far_behind_is_lost_though_it_tallies() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    bench.beat(5_000, 8_000);
    let behind = bench.position;
    for second in 8..80 {
        let entry = TallyEntry { position: behind + second, ..bench.tally_of("b") };
        bench.apply(second * 1_000, &Entry::Tally(entry));
        bench.beat(second * 1_000, second * 1_000 + 1_000);
        bench.apply(second * 1_000 + 1_000, &Entry::Mark);
    }
    assert!(!incomplete(&bench).contains(&0) && incomplete(&bench).contains(&4), "{:?}", incomplete(&bench));
    assert!(bench.blocks().len() >= 7);
}

#[test]
fn a_worker_that_ends_is_not_waited_for() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    bench.tally(6_000, "b");
    let last = TallyEntry { last: true, ..bench.tally_of("b") };
    bench.apply(7_000, &Entry::Tally(last));
    bench.beat(7_000, 25_000);
    assert_eq!((bench.blocks().len(), incomplete(&bench)), (2, vec![]));
}

#[test]
fn windows_without_any_worker_are_incomplete_and_a_restart_is_not_noticed() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    let last = TallyEntry { last: true, ..bench.tally_of("a") };
    bench.apply(6_000, &Entry::Tally(last));
    for second in 6..28 {
        bench.apply(second * 1_000, &Entry::Mark);
    }
    bench.tally(28_000, "b");
    for second in 28..35 {
        bench.apply(second * 1_000, &Entry::Mark);
        bench.tally(second * 1_000, "b");
    }
    assert_eq!((bench.blocks().len(), incomplete(&bench)), (3, vec![]));
    let last = TallyEntry { last: true, ..bench.tally_of("b") };
    bench.apply(35_000, &Entry::Tally(last));
    for second in 35..80 {
        bench.apply(second * 1_000, &Entry::Mark);
    }
    assert_eq!(incomplete(&bench), [3, 4, 5, 6]);
}

#[test]
fn a_met_entry_that_is_missing_shows_at_the_next_tally() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    bench.met(6_000, "a", 2, "t", met("x"));
    bench.met(6_100, "a", 1, "t", met("y"));
    bench.met(6_200, "a", 1, "t", met("y"));
    bench.numbers.insert("a".to_owned(), 2);
    bench.beat(6_200, 25_000);
    assert_eq!(incomplete(&bench), Vec::<u64>::new());
    bench.met(25_500, "a", 4, "t", met("z"));
    bench.numbers.insert("a".to_owned(), 4);
    bench.beat(25_500, 33_000);
    bench.met(33_000, "a", 5, "t", met("v"));
    bench.numbers.insert("a".to_owned(), 5);
    bench.beat(33_000, 55_000);
    assert_eq!(incomplete(&bench), [2]);
}

#[test]
fn a_missing_entry_also_touches_the_windows_that_had_not_settled_before() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    bench.beat(5_000, 20_000);
    bench.numbers.insert("a".to_owned(), 1);
    bench.beat(20_000, 40_000);
    // The tally at 20 s was whole; what is missing may be of a unit that began at 18 s.
    assert_eq!(incomplete(&bench), [1, 2]);
}

#[test]
fn met_entries_of_a_run_without_a_tally_make_the_window_incomplete() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    bench.met(6_000, "unknown", 1, "t", met("x"));
    bench.beat(6_000, 25_000);
    assert_eq!(incomplete(&bench), [0]);
}

#[test]
fn a_worker_that_does_not_enforce_makes_time_untreated() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    bench.beat(5_000, 15_000);
    let spares = |bench: &mut Bench, ms: u64, last: bool| {
        let entry = TallyEntry { enforcing: false, last, ..bench.tally_of("b") };
        bench.apply(ms, &Entry::Tally(entry));
    };
    spares(&mut bench, 15_000, false);
    bench.beat(15_000, 25_000);
    spares(&mut bench, 25_000, false);
    bench.beat(25_000, 31_000);
    spares(&mut bench, 31_000, true);
    bench.beat(31_000, 55_000);
    let untreated: Vec<bool> = bench.blocks().iter().map(|block| block.untreated).collect();
    assert_eq!(untreated, [false, true, true, true, false]);
}

fn counted(bench: &mut Bench, ms: u64, worker: &str, totals: [u64; 2]) {
    let [treated, control] = totals;
    let tenants = [(tenant("t"), asked(treated, control)), (tenant("other"), asked(5, 5))].into();
    let entry = TallyEntry { tenants, ..bench.tally_of(worker) };
    bench.apply(ms, &Entry::Tally(entry));
}

fn asked_in(bench: &Bench, number: u64) -> [u64; 2] {
    let rows = bench.block(number).rows.iter().map(|row| row.asked);
    rows.fold([0; 2], |[t, c], [more_t, more_c]| [t + more_t, c + more_c])
}

#[test]
fn requests_count_in_the_window_of_the_tally_that_reports_them() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    counted(&mut bench, 6_000, "b", [100, 200]);
    counted(&mut bench, 7_000, "b", [103, 200]);
    // A copy of the earlier one, and one that claims to have read what is not there.
    let copy = TallyEntry { position: 3, ..bench.tally_of("b") };
    bench.apply(7_000, &Entry::Tally(copy));
    let ahead = TallyEntry { position: 9_999, ..bench.tally_of("b") };
    bench.apply(7_000, &Entry::Tally(ahead));
    counted(&mut bench, 11_000, "b", [104, 207]);
    // Its counter began anew.
    counted(&mut bench, 12_000, "b", [2, 1]);
    bench.beat(12_000, 25_000);
    counted(&mut bench, 25_000, "b", [2, 1]);
    assert_eq!((asked_in(&bench, 0), asked_in(&bench, 1)), ([3, 0], [3, 8]));
}

#[test]
fn requests_that_a_tally_reports_during_a_cut_do_not_count() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    counted(&mut bench, 6_000, "b", [0, 0]);
    bench.step(7_000, 2, &[("t", 10, 10)], settings(10_000, 2_000));
    bench.tally(7_000, "a");
    counted(&mut bench, 8_999, "b", [10, 10]);
    counted(&mut bench, 9_000, "b", [11, 12]);
    bench.beat(9_000, 25_000);
    counted(&mut bench, 25_000, "b", [11, 12]);
    assert_eq!(asked_in(&bench, 0), [1, 2]);
}

#[test]
fn runs_of_one_worker_are_told_apart() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    let mut other = bench.tally_of("a");
    other.run.boot = 2;
    bench.apply(6_000, &Entry::Tally(other));
    bench.beat(6_000, 25_000);
    assert!(bench.blocks().is_empty(), "the second run has not read on");
    assert_ne!(run("a").boot, 2);
}
