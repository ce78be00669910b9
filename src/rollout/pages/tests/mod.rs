//! What pages promise. `golden` compares whole pages of a small rollout; `findings` is about tickets; `hostile` about
//! texts and stamps; `laws` holds over any sequence of messages.

mod findings;
mod golden;
mod hostile;
mod laws;
mod reference;
mod units;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::pages;
use crate::breaker::Cause;
use crate::domain::{ProviderId, RolloutId, Stamp, TenantId};
use crate::log::{Share, StepEntry};
use crate::policy::merge_patch;
use crate::rollout::controller::{
    Command, Controllers, Effects, History, Message, Outcome, PlanMessage, Span, TenantHistory, Verb,
};
use crate::rollout::evidence::{EvidenceBlock, OpenRecord, TenantRow};

const MADE: i64 = 7;
const HOUR: u64 = 3_600_000;
/// 2026-11-19, a Thursday, 22:00 UTC.
const BEGIN: Stamp = Stamp(1_795_125_600_000);
/// Units of a tenant in a window, and failures of both arms where all is well.
const UNITS: u64 = 2_000;
const BASE: u64 = 10;

fn id() -> RolloutId {
    RolloutId::try_new("cb").unwrap()
}

fn tenant(name: &str) -> TenantId {
    TenantId::try_new(name).unwrap()
}

/// One phase of two tenants in windows of an hour, changed by a merge patch.
fn document(change: Value) -> Value {
    let mut document = json!({
        "kind": "PolicyRollout", "id": "cb", "history": "1d", "cohort": {"order": "listed"},
        "circuit_breaker": {"failure_threshold": 5, "timeout_ms": 30_000},
        "facts": {"acme": {"owner": "team-a@example.com", "notified": "2026-11-18"}},
        "analysis": {"block": "1h", "settle": "2m", "exercise": "no", "max_stale": "12h",
            "latency": {"quantiles": []}},
        "phases": [{"name": "canary", "tenants": {"count": 2}, "ladder": [10, 50], "bake": "2h", "min": "1d",
            "max": "20d"}],
        "final_bake": "6h",
    });
    merge_patch(&mut document, &change);
    document
}

/// A stream, and a worker that records what is due.
#[derive(Clone)]
struct World {
    fold: Controllers,
    stream: Vec<(u64, Stamp, Message)>,
    now: Stamp,
    window: u64,
    names: Vec<&'static str>,
}

impl World {
    fn empty() -> Self {
        let names = vec!["acme", "globex"];
        Self { fold: Controllers::new(MADE), stream: Vec::new(), now: BEGIN, window: 0, names }
    }

    /// Started, at its first step.
    fn started(change: Value) -> Self {
        let mut world = Self::empty();
        world.put(document(change), "alice", "begin");
        world.order(Verb::Start { judge: 1 }, "alice", "go");
        world
    }

    fn put(&mut self, plan: Value, actor: &str, reason: &str) {
        let id = format!("put-{}", self.stream.len());
        let expected_seq = self.fold.status(&super::tests::id(), self.now).map_or(0, |status| status.seq);
        let (actor, reason) = (actor.to_owned(), reason.to_owned());
        let message = PlanMessage { id, plan, expected_seq, actor, authenticated: None, reason };
        let verdict = self.send(Message::Plan(message)).verdict.unwrap();
        assert_eq!(verdict.outcome, Outcome::Accepted, "{verdict:?}");
    }

    fn command(&self, verb: Verb, actor: &str, reason: &str) -> Command {
        let expected_seq = self.fold.status(&id(), self.now).unwrap().seq;
        let name = format!("command-{}", self.stream.len());
        let (actor, reason) = (actor.to_owned(), reason.to_owned());
        Command { rollout: id(), id: name, expected_seq, actor, authenticated: None, reason, verb }
    }

    /// A command, accepted or not.
    fn try_order(&mut self, verb: Verb) -> Outcome {
        let command = self.command(verb, "ops", "because");
        self.send(Message::Command(command)).verdict.unwrap().outcome
    }

    fn order(&mut self, verb: Verb, actor: &str, reason: &str) {
        let command = self.command(verb, actor, reason);
        let verdict = self.send(Message::Command(command)).verdict.unwrap();
        assert_eq!(verdict.outcome, Outcome::Accepted, "{verdict:?}");
    }

    fn append(&mut self, message: Message) -> Effects {
        let sequence = self.stream.last().map_or(1, |(sequence, ..)| sequence + 1);
        self.stream.push((sequence, self.now, message.clone()));
        self.fold.apply(sequence, self.now, &message)
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
        panic!("decisions do not end");
    }

    fn history(&self, phase: usize) -> History {
        let of = |name: &&str| TenantHistory {
            tenant: tenant(name),
            units: 48_000,
            failures: 480,
            milli_per_minute: 33_333,
            already_enforced: false,
            fallback: true,
            timeout_ms: 30_000,
        };
        let span = Span { from: self.now.minus(24 * HOUR), to: self.now };
        History { rollout: id(), phase, span, tenants: self.names.iter().map(of).collect() }
    }

    fn next_block(&mut self, failing: impl Fn(&TenantId) -> [u64; 2]) -> EvidenceBlock {
        let start = self.now;
        self.now = self.now.plus(HOUR);
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

    /// A window in which all is well, but for a change.
    fn window(&mut self, change: impl FnOnce(&mut EvidenceBlock)) {
        let mut block = self.next_block(|_| [BASE, BASE]);
        change(&mut block);
        self.send(Message::Block(Box::new(block)));
    }

    fn well(&mut self, windows: u64) {
        for _ in 0..windows {
            self.window(|_| {});
        }
    }

    /// A window in which the treated arm of a tenant fails more.
    fn harmful_window(&mut self, of: &str) {
        let of = tenant(of);
        let block = self.next_block(|name| [if *name == of { 6 * BASE } else { BASE }, BASE]);
        self.send(Message::Block(Box::new(block)));
    }

    fn state(&self) -> String {
        self.fold.status(&id(), self.now).unwrap().state
    }

    fn pages(&self) -> BTreeMap<String, String> {
        pages(MADE, &id(), self.stream.iter().cloned())
    }

    fn page(&self, path: &str) -> String {
        let mut pages = self.pages();
        pages.remove(path).unwrap_or_else(|| panic!("no {path} in {:?}", pages.keys()))
    }

    /// A circuit that opens in the window that comes next.
    fn open(&self, name: &str, position: u64, spared: [u64; 2]) -> OpenRecord {
        OpenRecord {
            tenant: tenant(name),
            provider: ProviderId::try_new("p").unwrap(),
            position,
            opened_at: self.now,
            cause: Cause::FailureThresholdExceeded,
            drill: false,
            spared,
            elsewhere: [0, 0],
            threshold_ppm: 500_000,
            base: [10_000, 100],
            open_until: self.now.plus(30_000),
            well_at: Some(self.now),
            closed_at: Some(self.now.plus(30_000)),
            mean_gap_ms: 1,
            slow_ms: 1,
            successes: 1,
        }
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

/// The lines of a section of a page.
fn section(page: &str, title: &str) -> String {
    let head = format!("\n## {title}\n");
    let rest = page.split_once(&head).unwrap_or_else(|| panic!("no section {title} in:\n{page}")).1;
    rest.split("\n## ").next().unwrap().to_owned()
}

/// The first cells of the rows of a section's table.
fn first_cells(section: &str) -> Vec<String> {
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|row| row.split(" | ").next().unwrap().trim_start_matches("| ").to_owned()).collect()
}
