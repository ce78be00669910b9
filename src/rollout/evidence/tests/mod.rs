//! What the fold promises. `units` holds the vectors of the reference and the rules of units and cuts; `windows`,
//! `workers` and `opens` their parts; `bounds` the limits; `laws` compares random logs with a recount.

mod bounds;
mod laws;
mod model;
mod opens;
mod units;
mod windows;
mod workers;

use std::collections::BTreeMap;

use serde_json::Map;

use super::{Call, CallEnd, EntryFacts, Evidence, EvidenceBlock, TenantRow};
use crate::domain::{Outcome, RolloutId, Stamp, Status, TenantId, arm_hash, scaled};
use crate::log::{
    ArmTotals, At, Entry, EvidenceSettings, Met, MetEntry, OverlaySettings, PolicyEntry, Revision, Share,
    StepEntry, StepNumber, TallyEntry, WorkerRun,
};

/// Before any stamp of a test, so that none is negative.
const EPOCH: u64 = 1_000_000_000;
/// How far a stamp may be behind before fold time is set back, as in the breakers' fold.
const SET_BACK_MS: u64 = 300_000;

fn rollout(id: &str) -> RolloutId {
    RolloutId::try_new(id).unwrap()
}

fn tenant(id: &str) -> TenantId {
    TenantId::try_new(id).unwrap()
}

fn run(worker: &str) -> WorkerRun {
    WorkerRun { worker: worker.to_owned(), boot: 1 }
}

fn settings(block_ms: u64, settle_ms: u64) -> EvidenceSettings {
    EvidenceSettings { block_ms, settle_ms, max_stale_ms: 600_000, sample_ppm: 1_000_000 }
}

fn overlay(tenants: &[(&str, u8, u8)], evidence: EvidenceSettings) -> OverlaySettings {
    let share =
        |(id, percent, split): &(&str, u8, u8)| (tenant(id), Share { percent: *percent, split: *split });
    let tenants = tenants.iter().map(share).collect();
    OverlaySettings { circuit_breaker: Map::new(), tenants, evidence, completed: false }
}

fn step_of(id: &str, n: u64, overlay: Option<OverlaySettings>) -> Entry<'static> {
    Entry::Step(StepEntry { rollout: rollout(id), number: StepNumber { made: 7, n }, at_seq: n, overlay })
}

/// A request id whose hash falls into this bucket of 0 to 99.
fn id_in(bucket: u64, name: &str) -> String {
    (0_u64..).map(|n| format!("{name}-{n}")).find(|id| scaled(arm_hash(id), 100) == bucket).unwrap()
}

/// The rollout `r`, and the log that it reads.
struct Bench {
    evidence: Evidence,
    position: u64,
    now: Stamp,
    numbers: BTreeMap<String, u64>,
}

impl Bench {
    fn new() -> Self {
        Self { evidence: Evidence::default(), position: 0, now: Stamp(EPOCH), numbers: BTreeMap::new() }
    }

    /// A rollout whose first step stands at 0, with windows of 10 s that settle in 2 s, and one worker.
    fn started(tenants: &[(&str, u8, u8)]) -> Self {
        let mut bench = Self::new();
        bench.tally(0, "a");
        bench.step(0, 1, tenants, settings(10_000, 2_000));
        bench.beat(0, 5_000);
        bench
    }

    fn apply_with(&mut self, ms: u64, entry: &Entry<'_>, facts: &EntryFacts<'_>) {
        let stamp = Stamp(EPOCH + ms);
        self.position += 1;
        self.now = if self.now.since(stamp) > SET_BACK_MS { stamp } else { self.now.max(stamp) };
        self.evidence.apply(entry, facts, At { position: self.position, stamp }, self.now);
    }

    fn apply(&mut self, ms: u64, entry: &Entry<'_>) {
        self.apply_with(ms, entry, &EntryFacts::default());
    }

    fn step(&mut self, ms: u64, n: u64, tenants: &[(&str, u8, u8)], evidence: EvidenceSettings) {
        self.apply(ms, &step_of("r", n, Some(overlay(tenants, evidence))));
    }

