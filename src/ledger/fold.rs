use std::sync::Arc;

use super::applied::{Applied, What};
use super::digest::Digest;
use super::identities::Identities;
use super::overlays::Overlays;
use super::register::{Flags, Register};
use super::roster::{Roster, key_of};
use super::seen::Memory;
use super::step::Step;
use super::verdicts::Verdicts;
use crate::breaker::{Breaker, Claim, Effect, Input, Saved, View};
use crate::domain::{Disposition, Offset, ProviderId, Stamp, TenantId};
use crate::log::{At, ClaimEntry, Entry, FlagEntry, FoldVersion, ForceEntry, Scope};
use crate::rollout::evidence::Evidence;
use crate::state::State;

/// How far behind fold time a stamp may be and still count as that time: leaders' clocks differ, by
/// less than this where they are kept.
const SET_BACK_MS: u64 = 300_000;

/// See [`super`].
#[derive(Debug)]
pub struct Fold {
    pub(super) state: Arc<State>,
    verdicts: Arc<Verdicts>,
    pub(super) register: Register,
    pub(super) flags: Flags,
    pub(super) overlays: Overlays,
    /// When the first share falls to 0 unless its evidence is judged before.
    pub(super) deadline: Option<Stamp>,
    pub(super) evidence: Evidence,
    /// When the first force on a breaker of a watched tenant ends by its time to live, if not later.
    pub(super) force_ends: Option<Stamp>,
    pub(super) roster: Roster,
    pub(super) seen: Memory,
    pub(super) version: FoldVersion,
    pub(super) identities: Identities,
    at: At,
    now: Stamp,
    /// The stamp of the last entry that was no mark.
    changed: Stamp,
    pub(super) digest: Digest,
}

impl Fold {
    /// A fold of nothing over an empty state.
    #[must_use]
    pub fn new(state: Arc<State>, verdicts: Arc<Verdicts>) -> Self {
        Self {
            state,
            verdicts,
            register: Register::default(),
            flags: Flags::default(),
            overlays: Overlays::default(),
            deadline: None,
            evidence: Evidence::default(),
            force_ends: None,
            roster: Roster::default(),
            seen: Memory::default(),
            version: FoldVersion::FIRST,
            identities: Identities::default(),
            at: At::default(),
            now: Stamp::default(),
            changed: Stamp::default(),
            digest: Digest::default(),
        }
    }

    /// Applies the entry that follows the last one. `offset` only tells gates when claiming is worth a
    /// try. With `live` false (catching up) state changes and nothing is counted.
    pub fn apply(&mut self, entry: &Entry<'_>, at: At, offset: Offset, live: bool) -> Applied {
        let mut step = Step::new(self.now, offset, live);
        // Every message of the stream is an entry.
        let gap = at.position > self.at.position.saturating_add(1);
        self.advance(at, &mut step);
        let what = match entry {
            // Nearly all are results, and what becomes of them is made where it goes: copied there, it
            // would be waited for.
            Entry::Result(outcome) => {
                let disposition = self.judge_result(outcome, &mut step);
                self.verdicts.result(at.position, disposition);
                let windows_closed = self.note_evidence(entry, false, gap, &mut step);
                self.finish(at, false);
                let what = What::Result { status: Some(outcome.status), disposition };
                return self.applied(what, step, windows_closed);
            }
            Entry::Rejected => {
                self.verdicts.result(at.position, Disposition::Rejected);
                What::Result { status: None, disposition: Disposition::Rejected }
            }
            Entry::Ended(ended) => What::Ended { judged: self.judge_ended(ended, &mut step) },
            Entry::Claim(entry) => self.claim(entry, &mut step),
            Entry::Release(entry) => {
                self.input(&entry.tenant_id, &entry.provider_id, &Input::Release(entry.claim), &mut step);
                What::Release
            }
            Entry::Policy(entry) => What::Policy(self.policy_entry(entry, &mut step)),
            Entry::Force(ForceEntry { latest, .. })
            | Entry::Reset(ForceEntry { latest, .. })
            | Entry::Flag(FlagEntry { latest, .. })
                if self.is_past(*latest) =>
            {
                What::Late
            }
            Entry::Flag(entry) => What::Flag { newer: self.flag(entry, &mut step) },
            Entry::Force(entry) => self.command(entry, false, &mut step),
            Entry::Reset(entry) => self.command(entry, true, &mut step),
            Entry::Step(entry) => What::Step { newer: self.step_entry(entry, &mut step) },
            Entry::Tally(entry) => {
                self.overlays.judged(entry, self.now);
                self.deadline = self.overlays.deadline();
                What::Evidence
            }
            Entry::Met(_) => What::Evidence,
            Entry::FoldVersion(entry) => What::FoldVersion { newer: self.raise(entry) },
            Entry::Mark => What::Mark,
            Entry::Unknown => What::Unknown,
        };
        let windows_closed = self.note_evidence(entry, what.took_effect(), gap, &mut step);
        self.finish(at, matches!(entry, Entry::Mark));
        self.applied(what, step, windows_closed)
    }

