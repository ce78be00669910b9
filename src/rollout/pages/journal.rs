use std::collections::{BTreeMap, BTreeSet};

use super::calendar::Day;
use super::circuits::{Circuit, Circuits};
use super::records::{
    Action, DayRecord, DecisionRecord, Order, PhaseRecord, Range, Run, StatusSummary, StepRecord, place,
};
use super::sums::increase;
use super::text::{code, escaped};
use super::tickets::Tickets;
use super::words;
use crate::domain::{RolloutId, Stamp};
use crate::log::{JudgedWindow, StepEntry};
use crate::rollout::controller::{
    Command, Controllers, CriterionStatus, Decision, DecisionFault, Effects, Event, Kind, Message, Outcome,
    PlanMessage, Status, TenantState,
};
use crate::rollout::evidence::EvidenceBlock;
use crate::rollout::plan::parse;

/// What the stream says of one rollout, as the sums and records that its pages are made of. See [`super`].
#[derive(Clone, Debug)]
pub struct Journal {
    pub(super) rollout: RolloutId,
    controllers: Controllers,
    pub(super) runs: Vec<Run>,
    pub(super) actions: Vec<Action>,
    pub(super) decisions: Vec<DecisionRecord>,
    pub(super) days: BTreeMap<Day, DayRecord>,
    pub(super) circuits: Circuits,
    pub(super) tickets: Tickets,
    pub(super) range: Option<Range>,
    /// The stamps of the first message that had an effect, and of the newest one.
    pub(super) first: Stamp,
    pub(super) newest: Stamp,
    /// Where the rollout stands.
    pub(super) place: String,
    /// The first window of each step, by the step's number.
    pub(super) windows_by_step: BTreeMap<u64, Stamp>,
    /// The day of the newest window.
    window_day: Option<Day>,
    /// The circuits that opened on that day while the provider was well.
    pub(super) needless: BTreeSet<Circuit>,
    /// The rollout's number after the newest accepted message. A copy of a message has a lower one.
    accepted: u64,
    /// The newest accepted command.
    order: Option<Order>,
    /// The criteria at the place at which a decision became due.
    due: Option<(u64, Vec<CriterionStatus>)>,
}

impl Journal {
    /// Nothing of a rollout yet. `made` is when the stream was made, in nanoseconds since the Unix epoch.
    #[must_use]
    pub fn new(made: i64, rollout: &RolloutId) -> Self {
        Self {
            rollout: rollout.clone(),
            controllers: Controllers::new(made),
            runs: Vec::new(),
            actions: Vec::new(),
            decisions: Vec::new(),
            days: BTreeMap::new(),
            circuits: Circuits::default(),
            tickets: Tickets::default(),
            range: None,
            first: Stamp::default(),
            newest: Stamp::default(),
            place: code("none"),
            windows_by_step: BTreeMap::new(),
            window_day: None,
            needless: BTreeSet::new(),
            accepted: 0,
            order: None,
            due: None,
        }
    }

    /// Applies the message at a place of the stream, with the stamp that the broker gave it. Messages come in the
    /// order of their places; one whose place was reached before changes nothing. Messages of other rollouts change
    /// nothing either.
    pub fn apply(&mut self, sequence: u64, stamp: Stamp, message: &Message) {
        if sequence <= self.controllers.applied() {
            return;
        }
        // The end of the last day, if this message has an effect.
        let is_later = self.range.is_some_and(|range| Day::of(stamp) > range.last);
        let day_end = if is_later { self.summary() } else { None };
        let criteria = self.criteria_of(message, stamp);
        let judged = self.judged();
        let effects = self.controllers.apply(sequence, stamp, message);
        if effects.rollout.as_ref() != Some(&self.rollout) {
            return;
        }
        let has_effect = match message {
            Message::Plan(_) | Message::Command(_) => self.accept(&effects),
            Message::History(_) => !any(&effects, |event| {
                matches!(event, Event::HistoryPassedOver { .. } | Event::UnknownRollout)
            }),
            Message::Block(_) => self.judged() != judged,
            Message::Decision(_) => any(&effects, |event| matches!(event, Event::Decided { .. })),
        };
        if has_effect {
            if let (Some(day_end), Some(range)) = (day_end, self.range) {
                self.end_day(range.last, day_end);
            }
            self.note_time(stamp);
            let at = (sequence, stamp);
            match message {
                Message::Plan(plan) => self.put(at, plan),
                Message::Command(command) => self.command(at, command),
                Message::History(history) => {
                    if let (Some(status), Some(run)) =
                        (self.controllers.status(&self.rollout, stamp), self.runs.last_mut())
                    {
                        run.take(history, &status);
                    }
                }
                Message::Block(block) => self.block(stamp, block, &effects),
                Message::Decision(decision) => self.decide(at, decision, effects.step.as_ref(), criteria),
            }
        }
        self.note_events(Day::of(stamp), &effects);
        if let Some(due) = &effects.due {
            let criteria = self.controllers.status(&self.rollout, stamp).map(|status| status.criteria);
            self.due = Some((due.at_seq, criteria.unwrap_or_default()));
        }
    }

