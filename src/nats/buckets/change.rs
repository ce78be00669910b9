//! Changing a key: by compare-and-set, in turns, and for as long as somebody waits for it.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use tokio::sync::{Mutex, MutexGuard};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    ACTOR, ADVANCED, AUTHENTICATED, Bucket, BucketError, By, DELETED, OPERATION, PURGED, Purged, REASON,
    ROLLUP, Stored, broker, is_past,
};
use crate::domain::Tick;
use crate::log::Revision;
use crate::nats::Worker;
use crate::nats::refused::{Refused, Retries};
use crate::telemetry::labels::Publish;
use crate::wire::subjects;

/// How long a change is tried against others' changes of the same key.
pub const CHANGE_PATIENCE_MS: u64 = 4_000;

/// Whose turn it is to change a key. Changes of one worker go one after the other, so that a comparison is
/// lost to another worker only: of a hundred that race, each would read and lose many times.
#[derive(Debug)]
pub struct Turns([Mutex<()>; TURNS]);

/// More than requests are worked on at once, so that few keys share one.
const TURNS: usize = 256;

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Turns {
    /// Waits for the turn, in the order of asking; `None` if that takes too long.
    async fn of(&self, subject: &str, patience: Duration) -> Option<MutexGuard<'_, ()>> {
        let place = usize::try_from(xxh3_64(subject.as_bytes()) % TURNS as u64).unwrap_or_default();
        tokio::time::timeout(patience, self.0.get(place)?.lock()).await.ok()
    }
}

/// What a revision says of its key.
enum Write {
    Put(Bytes),
    Delete,
    Purge,
}

/// The tries of one change.
struct Tries {
    retries: Retries,
    /// Whether the bucket ends before what the log has seen of it, as far as is known.
    went_back: bool,
}

impl Bucket {
    /// Writes what `make` makes of the present revision (absent or deleted: `None`), if no other
    /// revision stands by then. `make` gives `None` for a delete. With `expected`, another revision
    /// than that is a conflict (0: the key must not exist); without, others' changes are waited out. Nothing
    /// is tried again after `until`.
    ///
    /// # Errors
    /// What `make` says, or a [`BucketError`] as `E`.
    pub async fn change<E: From<BucketError>>(
        &self,
        worker: &Worker,
        key: &str,
        expected: Option<u64>,
        until: Tick,
        by: By<'_>,
        mut make: impl FnMut(Option<&Stored>) -> Result<Option<Bytes>, E>,
    ) -> Result<u64, E> {
        let _turn = self.turn(worker, key, until).await?;
        let mut tries = self.begin(until);
        loop {
            let last = self.current(worker, key, &mut tries).await?;
            let present = last.as_ref().filter(|s| s.value.is_some());
            let present_revision = present.map_or(0, |s| s.revision);
            if expected.is_some_and(|e| e != present_revision) {
                return Err(BucketError::Conflict { present: present_revision }.into());
            }
            // After the key was read: what somebody writes from here on is not overtaken, however late this is.
            if worker.clock.tick() > until {
                return Err(BucketError::Late.into());
            }
            let write = make(present)?.map_or(Write::Delete, Write::Put);
            let after = last.as_ref().map_or(0, |s| s.revision);
            if let Some(revision) = self.write(worker, key, write, after, by).await? {
                return Ok(revision);
            }
            pause(worker, &mut tries.retries).await?;
        }
    }

    /// Deletes a key and its older revisions, if its last one is at most `up_to`; others' changes are waited out until
    /// `until`. `None` for a key that the bucket does not know.
    ///
    /// # Errors
    /// [`BucketError`]; [`BucketError::Conflict`] if a newer one stands.
    pub async fn purge(
        &self,
        worker: &Worker,
        key: &str,
        up_to: u64,
        until: Tick,
        by: By<'_>,
    ) -> Result<Option<Purged>, BucketError> {
        let _turn = self.turn(worker, key, until).await?;
        let mut tries = self.begin(until);
        loop {
            let Some(last) = self.current(worker, key, &mut tries).await? else { return Ok(None) };
            // After the key was read, as with a change.
            may_purge(last.revision, up_to, worker.clock.tick(), until)?;
            if let Some(revision) = self.write(worker, key, Write::Purge, last.revision, by).await? {
                return Ok(Some(Purged { revision, had_value: last.value.is_some() }));
            }
            pause(worker, &mut tries.retries).await?;
        }
    }

    /// Writes over the last revision of a key, if that is `after` (0: the bucket does not know the key). For
    /// putting back what is in force. It takes no turn: it writes over one revision and no other, and a change
    /// that has the turn may wait for it.
    ///
    /// # Errors
    /// [`BucketError::Conflict`] if it is another one.
    pub async fn replace(
        &self,
        worker: &Worker,
        key: &str,
        after: u64,
        by: By<'_>,
        value: Option<Bytes>,
    ) -> Result<u64, BucketError> {
        let mut retries = Retries::until(patience(worker));
        loop {
            let write = value.clone().map_or(Write::Delete, Write::Put);
            if let Some(revision) = self.write(worker, key, write, after, by).await? {
                return Ok(revision);
            }
            let present = self.get(key).await?.map_or(0, |last| last.revision);
            if present != after {
                return Err(BucketError::Conflict { present });
            }
            pause(worker, &mut retries).await?;
        }
    }

