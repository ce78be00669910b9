//! What the fold knows of an entry that the evidence of rollouts needs.

use std::collections::BTreeSet;

use super::applied::Moved;
use super::fold::Fold;
use super::step::Step;
use crate::breaker::{Cause, State as Shown};
use crate::domain::{Stamp, TenantId};
use crate::log::{Entry, FlagEntry, FoldVersion, Scope};
use crate::rollout::evidence::{EntryFacts, Evidence, Lost, Move};

impl Fold {
    /// Gives the evidence of rollouts an entry that is applied. `gap` says that entries before it are missing.
    /// Returns how many windows it closed.
    #[inline]
    pub(super) fn note_evidence(
        &mut self,
        entry: &Entry<'_>,
        took_effect: bool,
        gap: bool,
        step: &mut Step,
    ) -> u64 {
        // A deployment without a rollout that is running pays no more than this.
        if self.evidence.passes_over(entry, step.now) {
            return 0;
        }
        self.note_facts(entry, took_effect, gap, step)
    }

    fn note_facts(&mut self, entry: &Entry<'_>, took_effect: bool, gap: bool, step: &mut Step) -> u64 {
        let untreated = self.untreated_by(entry, took_effect, step);
        let moves: Vec<_> = step.moved.iter().map(move_of).collect();
        let facts = EntryFacts {
            call: step.call,
            policy_changed: took_effect && matches!(entry, Entry::Policy(_)),
            moves: &moves,
            left: step.left.as_slice(),
            taken: &step.taken,
            untreated: &untreated,
            lapsed: &step.lapsed,
            bounded_opens: self.version >= FoldVersion::BOUNDED_OPENS,
            gap,
        };
        let (at, before) = (self.at(), self.evidence.lost());
        let closed = self.evidence.apply(entry, &facts, at, step.now);
        let lost = self.evidence.lost().since(&before);
        step.lost = (lost != Lost::default()).then(|| Box::new(lost));
        closed
    }

    /// The tenants for which an entry may change whether their refusals go unenforced, and whether they do after
    /// it. Evidence takes no note of those for which nothing changes.
    fn untreated_by(&mut self, entry: &Entry<'_>, took_effect: bool, step: &Step) -> Vec<(TenantId, bool)> {
        let of_all = match entry {
            Entry::Step(_) | Entry::Flag(FlagEntry { scope: Scope::Global, .. }) => took_effect,
            _ => false,
        };
        let force_ended = self.force_ends.is_some_and(|ends| ends <= step.now);
        let mut concerned = BTreeSet::new();
        if of_all || force_ended || step.swept {
            self.force_ends = None;
            concerned.extend(self.overlays.tenants().cloned());
        } else {
            concerned.extend(match entry {
                Entry::Flag(FlagEntry { scope: Scope::Tenant { tenant_id }, .. }) => Some(tenant_id.clone()),
                // Its breakers may have come or gone.
                Entry::Policy(entry) => Some(entry.tenant_id.clone()),
                _ => None,
            });
            let forced = step
                .moved
                .iter()
                .filter(|moved| matches!(moved.transition.cause, Cause::Forced | Cause::ForceLifted));
            concerned.extend(forced.map(|moved| moved.cell.tenant_id.clone()));
            concerned.retain(|tenant_id| self.overlays.names(tenant_id));
        }
        let mut untreated = Vec::with_capacity(concerned.len());
        for tenant_id in concerned {
            let is = self.is_untreated(&tenant_id, step.now);
            untreated.push((tenant_id, is));
        }
        untreated
    }

    /// Whether refusals of a tenant go unenforced: by a flag, by a breaker that is forced closed, or since nothing
    /// judges its rollout. Takes note of when a force ends.
    fn is_untreated(&mut self, tenant_id: &TenantId, now: Stamp) -> bool {
        let mut forced = false;
        for cell in self.state.breakers_of(tenant_id.as_str()) {
            if let Some((Shown::Closed, until)) = cell.lock().breaker.view(now).forced {
                forced = true;
                self.force_ends = self.force_ends.into_iter().chain(until).min();
            }
        }
        forced || !self.flags.enabled(tenant_id) || self.overlays.is_lapsed(tenant_id)
    }

    /// Takes over the evidence of a snapshot; after policies, switches and breakers.
    pub(super) fn restore_evidence(&mut self, evidence: Evidence) {
        self.evidence = evidence;
        let tenants: BTreeSet<TenantId> = self.overlays.tenants().cloned().collect();
        for tenant_id in tenants {
            self.is_untreated(&tenant_id, self.now());
        }
    }
}

fn move_of(moved: &Moved) -> Move<'_> {
    let settings = moved.cell.lock().breaker.settings_shared();
    let slow = moved.transition.cause == Cause::LatencyThresholdExceeded;
    let threshold = if slow { settings.slow_call_rate() } else { settings.error_rate() };
    Move {
        tenant_id: &moved.cell.tenant_id,
        provider_id: &moved.cell.provider_id,
        transition: &moved.transition,
        threshold_ppm: threshold.ppm(),
        slow_over_ms: settings.latency_threshold_ms().filter(|_| slow),
        successes: settings.success_threshold(),
    }
}
