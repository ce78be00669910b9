use serde::{Deserialize, Serialize};

use super::window::Counts;
use crate::domain::{ClaimId, Disposition, Stamp};

/// What a breaker shows to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Requests pass.
    Closed,
    /// Requests are refused.
    Open,
    /// Probes pass.
    HalfOpen,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// The word on the wire and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// Why a breaker went from one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Enough failures in a row.
    FailureThresholdExceeded,
    /// The failures' share of the window.
    ErrorRateThresholdExceeded,
    /// The slow calls' share of the window.
    LatencyThresholdExceeded,
    /// A probe failed.
    HalfOpenFailure,
    /// The open time was over and a probe was claimed.
    TimeoutElapsed,
    /// Enough probes succeeded in a row.
    ProbesSucceeded,
    /// An operator forced it.
    Forced,
    /// An operator took the force back, or its time to live was over.
    ForceLifted,
    /// An operator reset it.
    Reset,
    /// Its policy switched it off.
    Disabled,
    /// The emergency switch was set or taken back.
    Flag,
}

impl Cause {
    /// The word on the wire, in logs and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FailureThresholdExceeded => "failure_threshold_exceeded",
            Self::ErrorRateThresholdExceeded => "error_rate_threshold_exceeded",
            Self::LatencyThresholdExceeded => "latency_threshold_exceeded",
            Self::HalfOpenFailure => "half_open_failure",
            Self::TimeoutElapsed => "timeout_elapsed",
            Self::ProbesSucceeded => "probes_succeeded",
            Self::Forced => "forced",
            Self::ForceLifted => "force_lifted",
            Self::Reset => "reset",
            Self::Disabled => "disabled",
            Self::Flag => "flag",
        }
    }
}

/// One change of what a breaker shows, or a force or reset that left it as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// What it showed before.
    pub from: State,
    /// What it shows now.
    pub to: State,
    /// Why.
    pub cause: Cause,
    /// When, by the log's stamp.
    pub at: Stamp,
    /// The window at that moment, before anything was cleared.
    pub window: Counts,
    /// Failures in a row at that moment.
    pub failures_in_a_row: u32,
    /// How often it has opened, this time included.
    pub trips: u32,
    /// Until when it is open, where it opened.
    pub open_until: Option<Stamp>,
}

/// What the fold says to a claim. The same on every worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has a slot: the request is a probe.
    Granted,
    /// The circuit is closed by now: the request is an ordinary call.
    NotNeeded,
    /// No slot; ask again after this many milliseconds.
    Refused {
        /// What the breaker shows.
        state: State,
        /// How long until a claim may be worth another try.
        retry_after_ms: u64,
    },
}

/// What one input did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effect {
    /// For a result: what became of it, and how it counted.
    pub judged: Option<Judged>,
    /// For a claim: its verdict.
    pub verdict: Option<Verdict>,
    /// What changed of what the breaker shows; empty for most inputs.
    pub transitions: Vec<Transition>,
    /// Probe slots whose deadline passed without a result.
    pub expired_leases: u32,
    /// The claim whose slot this input freed before its deadline.
    pub freed: Option<ClaimId>,
}

/// How a result was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Its disposition.
    pub disposition: Disposition,
    /// Whether it is a failure by the settings; meaningful where it was applied.
    pub failure: bool,
    /// Whether it answered a probe.
    pub probe: bool,
}
