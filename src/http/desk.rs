//! What the API asks of the worker, and what it is told: plain figures, so that this room can be tested
//! without one.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use serde::Serialize;
use serde_json::Value;

use super::Probe;
use crate::breaker::State;
use crate::domain::{ErrorCode, PolicyId, ProviderId, TenantId};
use crate::telemetry::labels::{Queue, Verb};

/// An answer that is waited for.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send + 'a>>;

/// What the API asks of the worker.
pub trait Desk: Probe {
    /// The worker as a whole.
    fn overview(&self) -> Overview;

    /// The digest over all breakers and the log's position that it is of. Takes some microseconds for
    /// each breaker that changed since the last time.
    fn digest(&self) -> Digest;

    /// Every breaker, by tenant and provider. Takes some microseconds for each.
    fn breakers(&self) -> Vec<Row>;

    /// One breaker.
    fn breaker(&self, tenant_id: &str, provider_id: &str) -> Option<Row>;

    /// The buckets of a breaker's window, oldest first.
    fn buckets(&self, tenant_id: &str, provider_id: &str) -> Option<Vec<Bucket>>;

    /// What happened here since a number that an earlier answer gave.
    fn news(&self, after: u64) -> News;

    /// What happened to breakers, from the stream that outlives workers.
    fn transitions<'a>(&'a self, asked: Asked) -> Answer<'a, Transitions>;

    /// Does what a control verb asks.
    fn control(&self, verb: Verb, body: Value) -> Answer<'_, Value>;

    /// Milliseconds of a clock that never goes back.
    fn tick(&self) -> u64;

    /// Counts what was refused for want of room: to viewers, or over HTTP at all.
    fn count_refused(&self, queue: Queue, n: u64);
}

/// Why something is not answered.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The code.
    pub code: ErrorCode,
    /// One sentence for people.
    pub message: String,
    /// More for programs.
    pub details: Option<Value>,
}

/// The worker as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Overview {
    /// Its name.
    pub worker: String,
    /// Its version.
    pub version: &'static str,
    /// Whether it takes requests and knows all it needs.
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<String>,
    /// Whether the console's actions are on.
    pub actions: bool,
    /// The broker's time, in milliseconds since the Unix epoch.
    pub now: u64,
    /// The connection.
    pub nats: Nats,
    /// What is wrong with the streams and buckets, in words, by kind.
    pub troubles: BTreeMap<&'static str, String>,
    /// The log.
    pub log: Log,
    /// The switches.
    pub flags: Flags,
    /// Policies in force.
    pub policies: u64,
    /// Requests that this worker answered since its start.
    pub decisions: Decisions,
}

/// The connection to the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Nats {
    /// Whether it is up.
    pub connected: bool,
    /// How often it was made anew.
    pub reconnects: u64,
    /// How often a subscription was full and a message was lost.
    pub slow_consumer: u64,
}

/// How far this worker is in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Log {
    /// Whether it answered the last time.
    pub reachable: bool,
    /// The entry applied last.
    pub position: u64,
    /// Entries not applied yet.
    pub lag: u64,
}

/// A digest and what it is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Digest {
    /// The log's position.
    pub position: u64,
    /// 53 bits over all breakers; equal at equal position on every worker.
    pub value: u64,
}

/// The emergency switches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Flags {
    /// This worker's own, from its environment.
    pub worker: bool,
    /// The one of all tenants.
    pub global: bool,
    /// Tenants whose own is off.
    pub tenants_off: Vec<TenantId>,
}

/// Requests by how they were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Decisions {
    /// All.
    pub total: u64,
    /// With a provider.
    pub decided: u64,
    /// With `circuit_open`.
    pub circuit_open: u64,
    /// With another error.
    pub failed: u64,
    /// Of those with a provider, the ones whose first choice was refused by its breaker.
    pub circuit_breaker_fallback: u64,
}

