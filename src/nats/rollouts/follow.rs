use std::sync::Arc;
use std::time::Duration;

use beamline_nats::jetstream::{Select, Stored};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::peers::suspend_if_mixed;
use super::{MAX_VERDICTS, carry_out, report};
use crate::domain::Stamp;
use crate::log::At;
use crate::nats::Worker;
use crate::nats::ledger::{nanos_of, stamp_of};
use crate::nats::snapshots;
use crate::nats::stored::{StreamReader, Unread};
use crate::nats::stream_info::StreamInfo;
use crate::rollout::stream::{Agenda, Following};
use crate::wire;

/// How often the stream is looked at, whether or not something was heard.
const EVERY: Duration = Duration::from_secs(1);
/// How often it is checked whether all workers support rollouts, while one enforces refusals.
const PEERS_MS: u64 = 10_000;
/// A snapshot is written at each multiple of this place.
const SNAPSHOT_EVERY: u64 = 500;

/// The stream that is read.
struct Read {
    /// When it was made, as the broker writes it.
    created: String,
    /// Messages up to here stood when reading began: what they made known is known.
    catch_up_to: u64,
    /// Whether messages may stand in it that were not read.
    unread: bool,
}

/// Follows the stream from when the log has been read, until stopped.
pub async fn run(worker: Arc<Worker>, stop: CancellationToken) {
    let mut log = worker.ledger.progress();
    tokio::select! {
        () = stop.cancelled() => return,
        caught_up = log.wait_for(|p| p.caught_up) => if caught_up.is_err() { return },
    }
    let Ok(mut heard) = worker.traffic.subscribe(&worker.settings.names.rollout_all, None) else { return };
    let mut closed = worker.ledger.closed_blocks();
    let mut agenda = Agenda::default();
    let mut counting = JoinSet::new();
    let mut read: Option<Read> = None;
    let (mut looked, mut asked) = (None, None);
    let mut peers = JoinSet::new();
    loop {
        let now = worker.clock.tick();
        if looked.is_none_or(|at| now.since(at) >= 1_000) {
            looked = Some(now);
            look(&worker, &mut read).await;
        }
        if let Some(read) = &mut read
            && read_on(&worker, read).await.is_ok()
            && log.borrow_and_update().caught_up
            && worker.rollouts.progress.borrow().caught_up
        {
            let closed = closed.borrow_and_update().clone();
            carry_out::due(&worker, &mut agenda, &closed, &mut counting).await;
            if peers.is_empty() && asked.is_none_or(|at| now.since(at) >= PEERS_MS) {
                asked = Some(now);
                let worker = Arc::clone(&worker);
                peers.spawn(async move { suspend_if_mixed(&worker).await });
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            message = heard.next_batch() => {
                if message.is_none() { return }
                read.iter_mut().for_each(|read| read.unread = true);
            }
            changed = closed.changed() => if changed.is_err() { return },
            Some(_) = counting.join_next(), if !counting.is_empty() => {}
            Some(_) = peers.join_next(), if !peers.is_empty() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Checks whether the stream is the one that is read, and begins with it if not.
async fn look(worker: &Worker, read: &mut Option<Read>) {
    let name = &worker.settings.names.rollouts_stream;
    let Ok(info) = StreamInfo::ask(&worker.jetstream, name, &()).await else { return };
    let last = info.state.last_seq;
    if read.as_ref().is_none_or(|read| read.created != info.created) {
        let Some(made) = nanos_of(&info.created).and_then(|nanos| i64::try_from(nanos).ok()) else { return };
        if read.is_some() {
            tracing::error!(event = "rollout_stream_made_anew", stream = name);
        }
        let restored = snapshots::newest(worker, &info.created, last, |bytes| {
            let following = Following::restore(bytes, made)?;
            let at = At { position: following.applied(), stamp: Stamp(0) };
            Ok::<_, serde_json::Error>((at, following))
        });
        let following = restored.await.unwrap_or_else(|| Following::new(made));
        worker.rollouts.begin(following);
        *read = Some(Read { created: info.created, catch_up_to: last, unread: true });
    }
    let applied = worker.rollouts.lock().following.applied();
    read.iter_mut().filter(|_| last > applied).for_each(|read| read.unread = true);
}

/// Applies what the stream holds beyond what was read.
async fn read_on(worker: &Arc<Worker>, read: &mut Read) -> Result<(), Unread> {
    if !read.unread {
        return Ok(());
    }
    let names = &worker.settings.names;
    let messages = StreamReader::of(worker, &names.rollouts_stream);
    loop {
        let next = worker.rollouts.lock().following.applied().saturating_add(1);
        let found = messages.find(Select::NextOf(&names.rollout_all, next)).await;
        match found {
            Ok(Some(stored)) => apply(worker, read, &stored),
            Ok(None) => {
                read.unread = false;
                worker.rollouts.note_progress(true);
                return Ok(());
            }
            Err(error) => {
                tracing::warn!(event = "rollout_stream_not_read", error = %error);
                return Err(error);
            }
        }
    }
}

fn apply(worker: &Arc<Worker>, read: &Read, stored: &Stored) {
    let prefix = worker.settings.names.rollout_prefix.as_str();
    let subject = stored.subject.strip_prefix(prefix).unwrap_or_default();
    let piece = wire::decode_rollout(subject, &stored.payload);
    let at = At { position: stored.sequence, stamp: stamp_of(&stored.time).unwrap_or_default() };
    let live = at.position > read.catch_up_to;
    if piece.is_none() {
        let due = worker.line_due("rollout_message_unreadable", subject);
        if let Some(stands_for) = due {
            tracing::warn!(event = "rollout_message_unreadable", position = at.position, subject, stands_for);
        }
    }
    let applied = {
        let mut known = worker.rollouts.lock();
        let applied = known.following.apply(at.position, at.stamp, piece);
        if let Some(verdict) = applied.as_ref().and_then(|(_, effects)| effects.verdict.clone()) {
            known.verdicts.insert(at.position, verdict);
            if known.verdicts.len() > MAX_VERDICTS {
                known.verdicts.pop_first();
            }
        }
        applied
    };
    worker.rollouts.note_progress(false);
    if let Some((message, effects)) = &applied
        && live
    {
        report::report(worker, at, message, effects);
    }
    if live && at.position.is_multiple_of(SNAPSHOT_EVERY) {
        store_snapshot(worker, read, at);
    }
}

fn store_snapshot(worker: &Arc<Worker>, read: &Read, at: At) {
    match worker.rollouts.lock().following.snapshot() {
        Ok(bytes) => {
            let (worker, created) = (Arc::clone(worker), read.created.clone());
            tokio::spawn(async move { snapshots::store(&worker, &created, at, None, bytes).await });
        }
        Err(error) => tracing::error!(event = "snapshot_not_stored", position = at.position, error = %error),
    }
}
