//! All that speaks to the broker: one file a conversation.
//!
//! [`ledger`] reads the log and is the only task that applies entries. [`append`] adds to it.
//! [`decide`] answers requests and, for a half-open breaker, asks [`claims`] for a slot.
//! [`assignments`] follows what was pushed. [`control`] answers operators; what they change goes to a
//! bucket ([`buckets`]), from there to the log, and comes into force when the reader applies it.
//! [`rollouts`] follows the stream of rollouts and records what is due there; [`evidence`] counts for it.
//! [`events`] and [`usage`] tell others. [`link`] knows whether the broker is there, `paths` leaves silent ones, [`upkeep`] sees to it
//! that streams and buckets are. [`control_client`], [`watch`], [`log_reader`] and [`workers`] are the other side:
//! what the command line asks through.
//!
//! **Two kinds of connection.** No released client library survives the headers that anybody may send, so
//! whatever others can influence is received over [`beamline_nats`]: requests, acks, discovery, what the
//! log's and the usage consumer deliver, and every single message of a stream or bucket. Streams and
//! consumers are managed over `async_nats`, which also publishes with acknowledgement. [`connect`] makes
//! both, and [`link`] takes them for one: the broker is there when both are up. [`renewal`] makes them anew with other
//! credentials.
//!
//! No read loop waits for a publish. What must not be lost goes through a bounded queue to a task of its
//! own.

pub mod append;
pub mod assignments;
pub mod audit;
pub mod buckets;
pub mod claims;
pub mod connect;
pub mod control;
pub mod control_client;
pub mod decide;
mod delivered;
pub mod discovery;
pub mod events;
pub mod evidence;
pub mod fold_version;
mod headers;
pub mod history;
pub mod ledger;
pub mod link;
pub mod log_reader;
pub mod measuring;
mod paths;
mod pulse;
pub mod reconcile;
mod refused;
pub mod renewal;
mod retention;
pub mod rollouts;
pub mod simulation;
pub mod snapshots;
mod stored;
mod stream_info;
pub mod streams;
pub mod upkeep;
pub mod usage;
pub mod watch;
pub mod workers;

use std::sync::Arc;

use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::Tick;
use crate::ledger::Verdicts;
use crate::state::State;
use crate::telemetry::repeats::Lines;
use crate::telemetry::{Metrics, Tracing};
use crate::wire::subjects::reply_allowed;
use async_nats::jetstream;
use tokio::sync::RwLock;

/// What every conversation of one worker has at hand. Cheap to share; each field is a narrow handle.
#[derive(Debug)]
pub struct Worker {
    /// As started with.
    pub settings: Settings,
    /// The clocks.
    pub clock: Clock,
    /// Breakers and policies in force.
    pub state: Arc<State>,
    /// What the fold said of the last results.
    pub verdicts: Arc<Verdicts>,
    /// The fold and those who wait for it.
    pub ledger: ledger::Ledger,
    /// Claims without a verdict yet.
    pub claims: claims::Claims,
    /// What is counted for rollouts and not in the log yet.
    pub collector: evidence::SharedCollector,
    /// How rollouts stand.
    pub rollouts: Arc<rollouts::Rollouts>,
    /// What was pushed and has no result yet.
    pub assignments: assignments::Assignments,
    /// Whether the broker and the log are there.
    pub link: Arc<link::Link>,
    /// Where events leave.
    pub events: events::Events,
    /// Metric handles.
    pub metrics: Arc<Metrics>,
    /// What was logged lately, of lines that others can cause.
    pub lines: Lines,
    /// What discovery tells of this worker's endpoints.
    pub discovery: discovery::Discovery,
    /// Where spans are made.
    pub tracing: Tracing,
    /// What the connections are made with.
    pub access: Arc<connect::Access>,
    /// Whose turn it is to change a key of a bucket.
    pub turns: buckets::Turns,
    /// Held shared while something is published with acknowledgement, and alone while that connection is made anew.
    pub publishing: RwLock<()>,
    /// The connection for all that others can influence, but for decide requests, which have their own.
    pub traffic: beamline_nats::Client,
    /// The connection for the management of streams and consumers, and for publishing with
    /// acknowledgement.
    pub client: async_nats::Client,
    /// JetStream over it.
    pub jetstream: jetstream::Context,
}

impl Worker {
    /// Whether the log has not confirmed the state for longer than the settings allow.
    #[must_use]
    pub fn is_stale(&self, now: Tick) -> bool {
        u128::from(now.since(self.ledger.fresh())) > self.settings.decide.max_stale.as_millis()
    }

    /// Counts a line of an event that others can cause, and says `what`. Where one is due, how many it stands for.
    fn line_due(&self, event: &'static str, what: &str) -> Option<u64> {
        self.lines.count(event, what, self.clock.tick())
    }

    /// Whether a request may be answered at this subject: an inbox, or the default reply subject. One
    /// that may not is counted; a client could otherwise make the router publish where only it may.
    fn may_answer_at(&self, reply: &str) -> bool {
        let allowed = *reply == *self.settings.names.decide_reply
            || reply_allowed(reply, &self.settings.decide.reply_prefixes);
        if !allowed {
            self.metrics.replies_dropped.inc();
        }
        allowed
    }
}
