use std::collections::BTreeMap;

use crate::domain::TenantId;
use crate::rollout::evidence::{EvidenceBlock, LatencyHistogram, TenantRow};

/// Counts of units by arm. Numbers stand as treated, then control; units as treated, failed of these, control,
/// failed of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Units {
    /// All with an outcome.
    pub(super) all: [u64; 4],
    /// Those that met a breaker which was not closed.
    pub(super) met: [u64; 4],
    pub(super) no_outcome: [u64; 2],
    pub(super) asked: [u64; 2],
}

impl Units {
    fn take(&mut self, row: &TenantRow) {
        add(&mut self.all, row.plain);
        add(&mut self.all, row.met);
        add(&mut self.met, row.met);
        add(&mut self.no_outcome, row.no_outcome);
        add(&mut self.asked, row.asked);
    }

    fn merge(&mut self, other: &Self) {
        add(&mut self.all, other.all);
        add(&mut self.met, other.met);
        add(&mut self.no_outcome, other.no_outcome);
        add(&mut self.asked, other.asked);
    }

    /// Units with an outcome, of both arms.
    pub(super) const fn count(&self) -> u64 {
        let [treated, _, control, _] = self.all;
        treated.saturating_add(control)
    }

    pub(super) const fn is_empty(&self) -> bool {
        let ([treated, control], [asked_treated, asked_control]) = (self.no_outcome, self.asked);
        self.count() == 0 && treated == 0 && control == 0 && asked_treated == 0 && asked_control == 0
    }
}

/// Units by whether the refusals of the treated arm were enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ByTreatment {
    /// They were.
    pub(super) enforced: Units,
    /// They were not: the share is 0, or an operator's hand or a worker's setting kept them from it. Both arms are
    /// treated alike.
    pub(super) alike: Units,
}

impl ByTreatment {
    fn merge(&mut self, other: &Self) {
        self.enforced.merge(&other.enforced);
        self.alike.merge(&other.alike);
    }
}

/// What the windows of a day, or of a week, hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) windows: u64,
    pub(super) incomplete: u64,
    pub(super) untreated: u64,
    pub(super) purged: u64,
    /// Windows that were dropped before they were published.
    pub(super) missing: u64,
    /// Units that a cut dropped.
    pub(super) dropped: u64,
    pub(super) units: ByTreatment,
    pub(super) tenants: BTreeMap<TenantId, ByTreatment>,
    /// Of successful units while refusals were enforced: treated, then control.
    pub(super) latency: [LatencyHistogram; 2],
}

impl Sums {
    /// Adds a window.
    pub(super) fn take(&mut self, block: &EvidenceBlock) {
        increase(&mut self.windows, 1);
        increase(&mut self.incomplete, u64::from(block.incomplete));
        let untreated = block.untreated || !block.untreated_tenants.is_empty();
        increase(&mut self.untreated, u64::from(untreated));
        increase(&mut self.purged, u64::from(block.purged));
        increase(&mut self.missing, block.missing);
        increase(&mut self.dropped, block.dropped);
        for row in &block.rows {
            let enforced = row.percent > 0 && !block.is_untreated(&row.tenant);
            let tenant = self.tenants.entry(row.tenant.clone()).or_default();
            for sums in [&mut self.units, tenant] {
                let units = if enforced { &mut sums.enforced } else { &mut sums.alike };
                units.take(row);
            }
            if enforced {
                merge(&mut self.latency, &row.latency);
            }
        }
    }

    /// Adds the sums of another day.
    pub(super) fn merge(&mut self, other: &Self) {
        let Self { windows, incomplete, untreated, purged, missing, dropped, units, tenants, latency } =
            other;
        increase(&mut self.windows, *windows);
        increase(&mut self.incomplete, *incomplete);
        increase(&mut self.untreated, *untreated);
        increase(&mut self.purged, *purged);
        increase(&mut self.missing, *missing);
        increase(&mut self.dropped, *dropped);
        self.units.merge(units);
        for (tenant, units) in tenants {
            self.tenants.entry(tenant.clone()).or_default().merge(units);
        }
        merge(&mut self.latency, latency);
    }
}

fn merge(sums: &mut [LatencyHistogram; 2], more: &[LatencyHistogram; 2]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        sum.merge(more);
    }
}

/// Adds numbers in place; saturates.
pub(super) fn add<const N: usize>(sums: &mut [u64; N], more: [u64; N]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        increase(sum, more);
    }
}

/// Adds to a number in place; saturates.
pub(super) const fn increase(sum: &mut u64, by: u64) {
    *sum = sum.saturating_add(by);
}
