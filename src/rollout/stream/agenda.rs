use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::{RolloutId, Tick};
use crate::log::{StepEntry, StepNumber};
use crate::rollout::controller::{Controllers, Decision, HistoryWanted};
use crate::rollout::evidence::EvidenceBlock;

/// A task that is still there is tried again after this long.
const RETRY_MS: u64 = 1_000;
/// Blocks of one rollout that are published at a time.
const BLOCKS: usize = 32;

/// What a worker must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Record a decision that is due.
    Record(Box<Decision>),
    /// Append a step that the log lacks.
    Append(Box<StepEntry>),
    /// Count a history from the log and record it.
    Count(HistoryWanted),
    /// Publish the evidence of a closed window.
    Publish(Arc<EvidenceBlock>),
}

impl Task {
    /// The name under which copies are dropped.
    #[must_use]
    pub fn name(&self, made: i64) -> String {
        match self {
            Self::Record(decision) => {
                let Decision { rollout, n, at_seq, .. } = &**decision;
                format!("decision.{made}.{rollout}.{n}.{at_seq}")
            }
            Self::Append(step) => {
                let StepEntry { rollout, number, .. } = &**step;
                format!("step.{}.{rollout}.{}", number.made, number.n)
            }
            Self::Count(HistoryWanted { rollout, phase, to, .. }) => {
                format!("history.{made}.{rollout}.{phase}.{}", to.0)
            }
            Self::Publish(block) => {
                // Where two workers differ, both blocks stand in the stream, and the first one counts.
                let (number, digest) = (block.number, block.digest());
                format!("block.{made}.{}.{number}.{digest:016x}", block.rollout)
            }
        }
    }
}

/// A rollout as the log has reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged {
    /// The newest step.
    pub number: StepNumber,
    /// Whether it lays something over policies.
    pub is_running: bool,
}

/// What there is to do, in the order in which it is best done. `logged` is how the log stands, `closed` holds the
/// closed windows of this worker's evidence, oldest first.
#[must_use]
pub fn tasks(
    controllers: &Controllers,
    logged: &BTreeMap<RolloutId, Logged>,
    closed: &[Arc<EvidenceBlock>],
) -> Vec<Task> {
    let mut tasks = Vec::new();
    for id in controllers.ids() {
        let behind = |step: &&StepEntry| logged.get(id).is_none_or(|known| known.number < step.number);
        tasks
            .extend(controllers.newest_step(id).filter(behind).map(|step| Task::Append(step.clone().into())));
        tasks.extend(controllers.pending(id).map(|decision| Task::Record(decision.clone().into())));
        tasks.extend(controllers.history_wanted(id).map(Task::Count));
    }
    // The stream was made anew: what its predecessor laid over policies has nobody that judges it.
    for (id, known) in logged {
        let orphaned = known.is_running && known.number.made < controllers.made();
        if orphaned && controllers.newest_step(id).is_none() {
            let number = StepNumber { made: controllers.made(), n: 0 };
            let at_seq = controllers.applied();
            tasks.push(Task::Append(StepEntry { rollout: id.clone(), number, at_seq, overlay: None }.into()));
        }
    }
    let judged: BTreeMap<_, _> = controllers.judged().collect();
    let mut published: BTreeMap<&RolloutId, usize> = BTreeMap::new();
    for block in closed.iter().filter(|block| block.made == controllers.made()) {
        let last = judged.get(&block.rollout);
        // Numbers begin again where the log was made anew.
        let is_missing = last.is_none_or(|last| block.number > last.number || block.start >= last.end);
        let count = published.entry(&block.rollout).or_default();
        if is_missing && *count < BLOCKS {
            *count += 1;
            tasks.push(Task::Publish(Arc::clone(block)));
        }
    }
    tasks
}

/// When each task was tried last.
#[derive(Debug, Default)]
pub struct Agenda {
    tried: BTreeMap<String, Tick>,
}

impl Agenda {
    /// The tasks to try now, with their names.
    pub fn due(&mut self, now: Tick, made: i64, tasks: Vec<Task>) -> Vec<(String, Task)> {
        let named: Vec<_> = tasks.into_iter().map(|task| (task.name(made), task)).collect();
        let mut before = std::mem::take(&mut self.tried);
        let mut due = Vec::new();
        for (name, task) in named {
            let last = before.remove(&name).filter(|last| now.since(*last) < RETRY_MS);
            self.tried.insert(name.clone(), last.unwrap_or(now));
            if last.is_none() {
                due.push((name, task));
            }
        }
        due
    }
}
