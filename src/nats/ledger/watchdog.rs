use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::reach::{Answer, Look, Reach};
use crate::domain::{Stamp, Tick};
use crate::log::Entry;
use crate::nats::Worker;
use crate::nats::paths::{Paths, Shown};
use crate::nats::stream_info::{Replicas, StreamInfo, Undescribed};
use crate::nats::streams::LogSubjects;

/// How often the stream is asked for its state.
const EVERY: Duration = Duration::from_secs(1);
/// And until it first answers: a worker should not be kept from its start.
const AT_FIRST: Duration = Duration::from_millis(100);
/// A worker that has known for this long that it is behind stops serving.
const BEHIND_MS: u64 = 5_000;

/// The stream as the broker last described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// When it was made, as the broker writes it.
    pub created: String,
    /// The first entry that it still holds.
    pub first: u64,
    /// The last entry.
    pub last: u64,
    /// How many it holds.
    pub held: u64,
    /// The servers that hold it.
    pub(super) replicas: Replicas,
    /// Whether it is full and refuses new entries.
    pub(super) full: bool,
}

/// What the watchdog knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether the log can be reached, as `reach` judges.
    pub reachable: bool,
    /// The stream as it last was.
    pub stream: Option<Described>,
    /// The tick of that.
    pub at: Tick,
    /// Since when the reader has not reached what the stream held then.
    behind: Option<(Tick, u64)>,
}

impl Health {
    /// Whether the reader has been behind for longer than a worker may serve, while the log can be
    /// reached.
    #[must_use]
    pub fn is_far_behind(&self, now: Tick) -> bool {
        self.reachable && self.behind.is_some_and(|(since, _)| now.since(since) > BEHIND_MS)
    }
}

/// Asks the broker how the log's stream is, and measures its clock by the way.
pub(super) async fn describe(worker: &Worker) -> Result<Described, Undescribed> {
    let sent = worker.clock.tick();
    let info = ask(worker, &()).await?;
    let received = worker.clock.tick();
    worker.claims.note_round_trip(Duration::from_millis(received.since(sent)), received);
    if let Some(stamp) = info.ts.as_deref().and_then(stamp_of) {
        worker.clock.observe(stamp, sent, received);
    }
    let names = &worker.settings.names;
    worker.ledger.results.note_subjects(LogSubjects::of(names, &info.config.subjects));
    let (replicas, full) = (info.replicas(), info.full().is_some());
    Ok(Described {
        created: info.created,
        first: info.state.first_seq,
        last: info.state.last_seq,
        held: info.state.messages,
        replicas,
        full,
    })
}

/// The same for who begins to read: what a server that has lost its cluster holds is not the log.
pub(super) async fn describe_for_reading(worker: &Worker) -> Result<Described, Undescribed> {
    let described = describe(worker).await?;
    let Described { replicas, .. } = described;
    if replicas.are_several() && !replicas.have_quorum() { Err(Undescribed::Silent) } else { Ok(described) }
}

/// The last of the entries that follow `position` without a break and were deleted one by one, by the
/// word of the stream's leader; `position` itself if the next one was not.
pub(super) async fn deleted_up_to(worker: &Worker, position: u64) -> u64 {
    let Ok(info) = ask(worker, &serde_json::json!({ "deleted_details": true })).await else {
        return position;
    };
    let mut deleted = info.state.deleted;
    deleted.sort_unstable();
    deleted.into_iter().fold(position, |last, gone| if gone == last + 1 { gone } else { last })
}

async fn ask(worker: &Worker, request: &(impl serde::Serialize + Sync)) -> Result<StreamInfo, Undescribed> {
    StreamInfo::ask(&worker.jetstream, &worker.settings.names.log_stream, request).await
}

/// A stamp from RFC 3339.
pub(in crate::nats) fn stamp_of(text: &str) -> Option<Stamp> {
    u64::try_from(nanos_of(text)? / 1_000_000).ok().map(Stamp)
}

/// Nanoseconds since the Unix epoch from RFC 3339.
pub(in crate::nats) fn nanos_of(text: &str) -> Option<i128> {
    Some(async_nats::datetime::parse_rfc3339(text).ok()?.unix_timestamp_nanos())
}

/// Asks each second until stopped.
pub async fn watch(worker: Arc<Worker>, stop: CancellationToken) {
    let mut connection = worker.link.watch();
    let (mut reach, mut paths) = (Reach::default(), Paths::default());
    let mut ever_reached = false;
    loop {
        let (asked, position) = (worker.clock.tick(), worker.ledger.progress.borrow().position);
        let described = if worker.link.is_up() { describe(&worker).await } else { Err(Undescribed::Silent) };
        let now = worker.clock.tick();
        let answer = described.as_ref().ok().map(|stream| Answer {
            asked,
            made: nanos_of(&stream.created).unwrap_or_default(),
            last: stream.last,
            replicas: stream.replicas,
            full: stream.full,
        });
        let judged = reach.look(Look { now, position, decided: worker.discovery.decided(), answer });
        if judged.mark {
            worker.append_now(&Entry::Mark);
        }
        if let Some(fresh) = judged.fresh {
            worker.ledger.fresh.fetch_max(fresh.0, Ordering::Relaxed);
        }
        let shown = Shown::of(described.as_ref().map(|_| judged.reachable).map_err(|error| *error));
        let described = described.ok().filter(|_| judged.reachable);
        let position = worker.ledger.progress.borrow().position;
        let reachable = judged.reachable;
        ever_reached |= reachable;
        // Before it was ever reached it may not even be made: nothing has stopped.
        if !reachable && ever_reached {
            worker.link.note_stall(now);
        }
        worker.state.set_log_in_reach(reachable);
        worker.link.tell_dropped();
        if let Some(stream) = &described {
            worker.metrics.log_lag.set(stream.last.saturating_sub(position));
        }
        worker.ledger.health.send_modify(|health| {
            let was_reachable = std::mem::replace(&mut health.reachable, reachable);
            let Some(stream) = described else { return };
            health.behind = match health.behind {
                // While the log was out of reach nobody could read on.
                Some((since, target)) if position < target && was_reachable => Some((since, target)),
                _ if position < stream.last => Some((now, stream.last)),
                _ => None,
            };
            health.at = now;
            health.stream = Some(stream);
        });
        // To make a connection anew takes seconds.
        if ever_reached && stop.run_until_cancelled(paths.attend(&worker, shown)).await.is_none() {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(if ever_reached { EVERY } else { AT_FIRST }) => {}
            // Without a connection there is nothing to ask for, and it is known at once.
            changed = connection.changed() => if changed.is_err() { return },
        }
    }
}
