//! Whether the broker and the log are there, as far as this worker knows.

mod moving;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Event;
use beamline_nats::{Client, Event as TrafficEvent, Malformed};
use tokio::sync::watch;

use moving::Moving;

use crate::clock::Clock;
use crate::domain::Tick;
use crate::telemetry::Metrics;
use crate::telemetry::labels::{Label as _, Source, Trouble};
use crate::telemetry::repeats::Repeats;

/// The state of the main connections, taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// Whether both are up.
    pub up: bool,
    /// How often they came up.
    pub epoch: u64,
}

/// The main connections of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Main {
    /// For streams and consumers.
    Management,
    /// For what others send.
    Traffic,
}

/// Why the broker gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Away {
    /// There is no connection, or it went while the answer was waited for.
    #[error("not connected to NATS")]
    Disconnected,
    /// Nothing came in time.
    #[error("NATS does not answer")]
    Silent,
}

/// Faults of the client library since a connection was last made: while the broker is away, each try of
/// each connection ends with one.
#[derive(Debug, Default)]
struct Faults {
    lines: Repeats,
    all: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Link {
    clock: Clock,
    connection: watch::Sender<Connection>,
    /// Which of the main connections are up. Held while [`Self::connection`] is changed.
    up: Mutex<[bool; 2]>,
    /// The tick at which the log was last known not to move; 0 if never.
    stalled_at: AtomicU64,
    troubles: Mutex<BTreeMap<&'static str, String>>,
    faults: Mutex<Faults>,
    /// What the server found fault with.
    refusals: Mutex<Repeats>,
    /// Messages that could not be read.
    malformed: Mutex<Repeats>,
    /// Messages that full subscriptions dropped and that no line has told of yet: of the main
    /// connections, and of those for decide requests.
    dropped: [AtomicU64; 2],
    /// Decide connections that are subscribed.
    taking: Mutex<BTreeMap<u64, Client>>,
    /// Whether the broker holds the subscription for control verbs.
    controlled: AtomicBool,
    /// Whether the management connection is being made anew.
    moving: Moving,
}

impl Link {
    /// Before anything is known.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            connection: watch::Sender::new(Connection::default()),
            up: Mutex::default(),
            stalled_at: AtomicU64::new(0),
            troubles: Mutex::default(),
            faults: Mutex::default(),
            refusals: Mutex::default(),
            malformed: Mutex::default(),
            dropped: Default::default(),
            taking: Mutex::default(),
            controlled: AtomicBool::new(false),
            moving: Moving::default(),
        }
    }

    /// Takes an event of the connection for management.
    pub fn on_event(&self, event: &Event, metrics: &Metrics) {
        match event {
            Event::Connected => {
                self.moving.note_back();
                self.came_up(Main::Management, metrics);
            }
            // It is being made anew.
            Event::Disconnected if self.moving.note_cut() => {}
            Event::Disconnected => self.went_down(Main::Management, true, metrics),
            Event::Closed => self.went_down(Main::Management, false, metrics),
            Event::SlowConsumer(_) => self.note_dropped(0, 1, metrics),
            // The connection for what others send reports it, if it has to move.
            Event::LameDuckMode | Event::Draining => {}
            Event::ServerError(error) => self.note_refusal(&error.to_string()),
            Event::ClientError(error) => self.note_fault(&error.to_string()),
        }
    }

    /// Takes an event of the connection for what others send.
    pub fn on_traffic_event(&self, event: &TrafficEvent, metrics: &Metrics) {
        match event {
            TrafficEvent::Connected => self.came_up(Main::Traffic, metrics),
            TrafficEvent::Disconnected(reason) => {
                self.went_down(Main::Traffic, true, metrics);
                self.note_fault(reason);
            }
            TrafficEvent::Closed => self.went_down(Main::Traffic, false, metrics),
            TrafficEvent::LameDuck => tracing::warn!(event = "nats_lame_duck"),
            TrafficEvent::Silent => self.note_silent("main"),
            TrafficEvent::Dropped(messages) => self.note_dropped(0, *messages, metrics),
            TrafficEvent::ConnectFailed(_) | TrafficEvent::Denied(_) | TrafficEvent::ServerError(_) => {
                self.note_trouble(event);
            }
        }
    }

    /// Takes an event of a decide connection: only what is not the broker's coming and going, which the
    /// main connections tell.
    pub fn on_decide_event(&self, event: &TrafficEvent, metrics: &Metrics) {
        match event {
            TrafficEvent::Dropped(messages) => self.note_dropped(1, *messages, metrics),
            TrafficEvent::Disconnected(reason) => self.note_fault(reason),
            TrafficEvent::Silent => self.note_silent("decide"),
            TrafficEvent::Connected | TrafficEvent::Closed | TrafficEvent::LameDuck => {}
            TrafficEvent::ConnectFailed(_) | TrafficEvent::Denied(_) | TrafficEvent::ServerError(_) => {
                self.note_trouble(event);
            }
        }
    }

    fn note_silent(&self, connection: &str) {
        // One line for each connection of each spell: another one is made beside it.
        tracing::warn!(event = "nats_path_silent", connection);
    }

    fn note_trouble(&self, event: &TrafficEvent) {
        match event {
            TrafficEvent::ConnectFailed(error) => self.note_fault(&error.to_string()),
            TrafficEvent::Denied(error) | TrafficEvent::ServerError(error) => self.note_refusal(error),
            _ => {}
        }
    }

    fn came_up(&self, which: Main, metrics: &Metrics) {
        let mut up = self.up.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(up) = up.get_mut(which as usize) {
            *up = true;
        }
        // A connection that moved to another server was never down.
        if *up != [true, true] || self.connection.borrow().up {
            return;
        }
        let epoch = self.connection.borrow().epoch;
        if epoch > 0 {
            metrics.nats_reconnects.inc();
        }
        metrics.nats_connected.set(1);
        self.connection.send_modify(|c| *c = Connection { up: true, epoch: c.epoch + 1 });
        let faults = std::mem::take(&mut self.faults().all);
        tracing::info!(event = "nats_connected", reconnects = epoch, faults);
    }

    /// `lost`: not by this worker's own doing, as at its end.
    fn went_down(&self, which: Main, lost: bool, metrics: &Metrics) {
        let mut up = self.up.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(up) = up.get_mut(which as usize) {
            *up = false;
        }
        metrics.nats_connected.set(0);
        let was_up = self.connection.borrow().up;
        self.connection.send_modify(|c| c.up = false);
        if was_up && lost {
            tracing::warn!(event = "nats_disconnected");
        }
    }

    fn note_refusal(&self, error: &str) {
        let due = self.refusals().count(error, self.clock.tick());
        if let Some(stands_for) = due {
            tracing::warn!(event = "nats_server_error", error, stands_for);
        }
    }

    fn note_fault(&self, error: &str) {
        let due = {
            let mut faults = self.faults();
            faults.all += 1;
            faults.lines.count(error, self.clock.tick())
        };
        if let Some(stands_for) = due {
            tracing::warn!(event = "nats_client_error", error, stands_for);
        }
    }

    /// Counts a message whose subject or headers cannot be read, and logs some of them.
    pub fn note_malformed(&self, source: Source, malformed: Malformed, metrics: &Metrics) {
        metrics.nats_malformed.inc(source);
        let (source, error) = (source.text(), malformed.to_string());
        let due = {
            let mut lines = self.malformed.lock().unwrap_or_else(PoisonError::into_inner);
            lines.count(&format!("{source}: {error}"), self.clock.tick())
        };
        if let Some(stands_for) = due {
            tracing::warn!(event = "nats_message_malformed", source, error, stands_for);
        }
    }

    fn note_dropped(&self, connection: usize, messages: u64, metrics: &Metrics) {
        metrics.nats_slow_consumer.inc_by(messages);
        if let Some(count) = self.dropped.get(connection) {
            count.fetch_add(messages, Ordering::Relaxed);
        }
    }

    /// Logs what full subscriptions have dropped since the last time: a line for each message would
    /// make a flood worse.
    pub fn tell_dropped(&self) {
        for (count, connection) in self.dropped.iter().zip(["main", "decide"]) {
            let messages = count.swap(0, Ordering::Relaxed);
            if messages > 0 {
                tracing::warn!(event = "nats_slow_consumer", connection, messages);
            }
        }
    }

    /// Follows the main connections.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Connection> {
        self.connection.subscribe()
    }

    /// Whether the main connections are up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.connection.borrow().up
    }

    /// Whether they are up, and have been since they came up for this time.
    #[must_use]
    pub fn lasts_since(&self, epoch: u64) -> bool {
        *self.connection.borrow() == Connection { up: true, epoch }
    }

    /// What the broker answers, on a main connection: at once [`Away`] while that is down, and after
    /// `patience` in any case. The library would wait for its own, longer time.
    ///
    /// # Errors
    /// [`Away`].
    pub async fn answers<T>(&self, patience: Duration, question: impl Future<Output = T>) -> Result<T, Away> {
        let mut connection = self.watch();
        tokio::select! {
            biased;
            _ = connection.wait_for(|c| !c.up) => Err(Away::Disconnected),
            answer = tokio::time::timeout(patience, question) => answer.map_err(|_| Away::Silent),
        }
    }

    /// Notes that a decide connection is subscribed, until the answer is given to [`Self::end_taking`].
    #[must_use]
    pub fn begin_taking(&self, client: &Client) -> u64 {
        let mut taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        let key = taking.last_key_value().map_or(0, |(last, _)| last + 1);
        taking.insert(key, client.clone());
        key
    }

    /// Notes that a decide connection is subscribed no more.
    pub fn end_taking(&self, key: u64) {
        self.taking.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// How many decide connections take requests: subscribed, and up.
    #[must_use]
    pub fn taking(&self) -> usize {
        let taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        taking.values().filter(|c| c.is_connected()).count()
    }

    /// Notes whether the broker holds the subscription for control verbs.
    pub fn set_controlled(&self, controlled: bool) {
        self.controlled.store(controlled, Ordering::Release);
    }

    /// Whether control verbs reach this worker.
    #[must_use]
    pub fn is_controlled(&self) -> bool {
        self.controlled.load(Ordering::Acquire)
    }

    /// Says what is wrong with the streams, or that it no longer is; logged when it changes.
    pub fn set_trouble(&self, kind: Trouble, trouble: Option<String>, metrics: &Metrics) {
        let mut troubles = self.troubles();
        let (known, what) = (troubles.get(kind.text()), kind.text());
        if known == trouble.as_ref() {
            return;
        }
        match &trouble {
            Some(error) if kind == Trouble::Streams => tracing::warn!(event = "streams_not_ready", error),
            Some(error) => tracing::error!(event = "storage_trouble", what, error),
            None => tracing::info!(event = "storage_recovered", what),
        }
        metrics.nats_trouble.set(kind, u64::from(trouble.is_some()));
        match trouble {
            Some(error) => troubles.insert(what, error),
            None => troubles.remove(what),
        };
    }

    /// What is wrong with the streams: its kind, and in words.
    #[must_use]
    pub fn all_troubles(&self) -> Vec<(&'static str, String)> {
        self.troubles().iter().map(|(kind, error)| (*kind, error.clone())).collect()
    }

    fn troubles(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusals(&self) -> MutexGuard<'_, Repeats> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the log does not move at `now`.
    pub fn note_stall(&self, now: Tick) {
        self.stalled_at.fetch_max(now.0, Ordering::Relaxed);
    }

    /// When the log was last known not to move.
    #[must_use]
    pub fn stalled_at(&self) -> Option<Tick> {
        match self.stalled_at.load(Ordering::Relaxed) {
            0 => None,
            tick => Some(Tick(tick)),
        }
    }
}

#[cfg(test)]
mod tests {
    use async_nats::{ClientError, ServerError};

    use super::*;
    use crate::telemetry::Exposition;
    use crate::telemetry::logs::tests::heard;

    fn told(said: &[serde_json::Value]) -> Vec<(&str, Option<u64>)> {
        said.iter()
            .map(|line| {
                let count = line.get("stands_for").or(line.get("faults")).and_then(|n| n.as_u64());
                (line["event"].as_str().unwrap(), count)
            })
            .collect()
    }

    #[test]
    fn what_becomes_of_the_connection_is_told_and_what_repeats_is_counted() {
        let metrics = Exposition::new("test").metrics();
        let link = Link::new(Clock::start());
        let refused = || Event::ClientError(ClientError::Other("refused".to_owned()));
        let denied = |what: &str| Event::ServerError(ServerError::Other(what.to_owned()));
        let happens = [
            Event::Connected,
            Event::Disconnected,
            refused(),
            Event::Disconnected,
            refused(),
            refused(),
            Event::Connected,
            refused(),
            denied("a"),
            denied("a"),
            denied("b"),
            // The end that the worker makes of it is no loss.
            Event::Closed,
        ];
        let said = heard(|| {
            link.on_traffic_event(&TrafficEvent::Connected, &metrics);
            happens.iter().for_each(|event| link.on_event(event, &metrics));
        });
        let expected = [
            ("nats_connected", Some(0)),
            ("nats_disconnected", None),
            ("nats_client_error", Some(1)),
            ("nats_connected", Some(3)),
            ("nats_server_error", Some(1)),
            ("nats_server_error", Some(2)),
        ];
        assert_eq!(told(&said), expected, "{said:#?}");
        assert!(!link.is_up());
    }

    #[test]
    fn both_connections_count_as_one() {
        let metrics = Exposition::new("test").metrics();
        let link = Link::new(Clock::start());
        let lost = || TrafficEvent::Disconnected("gone".to_owned());
        let said = heard(|| {
            link.on_event(&Event::Connected, &metrics);
            assert!(!link.is_up(), "one of two");
            link.on_traffic_event(&TrafficEvent::Connected, &metrics);
            assert!(link.is_up());
            // It moved to another server.
            link.on_traffic_event(&TrafficEvent::Connected, &metrics);
            link.on_traffic_event(&lost(), &metrics);
            link.on_event(&Event::Disconnected, &metrics);
            link.on_event(&Event::Connected, &metrics);
            assert!(!link.is_up());
            link.on_traffic_event(&TrafficEvent::Connected, &metrics);
        });
        let events: Vec<_> = told(&said).into_iter().map(|(event, _)| event).collect();
        assert_eq!(events, ["nats_connected", "nats_disconnected", "nats_client_error", "nats_connected"]);
        assert_eq!((link.watch().borrow().epoch, metrics.nats_reconnects.get()), (2, 1));
    }

    #[test]
    fn malformed_messages_are_counted_and_some_are_logged() {
        let metrics = Exposition::new("test").metrics();
        let link = Link::new(Clock::start());
        let said = heard(|| {
            for _ in 0..1_000 {
                link.note_malformed(Source::Decide, Malformed::HeaderValue, &metrics);
                link.note_malformed(Source::Log, Malformed::HeaderLine, &metrics);
            }
        });
        assert_eq!(told(&said).len(), 2, "{said:#?}");
        assert_eq!(said[0]["source"], "decide");
        assert_eq!(metrics.nats_malformed.get(Source::Log), 1_000);
    }
}
