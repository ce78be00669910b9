//! Claims, leases and releases: how a half-open breaker hands out its slots.

use super::Breaker;
use super::gate::HALF_OPEN_RETRY_MS;
use super::machine::{Claim, Lease, Phase};
use super::transition::{Cause, Effect, State, Verdict};
use crate::domain::{ClaimId, Outcome, Stamp};

impl Breaker {
    pub(super) fn claim(&mut self, claim: &Claim<'_>, now: Stamp, effect: &mut Effect) -> Verdict {
        if self.suspended {
            return Verdict::NotNeeded;
        }
        if let Some(force) = &self.forced {
            return match force.to {
                State::Open => {
                    let wait = force.until().map_or(self.settings.timeout_ms, |until| until.since(now));
                    Verdict::Refused { state: State::Open, retry_after_ms: wait }
                }
                _ => Verdict::NotNeeded,
            };
        }
        self.expire_leases(now, effect);
        let refused = |state, retry_after_ms| Verdict::Refused { state, retry_after_ms };
        match &mut self.phase {
            Phase::Closed => Verdict::NotNeeded,
            Phase::Open { .. } => {
                let remaining = self.remaining_ms(now);
                if remaining > 0 || now > claim.latest {
                    return refused(State::Open, remaining);
                }
                let lease = self.lease(claim, now);
                self.shown(now, effect, Cause::TimeoutElapsed, |b| {
                    b.phase = Phase::HalfOpen { successes: 0, leases: vec![lease] };
                });
                self.last_transition = now;
                Verdict::Granted
            }
            Phase::HalfOpen { leases, .. } => {
                let full =
                    leases.len() >= usize::try_from(self.settings.half_open_max_calls).unwrap_or(usize::MAX);
                let held = leases.iter().any(|l| *l.request_id == *claim.request_id);
                if full || held || now > claim.latest {
                    let soonest =
                        leases.iter().map(|l| l.deadline.since(now)).min().unwrap_or(HALF_OPEN_RETRY_MS);
                    return refused(State::HalfOpen, soonest.min(HALF_OPEN_RETRY_MS));
                }
                let lease = self.lease(claim, now);
                if let Phase::HalfOpen { leases, .. } = &mut self.phase {
                    leases.push(lease);
                }
                Verdict::Granted
            }
        }
    }

    pub(super) fn lease(&self, claim: &Claim<'_>, now: Stamp) -> Lease {
        let length_ms = self.settings.probe_timeout_ms.max(claim.lease_ms);
        Lease {
            request_id: claim.request_id.into(),
            claim: claim.claim,
            length_ms,
            deadline: now.plus(length_ms),
        }
    }

    pub(super) fn release(&mut self, claim: ClaimId, now: Stamp, effect: &mut Effect) {
        if self.forced.is_some() {
            return;
        }
        self.expire_leases(now, effect);
        if let Phase::HalfOpen { leases, .. } = &mut self.phase
            && let Some(at) = leases.iter().position(|l| l.claim == claim)
        {
            effect.freed = Some(leases.remove(at).claim);
        }
    }

    /// The lease that a result answers, taken off the books: it is a probe's result, whatever it says.
    pub(super) fn take_lease(&mut self, outcome: &Outcome<'_>, effect: &mut Effect) -> bool {
        if self.forced.is_some() || self.suspended {
            return false;
        }
        if let Phase::HalfOpen { leases, .. } = &mut self.phase
            && let Some(request_id) = outcome.request_id.as_deref()
            && let Some(at) = leases.iter().position(|l| *l.request_id == *request_id)
        {
            effect.freed = Some(leases.remove(at).claim);
            return true;
        }
        false
    }

    /// What is left of the lease of a claim, if it holds a slot.
    #[must_use]
    pub fn lease_left_ms(&self, claim: ClaimId, now: Stamp) -> Option<u64> {
        let lease = self.leases().iter().find(|l| l.claim == claim)?;
        Some(lease.deadline.since(now)).filter(|left| *left > 0)
    }

    /// Whether a request holds a slot by another claim than this one.
    #[must_use]
    pub fn probes_besides(&self, request_id: &str, claim: ClaimId) -> bool {
        self.leases().iter().any(|l| *l.request_id == *request_id && l.claim != claim)
    }

    fn leases(&self) -> &[Lease] {
        match &self.phase {
            Phase::HalfOpen { leases, .. } => leases,
            Phase::Closed | Phase::Open { .. } => &[],
        }
    }

    pub(super) fn expire_leases(&mut self, now: Stamp, effect: &mut Effect) {
        // What lies beneath a force does not move.
        if self.forced.is_some() {
            return;
        }
        if let Phase::HalfOpen { leases, .. } = &mut self.phase {
            let before = leases.len();
            leases.retain(|l| l.deadline > now);
            effect.expired_leases += u32::try_from(before - leases.len()).unwrap_or(u32::MAX);
        }
    }
}
