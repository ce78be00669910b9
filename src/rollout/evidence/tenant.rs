use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::block::OpenRecord;
use super::marks::Marks;
use crate::domain::{ProviderId, Stamp};
use crate::log::Share;

/// How many opens of a tenant are kept until their windows are closed.
pub(super) const MAX_OPENS: usize = 256;
/// How many providers of a tenant have a base rate: a policy has at most 256, and a tenant may have several.
pub(super) const MAX_PROVIDERS: usize = 1_024;
/// How many calls of other tenants an open counts: enough to tell 2 % of failures from 1 %. Without a bound, each call to
/// a provider that is down would be counted by each tenant of the rollout.
pub(super) const MAX_ELSEWHERE: u64 = 1_000;
/// Successes in a row by which a provider is well.
const WELL: u8 = 3;

/// One tenant of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tenant {
    /// Its place in unit keys; a tenant that comes again gets another one.
    pub(super) slot: u64,
    pub(super) share: Share,
    /// The number of its last cut.
    pub(super) cut: u64,
    /// Units that begin before are dropped.
    pub(super) cut_until: Stamp,
    pub(super) untreated: Marks,
    pub(super) opens: VecDeque<TrackedOpen>,
    base: BTreeMap<ProviderId, Base>,
    /// Calls since it came.
    calls: u64,
    came: Stamp,
}

/// Calls to one provider while its circuit was closed, and the failed ones of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Base {
    /// Of earlier windows: a burst that opens the circuit is not in it.
    before: [u64; 2],
    window: u64,
    now: [u64; 2],
}

/// An open and what is needed to follow it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TrackedOpen {
    pub(super) record: OpenRecord,
    pub(super) opened_in: u64,
    pub(super) closed_in: Option<u64>,
    /// Where slow calls opened it: a slower one counts as failed.
    pub(super) slow_over_ms: Option<u64>,
    /// Successes in a row that nobody selected.
    pub(super) successes: u8,
}

/// A call as opens look at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeenCall {
    /// When it began.
    pub(super) began: Stamp,
    /// When it ended.
    pub(super) time: Stamp,
    pub(super) failed: bool,
    pub(super) latency_ms: Option<u64>,
}

impl Tenant {
    pub(super) fn new(slot: u64, share: Share, came: Stamp) -> Self {
        Self {
            slot,
            share,
            cut: 0,
            cut_until: came,
            untreated: Marks::default(),
            opens: VecDeque::new(),
            base: BTreeMap::new(),
            calls: 0,
            came,
        }
    }

    /// The open of a provider's circuit that has not closed.
    pub(super) fn open_of(&mut self, provider_id: &str) -> Option<&mut TrackedOpen> {
        let mut opens = self.opens.iter_mut().rev();
        opens.find(|open| open.closed_in.is_none() && open.record.provider.as_str() == provider_id)
    }

    /// A call of the tenant's own. `spared` says that no breaker selected it.
    pub(super) fn own_call(&mut self, provider_id: &str, call: SeenCall, spared: bool, window: u64) {
        self.calls = self.calls.saturating_add(1);
        if let Some(open) = self.open_of(provider_id) {
            if spared && call.began >= open.record.opened_at {
                let failed = open.observe(call);
                count(&mut open.record.spared, failed);
            }
            return;
        }
        if let Some(base) = self.base.get_mut(provider_id) {
            base.count(call.failed, window);
        } else if self.base.len() < MAX_PROVIDERS
            && let Ok(provider_id) = ProviderId::try_new(provider_id)
        {
            self.base.entry(provider_id).or_default().count(call.failed, window);
        }
    }

    /// Calls to a provider in windows before `window`.
    pub(super) fn base_before(&self, provider_id: &str, window: u64) -> [u64; 2] {
        self.base.get(provider_id).map_or([0; 2], |base| base.before(window))
    }

    pub(super) fn mean_gap_ms(&self, time: Stamp) -> u64 {
        time.since(self.came) / self.calls.max(1)
    }

    /// Keeps an open. Tells how many were dropped for it.
    pub(super) fn keep(&mut self, open: TrackedOpen) -> u64 {
        let full = self.opens.len() >= MAX_OPENS;
        if full {
            let closed = self.opens.iter().position(|known| known.closed_in.is_some());
            self.opens.remove(closed.unwrap_or(0));
        }
        self.opens.push_back(open);
        u64::from(full)
    }

    /// Forgets opens that closed in a window up to `number`.
    pub(super) fn forget_opens(&mut self, number: u64) {
        self.opens.retain(|open| open.closed_in.is_none_or(|closed| closed > number));
    }
}

impl TrackedOpen {
    pub(super) fn touches(&self, window: u64) -> bool {
        self.opened_in <= window && self.closed_in.is_none_or(|closed| closed >= window)
    }

    /// A call of another tenant to the provider.
    pub(super) fn call_elsewhere(&mut self, call: SeenCall, block_ms: u64, most: u64) {
        if call.began >= self.record.opened_at {
            let failed = self.observe(call);
            if self.counts_elsewhere(call.time, block_ms, most) {
                count(&mut self.record.elsewhere, failed);
            }
        }
    }

    /// Whether it counts calls of other tenants that end now; at most so many.
    fn counts_elsewhere(&self, time: Stamp, block_ms: u64, most: u64) -> bool {
        let [calls, _] = self.record.elsewhere;
        calls < most && time <= self.record.opened_at.plus(block_ms)
    }

    /// Whether calls of other tenants may change it still.
    pub(super) fn learns(&self, time: Stamp, block_ms: u64, most: u64) -> bool {
        self.record.well_at.is_none() || self.counts_elsewhere(time, block_ms, most)
    }

    /// Whether failed calls of other tenants may change it still.
    pub(super) fn learns_from_failures(&self, time: Stamp, block_ms: u64, most: u64) -> bool {
        self.successes > 0 || self.counts_elsewhere(time, block_ms, most)
    }

    /// Takes a call that no breaker selected. Tells whether it failed.
    fn observe(&mut self, call: SeenCall) -> bool {
        let slow = match (self.slow_over_ms, call.latency_ms) {
            (Some(over), Some(ms)) => ms > over,
            _ => false,
        };
        let failed = call.failed || slow;
        self.successes = if failed { 0 } else { self.successes.saturating_add(1) };
        if self.successes >= WELL {
            self.record.well_at.get_or_insert(call.time);
        }
        failed
    }

    /// A probe failed: the provider is not well.
    pub(super) const fn reopened(&mut self, open_until: Stamp) {
        self.record.open_until = open_until;
        self.record.well_at = None;
        self.successes = 0;
    }
}

impl Base {
    fn count(&mut self, failed: bool, window: u64) {
        if window != self.window {
            *self = Self { before: self.before(window), window, now: [0; 2] };
        }
        count(&mut self.now, failed);
    }

    const fn before(&self, window: u64) -> [u64; 2] {
        let ([calls, failed], [more, more_failed]) = (self.before, self.now);
        if window == self.window {
            return self.before;
        }
        [calls.saturating_add(more), failed.saturating_add(more_failed)]
    }
}

fn count([calls, failed_calls]: &mut [u64; 2], failed: bool) {
    *calls = calls.saturating_add(1);
    *failed_calls = failed_calls.saturating_add(u64::from(failed));
}
