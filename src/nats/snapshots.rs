//! Snapshots of the fold, in a bucket.
//!
//! At each hundred-thousandth position (a setting), and at the first entry of each hour by the log's clock, every
//! worker hashes its state. The first to write the manifest of that position writes the snapshot; the
//! others compare their hash with its. A difference means that workers disagree; `agreement` has what follows. A
//! manifest is complete once all of its pieces stand, so a writer that dies leaves something that nobody takes for a
//! snapshot.
//!
//! Keys: `<stream>.<position>.manifest` and `<stream>.<position>.<n>`, where the stream is told by a hash
//! of when it was made. The last two are kept.

mod agreement;
mod bucket;
mod order;

pub use agreement::{Compared, run as keep_agreed};
pub(super) use bucket::{NotRead, read, remove, up_to};

use xxhash_rust::xxh3::xxh3_64;

use super::Worker;
use super::usage;
use crate::domain::Stamp;
use crate::ledger::{Finding, Fold, Own, Remade, SnapshotError, compare};
use crate::log::{At, Entry};
use crate::telemetry::labels::Snapshot as Counted;
use bucket::{Failed, write};

/// At the first entry of each of these spans: what the log forgets by age, a snapshot holds.
const SPAN_MS: u64 = 3_600_000;

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

/// Writes a snapshot, or compares it with the one that another worker wrote. Gives what was compared, and whether it
/// differs.
pub async fn store(
    worker: &Worker,
    stream: &str,
    at: At,
    remade: Option<Remade>,
    bytes: Vec<u8>,
) -> (Own, bool) {
    let own = Own { at, hash: xxh3_64(&bytes), remade };
    match store_or_compare(worker, stream, &own, &bytes).await {
        Ok(differs) => (own, differs),
        Err(error) => {
            worker.metrics.snapshots.inc(Counted::Failed);
            tracing::warn!(event = "snapshot_not_stored", position = at.position, error = %error);
            (own, false)
        }
    }
}

async fn store_or_compare(worker: &Worker, stream: &str, own: &Own, bytes: &[u8]) -> Result<bool, Failed> {
    let position = own.at.position;
    let Some((theirs, revision)) = write(worker, stream, own, bytes, None).await? else {
        worker.metrics.snapshots.inc(Counted::Stored);
        tracing::info!(event = "snapshot_stored", position, bytes = bytes.len());
        return Ok(false);
    };
    match compare(own, &theirs.recorded()) {
        Finding::Equal => worker.metrics.snapshots.inc(Counted::Equal),
        finding @ (Finding::OtherHistory | Finding::Refuted) => {
            let refuted = finding == Finding::Refuted;
            tracing::warn!(event = "snapshot_replaced", position, theirs = theirs.worker, refuted);
            // Where another worker was faster, there is nothing left to do.
            if write(worker, stream, own, bytes, Some(revision)).await?.is_none() {
                worker.metrics.snapshots.inc(Counted::Stored);
            }
        }
        Finding::Remake | Finding::Unresolved => {
            note_difference(worker, own, &theirs.worker);
            return Ok(true);
        }
    }
    Ok(false)
}

/// Counts and logs that this worker and another disagree.
fn note_difference(worker: &Worker, own: &Own, theirs: &str) {
    worker.metrics.snapshots.inc(Counted::Differs);
    tracing::error!(
        event = "snapshot_differs",
        position = own.at.position,
        theirs,
        ours = worker.settings.worker_name,
        remade = own.remade.is_some()
    );
}

/// The positions of a log's snapshots in the order in which a start tries them; none where the log is to be read from
/// its beginning.
pub(super) async fn to_try(worker: &Worker, stream: &str, last: u64) -> Result<Vec<u64>, Failed> {
    let metered = usage::metered(worker).await;
    Ok(order::of(up_to(worker, stream, last).await?, last, metered))
}

/// Takes over the newest snapshot of a stream that is sound, not beyond `last`; `None` where there is none,
/// or the bucket gives no answer: for a stream that keeps all. `take` reads one, and tells where it stands.
pub(super) async fn newest<T, E: std::fmt::Display>(
    worker: &Worker,
    stream: &str,
    last: u64,
    take: impl Fn(&[u8]) -> Result<(At, T), E>,
) -> Option<T> {
    for position in up_to(worker, stream, last).await.unwrap_or_default() {
        let refused = match read(worker, stream, position).await {
            Ok(bytes) => match take(&bytes) {
                Ok((at, taken)) => {
                    note_restored(at, &bytes);
                    return Some(taken);
                }
                Err(error) => error.to_string(),
            },
            Err(NotRead::Unanswered(_)) => return None,
            Err(NotRead::Unusable(error)) => error,
        };
        note_refused(worker, position, &refused);
    }
    None
}

pub(super) fn note_restored(at: At, bytes: &[u8]) {
    tracing::info!(event = "snapshot_restored", position = at.position, bytes = bytes.len());
}

pub(super) fn note_refused(worker: &Worker, position: u64, error: &str) {
    tracing::error!(event = "snapshot_refused", position, error);
    worker.metrics.snapshots.inc(Counted::Refused);
}

/// Takes over the fold's state.
pub(super) fn take(worker: &Worker, stream: &str, bytes: &[u8]) -> Result<Own, SnapshotError> {
    let mut fold = worker.ledger.fold();
    let restored = fold.restore(bytes, stream, worker.clock.offset());
    if restored.is_err() {
        worker.state.clear();
        worker.verdicts.clear();
        *fold = Fold::new(std::sync::Arc::clone(&worker.state), std::sync::Arc::clone(&worker.verdicts));
    }
    Ok(Own { at: restored?, hash: xxh3_64(bytes), remade: None })
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
