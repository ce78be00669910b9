use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::block::{EvidenceBlock, TenantRow};
use super::calls::OpenCircuits;
use super::clock::{Moment, Passage};
use super::facts::Leaving;
use super::histogram::LatencyHistogram;
use super::liveness::{Liveness, silence_ms};
use super::tenant::Tenant;
use super::units::{Unit, UnitKey, Units};
use super::windows::{Building, Closing, Windows};
use super::workers::{Tallied, Workers};
use crate::domain::{ProviderId, RolloutId, Stamp, TenantId};
use crate::log::{EvidenceSettings, OverlaySettings, StepNumber, WorkerRun};

/// The evidence of one rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Watch {
    pub(super) number: StepNumber,
    pub(super) settings: EvidenceSettings,
    /// Where its first step stands.
    began: Stamp,
    began_at: u64,
    pub(super) tenants: BTreeMap<TenantId, Tenant>,
    slots: BTreeMap<u64, TenantId>,
    /// Tenants that left and that the steps still name.
    left: BTreeSet<TenantId>,
    next_slot: u64,
    cuts: u64,
    /// The position of the last step, until every live worker has read it.
    awaited: Option<u64>,
    pub(super) units: Units,
    pub(super) windows: Windows,
    live: Liveness,
    /// Open circuits, by provider.
    pub(super) open_at: BTreeMap<ProviderId, OpenCircuits>,
    /// Latency of successful calls of the tenants, by provider.
    pub(super) latencies: BTreeMap<ProviderId, LatencyHistogram>,
    /// The greatest window that a worker has judged, and when it ended.
    judged: Option<(u64, Stamp)>,
    pub(super) losses: Losses,
}

/// What bounds made one rollout's evidence lose, since its first step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Windows that were dropped before they were judged.
    pub windows: u64,
    /// Entries of units that found no place.
    pub units: u64,
    /// Settled units that were forgotten for others.
    pub settled: u64,
    /// Opens that were dropped before their windows closed.
    pub opens: u64,
}

impl Watch {
    /// A rollout begins with this step; its first window has `number`.
    pub(super) fn new(step: StepNumber, overlay: &OverlaySettings, number: u64, moment: Moment) -> Self {
        let settings = overlay.evidence;
        let mut watch = Self {
            number: step,
            settings,
            began: moment.time,
            began_at: moment.position,
            tenants: BTreeMap::new(),
            slots: BTreeMap::new(),
            left: BTreeSet::new(),
            next_slot: 0,
            cuts: 0,
            awaited: None,
            units: Units::default(),
            windows: Windows::new(number, moment.time, settings.block_ms),
            live: Liveness::new(moment.time),
            open_at: BTreeMap::new(),
            latencies: BTreeMap::new(),
            judged: None,
            losses: Losses::default(),
        };
        watch.step(step, overlay, moment);
        watch
    }

    /// Takes a step: a cut for all its tenants.
    pub(super) fn step(&mut self, step: StepNumber, overlay: &OverlaySettings, moment: Moment) {
        let named = &overlay.tenants;
        self.number = step;
        self.settings = overlay.evidence;
        self.windows.step(step.n, self.settings.block_ms, moment.time, moment.position);
        self.left.retain(|tenant_id| named.contains_key(tenant_id));
        let gone: Vec<TenantId> =
            self.tenants.keys().filter(|tenant_id| !named.contains_key(*tenant_id)).cloned().collect();
        gone.iter().for_each(|tenant_id| self.remove(tenant_id));
        for (tenant_id, share) in named.iter().filter(|(tenant_id, _)| !self.left.contains(*tenant_id)) {
            if let Some(tenant) = self.tenants.get_mut(tenant_id) {
                tenant.share = *share;
                continue;
            }
            let slot = self.next_slot;
            self.next_slot = slot.saturating_add(1);
            self.slots.insert(slot, tenant_id.clone());
            self.tenants.insert(tenant_id.clone(), Tenant::new(slot, *share, moment.time));
        }
        self.windows.lapsed.end(self.windows.current());
        self.cut_all(moment.time);
        self.awaited = Some(moment.position);
        self.live.restart(moment.time);
        self.settle(moment.time);
    }

