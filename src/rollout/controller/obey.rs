use std::collections::{BTreeMap, BTreeSet};

use super::decision::{Decision, Kind};
use super::effects::{DecisionFault, Effects, Event};
use super::holdout::Holdout;
use super::message::{History, TenantHistory};
use super::outlook::candidates;
use super::rollout::{Member, Rollout, TenantState};
use super::run::PhaseRun;
use super::stage::{Pause, Stage, next};
use super::terms;
use crate::domain::{Stamp, TenantId};
use crate::rollout::judge::{BetConfig, Outcomes, TreatedPercent};
use crate::rollout::plan::choose;

/// Tenants of a history: what a message of a megabyte holds.
pub(super) const MAX_TENANTS: usize = 10_000;

impl Rollout {
    /// A recorded decision takes effect, whatever this controller would have decided.
    pub(super) fn obey(
        &mut self,
        decision: &Decision,
        sequence: u64,
        stamp: Stamp,
    ) -> Result<(), DecisionFault> {
        let n = self.decided.saturating_add(1);
        if decision.n != n {
            return Err(if decision.n < n { DecisionFault::Taken } else { DecisionFault::Ahead });
        }
        if decision.at_seq < self.changed_at || decision.at_seq >= sequence {
            return Err(DecisionFault::Void);
        }
        let stage = next(self.stage, &decision.kind, self.course()).map_err(|_| DecisionFault::Illegal)?;
        self.stage = stage;
        self.decided = n;
        self.seq = self.seq.saturating_add(1);
        self.changed_at = sequence;
        self.pending = None;
        self.carry_out(decision, stamp);
        Ok(())
    }

    fn carry_out(&mut self, decision: &Decision, stamp: Stamp) {
        match &decision.kind {
            Kind::Start => self.prepare(stamp),
            Kind::Step { phase, rung } => {
                self.paused = None;
                if *rung == 0 {
                    self.begin_phase(*phase, decision.n);
                }
                self.begin_step();
            }
            Kind::AwaitApproval { .. } => self.paused = None,
            Kind::Promote { .. } | Kind::FinalBake { .. } => {
                self.turn(&[TenantState::OnLadder], TenantState::Passed);
                (self.paused, self.run, self.overridden, self.extended_ms) = (None, None, None, 0);
                self.begin_holdout();
                self.prepare(stamp);
            }
            Kind::Complete => (self.paused, self.run, self.holdout) = (None, None, None),
            Kind::Pause { to_zero, by_hand } => {
                let reasons = decision.reasons.clone();
                self.paused = Some(Pause { to_zero: *to_zero, by_hand: *by_hand, reasons });
            }
            Kind::Resume => self.resume(stamp),
            Kind::RollBack => {
                self.paused = None;
                self.turn(&[TenantState::OnLadder, TenantState::Passed], TenantState::RolledBack);
            }
            Kind::TenantBack { tenants } => {
                for tenant in tenants {
                    self.back(tenant);
                }
            }
            // The step itself is made again; evidence of the one before is not lost.
            Kind::Renew => {}
            Kind::Abort => (self.paused, self.run, self.holdout) = (None, None, None),
            Kind::Delete => {
                (self.paused, self.run, self.holdout) = (None, None, None);
                self.members.clear();
                self.issues.clear();
                self.drills.clear();
            }
        }
    }

    fn prepare(&mut self, stamp: Stamp) {
        (self.prepared, self.unmet, self.preparing_since) = (false, None, stamp);
    }

    /// A pause ends. Where shares were at 0, or the evidence was suspect, the step's evidence begins anew.
    fn resume(&mut self, stamp: Stamp) {
        let was_zero = self.paused.take().is_some_and(|pause| pause.to_zero);
        let suspect = terms::alpha(self.plan.analysis().harm.alpha);
        if was_zero || self.run.as_ref().is_some_and(|run| run.is_suspect(suspect)) {
            self.begin_step();
        }
        if was_zero && self.holdout.is_some() {
            self.begin_holdout();
        }
        if self.unmet.is_some() {
            self.prepare(stamp);
        }
    }

    fn begin_step(&mut self) {
        let percent = self.ladder_percent();
        if let Some(run) = &mut self.run {
            run.begin_step(percent);
        }
    }

    fn begin_phase(&mut self, phase: usize, n: u64) {
        for member in self.members.values_mut() {
            if member.phase == Some(phase) && member.state == TenantState::Waiting {
                member.state = TenantState::OnLadder;
            }
        }
        self.phase_since = n;
        let judged = self.phase(phase).and_then(|p| TreatedPercent::try_new(p.ladder.judged()).ok());
        let Some(judged) = judged else { return };
        let Some((config, histories)) = self.terms(TenantState::OnLadder, judged, phase) else { return };
        self.run = Some(PhaseRun::new(config, histories, judged, &self.plan.analysis().latency));
    }

