//! How much it takes to prove that a treatment without effect is safe.

use std::io::{self, Write};

use beamline_router::rollout::judge::{Verdict, units_needed};

use crate::course::{Course, Tenant};
use crate::random::Chance;
use crate::report::{Expected, Figure, Report, grouped, hours, number, percent};
use crate::runs::{Effort, quantile, share};
use crate::type_one::PER_MINUTE;

/// Longer than any phase by default: how long the slow ones take is what is measured.
const HORIZON_HOURS: u64 = 60 * 24;

struct Case {
    tenant: Tenant,
    /// Units and hours that the reference needed: median and 80th percentile.
    units: Option<[f64; 2]>,
    hours: Option<[f64; 2]>,
}

fn cases() -> Vec<Case> {
    let bases =
        [(1_000, [22_000.0, 42_000.0]), (10_000, [8_900.0, 15_200.0]), (50_000, [10_100.0, 17_700.0])];
    let mut cases = Vec::new();
    for (base, units) in bases {
        for per_minute in PER_MINUTE {
            let hours = match (base, per_minute) {
                (10_000, 10) => Some([15.0, 25.0]),
                (10_000, 1) => Some([144.0, 259.0]),
                _ => None,
            };
            cases.push(Case { tenant: Tenant::new(per_minute, base), units: Some(units), hours });
        }
    }
    for (share, hours) in [(10, [43.0, 94.0]), (95, [73.0, 112.0])] {
        let tenant = Tenant { share, ..Tenant::new(10, 10_000) };
        cases.push(Case { tenant, units: None, hours: Some(hours) });
    }
    cases
}

/// Median and 80th percentile.
fn quantiles(times: &[Option<u64>]) -> [Option<u64>; 2] {
    [50, 80].map(|percent| quantile(times, percent))
}

pub(crate) fn times_to_promote<W: Write>(
    report: &mut Report<W>,
    effort: Effort,
    seed: u64,
) -> io::Result<()> {
    let runs = effort.runs(2_000, 150);
    report.section(
        "Time until SAFE passes",
        &format!(
            "Seed {seed}, {} runs in each row, no effect, a look every 5 minutes. `needed` is what a status \
             shows: enough in four of five rollouts. A phase also has its `min`.",
            grouped(runs)
        ),
    )?;
    report.head(&[
        "base rate",
        "margin",
        "treated",
        "a minute",
        "units, median / p80",
        "hours, median / p80",
        "within 7 days",
        "needed",
        "days for these",
        "reference",
        "kept",
    ])?;
    for (at, case) in (0..).zip(cases()) {
        let Case { tenant, units, hours: reference_hours } = case;
        let base = Chance::ppm(tenant.base_ppm);
        let times = effort.run(seed * 100 + at, runs, |random| {
            let windows = tenant.windows(HORIZON_HOURS);
            Course::new(tenant).seek(random, windows, [base; 2], |look| look.verdict == Verdict::Pass)
        });
        let found = quantiles(&times);
        let in_units = found.map(|windows| windows.map(|windows| windows * tenant.units()));
        let in_hours = found.map(|windows| windows.map(|windows| tenant.hours(windows)));
        // SAFE passes at the end of a block.
        let step = tenant.units() as f64;
        let mut figures = Vec::new();
        let mut reference = Vec::new();
        for (found, units) in in_units.into_iter().zip(units.into_iter().flatten()) {
            let found = found.map(|found| found as f64);
            figures.push(Figure { found, expected: Expected::Near { figure: units, step }, runs });
        }
        if let Some(units) = units {
            reference.push(format!("{} units", units.map(|units| grouped(units as u64)).join(" / ")));
        }
        for (found, hours) in in_hours.into_iter().zip(reference_hours.into_iter().flatten()) {
            figures.push(Figure { found, expected: Expected::hours(hours), runs });
        }
        if let Some(reference_hours) = reference_hours {
            reference.push(format!("{} h", reference_hours.map(|value| hours(Some(value))).join(" / ")));
        }
        let config = tenant.config();
        let needed = units_needed(&config, tenant.percent());
        let week = tenant.windows(168);
        report_row(
            report,
            tenant,
            [
                percent(u64::from(config.safe_margin.get())),
                in_units.map(|units| units.map_or_else(|| number(None, 0), grouped)).join(" / "),
                in_hours.map(hours).join(" / "),
                format!("{} %", number(Some(share(&times, |time| time.is_some_and(|time| time <= week))), 0)),
                grouped(needed),
                number(Some(needed as f64 / (tenant.per_minute * 24 * 60) as f64), 1),
                reference.join(", "),
            ],
            &figures,
        )?;
    }
    Ok(())
}

fn report_row<W: Write>(
    report: &mut Report<W>,
    tenant: Tenant,
    [margin, units, hours, in_time, needed, days, reference]: [String; 7],
    figures: &[Figure],
) -> io::Result<()> {
    let kept = report.kept(figures);
    let share = format!("{} %", tenant.share);
    let per_minute = tenant.per_minute.to_string();
    let base = percent(tenant.base_ppm);
    report.row(&[base, margin, share, per_minute, units, hours, in_time, needed, days, reference, kept])
}
