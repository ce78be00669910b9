use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use serde_json::Value;

use super::line::{CommandLine, Content, Line};
use super::survey::Requests;
use super::worker::{Request, SimulatedWorker};
use crate::domain::{Offset, Outcome, RolloutId, Stamp, TenantId};
use crate::ledger::{Fold, Verdicts};
use crate::log::{At, Entry, FoldVersion, FoldVersionEntry, ForceEntry, ForceTo, IdentityKey, TallyEntry};
use crate::rollout::collector::Standing;
use crate::rollout::controller::{
    self, Command, Controllers, Decision, Effects, Event, HistoryWanted, JUDGE_VERSION, Message, PlanMessage,
    Stage, Status, Verb,
};
use crate::rollout::history::HistoryCount;
use crate::rollout::pages::Journal;
use crate::rollout::stream::{Task, tasks};
use crate::state::State;

/// Who puts the plan, starts it and approves its phases.
const ACTOR: &str = "simulation";

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Course {
    /// Which rollout.
    pub rollout: RolloutId,
    /// Its plan.
    pub plan: Value,
    /// When it starts; `None` where a line does that.
    pub start: Option<Stamp>,
    /// Whether each phase that awaits approval is approved at once.
    pub approve: bool,
    /// Where it is known from which requests workers answered.
    pub requests: Requests,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Report {
    /// A window was judged.
    Window {
        /// Its number.
        number: u64,
        /// Its beginning.
        start: Stamp,
        /// Its end.
        end: Stamp,
        /// How the rollout stands by it.
        status: Box<Status>,
    },
    /// A decision took effect.
    Decision {
        /// When.
        at: Stamp,
        /// Which.
        decision: Box<Decision>,
    },
    /// A command was not accepted.
    Refused {
        /// When.
        at: Stamp,
        /// Which.
        verb: String,
        /// Why.
        why: String,
    },
    /// Something else that is worth a line.
    Event {
        /// When.
        at: Stamp,
        /// What.
        event: Event,
    },
}

/// What a simulation needs of its surroundings.
pub trait Surroundings {
    /// Why a history was not counted.
    type Error;

    /// Counts the units of a span. Gives from when on the file has entries, and the count.
    ///
    /// # Errors
    /// Those of the file.
    fn count(&mut self, wanted: &HistoryWanted, settle_ms: u64)
    -> Result<(Stamp, HistoryCount), Self::Error>;

    /// Takes what happened, at once: one line of the file may close many windows.
    fn report(&mut self, report: Report);
}

/// See [`super`].
#[derive(Debug)]
pub struct Simulation<S> {
    course: Course,
    surroundings: S,
    fold: Fold,
    controllers: Controllers,
    journal: Journal,
    worker: Option<SimulatedWorker>,
    is_put: bool,
    commands: u64,
    /// Whether something has changed since approval was last tried.
    may_approve: bool,
}

impl<S: Surroundings> Simulation<S> {
    /// Before the first line.
    #[must_use]
    pub fn new(course: Course, surroundings: S) -> Self {
        // Any moment will do: there is one stream, and it is never made anew.
        let made = 1;
        let plays_worker = course.requests != Requests::Tallied;
        let mut simulation = Self {
            surroundings,
            fold: Fold::new(Arc::new(State::new(true)), Arc::new(Verdicts::default())),
            controllers: Controllers::new(made),
            journal: Journal::new(made, &course.rollout),
            worker: plays_worker.then(SimulatedWorker::new),
            is_put: false,
            commands: 0,
            may_approve: false,
            course,
        };
        // The newest rules hold. The key need not be secret here.
        let (version, identity_key) = (FoldVersion::NEWEST, IdentityKey([0, 0]));
        simulation.apply(&Entry::FoldVersion(FoldVersionEntry { version, identity_key }), Stamp(0));
        simulation
    }

    /// Takes the next line.
    ///
    /// # Errors
    /// Those of [`Surroundings`].
    pub fn take(&mut self, line: &Line<'_>) -> Result<(), S::Error> {
        self.begin(line.at)?;
        self.let_time_pass(line.at)?;
        match &line.content {
            Content::Entry(entry) => {
                self.answer_request_of(entry, line.at);
                let mut entry = self.as_the_log_has_it(entry);
                if let Entry::Result(outcome) = &mut entry {
                    self.probe(outcome, line.at)?;
                }
                self.append(&entry, line.at)
            }
            Content::Request(request) => {
                let pace = self.fold.overlays().pace();
                let answered = Request {
                    tenant_id: &request.tenant_id,
                    policy_id: &request.policy_id,
                    request_id: &request.request_id,
                    met: request.met,
                    retry: request.retry,
                };
                if let Some(worker) = &mut self.worker {
                    worker.answer(&answered, &self.fold, line.at, pace);
                }
                Ok(())
            }
            Content::Command(command) => self.command((**command).clone(), line.at),
        }
    }

    /// How the rollout stands; `None` before it is put.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.controllers.status(&self.course.rollout, self.fold.now())
    }

    #[cfg(test)]
    pub(super) fn surroundings_mut(&mut self) -> &mut S {
        &mut self.surroundings
    }

    /// The pages of the rollout.
    #[must_use]
    pub fn pages(&self) -> BTreeMap<String, String> {
        self.journal.pages()
    }

    /// Puts the plan before the first line, and starts the rollout once it is time.
    fn begin(&mut self, until: Stamp) -> Result<(), S::Error> {
        let at = self.course.start.unwrap_or(until);
        if at > until {
            return Ok(());
        }
        if !self.is_put {
            self.is_put = true;
            let plan = self.course.plan.clone();
            let [id, actor, reason] = ["plan", ACTOR, ACTOR].map(str::to_owned);
            self.message(
                Message::Plan(PlanMessage { id, plan, expected_seq: 0, actor, authenticated: None, reason }),
                at,
            );
        }
        if self.course.start.take().is_some() {
            self.command(own_command(Verb::Start { judge: JUDGE_VERSION }), at)?;
        }
        Ok(())
    }

    /// Writes what the simulated worker writes until a moment.
    fn let_time_pass(&mut self, until: Stamp) -> Result<(), S::Error> {
        while let (Some(worker), Some(pace)) = (&mut self.worker, self.fold.overlays().pace()) {
            let due = worker.next_due().max(self.fold.now());
            if due > until {
                break;
            }
            let standing = Standing {
                position: self.fold.at().position,
                enforcing: true,
                judged: self.controllers.judged().map(|(id, window)| (id.clone(), window)).collect(),
            };
            for entry in worker.due(due, pace, standing) {
                self.append(&entry, due)?;
            }
        }
        Ok(())
    }

    fn answer_request_of(&mut self, entry: &Entry<'_>, at: Stamp) {
        let Entry::Result(outcome) = entry else { return };
        if let (Some(worker), Requests::Implied) = (&mut self.worker, self.course.requests)
            && let (Ok(tenant_id), Some(request_id)) =
                (TenantId::try_new(outcome.tenant_id.as_ref()), &outcome.request_id)
        {
            let pace = self.fold.overlays().pace();
            worker.answer_of_result((&tenant_id, request_id), &self.fold, at, pace);
        }
    }

    /// Lets the request of a result claim a probe, where its call would have found the open time over. Without that
    /// no circuit would close. The claim stands in the log no earlier than the line before, and the call of a probe
    /// begins with its claim, so that call may be shortened.
    fn probe(&mut self, outcome: &mut Outcome<'_>, at: Stamp) -> Result<(), S::Error> {
        let Some(worker) = &mut self.worker else { return Ok(()) };
        let claimed_at = self.fold.now().max(outcome.began(at)).min(at);
        let Some(claim) = worker.claim(outcome, &self.fold, claimed_at) else { return Ok(()) };
        self.append(&Entry::Claim(claim), claimed_at)?;
        outcome.latency_ms = outcome.latency_ms.map(|latency| latency.min(at.since(claimed_at)));
        outcome.timestamp_ms = None;
        Ok(())
    }

    /// A worker of the file has read all before its tally, and judged what was judged by then.
    fn as_the_log_has_it<'e>(&self, entry: &Entry<'e>) -> Entry<'e> {
        match entry {
            Entry::Tally(tally) => Entry::Tally(TallyEntry {
                position: self.fold.at().position,
                judged: self.controllers.judged().map(|(id, window)| (id.clone(), window)).collect(),
                ..tally.clone()
            }),
            other => other.clone(),
        }
    }

    fn append(&mut self, entry: &Entry<'_>, stamp: Stamp) -> Result<(), S::Error> {
        let closed = self.apply(entry, stamp);
        if closed > 0 { self.carry_out(stamp) } else { Ok(()) }
    }

    /// Gives an entry to the breakers' fold and the evidence. Returns how many windows it closed.
    fn apply(&mut self, entry: &Entry<'_>, stamp: Stamp) -> u64 {
        let at = At { position: self.fold.at().position.saturating_add(1), stamp };
        self.fold.apply(entry, at, Offset(0), false).windows_closed
    }

    fn command(&mut self, command: CommandLine, at: Stamp) -> Result<(), S::Error> {
        self.commands = self.commands.saturating_add(1);
        let CommandLine { actor, reason, verb } = command;
        let drill = match &verb {
            Verb::Drill { tenant, provider, for_ms } => Some(ForceEntry {
                tenant_id: tenant.clone(),
                provider_id: provider.clone(),
                to: Some(ForceTo::Open),
                ttl_ms: Some(*for_ms),
                latest: None,
                actor: Some(actor.clone()),
                reason: Some(reason.clone()),
                authenticated: None,
            }),
            _ => None,
        };
        let command = Command {
            rollout: self.course.rollout.clone(),
            id: format!("command-{}", self.commands),
            expected_seq: self.controllers.seq(&self.course.rollout).unwrap_or_default(),
            actor,
            authenticated: None,
            reason,
            verb,
        };
        let accepted = self.message(Message::Command(command), at);
        if let Some(drill) = drill.filter(|_| accepted) {
            self.apply(&Entry::Force(drill), at);
        }
        self.carry_out(at)
    }

    /// Does what workers would do now, until nothing is left.
    fn carry_out(&mut self, at: Stamp) -> Result<(), S::Error> {
        loop {
            let logged = self.fold.overlays().logged();
            let todo = tasks(&self.controllers, &logged, &self.fold.evidence().all_closed());
            match todo.into_iter().next() {
                Some(Task::Record(decision)) => {
                    self.message(Message::Decision(decision), at);
                }
                Some(Task::Append(step)) => {
                    self.apply(&Entry::Step(*step), at);
                }
                Some(Task::Publish(block)) => {
                    self.message(Message::Block(Box::new(Arc::unwrap_or_clone(block))), at);
                }
                Some(Task::Count(wanted)) => {
                    let settle_ms =
                        self.controllers.plan(&wanted.rollout).map(|plan| plan.analysis().settle_ms);
                    let (from, count) = self.surroundings.count(&wanted, settle_ms.unwrap_or_default())?;
                    let facts = self.fold.tenant_facts(&wanted.rollout);
                    self.message(Message::History(count.finish(&wanted, from, facts)), at);
                }
                None if self.awaits_approval() => return self.command(own_command(Verb::Approve), at),
                None => return Ok(()),
            }
        }
    }

    /// Whether approval is to be tried. Where it is refused, the next window may change that.
    fn awaits_approval(&mut self) -> bool {
        let tries = self.course.approve && mem::take(&mut self.may_approve);
        tries
            && self
                .status()
                .is_some_and(|status| status.state == Stage::AwaitingApproval { phase: 0 }.as_str())
    }

    /// Gives a message to the controllers. Returns whether it was accepted, where it is a command.
    fn message(&mut self, message: Message, at: Stamp) -> bool {
        let sequence = self.controllers.applied().saturating_add(1);
        let Effects { verdict, events, .. } = self.controllers.apply(sequence, at, &message);
        self.journal.apply(sequence, at, &message);
        self.may_approve |= !matches!(message, Message::Command(_));
        for event in events {
            if !matches!(event, Event::Decided { .. }) {
                self.surroundings.report(Report::Event { at, event });
                continue;
            }
            if let Message::Decision(decision) = &message {
                self.surroundings.report(Report::Decision { at, decision: decision.clone() });
            }
        }
        if let Message::Block(block) = &message
            && let Some(status) = self.status()
        {
            let (number, start, end) = (block.number, block.start, block.end);
            self.surroundings.report(Report::Window { number, start, end, status: Box::new(status) });
        }
        let Some(verdict) = verdict else { return false };
        let why = match verdict.outcome {
            controller::Outcome::Accepted => return true,
            controller::Outcome::Conflict { expected } => format!("its number is not {expected}"),
            controller::Outcome::Refused { text, .. } => text,
        };
        let verb = match &message {
            Message::Command(command) => command.verb.as_str(),
            _ => "put",
        };
        self.surroundings.report(Report::Refused { at, verb: verb.to_owned(), why });
        false
    }
}

fn own_command(verb: Verb) -> CommandLine {
    CommandLine { actor: ACTOR.to_owned(), reason: ACTOR.to_owned(), verb }
}
