use std::sync::Arc;

use super::fold::Fold;
use super::overlays::Leaver;
use super::register::{Owner, PolicyChange};
use super::roster::key_of;
use super::step::Step;
use super::version::version_for;
use crate::breaker::{Breaker, Input};
use crate::domain::{PolicyId, ProviderId, TenantId};
use crate::log::{FoldVersion, PolicyEntry, StepEntry};
use crate::policy;
use crate::rollout::evidence::Leaving;
use crate::state::{Cell, Routable};

/// What a policy that is in force would change if its document were put once more, beside its revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeated {
    /// The document states its share: a put takes its tenant out of the rollout.
    LeavesRollout,
    /// Another policy of the tenant gives a breaker other settings, and would no longer be the newest.
    TakesBreaker,
}

/// Policies, and what rollouts lay over them: what brings them into force.
impl Fold {
    pub(super) fn policy_entry(&mut self, entry: &PolicyEntry, step: &mut Step) -> PolicyChange {
        let (tenant_id, policy_id) = (&entry.tenant_id, &entry.policy_id);
        let under = self.overlays.over(tenant_id, policy_id).is_some();
        let leaves = under && self.states_its_share(entry);
        let left = if leaves { self.overlays.leave(tenant_id, policy_id) } else { None };
        let was_live = self.register.get(tenant_id, policy_id).is_some_and(|record| record.live.is_some());
        // First: without what lay over it, the document before would hold for a moment, and close what is open.
        let change = self.policy(entry, step);
        if left.is_some() {
            self.lay_over([tenant_id], step);
        }
        if left == Some(Leaver::Tenant) {
            step.left = Some((tenant_id.clone(), Leaving::LeftOut));
        }
        // A log that is made anew also gets deletes of policies that it never knew, before those that are in force.
        let last = change == PolicyChange::Deleted && was_live && !self.register.has_any(tenant_id);
        if last && self.overlays.delete(tenant_id) {
            step.left = Some((tenant_id.clone(), Leaving::Deleted));
        }
        change
    }

    /// Whether an entry is about to put a policy that decides by itself which share is enforced.
    fn states_its_share(&self, entry: &PolicyEntry) -> bool {
        let Some(document) = &entry.document else { return false };
        let known = self.register.get(&entry.tenant_id, &entry.policy_id);
        let newer = known.is_none_or(|known| entry.revision > known.seen);
        // A bucket that is made anew gets back what it held: no operator decides that.
        let put_back = known.and_then(|known| known.live.as_ref()).is_some_and(|live| {
            live.revision.created != entry.revision.created && live.document == *document
        });
        newer
            && !put_back
            && policy::states_its_share(document)
            && version_for(document) <= self.version
            && policy::parse(document).is_ok()
    }

    /// What it would change to put the document of a policy once more. `None`: nothing but its revision.
    #[must_use]
    pub fn repeated(&self, tenant_id: &TenantId, policy_id: &PolicyId) -> Option<Repeated> {
        let live = self.register.get(tenant_id, policy_id)?.live.as_ref()?;
        let under = self.overlays.over(tenant_id, policy_id).is_some();
        if under && policy::states_its_share(&live.document) {
            return Some(Repeated::LeavesRollout);
        }
        let own = live.policy.breaker();
        let takes = live.policy.candidates().iter().any(|candidate| {
            let owner = self.register.owner(tenant_id, &candidate.provider);
            owner.is_some_and(|owner| {
                // One that is enabled stays before one that is not, however new.
                owner.policy_id != *policy_id
                    && owner.settings.enabled() == own.enabled()
                    && (owner.settings != *own || owner.step != live.step())
            })
        });
        takes.then_some(Repeated::TakesBreaker)
    }

    pub(super) fn step_entry(&mut self, entry: &StepEntry, step: &mut Step) -> bool {
        let exclusive = self.version >= FoldVersion::ONE_ROLLOUT_EACH;
        let Some(stepped) = self.overlays.step(entry, self.at().position, step.now, exclusive) else {
            return false;
        };
        self.lay_over(&stepped.concerned, step);
        step.taken = stepped.taken;
        true
    }