/// What an operator forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Forced {
    /// What it shows.
    pub state: State,
    /// Until when; without an end if absent.
    pub until: Option<u64>,
}

/// A part of a breaker's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// When it began.
    pub from: u64,
    /// Results.
    pub requests: u32,
    /// Those that were failures.
    pub failures: u32,
    /// Those that were slow.
    pub slow: u32,
}

/// What happened on this worker.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// Events, oldest first: as they stand on the events subjects, each with its `id`.
    pub events: Vec<Value>,
    /// The number to ask with the next time.
    pub last: u64,
    /// Events in between that are not held any more.
    pub missed: u64,
}

/// Which transitions are wanted.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Of this tenant only.
    pub tenant_id: Option<TenantId>,
    /// Of this provider only.
    pub provider_id: Option<ProviderId>,
    /// Not older than this; all that is known if absent.
    pub within_ms: Option<u64>,
    /// The newest, at most so many.
    pub limit: usize,
}

/// What happened to breakers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Transitions {
    /// Newest first.
    pub transitions: Vec<Value>,
    /// Whether these are all that happened in that time and is still known.
    pub complete: bool,
}

macro_rules! row {
    ($($(#[$doc:meta])* $name:ident: $kind:ty,)+) => {
        /// One breaker.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        pub struct Row {
            /// Whose.
            pub tenant_id: TenantId,
            /// For which provider.
            pub provider_id: ProviderId,
            $($(#[$doc])* pub $name: $kind,)+
        }

        impl Serialize for Changed<'_> {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap as _;
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("tenant_id", &self.row.tenant_id)?;
                map.serialize_entry("provider_id", &self.row.provider_id)?;
                $(
                    if self.before.is_none_or(|before| before.$name != self.row.$name) {
                        map.serialize_entry(stringify!($name), &self.row.$name)?;
                    }
                )+
                map.end()
            }
        }
    };
}

/// A breaker, and what a viewer knows of it: written down, it is the fields that differ.
pub(super) struct Changed<'r> {
    /// As it is.
    pub(super) row: &'r Row,
    /// As it was.
    pub(super) before: Option<&'r Row>,
}

row! {
    /// The policy whose settings hold.
    policy_id: PolicyId,
    /// Whether that policy switches it on.
    enabled: bool,
    /// What it shows.
    state: State,
    /// Since when.
    since: u64,
    /// When a probe may be claimed; only while open, absent where open has no end.
    open_until: Option<u64>,
    /// Failures in a row.
    failure_count: u32,
    /// Successful probes in a row.
    success_count: u32,
    /// Failures ÷ results in the window.
    error_rate: f64,
    /// What opens it.
    error_rate_threshold: f64,
    /// With fewer results in the window the rates do not judge.
    minimum_requests: u32,
    /// Results in the window.
    window_requests: u32,
    /// Those that were failures.
    window_failures: u32,
    /// Those that were slow.
    window_slow: u32,
    /// Mean of the latencies told.
    mean_latency_ms: u64,
    /// Probes in flight, over all workers.
    half_open_in_flight: u32,
    /// How often it opened by itself since it was made or reset.
    trips: u32,
    /// How often it opened since this worker started.
    opens: u64,
    /// What an operator forced.
    forced: Option<Forced>,
    /// Whether a flag switches it off.
    flag_off: bool,
    /// Requests that this worker refused since its start.
    fail_fast: u64,
    /// Requests that it would have refused, were refusals enforced.
    would_reject: u64,
    /// An estimate of the calls not wasted.
    requests_saved: f64,
}

impl Row {
    /// What rows are sorted by.
    pub(super) fn key(&self) -> (&str, &str) {
        (self.tenant_id.as_str(), self.provider_id.as_str())
    }

    /// Milliseconds until a probe may be claimed; 0 while not open.
    #[must_use]
    pub fn remaining_ms(&self, now: u64) -> u64 {
        self.open_until.map_or(0, |until| until.saturating_sub(now))
    }
}