    fn call(&mut self, ms: u64, whose: &str, id: &str, end: CallEnd, latency_ms: Option<u64>) {
        let status = if end == CallEnd::Succeeded { Status::Success } else { Status::Error };
        let mut outcome = Outcome::of(whose.to_owned(), "p".to_owned(), status, 0);
        outcome.request_id = Some(id.to_owned().into());
        outcome.latency_ms = latency_ms;
        let call = Some(Call { ended: end, probe: false });
        let facts = EntryFacts { call, bounded_opens: true, ..EntryFacts::default() };
        self.apply_with(ms, &Entry::Result(outcome), &facts);
    }

    fn succeed(&mut self, ms: u64, whose: &str, id: &str) {
        self.call(ms, whose, id, CallEnd::Succeeded, None);
    }

    fn fail(&mut self, ms: u64, whose: &str, id: &str) {
        self.call(ms, whose, id, CallEnd::Failed, None);
    }

    fn edit(&mut self, ms: u64, whose: &str) {
        let entry = PolicyEntry {
            tenant_id: tenant(whose),
            policy_id: crate::domain::PolicyId::try_new("p").unwrap(),
            revision: Revision::default(),
            document: None,
            actor: None,
            reason: None,
            authenticated: None,
        };
        self.apply_with(
            ms,
            &Entry::Policy(entry),
            &EntryFacts { policy_changed: true, ..EntryFacts::default() },
        );
    }

    fn met(&mut self, ms: u64, worker: &str, number: u64, whose: &str, met: Vec<Met>) {
        let entry = MetEntry {
            tenant_id: tenant(whose),
            policy_id: crate::domain::PolicyId::try_new("p").unwrap(),
            run: run(worker),
            number,
            met,
        };
        self.apply(ms, &Entry::Met(entry));
    }

    /// A met entry of the worker `a` with its next number.
    fn next_met(&mut self, ms: u64, whose: &str, met: Met) {
        let number = self.numbers.entry("a".to_owned()).or_default();
        *number += 1;
        let number = *number;
        self.met(ms, "a", number, whose, vec![met]);
    }

    /// A tally of a worker that has read all that is there.
    fn tally_of(&self, worker: &str) -> TallyEntry {
        TallyEntry {
            run: run(worker),
            position: self.position,
            met: self.numbers.get(worker).copied().unwrap_or(0),
            enforcing: true,
            judged: BTreeMap::new(),
            tenants: BTreeMap::new(),
            last: false,
        }
    }

    fn tally(&mut self, ms: u64, worker: &str) {
        let entry = self.tally_of(worker);
        self.apply(ms, &Entry::Tally(entry));
    }

    /// Time passes from one moment to another, with a tally of the worker `a` every second.
    fn beat(&mut self, from: u64, to: u64) {
        let mut ms = from;
        while ms < to {
            ms = (ms + 1_000).min(to);
            self.apply(ms, &Entry::Mark);
            self.tally(ms, "a");
        }
    }

    fn blocks(&self) -> Vec<&EvidenceBlock> {
        self.evidence.closed(&rollout("r")).map(|block| &**block).collect()
    }

    fn block(&self, number: u64) -> &EvidenceBlock {
        self.blocks().into_iter().find(|block| block.number == number).unwrap()
    }

    /// Rows with units, each with its window.
    fn rows(&self) -> Vec<(u64, &TenantRow)> {
        let blocks = self.evidence.closed(&rollout("r"));
        let rows = blocks.flat_map(|block| block.rows.iter().map(move |row| (block.number, row)));
        rows.filter(|(_, row)| row.plain != [0; 4] || row.met != [0; 4] || row.no_outcome != [0; 2]).collect()
    }

    /// Plain units of a window, over all rows.
    fn plain(&self, number: u64) -> [u64; 4] {
        let rows = self.block(number).rows.iter().map(|row| row.plain);
        rows.fold([0; 4], |sum, row| std::array::from_fn(|n| sum[n] + row[n]))
    }
}

fn asked(treated: u64, control: u64) -> ArmTotals {
    ArmTotals { asked: [treated, control], ..ArmTotals::default() }
}
