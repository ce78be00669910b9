use serde::{Deserialize, Serialize};

use crate::rollout::evidence::{LatencyHistogram, TenantRow};
use crate::rollout::judge::{
    Alpha, LatencyConfig, LatencyLimit, LatencyLook, LatencySequence, LatencyVerdict, TreatedPercent,
};
use crate::rollout::plan::{self, Quantile};

/// Latency of the phase, by quantile. Windows are merged until both arms have enough successes for one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Latency {
    lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    permille: u16,
    sequence: LatencySequence,
    waiting: [LatencyHistogram; 2],
}

/// Successes of each arm that a quantile needs: so many that about ten lie beyond it, and 50 for the median.
const fn needed(permille: u16) -> u64 {
    if permille <= 500 { 50 } else { 200 }
}

/// Comparisons before which no quantile is judged.
pub(super) fn fewest_windows(plan: &plan::Latency) -> u64 {
    if plan.quantiles.is_empty() { 0 } else { u64::from(LatencyConfig::default().least) }
}

/// Units of both arms that these comparisons take, if nearly all succeed.
pub(super) fn fewest_units(plan: &plan::Latency, percent: TreatedPercent) -> u64 {
    let successes = plan.quantiles.iter().map(|quantile| needed(quantile.permille())).max().unwrap_or(0);
    let smaller = u64::from(percent.get().min(100_u8.saturating_sub(percent.get()))).max(1);
    fewest_windows(plan).saturating_mul(successes).saturating_mul(100).div_ceil(smaller)
}

impl Latency {
    pub(super) fn new(plan: &plan::Latency) -> Self {
        let default = LatencyConfig::default();
        // A plan's limit lies within the judge's bounds.
        let limit = LatencyLimit::try_new(plan.limit.ppm()).unwrap_or(default.limit);
        let config = LatencyConfig { alpha: Alpha::SAFE, limit, ..default };
        let line = |quantile: &Quantile| Line {
            permille: quantile.permille(),
            sequence: LatencySequence::new(config),
            waiting: <[LatencyHistogram; 2]>::default(),
        };
        Self { lines: plan.quantiles.iter().map(line).collect() }
    }

    /// Another share: what was merged so far is of another mix of tenants.
    pub(super) fn begin_step(&mut self) {
        for line in &mut self.lines {
            line.waiting = <[LatencyHistogram; 2]>::default();
        }
    }

    /// Takes the rows of one window.
    pub(super) fn take<'r>(&mut self, rows: impl Iterator<Item = &'r TenantRow> + Clone) {
        for line in &mut self.lines {
            for row in rows.clone() {
                for (sum, arm) in line.waiting.iter_mut().zip(&row.latency) {
                    sum.merge(arm);
                }
            }
            let [treated, control] = &line.waiting;
            let least = needed(line.permille);
            if treated.count() < least || control.count() < least {
                continue;
            }
            if let (Some(treated), Some(control)) =
                (treated.quantile(line.permille), control.quantile(line.permille))
            {
                line.sequence.look(treated, control);
            }
            line.waiting = <[LatencyHistogram; 2]>::default();
        }
    }

    /// Slower by one quantile is slower; not slower is so by all.
    pub(super) fn verdict(&self) -> LatencyVerdict {
        let is = |verdict| move |line: &Line| line.sequence.current().verdict == verdict;
        if self.lines.iter().any(is(LatencyVerdict::Fail)) {
            LatencyVerdict::Fail
        } else if self.lines.iter().all(is(LatencyVerdict::Pass)) {
            LatencyVerdict::Pass
        } else {
            LatencyVerdict::Inconclusive
        }
    }

    /// By quantile, in permille.
    pub(super) fn looks(&self) -> impl Iterator<Item = (u16, LatencyLook)> {
        self.lines.iter().map(|line| (line.permille, line.sequence.current()))
    }
}
