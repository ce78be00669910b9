//! The buckets where policies and switches live: read, and changed by compare-and-set.
//!
//! A value is the bare JSON document, so that `nats kv put` and `nats kv get` work on it. Who changed it
//! and why stands in headers. A bucket's stream is written to directly, because the library's bucket
//! calls take no headers.
//!
//! **A bucket that went back.** Put back alone from a backup, a bucket is as old as it was made and ends
//! before revisions that the log has seen. The fold would take no change of it until its revisions are
//! greater again. So no verb changes such a bucket: it waits until [`super::reconcile`] has put the bucket
//! right, which takes moments.

mod advance;
mod change;
mod course;
mod older;
mod read;

pub use advance::ADVANCED;
pub use change::{CHANGE_PATIENCE_MS, Turns, patience};
pub use course::Start;

use async_nats::jetstream::stream::{Info, Stream};
use beamline_nats::jetstream::{Select, Stored as Message};
use beamline_nats::{Headers, Malformed};
use bytes::Bytes;

use super::Worker;
use super::ledger::stamp_of;
use super::reconcile::{policy_of, scope_of};
use super::stored::StreamReader;
use crate::domain::{Authenticated, Stamp};
use crate::ledger::Newest;
use crate::log::{Revision, Scope};
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
    /// It comes later than it may.
    #[error("the change comes too late")]
    Late,
    /// It ends before what the log has seen of it, and was not put right in time.
    #[error("the bucket holds an older state than is in force, which is being put back")]
    WentBack,
    /// It was made before one that the log has seen.
    #[error(
        "{stream} was made before the bucket that is in force: delete it, so that it is made anew and filled from \
         the log"
    )]
    Older {
        /// The stream to delete.
        stream: String,
    },
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
    /// When, in RFC 3339; empty in one that was read with many.
    pub at: String,
    /// When.
    pub stamp: Stamp,
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

/// What a bucket holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Policies.
    Policies,
    /// Emergency switches.
    Flags,
}

impl Holds {
    /// The bucket's name.
    #[must_use]
    pub fn name(self, worker: &Worker) -> &str {
        match self {
            Self::Policies => &worker.settings.names.policies_bucket,
            Self::Flags => &worker.settings.names.flags_bucket,
        }
    }

    /// The greatest revision that this worker knows of.
    #[must_use]
    pub fn newest(self, worker: &Worker) -> Newest {
        match self {
            Self::Policies => worker.ledger.newest_policy(),
            Self::Flags => worker.ledger.newest_flag(),
        }
    }

    /// The last revision of a key that the fold has seen.
    pub(super) fn seen(self, worker: &Worker, key: &str) -> Option<Revision> {
        let fold = worker.ledger.fold();
        match self {
            Self::Policies => {
                let (tenant_id, policy_id) = policy_of(key)?;
                fold.register().get(&tenant_id, &policy_id).map(|record| record.seen)
            }
            Self::Flags => fold.flags().get(&scope_of(key)?).map(|flag| flag.revision),
        }
    }
}

/// One bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    holds: Holds,
    name: String,
    stream: Stream,
    messages: StreamReader,
    /// What the log had seen of it before it was opened.
    newest: Newest,
}

impl Bucket {
    /// Opens a bucket.
    ///
    /// # Errors
    /// [`BucketError::Broker`].
    pub async fn open(worker: &Worker, holds: Holds) -> Result<Self, BucketError> {
        // Before the bucket is asked: what was seen stands in it.
        let newest = holds.newest(worker);
        let name = holds.name(worker);
        let stream_name = format!("KV_{name}");
        let messages = StreamReader::of(worker, &stream_name);
        let _publishing = worker.publishing.read().await;
        let stream = worker.jetstream.get_stream(stream_name).await.map_err(broker)?;
        Ok(Self { holds, name: name.to_owned(), stream, messages, newest })
    }

    /// What the log had seen of it before it was opened.
    #[must_use]
    pub const fn newest(&self) -> Newest {
        self.newest
    }

    /// Whether it ended before that, as of when it was opened.
    #[must_use]
    pub fn went_back(&self) -> bool {
        self.ends_before(None)
    }