    fn begin(&self, until: Tick) -> Tries {
        Tries { retries: Retries::until(until), went_back: self.went_back() }
    }

    /// The last revision of a key. Of a bucket that went back it is waited for until that is put right; of one that is
    /// older by its making nothing is to be waited for.
    async fn current(
        &self,
        worker: &Worker,
        key: &str,
        tries: &mut Tries,
    ) -> Result<Option<Stored>, BucketError> {
        loop {
            if self.is_older_by_making(worker) {
                return Err(BucketError::Older { stream: format!("KV_{}", self.name()) });
            }
            // Before the key is read: what was seen stands in the bucket.
            let seen = self.holds.seen(worker, key);
            let last = self.get(key).await?;
            if last.as_ref().is_some_and(|last| self.is_older(last, seen)) {
                worker.ledger.note_older();
            } else if tries.went_back {
                worker.ledger.note_lacking();
            } else {
                return Ok(last);
            }
            pause(worker, &mut tries.retries).await.map_err(|_| BucketError::WentBack)?;
            let newest = self.holds.newest(worker);
            tries.went_back = is_past(newest.revision, self.last().await?);
        }
    }

    /// Waits until a bucket that went back was put right.
    ///
    /// # Errors
    /// [`BucketError::WentBack`] if it is not by `until`.
    pub async fn settled(&self, worker: &Worker, until: Tick) -> Result<(), BucketError> {
        // No policy and no switch has this key: the bucket alone is waited for.
        self.current(worker, ADVANCED, &mut self.begin(until)).await.map(drop)
    }

    /// Whether a key's last revision is older than what the log has seen of it.
    fn is_older(&self, last: &Stored, seen: Option<Revision>) -> bool {
        seen.is_some_and(|seen| seen.created == self.created() && seen.revision > last.revision)
    }

    async fn turn<'w>(
        &self,
        worker: &'w Worker,
        key: &str,
        until: Tick,
    ) -> Result<MutexGuard<'w, ()>, BucketError> {
        let patience = Duration::from_millis(until.since(worker.clock.tick()));
        worker.turns.of(&self.subject(key), patience).await.ok_or(BucketError::Busy)
    }

    /// Writes over a revision; `None` if that must be read again.
    async fn write(
        &self,
        worker: &Worker,
        key: &str,
        write: Write,
        after: u64,
        by: By<'_>,
    ) -> Result<Option<u64>, BucketError> {
        let mut headers = HeaderMap::new();
        let value = match write {
            Write::Put(value) => value,
            Write::Delete => {
                headers.insert(OPERATION, DELETED);
                Bytes::new()
            }
            Write::Purge => {
                headers.insert(OPERATION, PURGED);
                headers.insert(ROLLUP.0, ROLLUP.1);
                Bytes::new()
            }
        };
        let authenticated = by.authenticated.and_then(|who| serde_json::to_string(who).ok());
        for (name, text) in
            [(ACTOR, by.actor), (REASON, by.reason), (AUTHENTICATED, authenticated.as_deref())]
        {
            if let Some(text) = text {
                headers.insert(name, subjects::escape_text(text).as_ref());
            }
        }
        let message =
            PublishMessage::build().payload(value).headers(headers).expected_last_subject_sequence(after);
        match worker.publish(&self.subject(key), message).await {
            Ok(ack) => Ok(Some(ack.sequence)),
            Err(error) => match Refused::of(&error) {
                Refused::Compared | Refused::NoLeader => Ok(None),
                Refused::CopyInFlight | Refused::NotReady | Refused::Other => {
                    worker.metrics.nats_publish_failures.inc(Publish::Policy);
                    Err(broker(error))
                }
            },
        }
    }
}

/// Whether a key with this last revision may be purged now, for somebody who saw the bucket up to `up_to`.
fn may_purge(last: u64, up_to: u64, now: Tick, until: Tick) -> Result<(), BucketError> {
    match last {
        _ if now > until => Err(BucketError::Late),
        present if present > up_to => Err(BucketError::Conflict { present }),
        _ => Ok(()),
    }
}

/// Waits before a change is tried again.
async fn pause(worker: &Worker, retries: &mut Retries) -> Result<(), BucketError> {
    let pause = retries.next(worker.clock.tick()).ok_or(BucketError::Busy)?;
    tokio::time::sleep(pause).await;
    Ok(())
}

/// Until when a change that begins now is tried.
#[must_use]
pub fn patience(worker: &Worker) -> Tick {
    Tick(worker.clock.tick().0.saturating_add(CHANGE_PATIENCE_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_newer_than_the_request_is_not_purged_and_nothing_is_once_it_is_late() {
        let of = |last, now| may_purge(last, 9, Tick(now), Tick(100));
        assert!(matches!(of(9, 100), Ok(())));
        assert!(matches!(of(10, 100), Err(BucketError::Conflict { present: 10 })));
        assert!(matches!(of(9, 101), Err(BucketError::Late)));
    }
}
