use std::sync::Arc;
use std::time::Duration;

use beamline_nats::encode::Outgoing;
use beamline_nats::jetstream::Delivery;
use beamline_nats::{Batch, MessageRef};

use super::decode::read;
use super::news::Report;
use super::{Known, Restart};
use crate::domain::{Disposition, Stamp};
use crate::ledger::{AHEAD, Fold, Remade, What};
use crate::log::{At, Entry};
use crate::nats::Worker;
use crate::nats::ledger::closed::ClosedBlocks;
use crate::nats::ledger::told;
use crate::nats::snapshots::{self, Compared};
use crate::telemetry::labels::{Snapshot, Source};

/// Entries applied under one lock at most, before others may look at the fold.
const BATCH: usize = 256;
/// A worker that missed entries lets others, which may have applied them, record their snapshots first.
const GRACE: Duration = Duration::from_secs(5);

/// A message of the log, and where it stands.
type Placed<'m> = (MessageRef<'m>, At);

/// Applies what came together. Gives how many entries were applied.
pub(super) fn take(worker: &Arc<Worker>, known: &mut Known, batch: &Batch) -> Result<usize, Restart> {
    let mut entries: Vec<Placed<'_>> = Vec::with_capacity(batch.len());
    let mut asked = Vec::new();
    for message in batch.iter() {
        match Delivery::of(&message) {
            Delivery::Message(place) => {
                entries.push((message, At { position: place.stream, stamp: Stamp(place.nanos / 1_000_000) }));
            }
            Delivery::FlowControl(reply) => asked.push(reply),
            Delivery::Heartbeat(heartbeat) => {
                let have = known.last.map_or(0, |at| at.position) + entries.len() as u64;
                if let Some(reply) = heartbeat.stalled {
                    asked.push(reply);
                } else if let Some(until) = heartbeat.last_stream.filter(|delivered| *delivered > have) {
                    apply(worker, known, &entries)?;
                    tracing::warn!(event = "log_entries_missed", until);
                    return Err(Restart::Consumer("it skipped entries"));
                }
            }
            // Nobody but the broker knows the subject, and it has nothing else to say.
            Delivery::Status { .. } | Delivery::Foreign => {}
        }
    }
    let applied = apply(worker, known, &entries);
    for reply in asked {
        // The consumer waits for it; without an answer it is made anew.
        let answer = Outgoing::new(reply, b"");
        let _ = worker.traffic.publish(&answer);
    }
    applied
}

