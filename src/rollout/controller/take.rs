use super::effects::{Effects, Event};
use super::rollout::{Rollout, TenantState};
use super::run::Window;
use super::stage::Stage;
use super::windows::Place;
use crate::domain::{Stamp, TenantId};
use crate::rollout::evidence::{EvidenceBlock, OpenRecord, TenantRow};

impl Rollout {
    /// Takes the evidence of a window, if it is the next one.
    pub(super) fn take_block(&mut self, block: &EvidenceBlock, now: Stamp, effects: &mut Effects) {
        if self.is_foreign(block) {
            effects.events.push(Event::ForeignBlock { number: block.number });
            return;
        }
        let place = self.windows.place(block);
        match place {
            Place::Known => return,
            Place::Ahead => {
                let next = self.windows.next();
                effects.events.push(Event::BlockAhead { number: block.number, next });
                return;
            }
            Place::Next | Place::Anew => {}
        }
        self.note_lapse(now);
        self.windows.take(block, place);
        if place == Place::Anew {
            effects.events.push(Event::WindowsAnew { number: block.number });
        }
        self.lapsed |= block.lapsed && self.is_newest(block.step);
        for (tenant, leaving) in &block.left {
            self.leave(tenant, TenantState::of(*leaving), effects);
        }
        if block.purged || place == Place::Anew {
            self.run.iter_mut().for_each(super::run::PhaseRun::begin_safe_anew);
        }
        self.judge(block, effects);
    }

    /// Whether a block is the next one.
    pub(super) fn takes(&self, block: &EvidenceBlock) -> bool {
        !self.is_foreign(block) && matches!(self.windows.place(block), Place::Next | Place::Anew)
    }

    fn is_foreign(&self, block: &EvidenceBlock) -> bool {
        self.step.as_ref().is_some_and(|step| step.number.made != block.made)
    }

    fn is_newest(&self, step: u64) -> bool {
        self.step.as_ref().is_some_and(|newest| newest.number.n == step)
    }

    /// The log takes shares to 0 by itself where it hears of no window that is judged for too long. Blocks report
    /// that once they are closed; until then the same rule is applied to the stamps of the stream, so that rows
    /// of that step count no more.
    fn note_lapse(&mut self, now: Stamp) {
        let settings = self.step.as_ref().and_then(|step| step.overlay.as_ref());
        let Some(settings) = settings.filter(|settings| !settings.completed) else { return };
        let evidence = &settings.evidence;
        let holds =
            evidence.block_ms.saturating_add(evidence.settle_ms).saturating_add(evidence.max_stale_ms);
        if self.enforces() && self.windows.age_ms(now, self.step_since) > holds {
            self.lapsed = true;
        }
    }

    /// A tenant leaves. Who was rolled back stays that.
    fn leave(&mut self, tenant: &TenantId, state: TenantState, effects: &mut Effects) {
        let Some(member) = self.members.get_mut(tenant) else { return };
        match member.state {
            TenantState::RolledBack | TenantState::LeftOut | TenantState::Deleted => return,
            TenantState::Waiting | TenantState::OnLadder | TenantState::Passed => {}
        }
        member.state = state;
        effects.events.push(Event::TenantLeft { tenant: tenant.clone(), state });
        self.judge_no_more(tenant);
    }

    pub(super) fn judge_no_more(&mut self, tenant: &TenantId) {
        if let Some(run) = &mut self.run {
            run.remove(tenant);
        }
        if let Some(holdout) = &mut self.holdout {
            holdout.remove(tenant);
        }
    }

    fn judge(&mut self, block: &EvidenceBlock, effects: &mut Effects) {
        let (number, start, end) = (block.number, block.start, block.end);
        let whole = !(block.incomplete || block.purged || block.untreated || self.lapsed);
        let opens: Vec<&OpenRecord> =
            block.opens.iter().filter(|o| self.is(&o.tenant, TenantState::OnLadder)).collect();
        let treated = |state| self.in_state(state).all(|(id, _)| !block.is_untreated(id));
        let running = whole && self.paused.as_ref().is_none_or(|pause| !pause.by_hand && !pause.to_zero);
        let qualified = |state| running && self.is_newest(block.step) && treated(state);
        let window = |state| {
            let rows = block.rows.iter().filter(|row| whole && self.counts(row, state, block)).collect();
            Window { number, start, end, qualified: qualified(state), rows }
        };
        let (ladder, passed) = (window(TenantState::OnLadder), window(TenantState::Passed));
        let on_ladder = matches!(self.stage, Stage::Running { .. } | Stage::AwaitingApproval { .. });
        if let Some(run) = self.run.as_mut().filter(|_| on_ladder && block.step >= self.phase_since) {
            run.pass(number, start, end);
            for record in opens {
                run.open(record, number);
            }
            if let Err(fault) = run.take(&ladder) {
                effects.events.push(Event::RowsPassedOver { number, why: fault.to_string() });
            }
        }
        if let Some(holdout) = &mut self.holdout
            && let Err(fault) = holdout.take(&passed)
        {
            effects.events.push(Event::RowsPassedOver { number, why: fault.to_string() });
        }
    }

    /// Whether a row is judged: it is of the newest step and of its shares, and neither an operator's hand nor a
    /// drill made it another treatment.
    fn counts(&self, row: &TenantRow, state: TenantState, block: &EvidenceBlock) -> bool {
        let Some(step) = &self.step else { return false };
        let share = step.overlay.as_ref().and_then(|settings| settings.tenants.get(&row.tenant));
        let drilled = |tenant: &TenantId| {
            let touches = |from, until| block.start < until && from < block.end;
            self.drills.iter().any(|drill| drill.tenant == *tenant && touches(drill.from, drill.until))
        };
        let at_zero = self.paused.as_ref().is_some_and(|pause| pause.to_zero);
        self.is(&row.tenant, state)
            && !at_zero
            && self.is_newest(row.step)
            && share.is_some_and(|share| share.percent == row.percent && share.split == row.split)
            && !block.is_untreated(&row.tenant)
            && !drilled(&row.tenant)
    }
}