    /// Time passes, up to the entry at `moment` and before it is applied.
    pub(super) fn pass(&mut self, passage: &Passage, gap: bool, moment: Moment, workers: &Workers) {
        if passage.to == passage.from && !passage.set_back && !gap {
            return;
        }
        let jumped = passage.to.since(passage.from) > silence_ms(&self.settings);
        let before = self.windows.current();
        self.windows.pass(moment.time, moment.position);
        if jumped || gap || passage.set_back {
            // Before anything settles: what came in the meantime is not known.
            self.cut_all(moment.time);
            self.live.restart(moment.time);
        }
        if jumped || gap {
            self.windows.incomplete.add(before, self.windows.current());
        }
        if gap {
            self.windows.purged.add(before, self.windows.current());
        }
        self.settle(moment.time);
        self.live.look(moment, &self.settings, workers, &mut self.windows);
    }

    /// Takes what a tally adds.
    pub(super) fn tallied(
        &mut self,
        rollout: &RolloutId,
        run: &WorkerRun,
        tallied: &Tallied,
        moment: Moment,
        workers: &Workers,
    ) {
        self.live.tallied(run, workers, &mut self.windows);
        if let Some(since) = tallied.missing_since {
            // A missing entry may be of a unit whose first entry was up to the time to settle earlier.
            let from = self.windows.number_at(since.minus(self.settings.settle_ms));
            self.windows.incomplete.add(from, self.windows.current());
        }
        for (tenant_id, [treated, control]) in &tallied.asked {
            // In a cut it is not sure by which split they were counted.
            if self.is_cut(tenant_id, moment.time) || (*treated, *control) == (0, 0) {
                continue;
            }
            if let Some(row) = self.row(tenant_id, self.windows.current()) {
                let [to_treated, to_control] = &mut row.asked;
                *to_treated = to_treated.saturating_add(*treated);
                *to_control = to_control.saturating_add(*control);
            }
        }
        self.live.look(moment, &self.settings, workers, &mut self.windows);
        self.note_judged(rollout, run, workers);
    }

    /// What of the closed windows is judged, by all and by the first.
    fn note_judged(&mut self, rollout: &RolloutId, run: &WorkerRun, workers: &Workers) {
        // Before the first step was read, a number is of the rollout's former life.
        let read = |position: u64| position >= self.began_at;
        let own = workers.get(run).filter(|worker| read(worker.position));
        if let Some(number) = own.and_then(|worker| worker.judged.get(rollout)).copied()
            && number < self.windows.next()
            && self.judged.is_none_or(|(known, _)| number > known)
        {
            self.judged = Some((number, self.windows.end_of(number)));
        }
        let mut by_all = None;
        for worker in self.live.live(workers) {
            // A number that this fold has not come to is of one that had read more of the log.
            let number = worker.judged.get(rollout).copied().filter(|number| *number < self.windows.next());
            let Some(number) = number.filter(|_| read(worker.position)) else {
                return;
            };
            by_all = Some(by_all.map_or(number, |least: u64| least.min(number)));
        }
        if let Some(number) = by_all {
            self.windows.judged(number);
        }
    }

    /// How long ago the last judged window ended; since the first step, where there is none.
    pub(super) fn unjudged_ms(&self, time: Stamp) -> u64 {
        time.since(self.judged.map_or(self.began, |(_, end)| end))
    }

    // ---- cuts ----

    pub(super) fn cut(&mut self, tenant_id: &TenantId, time: Stamp) {
        let until = time.plus(self.settings.settle_ms);
        if let Some(tenant) = self.tenants.get_mut(tenant_id) {
            self.cuts = self.cuts.saturating_add(1);
            tenant.cut = self.cuts;
            tenant.cut_until = tenant.cut_until.max(until);
        }
    }

    fn cut_all(&mut self, time: Stamp) {
        let until = time.plus(self.settings.settle_ms);
        self.cuts = self.cuts.saturating_add(1);
        for tenant in self.tenants.values_mut() {
            tenant.cut = self.cuts;
            tenant.cut_until = tenant.cut_until.max(until);
        }
    }

    pub(super) fn is_cut(&self, tenant_id: &TenantId, time: Stamp) -> bool {
        self.awaited.is_some() || self.tenants.get(tenant_id).is_some_and(|tenant| time < tenant.cut_until)
    }

    pub(super) fn leave(&mut self, tenant_id: &TenantId, why: Leaving) {
        if self.tenants.contains_key(tenant_id) {
            self.remove(tenant_id);
            self.left.insert(tenant_id.clone());
            if let Some(building) = self.windows.building(self.windows.current()) {
                building.left.push((tenant_id.clone(), why));
            }
        }
    }

