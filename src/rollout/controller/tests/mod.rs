//! What the controller promises. `states` is the table of the state machine; `course` drives whole rollouts by
//! generated evidence; `commands` is about what operators do; `holds` about what stops a rollout and what ends
//! that; `laws` holds over any sequence of messages.

mod commands;
mod course;
mod holds;
mod laws;
mod states;

use serde_json::{Value, json};

use super::{
    Command, CommandVerdict, Controllers, Effects, Event, History, Kind, Message, Outcome, PlanMessage, Span,
    Status, TenantHistory, Verb,
};
use crate::domain::{RolloutId, Stamp, TenantId};
use crate::log::{Share, StepEntry};
use crate::policy::merge_patch;
use crate::rollout::evidence::{EvidenceBlock, TenantRow};

const MADE: i64 = 7;
const SECOND: u64 = 1_000;
/// Units of a tenant in a window.
const UNITS: u64 = 2_000;
/// Failures of both arms where all is well, in permille.
const BASE: u64 = 10;

fn id() -> RolloutId {
    RolloutId::try_new("cb").unwrap()
}

fn tenant(name: &str) -> TenantId {
    TenantId::try_new(name).unwrap()
}

/// Four phases of seconds that nobody approves, changed by a merge patch.
fn document(change: Value) -> Value {
    let phase = |name: &str, tenants: Value, ladder: Value| json!({"name": name, "tenants": tenants, "ladder": ladder, "bake": "3s", "min": "10s", "max": "200s"});
    let mut document = json!({
        "kind": "PolicyRollout", "id": "cb", "history": "1m", "cohort": {"order": "listed"},
        "analysis": {"block": "1s", "settle": "100ms", "max_stale": "20s", "exercise": "no",
            "latency": {"quantiles": []}},
        "phases": [
            phase("canary", json!({"count": 1}), json!([0, 10, 50])),
            phase("limited", json!({"min": 2, "max": 3}), json!([10, 50])),
            phase("half", json!({"percent": 50}), json!([50])),
            phase("all", json!({"percent": 100}), json!([50])),
        ],
        "final_bake": "5s", "approval": "none",
    });
    merge_patch(&mut document, &change);
    document
}

/// One phase that has `count` tenants and begins with half of their requests.
fn one_phase(count: u32, change: Value) -> Value {
    let mut document = document(json!({"phases": [{
        "name": "canary", "tenants": {"count": count}, "ladder": [50],
        "bake": "3s", "min": "10s", "max": "200s",
    }]}));
    merge_patch(&mut document, &change);
    document
}

/// A stream, a controller that reads it, and a worker that records what is due.
#[derive(Clone)]
struct World {
    fold: Controllers,
    stream: Vec<(u64, Stamp, Message)>,
    now: Stamp,
    window: u64,
    names: Vec<String>,
    decided: Vec<Kind>,
    steps: Vec<StepEntry>,
    events: Vec<Event>,
}

impl World {
    /// A draft with so many tenants.
    fn new(document: Value, tenants: usize) -> Self {
        let mut world = Self {
            fold: Controllers::new(MADE),
            stream: Vec::new(),
            now: Stamp(1_000_000),
            window: 0,
            names: (0..tenants).map(|n| format!("tenant-{n}")).collect(),
            decided: Vec::new(),
            steps: Vec::new(),
            events: Vec::new(),
        };
        let verdict = world.put(document, 0);
        assert_eq!(verdict.outcome, Outcome::Accepted, "{verdict:?}");
        world
    }

    /// Started, at its first step.
    fn started(document: Value, tenants: usize) -> Self {
        let mut world = Self::new(document, tenants);
        world.accept(Verb::Start { judge: 1 });
        world
    }

    fn put(&mut self, plan: Value, expected_seq: u64) -> CommandVerdict {
        let id = format!("put-{}", self.stream.len());
        let (actor, reason) = ("ops".to_owned(), "because".to_owned());
        let message = PlanMessage { id, plan, expected_seq, actor, authenticated: None, reason };
        self.send(Message::Plan(message)).verdict.unwrap()
    }

    /// Appends to the stream alone.
    fn append(&mut self, message: Message) -> Effects {
        let sequence = self.stream.last().map_or(1, |(sequence, ..)| sequence + 1);
        self.stream.push((sequence, self.now, message.clone()));
        let effects = self.fold.apply(sequence, self.now, &message);
        for event in &effects.events {
            if let Event::Decided { kind, .. } = event {
                self.decided.push(kind.clone());
            }
        }
        self.events.extend(effects.events.clone());
        self.steps.extend(effects.step.clone());
        effects
    }

