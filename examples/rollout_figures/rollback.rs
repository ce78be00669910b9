//! How soon harm is proven.

use std::io::{self, Write};

use beamline_router::rollout::judge::{Alpha, BetConfig, Verdict};

use crate::course::{Course, Tenant};
use crate::random::Chance;
use crate::report::{Expected, Figure, Report, grouped, hours, number};
use crate::runs::{Effort, quantile, share};
use crate::type_one::PER_MINUTE;

/// What the reference of the judge needed.
#[derive(Clone, Copy)]
enum Reference {
    /// Hours until harm is proven: median and 90th percentile.
    Hours([f64; 2]),
    /// Harm is proven in time in so many percent of runs, which are too few for a percentile.
    Proven(f64),
    None,
}

struct Case {
    name: &'static str,
    base_ppm: u64,
    treated_ppm: u64,
    /// Hours without effect before it begins.
    onset: u64,
    /// For [`PER_MINUTE`].
    reference: [Reference; 3],
}

const CASES: [Case; 5] = [
    Case {
        name: "1 → 3 %",
        base_ppm: 10_000,
        treated_ppm: 30_000,
        onset: 0,
        reference: [
            Reference::Hours([52.0, 91.0]),
            Reference::Hours([5.2, 9.1]),
            Reference::Hours([0.6, 1.0]),
        ],
    },
    Case {
        name: "1 → 2 %",
        base_ppm: 10_000,
        treated_ppm: 20_000,
        onset: 0,
        reference: [Reference::Proven(46.0), Reference::Hours([17.8, 27.6]), Reference::Hours([1.8, 2.9])],
    },
    Case {
        name: "5 → 10 %",
        base_ppm: 50_000,
        treated_ppm: 100_000,
        onset: 0,
        reference: [
            Reference::Hours([31.0, 50.0]),
            Reference::Hours([3.3, 5.2]),
            Reference::Hours([0.4, 0.6]),
        ],
    },
    Case {
        name: "1 → 100 %",
        base_ppm: 10_000,
        treated_ppm: 1_000_000,
        onset: 0,
        reference: [
            Reference::Hours([0.6, 0.75]),
            Reference::Hours([0.08, 0.08]),
            Reference::Hours([0.08, 0.08]),
        ],
    },
    Case {
        name: "1 → 3 %, from day 3 on",
        base_ppm: 10_000,
        treated_ppm: 30_000,
        onset: 72,
        reference: [Reference::Proven(76.0), Reference::Hours([8.0, 12.4]), Reference::Hours([0.9, 1.4])],
    },
];

/// Windows from the effect's beginning until harm is proven, in each run.
fn times(
    effort: Effort,
    seed: u64,
    runs: u64,
    tenant: Tenant,
    config: BetConfig,
    case: &Case,
) -> Vec<Option<u64>> {
    let base = Chance::ppm(case.base_ppm);
    let treated = Chance::ppm(case.treated_ppm);
    effort.run(seed, runs, |random| {
        let mut course = Course::with(tenant, config);
        course.seek(random, tenant.windows(case.onset), [base; 2], |_| false);
        let left = tenant.windows(168 - case.onset);
        course.seek(random, left, [treated, base], |look| look.verdict == Verdict::Fail)
    })
}

fn row<W: Write>(
    report: &mut Report<W>,
    tenant: Tenant,
    case: &Case,
    reference: Reference,
    times: &[Option<u64>],
) -> io::Result<()> {
    let runs = times.len() as u64;
    let proven = share(times, Option::is_some);
    let found = [50, 90].map(|percent| quantile(times, percent).map(|windows| tenant.hours(windows)));
    let (text, figures) = match reference {
        Reference::Hours(reference) => (
            reference.map(|value| hours(Some(value))).join(" / "),
            found
                .into_iter()
                .zip(reference)
                .map(|(found, reference)| Figure { found, expected: Expected::hours(reference), runs })
                .collect(),
        ),
        Reference::Proven(percent) => (
            format!("{percent} % in time"),
            vec![Figure { found: Some(proven), expected: Expected::near(percent), runs }],
        ),
        Reference::None => (String::new(), Vec::new()),
    };
    let kept = report.kept(&figures);
    report.row(&[
        case.name.to_owned(),
        tenant.per_minute.to_string(),
        format!("{} %", number(Some(proven), 1)),
        found.map(hours).join(" / "),
        text,
        kept,
    ])
}

const HEAD: [&str; 6] =
    ["failures, control → treated", "a minute", "in time", "hours, median / p90", "reference", "kept"];

pub(crate) fn times_to_roll_back<W: Write>(
    report: &mut Report<W>,
    effort: Effort,
    seed: u64,
) -> io::Result<()> {
    let runs = effort.runs(2_000, 200);
    report.section(
        "Time to roll back",
        &format!(
            "Seed {seed}, {} runs in each row, half treated, a look every 5 minutes, within 7 days; hours from \
             the effect's beginning. A block is judged `settle` after its end.",
            grouped(runs)
        ),
    )?;
    report.head(&HEAD)?;
    for (at, case) in (0..).zip(&CASES) {
        for (place, (per_minute, reference)) in (0..).zip(PER_MINUTE.into_iter().zip(case.reference)) {
            let tenant = Tenant::new(per_minute, case.base_ppm);
            let times = times(effort, seed * 100 + at * 10 + place, runs, tenant, tenant.config(), case);
            row(report, tenant, case, reference, &times)?;
        }
    }
    Ok(())
}

/// Those who have passed, at the default of `after_phase`, judged with a quarter of HARM's alpha.
pub(crate) fn holdout<W: Write>(report: &mut Report<W>, effort: Effort, seed: u64) -> io::Result<()> {
    let runs = effort.runs(2_000, 200);
    report.section(
        "The holdout",
        &format!(
            "Seed {seed}, {} runs in each row, 95 % treated, alpha 0.25 %, within 7 days.",
            grouped(runs)
        ),
    )?;
    report.head(&HEAD)?;
    for (at, case) in (0..).zip(&CASES[..4]) {
        for (place, per_minute) in (0..).zip(PER_MINUTE) {
            let tenant = Tenant { share: 95, ..Tenant::new(per_minute, case.base_ppm) };
            let config = BetConfig { harm_alpha: Alpha::try_new(2_500).unwrap(), ..tenant.config() };
            let times = times(effort, seed * 100 + at * 10 + place, runs, tenant, config, case);
            row(report, tenant, case, Reference::None, &times)?;
        }
    }
    Ok(())
}