    fn begin_holdout(&mut self) {
        let phase = self.members.values().filter(|m| m.state == TenantState::Passed).filter_map(|m| m.phase);
        let last = phase.max().unwrap_or(0);
        let Ok(percent) = TreatedPercent::try_new(self.plan.after_phase()) else { return };
        let Some((config, histories)) = self.terms(TenantState::Passed, percent, last) else { return };
        let max_windows = self.phase(last).map_or(1, terms::max_windows);
        let config = BetConfig { harm_alpha: terms::quarter(self.plan.analysis().harm.alpha), ..config };
        self.holdout = (!histories.is_empty()).then(|| Holdout::new(config, percent, histories, max_windows));
    }

    /// What a judge of the tenants in a state is told.
    fn terms(
        &self,
        state: TenantState,
        percent: TreatedPercent,
        phase: usize,
    ) -> Option<(BetConfig, BTreeMap<TenantId, Outcomes>)> {
        let tenants: Vec<&TenantHistory> = self.in_state(state).map(|(_, member)| &member.history).collect();
        let watched = self.members.values().filter(|member| match member.state {
            TenantState::OnLadder | TenantState::Passed | TenantState::RolledBack => true,
            TenantState::Waiting | TenantState::LeftOut | TenantState::Deleted => false,
        });
        let sample = terms::sample_ppm(watched.map(|member| &member.history));
        let config = terms::bet_config(self.plan.analysis(), self.phase(phase)?, &tenants, percent, sample);
        let histories = tenants.iter().map(|t| (t.tenant.clone(), terms::outcomes(t))).collect();
        Some((config, histories))
    }

    fn turn(&mut self, from: &[TenantState], to: TenantState) {
        for member in self.members.values_mut().filter(|member| from.contains(&member.state)) {
            member.state = to;
        }
    }

    /// A tenant's share goes to 0 for good.
    fn back(&mut self, tenant: &TenantId) {
        match self.members.get_mut(tenant) {
            Some(member) if matches!(member.state, TenantState::OnLadder | TenantState::Passed) => {
                member.state = TenantState::RolledBack;
            }
            _ => return,
        }
        self.judge_no_more(tenant);
    }

    /// Whether the history of the phase that is prepared is wanted.
    pub(super) fn wants_history(&self) -> bool {
        matches!(self.stage, Stage::Preparing { .. }) && !self.prepared && self.unmet.is_none()
    }

    /// Takes the history of the phase that is prepared; the first one counts. That of the first phase fixes the
    /// cohort.
    pub(super) fn take_history(&mut self, history: &History, effects: &mut Effects) {
        let fits = self.stage == Stage::Preparing { phase: history.phase };
        if !fits || !self.wants_history() {
            effects.events.push(Event::HistoryPassedOver { phase: history.phase });
            return;
        }
        let count = history.tenants.len();
        if count > MAX_TENANTS {
            // It would be counted again and again.
            self.unmet = Some(format!("{count} tenants have policies, and a rollout knows {MAX_TENANTS}"));
            return;
        }
        if self.members.is_empty() {
            self.unmet = self.choose(history).err();
        } else {
            self.update(history);
        }
        self.prepared = self.unmet.is_none();
    }

    fn choose(&mut self, history: &History) -> Result<(), String> {
        let members = choose(&self.plan, &candidates(history)).map_err(|unmet| {
            let lines: Vec<String> = unmet.iter().map(ToString::to_string).collect();
            lines.join("; ")
        })?;
        let phases = 0..self.plan.phases().len();
        let phase_by_tenant: BTreeMap<&TenantId, usize> =
            phases.flat_map(|index| members.new_in(index).iter().map(move |id| (id, index))).collect();
        let cohort: BTreeSet<&TenantId> = members.cohort().iter().collect();
        for history in &history.tenants {
            if cohort.contains(&history.tenant) {
                let phase = phase_by_tenant.get(&history.tenant).copied();
                let member = Member { state: TenantState::Waiting, phase, history: history.clone() };
                self.members.insert(history.tenant.clone(), member);
            }
        }
        self.already_enforced = members.already_enforced().to_vec();
        Ok(())
    }

    /// Who enforces by a document of its own meanwhile is not taken in.
    fn update(&mut self, history: &History) {
        for history in &history.tenants {
            let Some(member) = self.members.get_mut(&history.tenant) else { continue };
            member.history = history.clone();
            if member.state == TenantState::Waiting && history.already_enforced {
                member.state = TenantState::LeftOut;
            }
        }
    }
}
