//! The bucket of snapshots: manifests, pieces, and their keys.

use std::collections::BTreeSet;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::Stream;
use beamline_nats::jetstream::Select;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::domain::{Stamp, Tick};
use crate::ledger::{Own, Recorded, Remade};
use crate::nats::Worker;
use crate::nats::refused::{Refused, Retries};
use crate::nats::stored::{StreamReader, Unread};

/// One piece: half of what a broker takes in one message by default.
const PIECE: usize = 512 * 1_024;
/// How many are kept.
const KEEP: usize = 2;
/// How long it may take until it shows who writes the manifest.
const COMPARE_MS: u64 = 5_000;

#[derive(Serialize, Deserialize)]
pub(super) struct Manifest {
    position: u64,
    /// Of all bytes.
    hash: u64,
    bytes: usize,
    complete: bool,
    pub(super) worker: String,
    /// That of its entry, which names the history that it is of. Older versions do not record it.
    #[serde(default)]
    stamp: Option<Stamp>,
    /// Whether it replaced one that the log refuted.
    #[serde(default)]
    from_log: bool,
}

impl Manifest {
    pub(super) const fn recorded(&self) -> Recorded {
        Recorded { stamp: self.stamp, hash: self.hash, from_log: self.from_log }
    }
}

pub(super) type Failed = async_nats::Error;

/// Writes a snapshot where none is, or over the manifest of this revision. `None` if this worker wrote it, else what
/// the other one wrote, and its manifest's revision.
pub(super) async fn write(
    worker: &Worker,
    stream: &str,
    own: &Own,
    bytes: &[u8],
    over: Option<u64>,
) -> Result<Option<(Manifest, u64)>, Failed> {
    let bucket = open(worker).await?;
    let position = own.at.position;
    let base = base(worker, stream, position);
    let mut manifest = Manifest {
        position,
        hash: own.hash,
        bytes: bytes.len(),
        complete: false,
        worker: worker.settings.worker_name.clone(),
        stamp: Some(own.at.stamp),
        from_log: own.remade == Some(Remade::FromLog),
    };
    let key = format!("{base}.manifest");
    let first = match begin(worker, &key, &serde_json::to_vec(&manifest)?, over).await? {
        Begun::At(revision) => revision,
        Begun::ByAnother(theirs, revision) => return Ok(Some((theirs, revision))),
    };
    for (n, piece) in bytes.chunks(PIECE).enumerate() {
        put(worker, &format!("{base}.{n}"), Bytes::copy_from_slice(piece), None).await?;
    }
    manifest.complete = true;
    put(worker, &key, serde_json::to_vec(&manifest)?.into(), Some(first)).await?;
    let known = positions(worker, &bucket, stream).await?;
    for old in known.iter().rev().filter(|p| **p <= position).skip(KEEP) {
        bucket.purge().filter(format!("{}.>", self::base(worker, stream, *old))).await?;
    }
    Ok(None)
}

/// Who writes a snapshot.
enum Begun {
    /// This worker; its manifest has this revision.
    At(u64),
    /// Another one, whose manifest has this revision.
    ByAnother(Manifest, u64),
}

/// Puts a manifest where none is yet, or over the one of this revision.
async fn begin(worker: &Worker, key: &str, manifest: &[u8], over: Option<u64>) -> Result<Begun, Failed> {
    let mut retries = Retries::until(Tick(worker.clock.tick().0.saturating_add(COMPARE_MS)));
    loop {
        let refused = match put(worker, key, Bytes::copy_from_slice(manifest), Some(over.unwrap_or(0))).await
        {
            Ok(revision) => return Ok(Begun::At(revision)),
            Err(error) => error,
        };
        if Refused::of(&refused) != Refused::Compared {
            return Err(refused.into());
        }
        let theirs = messages(worker).find(Select::LastOf(key)).await?;
        if let Some(theirs) = theirs.filter(|theirs| over != Some(theirs.sequence)) {
            return Ok(Begun::ByAnother(serde_json::from_slice(&theirs.payload)?, theirs.sequence));
        }
        // Another worker's is on its way, and may not arrive.
        let Some(pause) = retries.next(worker.clock.tick()) else { return Err(refused.into()) };
        tokio::time::sleep(pause).await;
    }
}

/// The manifest at a position, if there is one.
pub(super) async fn manifest(
    worker: &Worker,
    stream: &str,
    position: u64,
) -> Result<Option<Manifest>, Failed> {
    let key = format!("{}.manifest", base(worker, stream, position));
    let found = messages(worker).find(Select::LastOf(&key)).await?;
    Ok(found.and_then(|stored| serde_json::from_slice(&stored.payload).ok()))
}

