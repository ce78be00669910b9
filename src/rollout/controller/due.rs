use std::collections::BTreeSet;

use super::decision::Kind;
use super::rollout::{Rollout, TenantState};
use super::stage::Stage;
use super::terms;
use crate::domain::{Stamp, TenantId};
use crate::rollout::judge::{self, Hold, PhaseHarm, Reason, ShareTest, Verdict};
use crate::rollout::plan::{Approval, OnExhausted};

/// A decision and why.
pub(super) type Due = (Kind, Vec<String>);

fn due(kind: Kind, reasons: &[&str]) -> Due {
    (kind, reasons.iter().map(|&reason| reason.to_owned()).collect())
}

const fn paused(to_zero: bool) -> Kind {
    Kind::Pause { to_zero, by_hand: false }
}

impl Rollout {
    /// What this controller decides by itself at this place. Harm comes first; then what the log did by itself;
    /// then the course of the plan.
    pub(super) fn due(&self, now: Stamp) -> Option<Due> {
        if self.judge != super::JUDGE_VERSION || !self.stage.is_active() {
            return None;
        }
        self.due_by_harm().or_else(|| self.due_by_lapse(now)).or_else(|| self.due_by_course(now))
    }

    fn due_by_harm(&self) -> Option<Due> {
        let alpha = self.plan.analysis().harm.alpha;
        let of_run = self.run.as_ref().map(|run| run.harm(terms::alpha(alpha)));
        let of_holdout = self.holdout.as_ref().map(|holdout| holdout.harm(terms::quarter(alpha)));
        let mut harmed: BTreeSet<TenantId> = BTreeSet::new();
        for harm in [of_run, of_holdout].into_iter().flatten() {
            match harm {
                PhaseHarm::Nobody => {}
                PhaseHarm::Tenants(tenants) => harmed.extend(tenants),
                PhaseHarm::Phase => return Some(due(Kind::RollBack, &["harm"])),
            }
        }
        let treated = |state| self.in_state(state).map(|(tenant, _)| tenant);
        if harmed.is_empty() {
            None
        } else if treated(TenantState::OnLadder)
            .chain(treated(TenantState::Passed))
            .all(|t| harmed.contains(t))
        {
            Some(due(Kind::RollBack, &["harm"]))
        } else {
            Some(due(Kind::TenantBack { tenants: harmed }, &["harm"]))
        }
    }

    /// The log took the shares to 0 since nothing was judged; now something is.
    fn due_by_lapse(&self, now: Stamp) -> Option<Due> {
        let block_ms = self.step.as_ref()?.overlay.as_ref()?.evidence.block_ms;
        let fresh = self.stale_ms(now, block_ms) <= self.plan.analysis().max_stale_ms;
        (self.lapsed && fresh).then(|| due(Kind::Renew, &["stale_telemetry"]))
    }

    fn due_by_course(&self, now: Stamp) -> Option<Due> {
        if self.paused.as_ref().is_some_and(|pause| pause.by_hand || pause.to_zero) {
            return None;
        }
        let holdout = self.holdout.as_ref().map(super::holdout::Holdout::look);
        if holdout.is_some_and(|look| look.share >= ShareTest::THRESHOLD) {
            return Some(due(paused(true), &["sample_ratio"]));
        }
        let is_free = self.paused.is_none();
        match self.stage {
            Stage::Preparing { phase } if is_free => match &self.unmet {
                Some(why) => Some(due(paused(false), &[why])),
                None => self.prepared.then(|| due(Kind::Step { phase, rung: 0 }, &["history"])),
            },
            Stage::Running { .. } | Stage::AwaitingApproval { .. } => self.due_on_ladder(now),
            Stage::FinalBake if is_free => {
                let holdout = self.holdout.as_ref()?;
                let has_data = holdout.look().verdict != Verdict::Inconclusive(Reason::NoData);
                let baked = holdout.qualified_ms() >= self.plan.final_bake_ms();
                (has_data && baked).then(|| due(Kind::Complete, &[]))
            }
            _ => None,
        }
    }

    fn due_on_ladder(&self, now: Stamp) -> Option<Due> {
        let is_free = self.paused.is_none();
        let run = self.run.as_ref()?;
        if self.in_state(TenantState::OnLadder).next().is_none() {
            return is_free.then(|| due(paused(false), &["empty_cohort"]));
        }
        if run.is_suspect(terms::alpha(self.plan.analysis().harm.alpha)) {
            return is_free.then(|| due(paused(false), &["evidence_suspect"]));
        }
        let verdict = self.verdict(now)?;
        let reasons = verdict.reasons();
        match verdict {
            // Proven harm was due before.
            judge::Decision::Rollback => None,
            judge::Decision::Pause { holds, .. } => {
                let to_zero = holds.iter().any(|hold| matches!(hold, Hold::SampleRatio | Hold::LossRatio));
                let exhausted = holds.is_empty();
                if exhausted && self.plan.on_exhausted() == OnExhausted::Rollback {
                    return Some(due(Kind::RollBack, &reasons));
                }
                (is_free || to_zero).then(|| due(paused(to_zero), &reasons))
            }
            judge::Decision::Extend(_) => (!is_free).then(|| due(Kind::Resume, &[])),
            judge::Decision::Promote if !is_free => Some(due(Kind::Resume, &[])),
            judge::Decision::Promote => self.advance().map(|kind| due(kind, &[])),
        }
    }

    /// Where a step leads that has passed. A phase that waits for a person stays.
    fn advance(&self) -> Option<Kind> {
        match self.stage {
            Stage::Running { phase, .. }
                if self.is_at_last_rung() && self.plan.approval() == Approval::EachPhase =>
            {
                Some(Kind::AwaitApproval { phase })
            }
            Stage::Running { .. } => self.passing(),
            _ => None,
        }
    }

    /// Where a step leads that has passed, approval included.
    pub(super) fn passing(&self) -> Option<Kind> {
        match self.stage {
            Stage::Running { phase, rung } if !self.is_at_last_rung() => {
                Some(Kind::Step { phase, rung: rung.saturating_add(1) })
            }
            Stage::Running { phase, .. } | Stage::AwaitingApproval { phase } => {
                Some(if self.course().next_phase.is_some() {
                    Kind::Promote { phase }
                } else {
                    Kind::FinalBake { phase }
                })
            }
            _ => None,
        }
    }
}
