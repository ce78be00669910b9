//! Failures that come together.

use std::io::{self, Write};

use beamline_router::rollout::judge::{Alpha, Verdict};

use crate::course::{Course, Tenant};
use crate::random::{Chance, Random};
use crate::report::{Expected, Figure, Report, grouped, number};
use crate::runs::{Effort, share};

const BASE: f64 = 0.01;
/// A block of it has 50 units: one burst.
const TENANT: Tenant = Tenant::new(10, 10_000);

/// Failures of one burst: a Pólya urn, so that each unit fails at the base rate, and any two of them with the
/// given correlation. Treated units fail by a further chance.
fn burst(random: &mut Random, correlation: f64, further: f64) -> [u64; 4] {
    let weight = 1.0 / correlation - 1.0;
    let (mut drawn, mut failed) = (0.0, 0.0);
    let mut row = [0; 4];
    for _ in 0..TENANT.units() {
        let treated = random.binomial(1, Chance::percent(u64::from(TENANT.share))) == 1;
        let fails = random.unit() * (weight + drawn) < BASE * weight + failed;
        drawn += 1.0;
        failed += f64::from(u8::from(fails));
        // Of those that would succeed, so many more that the rates differ by `further`.
        let harmed = treated && !fails && random.unit() < further / (1.0 - BASE);
        let arm = if treated { 0 } else { 2 };
        row[arm] += 1;
        row[arm + 1] += u64::from(fails || harmed);
    }
    row
}

pub(crate) fn errors<W: Write>(report: &mut Report<W>, effort: Effort, seed: u64) -> io::Result<()> {
    let runs = effort.runs(2_000, 150);
    report.section(
        "Bursts",
        &format!(
            "Seed {seed}, {} runs of 7 days in each cell, 10 requests a minute in bursts of 50, base rate 1 %, a \
             look every 5 minutes; the same promises.",
            grouped(runs)
        ),
    )?;
    report.head(&["correlation", "false rollbacks", "false promotions", "kept"])?;
    let margin = f64::from(TENANT.config().safe_margin.get()) / 1e6;
    for (at, correlation) in (0..).zip([0.01, 0.02, 0.05]) {
        let wrong = effort.run(seed * 100 + at, runs, |random| {
            let mut course = Course::new(TENANT);
            let rows = |_| (burst(random, correlation, 0.0), [0; 4]);
            let rolled_back =
                course.seek_rows(TENANT.windows(168), rows, |look| look.verdict == Verdict::Fail).is_some();
            let mut course = Course::new(TENANT);
            let rows = |_| (burst(random, correlation, margin), [0; 4]);
            let threshold = Alpha::SAFE.log_threshold();
            let promoted =
                course.seek_rows(TENANT.windows(168), rows, |look| look.safe >= threshold).is_some();
            (rolled_back, promoted)
        });
        let figures = [
            Figure { found: Some(share(&wrong, |(back, _)| *back)), expected: Expected::AtMost(1.0), runs },
            Figure { found: Some(share(&wrong, |(_, on)| *on)), expected: Expected::AtMost(5.0), runs },
        ];
        let kept = report.kept(&figures);
        let [back, on] = figures.map(|figure| format!("{} %", number(figure.found, 2)));
        report.row(&[correlation.to_string(), back, on, kept])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{TENANT, burst};
    use crate::random::Random;

    #[test]
    fn a_burst_has_its_rates_and_its_correlation() {
        let mut random = Random::of_run(1, 0);
        let (correlation, further, bursts) = (0.05, 0.005, 40_000_u32);
        let (mut treated, mut control, mut pairs, mut failing_pairs) = ([0; 2], [0; 2], 0, 0);
        for _ in 0..bursts {
            let [t, t_failed, c, c_failed] = burst(&mut random, correlation, further);
            assert_eq!(t + c, TENANT.units());
            treated = [treated[0] + t, treated[1] + t_failed];
            control = [control[0] + c, control[1] + c_failed];
            pairs += c * c.saturating_sub(1);
            failing_pairs += c_failed * c_failed.saturating_sub(1);
        }
        let rate = |[units, failed]: [u64; 2]| failed as f64 / units as f64;
        let both = failing_pairs as f64 / pairs as f64;
        let p = rate(control);
        assert!((p - 0.01).abs() < 0.000_5, "{p}");
        assert!((rate(treated) - p - further).abs() < 0.000_4, "{} {p}", rate(treated));
        assert!(((both - p * p) / (p * (1.0 - p)) - correlation).abs() < 0.01, "{both} {p}");
    }
}
