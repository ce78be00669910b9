//! Wrong verdicts over seeded weeks, and how long right ones take: the small form of
//! `examples/rollout_figures`. Each week has a look every hour, where a test does not say otherwise.
//!
//! The bounds of wrong verdicts are the promised rates plus two standard deviations of a count at that rate, so
//! that a judge that just keeps its promise passes 49 of 50 seeds; the figures of the reference are well below.

use super::{block, config, outcomes, percent};
use crate::rollout::judge::{BetConfig, BetJudge, HarmMargin, SafeMargin, Verdict};

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

fn weeks(seed: u64, hour: impl FnMut(&mut Random, u64) -> [u64; 4]) -> Verdicts {
    weeks_of(&config(), seed, hour)
}

fn weeks_of(config: &BetConfig, seed: u64, mut hour: impl FnMut(&mut Random, u64) -> [u64; 4]) -> Verdicts {
    let mut random = Random(seed);
    let mut verdicts = Verdicts::default();
    for _ in 0..WEEKS {
        let mut judge = BetJudge::new(*config, percent(50));
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
    bound_of(WEEKS, rate)
}

fn bound_of(weeks: u32, rate: f64) -> f64 {
    let weeks = f64::from(weeks);
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

/// A plan's defaults for a tenant of 600 units an hour: a margin of half the base rate, within bounds, a tenth of
/// it for HARM, three lost requests.
fn by_default(base_ppm: u32, safe_ppm: u32) -> BetConfig {
    let units = 600 * HOURS;
    BetConfig {
        history: outcomes(units, units * u64::from(base_ppm) / 1_000_000),
        safe_margin: SafeMargin::try_new(safe_ppm).unwrap(),
        harm_margin: HarmMargin::try_new(safe_ppm / 10).unwrap(),
        harm_budget: 3,
        ..config()
    }
}

#[test]
fn promises_hold_at_low_and_at_high_failure_rates() {
    for (seed, base, margin) in [(106, 1_000, 1_000), (107, 50_000, 10_000)] {
        let config = by_default(base, margin);
        let (base, margin) = (u64::from(base), u64::from(margin));
        let alike = weeks_of(&config, seed, |random, _| random.hour(300, base, base));
        assert!(f64::from(alike.failed) <= bound(0.01), "{base} {alike:?}");
        let worse = weeks_of(&config, seed, |random, _| random.hour(300, base + margin, base));
        assert!(f64::from(worse.passed) <= bound(0.05), "{base} {worse:?}");
    }
}

/// Failures that come together: in one hour of eight they are eight times as frequent, in both arms.
#[test]
fn failures_that_come_in_bursts_break_no_promise() {
    let burst = |random: &mut Random| if random.chance(125_000) { 80_000 } else { 0 };
    let alike = weeks(108, |random, _| {
        let ppm = burst(random);
        random.hour(300, ppm, ppm)
    });
    assert!(f64::from(alike.failed) <= bound(0.01), "{alike:?}");
    let worse = weeks(109, |random, _| {
        let ppm = burst(random);
        random.hour(300, ppm + 5_000, ppm)
    });
    assert!(f64::from(worse.passed) <= bound(0.05), "{worse:?}");
}

/// Looks every five minutes are twelve times as many, over the same units.
#[test]
fn looks_every_five_minutes_break_no_promise() {
    const SHORT_WEEKS: u32 = 100;
    let (mut random, config) = (Random(110), by_default(10_000, 5_000));
    let (mut failed, mut passed) = (0_u32, 0_u32);
    for _ in 0..SHORT_WEEKS {
        let [mut alike, mut worse] = [(); 2].map(|()| BetJudge::new(config, percent(50)));
        let (mut ever_failed, mut ever_passed) = (false, false);
        for n in 0..12 * HOURS {
            let row = random.hour(25, 10_000, 10_000);
            ever_failed |= alike.look(&block(n / 12, 50, row, [0; 4])).unwrap().verdict == Verdict::Fail;
            let row = random.hour(25, 15_000, 10_000);
            ever_passed |= worse.look(&block(n / 12, 50, row, [0; 4])).unwrap().verdict == Verdict::Pass;
        }
        failed += u32::from(ever_failed);
        passed += u32::from(ever_passed);
    }
    let bound = |rate| bound_of(SHORT_WEEKS, rate);
    assert!(f64::from(failed) <= bound(0.01) && f64::from(passed) <= bound(0.05), "{failed} {passed}");
}

/// Hours until a verdict, over all weeks: the median and the 80th percentile. A week without the verdict counts
/// as longer than any.
fn hours_until(sought: Verdict, seed: u64, treated_ppm: u64) -> [u64; 2] {
    let mut random = Random(seed);
    let mut hours: Vec<u64> = (0..WEEKS)
        .map(|_| {
            let mut judge = BetJudge::new(by_default(10_000, 5_000), percent(50));
            let mut look = |n| {
                let row = random.hour(600, treated_ppm, 10_000);
                judge.look(&block(n, 50, row, [0; 4])).unwrap().verdict
            };
            (0..HOURS).find(|n| look(*n) == sought).map_or(u64::MAX, |n| n + 1)
        })
        .collect();
    hours.sort_unstable();
    [hours.len() / 2, hours.len() * 8 / 10].map(|rank| hours[rank])
}

/// The bounds are the reference's figures, and besides: an hour, since looks come no sooner, and three standard
/// errors of a quantile over 400 weeks, which are a tenth of the figure where it spreads as widely as here.
#[test]
fn verdicts_come_as_soon_as_the_reference_has_them() {
    let [median, _] = hours_until(Verdict::Fail, 111, 30_000);
    assert!(median <= 7, "1 to 3 %: 5.2 hours + 1 + 0.5, and {median}");
    let [median, _] = hours_until(Verdict::Fail, 112, 20_000);
    assert!(median <= 21, "1 to 2 %: 17.8 hours + 1 + 1.8, and {median}");
    let [median, _] = hours_until(Verdict::Fail, 113, 1_000_000);
    assert_eq!(median, 1, "an outage of the treated arm");
    let [median, p80] = hours_until(Verdict::Pass, 114, 10_000);
    assert!(median <= 18 && p80 <= 29, "15 and 25 hours + 1 + a tenth, and {median} and {p80}");
}
