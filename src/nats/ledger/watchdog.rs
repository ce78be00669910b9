use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::response::Response;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::domain::{Stamp, Tick};
use crate::nats::Worker;

/// How often the stream is asked for its state.
const EVERY: Duration = Duration::from_secs(1);
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(2);
/// A worker that has known for this long that it is behind stops serving.
const BEHIND_MS: u64 = 5_000;

/// The stream as the broker last described it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// When it was made, as the broker writes it.
    pub created: String,
    /// The first entry that it still holds.
    pub first: u64,
    /// The last entry.
    pub last: u64,
}

/// What the watchdog knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether the log answered the last time.
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

#[derive(Deserialize)]
struct StreamInfo {
    created: String,
    state: StreamState,
    #[serde(default)]
    ts: Option<String>,
}

#[derive(Deserialize)]
struct StreamState {
    first_seq: u64,
    last_seq: u64,
}

/// Asks the broker how the log's stream is, and measures its clock by the way.
pub(super) async fn describe(worker: &Worker) -> Option<Described> {
    let subject = format!("STREAM.INFO.{}", worker.settings.names.log_stream);
    let sent = worker.clock.tick();
    let request = worker.jetstream.request(subject, &());
    let info = match tokio::time::timeout(PATIENCE, request).await {
        Ok(Ok(Response::<StreamInfo>::Ok(info))) => info,
        _ => return None,
    };
    let received = worker.clock.tick();
    if let Some(stamp) = info.ts.as_deref().and_then(stamp_of) {
        worker.clock.observe(stamp, sent, received);
    }
    Some(Described { created: info.created, first: info.state.first_seq, last: info.state.last_seq })
}

/// A stamp from RFC 3339.
fn stamp_of(text: &str) -> Option<Stamp> {
    let time = async_nats::datetime::parse_rfc3339(text).ok()?;
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok().map(Stamp)
}

/// Asks each second until stopped.
pub async fn watch(worker: Arc<Worker>, stop: CancellationToken) {
    let mut connection = worker.link.watch();
    loop {
        let described = if worker.link.is_up() { describe(&worker).await } else { None };
        let now = worker.clock.tick();
        let position = worker.ledger.progress.borrow().position;
        let reachable = described.is_some();
        if !reachable {
            worker.link.note_stall(now);
        }
        worker.state.set_log_in_reach(reachable);
        if let Some(stream) = &described {
            worker.metrics.log_lag.set(stream.last.saturating_sub(position));
        }
        worker.ledger.health.send_modify(|health| {
            health.reachable = reachable;
            let Some(stream) = described else { return };
            health.behind = match health.behind {
                Some((since, target)) if position < target => Some((since, target)),
                _ if position < stream.last => Some((now, stream.last)),
                _ => None,
            };
            health.at = now;
            health.stream = Some(stream);
        });
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
            // Without a connection there is nothing to ask for, and it is known at once.
            changed = connection.changed() => if changed.is_err() { return },
        }
    }
}
