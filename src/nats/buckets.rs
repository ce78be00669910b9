//! The buckets where policies and switches live: read, and changed by compare-and-set.
//!
//! A value is the bare JSON document, so that `nats kv put` and `nats kv get` work on it. Who changed it
//! and why stands in headers. A bucket's stream is written to directly, because the library's bucket
//! calls take no headers.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::Stream;
use beamline_nats::Malformed;
use beamline_nats::jetstream::{Select, Stored as Message};
use bytes::Bytes;
use tokio::sync::{Mutex, MutexGuard};
use xxhash_rust::xxh3::xxh3_64;

use super::Worker;
use super::refused::{Refused, Retries};
use super::stored::StreamReader;
use crate::domain::{Authenticated, Tick};
use crate::log::{Revision, Scope};
use crate::telemetry::labels::Publish;
use crate::wire::subjects;

/// How the bucket marks a delete, and one that takes the older revisions along.
const OPERATION: &str = "KV-Operation";
const DELETED: &str = "DEL";
const PURGED: &str = "PURGE";
/// Makes the stream drop all other messages of the subject.
const ROLLUP: (&str, &str) = ("Nats-Rollup", "sub");
const ACTOR: &str = "Beamline-Actor";
const REASON: &str = "Beamline-Reason";
/// As JSON.
const AUTHENTICATED: &str = "Beamline-Authenticated";

/// How long a change is tried against others' changes of the same key.
pub const CHANGE_PATIENCE_MS: u64 = 4_000;

/// Why a bucket was not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// Another revision stands than was expected.
    #[error("the present revision is {present}")]
    Conflict {
        /// The one that stands; 0 if the key does not exist.
        present: u64,
    },
    /// Others changed the key, or no change of it could be compared, for too long.
    #[error("others change the key at the same time")]
    Busy,
    /// The broker did not do it.
    #[error("{0}")]
    Broker(String),
}

/// One revision of a key.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its number.
    pub revision: u64,
    /// The document; absent for a delete. Of a message whose headers cannot be read it is empty, which is
    /// no document.
    pub value: Option<Bytes>,
    /// Whether it is a delete that took the older revisions along.
    pub purged: bool,
    /// When, in RFC 3339.
    pub at: String,
    /// Who, in their own words.
    pub actor: Option<String>,
    /// Why, in their own words.
    pub reason: Option<String>,
    /// Who, by the broker's word.
    pub authenticated: Option<Authenticated>,
    /// What of its message cannot be read.
    pub malformed: Option<Malformed>,
}

/// Who changes a key, and why.
#[derive(Clone, Copy, Debug, Default)]
pub struct By<'a> {
    /// Who, in their own words.
    pub actor: Option<&'a str>,
    /// Why, in their own words.
    pub reason: Option<&'a str>,
    /// Who, by the broker's word.
    pub authenticated: Option<&'a Authenticated>,
}

/// A key that was purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purged {
    /// The revision of the marker, which is all that remains.
    pub revision: u64,
    /// Whether the key had a value.
    pub had_value: bool,
}

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

/// One bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    name: String,
    stream: Stream,
    messages: StreamReader,
}

impl Bucket {
    /// Opens a bucket.
    ///
    /// # Errors
    /// [`BucketError::Broker`].
    pub async fn open(worker: &Worker, name: &str) -> Result<Self, BucketError> {
        let stream_name = format!("KV_{name}");
        let messages = StreamReader::of(worker, &stream_name);
        let _publishing = worker.publishing.read().await;
        let stream = worker.jetstream.get_stream(stream_name).await.map_err(broker)?;
        Ok(Self { name: name.to_owned(), stream, messages })
    }

    /// When it was made, and its last revision.
    ///
    /// # Errors
    /// [`BucketError::Broker`].
    pub async fn last(&self) -> Result<Revision, BucketError> {
        let info = self.stream.get_info().await.map_err(broker)?;
        Ok(Revision { created: nanos(info.created), revision: info.state.last_sequence })
    }

    /// When it was made, as of when it was opened.
    #[must_use]
    pub fn created(&self) -> i64 {
        nanos(self.stream.cached_info().created)
    }

