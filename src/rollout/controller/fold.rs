use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::decision::{Decision, Kind};
use super::effects::{DecisionFault, Effects, Event, HistoryWanted};
use super::message::{Command, Message, PlanMessage, Verb};
use super::refusal::{CommandVerdict, Outcome, Refusal};
use super::rollout::{Pending, Rollout};
use super::stage::Stage;
use super::status::Status;
use super::stored::{StoredPlan, shown};
use crate::domain::{RolloutId, Stamp};
use crate::log::{JudgedWindow, StepEntry};
use crate::rollout::evidence::EvidenceBlock;
use crate::rollout::plan::Plan;

/// How many rollouts are known, deleted ones included, whose numbers must not begin again: as many as the
/// evidence knows.
pub const MAX_ROLLOUTS: usize = 256;
/// Verdicts of a rollout that are kept for copies of a message.
const MAX_VERDICTS: usize = 64;
/// The longest text of a message, in bytes; ids as requests have them.
const MAX_TEXT: usize = 1_024;
const MAX_ID: usize = 128;

/// The fold over the stream of rollouts. See [`super`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Controllers {
    /// When the stream was made, in nanoseconds since the Unix epoch.
    made: i64,
    /// The place of the last message.
    applied: u64,
    rollouts: BTreeMap<RolloutId, Rollout>,
}