    #[inline]
    fn applied(&mut self, what: What, step: Step, windows_closed: u64) -> Applied {
        let forgotten_early = self.seen.take_forgotten_early();
        Applied { what, moved: step.moved, windows_closed, evidence_lost: step.lost, forgotten_early }
    }

    fn finish(&mut self, at: At, marked: bool) {
        if !marked {
            self.changed = at.stamp;
        }
        if self.digest.is_due() {
            self.digest.tell();
        }
        self.verdicts.advance(at.position);
    }

    // ---- readers ----

    /// The last entry applied.
    #[must_use]
    pub const fn at(&self) -> At {
        self.at
    }

    /// Fold time.
    #[must_use]
    pub const fn now(&self) -> Stamp {
        self.now
    }

    /// When something happened last: the stamp of the last entry that was no mark.
    #[must_use]
    pub const fn changed(&self) -> Stamp {
        self.changed
    }

    /// The policies that the log has told of.
    #[must_use]
    pub const fn register(&self) -> &Register {
        &self.register
    }

    /// The switches that the log has told of.
    #[must_use]
    pub const fn flags(&self) -> &Flags {
        &self.flags
    }

    /// What running rollouts lay over policies.
    #[must_use]
    pub const fn overlays(&self) -> &Overlays {
        &self.overlays
    }

    /// The evidence of rollouts.
    #[must_use]
    pub const fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// What the breaker of a tenant for a provider shows, if there is one.
    #[must_use]
    pub fn breaker(&self, tenant_id: &str, provider_id: &str) -> Option<View> {
        self.roster.find(tenant_id, provider_id).map(|cell| cell.lock().breaker.view(self.now))
    }

    /// A digest over all breaker states: 53 bits, equal at equal position on every worker. Costs one
    /// hash for each breaker that changed since the last time.
    pub fn digest(&mut self) -> u64 {
        self.digest.tell()
    }

    // ---- the kinds of entry ----

    fn claim(&mut self, entry: &ClaimEntry<'_>, step: &mut Step) -> What {
        // One past its time gets no slot, and its request goes on as the probe of the slot that it takes.
        let takes =
            entry.takes.filter(|_| self.version >= FoldVersion::TAKEN_LEASES && step.now <= entry.latest);
        if let Some(takes) = takes {
            self.input(&entry.tenant_id, &entry.provider_id, &Input::Release(takes), step);
        }
        let claim = Claim {
            request_id: &entry.request_id,
            claim: entry.claim,
            latest: entry.latest,
            lease_ms: entry.lease_ms,
        };
        let effect = self.input(&entry.tenant_id, &entry.provider_id, &Input::Claim(claim), step);
        What::Claim { claim: entry.claim, verdict: effect.and_then(|e| e.verdict) }
    }

    /// Whether an entry stands past the latest stamp at which it is valid. By its own stamp: fold time may be
    /// ahead of the clock by which its writer set that.
    fn is_past(&self, latest: Option<Stamp>) -> bool {
        self.version >= FoldVersion::TIMELY_COMMANDS && latest.is_some_and(|latest| self.at.stamp > latest)
    }

