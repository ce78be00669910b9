use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::{RolloutId, Tick};
use crate::log::{StepEntry, StepNumber};
use crate::rollout::controller::{Controllers, Decision, HistoryWanted};
use crate::rollout::evidence::EvidenceBlock;

/// A task that is still there is tried again after this long.
const RETRY_MS: u64 = 1_000;

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
        let running = logged.get(id).is_some_and(|known| known.is_running);
        let end = controllers.ended_by(id).filter(|step| running && behind(step));
        let step = end.or_else(|| controllers.newest_step(id).filter(behind));
        tasks.extend(step.map(|step| Task::Append(step.clone().into())));
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
    // One at a time: a block that comes before its turn is passed over, and the broker drops a copy of it later.
    let mut published = BTreeSet::new();
    for block in closed.iter().filter(|block| block.made == controllers.made() && controllers.takes(block)) {
        if published.insert(&block.rollout) {
            tasks.push(Task::Publish(Arc::clone(block)));
        }
    }
    tasks
}

/// Which tasks were tried, by their names.
#[derive(Debug, Default)]
pub struct Agenda {
    tried: BTreeMap<String, Tried>,
}

#[derive(Clone, Copy, Debug)]
struct Tried {
    at: Tick,
    /// How many copies the broker acknowledged.
    stored: u32,
}

/// A task to try now.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// What.
    pub task: Task,
    /// The name of the try, under which the broker drops copies. A task that is still there though the broker
    /// acknowledged it was not done by that copy: a log that is purged loses it, and the broker goes on dropping
    /// what has its name. So the next try has another name.
    pub name: String,
    /// Names the task in [`Agenda::stored`].
    pub key: DueKey,
}

/// The name of a task, whatever try it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueKey(String);

impl Agenda {
    /// The tasks to try now.
    pub fn due(&mut self, now: Tick, made: i64, tasks: Vec<Task>) -> Vec<Due> {
        let mut before = std::mem::take(&mut self.tried);
        let mut due = Vec::new();
        for task in tasks {
            let key = task.name(made);
            let last = before.remove(&key);
            let waits = last.filter(|tried| now.since(tried.at) < RETRY_MS);
            let stored = last.map_or(0, |tried| tried.stored);
            self.tried.insert(key.clone(), waits.unwrap_or(Tried { at: now, stored }));
            if waits.is_none() {
                let name = if stored == 0 { key.clone() } else { format!("{key}.{stored}") };
                due.push(Due { task, name, key: DueKey(key) });
            }
        }
        due
    }

    /// The broker acknowledged a try.
    pub fn stored(&mut self, key: &DueKey) {
        if let Some(tried) = self.tried.get_mut(&key.0) {
            tried.stored = tried.stored.saturating_add(1);
        }
    }
}
