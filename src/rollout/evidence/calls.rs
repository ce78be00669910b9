//! What entries of the log say of the units and circuits of one rollout.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::block::OpenRecord;
use super::clock::Moment;
use super::facts::{Call, CallEnd, Move};
use super::sample::is_sampled;
use super::tenant::{MAX_ELSEWHERE, SeenCall, Tenant, TrackedOpen};
use super::units::{Place, Unit, UnitKey};
use super::watch::Watch;
use crate::breaker::{Cause, State};
use crate::domain::{ProviderId, Stamp, TenantId, is_treated};
use crate::log::{Fate, Met};

/// How many providers of a rollout have a latency histogram.
const MAX_PROVIDERS: usize = 4_096;
/// The quantile that says how slow a provider is.
const SLOW_PERMILLE: u16 = 990;

/// One call, as an entry gives it.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallEntry<'e> {
    pub(super) tenant_id: &'e str,
    pub(super) provider_id: &'e str,
    /// The arm hash of its request, where the entry names one.
    pub(super) hash: Option<u64>,
    pub(super) call: Call,
    /// When it began, in log time.
    pub(super) began: Stamp,
    pub(super) latency_ms: Option<u64>,
    /// Whether an open counts only the first calls of other tenants.
    pub(super) bounded_opens: bool,
}

impl Watch {
    /// Whether a call of this tenant to this provider is evidence.
    pub(super) fn looks_at(&self, tenant_id: &str, provider_id: &str) -> bool {
        self.tenants.contains_key(tenant_id) || self.open_at.contains_key(provider_id)
    }

    /// Takes a call: of a unit, and of circuits that are open.
    pub(super) fn call(&mut self, entry: &CallEntry<'_>, time: Stamp) {
        if let Some(hash) = entry.hash {
            self.unit(entry.tenant_id, hash, time, |unit| {
                unit.call(entry.call.ended, entry.latency_ms);
            });
        }
        if entry.call.ended == CallEnd::Neutral {
            return;
        }
        let call = SeenCall {
            began: entry.began,
            time,
            failed: entry.call.ended == CallEnd::Failed,
            latency_ms: entry.latency_ms,
        };
        if let Some(tenant) = self.tenants.get_mut(entry.tenant_id) {
            let share = tenant.share.percent;
            let spared = entry.call.probe || entry.hash.is_some_and(|hash| !is_treated(hash, share));
            tenant.own_call(entry.provider_id, call, spared, self.windows.current());
            self.provider_latency(entry);
        }
        if let Some(circuits) = self.open_at.get_mut(entry.provider_id) {
            circuits.call(entry, call, &mut self.tenants, self.settings.block_ms);
            if circuits.tenants.is_empty() {
                self.open_at.remove(entry.provider_id);
            }
        }
    }

    /// Takes a request that met a breaker. What a retry met depends on its arm, so it makes no unit met.
    pub(super) fn met(&mut self, tenant_id: &TenantId, met: Met, time: Stamp) {
        self.unit(tenant_id.as_str(), met.hash, time, |unit| {
            unit.met |= !met.retry;
            unit.failed |= met.fate == Fate::NoProvider;
        });
    }

    fn unit(&mut self, tenant_id: &str, hash: u64, time: Stamp, change: impl FnOnce(&mut Unit)) {
        let Some((tenant_id, tenant)) = self.tenants.get_key_value(tenant_id) else { return };
        if !is_sampled(hash, self.settings.sample_ppm) {
            return;
        }
        let window = self.windows.current();
        let dropped = self.is_cut(tenant_id, time);
        let make = || Unit {
            first: time,
            window,
            cut: tenant.cut,
            treated: is_treated(hash, tenant.share.split),
            dropped,
            met: false,
            success: false,
            failed: false,
            latency_ms: None,
        };
        match self.units.place(UnitKey { slot: tenant.slot, hash }, make) {
            Place::Open(unit) => change(unit),
            Place::Settled => {}
            Place::Full => {
                self.losses.units = self.losses.units.saturating_add(1);
                self.windows.incomplete.add(window, window);
            }
        }
    }

    fn provider_latency(&mut self, entry: &CallEntry<'_>) {
        let Some(latency_ms) = entry.latency_ms.filter(|_| entry.call.ended == CallEnd::Succeeded) else {
            return;
        };
        if let Some(histogram) = self.latencies.get_mut(entry.provider_id) {
            histogram.add(latency_ms);
        } else if self.latencies.len() < MAX_PROVIDERS
            && let Ok(provider_id) = ProviderId::try_new(entry.provider_id)
        {
            self.latencies.entry(provider_id).or_default().add(latency_ms);
        }
    }

