mod apply;
mod begin;
mod decode;
mod identity;
mod news;

pub(in crate::nats) use decode::{read, read_under};
pub(super) use news::Report;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use beamline_nats::Subscriber;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::closed::ClosedBlocks;
use super::watchdog::describe_for_reading;
use crate::domain::Tick;
use crate::ledger::Fold;
use crate::log::{At, FoldVersion};
use crate::nats::Worker;
use crate::nats::delivered::{SILENCE, Wanted, deliver};
use crate::nats::stream_info::Undescribed;
use crate::nats::streams;
use crate::telemetry::labels::Trouble;
use apply::{note_progress, take};
use begin::{Unanswered, begin, check_identity, pass_deleted};
use news::News;

/// A stream that is ahead while nothing comes for this long has its consumer made anew.
const STALL_MS: u64 = 1_000;
/// How long a consumer outlives its reader.
const INACTIVE: Duration = Duration::from_secs(30);
/// Between tries, where the broker says no.
const RETRY: Duration = Duration::from_millis(250);
/// Between tries where only a newer program helps.
const NEWER_RETRY: Duration = Duration::from_secs(5);

/// Why reading begins anew.
enum Restart {
    /// The consumer is gone or skips entries: go on after the last one applied.
    Consumer(&'static str),
    /// The log's stream is gone: make what is lacking.
    Missing,
    /// The log is not the one that was read: begin from nothing.
    Rebuild(&'static str),
    /// The snapshot recorded at this position differs from this worker's.
    Differs(u64),
    /// The next entry needs a newer program, which is put in the place of this one.
    Newer(FoldVersion),
    /// The connection is gone: wait for it.
    Disconnected,
}

/// What the reader knows of the log that it reads.
#[derive(Default)]
struct Known {
    created: Option<String>,
    /// The same in nanoseconds.
    made: i128,
    /// The connection over which the log was found to be the one that was read so far.
    epoch: u64,
    last: Option<At>,
    /// A gap that a fresh consumer showed again: its entries are gone.
    gap_at: Option<u64>,
    /// Entries up to here stood when reading began.
    catch_up_to: u64,
    /// Where reading began.
    began_at: u64,
    /// Which entries are news.
    news: News,
    /// The position at which the state before a rebuild differed from what is recorded.
    difference: Option<u64>,
    /// The positions, from that one on, at which snapshots are recorded: the new state is compared with each.
    again: BTreeSet<u64>,
    /// Whether every entry that the log ever had was applied.
    whole: bool,
    /// Whether entries were gone before they were read, which others may have applied.
    missed: bool,
    /// The snapshot that is being written.
    storing: Option<JoinHandle<()>>,
}

/// Reads the log until stopped. Makes the streams first, if they are lacking.
///
/// # Errors
/// Another stream stands in the way of ours; trying again cannot help.
pub async fn run(worker: Arc<Worker>, stop: CancellationToken) -> Result<(), streams::StreamsError> {
    let mut known = Known { news: News::from(worker.clock.tick()), ..Known::default() };
    let mut ensured = false;
    let mut remake = worker.ledger.remake.subscribe();
    loop {
        if wait_for_connection(&worker, &stop).await.is_none() {
            return Ok(());
        }
        // Not at each reconnect: while a cluster elects leaders, some stream or other may be out of
        // reach for long after the log is back.
        if !ensured {
            match streams::ensure(&worker.jetstream, &worker.settings.names, &worker.settings.ledger).await {
                Ok(()) => {
                    ensured = true;
                    worker.link.set_trouble(Trouble::Streams, None, &worker.metrics);
                }
                Err(error) if error.is_passing() => {
                    worker.link.set_trouble(Trouble::Streams, Some(error.to_string()), &worker.metrics);
                    if pause(&stop).await {
                        return Ok(());
                    }
                    continue;
                }
                Err(error) => return Err(error),
            }
        }
        let restart = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            restart = follow(&worker, &mut known, &mut remake) => restart,
        };
        match restart {
            Restart::Consumer(reason) => {
                tracing::warn!(
                    event = "log_consumer_remade",
                    reason,
                    position = known.last.map(|at| at.position)
                );
            }
            Restart::Missing => {
                tracing::error!(event = "log_missing", position = known.last.map(|at| at.position));
                ensured = false;
            }
            Restart::Rebuild(reason) => {
                ensured = false;
                known = rebuild(&worker, &known, reason, None);
            }
            Restart::Differs(position) => {
                let reason = "another snapshot is recorded than this worker's";
                known = rebuild(&worker, &known, reason, Some(position));
            }
            Restart::Newer(version) => {
                let newest = FoldVersion::NEWEST;
                let why =
                    format!("the log needs version {version} of the fold; this worker has up to {newest}");
                worker.link.set_trouble(Trouble::Fold, Some(why), &worker.metrics);
                if pause_for(NEWER_RETRY, &stop).await {
                    return Ok(());
                }
            }
            Restart::Disconnected => worker.link.note_stall(worker.clock.tick()),
        }
        if pause(&stop).await {
            return Ok(());
        }
    }
}

/// Throws the state away.
fn rebuild(worker: &Worker, known: &Known, reason: &str, difference: Option<u64>) -> Known {
    tracing::error!(event = "log_rebuild", reason, position = known.last.map(|at| at.position));
    worker.metrics.log_rebuilds.inc();
    worker.ledger.note_rebuild();
    worker.ledger.compared.send_replace(None);
    worker.state.clear();
    worker.verdicts.clear();
    *worker.ledger.fold() = Fold::new(Arc::clone(&worker.state), Arc::clone(&worker.verdicts));
    // The fresh fold counts their changes from 0 again.
    worker.ledger.closed.send_replace(ClosedBlocks::default());
    Known { news: known.news.rebuilt(), difference, ..Known::default() }
}

/// Waits a little; `true` if stopped meanwhile.
async fn pause(stop: &CancellationToken) -> bool {
    pause_for(RETRY, stop).await
}

async fn pause_for(time: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => true,
        () = tokio::time::sleep(time) => false,
    }
}