    /// Lays over the policies of tenants what lies over them now.
    pub(super) fn lay_over<'t>(&mut self, tenants: impl IntoIterator<Item = &'t TenantId>, step: &mut Step) {
        self.deadline = self.overlays.deadline();
        for tenant_id in tenants {
            let changed =
                self.register.lay_over(tenant_id, |policy_id| self.overlays.over(tenant_id, policy_id));
            for (policy_id, touched) in changed {
                self.bring_into_force(tenant_id, &policy_id, touched, step);
            }
        }
    }

    pub(super) fn policy(&mut self, entry: &PolicyEntry, step: &mut Step) -> PolicyChange {
        let over = self.overlays.over(&entry.tenant_id, &entry.policy_id);
        self.register.note_newest(entry.revision, step.now);
        let (change, touched) = self.register.apply(entry, over, self.version);
        if matches!(change, PolicyChange::Stale | PolicyChange::Refused(_)) {
            return change;
        }
        if change == PolicyChange::Deleted {
            self.state.catalog().remove(&entry.tenant_id, &entry.policy_id);
        }
        self.bring_into_force(&entry.tenant_id, &entry.policy_id, touched, step);
        change
    }

    /// Gives the breakers of these providers the settings that hold now, and decisions the policy.
    fn bring_into_force(
        &mut self,
        tenant_id: &TenantId,
        policy_id: &PolicyId,
        touched: Vec<ProviderId>,
        step: &mut Step,
    ) {
        for provider_id in touched {
            self.settle_owner(tenant_id, provider_id, step);
        }
        if let Some(live) = self.register.get(tenant_id, policy_id).and_then(|r| r.live.as_ref()) {
            let cell = |provider: &ProviderId| self.roster.find(tenant_id.as_str(), provider.as_str());
            // Every candidate has a breaker by now, so none is left out.
            let cells = live.policy.candidates().iter().filter_map(|c| cell(&c.provider)).cloned().collect();
            let routable = Routable {
                policy: Arc::clone(&live.policy),
                revision: live.revision.revision,
                cells,
                step: live.step(),
            };
            self.state.catalog().put(tenant_id, Arc::new(routable));
        }
    }

    /// Makes a breaker, takes it away, or gives it the settings that hold now.
    fn settle_owner(&mut self, tenant_id: &TenantId, provider_id: ProviderId, step: &mut Step) {
        let owner = self.register.owner(tenant_id, &provider_id);
        let cell = self.roster.find(tenant_id.as_str(), provider_id.as_str());
        match (owner, cell) {
            (None, None) => {}
            (None, Some(_)) => {
                self.state.remove(tenant_id, &provider_id);
                if let Some(cell) = self.roster.remove(tenant_id.as_str(), provider_id.as_str()) {
                    self.digest.note_gone(&mut cell.lock());
                }
            }
            (Some(Owner { policy_id, settings, step: of_rollout }), Some(cell)) => {
                {
                    let mut guarded = cell.lock();
                    (guarded.policy_id, guarded.step) = (policy_id, of_rollout);
                }
                step.input(cell, &Input::Configure(settings), &mut self.digest);
            }
            (Some(Owner { policy_id, settings, step: of_rollout }), None) => {
                let seed = key_of(tenant_id.as_str(), provider_id.as_str());
                let mut breaker = Breaker::new(settings, seed, step.now);
                if !self.flags.enabled(tenant_id) {
                    breaker.apply(&Input::Suspend(true), step.now);
                }
                let cell = Arc::new(Cell::new(tenant_id.clone(), provider_id, policy_id, breaker));
                let mut guarded = cell.lock();
                guarded.step = of_rollout;
                cell.publish(&guarded, step.offset);
                self.digest.note_changed(&cell, &mut guarded);
                drop(guarded);
                self.roster.insert(Arc::clone(&cell));
                self.state.insert(cell);
            }
        }
    }
}
