//! Events that this worker is late with.
//!
//! The stream drops a copy whose id it has stored within its duplicate window. A worker that was stopped or cut off for
//! longer applies entries whose events others published before that, and the stream does not know their ids any more.
//! So before an event is published whose entry is older than half of the window, the stream is read from the entry's
//! time on, and what stands there is not published again. What does not stand there is: this worker was alone. Of
//! two that were away together, the second one's copies are dropped again, since the first one's are new.
//!
//! What was on its way when the worker was stopped may stand twice: one event at most, since they leave one by one.
//!
//! An event was published after its entry was stored. So as long as the entry is younger than the window, the stream
//! knows the id, if anybody published it.

use std::collections::HashSet;
use std::time::Duration;

use async_nats::datetime::DateTime;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};

use beamline_nats::jetstream::Select;

use super::Event;
use crate::domain::{Stamp, Tick};
use crate::nats::Worker;
use crate::nats::log_reader::Pulled;
use crate::nats::stored::StreamReader;
use crate::nats::stream_info::{StreamInfo, Undescribed};

/// The shortest duplicate window that nats-server takes, in milliseconds.
const SHORTEST_MS: u64 = 100;
/// How long the window is taken for what it was: an operator may change it.
const HOLDS_MS: u64 = 10_000;
/// How far the clocks of the log's and of the events stream's leader may be apart.
const CLOCKS_MS: u64 = 60_000;
/// Events asked for at a time.
const BATCH: u64 = 5_000;
/// How long the broker may take over them.
const PATIENCE: Duration = Duration::from_secs(5);
/// A consumer whose reader died is gone after this.
const INACTIVE: Duration = Duration::from_secs(30);

/// The duplicate window of the events stream, as it was last read.
#[derive(Debug, Default)]
pub(super) struct Window(Option<(u64, Tick)>);

impl Window {
    /// Whether an event of an entry of this age may stand in the stream without its id being known there. `None` if
    /// the window must be read first.
    pub(super) fn is_late(&self, age_ms: u64, now: Tick) -> Option<bool> {
        // Half of it is left for what is on its way, and for what the clock is wrong by.
        if age_ms <= SHORTEST_MS / 2 {
            return Some(false);
        }
        let (window_ms, _) = self.0.filter(|(_, read)| now.since(*read) < HOLDS_MS)?;
        Some(age_ms > window_ms / 2)
    }

    /// Reads it. `false` without an answer.
    pub(super) async fn read(&mut self, worker: &Worker) -> bool {
        let info = StreamInfo::ask(&worker.jetstream, &worker.settings.names.events_stream, &()).await;
        let window_ms = match info {
            Ok(info) => info.config.duplicate_window / 1_000_000,
            // Nothing stands in a stream that is not there.
            Err(Undescribed::Missing) => u64::MAX,
            Err(Undescribed::Silent) => return false,
        };
        self.0 = Some((window_ms, worker.clock.tick()));
        true
    }
}

/// Late events, of which those that stand in the stream are looked for.
#[derive(Debug)]
pub(super) struct Late {
    missing: HashSet<String>,
    oldest: Stamp,
}

impl Late {
    /// Nothing was found yet.
    pub(super) fn new(events: &[Event]) -> Self {
        let oldest = events.iter().filter_map(|event| event.entry).min().unwrap_or_default();
        Self { missing: events.iter().map(|event| event.id.clone()).collect(), oldest }
    }

    /// An event stands in the stream. Gives whether there is more to look for.
    fn stands(&mut self, id: &str) -> bool {
        self.missing.remove(id);
        !self.missing.is_empty()
    }

    /// When the first of them was published, at the earliest.
    fn since(&self) -> Stamp {
        self.oldest.minus(CLOCKS_MS)
    }
}

/// When the entry of the last transition was stored that stands in the stream. `None` where none stands, or nothing
/// answers: then what came while no worker was there makes no events.
pub(in crate::nats) async fn last_transition(worker: &Worker) -> Option<Stamp> {
    let names = &worker.settings.names;
    let transitions = format!("{}breaker.>", names.events_prefix);
    let stream = StreamReader::of(worker, &names.events_stream);
    let last = stream.find(Select::LastOf(&transitions)).await.ok()??;
    // Made in `Event::transition`.
    let (stamp, _) = last.headers().ok()?.get("Nats-Msg-Id")?.split_once('.')?;
    stamp.parse().ok().map(Stamp)
}

/// The ids of late events that the stream does not hold.
pub(super) async fn missing(worker: &Worker, mut late: Late) -> Result<HashSet<String>, async_nats::Error> {
    let name = &worker.settings.names.events_stream;
    let stream = worker.jetstream.get_stream_no_info(name).await?;
    let start_time = DateTime::from_unix_timestamp_nanos(i128::from(late.since().0) * 1_000_000)?;
    let config = pull::Config {
        deliver_policy: DeliverPolicy::ByStartTime { start_time },
        ack_policy: AckPolicy::None,
        headers_only: true,
        inactive_threshold: INACTIVE,
        memory_storage: true,
        num_replicas: 1,
        ..Default::default()
    };
    let consumer = worker.link.answers(PATIENCE, stream.create_consumer(config)).await??;
    let consumer = consumer.cached_info();
    let pulled = Pulled { client: &worker.traffic, stream: name, consumer: &consumer.name };
    let mut pending = consumer.num_pending;
    while pending > 0 {
        let batch = pending.min(BATCH);
        let came = pulled.take_batch(batch, PATIENCE, |message, _| {
            // One that cannot be read is no event of ours.
            let headers = message.headers().unwrap_or_default();
            headers.get("Nats-Msg-Id").is_none_or(|id| late.stands(id))
        });
        pending = if came.await? { pending - batch } else { 0 };
    }
    let _ = stream.delete_consumer(&consumer.name).await;
    Ok(late.missing)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn event(id: &str, entry: Option<u64>) -> Event {
        Event { subject: String::new(), id: id.to_owned(), entry: entry.map(Stamp), body: Value::Null }
    }

    #[test]
    fn an_event_is_late_behind_half_of_the_window() {
        let window = Window(Some((300_000, Tick(5_000))));
        let now = Tick(6_000);
        assert_eq!(window.is_late(0, now), Some(false));
        assert_eq!(window.is_late(150_000, now), Some(false));
        assert_eq!(window.is_late(150_001, now), Some(true));
        assert_eq!(window.is_late(600_000, now), Some(true));
        assert_eq!(window.is_late(51, Tick(15_000)), None, "the window may be another one by now");
        assert_eq!(Window::default().is_late(51, now), None);
        assert_eq!(Window::default().is_late(50, now), Some(false), "fresh in any window");
    }

    #[test]
    fn what_the_stream_holds_is_not_missing() {
        let mut late = Late::new(&[event("a", Some(90_000)), event("b", Some(70_000)), event("c", None)]);
        assert_eq!(late.since(), Stamp(10_000));
        assert!(late.stands("x"), "another event");
        assert!(late.stands("b") && late.stands("b"));
        assert_eq!(late.missing, ["a", "c"].map(str::to_owned).into());
        assert!(late.stands("a"));
        assert!(!late.stands("c"), "all are found");
    }
}