    /// Appends, and records what becomes due by that.
    fn send(&mut self, message: Message) -> Effects {
        let first = self.append(message);
        let mut next = first.clone();
        for _ in 0..20 {
            next = match (next.due, next.history) {
                (Some(due), _) => self.append(Message::Decision(Box::new(due))),
                (None, Some(wanted)) => {
                    let history = self.history(wanted.phase);
                    self.append(Message::History(history))
                }
                (None, None) => return first,
            };
        }
        panic!("decisions do not end: {:?}", self.decided)
    }

    fn history(&self, phase: usize) -> History {
        let of = |name: &String| TenantHistory {
            tenant: tenant(name),
            units: 100_000,
            failures: 1_000,
            milli_per_minute: 60_000,
            already_enforced: false,
            fallback: true,
            timeout_ms: SECOND,
        };
        let span = Span { from: self.now.minus(60 * SECOND), to: self.now };
        History { rollout: id(), phase, span, tenants: self.names.iter().map(of).collect() }
    }

    fn command(&self, verb: Verb, expected_seq: u64) -> Command {
        let name = format!("command-{}", self.stream.len());
        Command {
            rollout: id(),
            id: name,
            expected_seq,
            actor: "ops".to_owned(),
            authenticated: None,
            reason: "because".to_owned(),
            verb,
        }
    }

    /// A command by one who knows the newest number.
    fn order(&mut self, verb: Verb) -> CommandVerdict {
        let command = self.command(verb, self.status().seq);
        self.send(Message::Command(command)).verdict.unwrap()
    }

    fn accept(&mut self, verb: Verb) {
        let verdict = self.order(verb);
        assert_eq!(verdict.outcome, Outcome::Accepted, "{verdict:?}");
    }

    fn refuse(&mut self, verb: Verb) -> (String, String) {
        match self.order(verb).outcome {
            Outcome::Refused { code, text } => (code, text),
            other => panic!("{other:?}"),
        }
    }

    fn status(&self) -> Status {
        self.fold.status(&id(), self.now).unwrap()
    }

    fn share(&self, name: &str) -> Option<Share> {
        let step = self.fold.newest_step(&id())?;
        step.overlay.as_ref()?.tenants.get(&tenant(name)).copied()
    }

    /// The next window, with the failures of each tenant's arms in permille: treated, control. What is treated
    /// and not enforced fails as the control arm does.
    fn next_block(&mut self, failing: impl Fn(&TenantId) -> [u64; 2]) -> EvidenceBlock {
        let start = self.now;
        self.now = self.now.plus(SECOND);
        let number = self.window;
        self.window += 1;
        let (step, rows) = match self.fold.newest_step(&id()) {
            Some(StepEntry { number, overlay: Some(overlay), .. }) => {
                let row = |(name, share): (&TenantId, &Share)| row(name, *share, number.n, failing(name));
                (number.n, overlay.tenants.iter().map(row).collect())
            }
            _ => (0, Vec::new()),
        };
        EvidenceBlock { step, rows, ..EvidenceBlock::without_units(id(), MADE, number, start, self.now) }
    }

    fn window(&mut self, failing: impl Fn(&TenantId) -> [u64; 2]) {
        let block = self.next_block(failing);
        self.send(Message::Block(Box::new(block)));
    }

    /// Windows in which both arms are well.
    fn well(&mut self, windows: u64) {
        for _ in 0..windows {
            self.window(|_| [BASE, BASE]);
        }
    }

    /// Windows in which all is well, until the rollout is in a state.
    fn well_until(&mut self, state: &str) {
        for _ in 0..400 {
            if self.status().state == state {
                return;
            }
            self.well(1);
        }
        panic!("never {state}: {:?}", self.status());
    }
}

fn row(name: &TenantId, share: Share, step: u64, [treated, control]: [u64; 2]) -> TenantRow {
    let units = UNITS * u64::from(share.split) / 100;
    let rest = UNITS - units;
    let permille = if share.percent > 0 { treated } else { control };
    TenantRow {
        tenant: name.clone(),
        step,
        cut: step,
        percent: share.percent,
        split: share.split,
        plain: [units, units * permille / 1_000, rest, rest * control / 1_000],
        met: [0; 4],
        asked: [units, rest],
        no_outcome: [0; 2],
        latency: Default::default(),
    }
}

fn read(fold: &Controllers) -> Controllers {
    serde_json::from_str(&serde_json::to_string(fold).unwrap()).unwrap()
}
