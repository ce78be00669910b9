//! Snapshots of the fold, in a bucket.
//!
//! At each hundred-thousandth position (a setting), and at the first entry of each hour by the log's clock, every
//! worker hashes its state. The first to write the manifest of that position writes the snapshot; the
//! others compare their hash with its, and a difference is counted and shouted: it means that workers
//! disagree. A manifest is complete once all of its pieces stand, so a writer that dies leaves
//! something that nobody takes for a snapshot.
//!
//! Keys: `<stream>.<position>.manifest` and `<stream>.<position>.<n>`, where the stream is told by a hash
//! of when it was made. The last two are kept.

mod order;

use std::collections::BTreeSet;

use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::Stream;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use beamline_nats::jetstream::Select;

use super::Worker;
use super::refused::{Refused, Retries};
use super::stored::StreamReader;
use super::usage;
use crate::domain::{Stamp, Tick};
use crate::ledger::Fold;
use crate::log::{At, Entry};
use crate::telemetry::labels::Snapshot as Counted;

/// At the first entry of each of these spans: what the log forgets by age, a snapshot holds.
const SPAN_MS: u64 = 3_600_000;
/// One piece: half of what a broker takes in one message by default.
const PIECE: usize = 512 * 1_024;
/// How many are kept.
const KEEP: usize = 2;
/// How long it may take until it shows who writes the manifest.
const COMPARE_MS: u64 = 5_000;

/// Whether a snapshot is due behind the entry at `at`, given the one before it.
#[must_use]
pub fn is_due(before: At, at: At, every: u64) -> bool {
    let span = |stamp: Stamp| stamp.0 / SPAN_MS;
    at.position.is_multiple_of(every) || (before.stamp > Stamp(0) && span(at.stamp) > span(before.stamp))
}

/// Whether a mark makes a snapshot due that nothing else does: the log's last entry is of an earlier span, and so is
/// what `changed` last. Marks that confirm the log (`ledger/reach`) are no change, but make a snapshot due as any
/// entry does that is the first of its span.
fn is_mark_due(last: Stamp, changed: Stamp, now: Stamp) -> bool {
    let span = |stamp: Stamp| stamp.0 / SPAN_MS;
    last > Stamp(0) && span(last) < span(now) && span(last) == span(changed)
}

/// Appends a mark if the log has been quiet since an earlier span began: the last things that happened
/// then enter a snapshot before the log forgets them by age.
pub async fn mark_if_quiet(worker: &Worker) {
    let (at, changed) = {
        let fold = worker.ledger.fold();
        (fold.at(), fold.changed())
    };
    let now = worker.clock.stamp();
    if !is_mark_due(at.stamp, changed, now) {
        return;
    }
    let span = now.0 / SPAN_MS;
    if let Err(error) = worker.append(&Entry::Mark, Some(&format!("mark.{span}"))).await {
        tracing::warn!(event = "log_not_marked", error = %error);
    }
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    position: u64,
    /// Of all bytes.
    hash: u64,
    bytes: usize,
    complete: bool,
    worker: String,
}

type Failed = async_nats::Error;

/// Writes a snapshot, or compares it with the one that another worker wrote.
pub async fn store(worker: &Worker, stream: &str, at: At, bytes: Vec<u8>) {
    let (position, hash) = (at.position, xxh3_64(&bytes));
    match write(worker, stream, at, &bytes, hash).await {
        Ok(None) => {
            worker.metrics.snapshots.inc(Counted::Stored);
            tracing::info!(event = "snapshot_stored", position, bytes = bytes.len());
        }
        Ok(Some(theirs)) if theirs.hash == hash => worker.metrics.snapshots.inc(Counted::Equal),
        Ok(Some(theirs)) => {
            worker.metrics.snapshots.inc(Counted::Differs);
            tracing::error!(
                event = "snapshot_differs",
                position,
                theirs = theirs.worker,
                ours = worker.settings.worker_name
            );
        }
        Err(error) => {
            worker.metrics.snapshots.inc(Counted::Failed);
            tracing::warn!(event = "snapshot_not_stored", position, error = %error);
        }
    }
}

/// `None` if this worker wrote it, else what the other one wrote.
async fn write(
    worker: &Worker,
    stream: &str,
    at: At,
    bytes: &[u8],
    hash: u64,
) -> Result<Option<Manifest>, Failed> {
    let bucket = open(worker).await?;
    let base = base(worker, stream, at.position);
    let mut manifest = Manifest {
        position: at.position,
        hash,
        bytes: bytes.len(),
        complete: false,
        worker: worker.settings.worker_name.clone(),
    };
    let key = format!("{base}.manifest");
    let first = match begin(worker, &key, &serde_json::to_vec(&manifest)?).await? {
        Begun::At(revision) => revision,
        Begun::ByAnother(theirs) => return Ok(Some(theirs)),
    };
    for (n, piece) in bytes.chunks(PIECE).enumerate() {
        put(worker, &format!("{base}.{n}"), Bytes::copy_from_slice(piece), None).await?;
    }
    manifest.complete = true;
    put(worker, &key, serde_json::to_vec(&manifest)?.into(), Some(first)).await?;
    let known = positions(worker, &bucket, stream).await?;
    for old in known.iter().rev().filter(|p| **p <= at.position).skip(KEEP) {
        bucket.purge().filter(format!("{}.>", self::base(worker, stream, *old))).await?;
    }
    Ok(None)
}

/// Who writes a snapshot.
enum Begun {
    /// This worker; its manifest has this revision.
    At(u64),
    /// Another one.
    ByAnother(Manifest),
}

