//! How a phase ends, for treatments that do a little harm, or much.

use std::io::{self, Write};

use beamline_router::rollout::judge::Verdict;

use crate::course::{Course, Tenant};
use crate::random::{Chance, Random};
use crate::report::{Expected, Figure, Report, grouped, number, percent};
use crate::runs::{Effort, share};
use crate::type_one::PER_MINUTE;

const BASE_PPM: u64 = 10_000;
/// What the treatment adds, in parts per million; the fourth is the margin.
const ADDED_PPM: [u64; 7] = [0, 1_000, 2_000, 5_000, 10_000, 20_000, 40_000];
/// `min` and `max` of a canary by default.
const MIN_HOURS: u64 = 72;
const MAX_HOURS: u64 = 168;

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    RolledBack,
    Passed,
    Neither,
}

fn phase(random: &mut Random, tenant: Tenant, added_ppm: u64) -> End {
    let failing = [Chance::ppm(BASE_PPM + added_ppm), Chance::ppm(BASE_PPM)];
    let mut course = Course::new(tenant);
    let early = tenant.windows(MIN_HOURS) - 1;
    let found = course.seek(random, early, failing, |look| look.verdict == Verdict::Fail);
    if found.is_some() {
        return End::RolledBack;
    }
    for _ in early..tenant.windows(MAX_HOURS) {
        match course.look(tenant.row(random, tenant.units(), failing), [0; 4]).verdict {
            Verdict::Fail => return End::RolledBack,
            Verdict::Pass => return End::Passed,
            Verdict::Inconclusive(_) => {}
        }
    }
    End::Neither
}

pub(crate) fn ends<W: Write>(report: &mut Report<W>, effort: Effort, seed: u64) -> io::Result<()> {
    let runs = effort.runs(2_000, 100);
    report.section(
        "How a phase ends",
        &format!(
            "Seed {seed}, {} runs in each cell, base rate 1 %, a margin of 0.5 points, half treated, a look every \
             5 minutes, `min` 3 days, `max` 7 days; rolled back / passed / neither, in percent of runs (promise: \
             without effect at most 1 % are rolled back, at the margin and above at most 5 % pass).",
            grouped(runs)
        ),
    )?;
    report.head(&["the treatment adds", "1 a minute", "10", "100", "kept"])?;
    for (at, added_ppm) in (0..).zip(ADDED_PPM) {
        let mut cells = vec![format!("{} points", percent(added_ppm).trim_end_matches(" %"))];
        let mut figures = Vec::new();
        for (place, per_minute) in (0..).zip(PER_MINUTE) {
            let tenant = Tenant::new(per_minute, BASE_PPM);
            let margin_ppm = u64::from(tenant.config().safe_margin.get());
            let ends =
                effort.run(seed * 100 + at * 10 + place, runs, |random| phase(random, tenant, added_ppm));
            let of = |end| share(&ends, |found| *found == end);
            let (expected, found) = match added_ppm {
                0 => (Expected::AtMost(1.0), of(End::RolledBack)),
                added if added >= margin_ppm => (Expected::AtMost(5.0), of(End::Passed)),
                _ => (Expected::Anything, of(End::Passed)),
            };
            figures.push(Figure { found: Some(found), expected, runs });
            let shares = [End::RolledBack, End::Passed, End::Neither].map(|end| number(Some(of(end)), 1));
            cells.push(shares.join(" / "));
        }
        cells.push(report.kept(&figures));
        report.row(&cells)?;
    }
    Ok(())
}
