use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, push};
use beamline_nats::encode::Outgoing;
use beamline_nats::jetstream::{Delivery, Select};
use beamline_nats::{Batch, Malformed, MessageRef, Subscriber};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::closed::ClosedBlocks;
use super::watchdog::{Described, deleted_up_to, describe_for_reading, nanos_of, stamp_of};
use crate::config::Names;
use crate::domain::{Stamp, Tick};
use crate::ledger::{AHEAD, Fold};
use crate::log::{At, Entry, FoldVersion};
use crate::nats::Worker;
use crate::nats::stored::StreamReader;
use crate::nats::stream_info::Undescribed;
use crate::nats::{snapshots, streams};
use crate::telemetry::labels::{Snapshot, Source, Trouble};
use crate::wire::{self, Content, subjects};

/// The broker says each second that the consumer is alive; three missed ones mean that it is not.
const HEARTBEAT: Duration = Duration::from_secs(1);
const SILENCE_MS: u64 = 3_000;
/// A stream that is ahead while nothing comes for this long has its consumer made anew.
const STALL_MS: u64 = 1_000;
/// Entries applied under one lock at most, before others may look at the fold.
const BATCH: usize = 256;
/// How long a consumer outlives its reader.
const INACTIVE: Duration = Duration::from_secs(30);
/// An answer to the making of a consumer that takes longer is none: its cluster elects a leader, and the
/// next try may find it.
const CREATE_PATIENCE: Duration = Duration::from_secs(2);
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
    last: Option<At>,
    /// A gap that a fresh consumer showed again: its entries are gone.
    gap_at: Option<u64>,
    /// Entries up to here stood when reading began, and are told to nobody.
    catch_up_to: u64,
    /// Where reading began.
    began_at: u64,
    /// The snapshot that is being written.
    storing: Option<JoinHandle<()>>,
}

