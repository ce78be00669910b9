use serde::{Deserialize, Serialize};

use super::criterion::Criterion;
use super::rollout::{Rollout, TenantState};
use super::stage::{PAUSED, Pause, Stage};
use super::summary::CriterionStatus;
use crate::domain::{PhaseName, RolloutId, Stamp, TenantId};
use crate::rollout::judge::{self, LogE, Look, units_needed};

/// How a rollout stands: what `rollout.status` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its id.
    pub rollout: RolloutId,
    /// Counts accepted plans and commands, and recorded decisions; a change must name it.
    pub seq: u64,
    /// Its state, `paused` where it is.
    pub state: String,
    /// Why it is paused; and `stale_telemetry` where the log holds all shares at 0 since nothing is judged.
    pub reasons: Vec<String>,
    /// The phase.
    pub phase: Option<PhaseName>,
    /// The place in the phase's ladder, from 0.
    pub step: Option<usize>,
    /// The share of the ladder's tenants that is in force.
    pub percent: u8,
    /// The cohort, by id.
    pub tenants: Vec<TenantStatus>,
    /// Whom the plan means and who is not taken in, since a document of theirs enforces already or another rollout
    /// has them.
    pub already_enforced: Vec<TenantId>,
    /// What must hold for the step to end; empty where no phase is on its ladder.
    pub criteria: Vec<CriterionStatus>,
    /// Time of the phase that counts, in log time.
    pub qualified_ms: u64,
    /// How much of it there must be.
    pub min_ms: u64,
    /// The longest time of the phase, extensions included.
    pub max_ms: u64,
    /// What comes next.
    pub next: Next,
    /// The evidence of the step.
    pub evidence: EvidenceStatus,
    /// The decision that is due and not recorded.
    pub pending: Option<u64>,
    /// Open issues.
    pub issues: Vec<String>,
    /// Whether the block is being written into the documents.
    pub graduating: bool,
}

/// A tenant of the cohort.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantStatus {
    /// Who.
    pub tenant_id: TenantId,
    /// The phase that it comes in with; `null` if it is in none.
    pub phase: Option<PhaseName>,
    /// Where it stands.
    pub state: TenantState,
    /// Its share that is in force.
    pub percent: u8,
    /// Units of its history.
    pub units: u64,
    /// The evidence that the treatment harms it, in nano-nats.
    pub log_e: LogE,
}

impl Status {
    /// Whether the rollout goes on no more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let ends = [Stage::Completed, Stage::RolledBack, Stage::Aborted, Stage::Deleted];
        ends.iter().any(|stage| stage.as_str() == self.state)
    }

    /// The log has taken the shares of the newest step to 0, since nothing was judged for too long. It reports so
    /// before any window does.
    pub fn lapse(&mut self) {
        if self.tenants.iter().all(|tenant| tenant.percent == 0) {
            return;
        }
        self.percent = 0;
        self.tenants.iter_mut().for_each(|tenant| tenant.percent = 0);
        let why = judge::Lack::StaleTelemetry.as_str();
        if !self.reasons.iter().any(|reason| reason == why) {
            self.reasons.push(why.to_owned());
        }
    }
}

/// What comes next, and what it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// The least time until then, in log time, where it only takes time.
    pub when: Option<u64>,
    /// What is lacking, in words of the judge; or the verb that moves it on.
    pub needs: Vec<String>,
}

/// Evidence as logarithms in nano-nats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceStatus {
    /// Of harm.
    pub harm_e: LogE,
    /// Of safety.
    pub safe_e: LogE,
    /// Units of both arms.
    pub units: u64,
    /// How many SAFE needs four times out of five, where the treatment does nothing.
    pub needed: u64,
}