    /// The last revision of a key, a delete included; from the stream's leader.
    ///
    /// # Errors
    /// [`BucketError::Broker`].
    pub async fn get(&self, key: &str) -> Result<Option<Stored>, BucketError> {
        let found = self.messages.find(Select::LastOf(&self.subject(key))).await.map_err(broker)?;
        Ok(found.map(stored))
    }

    /// The revisions of a key that the bucket still has, oldest first.
    ///
    /// # Errors
    /// [`BucketError::Broker`].
    pub async fn history(&self, key: &str) -> Result<Vec<Stored>, BucketError> {
        let subject = self.subject(key);
        let mut found = Vec::new();
        let mut from = 1;
        while let Some(message) = self.messages.find(Select::NextOf(&subject, from)).await.map_err(broker)? {
            from = message.sequence + 1;
            found.push(stored(message));
        }
        Ok(found)
    }

    /// The first revision at or after a number, of whichever of these keys (`>`: of any), with its key.
    ///
    /// # Errors
    /// [`BucketError::Broker`].
    pub async fn next(&self, keys: &str, from: u64) -> Result<Option<(String, Stored)>, BucketError> {
        let found = self.messages.find(Select::NextOf(&self.subject(keys), from)).await.map_err(broker)?;
        Ok(found.map(|message| {
            let prefix = self.subject("");
            let key = message.subject.strip_prefix(prefix.as_str()).unwrap_or_default().to_owned();
            (key, stored(message))
        }))
    }

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
        let mut retries = Retries::until(until);
        loop {
            let last = self.get(key).await?;
            let present = last.as_ref().filter(|s| s.value.is_some());
            let present_revision = present.map_or(0, |s| s.revision);
            if expected.is_some_and(|e| e != present_revision) {
                return Err(BucketError::Conflict { present: present_revision }.into());
            }
            let write = make(present)?.map_or(Write::Delete, Write::Put);
            let after = last.as_ref().map_or(0, |s| s.revision);
            if let Some(revision) = self.write(worker, key, write, after, by).await? {
                return Ok(revision);
            }
            pause(worker, &mut retries).await?;
        }
    }

    /// Deletes a key and its older revisions; others' changes are waited out until `until`. `None` for a key that the
    /// bucket does not know.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn purge(
        &self,
        worker: &Worker,
        key: &str,
        until: Tick,
        by: By<'_>,
    ) -> Result<Option<Purged>, BucketError> {
        let _turn = self.turn(worker, key, until).await?;
        let mut retries = Retries::until(until);
        loop {
            let Some(last) = self.get(key).await? else { return Ok(None) };
            if let Some(revision) = self.write(worker, key, Write::Purge, last.revision, by).await? {
                return Ok(Some(Purged { revision, had_value: last.value.is_some() }));
            }
            pause(worker, &mut retries).await?;
        }
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

    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.name)
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

/// The key of a switch in its bucket.
#[must_use]
pub fn flag_key(scope: &Scope) -> String {
    match scope {
        Scope::Global => "global".to_owned(),
        Scope::Tenant { tenant_id } => format!("tenant.{}", subjects::encode_key_token(tenant_id.as_str())),
    }
}

fn stored(message: Message) -> Stored {
    let read = message.headers().map(|headers| {
        let operation = headers.get(OPERATION).unwrap_or("PUT");
        let (gone, purged) = (operation != "PUT", operation == PURGED);
        let text = |name| headers.get(name).map(|t| subjects::unescape_text(t).into_owned());
        let authenticated = text(AUTHENTICATED).and_then(|text| serde_json::from_str(&text).ok());
        (gone, purged, text(ACTOR), text(REASON), authenticated)
    });
    let (revision, at) = (message.sequence, message.time.clone());
    match read {
        Ok((gone, purged, actor, reason, authenticated)) => {
            let value = (!gone).then(|| Bytes::from(message.payload));
            Stored { revision, value, purged, at, actor, reason, authenticated, malformed: None }
        }
        Err(malformed) => Stored {
            revision,
            value: Some(Bytes::new()),
            purged: false,
            at,
            actor: None,
            reason: None,
            authenticated: None,
            malformed: Some(malformed),
        },
    }
}

fn nanos(time: async_nats::datetime::DateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos()).unwrap_or(0)
}

fn broker(error: impl std::fmt::Display) -> BucketError {
    BucketError::Broker(error.to_string())
}
