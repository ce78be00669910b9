use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::domain::{Stamp, TenantId};
use crate::rollout::evidence::OpenRecord;
use crate::rollout::judge::{Open, Outcomes, Recovery, pool_unexplained};
use crate::rollout::plan::Exercise;

/// Opens of one phase that are kept. One more is unexplained, so the phase does not pass by itself.
pub(super) const MAX_OPENS: usize = 4_096;
/// Windows for which a circuit that closed too late holds the rollout: as long as a gap does.
const LATE_WINDOWS: u64 = 12;

/// The circuits that opened in a phase, by tenant, provider and place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Opens {
    known: Vec<Opened>,
    /// How many were not kept.
    beyond: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Opened {
    record: OpenRecord,
    /// Whether refusals were enforced when it opened.
    enforced: bool,
    /// The window that first told of its end.
    closed_in: Option<u64>,
}

impl Opens {
    /// Takes what a window says of a circuit. The last word holds.
    pub(super) fn take(&mut self, record: &OpenRecord, enforced: bool, window: u64) {
        let closed_in = record.closed_at.map(|_| window);
        match self.known.binary_search_by(|opened| order(&opened.record, record)) {
            Ok(at) => {
                if let Some(opened) = self.known.get_mut(at) {
                    opened.record = record.clone();
                    opened.closed_in = opened.closed_in.filter(|_| closed_in.is_some()).or(closed_in);
                }
            }
            Err(_) if self.known.len() >= MAX_OPENS => self.beyond = self.beyond.saturating_add(1),
            Err(at) => self.known.insert(at, Opened { record: record.clone(), enforced, closed_in }),
        }
    }

    /// Forgets the circuits of a tenant that is judged no more: nothing would report how they end.
    pub(super) fn remove(&mut self, tenant: &TenantId) {
        self.known.retain(|opened| opened.record.tenant != *tenant);
    }

    /// What each open was.
    pub(super) fn kinds(&self) -> Vec<Open> {
        let circuit = |a: &Opened, b: &Opened| {
            a.record.tenant == b.record.tenant && a.record.provider == b.record.provider
        };
        let mut kinds = Vec::with_capacity(self.known.len());
        for opens in self.known.chunk_by(circuit) {
            let calls = |opened: &Opened| {
                let [calls, failed] = opened.record.spared;
                let spared = Outcomes { failed, succeeded: calls.saturating_sub(failed) };
                (opened.record.kind(), spared)
            };
            let Some(last) = opens.last() else { continue };
            let each: Vec<_> = opens.iter().map(calls).collect();
            kinds.extend(pool_unexplained(&each, last.record.rates()));
        }
        if self.beyond > 0 {
            kinds.push(Open::Unexplained);
        }
        kinds
    }

    /// How each recovery went, as of a moment and a window. One that closed too late is passed over after a
    /// while; one that does not count as the exercise that the plan wants is, once it closed.
    pub(super) fn recoveries(&self, now: Stamp, window: u64, exercise: Exercise) -> Vec<Recovery> {
        let counts = |opened: &Opened| match exercise {
            Exercise::Required => opened.enforced,
            Exercise::Drill => opened.enforced && opened.record.drill,
            Exercise::No => true,
        };
        let judged = |opened: &Opened| {
            let recovery = opened.record.circuit().recovery(now.0);
            let old = opened.closed_in.is_some_and(|at| window.saturating_sub(at) >= LATE_WINDOWS);
            match recovery {
                Recovery::Late if old => None,
                Recovery::Closed if !counts(opened) => None,
                other => Some(other),
            }
        };
        self.known.iter().filter_map(judged).collect()
    }
}

fn order(a: &OpenRecord, b: &OpenRecord) -> Ordering {
    (&a.tenant, &a.provider, a.position).cmp(&(&b.tenant, &b.provider, b.position))
}
