//! Seeing to it that streams and buckets are there and take what comes, while the worker runs.
//!
//! Somebody may delete one, set its limit too low, or let the disk fill. What is gone is made again, and
//! what refuses is told in `/readyz`, in a metric and in the log, for as long as it lasts. That a stream
//! of ours refuses at its limit is seen from how it stands. That the broker stores nothing (its own
//! limit, the account's, the disk's) shows only to who writes, and a worker may have nothing to
//! write for hours while results are turned away: so a small value is put again and again into the
//! bucket of snapshots, and where no entry comes a mark is appended to the log (`storage`).

mod storage;

use std::sync::Arc;

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use self::storage::{Found, Storage};
use super::Worker;
use super::buckets::{BucketError, Holds};
use super::ledger::stamp_of;
use super::refused::answer;
use super::retention::Retention;
use super::stream_info::{StreamInfo, Undescribed};
use super::streams::{self, Results};
use crate::log::Entry;
use crate::telemetry::labels::Trouble;
use crate::wire;

/// The key of the value that is put to see whether the broker stores it; the bucket keeps one of it.
const CHECK: &str = "check";
/// As long as a short result.
const CHECK_BYTES: usize = 256;

/// Looks after each interval, from when the log has been read, until stopped.
pub async fn run(worker: Arc<Worker>, stop: CancellationToken) {
    let mut progress = worker.ledger.progress();
    tokio::select! {
        () = stop.cancelled() => return,
        // Until then the reader makes what is lacking.
        caught_up = progress.wait_for(|p| p.caught_up) => if caught_up.is_err() { return },
    }
    let (mut storage, mut retention) = (Storage::default(), Retention::default());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(worker.settings.reconcile_interval) => {}
        }
        if worker.link.is_up() && look(&worker, &mut retention).await.is_ok() {
            check_storage(&worker, &mut storage).await;
        }
    }
}

/// Looks at every stream, and makes those that are gone.
async fn look(worker: &Worker, retention: &mut Retention) -> Result<(), Undescribed> {
    let names = &worker.settings.names;
    let buckets = [&names.policies_bucket, &names.flags_bucket, &names.snapshots_bucket];
    let kept = [&names.log_stream, &names.events_stream, &names.usage_stream, &names.rollouts_stream]
        .map(String::clone);
    let holding = [Holds::Policies, Holds::Flags].map(|holds| (holds, format!("KV_{}", holds.name(worker))));
    let (mut missing, mut full, mut older) = (Vec::new(), Vec::new(), Vec::new());
    for name in kept.into_iter().chain(buckets.map(|bucket| format!("KV_{bucket}"))) {
        match StreamInfo::ask(&worker.jetstream, &name, &()).await {
            Ok(info) => {
                retention.note(worker, &name, &info);
                let made = stamp_of(&info.created);
                let holds = holding.iter().find(|(_, stream)| *stream == name).map(|(holds, _)| *holds);
                if made.zip(holds).is_some_and(|(made, holds)| holds.is_older_by_making(worker, made)) {
                    older.push(BucketError::Older { stream: name.clone() }.to_string());
                }
                full.extend(info.full().map(|why| format!("{name} holds {why}")));
            }
            Err(Undescribed::Missing) => missing.push(name),
            // Without an answer nothing can be said of any.
            Err(Undescribed::Silent) => return Err(Undescribed::Silent),
        }
    }
    let full = (!full.is_empty()).then(|| full.join("; "));
    worker.link.set_trouble(Trouble::Full, full, &worker.metrics);
    let made = if missing.is_empty() {
        Ok(())
    } else {
        streams::ensure(&worker.jetstream, names, &worker.settings.ledger).await
    };
    let trouble = match (&made, &*worker.ledger.results.watch().borrow()) {
        (Err(error), _) => Some(format!("{} gone: {error}", missing.join(", "))),
        (Ok(()), Results::Refused(error)) => Some(format!("{} takes no results: {error}", names.log_stream)),
        (Ok(()), _) => (!older.is_empty()).then(|| older.join("; ")),
    };
    worker.link.set_trouble(Trouble::Streams, trouble, &worker.metrics);
    if made.is_ok() {
        for stream in missing {
            tracing::warn!(event = "stream_remade", stream);
            worker.metrics.nats_remade.inc();
            // What a bucket held is put back by the comparison.
            worker.ledger.note_lacking();
        }
    }
    Ok(())
}

/// Puts a value, appends a mark where one is due, and reports if the broker does not store them.
async fn check_storage(worker: &Worker, storage: &mut Storage) {
    let names = &worker.settings.names;
    let bucket = format!("KV_{}", names.snapshots_bucket);
    let subject = format!("$KV.{}.{CHECK}", names.snapshots_bucket);
    let value = Bytes::from_static(&[b'.'; CHECK_BYTES]);
    storage.note_bucket(put(worker, &bucket, &subject, value).await, &bucket);
    let position = worker.ledger.progress().borrow().position;
    if storage.is_mark_due(position, worker.discovery.decided())
        && let Some((kind, body)) = wire::encode_entry(&Entry::Mark)
    {
        let subject = format!("{}{}", names.log_prefix, kind.as_str());
        storage.note_log(put(worker, &names.log_stream, &subject, body.into()).await, &names.log_stream);
    }
    worker.link.set_trouble(Trouble::Storage, storage.trouble(), &worker.metrics);
}

/// Publishes into a stream, and gives what that shows.
async fn put(worker: &Worker, stream: &str, subject: &str, payload: Bytes) -> Found {
    let message = PublishMessage::build().payload(payload);
    let error = match worker.publish(subject, message).await {
        Ok(_) => return Found::Stored,
        Err(error) => error,
    };
    if let Some(refused) = answer(&error) {
        return Found::Refused(refused.to_string());
    }
    if error.kind() != PublishErrorKind::TimedOut || !worker.link.is_up() {
        return Found::Nothing;
    }
    // Silence speaks of the storage only where the stream has its leader, and that answers.
    match StreamInfo::ask(&worker.jetstream, stream, &()).await {
        Ok(info) if info.replicas().have_quorum() => Found::Silent,
        _ => Found::Nothing,
    }
}