/// The positions of a stream's snapshots up to `last`, the newest first; none where there is no bucket.
pub(in crate::nats) async fn up_to(worker: &Worker, stream: &str, last: u64) -> Result<Vec<u64>, Failed> {
    let bucket = match worker.jetstream.get_stream(bucket_stream(worker)).await {
        Ok(bucket) => bucket,
        Err(error) if is_missing(&error.kind()) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let known = positions(worker, &bucket, stream).await?;
    Ok(known.into_iter().rev().filter(|p| *p <= last).collect())
}

/// Whether the broker says that there is no such stream. All else is no answer to the question.
fn is_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Why a snapshot was not read.
#[derive(Debug, thiserror::Error)]
pub(in crate::nats) enum NotRead {
    /// It may be read at another try.
    #[error("no answer: {0}")]
    Unanswered(Unread),
    /// It cannot be used.
    #[error("{0}")]
    Unusable(String),
}

impl From<Unread> for NotRead {
    fn from(unread: Unread) -> Self {
        if unread.is_absent() { Self::Unusable(unread.to_string()) } else { Self::Unanswered(unread) }
    }
}

/// Removes a snapshot of a history that the log lost: it would take the place of one that can be used. One that stays
/// is refused again.
pub(in crate::nats) async fn remove(worker: &Worker, stream: &str, position: u64) {
    if let Ok(bucket) = open(worker).await {
        let _ = bucket.purge().filter(format!("{}.>", base(worker, stream, position))).await;
    }
}

/// The bytes of a snapshot.
pub(in crate::nats) async fn read(worker: &Worker, stream: &str, position: u64) -> Result<Vec<u8>, NotRead> {
    let unusable = |why: &str| NotRead::Unusable(why.to_owned());
    let (base, messages) = (base(worker, stream, position), messages(worker));
    let message = messages.get(Select::LastOf(&format!("{base}.manifest"))).await?;
    let manifest: Manifest =
        serde_json::from_slice(&message.payload).map_err(|error| unusable(&error.to_string()))?;
    if !manifest.complete {
        return Err(unusable("its writer did not finish it"));
    }
    // As long as its pieces are, whatever the manifest says.
    let mut bytes = Vec::new();
    for n in 0..manifest.bytes.div_ceil(PIECE) {
        let piece = messages.get(Select::LastOf(&format!("{base}.{n}"))).await?;
        bytes.extend_from_slice(&piece.payload);
    }
    if bytes.len() != manifest.bytes || xxh3_64(&bytes) != manifest.hash {
        return Err(unusable("damaged: its pieces are not what the manifest says"));
    }
    Ok(bytes)
}

/// The positions of a stream's snapshots, complete or not.
async fn positions(worker: &Worker, bucket: &Stream, stream: &str) -> Result<BTreeSet<u64>, Failed> {
    let prefix = format!("{}{}.", subject(worker, ""), id(stream));
    let mut manifests = bucket.info_with_subjects(format!("{prefix}*.manifest")).await?;
    let mut positions = BTreeSet::new();
    while let Some((subject, _)) = manifests.try_next().await? {
        let token = subject.strip_prefix(&prefix).and_then(|rest| rest.split('.').next());
        positions.extend(token.and_then(|t| t.parse::<u64>().ok()));
    }
    Ok(positions)
}

pub(super) async fn put(
    worker: &Worker,
    subject: &str,
    value: Bytes,
    after: Option<u64>,
) -> Result<u64, async_nats::jetstream::context::PublishError> {
    let mut message = PublishMessage::build().payload(value);
    if let Some(after) = after {
        message = message.expected_last_subject_sequence(after);
    }
    Ok(worker.publish(subject, message).await?.sequence)
}

pub(super) async fn open(worker: &Worker) -> Result<Stream, Failed> {
    Ok(worker.jetstream.get_stream(bucket_stream(worker)).await?)
}

pub(super) fn messages(worker: &Worker) -> StreamReader {
    StreamReader::of(worker, &bucket_stream(worker))
}

fn bucket_stream(worker: &Worker) -> String {
    format!("KV_{}", worker.settings.names.snapshots_bucket)
}

pub(super) fn subject(worker: &Worker, key: &str) -> String {
    format!("$KV.{}.{key}", worker.settings.names.snapshots_bucket)
}

pub(super) fn id(stream: &str) -> String {
    format!("{:016x}", xxh3_64(stream.as_bytes()))
}

fn base(worker: &Worker, stream: &str, position: u64) -> String {
    subject(worker, &format!("{}.{position}", id(stream)))
}

#[cfg(test)]
mod tests {
    use beamline_nats::RequestError;
    use beamline_nats::jetstream::GetError;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bucket_is_missing_only_by_the_brokers_word() {
        let answered = |code: u64| {
            let error = json!({"code": 404, "err_code": code, "description": ""});
            GetStreamErrorKind::JetStream(serde_json::from_value(error).unwrap())
        };
        assert!(is_missing(&answered(10_059)));
        assert!(!is_missing(&answered(10_008)), "JetStream is temporarily unavailable");
        assert!(!is_missing(&GetStreamErrorKind::Request), "no answer");
    }

    #[test]
    fn a_snapshot_is_refused_only_by_what_was_read() {
        let unanswered = |unread| matches!(NotRead::from(unread), NotRead::Unanswered(_));
        assert!(unanswered(Unread::Request(RequestError::NoResponders)));
        assert!(!unanswered(Unread::Answer(GetError::NotFound)), "it was purged meanwhile");
    }
}