impl Controllers {
    /// Nothing of a stream that was made then, in nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn new(made: i64) -> Self {
        Self { made, applied: 0, rollouts: BTreeMap::new() }
    }

    /// Applies the message at a place of the stream, with the stamp that the broker gave it. Messages come in
    /// the order of their places; one whose place was reached before changes nothing.
    pub fn apply(&mut self, sequence: u64, stamp: Stamp, message: &Message) -> Effects {
        let mut effects = Effects::default();
        if sequence <= self.applied {
            return effects;
        }
        self.applied = sequence;
        match message {
            Message::Plan(message) => self.put(sequence, message, &mut effects),
            Message::Command(command) => self.command(sequence, stamp, command, &mut effects),
            Message::History(history) => self.with(&history.rollout, &mut effects, |rollout, effects| {
                rollout.take_history(history, effects);
            }),
            Message::Block(block) => self.with(&block.rollout, &mut effects, |rollout, effects| {
                rollout.take_block(block, stamp, effects);
            }),
            Message::Decision(decision) => {
                let made = self.made;
                self.with(&decision.rollout, &mut effects, |rollout, effects| {
                    record(rollout, made, (sequence, stamp), decision, effects);
                });
            }
        }
        if let Some(rollout) = effects.rollout.as_ref().and_then(|id| self.rollouts.get_mut(id)) {
            settle(rollout, sequence, stamp, &mut effects);
        }
        effects
    }

    /// When the stream was made, in nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn made(&self) -> i64 {
        self.made
    }

    /// The place of the last message applied.
    #[must_use]
    pub const fn applied(&self) -> u64 {
        self.applied
    }

    /// All rollouts, by id.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = &RolloutId> {
        self.rollouts.keys()
    }

    /// The decision that is due and not recorded. One who has caught up records it.
    #[must_use]
    pub fn pending(&self, rollout: &RolloutId) -> Option<&Decision> {
        let rollout = self.rollouts.get(rollout).filter(|rollout| rollout.judge == super::JUDGE_VERSION)?;
        rollout.pending.as_ref().map(|pending| &pending.decision)
    }

    /// The history that is wanted and not recorded. One who has caught up counts and records it.
    #[must_use]
    pub fn history_wanted(&self, rollout: &RolloutId) -> Option<HistoryWanted> {
        self.rollouts.get(rollout).and_then(wanted)
    }

    /// The newest step. One who has caught up appends it to the log where the log lacks it.
    #[must_use]
    pub fn newest_step(&self, rollout: &RolloutId) -> Option<&StepEntry> {
        self.rollouts.get(rollout)?.step.as_ref()
    }

    /// The step with which the rollout ended before its plan was put again. The log must have it before the newest one,
    /// since tenants that left the rollout before may be in it again.
    #[must_use]
    pub fn ended_by(&self, rollout: &RolloutId) -> Option<&StepEntry> {
        self.rollouts.get(rollout)?.ended_by.as_ref()
    }

    /// The number that a change of a rollout must name: [`Status::seq`].
    #[must_use]
    pub fn seq(&self, rollout: &RolloutId) -> Option<u64> {
        self.rollouts.get(rollout).map(|rollout| rollout.seq)
    }

    /// The number of the last decision that took effect.
    #[must_use]
    pub fn decided(&self, rollout: &RolloutId) -> Option<u64> {
        self.rollouts.get(rollout).map(|rollout| rollout.decided)
    }

    /// Rollouts that enforce refusals and are not at their end, each with its number.
    pub fn enforcing(&self) -> impl Iterator<Item = (&RolloutId, u64)> {
        let enforcing = self.rollouts.iter().filter(|(_, r)| r.stage.is_active() && r.enforces());
        enforcing.map(|(id, rollout)| (id, rollout.seq))
    }

    /// The plan of a rollout.
    #[must_use]
    pub fn plan(&self, rollout: &RolloutId) -> Option<&Plan> {
        self.rollouts.get(rollout).map(|rollout| &*rollout.plan)
    }

    /// The verdict on a plan or a command of a rollout, by the message's `id`. The last 64 are known.
    #[must_use]
    pub fn verdict(&self, rollout: &RolloutId, id: &str) -> Option<&CommandVerdict> {
        self.rollouts.get(rollout)?.verdicts.iter().find(|verdict| verdict.id == id)
    }

    /// Whether a block of evidence is the next one of its rollout.
    #[must_use]
    pub fn takes(&self, block: &EvidenceBlock) -> bool {
        self.rollouts.get(&block.rollout).is_some_and(|rollout| rollout.takes(block))
    }

    /// The latest window that was judged, by rollout, as tallies report it.
    pub fn judged(&self) -> impl Iterator<Item = (&RolloutId, JudgedWindow)> {
        self.rollouts.iter().filter_map(|(id, rollout)| Some((id, rollout.windows.last()?)))
    }

    /// How a rollout stands, as of a moment.
    #[must_use]
    pub fn status(&self, rollout: &RolloutId, now: Stamp) -> Option<Status> {
        self.rollouts.get(rollout).map(|rollout| rollout.status(now))
    }

    fn with(&mut self, id: &RolloutId, effects: &mut Effects, act: impl FnOnce(&mut Rollout, &mut Effects)) {
        effects.rollout = Some(id.clone());
        match self.rollouts.get_mut(id) {
            Some(rollout) => act(rollout, effects),
            None => effects.events.push(Event::UnknownRollout),
        }
    }

    fn put(&mut self, sequence: u64, message: &PlanMessage, effects: &mut Effects) {
        let plan = match StoredPlan::parse(&message.plan) {
            Ok(plan) => plan,
            Err(faults) => {
                let outcome = Outcome::refused(&Refusal::Plan(shown(&faults)));
                effects.verdict = Some(CommandVerdict { id: message.id.clone(), seq: 0, outcome });
                return;
            }
        };
        let id = plan.id().clone();
        effects.rollout = Some(id.clone());
        let known = self.rollouts.get(&id);
        if let Some(verdict) = known.and_then(|rollout| remembered(rollout, &message.id)) {
            effects.verdict = Some(verdict);
            return;
        }
        let seq = known.map_or(0, |rollout| rollout.seq);
        let outcome = if message.expected_seq == seq {
            let texts = [&message.id, &message.actor, &message.reason].map(String::as_str);
            let checked = check_texts(texts).and_then(|()| self.check_room(known));
            checked.map_or_else(|refusal| Outcome::refused(&refusal), |()| Outcome::Accepted)
        } else {
            Outcome::Conflict { expected: message.expected_seq }
        };
        if outcome == Outcome::Accepted {
            let rollout = match self.rollouts.remove(&id) {
                Some(rollout) => rollout.replaced(plan),
                None => Rollout::new(plan),
            };
            self.rollouts.insert(id.clone(), rollout);
        }
        let verdict = match self.rollouts.get_mut(&id) {
            Some(rollout) => remember(rollout, &message.id, outcome, sequence),
            None => CommandVerdict { id: message.id.clone(), seq, outcome },
        };
        effects.verdict = Some(verdict);
    }

    fn check_room(&self, known: Option<&Rollout>) -> Result<(), Refusal> {
        match known {
            None if self.rollouts.len() >= MAX_ROLLOUTS => {
                Err(Refusal::TooMany { what: "rollouts", most: MAX_ROLLOUTS })
            }
            None => Ok(()),
            Some(rollout) => {
                check_decided(rollout)?;
                match rollout.stage {
                    Stage::Draft | Stage::Deleted => Ok(()),
                    stage => Err(Refusal::State { verb: "put", state: stage.as_str() }),
                }
            }
        }
    }

    fn command(&mut self, sequence: u64, stamp: Stamp, command: &Command, effects: &mut Effects) {
        effects.rollout = Some(command.rollout.clone());
        let Some(rollout) = self.rollouts.get_mut(&command.rollout) else {
            let outcome = Outcome::refused(&Refusal::UnknownRollout);
            effects.verdict = Some(CommandVerdict { id: command.id.clone(), seq: 0, outcome });
            return;
        };
        if let Some(verdict) = remembered(rollout, &command.id) {
            effects.verdict = Some(verdict);
            return;
        }
        if command.expected_seq != rollout.seq {
            let outcome = Outcome::Conflict { expected: command.expected_seq };
            effects.verdict = Some(remember(rollout, &command.id, outcome, sequence));
            return;
        }
        let ordered = check_decided(rollout)
            .and_then(|()| check_command(command))
            .and_then(|()| rollout.order(&command.verb, stamp));
        let outcome = match ordered {
            Ok(kind) => {
                rollout.change(&command.verb, stamp);
                rollout.pending = kind.map(|kind| Pending {
                    decision: decided(rollout, sequence, kind, reasons(command)),
                    ordered: true,
                });
                Outcome::Accepted
            }
            Err(refusal) => Outcome::refused(&refusal),
        };
        effects.verdict = Some(remember(rollout, &command.id, outcome, sequence));
        effects.due = rollout
            .pending
            .as_ref()
            .filter(|p| p.decision.at_seq == sequence)
            .map(|pending| pending.decision.clone());
    }
}

