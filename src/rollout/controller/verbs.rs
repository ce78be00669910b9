use std::collections::BTreeSet;

use super::criterion::Criterion;
use super::decision::Kind;
use super::message::{IssueChange, Verb};
use super::refusal::Refusal;
use super::rollout::{Drill, Rollout, TenantState};
use super::stage::Stage;
use super::terms;
use crate::domain::{PhaseName, Stamp, TenantId};
use crate::rollout::judge;

/// Open issues of a rollout: more than people look after at a time.
pub(super) const MAX_ISSUES: usize = 256;
/// Drills of a rollout whose windows are not over.
pub(super) const MAX_DRILLS: usize = 64;
/// The longest drill. A breaker that must be open for longer is no drill.
const MAX_DRILL_MS: u64 = 3_600_000;

impl Rollout {
    /// Whether a verb is possible here, and the decision that it orders. `None` is for verbs that change
    /// something at once ([`Self::change`]).
    pub(super) fn order(&self, verb: &Verb, now: Stamp) -> Result<Option<Kind>, Refusal> {
        self.check_stage(verb)?;
        match verb {
            Verb::Start { .. } => Ok(Some(Kind::Start)),
            Verb::Approve => {
                self.check_free(verb)?;
                self.check_passes(verb, None, now)?;
                Ok(self.passing())
            }
            Verb::Promote { criterion } => {
                self.check_free(verb)?;
                self.check_override(*criterion)?;
                self.check_passes(verb, Some(*criterion), now)?;
                Ok(self.passing())
            }
            Verb::Extend { by_ms } => self.check_extension(*by_ms).map(|()| None),
            Verb::Pause => match &self.paused {
                Some(pause) if pause.by_hand => Err(Refusal::Paused),
                other => {
                    let to_zero = other.as_ref().is_some_and(|pause| pause.to_zero);
                    Ok(Some(Kind::Pause { to_zero, by_hand: true }))
                }
            },
            Verb::Suspend { .. } if self.paused.as_ref().is_some_and(|pause| pause.to_zero) => {
                Err(Refusal::Paused)
            }
            Verb::Suspend { .. } => {
                let by_hand = self.paused.as_ref().is_some_and(|pause| pause.by_hand);
                Ok(Some(Kind::Pause { to_zero: true, by_hand }))
            }
            Verb::Resume => self.check_resume(verb, now).map(|()| Some(Kind::Resume)),
            Verb::Rollback { tenant: None } => Ok(Some(Kind::RollBack)),
            Verb::Rollback { tenant: Some(tenant) } => {
                self.check_share(tenant)?;
                Ok(Some(Kind::TenantBack { tenants: BTreeSet::from([tenant.clone()]) }))
            }
            Verb::Abort => Ok(Some(Kind::Abort)),
            Verb::Drill { tenant, for_ms, .. } => self.check_drill(tenant, *for_ms, now).map(|()| None),
            Verb::Issue { change, text } => self.check_issue(*change, text).map(|()| None),
            Verb::Graduate => Ok(None),
            Verb::Delete => Ok(Some(Kind::Delete)),
        }
    }

    /// An accepted verb changes what no decision does.
    pub(super) fn change(&mut self, verb: &Verb, now: Stamp) {
        match verb {
            Verb::Start { judge } => self.judge = *judge,
            Verb::Promote { criterion } => self.overridden = Some(*criterion),
            Verb::Extend { by_ms } => self.extended_ms = self.extended_ms.saturating_add(*by_ms),
            Verb::Drill { tenant, provider, for_ms } => {
                self.drills.retain(|drill| drill.until > now);
                // What the drill leaves behind settles after it.
                let until = now.plus(*for_ms).plus(self.plan.analysis().settle_ms);
                let (tenant, provider) = (tenant.clone(), provider.clone());
                self.drills.push_back(Drill { tenant, provider, from: now, until });
            }
            Verb::Issue { change: IssueChange::Open, text } => self.issues.push(text.clone()),
            Verb::Issue { change: IssueChange::Close, text } => self.issues.retain(|open| open != text),
            Verb::Graduate => self.graduating = true,
            Verb::Approve
            | Verb::Pause
            | Verb::Suspend { .. }
            | Verb::Resume
            | Verb::Rollback { .. }
            | Verb::Abort
            | Verb::Delete => {}
        }
    }

    /// The table of verbs and states.
    fn check_stage(&self, verb: &Verb) -> Result<(), Refusal> {
        let stage = self.stage;
        let on_ladder = matches!(stage, Stage::Running { .. } | Stage::AwaitingApproval { .. });
        let allowed = match verb {
            Verb::Start { .. } => stage == Stage::Draft,
            Verb::Approve => matches!(stage, Stage::AwaitingApproval { .. }),
            Verb::Promote { .. } => on_ladder,
            Verb::Extend { .. } => matches!(stage, Stage::Running { .. }),
            Verb::Pause | Verb::Suspend { .. } | Verb::Resume | Verb::Abort => stage.is_active(),
            Verb::Rollback { .. } => stage.is_active() || stage == Stage::Completed,
            Verb::Drill { .. } => on_ladder || stage == Stage::FinalBake,
            Verb::Issue { .. } => stage.is_active() || matches!(stage, Stage::Completed | Stage::RolledBack),
            Verb::Graduate => stage == Stage::Completed,
            Verb::Delete => {
                matches!(stage, Stage::Draft | Stage::Completed | Stage::RolledBack | Stage::Aborted)
            }
        };
        if allowed { Ok(()) } else { Err(Refusal::State { verb: verb.as_str(), state: stage.as_str() }) }
    }