    /// Takes a transition of a breaker. `open_until` is in log time.
    pub(super) fn moved(&mut self, moved: &Move<'_>, open_until: Option<Stamp>, moment: Moment) {
        let Some(tenant) = self.tenants.get_mut(moved.tenant_id) else { return };
        let provider_id = moved.provider_id.as_str();
        let window = self.windows.current();
        let until = open_until.unwrap_or(Stamp(u64::MAX));
        match (tenant.open_of(provider_id), moved.transition.to) {
            (Some(open), State::Closed) => {
                open.record.closed_at = Some(moment.time);
                open.closed_in = Some(window);
                self.note_closed(moved);
            }
            // Its open may have been dropped.
            (None, State::Closed) => self.note_closed(moved),
            (Some(open), State::Open) => {
                open.reopened(until);
                self.note_open(moved);
            }
            (None, State::Open) => {
                let latency = self.latencies.get(moved.provider_id);
                let record = OpenRecord {
                    tenant: moved.tenant_id.clone(),
                    provider: moved.provider_id.clone(),
                    position: moment.position,
                    opened_at: moment.time,
                    cause: moved.transition.cause,
                    drill: is_by_hand(moved.transition.cause),
                    spared: [0; 2],
                    elsewhere: [0; 2],
                    threshold_ppm: moved.threshold_ppm,
                    base: tenant.base_before(provider_id, window),
                    open_until: until,
                    well_at: None,
                    closed_at: None,
                    mean_gap_ms: tenant.mean_gap_ms(moment.time),
                    slow_ms: latency.and_then(|latency| latency.quantile(SLOW_PERMILLE)).unwrap_or(0),
                    successes: moved.successes,
                };
                let slow_over_ms = moved.slow_over_ms;
                let open =
                    TrackedOpen { record, opened_in: window, closed_in: None, slow_over_ms, successes: 0 };
                let dropped = tenant.keep(open);
                self.losses.opens = self.losses.opens.saturating_add(dropped);
                self.note_open(moved);
            }
            (_, State::HalfOpen) => {}
        }
    }

    fn note_open(&mut self, moved: &Move<'_>) {
        let circuits = self.open_at.entry(moved.provider_id.clone()).or_default();
        circuits.tenants.insert(moved.tenant_id.clone());
        circuits.unmoved_by_failures = false;
    }

    fn note_closed(&mut self, moved: &Move<'_>) {
        if let Some(circuits) = self.open_at.get_mut(moved.provider_id) {
            circuits.tenants.remove(moved.tenant_id);
            if circuits.tenants.is_empty() {
                self.open_at.remove(moved.provider_id);
            }
        }
    }
}

/// Open circuits for one provider that calls of other tenants may change still. A provider that is down for all tenants
/// has as many circuits as there are tenants, so calls that change none of them cost no look at each.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "BTreeSet<TenantId>", into = "BTreeSet<TenantId>")]
pub(super) struct OpenCircuits {
    pub(super) tenants: BTreeSet<TenantId>,
    /// Failed calls change none of them. It follows from the rest, and is found again by the next failed call.
    unmoved_by_failures: bool,
}

impl PartialEq for OpenCircuits {
    fn eq(&self, other: &Self) -> bool {
        self.tenants == other.tenants
    }
}

impl Eq for OpenCircuits {}

impl From<BTreeSet<TenantId>> for OpenCircuits {
    fn from(tenants: BTreeSet<TenantId>) -> Self {
        Self { tenants, unmoved_by_failures: false }
    }
}

impl From<OpenCircuits> for BTreeSet<TenantId> {
    fn from(circuits: OpenCircuits) -> Self {
        circuits.tenants
    }
}

impl OpenCircuits {
    fn call(
        &mut self,
        entry: &CallEntry<'_>,
        call: SeenCall,
        tenants: &mut BTreeMap<TenantId, Tenant>,
        block_ms: u64,
    ) {
        let bounded = entry.bounded_opens;
        let most = if bounded { MAX_ELSEWHERE } else { u64::MAX };
        if call.failed && self.unmoved_by_failures {
            return;
        }
        let mut unmoved = true;
        self.tenants.retain(|tenant_id| {
            let open = tenants.get_mut(tenant_id).and_then(|tenant| tenant.open_of(entry.provider_id));
            let Some(open) = open else { return false };
            if tenant_id.as_str() != entry.tenant_id {
                open.call_elsewhere(call, block_ms, most);
            }
            unmoved &= !open.learns_from_failures(call.time, block_ms, most);
            !bounded || open.learns(call.time, block_ms, most)
        });
        self.unmoved_by_failures = bounded && unmoved;
    }
}

/// Whether an operator caused it, so that it says nothing of the provider.
const fn is_by_hand(cause: Cause) -> bool {
    match cause {
        Cause::Forced | Cause::ForceLifted | Cause::Reset | Cause::Disabled | Cause::Flag => true,
        Cause::FailureThresholdExceeded
        | Cause::ErrorRateThresholdExceeded
        | Cause::LatencyThresholdExceeded
        | Cause::HalfOpenFailure
        | Cause::TimeoutElapsed
        | Cause::ProbesSucceeded => false,
    }
}
