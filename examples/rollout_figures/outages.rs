//! Outages of providers: those that hit both arms, and those of the treated arm alone.

use std::io::{self, Write};

use beamline_router::rollout::judge::{Look, Verdict};

use crate::course::{Course, Tenant};
use crate::random::{Chance, Random};
use crate::report::{Expected, Figure, Report, grouped, hours, number};
use crate::runs::{Effort, quantile, share};

const BASE: Chance = Chance::ppm(10_000);
const TENANT: Tenant = Tenant::new(10, 10_000);
/// Units of an outage that come before a breaker opens: a minute of them.
const A_MINUTE: u64 = TENANT.per_minute;

/// An outage that begins in a window, lasts so many, and lets so many percent of units fail in both arms.
#[derive(Clone, Copy)]
struct Outage {
    first: u64,
    windows: u64,
    failing: Chance,
    /// After how many units the breaker opens, so that the others meet it; `None` where it does not open.
    opens_after: Option<u64>,
}

impl Outage {
    /// Plain units and units that met the breaker.
    fn rows(self, random: &mut Random, window: u64) -> ([u64; 4], [u64; 4]) {
        let all = TENANT.units();
        if !(self.first..self.first + self.windows).contains(&window) {
            return (TENANT.row(random, all, [BASE; 2]), [0; 4]);
        }
        let plain = match self.opens_after {
            None => all,
            Some(units) if window == self.first => units,
            Some(_) => 0,
        };
        let mut failed = |units| TENANT.row(random, units, [self.failing; 2]);
        (failed(plain), failed(all - plain))
    }
}

/// One outage of both arms in a week.
pub(crate) fn shared<W: Write>(report: &mut Report<W>, effort: Effort, seed: u64) -> io::Result<()> {
    let runs = effort.runs(2_000, 100);
    report.section(
        "Outages of both arms",
        &format!(
            "Seed {seed}, {} runs of 7 days in each row, 10 requests a minute, base rate 1 %, one outage \
             on the second day; false rollbacks (promise: at most 1 %).",
            grouped(runs)
        ),
    )?;
    report.head(&["failing", "duration", "no breaker opens", "open after ten requests", "kept"])?;
    let mut at = 0;
    for failing in [100, 50, 30] {
        for (name, windows) in [("10 min", 2), ("1 h", 12), ("6 h", 72)] {
            let mut figures = Vec::new();
            for opens_after in [None, Some(A_MINUTE)] {
                at += 1;
                let (first, failing) = (TENANT.windows(30), Chance::percent(failing));
                let outage = Outage { first, windows, failing, opens_after };
                let wrong = effort.run(seed * 100 + at, runs, |random| {
                    let rows = |window| outage.rows(random, window);
                    Course::new(TENANT).seek_rows(TENANT.windows(168), rows, is_harm).is_some()
                });
                let found = Some(share(&wrong, |wrong| *wrong));
                figures.push(Figure { found, expected: Expected::AtMost(1.0), runs });
            }
            let mut cells = vec![format!("{failing} %"), name.to_owned()];
            cells.extend(figures.iter().map(|figure| format!("{} %", number(figure.found, 2))));
            cells.push(report.kept(&figures));
            report.row(&cells)?;
        }
    }
    Ok(())
}

fn is_harm(look: &Look) -> bool {
    look.verdict == Verdict::Fail
}

/// The treated arm alone has an outage, which lasts.
pub(crate) fn alone<W: Write>(report: &mut Report<W>, effort: Effort, seed: u64) -> io::Result<()> {
    let runs = effort.runs(2_000, 200);
    report.section(
        "Outages of the treated arm alone",
        &format!(
            "Seed {seed}, {} runs in each row, 10 requests a minute, base rate 1 %, from the second day on; \
             minutes from the outage's beginning.",
            grouped(runs)
        ),
    )?;
    report.head(&[
        "failing",
        "rolled back within a day",
        "minutes, median / p90",
        "reference, median",
        "kept",
    ])?;
    for (at, (failing, reference)) in (0..).zip([(100, 10.0), (50, 15.0), (20, 30.0)]) {
        let times = effort.run(seed * 100 + at, runs, |random| {
            let mut course = Course::new(TENANT);
            course.seek(random, TENANT.windows(30), [BASE; 2], |_| false);
            course.seek(random, TENANT.windows(24), [Chance::percent(failing), BASE], is_harm)
        });
        let minutes = |at| quantile(&times, at).map(|windows| (windows * TENANT.block_minutes) as f64);
        let expected = Expected::Near { figure: reference, step: TENANT.block_minutes as f64 };
        let kept = report.kept(&[Figure { found: minutes(50), expected, runs }]);
        report.row(&[
            format!("{failing} %"),
            format!("{} %", number(Some(share(&times, Option::is_some)), 1)),
            format!("{} / {}", number(minutes(50), 0), number(minutes(90), 0)),
            number(Some(reference), 0),
            kept,
        ])?;
    }
    Ok(())
}

/// Half an hour of outage of both arms each day.
pub(crate) fn daily<W: Write>(report: &mut Report<W>, effort: Effort, seed: u64) -> io::Result<()> {
    const DAY: u64 = TENANT.windows(24);
    const OUTAGE: u64 = 6;
    let runs = effort.runs(2_000, 200);
    report.section(
        "SAFE under daily outages of both arms",
        &format!(
            "Seed {seed}, {} runs in each row, 10 requests a minute, base rate 1 %, no effect; each day half an \
             hour in which all requests fail, at a random time; hours until SAFE passes. The reference had 76 \
             (p80) where units are not told apart, for outages at a time of the day that it does not state and \
             on which the figure depends.",
            grouped(runs)
        ),
    )?;
    report.head(&["outages", "hours, median / p80", "reference, p80", "kept"])?;
    let cases = [
        ("none", 0, None, Some(25.0)),
        ("units that met the breaker are not told apart", OUTAGE, None, None),
        ("told apart, open from the first request on", OUTAGE, Some(0), Some(26.5)),
        ("told apart, open after ten requests", OUTAGE, Some(A_MINUTE), None),
    ];
    for (at, (name, windows, opens_after, reference)) in (0..).zip(cases) {
        let times = effort.run(seed * 100 + at, runs, |random| {
            let mut first = 0;
            let rows = |window: u64| {
                if window.is_multiple_of(DAY) {
                    first = window + random.word() % (DAY - OUTAGE);
                }
                Outage { first, windows, failing: Chance::percent(100), opens_after }.rows(random, window)
            };
            let passes = |look: &Look| look.verdict == Verdict::Pass;
            Course::new(TENANT).seek_rows(TENANT.windows(60 * 24), rows, passes)
        });
        let found = [50, 80].map(|percent| quantile(&times, percent).map(|windows| TENANT.hours(windows)));
        let [_, p80] = found;
        let expected = reference.map_or(Expected::Anything, Expected::hours);
        let kept = report.kept(&[Figure { found: p80, expected, runs }]);
        report.row(&[
            name.to_owned(),
            found.map(hours).join(" / "),
            reference.map(|reference| hours(Some(reference))).unwrap_or_default(),
            kept,
        ])?;
    }
    Ok(())
}
