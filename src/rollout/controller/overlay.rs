use std::collections::BTreeMap;

use super::rollout::{Rollout, TenantState};
use super::stage::Stage;
use super::terms;
use crate::domain::{Stamp, TenantId};
use crate::log::{EvidenceSettings, OverlaySettings, Share, StepEntry, StepNumber};

/// The share of those who have 100 % when a rollout is complete.
const ALL: u8 = 100;

impl Rollout {
    /// What the rollout lays over policies now; `None` where that is nothing.
    pub(super) fn overlay(&self) -> Option<OverlaySettings> {
        if matches!(self.stage, Stage::Draft | Stage::Aborted | Stage::Deleted) {
            return None;
        }
        let tenants: BTreeMap<TenantId, Share> =
            self.members.keys().filter_map(|id| Some((id.clone(), self.share(id)?))).collect();
        if tenants.is_empty() {
            return None;
        }
        let analysis = self.plan.analysis();
        let block_ms = self.current_phase().or(self.plan.phases().last()).map(|phase| phase.block_ms);
        let watched = self.members.iter().filter(|(id, _)| tenants.contains_key(*id));
        let sample_ppm = terms::sample_ppm(watched.map(|(_, member)| &member.history));
        Some(OverlaySettings {
            circuit_breaker: self.plan.circuit_breaker().fields().clone(),
            evidence: EvidenceSettings {
                block_ms: block_ms.unwrap_or(analysis.block_ms),
                settle_ms: analysis.settle_ms,
                max_stale_ms: analysis.max_stale_ms,
                sample_ppm,
            },
            tenants,
            completed: self.stage == Stage::Completed,
        })
    }

    /// A tenant's share; `None` where nothing is laid over its policies. The only place where shares are made.
    fn share(&self, tenant: &TenantId) -> Option<Share> {
        let member = self.members.get(tenant)?;
        let treated = match member.state {
            TenantState::Waiting | TenantState::LeftOut | TenantState::Deleted => return None,
            TenantState::RolledBack => 0,
            TenantState::OnLadder => self.ladder_percent(),
            TenantState::Passed if self.stage == Stage::Completed => ALL,
            TenantState::Passed => self.plan.after_phase(),
        };
        let to_zero = self.paused.as_ref().is_some_and(|pause| pause.to_zero);
        let percent = if to_zero { 0 } else { treated };
        let judged = member.phase.and_then(|phase| self.phase(phase)).map(|phase| phase.ladder.judged());
        // Where nothing is enforced, two halves that are treated alike are told apart as they will be.
        let split = if treated > 0 { treated } else { judged.unwrap_or(0) };
        Some(Share { percent, split })
    }

    /// A decision was taken: makes the step that carries it into the log, if what lies over policies changes, or
    /// if it must be said again.
    pub(super) fn lay(&mut self, made: i64, sequence: u64, stamp: Stamp, again: bool) -> Option<StepEntry> {
        let overlay = self.overlay();
        let known = self.step.as_ref().and_then(|step| step.overlay.as_ref());
        if known == overlay.as_ref() && !(again && overlay.is_some()) {
            return None;
        }
        let number = StepNumber { made, n: self.decided };
        let step = StepEntry { rollout: self.id().clone(), number, at_seq: sequence, overlay };
        self.step = Some(step.clone());
        self.step_since = stamp;
        self.lapsed = false;
        Some(step)
    }
}