    fn check_free(&self, verb: &Verb) -> Result<(), Refusal> {
        // Shares that a pause took to 0 come back by `resume` alone.
        let held = self.paused.as_ref().is_some_and(|pause| pause.by_hand || pause.to_zero);
        if held { Err(Refusal::Held { verb: verb.as_str() }) } else { Ok(()) }
    }

    fn not_ready(&self, verb: &Verb, reasons: String) -> Refusal {
        match self.current_phase() {
            Some(phase) => Refusal::NotReady { verb: verb.as_str(), phase: phase.name.clone(), reasons },
            None => Refusal::State { verb: verb.as_str(), state: self.stage.as_str() },
        }
    }

    /// Whether nothing is lacking for the end of the step, one criterion passed over besides.
    fn check_passes(&self, verb: &Verb, over: Option<Criterion>, now: Stamp) -> Result<(), Refusal> {
        let no_evidence = || self.not_ready(verb, "no_data".to_owned());
        let mut findings = self.findings(now).ok_or_else(no_evidence)?;
        for criterion in self.overridden.into_iter().chain(over) {
            findings = findings.passing_over(criterion);
        }
        let alpha = terms::alpha(self.plan.analysis().harm.alpha);
        if self.run.as_ref().is_some_and(|run| run.is_suspect(alpha)) {
            return Err(self.not_ready(verb, "evidence_suspect".to_owned()));
        }
        if self.in_state(TenantState::OnLadder).next().is_none() {
            return Err(self.not_ready(verb, "empty_cohort".to_owned()));
        }
        match judge::decide(&findings.facts()) {
            judge::Decision::Promote => Ok(()),
            other => Err(self.not_ready(verb, other.reasons().join(", "))),
        }
    }

    fn check_override(&self, criterion: Criterion) -> Result<(), Refusal> {
        if criterion == Criterion::Harm {
            return Err(Refusal::OverrideHarm);
        }
        match (self.overridden, self.phase_name()) {
            (Some(criterion), Some(phase)) => Err(Refusal::OverrideUsed { criterion, phase }),
            _ => Ok(()),
        }
    }

    fn phase_name(&self) -> Option<PhaseName> {
        self.current_phase().map(|phase| phase.name.clone())
    }

    fn check_extension(&self, by_ms: u64) -> Result<(), Refusal> {
        let Some(phase) = self.current_phase() else { return Ok(()) };
        let most_ms = phase.max_ms.saturating_sub(self.extended_ms);
        if (1..=most_ms).contains(&by_ms) {
            Ok(())
        } else {
            Err(Refusal::Extend { phase: phase.name.clone(), most_ms })
        }
    }

    /// A pause by hand ends by hand. Another one ends by itself once its reasons do, so it is not ended before;
    /// but for one whose evidence has to begin anew.
    fn check_resume(&self, verb: &Verb, now: Stamp) -> Result<(), Refusal> {
        let Some(pause) = &self.paused else { return Err(Refusal::NotPaused) };
        let alpha = terms::alpha(self.plan.analysis().harm.alpha);
        let suspect = self.run.as_ref().is_some_and(|run| run.is_suspect(alpha));
        if pause.by_hand || pause.to_zero || suspect {
            return Ok(());
        }
        match self.verdict(now) {
            Some(verdict @ judge::Decision::Pause { .. }) => {
                Err(self.not_ready(verb, verdict.reasons().join(", ")))
            }
            _ => Ok(()),
        }
    }

    fn check_share(&self, tenant: &TenantId) -> Result<(), Refusal> {
        if self.is(tenant, TenantState::OnLadder) || self.is(tenant, TenantState::Passed) {
            Ok(())
        } else {
            Err(Refusal::Tenant { tenant: tenant.clone() })
        }
    }

    fn check_drill(&self, tenant: &TenantId, for_ms: u64, now: Stamp) -> Result<(), Refusal> {
        self.check_share(tenant)?;
        if !(1..=MAX_DRILL_MS).contains(&for_ms) {
            return Err(Refusal::Number { field: "for", most: MAX_DRILL_MS });
        }
        if self.drills.iter().filter(|drill| drill.until > now).count() >= MAX_DRILLS {
            return Err(Refusal::TooMany { what: "drills", most: MAX_DRILLS });
        }
        let fallback = self.members.get(tenant).is_some_and(|member| member.history.fallback);
        if fallback { Ok(()) } else { Err(Refusal::NoFallback { tenant: tenant.clone() }) }
    }

    fn check_issue(&self, change: IssueChange, text: &str) -> Result<(), Refusal> {
        let known = self.issues.iter().any(|open| open == text);
        match change {
            IssueChange::Open if known => Err(Refusal::KnownIssue),
            IssueChange::Open if self.issues.len() >= MAX_ISSUES => {
                Err(Refusal::TooMany { what: "issues", most: MAX_ISSUES })
            }
            IssueChange::Close if !known => Err(Refusal::UnknownIssue),
            IssueChange::Open | IssueChange::Close => Ok(()),
        }
    }
}
