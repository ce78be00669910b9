use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::clock::Moment;
use crate::domain::{RolloutId, Stamp, TenantId};
use crate::log::{JudgedWindow, TallyEntry, WorkerRun};

/// How many runs of workers are known at once. Beyond that an ended one is forgotten first, then the one whose
/// last tally is oldest.
pub const MAX_RUNS: usize = 256;
/// How many met entries of one run may come before one with a lower number. One more than that counts as missing.
const MAX_AHEAD: usize = 1_024;

/// What all rollouts know of the workers: what their tallies say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Workers {
    runs: BTreeMap<WorkerRun, Worker>,
    /// Runs that were forgotten though they had not ended.
    pub(super) forgotten: u64,
}

/// One run of a worker, by its last tally.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Worker {
    pub(super) tallied_at: Stamp,
    /// How far it had read the log.
    pub(super) position: u64,
    pub(super) enforcing: bool,
    pub(super) ended: bool,
    pub(super) judged: BTreeMap<RolloutId, u64>,
    /// Running totals of requests by tenant and arm; empty once it has ended.
    asked: BTreeMap<TenantId, [u64; 2]>,
    met: MetNumbers,
}

/// What a tally adds to what was known.
#[derive(Debug, Default)]
pub(super) struct Tallied {
    /// Requests since the run's last tally, by tenant and arm.
    pub(super) asked: Vec<(TenantId, [u64; 2])>,
    /// When all met entries of the run were last known to be there, if one is missing now.
    pub(super) missing_since: Option<Stamp>,
}

impl Workers {
    /// Takes a tally. `None` if it changes nothing: it is a copy of an earlier one, or says that its worker has
    /// read what was not written yet.
    pub(super) fn tally(&mut self, entry: &TallyEntry, moment: Moment) -> Option<Tallied> {
        if entry.position >= moment.position {
            return None;
        }
        let Some(worker) = self.runs.get_mut(&entry.run) else {
            self.make_room();
            self.runs.insert(entry.run.clone(), Worker::new(entry, moment.time));
            return Some(Tallied::default());
        };
        // A worker that reads on is further at each tally, by its own last one at least.
        if worker.ended || (entry.position <= worker.position && !entry.last) {
            return None;
        }
        Some(worker.tally(entry, moment.time))
    }

    /// Takes note of a met entry's number. `false` if its run is not known.
    pub(super) fn met(&mut self, run: &WorkerRun, number: u64) -> bool {
        let known = self.runs.get_mut(run);
        known.is_some_and(|worker| {
            worker.met.note(number);
            true
        })
    }

    pub(super) fn get(&self, run: &WorkerRun) -> Option<&Worker> {
        self.runs.get(run)
    }

    /// Those that have not ended, in the order of their names.
    pub(super) fn running(&self) -> impl Iterator<Item = (&WorkerRun, &Worker)> {
        self.runs.iter().filter(|(_, worker)| !worker.ended)
    }

    fn make_room(&mut self) {
        if self.runs.len() < MAX_RUNS {
            return;
        }
        let oldest = self.runs.iter().min_by_key(|(_, worker)| (!worker.ended, worker.tallied_at));
        if let Some((run, ended)) = oldest.map(|(run, worker)| (run.clone(), worker.ended)) {
            self.runs.remove(&run);
            self.forgotten = self.forgotten.saturating_add(u64::from(!ended));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }
}

fn numbers(judged: &BTreeMap<RolloutId, JudgedWindow>) -> BTreeMap<RolloutId, u64> {
    judged.iter().map(|(rollout, window)| (rollout.clone(), window.number)).collect()
}

impl Worker {
    /// By its first tally. What it counted before is not known to be of this log, so it begins from there.
    fn new(entry: &TallyEntry, time: Stamp) -> Self {
        let mut worker = Self {
            tallied_at: time,
            position: entry.position,
            enforcing: entry.enforcing,
            ended: entry.last,
            judged: numbers(&entry.judged),
            asked: BTreeMap::new(),
            met: MetNumbers { through: entry.met, ahead: BTreeSet::new(), whole_at: time },
        };
        worker.growth(entry);
        worker
    }

    fn tally(&mut self, entry: &TallyEntry, time: Stamp) -> Tallied {
        self.tallied_at = time;
        self.position = self.position.max(entry.position);
        self.enforcing = entry.enforcing;
        self.ended = entry.last;
        self.judged = numbers(&entry.judged);
        Tallied { asked: self.growth(entry), missing_since: self.met.missing(entry.met, time) }
    }

    /// What was asked since the last tally. A total that is less than before began anew.
    fn growth(&mut self, entry: &TallyEntry) -> Vec<(TenantId, [u64; 2])> {
        let mut growth = Vec::new();
        let mut asked = BTreeMap::new();
        for (tenant, totals) in &entry.tenants {
            let before = self.asked.get(tenant).copied().unwrap_or_default();
            let since = |arm: Option<(&u64, &u64)>| {
                arm.map_or(0, |(now, before)| now.checked_sub(*before).unwrap_or(*now))
            };
            let mut arms = totals.asked.iter().zip(&before);
            growth.push((tenant.clone(), [since(arms.next()), since(arms.next())]));
            asked.insert(tenant.clone(), totals.asked);
        }
        self.asked = if self.ended { BTreeMap::new() } else { asked };
        growth
    }
}

/// Which met entries of a run are there. They may change places between two tallies; a tally says how many were
/// written before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct MetNumbers {
    /// All up to this one are there, or known to be missing.
    through: u64,
    /// Those after it that are there.
    ahead: BTreeSet<u64>,
    /// The last tally.
    whole_at: Stamp,
}

impl MetNumbers {
    fn note(&mut self, number: u64) {
        if number > self.through && self.ahead.len() < MAX_AHEAD {
            self.ahead.insert(number);
            self.join();
        }
    }

    fn missing(&mut self, written: u64, time: Stamp) -> Option<Stamp> {
        let since = std::mem::replace(&mut self.whole_at, time);
        let missing = self.through < written;
        if missing {
            self.through = written;
            self.ahead = self.ahead.split_off(&written.saturating_add(1));
            self.join();
        }
        missing.then_some(since)
    }

    fn join(&mut self) {
        while self.ahead.first() == Some(&self.through.saturating_add(1)) {
            self.ahead.pop_first();
            self.through = self.through.saturating_add(1);
        }
    }
}
