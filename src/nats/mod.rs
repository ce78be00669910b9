//! All that speaks to the broker: one file a conversation.
//!
//! [`ledger`] reads the log and is the only task that applies entries. [`append`] adds to it.
//! [`decide`] answers requests and, for a half-open breaker, asks [`claims`] for a slot.
//! [`assignments`] follows what was pushed. [`control`] answers operators; what they change goes to a
//! bucket ([`buckets`]), from there to the log, and comes into force when the reader applies it.
//! [`events`] and [`usage`] tell others. [`link`] knows whether the broker is there, [`upkeep`] sees to it
//! that streams and buckets are. [`control_client`] and [`watch`] are the other side: what the command line
//! asks through.
//!
//! No read loop waits for a publish: the library's `publish` waits for ever while the broker is away
//! and its queue is full. What must not be lost goes through a bounded queue to a task of its own.

pub mod append;
pub mod assignments;
pub mod audit;
pub mod buckets;
pub mod claims;
pub mod connect;
pub mod control;
pub mod control_client;
pub mod decide;
pub mod discovery;
pub mod events;
mod headers;
pub mod history;
pub mod ledger;
pub mod link;
pub mod measuring;
pub mod reconcile;
pub mod simulation;
pub mod snapshots;
mod stream_info;
pub mod streams;
pub mod upkeep;
pub mod usage;
pub mod watch;

use std::sync::Arc;

use async_nats::jetstream;
use futures_util::FutureExt as _;

use crate::clock::Clock;
use crate::config::Settings;
use crate::ledger::Verdicts;
use crate::state::State;
use crate::telemetry::{Metrics, Tracing};
use crate::wire::subjects::reply_allowed;

/// What a future gives without waiting. A task that has run for long is told by tokio to wait even where
/// it need not (its budget); that is not what is asked here.
fn at_once<F: Future>(future: F) -> Option<F::Output> {
    tokio::task::unconstrained(future).now_or_never()
}

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
    /// What was pushed and has no result yet.
    pub assignments: assignments::Assignments,
    /// Whether the broker and the log are there.
    pub link: Arc<link::Link>,
    /// Where events leave.
    pub events: events::Events,
    /// Metric handles.
    pub metrics: Arc<Metrics>,
    /// What discovery tells of this worker's endpoints.
    pub discovery: discovery::Discovery,
    /// Where spans are made.
    pub tracing: Tracing,
    /// The connection for all but decide requests.
    pub client: async_nats::Client,
    /// JetStream over it.
    pub jetstream: jetstream::Context,
}

impl Worker {
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