    fn remove(&mut self, tenant_id: &TenantId) {
        if let Some(tenant) = self.tenants.remove(tenant_id) {
            self.slots.remove(&tenant.slot);
        }
        self.open_at.retain(|_, circuits| {
            circuits.tenants.remove(tenant_id);
            !circuits.tenants.is_empty()
        });
    }

    pub(super) fn untreated(&mut self, tenant_id: &TenantId, untreated: bool) {
        let window = self.windows.current();
        if let Some(tenant) = self.tenants.get_mut(tenant_id) {
            if untreated { tenant.untreated.begin(window) } else { tenant.untreated.end(window) }
        }
    }

    /// Shares fall to 0 until the next step.
    pub(super) fn lapse(&mut self) {
        self.windows.lapsed.begin(self.windows.current());
    }

    // ---- windows ----

    /// A tenant's row of a window, since its last cut; `None` once the window is closed.
    fn row(&mut self, tenant_id: &TenantId, window: u64) -> Option<&mut TenantRow> {
        let tenant = self.tenants.get(tenant_id)?;
        let building = self.windows.building(window)?;
        let row = building.rows.entry((tenant_id.clone(), tenant.cut));
        Some(row.or_insert_with(|| TenantRow {
            tenant: tenant_id.clone(),
            step: self.number.n,
            cut: tenant.cut,
            percent: tenant.share.percent,
            split: tenant.share.split,
            plain: [0; 4],
            met: [0; 4],
            asked: [0; 2],
            no_outcome: [0; 2],
            latency: Default::default(),
        }))
    }

    fn settle(&mut self, time: Stamp) {
        while let Some((key, unit)) = self.units.settle(time, self.settings.settle_ms) {
            self.count(key, &unit);
        }
        let forgotten = self.units.forget(time, self.settings.settle_ms);
        self.losses.settled = self.losses.settled.saturating_add(forgotten);
    }

    fn count(&mut self, key: UnitKey, unit: &Unit) {
        let tenant_id = self.slots.get(&key.slot).cloned();
        let cut = tenant_id.as_ref().and_then(|tenant_id| self.tenants.get(tenant_id)).map(|t| t.cut);
        let counts = cut == Some(unit.cut) && !unit.dropped;
        if let Some(tenant_id) = tenant_id.filter(|_| counts) {
            if let Some(row) = self.row(&tenant_id, unit.window) {
                row.count(unit);
            }
        } else if let Some(building) = self.windows.building(unit.window) {
            building.dropped = building.dropped.saturating_add(1);
        }
    }

    /// Closes the windows that may be closed; after each entry. Returns how many.
    pub(super) fn close(&mut self, rollout: &RolloutId, time: Stamp, workers: &Workers) -> u64 {
        let mut closed = 0;
        if let Some(position) = self.awaited
            && self.live.live(workers).next().is_some()
            && self.live.covers(position, time, &self.settings, workers)
        {
            self.awaited = None;
        }
        self.windows.trim();
        while let Some(due) = self.windows.due(time, self.settings.settle_ms) {
            if !self.live.covers(due.position, time, &self.settings, workers) {
                break;
            }
            let closing = self.windows.close();
            let block = self.block(rollout, closing);
            self.windows.keep(block);
            self.windows.forget();
            closed += 1;
            for tenant in self.tenants.values_mut() {
                tenant.forget_opens(due.number);
                tenant.untreated.forget_below(self.windows.next());
            }
        }
        self.losses.windows = self.windows.dropped;
        closed
    }

    fn block(&self, rollout: &RolloutId, closing: Closing) -> EvidenceBlock {
        let Closing { number, start, end, step, missing, built } = closing;
        let Building { rows, dropped, left } = built;
        let untreated = self.tenants.iter().filter(|(_, tenant)| tenant.untreated.contains(number));
        let opens = self.tenants.values().flat_map(|tenant| &tenant.opens).filter(|o| o.touches(number));
        EvidenceBlock {
            rollout: rollout.clone(),
            made: self.number.made,
            number,
            start,
            end,
            step,
            incomplete: self.windows.incomplete.contains(number),
            untreated: self.windows.untreated.contains(number),
            untreated_tenants: untreated.map(|(tenant_id, _)| tenant_id.clone()).collect(),
            lapsed: self.windows.lapsed.contains(number),
            purged: self.windows.purged.contains(number),
            missing,
            dropped,
            rows: rows.into_values().collect(),
            opens: opens.map(|open| open.record.clone()).collect(),
            left,
        }
    }
}
