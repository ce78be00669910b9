//! Following the stream of rollouts, and doing what it and the log call for.
//!
//! The stream is read message by message from its leader: it is small, a place is never skipped that way, and nothing
//! that others put there can end a connection. A subscription to its subjects only says when to look; a look each
//! second makes up for what it misses. The state is restored from a snapshot at the start.
//!
//! Once both the stream and the log are read, [`tasks`](crate::rollout::stream::tasks) says what there is to do. All
//! workers do the same, under names by which the broker drops copies.

mod carry_out;
mod count;
mod follow;
mod peers;
mod read_all;
mod report;
mod standing;

pub use carry_out::{NotRecorded, note_unrecorded, record};
pub use count::history_of;
pub use follow::run;
pub use peers::{NoAnswer, workers_without};
pub use read_all::{NotRead, Recorded, read_all};

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::domain::RolloutId;
use crate::log::JudgedWindow;
use crate::rollout::controller::{CommandVerdict, Controllers};
use crate::rollout::stream::Following;

/// Verdicts that wait for whoever sent the command.
const MAX_VERDICTS: usize = 1_024;

/// How far the stream of rollouts is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The place of the last message.
    pub applied: u64,
    /// Whether what stood there when reading began was read.
    pub caught_up: bool,
}

/// What this worker knows of rollouts.
#[derive(Debug)]
pub struct Rollouts {
    known: Mutex<Known>,
    progress: watch::Sender<Progress>,
}

#[derive(Debug)]
struct Known {
    following: Following,
    /// By the place of the command.
    verdicts: BTreeMap<u64, CommandVerdict>,
}

impl Default for Rollouts {
    fn default() -> Self {
        let known = Known { following: Following::new(0), verdicts: BTreeMap::new() };
        Self { known: Mutex::new(known), progress: watch::Sender::default() }
    }
}

impl Rollouts {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads how the rollouts stand.
    pub fn read<T>(&self, read: impl FnOnce(&Controllers) -> T) -> T {
        read(self.lock().following.controllers())
    }

    /// The latest window judged of each rollout.
    #[must_use]
    pub fn judged(&self) -> BTreeMap<RolloutId, JudgedWindow> {
        self.read(|controllers| controllers.judged().map(|(id, window)| (id.clone(), window)).collect())
    }

    /// Follows the reading.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Waits until the message at a place was applied, and takes the verdict on it; `None` if that took longer, or
    /// where it has none.
    pub async fn verdict(&self, place: u64, patience: Duration) -> Option<CommandVerdict> {
        let mut progress = self.progress.subscribe();
        let applied = progress.wait_for(|p| p.applied >= place);
        match tokio::time::timeout(patience, applied).await {
            Ok(Ok(_)) => self.lock().verdicts.remove(&place),
            _ => None,
        }
    }

    /// Waits until a rollout stands as asked, or the time is over.
    pub async fn settled(&self, patience: Duration, is_settled: impl Fn(&Controllers) -> bool) {
        let mut progress = self.progress.subscribe();
        let settled = progress.wait_for(|_| self.read(&is_settled));
        let _ = tokio::time::timeout(patience, settled).await;
    }

    /// Replaces what is known, before a stream is read.
    fn begin(&self, following: Following) {
        let applied = following.applied();
        *self.lock() = Known { following, verdicts: BTreeMap::new() };
        self.progress.send_replace(Progress { applied, caught_up: false });
    }

    fn note_progress(&self, caught_up: bool) {
        let applied = self.lock().following.applied();
        self.progress.send_if_modified(|p| {
            let now = Progress { applied, caught_up: p.caught_up || caught_up };
            std::mem::replace(p, now) != now
        });
    }
}
