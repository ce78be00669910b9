use super::{Bench, rollout, run, settings, step_of};
use crate::domain::Stamp;
use crate::log::{Entry, StepEntry, TallyEntry, WorkerRun};
use crate::rollout::evidence::facts::CallEnd;
use crate::rollout::evidence::units::{MAX_OPEN, MAX_SETTLED, Place, Unit, UnitKey, Units};
use crate::rollout::evidence::{MAX_ROLLOUTS, MAX_RUNS, MAX_WINDOWS};

#[test]
fn windows_beyond_the_bound_are_dropped_oldest_first_and_told() {
    let mut bench = Bench::new();
    bench.tally(0, "a");
    bench.step(0, 1, &[("t", 50, 50)], settings(1_000, 100));
    bench.beat(0, 2_000);
    // Longer than all windows that are kept.
    let end = 10_000_000;
    bench.apply(end, &Entry::Mark);
    bench.tally(end, "a");
    bench.beat(end, end + 5_000);
    assert_eq!(bench.blocks().len(), MAX_WINDOWS);
    assert!(bench.blocks().is_sorted_by(|a, b| a.number + 1 == b.number));
    assert_eq!(bench.blocks().last().unwrap().number, end / 1_000 + 3);
    let losses = bench.evidence.losses(&rollout("r")).unwrap();
    assert_eq!(losses.windows, end / 1_000 + 4 - MAX_WINDOWS as u64);
    assert!(bench.blocks().iter().map(|block| block.missing).sum::<u64>() > 0);
    assert!(bench.blocks().iter().take(4_000).all(|block| block.incomplete));
}

#[test]
fn units_have_a_bound_open_and_settled() {
    let unit = || Unit {
        first: Stamp(0),
        window: 0,
        cut: 0,
        treated: true,
        dropped: false,
        met: false,
        success: false,
        failed: false,
        latency_ms: None,
    };
    let key = |hash: usize| UnitKey { slot: 0, hash: hash as u64 };
    let mut units = Units::default();
    for hash in 0..MAX_OPEN {
        assert!(matches!(units.place(key(hash), unit), Place::Open(_)));
    }
    assert!(matches!(units.place(key(MAX_OPEN), unit), Place::Full));
    // One that is open has its place.
    let Place::Open(known) = units.place(key(0), unit) else { panic!("no place") };
    known.call(CallEnd::Succeeded, Some(1));
    while units.settle(Stamp(10), 10).is_some() {}
    assert_eq!(units.forget(Stamp(10), 10), 0);
    units.place(key(MAX_OPEN), || Unit { first: Stamp(11), ..unit() });
    while units.settle(Stamp(30), 10).is_some() {}
    assert_eq!((units.forget(Stamp(30), 10), units.lens()), (1, [0, 0, MAX_SETTLED, MAX_SETTLED]));
    assert!(matches!(units.place(key(1), unit), Place::Settled));
    assert!(matches!(units.place(key(0), unit), Place::Open(_)));
    // By age, ten times the time to settle.
    assert_eq!(units.forget(Stamp(100), 10), 0);
    assert_eq!(units.lens(), [1, 1, 1, 1]);
}

#[test]
fn workers_and_rollouts_have_a_bound() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    for boot in 0..(MAX_RUNS as u64 + 10) {
        let entry = TallyEntry { run: WorkerRun { boot, ..run("w") }, ..bench.tally_of("w") };
        bench.apply(6_000, &Entry::Tally(entry));
    }
    assert_eq!((bench.evidence.forgotten_workers(), bench.evidence.workers.len()), (11, MAX_RUNS));
    for n in 0..MAX_ROLLOUTS + 3 {
        let overlay = super::overlay(&[("t", 1, 1)], settings(10_000, 2_000));
        bench.apply(6_000, &step_of(&format!("x-{n}"), 1, Some(overlay)));
    }
    assert_eq!(bench.evidence.rollouts().count(), MAX_ROLLOUTS);
    assert_eq!(bench.evidence.refused_steps(), 4);
    // One that ended makes room.
    bench.apply(6_000, &step_of("x-0", 2, None));
    bench.apply(6_000, &step_of("new", 1, Some(super::overlay(&[], settings(1_000, 100)))));
    assert_eq!(bench.evidence.refused_steps(), 4);
    assert!(bench.evidence.rollouts().any(|(id, _)| id.as_str() == "new"));
}

#[test]
fn senseless_settings_do_no_harm() {
    let mut bench = Bench::new();
    for (n, (block, settle)) in [(0, 0), (u64::MAX, u64::MAX), (1, 0), (0, u64::MAX)].into_iter().enumerate()
    {
        let overlay = super::overlay(&[("t", 200, 255)], settings(block, settle));
        let Entry::Step(entry) = step_of("r", n as u64 + 1, Some(overlay)) else { unreachable!() };
        let number = crate::log::StepNumber { made: i64::MIN, ..entry.number };
        bench.apply(n as u64, &Entry::Step(StepEntry { number, ..entry }));
        bench.succeed(n as u64, "t", "x");
        bench.tally(n as u64 + 1, "a");
    }
    bench.apply(u64::MAX / 2, &Entry::Mark);
    bench.apply(1, &Entry::Mark);
    bench.apply(u64::MAX / 2, &Entry::Mark);
    assert!(bench.blocks().len() <= MAX_WINDOWS);
}
