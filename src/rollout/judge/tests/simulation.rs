//! Wrong verdicts over seeded weeks. Each week has a look every hour. The bounds are the promised rates plus
//! two standard deviations of a count at that rate, so that a judge that just keeps its promise passes 49 of 50
//! seeds; the figures of the reference are well below.

use super::{block, config, percent};
use crate::rollout::judge::{BetJudge, Verdict};

const WEEKS: u32 = 400;
const HOURS: u64 = 168;

/// `SplitMix64` (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// True with a chance in parts per million.
    fn chance(&mut self, ppm: u64) -> bool {
        self.next() % 1_000_000 < ppm
    }

    /// Units of an hour that fall into the arms by a fair coin and fail at these rates.
    fn hour(&mut self, units: u64, treated_ppm: u64, control_ppm: u64) -> [u64; 4] {
        let mut row = [0; 4];
        for _ in 0..units {
            let (arm, ppm) = if self.chance(500_000) { (0, treated_ppm) } else { (2, control_ppm) };
            row[arm] += 1;
            row[arm + 1] += u64::from(self.chance(ppm));
        }
        row
    }
}

/// How many of the weeks ever had a verdict.
#[derive(Debug, Default)]
struct Verdicts {
    failed: u32,
    passed: u32,
}

fn weeks(seed: u64, mut hour: impl FnMut(&mut Random, u64) -> [u64; 4]) -> Verdicts {
    let mut random = Random(seed);
    let mut verdicts = Verdicts::default();
    for _ in 0..WEEKS {
        let mut judge = BetJudge::new(config(), percent(50));
        let (mut failed, mut passed) = (false, false);
        for n in 0..HOURS {
            let row = hour(&mut random, n);
            let verdict = judge.look(&block(n, 50, row, [0; 4])).unwrap().verdict;
            failed |= verdict == Verdict::Fail;
            passed |= verdict == Verdict::Pass;
        }
        verdicts.failed += u32::from(failed);
        verdicts.passed += u32::from(passed);
    }
    verdicts
}

/// A promised rate of all weeks, plus two standard deviations.
fn bound(rate: f64) -> f64 {
    let weeks = f64::from(WEEKS);
    weeks * rate + 2.0 * (weeks * rate * (1.0 - rate)).sqrt()
}

#[test]
fn a_treatment_without_effect_is_rarely_rolled_back_and_nearly_always_passes() {
    let verdicts = weeks(101, |random, _| random.hour(300, 10_000, 10_000));
    assert!(f64::from(verdicts.failed) <= bound(0.01), "{verdicts:?}");
    assert!(f64::from(verdicts.passed) >= 0.9 * f64::from(WEEKS), "{verdicts:?}");
}

#[test]
fn a_treatment_that_harms_by_exactly_the_margin_rarely_passes() {
    let verdicts = weeks(102, |random, _| random.hour(300, 15_000, 10_000));
    assert!(f64::from(verdicts.passed) <= bound(0.05), "{verdicts:?}");
}

#[test]
fn an_outage_of_both_arms_is_rarely_harm() {
    let verdicts = weeks(103, |random, n| {
        let ppm = if n % 24 == 7 { 900_000 } else { 10_000 };
        random.hour(100, ppm, ppm)
    });
    assert!(f64::from(verdicts.failed) <= bound(0.01), "{verdicts:?}");
}

#[test]
fn without_data_of_both_arms_nothing_passes() {
    let nothing = weeks(104, |_, _| [0; 4]);
    assert_eq!((nothing.passed, nothing.failed), (0, 0));
    for one_arm in [[1, 1, 0, 0], [0, 0, 1, 1]] {
        let mut keep = one_arm.into_iter().cycle();
        let verdicts =
            weeks(105, |random, _| random.hour(20, 10_000, 10_000).map(|n| n * keep.next().unwrap()));
        assert_eq!(verdicts.passed, 0, "{verdicts:?}");
    }
}
