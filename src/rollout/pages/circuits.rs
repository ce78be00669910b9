use std::collections::BTreeMap;

use super::calendar::Day;
use super::sums::{add, increase};
use crate::domain::{ProviderId, Stamp, TenantId};
use crate::rollout::evidence::{EvidenceBlock, OpenRecord};
use crate::rollout::judge::{Open, Recovery};

/// A breaker: the one of a tenant for a provider.
pub(super) type Circuit = (TenantId, ProviderId);

/// How often a circuit opened, and how that went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Opens {
    /// By [`Open::ALL`].
    pub(super) kinds: [u64; Open::ALL.len()],
    /// By [`Recovery::ALL`].
    pub(super) recoveries: [u64; Recovery::ALL.len()],
    /// How long those that closed were open together.
    pub(super) open_ms: u64,
    pub(super) closed: u64,
}

impl Opens {
    pub(super) fn count(&self) -> u64 {
        self.kinds.iter().fold(0, |sum, kind| sum.saturating_add(*kind))
    }

    pub(super) fn of_kind(&self, kind: Open) -> u64 {
        Open::ALL.iter().zip(self.kinds).filter(|(of, _)| **of == kind).map(|(_, count)| count).sum()
    }

    pub(super) fn recovered(&self, recovery: Recovery) -> u64 {
        Recovery::ALL.iter().zip(self.recoveries).filter(|(of, _)| **of == recovery).map(|(_, n)| n).sum()
    }

    pub(super) fn merge(&mut self, other: &Self) {
        let Self { kinds, recoveries, open_ms, closed } = other;
        add(&mut self.kinds, *kinds);
        add(&mut self.recoveries, *recoveries);
        increase(&mut self.open_ms, *open_ms);
        increase(&mut self.closed, *closed);
    }

    fn take(&mut self, record: &OpenRecord, now: Stamp) {
        for (count, kind) in self.kinds.iter_mut().zip(Open::ALL) {
            increase(count, u64::from(kind == record.kind()));
        }
        for (count, recovery) in self.recoveries.iter_mut().zip(Recovery::ALL) {
            increase(count, u64::from(recovery == record.circuit().recovery(now.0)));
        }
        if let Some(closed_at) = record.closed_at {
            increase(&mut self.open_ms, closed_at.since(record.opened_at));
            increase(&mut self.closed, 1);
        }
    }
}

/// The circuits that opened, as sums by the day of their opening. Each window reports a circuit that
/// stays open, and the last report holds; so only circuits whose end was not reported are kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Circuits {
    open: BTreeMap<Circuit, OpenRecord>,
    /// The position of the last open that is in the sums. Positions of a circuit rise.
    ended: BTreeMap<Circuit, u64>,
    by_day: BTreeMap<Day, BTreeMap<Circuit, Opens>>,
    /// The end of the last window.
    newest: Stamp,
}

/// What a window reports of one circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CircuitReport<'b> {
    pub(super) record: &'b OpenRecord,
    /// Whether this is the last report on it.
    pub(super) ended: bool,
    pub(super) recovery: Recovery,
    /// How often the circuit opened on that day, as far as is known.
    pub(super) opens_of_day: u64,
}

impl Circuits {
    /// Takes what a window reports. Copies are left out.
    pub(super) fn take<'b>(&mut self, block: &'b EvidenceBlock) -> Vec<CircuitReport<'b>> {
        self.newest = block.end;
        let mut records: Vec<&OpenRecord> = block.opens.iter().collect();
        records.sort_by_key(|record| record.position);
        records.into_iter().filter_map(|record| self.take_one(record)).collect()
    }

    fn take_one<'b>(&mut self, record: &'b OpenRecord) -> Option<CircuitReport<'b>> {
        let circuit = (record.tenant.clone(), record.provider.clone());
        if self.ended.get(&circuit).is_some_and(|last| record.position <= *last) {
            return None;
        }
        match self.open.get(&circuit).map(|before| before.position) {
            Some(before) if record.position < before => return None,
            Some(before) if record.position > before => self.end(&circuit),
            Some(_) | None => {}
        }
        self.open.insert(circuit.clone(), record.clone());
        let ended = record.closed_at.is_some();
        if ended {
            self.end(&circuit);
        }
        let of_day = self.by_day.get(&Day::of(record.opened_at)).and_then(|day| day.get(&circuit));
        let opens_of_day = of_day.map_or(0, Opens::count).saturating_add(u64::from(!ended));
        Some(CircuitReport {
            record,
            ended,
            recovery: record.circuit().recovery(self.newest.0),
            opens_of_day,
        })
    }

    /// What is known of a circuit goes into the sums.
    fn end(&mut self, circuit: &Circuit) {
        let Some(record) = self.open.remove(circuit) else { return };
        self.ended.insert(circuit.clone(), record.position);
        let day = self.by_day.entry(Day::of(record.opened_at)).or_default();
        day.entry(circuit.clone()).or_default().take(&record, self.newest);
    }

    /// The log was made anew: positions begin again.
    pub(super) fn begin_anew(&mut self) {
        let open: Vec<Circuit> = self.open.keys().cloned().collect();
        for circuit in open {
            self.end(&circuit);
        }
        self.ended.clear();
    }

    /// All opens by the day of their opening, those that are open too.
    pub(super) fn by_day(&self) -> BTreeMap<Day, BTreeMap<Circuit, Opens>> {
        let mut days = self.by_day.clone();
        for (circuit, record) in &self.open {
            let day = days.entry(Day::of(record.opened_at)).or_default();
            day.entry(circuit.clone()).or_default().take(record, self.newest);
        }
        days
    }
}