async fn wait_for_connection(worker: &Worker, stop: &CancellationToken) -> Option<()> {
    let mut connection = worker.link.watch();
    tokio::select! {
        () = stop.cancelled() => None,
        up = connection.wait_for(|c| c.up) => up.ok().map(|_| ()),
    }
}

/// Makes a consumer and applies what it delivers, until something is wrong.
async fn follow(
    worker: &Arc<Worker>,
    known: &mut Known,
    remake: &mut watch::Receiver<Option<u64>>,
) -> Restart {
    let mut connection = worker.link.watch();
    connection.mark_unchanged();
    let epoch = connection.borrow().epoch;
    let stream = match describe_for_reading(worker).await {
        Ok(stream) => stream,
        Err(Undescribed::Missing) => return Restart::Missing,
        Err(Undescribed::Silent) => return Restart::Consumer("the log does not answer"),
    };
    if let Err(restart) = check_identity(worker, known, &stream).await {
        return restart;
    }
    if known.created.is_none()
        && let Err(Unanswered(reason)) = begin(worker, known, &stream).await
    {
        return Restart::Consumer(reason);
    }
    if let Some(last) = known.last.filter(|at| at.position < stream.last) {
        pass_deleted(worker, known, last).await;
    }
    known.epoch = epoch;
    let next = known.last.map_or(1, |at| at.position + 1);
    note_progress(worker, known);
    let mut subscription = match subscribe(worker, next).await {
        Ok(subscription) => subscription,
        Err(reason) => {
            tracing::warn!(event = "log_consumer_failed", error = %reason);
            return Restart::Consumer("its consumer could not be made");
        }
    };
    let mut heard = worker.clock.tick();
    let mut applied = heard;
    let mut ticker = tokio::time::interval(Duration::from_millis(250));
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            batch = subscription.next_batch() => {
                let Some(batch) = batch else { return Restart::Disconnected };
                heard = worker.clock.tick();
                match take(worker, known, &batch) {
                    Ok(0) => {}
                    Ok(_) => applied = heard,
                    Err(restart) => return restart,
                }
            }
            _ = ticker.tick() => {
                let now = worker.clock.tick();
                if u128::from(now.since(heard)) > SILENCE.as_millis() {
                    worker.link.note_stall(now);
                    // The path of this connection may be, too.
                    worker.access.doubt();
                    return Restart::Consumer("it is silent");
                }
                if is_stalled(worker, known, now, applied) {
                    return Restart::Consumer("the stream is ahead and nothing comes");
                }
            }
            changed = remake.changed() => {
                let differs = *remake.borrow_and_update();
                if let Some(position) = differs.filter(|_| changed.is_ok()) {
                    return Restart::Differs(position);
                }
            }
            changed = connection.changed() => {
                let now = *connection.borrow();
                if changed.is_err() || !now.up || now.epoch != epoch {
                    return Restart::Disconnected;
                }
            }
        }
    }
}

fn is_stalled(worker: &Worker, known: &Known, now: Tick, applied: Tick) -> bool {
    let health = worker.ledger.health.borrow();
    let ahead = health.stream.as_ref().is_some_and(|s| known.last.is_some_and(|at| s.last > at.position));
    // The description must be newer than the last entry, or it speaks of what came meanwhile.
    health.reachable
        && ahead
        && health.at > applied
        && now.since(applied) > STALL_MS
        && now.since(health.at) < STALL_MS
}

async fn subscribe(worker: &Worker, next: u64) -> Result<Subscriber, String> {
    let wanted = Wanted {
        from: DeliverPolicy::ByStartSequence { start_sequence: next },
        subjects: String::new(),
        outlives: INACTIVE,
        description: format!("log reader of {}", worker.settings.worker_name),
    };
    let (deliveries, _) = deliver(worker, &worker.settings.names.log_stream, wanted).await?;
    Ok(deliveries)
}
