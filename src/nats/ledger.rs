//! Reading the log: the one task that applies entries.
//!
//! The reader makes an ephemeral push consumer after the last entry it applied and checks everything
//! itself, because the library's ordered consumer begins again at 1 in some reconnects and skips the
//! first entries of a stream made anew. An entry at or below the last applied is dropped. A gap is a
//! fault: the consumer is made anew, and if the entries are gone for good (deleted one by one), that
//! is counted and passed. After each reconnect, and whenever the stream looks odd, its identity is
//! checked: made at the same moment, not purged past us, and the last entry applied still bears its
//! stamp. If not, all is rebuilt from what the log holds now.
//!
//! The watchdog asks for the stream's state each second. It reports whether the log can be reached (`reach`),
//! measures the broker's clock, and sees a stream that is ahead while nothing comes.

mod closed;
mod reach;
mod reader;
mod taken;
mod told;
mod watchdog;

pub use closed::ClosedBlocks;
pub use reader::run;
pub(super) use reader::{read as read_entry, read_under as read_entry_under};
pub use taken::Taken;
pub use watchdog::{Health, watch as run_watchdog};
pub(super) use watchdog::{nanos_of, stamp_of};

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::domain::{PolicyId, Stamp, TenantId, Tick};
use crate::ledger::{FlagRecord, Flags, Fold, Newest, Register, Verdicts, What};
use crate::log::{FoldVersion, Revision, Scope};
use crate::nats::snapshots::Compared;
use crate::nats::streams::ResultsGate;
use crate::state::State;
use crate::telemetry::Metrics;

/// How far the reader is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last entry applied.
    pub position: u64,
    /// How often the state was rebuilt from the log's beginning.
    pub rebuilds: u64,
    /// When the stream that is read was made, in nanoseconds since the Unix epoch; 0 before it is known.
    pub made: i128,
    /// The connection (`link::Connection::epoch`) over which that stream was found to be the one that was read so far.
    pub epoch: u64,
    /// Whether the entries that stood when it began have been applied.
    pub caught_up: bool,
}

/// The fold and those who wait for it.
#[derive(Debug)]
pub struct Ledger {
    fold: Mutex<Fold>,
    progress: watch::Sender<Progress>,
    health: watch::Sender<Health>,
    closed: watch::Sender<ClosedBlocks>,
    changes: Mutex<taken::Changes>,
    /// Whether the buckets were compared with this fold. Written under the lock of `progress`.
    complete: AtomicBool,
    lacking: Notify,
    /// Whether a key of a bucket was found in an older state than the log has seen.
    older: AtomicBool,
    fold_version: AtomicU32,
    /// Behind which entry results are known by a key.
    keyed_since: AtomicU64,
    /// The tick at which the state was last known to be the log's.
    fresh: AtomicU64,
    lost: Mutex<Lost>,
    /// Whether results enter the log.
    pub results: ResultsGate,
    /// The last snapshot that was compared with the one recorded.
    pub(super) compared: watch::Sender<Option<Compared>>,
    /// The position at which this worker differs from what is recorded, once it is to make its state anew.
    pub(super) remake: watch::Sender<Option<u64>>,
}

/// What was in force before a rebuild.
#[derive(Debug, Default)]
struct Lost {
    policies: Vec<Held>,
    flags: Vec<(Scope, FlagRecord)>,
}

/// A policy in force.
#[derive(Clone, Debug)]
pub struct Held {
    /// Whose.
    pub tenant_id: TenantId,
    /// Which.
    pub policy_id: PolicyId,
    /// Its revision.
    pub revision: Revision,
    /// As it was put.
    pub document: Arc<serde_json::Value>,
}

impl Ledger {
    /// Notes the version of the fold, for those who must not wait for it.
    pub(in crate::nats) fn note_fold_version(&self, fold: &Fold, metrics: &Metrics) {
        self.fold_version.store(fold.version().0, Ordering::Release);
        self.keyed_since.store(fold.keyed_since().unwrap_or(u64::MAX), Ordering::Release);
        metrics.fold_version.set(u64::from(fold.version().0));
    }

    /// The version of the fold; that of a log without any before one is read.
    pub fn fold_version(&self) -> FoldVersion {
        FoldVersion(self.fold_version.load(Ordering::Acquire)).max(FoldVersion::FIRST)
    }

    /// Whether the result at a place of the log is known by a key.
    pub(in crate::nats) fn is_keyed(&self, position: u64) -> bool {
        position > self.keyed_since.load(Ordering::Acquire)
    }

    /// An empty fold over a state.
    #[must_use]
    pub fn new(state: Arc<State>, verdicts: Arc<Verdicts>) -> Self {
        Self {
            fold: Mutex::new(Fold::new(state, verdicts)),
            progress: watch::Sender::new(Progress::default()),
            health: watch::Sender::new(Health::default()),
            closed: watch::Sender::new(ClosedBlocks::default()),
            changes: Mutex::default(),
            complete: AtomicBool::new(false),
            lacking: Notify::new(),
            older: AtomicBool::new(false),
            fold_version: AtomicU32::new(0),
            keyed_since: AtomicU64::new(u64::MAX),
            fresh: AtomicU64::new(0),
            lost: Mutex::default(),
            results: ResultsGate::default(),
            compared: watch::Sender::new(None),
            remake: watch::Sender::new(None),
        }
    }