fn reasons(command: &Command) -> Vec<String> {
    let mut reasons = vec![command.verb.as_str().to_owned()];
    match command.verb {
        Verb::Promote { criterion } => reasons.push(format!("override {}", criterion.as_str())),
        Verb::Suspend { why } => reasons.push(why.as_str().to_owned()),
        _ => {}
    }
    reasons.push(format!("{}: {}", command.actor, command.reason));
    reasons
}

fn check_texts([id, actor, reason]: [&str; 3]) -> Result<(), Refusal> {
    for (field, text, most) in [("id", id, MAX_ID), ("actor", actor, MAX_TEXT), ("reason", reason, MAX_TEXT)]
    {
        if text.is_empty() || text.len() > most {
            return Err(Refusal::Text { field, most });
        }
    }
    Ok(())
}

fn check_command(command: &Command) -> Result<(), Refusal> {
    check_texts([&command.id, &command.actor, &command.reason])?;
    match &command.verb {
        Verb::Issue { text, .. } if text.is_empty() || text.len() > MAX_TEXT => {
            Err(Refusal::Text { field: "text", most: MAX_TEXT })
        }
        _ => Ok(()),
    }
}

/// A decision that a command ordered is not overtaken by another command.
fn check_decided(rollout: &Rollout) -> Result<(), Refusal> {
    match &rollout.pending {
        Some(pending) if pending.ordered => Err(Refusal::Deciding { n: pending.decision.n }),
        _ => Ok(()),
    }
}

fn remembered(rollout: &Rollout, id: &str) -> Option<CommandVerdict> {
    rollout.verdicts.iter().find(|verdict| verdict.id == id).cloned()
}

/// Notes a verdict; an accepted message counts. Ids that are too long are refused, and not kept.
fn remember(rollout: &mut Rollout, id: &str, outcome: Outcome, sequence: u64) -> CommandVerdict {
    if outcome == Outcome::Accepted {
        rollout.seq = rollout.seq.saturating_add(1);
        rollout.changed_at = sequence;
    }
    let verdict = CommandVerdict { id: id.to_owned(), seq: rollout.seq, outcome };
    if (1..=MAX_ID).contains(&id.len()) {
        rollout.verdicts.push_back(verdict.clone());
        if rollout.verdicts.len() > MAX_VERDICTS {
            rollout.verdicts.pop_front();
        }
    }
    verdict
}

fn decided(rollout: &Rollout, sequence: u64, kind: Kind, reasons: Vec<String>) -> Decision {
    Decision {
        rollout: rollout.id().clone(),
        n: rollout.decided.saturating_add(1),
        at_seq: sequence,
        kind,
        reasons,
        figures: rollout.figures(),
    }
}

/// Takes the record of a decision, and reports what this controller makes of it.
fn record(
    rollout: &mut Rollout,
    made: i64,
    (sequence, stamp): (u64, Stamp),
    decision: &Decision,
    effects: &mut Effects,
) {
    let n = decision.n;
    let own = rollout.pending.as_ref().map(|pending| pending.decision.kind.clone());
    if let Err(why) = rollout.obey(decision, sequence, stamp) {
        // Every worker records the same decision, so most copies are no news.
        if why != DecisionFault::Taken {
            effects.events.push(Event::DecisionPassedOver { n, why });
        }
        return;
    }
    let kind = decision.kind.clone();
    if own.as_ref() != Some(&kind) {
        effects.events.push(Event::Differs { n, own, recorded: kind.clone() });
    }
    if kind == Kind::Start && rollout.judge != super::JUDGE_VERSION {
        effects.events.push(Event::UnsupportedJudge { version: rollout.judge });
    }
    let again = kind == Kind::Renew;
    effects.events.push(Event::Decided { n, kind });
    effects.step = rollout.lay(made, sequence, stamp, again);
    effects.history = wanted(rollout);
}

/// What is due after a message.
fn settle(rollout: &mut Rollout, sequence: u64, stamp: Stamp, effects: &mut Effects) {
    rollout.pending.take_if(|pending| pending.decision.at_seq < rollout.changed_at);
    if rollout.pending.is_none()
        && let Some((kind, reasons)) = rollout.due(stamp)
    {
        let decision = decided(rollout, sequence, kind, reasons);
        effects.due = Some(decision.clone());
        rollout.pending = Some(Pending { decision, ordered: false });
    }
    if rollout.judge != super::JUDGE_VERSION {
        effects.due = None;
    }
}

fn wanted(rollout: &Rollout) -> Option<HistoryWanted> {
    let Stage::Preparing { phase } = rollout.stage else { return None };
    let to = rollout.preparing_since;
    rollout.wants_history().then(|| HistoryWanted {
        rollout: rollout.id().clone(),
        phase,
        from: to.minus(rollout.plan.history_ms()),
        to,
    })
}