/// Puts a manifest, if there is none yet.
async fn begin(worker: &Worker, key: &str, manifest: &[u8]) -> Result<Begun, Failed> {
    let mut retries = Retries::until(Tick(worker.clock.tick().0.saturating_add(COMPARE_MS)));
    loop {
        let refused = match put(worker, key, Bytes::copy_from_slice(manifest), Some(0)).await {
            Ok(revision) => return Ok(Begun::At(revision)),
            Err(error) => error,
        };
        if Refused::of(&refused) != Refused::Compared {
            return Err(refused.into());
        }
        if let Some(theirs) = messages(worker).find(Select::LastOf(key)).await? {
            return Ok(Begun::ByAnother(serde_json::from_slice(&theirs.payload)?));
        }
        // Another worker's is on its way, and may not arrive.
        let Some(pause) = retries.next(worker.clock.tick()) else { return Err(refused.into()) };
        tokio::time::sleep(pause).await;
    }
}

/// Takes over the log's newest snapshot that is sound and not beyond what usage was metered. Tells where it stands;
/// `None` where the log must be read from its beginning.
pub async fn load(worker: &Worker, stream: &str, last: u64) -> Option<At> {
    let metered = usage::metered(worker).await;
    let order = |known: &BTreeSet<u64>| order::of(known, last, metered);
    first_sound(worker, stream, order, |bytes| take(worker, stream, bytes).map(|at| (at, at))).await
}

/// Takes over the newest snapshot of a stream that is sound, not beyond `last`; `None` where there is none.
/// `take` reads one, and tells where it stands.
pub(super) async fn newest<T, E: std::fmt::Display>(
    worker: &Worker,
    stream: &str,
    last: u64,
    take: impl Fn(&[u8]) -> Result<(At, T), E>,
) -> Option<T> {
    let newest_first = |known: &BTreeSet<u64>| known.iter().rev().copied().filter(|p| *p <= last).collect();
    first_sound(worker, stream, newest_first, take).await
}

async fn first_sound<T, E: std::fmt::Display>(
    worker: &Worker,
    stream: &str,
    order: impl FnOnce(&BTreeSet<u64>) -> Vec<u64>,
    take: impl Fn(&[u8]) -> Result<(At, T), E>,
) -> Option<T> {
    let bucket = open(worker).await.ok()?;
    let known = positions(worker, &bucket, stream).await.ok()?;
    for position in order(&known) {
        let refused = match read(worker, stream, position).await {
            Ok(bytes) => match take(&bytes) {
                Ok((at, taken)) => {
                    tracing::info!(event = "snapshot_restored", position = at.position, bytes = bytes.len());
                    return Some(taken);
                }
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        tracing::error!(event = "snapshot_refused", position, error = refused);
        worker.metrics.snapshots.inc(Counted::Refused);
    }
    None
}

fn take(worker: &Worker, stream: &str, bytes: &[u8]) -> Result<At, crate::ledger::SnapshotError> {
    let mut fold = worker.ledger.fold();
    let restored = fold.restore(bytes, stream, worker.clock.offset());
    if restored.is_err() {
        worker.state.clear();
        worker.verdicts.clear();
        *fold = Fold::new(std::sync::Arc::clone(&worker.state), std::sync::Arc::clone(&worker.verdicts));
    }
    restored
}

async fn read(worker: &Worker, stream: &str, position: u64) -> Result<Vec<u8>, Failed> {
    let (base, messages) = (base(worker, stream, position), messages(worker));
    let message = messages.get(Select::LastOf(&format!("{base}.manifest"))).await?;
    let manifest: Manifest = serde_json::from_slice(&message.payload)?;
    if !manifest.complete {
        return Err("its writer did not finish it".into());
    }
    // As long as its pieces are, whatever the manifest says.
    let mut bytes = Vec::new();
    for n in 0..manifest.bytes.div_ceil(PIECE) {
        let piece = messages.get(Select::LastOf(&format!("{base}.{n}"))).await?;
        bytes.extend_from_slice(&piece.payload);
    }
    if bytes.len() != manifest.bytes || xxh3_64(&bytes) != manifest.hash {
        return Err("damaged: its pieces are not what the manifest says".into());
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

async fn put(
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

async fn open(worker: &Worker) -> Result<Stream, Failed> {
    Ok(worker.jetstream.get_stream(bucket_stream(worker)).await?)
}

fn messages(worker: &Worker) -> StreamReader {
    StreamReader::of(worker, &bucket_stream(worker))
}

fn bucket_stream(worker: &Worker) -> String {
    format!("KV_{}", worker.settings.names.snapshots_bucket)
}

fn subject(worker: &Worker, key: &str) -> String {
    format!("$KV.{}.{key}", worker.settings.names.snapshots_bucket)
}

fn id(stream: &str) -> String {
    format!("{:016x}", xxh3_64(stream.as_bytes()))
}

fn base(worker: &Worker, stream: &str, position: u64) -> String {
    subject(worker, &format!("{}.{position}", id(stream)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_log_is_marked_once_in_an_hour_that_follows_a_change() {
        let hour = |hour: u64, ms: u64| Stamp(hour * SPAN_MS + ms);
        let due = is_mark_due;
        assert!(!due(Stamp(0), Stamp(0), hour(9, 0)), "an empty log");
        assert!(!due(hour(9, 5), hour(9, 5), hour(9, 70)), "the same hour");
        assert!(due(hour(9, 5), hour(9, 5), hour(10, 0)));
        assert!(
            due(hour(9, 50), hour(9, 5), hour(10, 0)),
            "a mark of the same hour has made no snapshot due"
        );
        assert!(!due(hour(10, 1), hour(9, 5), hour(10, 2)), "marked");
        assert!(!due(hour(10, 1), hour(9, 5), hour(12, 0)), "nothing has changed since");
    }
}
