//! Whether the broker and the log are there, as far as this worker knows.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use async_nats::connection::State;
use async_nats::{Client, Event};
use tokio::sync::watch;

use crate::domain::Tick;
use crate::telemetry::Metrics;

/// The state of the main connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// Whether it is up.
    pub up: bool,
    /// How often it came up.
    pub epoch: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Link {
    connection: watch::Sender<Connection>,
    /// The tick at which the log was last known not to move; 0 if never.
    stalled_at: AtomicU64,
    trouble: Mutex<Option<String>>,
    /// Decide connections that are subscribed.
    taking: Mutex<BTreeMap<u64, Client>>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            connection: watch::Sender::new(Connection::default()),
            stalled_at: AtomicU64::new(0),
            trouble: Mutex::new(None),
            taking: Mutex::default(),
        }
    }
}

impl Link {
    /// Takes an event of the main connection.
    pub fn on_event(&self, event: &Event, metrics: &Metrics) {
        match event {
            Event::Connected => {
                let epoch = self.connection.borrow().epoch;
                if epoch > 0 {
                    metrics.nats_reconnects.inc();
                }
                metrics.nats_connected.set(1);
                self.connection.send_modify(|c| *c = Connection { up: true, epoch: c.epoch + 1 });
                tracing::info!(event = "nats_connected", reconnects = epoch);
            }
            Event::Disconnected | Event::Closed => {
                metrics.nats_connected.set(0);
                let was_up = self.connection.borrow().up;
                self.connection.send_modify(|c| c.up = false);
                if was_up {
                    tracing::warn!(event = "nats_disconnected");
                }
            }
            Event::SlowConsumer(_) => {
                metrics.nats_slow_consumer.inc();
            }
            Event::LameDuckMode => tracing::warn!(event = "nats_lame_duck"),
            Event::Draining => {}
            Event::ServerError(error) => tracing::warn!(event = "nats_server_error", error = %error),
            Event::ClientError(error) => tracing::warn!(event = "nats_client_error", error = %error),
        }
    }

    /// Takes an event of a decide connection: only what is not the broker's coming and going, which the
    /// main connection tells.
    pub fn on_decide_event(&self, event: &Event, metrics: &Metrics) {
        if matches!(event, Event::SlowConsumer(_) | Event::ServerError(_) | Event::ClientError(_)) {
            self.on_event(event, metrics);
        }
    }

    /// Follows the main connection.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Connection> {
        self.connection.subscribe()
    }

    /// Whether the main connection is up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.connection.borrow().up
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
        taking.values().filter(|c| c.connection_state() == State::Connected).count()
    }

    /// Says what keeps the streams from being as they must be; logged when it changes.
    pub fn set_trouble(&self, trouble: Option<String>) {
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != trouble {
            if let Some(error) = &trouble {
                tracing::warn!(event = "streams_not_ready", error);
            }
            *known = trouble;
        }
    }

    /// What keeps the streams from being as they must be.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