impl Rollout {
    pub(super) fn status(&self, now: Stamp) -> Status {
        let figures = self.figures();
        let [treated, _, control, _] = figures.units;
        let phase = self.current_phase();
        let needed = self.run.as_ref().map_or(0, |run| units_needed(run.config(), run.split()));
        let pause = self.paused.as_ref();
        Status {
            rollout: self.id().clone(),
            seq: self.seq,
            state: pause.map_or(self.stage.as_str(), |_| PAUSED).to_owned(),
            reasons: pause.map(|Pause { reasons, .. }| reasons.clone()).unwrap_or_default(),
            phase: phase.map(|phase| phase.name.clone()),
            step: match self.stage {
                Stage::Running { rung, .. } => Some(rung),
                Stage::AwaitingApproval { .. } => Some(self.course().last_rung),
                _ => None,
            },
            percent: if pause.is_some_and(|pause| pause.to_zero) { 0 } else { self.ladder_percent() },
            tenants: self.tenants(),
            already_enforced: self.already_enforced.clone(),
            criteria: self.criteria(now),
            qualified_ms: figures.qualified_ms,
            min_ms: phase.map_or(0, |phase| phase.min_ms),
            max_ms: phase.map_or(0, |phase| phase.max_ms.saturating_add(self.extended_ms)),
            next: self.next(now),
            evidence: EvidenceStatus {
                harm_e: figures.harm,
                safe_e: figures.safe,
                units: treated.saturating_add(control),
                needed,
            },
            pending: self.pending.as_ref().map(|pending| pending.decision.n),
            issues: self.issues.clone(),
            graduating: self.graduating,
        }
    }

    fn tenants(&self) -> Vec<TenantStatus> {
        let overlay = self.step.as_ref().and_then(|step| step.overlay.as_ref());
        let looks = || {
            let run = self.run.iter().flat_map(super::run::PhaseRun::tenants);
            run.chain(self.holdout.iter().flat_map(super::holdout::Holdout::tenants))
        };
        let looks: std::collections::BTreeMap<&TenantId, Look> = looks().collect();
        let status = |(id, member): (&TenantId, &super::rollout::Member)| TenantStatus {
            tenant_id: id.clone(),
            phase: member.phase.and_then(|index| self.phase(index)).map(|phase| phase.name.clone()),
            state: member.state,
            percent: overlay.and_then(|o| o.tenants.get(id)).map_or(0, |share| share.percent),
            units: member.history.units,
            log_e: looks.get(id).map(|look| look.harm).unwrap_or_default(),
        };
        self.members.iter().map(status).collect()
    }

    fn criteria(&self, now: Stamp) -> Vec<CriterionStatus> {
        let Some(findings) = self.findings(now) else { return Vec::new() };
        let latency: Vec<_> = self.run.iter().flat_map(|run| run.latency().looks()).collect();
        Criterion::ALL
            .into_iter()
            .map(|criterion| CriterionStatus::of(criterion, &findings, self.overridden, &latency))
            .collect()
    }

    fn next(&self, now: Stamp) -> Next {
        let verb = |verb: &str| Next { when: None, needs: vec![verb.to_owned()] };
        if self.paused.as_ref().is_some_and(|pause| pause.by_hand) {
            return verb("resume");
        }
        match self.stage {
            Stage::Draft => verb("start"),
            Stage::Preparing { .. } => verb("history"),
            Stage::Running { .. } | Stage::AwaitingApproval { .. } => self.next_on_ladder(now),
            Stage::FinalBake => {
                let baked = self.holdout.as_ref().map_or(0, super::holdout::Holdout::qualified_ms);
                Next { when: Some(self.plan.final_bake_ms().saturating_sub(baked)), needs: Vec::new() }
            }
            Stage::Completed => verb("graduate"),
            Stage::RolledBack | Stage::Aborted => verb("delete"),
            Stage::Deleted => verb("put"),
        }
    }

    fn next_on_ladder(&self, now: Stamp) -> Next {
        let (Some(findings), Some(verdict)) = (self.findings(now), self.verdict(now)) else {
            return Next { when: None, needs: Vec::new() };
        };
        let mut needs: Vec<String> = verdict.reasons().into_iter().map(str::to_owned).collect();
        let facts = &findings.facts;
        let when = match needs.as_slice() {
            [only] if only == judge::Lack::TooEarly.as_str() => {
                Some(facts.min_ms.saturating_sub(facts.qualified_ms))
            }
            _ => None,
        };
        if matches!(self.stage, Stage::AwaitingApproval { .. }) {
            needs.push("approve".to_owned());
        }
        Next { when, needs }
    }
}
