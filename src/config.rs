//! Settings: what the program is told at its start, checked once.
//!
//! Each setting is one line of a table ([`all_keys`]): its flag, its environment twin, its default and its
//! help. The command line is built from that table, and so is what stands below; nothing is named
//! twice. A flag outranks its twin, the twin outranks the default, and a variable that is set but empty
//! counts as not set. The environment is read through [`Env`], so that a test gives a map.
//!
//! Reading never stops at the first fault: all are collected, each with flag and variable, and what
//! comes out otherwise ([`Settings`], [`ClientSettings`]) needs no further look. Faults repeat no value
//! of a setting that may hold a secret, and [`Secret`] never shows what it holds.
//!
//! This module uses nothing else of the crate, so that every room may take its settings from here.

mod args;
mod connection;
mod env;
mod keys;
mod names;
mod reader;
mod resolve;
mod units;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use args::{ClientArgs, ServeArgs};
pub use connection::{Auth, ClientTls, NatsSettings, Secret, ServerUrl};
pub use env::{Env, ProcessEnv, VarNotUnicode};
pub use keys::{Key, Kind, all_keys};
pub use names::{InvalidPrefix, Names, SubjectPrefix};
pub use reader::{Fault, SettingsFaults};
pub use units::{parse_bytes, parse_duration};

/// All that `serve` runs by.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// How to reach the broker.
    pub nats: NatsSettings,
    /// Subjects, streams, buckets and the queue group.
    pub names: Names,
    /// This worker among the others, in logs and events: `[A-Za-z0-9_-]`, 1 to 64 characters.
    pub worker_name: String,
    /// Who says who sent a control request.
    pub control_identity: ControlIdentity,
    /// Where metrics, health and console are served.
    pub http_addr: SocketAddr,
    /// What the console allows, and whom.
    pub console: ConsoleSettings,
    /// How log lines are written.
    pub logging: Logging,
    /// How decide requests are taken in.
    pub decide: DecideSettings,
    /// How assignments are pushed and followed.
    pub assignments: AssignmentSettings,
    /// Warn when the usage stream keeps its events for less.
    pub usage_min_retention: Duration,
    /// The streams and buckets that the router makes.
    pub ledger: LedgerSettings,
    /// Policy documents to put at start where the bucket lacks them.
    pub policy_dir: Option<PathBuf>,
    /// How often the buckets are compared with the log, and streams and buckets looked after.
    pub reconcile_interval: Duration,
    /// Messages that wait in one subscription at most; more are dropped and counted.
    pub subscription_capacity: usize,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// Whether this worker takes part in sending usage events.
    pub usage_metering: bool,
    /// The emergency switch of this worker alone: false refuses nothing.
    pub circuit_breaker_enabled: bool,
}

/// Who says who sent a control request, besides its sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ControlIdentity {
    /// Nobody.
    #[default]
    None,
    /// The broker, since control requests come through a service import of another account.
    Import,
}

/// What the console allows, and whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsoleSettings {
    /// Whether breakers can be forced and reset there.
    pub actions: bool,
    /// Host names that it is reached by, besides `localhost` and addresses; in lower case.
    pub hosts: Vec<String>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logging {
    /// One JSON object a line, or text for people.
    pub format: LogFormat,
    /// The least severe level that is written.
    pub level: LogLevel,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text for people.
    Text,
}

/// The least severe level that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// Warnings too.
    Warn,
    /// What happens to breakers and connections too.
    Info,
    /// Only in debug builds: release builds carry nothing below info.
    Debug,
    /// Only in debug builds.
    Trace,
}

impl LogLevel {
    /// The name that `tracing` filters use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How decide requests are taken in.
#[derive(Clone, Debug)]
pub struct DecideSettings {
    /// Connections that decide requests are spread over, 1 to 8.
    pub connections: usize,
    /// Whether a request on the plain decide subject is refused as `unauthorized`.
    pub require_tenant_subject: bool,
    /// How long a request may wait in this worker before it is answered with `overloaded`.
    pub max_queue: Duration,
    /// Longer request bodies are refused undecoded.
    pub max_request_bytes: usize,
    /// How long a request waits at least for its probe claim before it takes the fallback.
    pub claim_wait: Duration,
    /// How long the log may not confirm the state before decisions by it are stale.
    pub max_stale: Duration,
    /// Reply subjects are answered only if they begin with one of these; each ends with a dot.
    pub reply_prefixes: Vec<String>,
}

/// How assignments are pushed and followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssignmentSettings {
    /// The deadline is the expected latency times this,
    pub deadline_factor: u32,
    /// but at least this
    pub deadline_min: Duration,
    /// and at most this.
    pub deadline_max: Duration,
    /// Whether assignments go to their tenant's own subject, and acknowledgements must come there.
    pub require_tenant: bool,
    /// Assignments whose result is awaited at once; more are refused as `overloaded`.
    pub max_tracked: usize,
    /// `options.retry.max_attempts` of an assignment.
    pub retry_max_attempts: u32,
    /// `options.retry.backoff_ms` of an assignment.
    pub retry_backoff: Duration,
}

/// What a stream keeps; beyond either limit its oldest messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// For how long.
    pub max_age: Duration,
    /// How much.
    pub max_bytes: u64,
}

/// The streams and buckets that the router makes; those that stand already are left as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerSettings {
    /// Replicas of each: 1, 3 or 5.
    pub replicas: usize,
    /// What the log keeps.
    pub log: Kept,
    /// What the usage stream keeps.
    pub usage: Kept,
    /// What the events stream keeps.
    pub events: Kept,
    /// Entries from one snapshot to the next.
    pub snapshot_every: u64,
    /// The newest version of the fold that this worker agrees to; `None` for the newest that it has.
    pub fold_version: Option<u32>,
}

/// What the control verbs in a shell run by.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientSettings {
    /// How to reach the broker.
    pub nats: NatsSettings,
    /// Subjects: of the prefixes only the router's is asked for, control verbs need no other.
    pub names: Names,
    /// How long to wait for the connection, and for each answer.
    pub timeout: Duration,
    /// Who acts, for the history.
    pub actor: Option<String>,
}
