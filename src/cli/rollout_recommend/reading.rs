//! From entries of the log to calls.

use std::borrow::Cow;

use crate::domain::{Outcome, PolicyId, RolloutId, TenantId, identity_of};
use crate::ledger::{Kind, Seen};
use crate::log::{At, Ended, Entry, Fate, MetEntry, StepEntry};
use crate::rollout::recommend::Calls;

/// Takes entries in log order. A result counts once, as in the fold.
#[derive(Debug)]
pub(super) struct Reading {
    tenant: TenantId,
    policy: PolicyId,
    calls: Calls,
    seen: Seen,
    /// Whose step gave the tenant its share.
    rollout: Option<RolloutId>,
}

impl Reading {
    pub(super) fn new(tenant: TenantId, policy: PolicyId, calls: Calls) -> Self {
        Self { tenant, policy, calls, seen: Seen::default(), rollout: None }
    }

    pub(super) fn take(&mut self, entry: &Entry<'_>, at: At) {
        self.calls.at(at.stamp);
        match entry {
            Entry::Result(outcome) if self.seen.note(outcome.identity, Kind::Result).is_none() => {
                self.calls.result(outcome, outcome.began(at.stamp), at.stamp);
            }
            Entry::Ended(ended) => self.ended(ended, at),
            Entry::Step(step) => self.step(step),
            Entry::Met(met) => self.met(met),
            _ => {}
        }
    }

    pub(super) fn finish(self) -> Calls {
        self.calls
    }

    /// A refusal or a timeout stands for a result.
    fn ended(&mut self, ended: &Ended<'_>, at: At) {
        let identity = identity_of(&ended.tenant_id, Some(&ended.assignment_id), &[]);
        if self.seen.note(identity, Kind::Ended).is_some() {
            return;
        }
        let outcome = Outcome {
            request_id: Some(Cow::Borrowed(&ended.request_id)),
            ..Outcome::of(&*ended.tenant_id, &*ended.provider_id, ended.status, identity)
        };
        self.calls.result(&outcome, at.stamp.minus(ended.elapsed_ms), at.stamp);
    }

    fn step(&mut self, step: &StepEntry) {
        let share = step.overlay.as_ref().and_then(|overlay| overlay.tenants.get(&self.tenant));
        if let Some(share) = share {
            self.calls.share(share.percent);
            self.rollout = Some(step.rollout.clone());
        } else if self.rollout.as_ref() == Some(&step.rollout) {
            self.calls.share(0);
            self.rollout = None;
        }
    }

    fn met(&mut self, entry: &MetEntry) {
        if entry.tenant_id == self.tenant && entry.policy_id == self.policy {
            entry
                .met
                .iter()
                .filter(|met| met.fate == Fate::Spared)
                .for_each(|met| self.calls.spared(met.hash));
        }
    }
}