fn apply(worker: &Arc<Worker>, known: &mut Known, entries: &[Placed<'_>]) -> Result<usize, Restart> {
    let mut count = 0;
    for entries in entries.chunks(BATCH) {
        count += apply_some(worker, known, entries)?;
    }
    Ok(count)
}

/// Applies entries under one lock.
fn apply_some(worker: &Arc<Worker>, known: &mut Known, entries: &[Placed<'_>]) -> Result<usize, Restart> {
    let offset = worker.clock.offset();
    let every = worker.settings.ledger.snapshot_every;
    let mut count = 0;
    let mut fold = worker.ledger.fold();
    let mut outcome = Ok(());
    let (mut policies_changed, mut version_changed) = (false, false);
    let mut ahead = Vec::with_capacity(AHEAD);
    let mut entries = entries.iter().peekable();
    'batch: while entries.peek().is_some() {
        for (message, at) in entries.by_ref() {
            let (entry, malformed) = match read(worker, fold.version(), message) {
                Ok(entry) => (entry, None),
                Err(malformed) => (Entry::Rejected, Some(malformed)),
            };
            // What follows it is read by its rules.
            let raises = matches!(entry, Entry::FoldVersion(_));
            ahead.push((message, *at, entry, malformed));
            if raises || ahead.len() == AHEAD {
                break;
            }
        }
        let until = ahead.last().map_or_else(Stamp::default, |(_, at, ..)| at.stamp);
        fold.foresee(ahead.iter().map(|(_, _, entry, _)| entry), until);
        for (message, at, entry, malformed) in ahead.drain(..) {
            let last = known.last.map_or(0, |l| l.position);
            if at.position <= last {
                continue;
            }
            if at.position != last + 1 && known.gap_at != Some(last) {
                known.gap_at = Some(last);
                worker.metrics.log_gaps.inc();
                outcome = Err(Restart::Consumer("a gap"));
                break 'batch;
            }
            if at.position != last + 1 {
                // A fresh consumer has shown the same gap: the entries are gone for good.
                tracing::error!(event = "log_entries_gone", from = last + 1, to = at.position - 1);
                (known.whole, known.missed) = (false, true);
            }
            if let Some(version) = Fold::unsupported(&entry) {
                outcome = Err(Restart::Newer(version));
                break 'batch;
            }
            known.gap_at = None;
            let live = at.position > known.catch_up_to;
            let report = known.news.report(at.stamp, live);
            let is_news = report == Report::All;
            let applied = fold.apply(&entry, at, offset, is_news);
            if let Some(malformed) = malformed.filter(|_| is_news) {
                worker.link.note_malformed(Source::Log, malformed, &worker.metrics);
            }
            let rejected = matches!(applied.what, What::Result { disposition: Disposition::Rejected, .. });
            known.news.note(at.stamp, rejected);
            told::tell(worker, message, &entry, at, &applied, report);
            policies_changed |= matches!(entry, Entry::Policy(_));
            version_changed |= matches!(entry, Entry::FoldVersion(_));
            let again = known.again.contains(&at.position);
            let due = known.last.is_some_and(|before| snapshots::is_due(before, at, every));
            if again || live && due {
                store_snapshot(worker, known, &fold, at, again);
            }
            known.last = Some(at);
            count += 1;
        }
    }
    if policies_changed {
        worker.metrics.policies.set(fold.register().live_count() as u64);
    }
    if version_changed {
        worker.ledger.note_fold_version(&fold, &worker.metrics);
    }
    let closed = ClosedBlocks::changed(&fold, &worker.ledger.closed);
    drop(fold);
    show_closed(worker, closed);
    note_progress(worker, known);
    outcome.map(|()| count)
}

pub(super) fn show_closed(worker: &Worker, changed: Option<ClosedBlocks>) {
    if let Some(blocks) = changed {
        worker.ledger.closed.send_replace(blocks);
    }
}

fn store_snapshot(worker: &Arc<Worker>, known: &mut Known, fold: &Fold, at: At, again: bool) {
    let Some(stream) = known.created.clone() else { return };
    // They do not pile up where entries come faster than snapshots are written. Those that are compared again are few.
    let writing = known.storing.take_if(|task| again || task.is_finished());
    let bytes = if known.storing.is_some() {
        Err("the one before it is still being written".to_owned())
    } else {
        fold.snapshot(&stream).map_err(|e| e.to_string())
    };
    match bytes {
        Ok(bytes) => {
            let worker = Arc::clone(worker);
            let remade = again.then_some(if known.whole { Remade::FromLog } else { Remade::FromRest });
            let rebuilds = worker.ledger.progress.borrow().rebuilds;
            let grace = known.missed.then_some(GRACE);
            known.storing = Some(tokio::spawn(async move {
                if let Some(before) = writing {
                    let _ = before.await;
                }
                if let Some(grace) = grace {
                    tokio::time::sleep(grace).await;
                }
                let (own, differs) = snapshots::store(&worker, &stream, at, remade, bytes).await;
                note_compared(&worker, Compared { stream, rebuilds, own, differs });
            }));
        }
        Err(error) => {
            worker.metrics.snapshots.inc(Snapshot::Failed);
            tracing::error!(event = "snapshot_not_stored", position = at.position, error);
        }
    }
}

/// Notes what was compared, unless the state was made anew meanwhile.
pub(super) fn note_compared(worker: &Worker, compared: Compared) {
    if worker.ledger.progress.borrow().rebuilds == compared.rebuilds {
        worker.ledger.compared.send_replace(Some(compared));
    }
}

/// Says how far the reader is.
pub(super) fn note_progress(worker: &Worker, known: &Known) {
    let position = known.last.map_or(0, |at| at.position);
    worker.ledger.progress.send_if_modified(|p| {
        let caught_up = p.caught_up || position >= known.catch_up_to;
        let before = *p;
        (p.made, p.epoch) = (known.made, known.epoch);
        if caught_up && !p.caught_up {
            let replayed = position.saturating_sub(known.began_at);
            let rejected = known.news.rejected();
            tracing::info!(event = "log_caught_up", position, replayed, rejected);
        }
        p.position = position;
        p.caught_up = caught_up;
        *p != before
    });
}
