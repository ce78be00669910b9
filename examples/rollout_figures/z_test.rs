//! For comparison: a test that is made for one look, looked at often.

use std::io::{self, Write};

use crate::course::Tenant;
use crate::random::Chance;
use crate::report::{Report, grouped, number};
use crate::runs::{Effort, share};
use crate::type_one::PER_MINUTE;

/// The 99th percentile of the standard normal distribution: one-sided, 1 %.
const THRESHOLD: f64 = 2.326_347_874_040_841;

/// The two-proportion z statistic of all units so far.
fn z([t, t_failed, c, c_failed]: [u64; 4]) -> f64 {
    let [t, t_failed, c, c_failed] = [t, t_failed, c, c_failed].map(|count| count as f64);
    let pooled = (t_failed + c_failed) / (t + c);
    let error = (pooled * (1.0 - pooled) * (1.0 / t + 1.0 / c)).sqrt();
    // Without a failure, or with one arm, there is no error and no difference.
    if error > 0.0 { (t_failed / t - c_failed / c) / error } else { 0.0 }
}

pub(crate) fn errors<W: Write>(report: &mut Report<W>, effort: Effort, seed: u64) -> io::Result<()> {
    let runs = effort.runs(2_000, 200);
    report.section(
        "For comparison: a z-test",
        &format!(
            "Seed {seed}, {} runs of 7 days in each row, base rate 1 %, both arms fail alike. The one-sided \
             z-test of two proportions at 1 % over all units so far: runs in which it finds harm that is not \
             there.",
            grouped(runs)
        ),
    )?;
    report.head(&["a minute", "one look at the end", "a look each hour"])?;
    for (at, per_minute) in (0..).zip(PER_MINUTE) {
        let tenant = Tenant { block_minutes: 60, ..Tenant::new(per_minute, 10_000) };
        let base = Chance::ppm(tenant.base_ppm);
        let found = effort.run(seed * 100 + at, runs, |random| {
            let (mut sum, mut last, mut ever) = ([0; 4], false, false);
            for _ in 0..tenant.windows(168) {
                let row = tenant.row(random, tenant.units(), [base; 2]);
                sum.iter_mut().zip(row).for_each(|(sum, more)| *sum += more);
                last = z(sum) > THRESHOLD;
                ever |= last;
            }
            (last, ever)
        });
        let cell = |percent| format!("{} %", number(Some(percent), 1));
        report.row(&[
            per_minute.to_string(),
            cell(share(&found, |(last, _)| *last)),
            cell(share(&found, |(_, ever)| *ever)),
        ])?;
    }
    Ok(())
}
