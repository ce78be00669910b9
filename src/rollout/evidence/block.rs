use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::facts::Leaving;
use super::histogram::LatencyHistogram;
use crate::breaker::Cause;
use crate::domain::{ProviderId, RolloutId, Stamp, TenantId};
use crate::rollout::judge::{
    Block, Counts, FailureRates, Open, OpenCircuit, Outcomes, TreatedPercent, classify_open,
};

/// Windows to an hour of the judge.
const HOUR: u64 = 12;

/// The evidence of one closed window. Times are log time. Arms stand as treated, then control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceBlock {
    /// Which rollout.
    pub rollout: RolloutId,
    /// When the rollout's stream was made, as its steps tell. Numbers begin again with another one.
    pub made: i64,
    /// The window's number.
    pub number: u64,
    /// When it began.
    pub start: Stamp,
    /// When it ended; the next one begins then.
    pub end: Stamp,
    /// The step that was in force when it began. Rows have their own.
    pub step: u64,
    /// Whether evidence may be missing: a worker was lost, an entry of one is missing, nobody was there, or
    /// units did not fit.
    pub incomplete: bool,
    /// Whether a worker did not enforce refusals.
    pub untreated: bool,
    /// Tenants whose refusals went unenforced by a flag, a force or a share that fell to 0, for a part of the window
    /// at least.
    pub untreated_tenants: Vec<TenantId>,
    /// Whether the log had taken the shares to 0 in a part of the window, since nothing was judged for too long.
    pub lapsed: bool,
    /// Whether entries of the log before or in this window were purged.
    pub purged: bool,
    /// Windows that were dropped since the last block was made, since too many were kept.
    pub missing: u64,
    /// Units that were first seen in the window and that a cut dropped.
    pub dropped: u64,
    /// Counts of units, by tenant and then by cut.
    pub rows: Vec<TenantRow>,
    /// Circuits that were open in a part of the window, with what is known when the window closes. One that stays
    /// open comes again in the next window; the last one holds.
    pub opens: Vec<OpenRecord>,
    /// Tenants that left in the window.
    pub left: Vec<(TenantId, Leaving)>,
}

/// The units of one tenant that were first seen in one window, between two cuts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRow {
    /// Whose.
    pub tenant: TenantId,
    /// The step in force.
    pub step: u64,
    /// The number of the cut before, which rises over the rollout.
    pub cut: u64,
    /// The percentage of requests whose refusals were enforced.
    pub percent: u8,
    /// The percentage that split the units into arms.
    pub split: u8,
    /// Units that did not meet a breaker: treated, failed of these, control, failed of these.
    pub plain: [u64; 4],
    /// Units that met a breaker which was not closed; likewise.
    pub met: [u64; 4],
    /// Requests that workers answered, by their tallies of this window. Growth that a tally reports counts in the
    /// window in which the tally was written.
    pub asked: [u64; 2],
    /// Units without an outcome.
    pub no_outcome: [u64; 2],
    /// Latency of successful units: the sum over the calls of a unit.
    pub latency: [LatencyHistogram; 2],
}

/// A circuit that opened: from closed to open, until it closed again. Reopening after a failed probe is part of
/// it. Calls stand as their number, and the failed ones of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRecord {
    /// Whose breaker.
    pub tenant: TenantId,
    /// For which provider.
    pub provider: ProviderId,
    /// The position in the log of the entry that opened it: with tenant and provider, its name.
    pub position: u64,
    /// When it opened.
    pub opened_at: Stamp,
    /// Why.
    pub cause: Cause,
    /// Whether an operator opened it: by a force, by lifting one, or by a flag.
    pub drill: bool,
    /// Calls that began while it was open and that no breaker selected: of requests that are not treated, and
    /// probes.
    pub spared: [u64; 2],
    /// Calls of other tenants to the provider until one window's length after it opened.
    pub elsewhere: [u64; 2],
    /// The rate at which it opens, in parts per million.
    pub threshold_ppm: u32,
    /// Calls of the tenant to the provider while the circuit was closed, in earlier windows.
    pub base: [u64; 2],
    /// When its open time is over, reopenings included; the end of time if it has no end.
    pub open_until: Stamp,
    /// When the provider was well: at the third success in a row of spared calls or of other tenants, counted
    /// from the last (re)opening.
    pub well_at: Option<Stamp>,
    /// When it closed.
    pub closed_at: Option<Stamp>,
    /// Mean time between two calls of the tenant when it opened.
    pub mean_gap_ms: u64,
    /// 99th percentile of the latency of the provider's successful calls when it opened.
    pub slow_ms: u64,
    /// Successful probes that close it.
    pub successes: u32,
}

impl EvidenceBlock {
    /// A whole window in which nothing was counted: what changes is then filled in.
    #[must_use]
    pub const fn without_units(rollout: RolloutId, made: i64, number: u64, start: Stamp, end: Stamp) -> Self {
        Self {
            rollout,
            made,
            number,
            start,
            end,
            step: 0,
            incomplete: false,
            untreated: false,
            untreated_tenants: Vec::new(),
            lapsed: false,
            purged: false,
            missing: 0,
            dropped: 0,
            rows: Vec::new(),
            opens: Vec::new(),
            left: Vec::new(),
        }
    }

    /// Whether refusals of a tenant went unenforced in a part of the window. Such rows are not judged.
    #[must_use]
    pub fn is_untreated(&self, tenant: &TenantId) -> bool {
        self.untreated || self.untreated_tenants.contains(tenant)
    }

    /// A digest of all of it, equal on every worker that made the same block.
    #[must_use]
    pub fn digest(&self) -> u64 {
        // Writing to memory does not fail for these types: lengths are known and there are no floats.
        postcard::to_stdvec(self).map_or(0, |bytes| xxh3_64(&bytes))
    }
}

impl TenantRow {
    /// The row as the judge takes it. `number` is the window's. `None` where one arm is empty by the split.
    #[must_use]
    pub fn judge_block(&self, number: u64) -> Option<Block> {
        Some(Block {
            hour: number / HOUR,
            percent: TreatedPercent::try_new(self.split).ok()?,
            plain: Counts::from_row(self.plain)?,
            met: Counts::from_row(self.met)?,
        })
    }
}

impl OpenRecord {
    /// Whether it was right to open.
    #[must_use]
    pub fn kind(&self) -> Open {
        classify_open(self.drill, outcomes(self.spared), outcomes(self.elsewhere), self.rates())
    }

    /// The two rates between which calls decide.
    #[must_use]
    pub fn rates(&self) -> FailureRates {
        let [calls, failed] = self.base.map(u128::from);
        let base_ppm = (failed * 1_000_000).checked_div(calls).unwrap_or(0);
        FailureRates {
            threshold_ppm: self.threshold_ppm,
            base_ppm: u32::try_from(base_ppm).unwrap_or(u32::MAX),
        }
    }

    /// What its recovery is judged by.
    #[must_use]
    pub fn circuit(&self) -> OpenCircuit {
        OpenCircuit {
            open_until: self.open_until.0,
            well_at: self.well_at.map(|at| at.0),
            closed_at: self.closed_at.map(|at| at.0),
            mean_gap_ms: self.mean_gap_ms,
            slow_ms: self.slow_ms,
            successes: u64::from(self.successes),
        }
    }
}

fn outcomes([calls, failed]: [u64; 2]) -> Outcomes {
    Outcomes { failed, succeeded: calls.saturating_sub(failed) }
}