/// Reads the log until stopped. Makes the streams first, if they are lacking.
///
/// # Errors
/// Another stream stands in the way of ours; trying again cannot help.
pub async fn run(worker: Arc<Worker>, stop: CancellationToken) -> Result<(), streams::StreamsError> {
    let mut known = Known::default();
    let mut ensured = false;
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
            restart = follow(&worker, &mut known) => restart,
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
                tracing::error!(event = "log_rebuild", reason, position = known.last.map(|at| at.position));
                worker.metrics.log_rebuilds.inc();
                known = Known::default();
                worker.ledger.note_rebuild();
                worker.state.clear();
                worker.verdicts.clear();
                *worker.ledger.fold() = Fold::new(Arc::clone(&worker.state), Arc::clone(&worker.verdicts));
                // The fresh fold counts their changes from 0 again.
                worker.ledger.closed.send_replace(ClosedBlocks::default());
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
async fn follow(worker: &Arc<Worker>, known: &mut Known) -> Restart {
    let mut connection = worker.link.watch();
    connection.mark_unchanged();
    let epoch = connection.borrow().epoch;
    let stream = match describe_for_reading(worker).await {
        Ok(stream) => stream,
        Err(Undescribed::Missing) => return Restart::Missing,
        Err(Undescribed::Silent) => return Restart::Consumer("the log does not answer"),
    };
    if let Err(reason) = check_identity(worker, known, &stream).await {
        return Restart::Rebuild(reason);
    }
    if known.created.is_none() {
        begin(worker, known, &stream).await;
    }
    if let Some(last) = known.last.filter(|at| at.position < stream.last) {
        pass_deleted(worker, known, last).await;
    }
    let next = known.last.map_or(1, |at| at.position + 1);
    tell_progress(worker, known);
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
                if now.since(heard) > SILENCE_MS {
                    worker.link.note_stall(now);
                    // The path of this connection may be, too.
                    worker.access.doubt();
                    return Restart::Consumer("it is silent");
                }
                if is_stalled(worker, known, now, applied) {
                    return Restart::Consumer("the stream is ahead and nothing comes");
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

/// Begins with a stream: from its last sound snapshot, else from its first entry.
async fn begin(worker: &Worker, known: &mut Known, stream: &Described) {
    let restored = snapshots::load(worker, &stream.created, stream.last).await;
    let last = restored.unwrap_or_default();
    let before_first = stream.first.saturating_sub(1);
    if restored.is_some() && last.position < before_first {
        tracing::error!(event = "log_entries_gone", from = last.position + 1, to = before_first);
    }
    known.last = Some(if last.position >= before_first {
        last
    } else {
        At { position: before_first, stamp: Stamp(0) }
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
}

/// Passes entries that were deleted one by one before they were read: where they were the last ones,
/// nothing would come that shows it.
async fn pass_deleted(worker: &Worker, known: &mut Known, last: At) {
    let to = deleted_up_to(worker, last.position).await;
    if to == last.position {
        return;
    }
    tracing::error!(event = "log_entries_gone", from = last.position + 1, to);
    if known.gap_at != Some(last.position) {
        worker.metrics.log_gaps.inc();
    }
    known.last = Some(At { position: to, stamp: Stamp(0) });
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
    let inbox = worker.traffic.new_inbox();
    let subscription = worker.traffic.subscribe(&inbox, None).map_err(|e| e.to_string())?;
    // The consumer is made over another connection, and delivers at once.
    if tokio::time::timeout(CREATE_PATIENCE, worker.traffic.subscribed()).await.is_err() {
        return Err("the broker does not hold the subscription".to_owned());
    }
    let config = push::Config {
        deliver_subject: inbox,
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: next },
        ack_policy: AckPolicy::None,
        max_deliver: 1,
        flow_control: true,
        idle_heartbeat: HEARTBEAT,
        memory_storage: true,
        num_replicas: 1,
        inactive_threshold: INACTIVE,
        description: Some(format!("log reader of {}", worker.settings.worker_name)),
        ..Default::default()
    };
    let made = worker.jetstream.create_consumer_on_stream(config, worker.settings.names.log_stream.as_str());
    match tokio::time::timeout(CREATE_PATIENCE, made).await {
        Ok(Ok(_)) => Ok(subscription),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

/// Whether the log is still the one that was read.
async fn check_identity(worker: &Worker, known: &Known, stream: &Described) -> Result<(), &'static str> {
    let (Some(created), Some(last)) = (&known.created, known.last) else { return Ok(()) };
    if *created != stream.created {
        return Err("the stream was made anew");
    }
    if stream.first > last.position + 1 {
        return Err("entries were purged that had not been read");
    }
    if stream.last < last.position {
        return Err("the stream is shorter than what was read");
    }
    if last.stamp == Stamp(0) || stream.first > last.position {
        return Ok(());
    }
    let log = StreamReader::of(worker, &worker.settings.names.log_stream);
    let entry = tokio::time::timeout(Duration::from_secs(2), log.find(Select::At(last.position))).await;
    // Deleted, or no answer: nothing speaks against it.
    let Ok(Ok(Some(entry))) = entry else { return Ok(()) };
    match stamp_of(&entry.time) {
        Some(stamp) if stamp != last.stamp => Err("the last entry read has another stamp"),
        _ => Ok(()),
    }
}

/// A message of the log, and where it stands.
type Placed<'m> = (MessageRef<'m>, At);

/// Applies what came together. Tells how many entries were applied.
fn take(worker: &Arc<Worker>, known: &mut Known, batch: &Batch) -> Result<usize, Restart> {
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
            }
            if let Some(version) = Fold::unsupported(&entry) {
                outcome = Err(Restart::Newer(version));
                break 'batch;
            }
            known.gap_at = None;
            let live = at.position > known.catch_up_to;
            let applied = fold.apply(&entry, at, offset, live);
            if let Some(malformed) = malformed.filter(|_| live) {
                worker.link.note_malformed(Source::Log, malformed, &worker.metrics);
            }
            super::told::tell(worker, message, &entry, at, &applied, live);
            policies_changed |= matches!(entry, Entry::Policy(_));
            version_changed |= matches!(entry, Entry::FoldVersion(_));
            if live && known.last.is_some_and(|before| snapshots::is_due(before, at, every)) {
                store_snapshot(worker, known, &fold, at);
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
    tell_progress(worker, known);
    outcome.map(|()| count)
}

fn show_closed(worker: &Worker, changed: Option<ClosedBlocks>) {
    if let Some(blocks) = changed {
        worker.ledger.closed.send_replace(blocks);
    }
}

fn store_snapshot(worker: &Arc<Worker>, known: &mut Known, fold: &Fold, at: At) {
    let Some(stream) = known.created.clone() else { return };
    // They do not pile up where entries come faster than snapshots are written.
    let bytes = if known.storing.as_ref().is_some_and(|task| !task.is_finished()) {
        Err("the one before it is still being written".to_owned())
    } else {
        fold.snapshot(&stream).map_err(|e| e.to_string())
    };
    match bytes {
        Ok(bytes) => {
            let worker = Arc::clone(worker);
            known.storing =
                Some(tokio::spawn(async move { snapshots::store(&worker, &stream, at, bytes).await }));
        }
        Err(error) => {
            worker.metrics.snapshots.inc(Snapshot::Failed);
            tracing::error!(event = "snapshot_not_stored", position = at.position, error);
        }
    }
}

fn tell_progress(worker: &Worker, known: &Known) {
    let position = known.last.map_or(0, |at| at.position);
    worker.ledger.progress.send_if_modified(|p| {
        let caught_up = p.caught_up || position >= known.catch_up_to;
        let changed = p.position != position || p.caught_up != caught_up || p.made != known.made;
        p.made = known.made;
        if caught_up && !p.caught_up {
            let replayed = position.saturating_sub(known.began_at);
            tracing::info!(event = "log_caught_up", position, replayed);
        }
        p.position = position;
        p.caught_up = caught_up;
        changed
    });
}

/// The entry of a message; one that cannot be read is rejected, on every worker alike.
pub(in crate::nats) fn read<'m>(
    worker: &Worker,
    version: FoldVersion,
    message: &MessageRef<'m>,
) -> Result<Entry<'m>, Malformed> {
    read_under(&worker.settings.names, version, message)
}

/// The same under the names of a deployment.
pub(in crate::nats) fn read_under<'m>(
    names: &Names,
    version: FoldVersion,
    message: &MessageRef<'m>,
) -> Result<Entry<'m>, Malformed> {
    let message = message.read()?;
    if let Some(kind) = message.subject.strip_prefix(names.log_prefix.as_str()) {
        return Ok(wire::decode_entry(kind, message.payload));
    }
    let tenant = subjects::token_at_star(&names.exec_result_tenants, message.subject);
    let decoded = Content::of(&message.headers, message.payload)
        .ok()
        .and_then(|content| wire::decode_result_under(version, content, message.payload, tenant).ok());
    Ok(decoded.map_or(Entry::Rejected, Entry::Result))
}
