//! Writing down what this worker counts of the requests of tenants that a rollout watches.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::domain::{PolicyId, RouteRequest, arm_hash, is_treated};
use crate::log::{Entry, Fate, MetEntry, StepInForce, TallyEntry, WorkerRun};
use crate::rollout::collector::{Answered, Collector, Pace, Standing};
use crate::rollout::evidence::is_sampled;
use crate::telemetry::labels::Queue;

/// How often the task checks whether a rollout watches a tenant, while none does.
const IDLE: Duration = Duration::from_millis(200);
/// After this a worker whose first tally is not stored serves all the same. Windows until then may lack its evidence.
const ANNOUNCE_PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries to write it.
const RETRY: Duration = Duration::from_millis(250);

/// What is counted and not written yet. The decide threads count for watched tenants only.
#[derive(Debug)]
pub struct SharedCollector {
    collector: Mutex<Collector>,
    /// Whether the log knows of this worker, or need not.
    announced: AtomicBool,
}

impl SharedCollector {
    /// Of this run of a worker.
    #[must_use]
    pub fn new(worker: &str) -> Self {
        let (boot, _) = uuid::Uuid::new_v4().as_u64_pair();
        let collector = Mutex::new(Collector::new(WorkerRun { worker: worker.to_owned(), boot }));
        Self { collector, announced: AtomicBool::new(false) }
    }

    /// Whether this worker may serve tenants that a rollout watches: its first tally is in the log, unless no
    /// rollout was running when it had read the log, or the tally could not be stored in time.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        self.announced.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Collector> {
        self.collector.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker {
    /// Counts a request of a watched tenant that was answered.
    pub(super) fn note_watched(
        &self,
        step: &StepInForce,
        policy_id: &PolicyId,
        request: &RouteRequest<'_>,
        met: Option<Fate>,
    ) {
        let hash = arm_hash(&request.request_id);
        if !is_sampled(hash, step.sample_ppm) {
            return;
        }
        let noted = self.collector.lock().note(&Answered {
            tenant_id: &request.tenant_id,
            policy_id,
            hash,
            treated: is_treated(hash, step.split),
            met,
            retry: request.previous.is_some(),
        });
        if noted.is_err() {
            self.metrics.queue_refused.inc(Queue::Evidence);
        }
    }
}

/// Writes what is due, from when the log has been read, until stopped; then what is left.
pub async fn run(worker: Arc<Worker>, stop: CancellationToken) {
    let mut progress = worker.ledger.progress();
    tokio::select! {
        () = stop.cancelled() => return,
        caught_up = progress.wait_for(|p| p.caught_up) => if caught_up.is_err() { return },
    }
    let mut written = announce(&worker, &stop).await;
    loop {
        let pace = worker.ledger.fold().overlays().pace();
        if let Some(pace) = pace {
            write_due(&worker, pace).await;
            written = true;
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(pace.map_or(IDLE, |pace| Duration::from_millis(pace.met_ms))) => {}
        }
    }
    if written {
        let (met, tally) = worker.collector.lock().end(&standing(&worker));
        write_met(&worker, met).await;
        write_tally(&worker, tally).await;
    }
}

/// Writes the first tally if a rollout is running, so that evidence waits for this worker from before it serves.
/// Returns whether it may have been stored.
async fn announce(worker: &Worker, stop: &CancellationToken) -> bool {
    let pace = worker.ledger.fold().overlays().pace();
    let now = worker.clock.tick();
    let tally = pace.and_then(|pace| worker.collector.lock().tally_due(now, pace, &standing(worker)));
    if let Some(tally) = &tally {
        let stored = async {
            while !write_tally(worker, tally.clone()).await {
                tokio::time::sleep(RETRY).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            _ = tokio::time::timeout(ANNOUNCE_PATIENCE, stored) => {}
        }
    }
    worker.collector.announced.store(true, Ordering::Release);
    tally.is_some()
}

async fn write_due(worker: &Worker, pace: Pace) {
    let now = worker.clock.tick();
    let met = worker.collector.lock().met_due(now, pace);
    write_met(worker, met).await;
    // It counts the entries above, so it comes behind them.
    let tally = worker.collector.lock().tally_due(now, pace, &standing(worker));
    if let Some(tally) = tally {
        write_tally(worker, tally).await;
    }
}

/// The number of an entry that is not stored stays missing, which the evidence fold sees.
async fn write_met(worker: &Worker, entries: Vec<MetEntry>) {
    for entry in entries {
        let unique = format!("met.{}.{}", entry.run.boot, entry.number);
        if let Err(error) = worker.append(&Entry::Met(entry), Some(&unique)).await {
            let error = error.to_string();
            if let Some(stands_for) = worker.line_due("rollout_evidence_lost", &error) {
                tracing::warn!(event = "rollout_evidence_lost", error, stands_for);
            }
        }
    }
}

/// Whether it is stored.
async fn write_tally(worker: &Worker, tally: TallyEntry) -> bool {
    let stored = worker.append(&Entry::Tally(tally), None).await;
    if let Err(error) = &stored {
        // Totals only grow, so the next tally holds these counts too.
        tracing::warn!(event = "rollout_tally_failed", error = %error);
    }
    stored.is_ok()
}

fn standing(worker: &Worker) -> Standing {
    Standing {
        position: worker.verdicts.position(),
        enforcing: worker.state.enforcing(),
        judged: worker.rollouts.judged(),
    }
}
