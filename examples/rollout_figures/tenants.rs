//! Several tenants that go up the ladder together.

use std::collections::BTreeMap;
use std::io::{self, Write};

use beamline_router::rollout::judge::{
    Alpha, BetConfig, HarmMargin, Outcomes, PhaseHarm, PhaseJudge, auto_budget,
};

use crate::course::{TIMEOUT_MS, Tenant};
use crate::random::{Chance, Random};
use crate::report::{Expected, Figure, Report, grouped, hours, number};
use crate::runs::{Effort, quantile, share};

const TENANTS: u64 = 8;
const TENANT: Tenant = Tenant::new(10, 10_000);
/// Whose treated arm fails more.
const HARMED: u64 = 3;

/// What becomes of a phase until somebody goes back.
#[derive(Clone, Copy)]
struct Ended {
    windows: u64,
    /// Whether it is the harmed tenant alone.
    right: bool,
}

/// What is harm to this phase.
#[derive(Clone, Copy)]
struct Tolerance {
    margin: HarmMargin,
    budget: u64,
}

fn by_default() -> Tolerance {
    let treated = TENANTS * TENANT.per_minute * u64::from(TENANT.share) / 100;
    Tolerance { margin: TENANT.config().harm_margin, budget: auto_budget(treated, TIMEOUT_MS, true) }
}

fn phase(tolerance: Tolerance) -> PhaseJudge<u64> {
    let own = TENANT.history();
    let history = (0..TENANTS).fold(Outcomes::default(), |sum, _| sum.plus(own));
    let Tolerance { margin: harm_margin, budget: harm_budget } = tolerance;
    let config = BetConfig { history, harm_margin, harm_budget, ..TENANT.config() };
    PhaseJudge::new(config, TENANT.percent(), (0..TENANTS).map(|tenant| (tenant, own)))
}

/// Goes on for a week, or until somebody is to go back.
fn run(random: &mut Random, tolerance: Tolerance, harmed_ppm: u64) -> Option<Ended> {
    let base = Chance::ppm(TENANT.base_ppm);
    let mut judge = phase(tolerance);
    for window in 0..TENANT.windows(168) {
        let block = |tenant| {
            let treated = if tenant == HARMED { Chance::ppm(harmed_ppm) } else { base };
            let row = TENANT.row(random, TENANT.units(), [treated, base]);
            (tenant, TENANT.block(window, row, [0; 4]))
        };
        let blocks: BTreeMap<_, _> = (0..TENANTS).map(block).collect();
        judge.look(&blocks).unwrap();
        let harm = judge.harm(Alpha::HARM);
        if harm != PhaseHarm::Nobody {
            let right = harm == PhaseHarm::Tenants(vec![HARMED]);
            return Some(Ended { windows: window + 1, right });
        }
    }
    None
}

pub(crate) fn one_of_many<W: Write>(report: &mut Report<W>, effort: Effort, seed: u64) -> io::Result<()> {
    let runs = effort.runs(1_000, 60);
    report.section(
        "One of eight tenants",
        &format!(
            "Seed {seed}, {} runs of 7 days in each row, 10 requests a minute for each tenant, base rate 1 %, a \
             look every 5 minutes. Without effect, anybody who goes back is wrong (promise: at most 1 % for \
             single tenants, and 1 % for the phase). The reference tolerated nothing: no margin, no budget.",
            grouped(runs)
        ),
    )?;
    report.head(&[
        "one tenant fails",
        "tolerated",
        "somebody goes back",
        "the harmed one alone",
        "hours, median / p90",
        "reference, median",
        "kept",
    ])?;
    let nothing = Tolerance { margin: HarmMargin::NONE, budget: 0 };
    for (at, (name, tolerance, treated_ppm, reference)) in (0..).zip([
        ("by default", by_default(), 10_000, None),
        ("nothing", nothing, 10_000, None),
        ("by default", by_default(), 30_000, None),
        ("nothing", nothing, 30_000, Some(5.3)),
    ]) {
        let ends = effort.run(seed * 100 + at, runs, |random| run(random, tolerance, treated_ppm));
        let somebody = share(&ends, Option::is_some);
        let right = share(&ends, |end| end.is_some_and(|end| end.right));
        let times: Vec<Option<u64>> = ends.iter().map(|end| end.map(|end| end.windows)).collect();
        let found = [50, 90].map(|percent| quantile(&times, percent).map(|n| TENANT.hours(n)));
        let harmful = treated_ppm > TENANT.base_ppm;
        let figure = match reference {
            Some(reference) => Figure { found: found[0], expected: Expected::hours(reference), runs },
            None if harmful => Figure { found: Some(right), expected: Expected::Anything, runs },
            None => Figure { found: Some(somebody), expected: Expected::AtMost(1.0), runs },
        };
        let kept = report.kept(&[figure]);
        let percent = |value| format!("{} %", number(Some(value), 1));
        report.row(&[
            format!("1 → {} %", treated_ppm / 10_000),
            name.to_owned(),
            percent(somebody),
            if harmful { percent(right) } else { String::new() },
            if harmful { found.map(hours).join(" / ") } else { String::new() },
            reference.map(|reference| hours(Some(reference))).unwrap_or_default(),
            kept,
        ])?;
    }
    Ok(())
}
