//! Wrong verdicts: a rollback without harm, a promotion in spite of harm, a promotion without data.

use std::io::{self, Write};

use beamline_router::rollout::judge::{Alpha, Verdict};

use crate::course::{Course, Tenant, WEEK_MINUTES};
use crate::random::{Chance, Random};
use crate::report::{Expected, Figure, Report, grouped, number, percent};
use crate::runs::{Effort, share};

pub(crate) const BASES: [u64; 3] = [1_000, 10_000, 50_000];
pub(crate) const PER_MINUTE: [u64; 3] = [1, 10, 100];
/// Lengths of a block in minutes: a look comes after each block.
const LOOKS: [u64; 2] = [60, 5];

fn tenants() -> impl Iterator<Item = Tenant> {
    BASES.into_iter().flat_map(|base| PER_MINUTE.map(|per_minute| Tenant::new(per_minute, base)))
}

/// Both arms fail alike. Whether harm is proven within a week.
fn false_rollback(random: &mut Random, tenant: Tenant) -> bool {
    let base = Chance::ppm(tenant.base_ppm);
    let windows = WEEK_MINUTES / tenant.block_minutes;
    Course::new(tenant).seek(random, windows, [base; 2], |look| look.verdict == Verdict::Fail).is_some()
}

/// The treated arm fails by exactly the margin more. Whether SAFE's evidence ever reaches its threshold within a
/// week, even where proven harm stops the rollout before.
fn false_promotion(random: &mut Random, tenant: Tenant) -> bool {
    let margin = u64::from(tenant.config().safe_margin.get());
    let failing = [Chance::ppm(tenant.base_ppm + margin), Chance::ppm(tenant.base_ppm)];
    let windows = WEEK_MINUTES / tenant.block_minutes;
    let threshold = Alpha::SAFE.log_threshold();
    Course::new(tenant).seek(random, windows, failing, |look| look.safe >= threshold).is_some()
}

pub(crate) fn errors<W: Write>(report: &mut Report<W>, effort: Effort, seed: u64) -> io::Result<()> {
    let runs = effort.runs(10_000, 200);
    report.section(
        "Wrong verdicts",
        &format!(
            "Seed {seed}, {} runs of 7 days in each cell. False rollbacks: both arms fail alike (promise: at \
             most 1 %). False promotions: the treated arm fails by exactly the margin more (promise: at most \
             5 %).",
            grouped(runs)
        ),
    )?;
    report.head(&[
        "base rate",
        "a minute",
        "false rollbacks, a look an hour",
        "every 5 min",
        "false promotions, a look an hour",
        "every 5 min",
        "kept",
    ])?;
    for (at, tenant) in (0..).zip(tenants()) {
        let mut figures = Vec::new();
        for (question, promise) in
            [(false_rollback as fn(&mut Random, Tenant) -> bool, 1.0), (false_promotion, 5.0)]
        {
            for block_minutes in LOOKS {
                let tenant = Tenant { block_minutes, ..tenant };
                // The same seed for both lengths would still give other draws.
                let wrong = effort.run(seed * 100 + at, runs, |random| question(random, tenant));
                let found = Some(share(&wrong, |wrong| *wrong));
                figures.push(Figure { found, expected: Expected::AtMost(promise), runs });
            }
        }
        let mut cells = vec![percent(tenant.base_ppm), tenant.per_minute.to_string()];
        cells.extend(figures.iter().map(|figure| format!("{} %", number(figure.found, 2))));
        cells.push(report.kept(&figures));
        report.row(&cells)?;
    }
    Ok(())
}

/// Which arms have units.
const MISSING: [(&str, [u64; 2]); 3] =
    [("no units", [0, 0]), ("treated units alone", [1, 0]), ("control units alone", [0, 1])];

pub(crate) fn without_data<W: Write>(report: &mut Report<W>, effort: Effort, seed: u64) -> io::Result<()> {
    let runs = effort.runs(5_000, 100);
    report.section(
        "Promotions without data of both arms",
        &format!(
            "Seed {seed}, {} runs of 7 days in each of the nine cells above, a look an hour (promise: none).",
            grouped(runs)
        ),
    )?;
    report.head(&["evidence", "runs", "promotions", "kept"])?;
    for (kind, (name, [treated, control])) in (0..).zip(MISSING) {
        let mut promotions = 0;
        for (at, tenant) in (0..).zip(tenants()) {
            let tenant = Tenant { block_minutes: 60, ..tenant };
            let passed = effort.run(seed * 100 + kind * 10 + at, runs, |random| {
                let base = Chance::ppm(tenant.base_ppm);
                let mut course = Course::new(tenant);
                let rows = |_| {
                    let [t, t_failed, c, c_failed] = tenant.row(random, tenant.units(), [base; 2]);
                    ([t * treated, t_failed * treated, c * control, c_failed * control], [0; 4])
                };
                course.seek_rows(tenant.windows(168), rows, |look| look.verdict == Verdict::Pass).is_some()
            });
            promotions += passed.into_iter().filter(|passed| *passed).count();
        }
        let kept = report.held(promotions == 0);
        report.row(&[name.to_owned(), grouped(9 * runs), promotions.to_string(), kept])?;
    }
    Ok(())
}
