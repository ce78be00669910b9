use std::time::Duration;

use beamline_nats::jetstream::Select;

use super::apply::{note_compared, show_closed};
use super::identity::{Log, goes_on, gone};
use super::{Known, Restart};
use crate::domain::Stamp;
use crate::ledger::{Own, place_of};
use crate::log::At;
use crate::nats::Worker;
use crate::nats::events;
use crate::nats::ledger::closed::ClosedBlocks;
use crate::nats::ledger::watchdog::{Described, deleted_up_to, nanos_of, stamp_of};
use crate::nats::snapshots::{self, Compared, NotRead};
use crate::nats::stored::StreamReader;

/// An answer about one entry that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is lost with entries that are gone: all else comes back from the buckets or with the next results.
const LOST: &str = "forced states, open breakers and their windows, as far as they began there";

/// No answer came, and from what.
pub(super) struct Unanswered(pub(super) &'static str);

/// Without its word nobody knows what the snapshots hold of entries that the log no longer has.
const NO_SNAPSHOTS: Unanswered = Unanswered("the bucket of snapshots does not answer");

/// Begins with a stream: from its last sound snapshot, else from its first entry.
///
/// # Errors
/// [`Unanswered`]; worth another try.
pub(super) async fn begin(worker: &Worker, known: &mut Known, stream: &Described) -> Result<(), Unanswered> {
    let log = log_of(stream);
    known.news.begin(worker.clock.offset(), events::last_transition(worker).await);
    let restored = if known.difference.is_some() && log.is_whole() {
        // Snapshots are what is in doubt, and the log has all that they are made of.
        None
    } else {
        // After a difference from the one that all workers have in common.
        let positions = match known.difference {
            Some(_) => snapshots::up_to(worker, log.created, log.last).await,
            None => snapshots::to_try(worker, log.created, log.last).await,
        };
        let positions = positions.map_err(|_| NO_SNAPSHOTS)?;
        restore(worker, log, positions).await?
    };
    if let Some(difference) = known.difference {
        let recorded = snapshots::up_to(worker, log.created, log.last).await.map_err(|_| NO_SNAPSHOTS)?;
        known.again = recorded.into_iter().filter(|position| *position >= difference).collect();
    }
    known.whole = restored.is_none() && log.is_whole();
    let last = restored.map_or_else(At::default, |own| own.at);
    if let Some(own) = restored {
        let rebuilds = worker.ledger.progress.borrow().rebuilds;
        note_compared(worker, Compared { stream: stream.created.clone(), rebuilds, own, differs: false });
    }
    known.last = Some(match gone(last.position, stream.first) {
        None => last,
        Some((from, to)) => {
            worker.metrics.log_gaps.inc();
            tracing::error!(event = "log_entries_gone", from, to, lost = LOST);
            known.missed = true;
            At { position: to, stamp: Stamp(0) }
        }
    });
    known.created = Some(stream.created.clone());
    known.made = nanos_of(&stream.created).unwrap_or_default();
    known.catch_up_to = stream.last;
    known.began_at = known.last.map_or(0, |at| at.position);
    let closed = {
        let fold = worker.ledger.fold();
        worker.metrics.policies.set(fold.register().live_count() as u64);
        worker.ledger.note_fold_version(&fold, &worker.metrics);
        ClosedBlocks::changed(&fold, &worker.ledger.closed)
    };
    show_closed(worker, closed);
    tracing::info!(event = "log_catching_up", from = known.began_at + 1, to = stream.last);
    Ok(())
}

/// Takes over the first of these snapshots that is sound and of this log's history.
async fn restore(worker: &Worker, log: Log<'_>, positions: Vec<u64>) -> Result<Option<Own>, Unanswered> {
    for position in positions {
        match restore_one(worker, log, position).await? {
            Ok(own) => return Ok(Some(own)),
            Err(error) => snapshots::note_refused(worker, position, &error),
        }
    }
    Ok(None)
}

/// Takes over the snapshot at a position. Gives why not, where it cannot be used.
async fn restore_one(
    worker: &Worker,
    log: Log<'_>,
    position: u64,
) -> Result<Result<Own, String>, Unanswered> {
    let bytes = match snapshots::read(worker, log.created, position).await {
        Ok(bytes) => bytes,
        Err(NotRead::Unanswered(_)) => return Err(NO_SNAPSHOTS),
        Err(NotRead::Unusable(error)) => return Ok(Err(error)),
    };
    let at = match place_of(&bytes, log.created) {
        Ok(at) => at,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let found = match log.witness(at) {
        Some(witness) => stamp_at(worker, witness).await?,
        None => None,
    };
    if let Err(error) = log.bears(at, found) {
        snapshots::remove(worker, log.created, position).await;
        return Ok(Err(error.to_owned()));
    }
    let taken = snapshots::take(worker, log.created, &bytes);
    if taken.is_ok() {
        snapshots::note_restored(at, &bytes);
    }
    Ok(taken.map_err(|error| error.to_string()))
}

fn log_of(stream: &Described) -> Log<'_> {
    Log { created: &stream.created, first: stream.first, last: stream.last, held: stream.held }
}

/// Whether the log is still the one that was read; if not, what follows.
pub(super) async fn check_identity(
    worker: &Worker,
    known: &Known,
    stream: &Described,
) -> Result<(), Restart> {
    let (Some(created), Some(last)) = (&known.created, known.last) else { return Ok(()) };
    let position = goes_on(created, last, log_of(stream)).map_err(Restart::Rebuild)?;
    let Some(position) = position else { return Ok(()) };
    match stamp_at(worker, position).await {
        Ok(Some(stamp)) if stamp != last.stamp => {
            Err(Restart::Rebuild("the last entry read has another stamp"))
        }
        // One that was deleted speaks against nothing.
        Ok(_) => Ok(()),
        Err(Unanswered(reason)) => Err(Restart::Consumer(reason)),
    }
}

/// The stamp of an entry; `None` where the log does not hold it.
async fn stamp_at(worker: &Worker, position: u64) -> Result<Option<Stamp>, Unanswered> {
    let log = StreamReader::of(worker, &worker.settings.names.log_stream);
    match tokio::time::timeout(PATIENCE, log.find(Select::At(position))).await {
        Ok(Ok(entry)) => Ok(entry.and_then(|entry| stamp_of(&entry.time))),
        Ok(Err(_)) | Err(_) => Err(Unanswered("the log does not answer")),
    }
}

/// Passes entries that were deleted one by one before they were read: where they were the last ones,
/// nothing would come that shows it.
pub(super) async fn pass_deleted(worker: &Worker, known: &mut Known, last: At) {
    let to = deleted_up_to(worker, last.position).await;
    if to == last.position {
        return;
    }
    tracing::error!(event = "log_entries_gone", from = last.position + 1, to);
    if known.gap_at != Some(last.position) {
        worker.metrics.log_gaps.inc();
    }
    known.last = Some(At { position: to, stamp: Stamp(0) });
    (known.whole, known.missed) = (false, true);
}