    /// The same, or before what was compared of it.
    #[must_use]
    pub fn ends_before(&self, compared: Option<Revision>) -> bool {
        let last = revision_of(self.stream.cached_info());
        [Some(self.newest.revision), compared].into_iter().flatten().any(|known| is_past(known, last))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When it was made, and its last revision.
    ///
    /// # Errors
    /// [`BucketError::Broker`].
    pub async fn last(&self) -> Result<Revision, BucketError> {
        Ok(revision_of(&self.stream.get_info().await.map_err(broker)?))
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
        let message = self.messages.find(Select::LastOf(&self.subject(key))).await.map_err(broker)?;
        Ok(message.map(found))
    }

    /// The revisions of a key that the bucket still has, oldest first.
    ///
    /// # Errors
    /// [`BucketError::Broker`].
    pub async fn history(&self, key: &str) -> Result<Vec<Stored>, BucketError> {
        let subject = self.subject(key);
        let mut all = Vec::new();
        let mut from = 1;
        while let Some(message) = self.messages.find(Select::NextOf(&subject, from)).await.map_err(broker)? {
            from = message.sequence + 1;
            all.push(found(message));
        }
        Ok(all)
    }

    /// The first revision at or after a number, of whichever of these keys (`>`: of any), with its key.
    ///
    /// # Errors
    /// [`BucketError::Broker`].
    pub async fn next(&self, keys: &str, from: u64) -> Result<Option<(String, Stored)>, BucketError> {
        let message = self.messages.find(Select::NextOf(&self.subject(keys), from)).await.map_err(broker)?;
        Ok(message.map(|message| {
            let key = self.key_of(&message.subject).to_owned();
            (key, found(message))
        }))
    }

    /// The key of a subject.
    fn key_of<'s>(&self, subject: &'s str) -> &'s str {
        let rest = subject.strip_prefix("$KV.").and_then(|rest| rest.strip_prefix(self.name.as_str()));
        rest.and_then(|rest| rest.strip_prefix('.')).unwrap_or_default()
    }

    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.name)
    }
}

/// Whether a revision of a bucket lies past its last one.
fn is_past(known: Revision, last: Revision) -> bool {
    known.created == last.created && known.revision > last.revision
}

fn revision_of(info: &Info) -> Revision {
    Revision { created: nanos(info.created), revision: info.state.last_sequence }
}

/// The key of a switch in its bucket.
#[must_use]
pub fn flag_key(scope: &Scope) -> String {
    match scope {
        Scope::Global => "global".to_owned(),
        Scope::Tenant { tenant_id } => format!("tenant.{}", subjects::encode_key_token(tenant_id.as_str())),
    }
}

/// What of a message does not stand in its headers.
struct Source {
    revision: u64,
    at: String,
    stamp: Stamp,
    payload: Bytes,
}

/// A message that was read by itself.
fn found(message: Message) -> Stored {
    let headers = message.headers();
    let source = Source {
        revision: message.sequence,
        stamp: stamp_of(&message.time).unwrap_or_default(),
        at: message.time.clone(),
        payload: Bytes::copy_from_slice(&message.payload),
    };
    stored(source, headers)
}

fn stored(source: Source, headers: Result<Headers<'_>, Malformed>) -> Stored {
    let Source { revision, at, stamp, payload } = source;
    let read = headers.map(|headers| {
        let operation = headers.get(OPERATION).unwrap_or("PUT");
        let (gone, purged) = (operation != "PUT", operation == PURGED);
        let text = |name| headers.get(name).map(|t| subjects::unescape_text(t).into_owned());
        let authenticated = text(AUTHENTICATED).and_then(|text| serde_json::from_str(&text).ok());
        (gone, purged, text(ACTOR), text(REASON), authenticated)
    });
    match read {
        Ok((gone, purged, actor, reason, authenticated)) => {
            let value = (!gone).then_some(payload);
            Stored { revision, value, purged, at, stamp, actor, reason, authenticated, malformed: None }
        }
        Err(malformed) => Stored {
            revision,
            value: Some(Bytes::new()),
            purged: false,
            at,
            stamp,
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
