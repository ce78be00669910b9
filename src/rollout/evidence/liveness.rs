use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::clock::Moment;
use super::windows::Windows;
use super::workers::{Worker, Workers};
use crate::domain::Stamp;
use crate::log::{EvidenceSettings, WorkerRun};

/// The longest time between two tallies of a worker.
pub const TALLY_MS: u64 = 10_000;
/// How many intervals a worker may be silent, or behind.
const SILENT: u64 = 3;
/// Checkpoints of positions to the time that a worker may be behind.
const CHECKPOINTS: u64 = 16;

/// How often workers write tallies.
pub(super) fn tally_interval_ms(settings: &EvidenceSettings) -> u64 {
    settings.block_ms.clamp(1, TALLY_MS)
}

/// For how long a worker may be silent; a longer jump of time is a cut.
pub(super) fn silence_ms(settings: &EvidenceSettings) -> u64 {
    tally_interval_ms(settings).saturating_mul(SILENT)
}

/// Which workers one rollout waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Liveness {
    /// All waits began anew here.
    since: Stamp,
    /// Workers that are not waited for, and from which window on.
    lost: BTreeMap<WorkerRun, u64>,
    /// Positions and when they were reached; at most [`CHECKPOINTS`] and two.
    checkpoints: VecDeque<(Stamp, u64)>,
    /// A worker that has not read this far is too far behind.
    late_below: u64,
    /// Since when nobody is there, and in which window that began.
    nobody: Option<(Stamp, u64)>,
}

impl Liveness {
    pub(super) const fn new(since: Stamp) -> Self {
        Self { since, lost: BTreeMap::new(), checkpoints: VecDeque::new(), late_below: 0, nobody: None }
    }

    /// All waits begin anew.
    pub(super) fn restart(&mut self, time: Stamp) {
        self.since = time;
        self.checkpoints.clear();
        self.late_below = 0;
        self.nobody = self.nobody.map(|(_, from)| (time, from));
    }

    /// Workers that are waited for.
    pub(super) fn live<'w>(&'w self, workers: &'w Workers) -> impl Iterator<Item = &'w Worker> {
        workers.running().filter(|(run, _)| !self.lost.contains_key(run)).map(|(_, worker)| worker)
    }

    /// Whether every live worker has read up to `position`. Where nobody is there, somebody may come for as long
    /// as a worker may be silent.
    pub(super) fn covers(
        &self,
        position: u64,
        time: Stamp,
        settings: &EvidenceSettings,
        workers: &Workers,
    ) -> bool {
        let mut live = self.live(workers).peekable();
        match (live.peek(), self.nobody) {
            (Some(_), _) => live.all(|worker| worker.position >= position),
            (None, Some((since, _))) => time > since.plus(silence_ms(settings)),
            (None, None) => false,
        }
    }

    /// A worker wrote a tally. If it was lost, it is back, unless it is too far behind: the windows between may
    /// lack its evidence.
    pub(super) fn tallied(&mut self, run: &WorkerRun, workers: &Workers, windows: &mut Windows) {
        let late = workers.get(run).is_none_or(|worker| worker.position < self.late_below);
        if !late && let Some(from) = self.lost.remove(run) {
            windows.incomplete.add(from, windows.current());
        }
    }

    /// Looks who is lost, and marks the windows that lack evidence for it.
    pub(super) fn look(
        &mut self,
        moment: Moment,
        settings: &EvidenceSettings,
        workers: &Workers,
        windows: &mut Windows,
    ) {
        self.lost.retain(|run, _| workers.get(run).is_some_and(|worker| !worker.ended));
        self.note_position(moment, silence_ms(settings).saturating_add(settings.settle_ms));
        let silence = silence_ms(settings);
        let (mut anybody, mut enforced) = (false, true);
        for (run, worker) in workers.running() {
            if self.lost.contains_key(run) {
                continue;
            }
            let silent = moment.time > worker.tallied_at.max(self.since).plus(silence);
            if silent || worker.position < self.late_below {
                windows.incomplete.add(windows.first_uncovered(worker.position), windows.current());
                self.lost.insert(run.clone(), windows.current());
                continue;
            }
            anybody = true;
            enforced &= worker.enforcing;
        }
        if anybody {
            self.nobody = None;
            windows.incomplete.end(windows.current());
        } else {
            // A worker that restarts is not there for a moment, and nothing is served then.
            let (since, from) = *self.nobody.get_or_insert((moment.time, windows.current()));
            if moment.time > since.plus(silence) {
                windows.incomplete.begin(from);
            }
        }
        if enforced {
            windows.untreated.end(windows.current());
        } else {
            windows.untreated.begin(windows.current());
        }
    }

    fn note_position(&mut self, moment: Moment, behind_ms: u64) {
        while let Some((reached, position)) = self.checkpoints.front()
            && moment.time >= reached.plus(behind_ms)
        {
            self.late_below = *position;
            self.checkpoints.pop_front();
        }
        let apart = behind_ms / CHECKPOINTS;
        if self.checkpoints.back().is_none_or(|(last, _)| moment.time.since(*last) > apart) {
            self.checkpoints.push_back((moment.time, moment.position));
        }
    }
}