    /// The fold, for a moment: the reader takes it for each batch of entries.
    pub fn fold(&self) -> MutexGuard<'_, Fold> {
        // A reader that died mid-way ends the process.
        self.fold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the reader.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// When the state was last known to be the log's.
    #[must_use]
    pub fn fresh(&self) -> Tick {
        Tick(self.fresh.load(Ordering::Relaxed))
    }

    /// Follows the watchdog.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Follows the closed windows of rollouts that are not judged. It changes when they do.
    #[must_use]
    pub fn closed_blocks(&self) -> watch::Receiver<ClosedBlocks> {
        self.closed.subscribe()
    }

    /// Says that the fold is replaced by a fresh one. Before it is, so that nobody takes the empty state
    /// for what is in force.
    fn note_rebuild(&self) {
        let (policies, flags) = {
            let fold = self.fold();
            (in_force(fold.register()), set(fold.flags()))
        };
        {
            let mut lost = self.lost();
            if !policies.is_empty() {
                lost.policies = policies;
            }
            if !flags.is_empty() {
                lost.flags = flags;
            }
        }
        self.progress.send_modify(|p| {
            *p = Progress { rebuilds: p.rebuilds + 1, ..Progress::default() };
            self.complete.store(false, Ordering::Release);
        });
    }

    /// Says that the buckets were compared with the fold that came of so many rebuilds.
    pub fn note_compared(&self, rebuilds: u64) {
        self.progress.send_if_modified(|p| {
            if p.rebuilds == rebuilds {
                self.complete.store(true, Ordering::Release);
                // All that is in force stands in the fold from here on.
                *self.lost() = Lost::default();
            }
            false
        });
    }

    /// The policies in force, and those that were before a rebuild that has not been compared since: a
    /// broker that lost its store lost the bucket too, and then this worker's memory is all there is.
    #[must_use]
    pub fn in_force(&self) -> Vec<Held> {
        let mut known = in_force(self.fold().register());
        if !self.is_complete() {
            known.extend(self.lost().policies.iter().cloned());
        }
        known
    }

    /// The switches that were ever set, likewise.
    #[must_use]
    pub fn flags_set(&self) -> Vec<(Scope, FlagRecord)> {
        let mut known = set(self.fold().flags());
        if !self.is_complete() {
            known.extend(self.lost().flags.iter().cloned());
        }
        known
    }

    /// The greatest revision of the bucket of policies that this worker knows of.
    #[must_use]
    pub fn newest_policy(&self) -> Newest {
        let newest = self.fold().register().newest();
        self.or_lost(newest, |lost| lost.policies.iter().map(|held| held.revision).max())
    }

    /// The greatest revision of the bucket of switches that this worker knows of.
    #[must_use]
    pub fn newest_flag(&self) -> Newest {
        let newest = self.fold().flags().newest();
        self.or_lost(newest, |lost| lost.flags.iter().map(|(_, flag)| flag.revision).max())
    }

    fn or_lost(&self, newest: Newest, of: impl FnOnce(&Lost) -> Option<Revision>) -> Newest {
        let lost = if self.is_complete() { None } else { of(&self.lost()) };
        match lost.filter(|lost| *lost > newest.revision) {
            // Nobody knows when it was seen; the memory of it is newer than any backup.
            Some(revision) => Newest { revision, at: Stamp(u64::MAX) },
            None => newest,
        }
    }

    /// Takes note of what the fold did with an entry.
    fn note_change(&self, position: u64, what: &What) {
        self.changes().note(position, what);
    }

    /// What the fold did with the change at a place of the log that was passed; `None` where that is no
    /// longer remembered.
    #[must_use]
    pub fn taken(&self, position: u64) -> Option<Taken> {
        self.changes().at(position)
    }

    fn changes(&self) -> MutexGuard<'_, taken::Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self) -> MutexGuard<'_, Lost> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that a change stands in a bucket and may not have come into the log.
    pub fn note_lacking(&self) {
        self.lacking.notify_one();
    }

    /// Says that a key of a bucket stands in an older state than the log has seen: the buckets are to be
    /// compared whole.
    pub fn note_older(&self) {
        self.older.store(true, Ordering::Release);
        self.note_lacking();
    }

    /// Whether that was said since the last time.
    pub fn take_older(&self) -> bool {
        self.older.swap(false, Ordering::AcqRel)
    }

    /// Waits until a change may be lacking in the log.
    pub async fn may_lack(&self) {
        self.lacking.notified().await;
    }

    /// Whether the fold holds all that is in force. A fresh one may lack what stands in a bucket and no
    /// longer in the log, until they have been compared.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Waits until the entry at a position has been applied; `false` if that took longer.
    pub async fn wait_applied(&self, position: u64, patience: Duration) -> bool {
        let mut progress = self.progress.subscribe();
        let applied = progress.wait_for(|p| p.position >= position);
        matches!(tokio::time::timeout(patience, applied).await, Ok(Ok(_)))
    }
}

fn set(flags: &Flags) -> Vec<(Scope, FlagRecord)> {
    flags.iter().map(|(scope, flag)| (scope.clone(), *flag)).collect()
}

fn in_force(register: &Register) -> Vec<Held> {
    let live = register.iter().filter_map(|((tenant_id, policy_id), record)| {
        let live = record.live.as_ref()?;
        Some(Held {
            tenant_id: tenant_id.clone(),
            policy_id: policy_id.clone(),
            revision: record.seen,
            document: Arc::clone(&live.document),
        })
    });
    live.collect()
}
