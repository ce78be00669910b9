//! Random logs, and a recount of them by request id: over the whole list of entries, without a fold, a window
//! that closes or a queue.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{EPOCH, asked, overlay, rollout, run, settings, tenant};
use crate::domain::{Outcome, PolicyId, Stamp, Status, arm_hash, is_treated};
use crate::log::{
    At, Entry, EvidenceSettings, Fate, Met, MetEntry, PolicyEntry, Revision, StepEntry, StepNumber,
    TallyEntry,
};
use crate::rollout::evidence::{Call, CallEnd, EntryFacts, Evidence, is_sampled};

pub(super) const TENANTS: [&str; 3] = ["t", "u", "v"];
pub(super) const WORKERS: [&str; 2] = ["a", "b"];
/// Tallies come at least so often; windows of a second allow one second.
const BEAT_MS: u64 = 700;

/// The settings of the rollout `r`, which has `t` and `u`, and of `s`, which has `v`.
pub(super) fn settings_of(id: &str) -> EvidenceSettings {
    let (block, settle) = if id == "r" { (1_000, 1_500) } else { (2_000, 900) };
    EvidenceSettings { sample_ppm: 900_000, ..settings(block, settle) }
}

#[derive(Clone, Debug)]
pub(super) enum Event {
    Call { tenant: &'static str, id: String, end: CallEnd, latency_ms: Option<u64>, copy: bool },
    Met { tenant: &'static str, worker: usize, number: u64, met: Vec<(String, Fate, bool)> },
    Tally(TallyEntry),
    Step { id: &'static str, n: u64, split: u8, evidence: EvidenceSettings },
    Edit { tenant: &'static str, changed: bool },
    Mark,
}

#[derive(Clone, Debug)]
pub(super) struct Logged {
    pub(super) stamp: u64,
    /// Even, so that copies find a place between.
    pub(super) position: u64,
    pub(super) event: Event,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Call { tenant: usize, id: u8, end: CallEnd, latency_ms: Option<u64>, copy: bool },
    Met { tenant: usize, id: u8, fate: Fate, retry: bool, worker: usize },
    Step { id: &'static str, up: bool, split: u8 },
    Edit { tenant: usize },
    Jump,
    SetBack,
    Pause,
}

pub(super) fn acts(most: usize) -> impl Strategy<Value = Vec<(u64, Act)>> {
    let end =
        prop_oneof![4 => Just(CallEnd::Succeeded), 3 => Just(CallEnd::Failed), 1 => Just(CallEnd::Neutral)];
    let latency = prop_oneof![Just(None), (0_u64..2_000).prop_map(Some)];
    let fate =
        prop_oneof![Just(Fate::NoProvider), Just(Fate::FellBack), Just(Fate::Probed), Just(Fate::Spared)];
    let call = (0_usize..3, 0_u8..60, end, latency, prop::bool::weighted(0.1))
        .prop_map(|(tenant, id, end, latency_ms, copy)| Act::Call { tenant, id, end, latency_ms, copy });
    let met = (0_usize..3, 0_u8..60, fate, any::<bool>(), 0_usize..2)
        .prop_map(|(tenant, id, fate, retry, worker)| Act::Met { tenant, id, fate, retry, worker });
    let step = (prop::bool::ANY, prop::bool::weighted(0.8), 0_u8..101)
        .prop_map(|(first, up, split)| Act::Step { id: if first { "r" } else { "s" }, up, split });
    let act = prop_oneof![
        60 => call,
        25 => met,
        1 => step,
        1 => (0_usize..3).prop_map(|tenant| Act::Edit { tenant }),
        1 => Just(Act::Jump),
        1 => Just(Act::SetBack),
        5 => Just(Act::Pause),
    ];
    let gap = prop_oneof![3 => Just(0_u64), 5 => 1_u64..60, 2 => 60_u64..250];
    vec((gap, act), 1..most)
}

/// The log of what was drawn: with tallies in time, and time enough at its end for all windows to close.
pub(super) fn logged(acts: &[(u64, Act)], block_of: impl Fn(u64) -> EvidenceSettings) -> Vec<Logged> {
    let mut log = Writer { stamp: EPOCH + 10_000_000, ..Writer::default() };
    log.tallies();
    log.steps = [1, 1];
    for id in ["r", "s"] {
        log.push(Event::Step { id, n: 1, split: 50, evidence: settings_of(id) });
    }
    for (gap, act) in acts {
        log.pass(*gap);
        log.act(act, &block_of);
    }
    for _ in 0..30 {
        log.pass(250);
        log.push(Event::Mark);
    }
    log.log
}

#[derive(Default)]
struct Writer {
    log: Vec<Logged>,
    stamp: u64,
    tallied: u64,
    met: [u64; 2],
    asked: [BTreeMap<&'static str, [u64; 2]>; 2],
    steps: [u64; 2],
}

impl Writer {
    fn push(&mut self, event: Event) {
        let position = 2 * (self.log.len() as u64 + 1);
        self.log.push(Logged { stamp: self.stamp, position, event });
    }

    fn pass(&mut self, ms: u64) {
        self.stamp += ms;
        if self.stamp - self.tallied >= BEAT_MS {
            self.tallies();
        }
    }

    fn tallies(&mut self) {
        self.tallied = self.stamp;
        for (n, worker) in WORKERS.iter().enumerate() {
            // The second worker reads a little behind.
            let read = 2 * (self.log.len() as u64).saturating_sub(2 * n as u64);
            let totals = self.asked[n].iter().map(|(t, [x, y])| (tenant(t), asked(*x, *y))).collect();
            self.push(Event::Tally(TallyEntry {
                run: run(worker),
                position: read,
                met: self.met[n],
                enforcing: true,
                judged: BTreeMap::new(),
                tenants: totals,
                last: false,
            }));
        }
    }

    fn act(&mut self, act: &Act, block_of: impl Fn(u64) -> EvidenceSettings) {
        match act {
            Act::Call { tenant, id, end, latency_ms, copy } => {
                let arms = self.asked[usize::from(*id) % 2].entry(TENANTS[*tenant]).or_default();
                arms[usize::from(*id) / 2 % 2] += 1;
                self.push(Event::Call {
                    tenant: TENANTS[*tenant],
                    id: format!("id-{id}"),
                    end: *end,
                    latency_ms: *latency_ms,
                    copy: *copy,
                });
            }
            Act::Met { tenant, id, fate, retry, worker } => {
                self.met[*worker] += 1;
                let met = vec![(format!("id-{id}"), *fate, *retry)];
                let number = self.met[*worker];
                self.push(Event::Met { tenant: TENANTS[*tenant], worker: *worker, number, met });
            }
            Act::Step { id, up, split } => {
                let n = &mut self.steps[usize::from(*id == "s")];
                *n += u64::from(*up);
                let n = *n;
                let own = settings_of(id);
                let drawn = block_of(u64::from(*split));
                let evidence = if drawn.block_ms == 0 { own } else { drawn };
                self.push(Event::Step { id, n, split: *split, evidence });
            }
            Act::Edit { tenant } => self.push(Event::Edit { tenant: TENANTS[*tenant], changed: true }),
            Act::Jump => {
                self.stamp += 20_000;
                self.tallied = self.stamp;
                self.push(Event::Mark);
                self.tallies();
            }
            Act::SetBack => {
                self.stamp -= 400_000;
                self.tallied = self.stamp;
                self.push(Event::Mark);
                self.tallies();
            }
            Act::Pause => self.push(Event::Mark),
        }
    }
}

/// Gives one entry to a fold. `now` is fold time.
pub(super) fn give(evidence: &mut Evidence, logged: &Logged, now: &mut u64) {
    *now = if logged.stamp + 300_000 < *now { logged.stamp } else { logged.stamp.max(*now) };
    let at = At { position: logged.position, stamp: Stamp(logged.stamp) };
    let mut facts = EntryFacts::default();
    let entry = match &logged.event {
        Event::Call { tenant, id, end, latency_ms, copy } => {
            let mut outcome = Outcome::of(*tenant, "p", Status::Error, 0);
            outcome.request_id = Some(id.clone().into());
            outcome.latency_ms = *latency_ms;
            facts.call = (!copy).then_some(Call { ended: *end, probe: false });
            Entry::Result(outcome)
        }
        Event::Met { tenant: whose, worker, number, met } => Entry::Met(MetEntry {
            tenant_id: tenant(whose),
            policy_id: PolicyId::try_new("p").unwrap(),
            run: run(WORKERS[*worker]),
            number: *number,
            met: met
                .iter()
                .map(|(id, fate, retry)| Met { hash: arm_hash(id), fate: *fate, retry: *retry })
                .collect(),
        }),
        Event::Tally(entry) => Entry::Tally(entry.clone()),
        Event::Step { id, n, split, evidence } => {
            let shares: &[(&str, u8, u8)] =
                if *id == "r" { &[("t", 1, *split), ("u", 1, *split)] } else { &[("v", 1, *split)] };
            let overlay = Some(overlay(shares, *evidence));
            Entry::Step(StepEntry {
                rollout: rollout(id),
                number: StepNumber { made: 7, n: *n },
                at_seq: *n,
                overlay,
            })
        }
        Event::Edit { tenant: whose, changed } => {
            facts.policy_changed = *changed;
            Entry::Policy(PolicyEntry {
                tenant_id: tenant(whose),
                policy_id: PolicyId::try_new("p").unwrap(),
                revision: Revision::default(),
                document: None,
                actor: None,
                reason: None,
                authenticated: None,
            })
        }
        Event::Mark => Entry::Mark,
    };
    evidence.apply(&entry, &facts, at, Stamp(*now));
}

pub(super) fn folded(log: &[Logged]) -> Evidence {
    let mut evidence = Evidence::default();
    let mut now = 0;
    log.iter().for_each(|logged| give(&mut evidence, logged, &mut now));
    evidence
}

/// The counts of one row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) step: u64,
    pub(super) split: u8,
    pub(super) plain: [u64; 4],
    pub(super) met: [u64; 4],
    pub(super) asked: [u64; 2],
    pub(super) no_outcome: [u64; 2],
    pub(super) with_latency: [u64; 2],
}

/// A cut: the entry, and whether units that are due there had settled before.
#[derive(Clone, Copy)]
struct Cut {
    index: usize,
    settled_before: bool,
}

/// A recount of one rollout.
pub(super) struct Recount<'l> {
    log: &'l [Logged],
    times: Vec<u64>,
    evidence: EvidenceSettings,
    /// Steps that count: entry, number, split.
    steps: Vec<(usize, u64, u8)>,
    jumps: Vec<Cut>,
    /// Rows by window, tenant and the entry of the last cut.
    pub(super) rows: BTreeMap<(u64, &'static str, usize), Counted>,
    /// Dropped units by window.
    pub(super) dropped: BTreeMap<u64, u64>,
}

impl<'l> Recount<'l> {
    pub(super) fn of(log: &'l [Logged], id: &str) -> Self {
        let evidence = settings_of(id);
        let mut steps: Vec<(usize, u64, u8)> = Vec::new();
        let mut times = Vec::new();
        let mut jumps = Vec::new();
        let mut time = 0;
        for (index, logged) in log.iter().enumerate() {
            let before = index.checked_sub(1).map_or(logged.stamp, |i| log[i].stamp);
            let passed = logged.stamp.saturating_sub(before);
            time += passed;
            times.push(time);
            let silence = 3 * evidence.block_ms.min(10_000);
            if (passed > silence || logged.stamp < before) && !steps.is_empty() {
                jumps.push(Cut { index, settled_before: false });
            }
            if let Event::Step { id: whose, n, split, .. } = &logged.event
                && *whose == id
                && steps.last().is_none_or(|(_, known, _)| n > known)
            {
                steps.push((index, *n, *split));
            }
        }
        let mut recount =
            Self { log, times, evidence, steps, jumps, rows: BTreeMap::new(), dropped: BTreeMap::new() };
        for tenant in if id == "r" { &TENANTS[..2] } else { &TENANTS[2..] } {
            recount.units_of(tenant);
            recount.asked_of(tenant);
        }
        recount
    }

    fn cuts_of(&self, tenant: &str) -> Vec<Cut> {
        let edited = |(index, logged): (usize, &Logged)| match &logged.event {
            Event::Edit { tenant: whose, changed: true } if *whose == tenant && index > self.steps[0].0 => {
                Some(index)
            }
            _ => None,
        };
        let edits = self.log.iter().enumerate().filter_map(edited);
        let steps = self.steps.iter().map(|(index, ..)| *index);
        let mut cuts: Vec<Cut> =
            edits.chain(steps).map(|index| Cut { index, settled_before: true }).collect();
        cuts.extend(&self.jumps);
        cuts.sort_by_key(|cut| cut.index);
        cuts
    }

    fn is_cut(&self, cuts: &[Cut], index: usize) -> bool {
        let settling = |cut: &Cut| {
            let before = if cut.settled_before { cut.index < index } else { cut.index <= index };
            before && self.times[index] < self.times[cut.index] + self.evidence.settle_ms
        };
        let step = self.steps.iter().rev().find(|(step, ..)| *step < index).map(|(step, ..)| *step);
        let read = |step: usize| {
            WORKERS.iter().all(|worker| {
                self.log[..index].iter().any(|logged| match &logged.event {
                    Event::Tally(entry) => {
                        entry.run.worker == *worker && entry.position >= self.log[step].position
                    }
                    _ => false,
                })
            })
        };
        cuts.iter().any(settling) || step.is_some_and(|step| !read(step))
    }

    fn row(&mut self, tenant: &'static str, cuts: &[Cut], index: usize) -> &mut Counted {
        let window = self.window(index);
        let cut = cuts.iter().rev().find(|cut| cut.index <= index).unwrap().index;
        let (_, step, split) = *self.steps.iter().rev().find(|(step, ..)| *step <= index).unwrap();
        let row = self.rows.entry((window, tenant, cut)).or_default();
        (row.step, row.split) = (step, split);
        row
    }

    fn window(&self, index: usize) -> u64 {
        (self.times[index] - self.times[self.steps[0].0]) / self.evidence.block_ms
    }

    fn units_of(&mut self, tenant: &'static str) {
        let cuts = self.cuts_of(tenant);
        let mut units: BTreeMap<&str, Vec<Vec<usize>>> = BTreeMap::new();
        for (index, logged) in self.log.iter().enumerate().skip(self.steps[0].0 + 1) {
            let ids: Vec<&str> = match &logged.event {
                Event::Call { tenant: whose, id, copy: false, .. } if *whose == tenant => vec![id],
                Event::Met { tenant: whose, met, .. } if *whose == tenant => {
                    met.iter().map(|(id, ..)| id.as_str()).collect()
                }
                _ => continue,
            };
            for id in ids.into_iter().filter(|id| is_sampled(arm_hash(id), self.evidence.sample_ppm)) {
                let of = units.entry(id).or_default();
                let age = of.last().map(|unit| self.times[index] - self.times[unit[0]]);
                match age {
                    Some(age) if age < self.evidence.settle_ms => of.last_mut().unwrap().push(index),
                    Some(age) if age < 10 * self.evidence.settle_ms => {}
                    _ => of.push(vec![index]),
                }
            }
        }
        for (id, units) in units {
            for unit in units {
                self.unit(tenant, id, &unit, &cuts);
            }
        }
    }

    fn unit(&mut self, tenant: &'static str, id: &str, entries: &[usize], cuts: &[Cut]) {
        let first = entries[0];
        let due = self.times[first] + self.evidence.settle_ms;
        let cut_later = cuts.iter().filter(|cut| cut.index > first).any(|cut| {
            let looked = if cut.settled_before { cut.index } else { cut.index - 1 };
            self.times[looked] < due
        });
        if cut_later || self.is_cut(cuts, first) {
            *self.dropped.entry(self.window(first)).or_default() += 1;
            return;
        }
        let (mut met, mut success, mut failed, mut latency) = (false, false, false, false);
        for index in entries {
            match &self.log[*index].event {
                Event::Call { end, latency_ms, .. } => {
                    success |= *end == CallEnd::Succeeded;
                    failed |= *end == CallEnd::Failed;
                    latency |= latency_ms.is_some();
                }
                Event::Met { met: list, .. } => {
                    for (_, fate, retry) in list {
                        met |= !retry;
                        failed |= *fate == Fate::NoProvider;
                    }
                }
                _ => unreachable!(),
            }
        }
        let row = self.row(tenant, cuts, first);
        let arm = usize::from(!is_treated(arm_hash(id), row.split));
        if !success && !failed {
            row.no_outcome[arm] += 1;
            return;
        }
        let cells = if met { &mut row.met } else { &mut row.plain };
        cells[2 * arm] += 1;
        cells[2 * arm + 1] += u64::from(!success);
        row.with_latency[arm] += u64::from(success && latency);
    }

    fn asked_of(&mut self, whose: &'static str) {
        let cuts = self.cuts_of(whose);
        for worker in WORKERS {
            let mut last = None;
            for (index, logged) in self.log.iter().enumerate() {
                let Event::Tally(entry) = &logged.event else { continue };
                if entry.run.worker != worker {
                    continue;
                }
                let totals = entry.tenants.get(&tenant(whose)).map_or([0; 2], |totals| totals.asked);
                let before: Option<[u64; 2]> = last.replace(totals);
                let begun = index > self.steps[0].0;
                let Some(before) = before.filter(|before| begun && *before != totals) else { continue };
                if !self.is_cut(&cuts, index) {
                    let row = self.row(whose, &cuts, index);
                    (0..2).for_each(|arm| row.asked[arm] += totals[arm] - before[arm]);
                }
            }
        }
    }
}
