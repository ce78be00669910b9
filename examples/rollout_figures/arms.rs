//! Whether a loss of units in one arm is seen.

use std::io::{self, Write};

use beamline_router::rollout::judge::{Look, ShareTest};

use crate::course::{Course, Tenant};
use crate::random::Chance;
use crate::report::{Expected, Figure, Report, grouped, hours, number};
use crate::runs::{Effort, quantile, share};

const TENANT: Tenant = Tenant::new(10, 10_000);
const BASE: Chance = Chance::ppm(10_000);
const ONSET_HOURS: u64 = 72;

fn alarms(look: &Look) -> bool {
    look.share >= ShareTest::THRESHOLD
}

pub(crate) fn losses<W: Write>(report: &mut Report<W>, effort: Effort, seed: u64) -> io::Result<()> {
    let runs = effort.runs(2_000, 200);
    report.section(
        "Sample ratio",
        &format!(
            "Seed {seed}, {} runs of 7 days in each row, 10 requests a minute, half treated, a look every 5 \
             minutes; treated units are lost from day 3 on; alarms (promise without a loss: at most 0.1 %) and \
             hours from there.",
            grouped(runs)
        ),
    )?;
    report.head(&["treated units lost", "alarms", "hours, median / p90", "reference, median", "kept"])?;
    for (at, (lost, reference)) in (0..).zip([(0, None), (10, None), (30, Some(4.0))]) {
        let alarms = effort.run(seed * 100 + at, runs, |random| {
            let mut course = Course::new(TENANT);
            let early = course.seek(random, TENANT.windows(ONSET_HOURS), [BASE; 2], alarms);
            if early.is_some() {
                return Some(0);
            }
            let rows = |_| {
                let [mut treated, mut failed, control, control_failed] =
                    TENANT.row(random, TENANT.units(), [BASE; 2]);
                let kept = Chance::percent(100 - lost);
                let succeeded = random.binomial(treated - failed, kept);
                failed = random.binomial(failed, kept);
                treated = succeeded + failed;
                ([treated, failed, control, control_failed], [0; 4])
            };
            course.seek_rows(TENANT.windows(168 - ONSET_HOURS), rows, alarms)
        });
        let alarmed = share(&alarms, Option::is_some);
        let found = [50, 90].map(|percent| quantile(&alarms, percent).map(|windows| TENANT.hours(windows)));
        let figure = match reference {
            None if lost == 0 => Figure { found: Some(alarmed), expected: Expected::AtMost(0.1), runs },
            None => Figure { found: Some(alarmed), expected: Expected::Anything, runs },
            // The reference is given in whole hours.
            Some(figure) => {
                let expected = Expected::Near { figure, step: 0.5 };
                Figure { found: found[0], expected, runs }
            }
        };
        let kept = report.kept(&[figure]);
        report.row(&[
            format!("{lost} %"),
            format!("{} %", number(Some(alarmed), 2)),
            found.map(hours).join(" / "),
            reference.map(|reference| hours(Some(reference))).unwrap_or_default(),
            kept,
        ])?;
    }
    Ok(())
}