    fn command(&mut self, entry: &ForceEntry, reset: bool, step: &mut Step) -> What {
        let input = match entry.to.and_then(crate::log::ForceTo::state) {
            _ if reset => Input::Reset,
            Some(to) => Input::Force { to, ttl_ms: entry.ttl_ms },
            None => Input::Unforce,
        };
        let found = self.input(entry.tenant_id.as_str(), entry.provider_id.as_str(), &input, step).is_some();
        What::Command { found }
    }

    pub(super) fn flag(&mut self, entry: &FlagEntry, step: &mut Step) -> bool {
        if !self.flags.apply(entry, step.now) {
            return false;
        }
        let tenants = match &entry.scope {
            Scope::Global => self.state.tenants(),
            Scope::Tenant { tenant_id } => vec![tenant_id.clone()],
        };
        for tenant_id in tenants {
            let off = !self.flags.enabled(&tenant_id);
            for cell in self.state.breakers_of(tenant_id.as_str()) {
                step.input(&cell, &Input::Suspend(off), &mut self.digest);
            }
        }
        true
    }

    // ---- one breaker ----

    pub(super) fn input(
        &mut self,
        tenant_id: &str,
        provider_id: &str,
        input: &Input<'_>,
        step: &mut Step,
    ) -> Option<Effect> {
        let cell = self.roster.find(tenant_id, provider_id)?;
        Some(step.input(cell, input, &mut self.digest))
    }

    // ---- snapshots ----

    /// Replaces a breaker that the policies of a snapshot have made; `false` if they have not.
    pub(super) fn restore_breaker(
        &mut self,
        tenant_id: &TenantId,
        provider_id: &ProviderId,
        saved: Saved,
        offset: Offset,
    ) -> bool {
        let (tenant_id, provider_id) = (tenant_id.as_str(), provider_id.as_str());
        let Some(cell) = self.roster.find(tenant_id, provider_id) else { return false };
        let mut guarded = cell.lock();
        let settings = guarded.breaker.settings_shared();
        guarded.breaker = Breaker::restore(saved, settings, key_of(tenant_id, provider_id), self.now);
        cell.publish(&guarded, offset);
        cell.publish_means(&guarded, self.now, offset);
        self.digest.note_changed(cell, &mut guarded);
        true
    }

    #[cfg(test)]
    pub(super) const fn waiting(&self) -> usize {
        self.digest.waiting()
    }

    /// Takes over what lay over policies; before these are.
    pub(super) fn restore_overlays(&mut self, overlays: Overlays) {
        self.deadline = overlays.deadline();
        self.overlays = overlays;
    }

    /// Puts the fold where a snapshot stands.
    pub(super) fn restoring(&mut self, at: At, now: Stamp, offset: Offset) -> Step {
        self.at = at;
        self.now = now;
        self.changed = at.stamp;
        self.verdicts.advance(at.position);
        Step::new(now, offset, false)
    }

    pub(super) fn register_mut(&mut self) -> &mut Register {
        &mut self.register
    }

    // ---- time ----

    fn advance(&mut self, at: At, step: &mut Step) {
        let set_back = self.now.since(at.stamp) > SET_BACK_MS;
        self.at = at;
        self.now = if set_back { at.stamp } else { self.now.max(at.stamp) };
        step.now = self.now;
        if set_back {
            for tenant_id in self.state.tenants() {
                for cell in self.state.breakers_of(tenant_id.as_str()) {
                    step.input(&cell, &Input::ClockSetBack, &mut self.digest);
                }
            }
            self.overlays.set_back(self.now);
            self.deadline = self.overlays.deadline();
            step.swept = true;
        }
        if self.deadline.is_some_and(|deadline| self.now > deadline) {
            let (lapsed, concerned) = self.overlays.expire(self.now);
            self.lay_over(&concerned, step);
            step.lapsed = lapsed;
            step.swept = true;
        }
    }
}