    /// How the rollout stands as of its newest message.
    pub(super) fn status(&self) -> Option<Status> {
        self.controllers.status(&self.rollout, self.newest)
    }

    pub(super) fn summary(&self) -> Option<StatusSummary> {
        self.status().map(|status| StatusSummary::new(status, self.newest))
    }

    /// The breaker settings of the newest plan, as JSON in one line.
    pub(super) fn settings(&self) -> String {
        let fields = self.runs.last().map(|run| run.plan.circuit_breaker().fields());
        fields.and_then(|fields| serde_json::to_string(fields).ok()).unwrap_or_default()
    }

    fn judged(&self) -> Option<JudgedWindow> {
        self.controllers.judged().find(|(id, _)| **id == self.rollout).map(|(_, window)| window)
    }

    /// The criteria for a decision that is recorded: those of the place at which it became due. Where this program
    /// held no decision due at that place, those before the record.
    fn criteria_of(&self, message: &Message, now: Stamp) -> Vec<CriterionStatus> {
        match (message, &self.due) {
            (Message::Decision(decision), Some((at_seq, criteria))) if *at_seq == decision.at_seq => {
                criteria.clone()
            }
            (Message::Decision(decision), _) if decision.rollout == self.rollout => {
                let status = self.controllers.status(&self.rollout, now);
                status.map(|status| status.criteria).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// Whether a plan or a command counts, and is no copy of one that did.
    fn accept(&mut self, effects: &Effects) -> bool {
        let Some(verdict) = &effects.verdict else { return false };
        let is_new = verdict.outcome == Outcome::Accepted && verdict.seq > self.accepted;
        if is_new {
            self.accepted = verdict.seq;
        }
        is_new
    }

    fn note_time(&mut self, stamp: Stamp) {
        if self.range.is_none() {
            self.first = stamp;
        }
        self.newest = self.newest.max(stamp);
        self.note_day(Day::of(stamp));
    }

    fn note_day(&mut self, day: Day) {
        self.range = Some(match self.range {
            Some(Range { first, last }) => Range { first: first.min(day), last: last.max(day) },
            None => Range { first: day, last: day },
        });
        self.days.entry(day).or_default();
    }

    fn put(&mut self, (sequence, stamp): (u64, Stamp), message: &PlanMessage) {
        // An accepted plan has no faults.
        let Ok(checked) = parse(&message.plan) else { return };
        let at = self.actions.len();
        self.actions.push(Action {
            sequence,
            stamp,
            actor: escaped(&message.actor),
            reason: escaped(&message.reason),
            what: "put".to_owned(),
            extends: false,
            issue: false,
        });
        match self.runs.last_mut() {
            Some(run) if !run.deleted => (run.plan, run.put) = (checked.plan, at),
            _ => self.runs.push(Run::new(checked.plan, at)),
        }
        self.note_place(stamp);
    }

    fn command(&mut self, (sequence, stamp): (u64, Stamp), command: &Command) {
        let order = Order {
            sequence,
            verb: command.verb.clone(),
            actor: escaped(&command.actor),
            reason: escaped(&command.reason),
        };
        self.actions.push(Action::of(&order, stamp));
        self.order = Some(order);
        self.note_place(stamp);
    }

    fn note_place(&mut self, now: Stamp) -> Option<Status> {
        let status = self.controllers.status(&self.rollout, now)?;
        self.place = place(&status);
        Some(status)
    }

    fn block(&mut self, stamp: Stamp, block: &EvidenceBlock, effects: &Effects) {
        let day = Day::of(block.start);
        if let Some(before) = self.window_day.filter(|before| *before < day) {
            self.end_window_day(before, stamp);
        }
        self.window_day = Some(day);
        self.note_day(day);
        self.windows_by_step.entry(block.step).or_insert(block.start);
        let is_anew = any(effects, |event| matches!(event, Event::WindowsAnew { .. }));
        if is_anew {
            self.circuits.begin_anew();
        }
        self.days.entry(day).or_default().sums.take(block);
        self.find_in_block((day, stamp), block, is_anew);
    }

    fn decide(
        &mut self,
        (sequence, stamp): (u64, Stamp),
        decision: &Decision,
        step: Option<&StepEntry>,
        criteria: Vec<CriterionStatus>,
    ) {
        let from = self.place.clone();
        let status = self.note_place(stamp);
        let kind = &decision.kind;
        let order = self.order.as_ref();
        let order = order.filter(|o| o.sequence == decision.at_seq && words::orders(&o.verb, kind));
        let (who, why) = match order {
            Some(Order { actor, reason, .. }) => (actor.clone(), reason.clone()),
            None => ("the controller".to_owned(), words::reasons(kind, &decision.reasons)),
        };
        let record = DecisionRecord {
            sequence,
            stamp,
            n: decision.n,
            kind: kind.clone(),
            what: words::decision(kind, self.runs.last().map(|run| &run.plan)),
            who,
            why,
            is_ordered: order.is_some(),
            figures: decision.figures,
            from,
            to: self.place.clone(),
            criteria,
            step: step.map(StepRecord::of),
        };
        self.find_in_decision(&record, &decision.reasons, status.as_ref());
        let at = self.decisions.len();
        self.decisions.push(record);
        self.note_course(at, kind, (sequence, stamp), status.as_ref());
    }

    /// A decision begins or ends a phase or a run.
    fn note_course(
        &mut self,
        at: usize,
        kind: &Kind,
        (sequence, since): (u64, Stamp),
        status: Option<&Status>,
    ) {
        let Some(run) = self.runs.last_mut() else { return };
        match kind {
            Kind::Start => run.start = Some(at),
            Kind::Step { phase, rung: 0 } => {
                let members = status.map(|status| status.tenants.as_slice()).unwrap_or_default();
                let on_ladder = members.iter().filter(|tenant| tenant.state == TenantState::OnLadder);
                let tenants = on_ladder.map(|tenant| tenant.tenant_id.clone()).collect();
                run.phases.push(PhaseRecord { index: *phase, sequence, since, tenants, end: None });
            }
            Kind::Promote { .. } | Kind::FinalBake { .. } | Kind::RollBack | Kind::Abort => {
                if let Some(phase) = run.phases.last_mut() {
                    phase.end.get_or_insert(at);
                }
                if matches!(kind, Kind::FinalBake { .. }) {
                    run.bake = Some(at);
                }
            }
            Kind::Complete => run.complete = Some(at),
            Kind::Delete => {
                run.deleted = true;
                self.tickets.end(Day::of(since));
            }
            _ => {}
        }
    }

    /// What was not expected. Copies of histories and decisions are: each worker writes its own.
    fn note_events(&mut self, day: Day, effects: &Effects) {
        let note = |event: &Event| match event {
            Event::Differs { .. } => Some("this program would have decided otherwise than recorded"),
            Event::DecisionPassedOver { why: DecisionFault::Illegal, .. } => {
                Some("a record of a decision that the state did not allow was passed over")
            }
            Event::DecisionPassedOver { why: DecisionFault::Ahead, .. } => {
                Some("a record of a decision whose number left others out was passed over")
            }
            Event::ForeignBlock { .. } => Some("a window of another stream was passed over"),
            Event::BlockAhead { .. } => Some("a window came before those that stand before it"),
            Event::WindowsAnew { .. } => Some("the log was made anew, and windows count from 0 again"),
            Event::RowsPassedOver { .. } => Some("rows of a window did not fit the phase"),
            Event::UnsupportedJudge { .. } => {
                Some("the rollout was started with a judge that this program lacks")
            }
            Event::Decided { .. }
            | Event::DecisionPassedOver { .. }
            | Event::HistoryPassedOver { .. }
            | Event::UnknownRollout
            | Event::TenantLeft { .. } => None,
        };
        for event in &effects.events {
            if let Event::TenantLeft { tenant, state } = event {
                self.days.entry(day).or_default().left.push((tenant.clone(), *state));
            }
            if let Some(text) = note(event) {
                increase(self.days.entry(day).or_default().notes.entry(text).or_default(), 1);
            }
        }
    }
}

fn any(effects: &Effects, is: impl Fn(&Event) -> bool) -> bool {
    effects.events.iter().any(is)
}
