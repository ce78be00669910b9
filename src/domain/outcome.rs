use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::Stamp;

/// The longest latency that makes sense: a day. A result that says more is rejected.
pub const MAX_LATENCY_MS: u64 = 86_400_000;

/// How far a result's own `timestamp` may pull back the beginning of its call.
const MAX_PULL_BACK_MS: u64 = 60_000;

/// How a provider call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It was served.
    Success,
    /// It failed.
    Error,
    /// It took too long.
    Timeout,
    /// The caller took it back.
    Cancelled,
}

impl Status {
    /// All of them, in the order of their bits in a [`StatusSet`].
    pub const ALL: [Self; 4] = [Self::Success, Self::Error, Self::Timeout, Self::Cancelled];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status that a word on the wire names.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }
}

/// A set of statuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StatusSet(u8);

impl StatusSet {
    /// This set and one more status.
    #[must_use]
    pub const fn with(self, status: Status) -> Self {
        Self(self.0 | 1 << status as u8)
    }

    /// Whether a status is in the set.
    #[must_use]
    pub const fn contains(self, status: Status) -> bool {
        self.0 & (1 << status as u8) != 0
    }

    /// The statuses in the set, in fixed order.
    pub fn iter(self) -> impl Iterator<Item = Status> {
        Status::ALL.into_iter().filter(move |s| self.contains(*s))
    }

    /// The set as bits, for digests.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }
}

/// A checked result of a provider call: the evidence that breakers judge by.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<'a> {
    /// Whose call it was.
    pub tenant_id: Cow<'a, str>,
    /// Who served it.
    pub provider_id: Cow<'a, str>,
    /// The request that it answers, where the executor tells; a probe is known by it.
    pub request_id: Option<Cow<'a, str>>,
    /// The assignment that it answers, if one was pushed.
    pub assignment_id: Option<Cow<'a, str>>,
    /// How it ended.
    pub status: Status,
    /// How long the call took, at most [`MAX_LATENCY_MS`].
    pub latency_ms: Option<u64>,
    /// What it cost, in billionths of the caller's unit.
    pub cost_nanos: Option<u64>,
    /// The provider's own code.
    pub error_code: Option<Cow<'a, str>>,
    /// How long the provider asks to be left alone.
    pub retry_after_ms: Option<u64>,
    /// When the executor wrote this, by its own clock.
    pub timestamp_ms: Option<u64>,
    /// What kind of work it was.
    pub job_type: Option<Cow<'a, str>>,
    /// The caller's trace id.
    pub trace_id: Option<Cow<'a, str>>,
    /// What makes a second copy a second copy: see [`identity_of`].
    pub identity: u64,
}

impl<'a> Outcome<'a> {
    /// A result that tells no more than it must.
    #[must_use]
    pub fn of(
        tenant_id: impl Into<Cow<'a, str>>,
        provider_id: impl Into<Cow<'a, str>>,
        status: Status,
        identity: u64,
    ) -> Self {
        Self {
            tenant_id: tenant_id.into(),
            provider_id: provider_id.into(),
            request_id: None,
            assignment_id: None,
            status,
            latency_ms: None,
            cost_nanos: None,
            error_code: None,
            retry_after_ms: None,
            timestamp_ms: None,
            job_type: None,
            trace_id: None,
            identity,
        }
    }

    /// When the call began: the earlier of the log's stamp and the result's own timestamp (which may
    /// pull back by 60 s at most), less the latency.
    #[must_use]
    pub fn began(&self, stamp: Stamp) -> Stamp {
        let written = self
            .timestamp_ms
            .map_or(stamp, |t| Stamp(t.clamp(stamp.0.saturating_sub(MAX_PULL_BACK_MS), stamp.0)));
        written.minus(self.latency_ms.unwrap_or(0))
    }
}

/// The identity of a result: a fixed hash of its tenant and its assignment id, or of its whole body
/// where it has none. The tenant is part of it so that no tenant's ids can make another's results
/// look like copies. 64 bits: against the million identities that the fold remembers, one result in
/// 2⁴⁴ is mistaken for a copy.
#[must_use]
pub fn identity_of(tenant_id: &str, assignment_id: Option<&str>, body: &[u8]) -> u64 {
    match assignment_id {
        Some(id) => xxh3_64_with_seed(id.as_bytes(), xxh3_64(tenant_id.as_bytes())),
        None => xxh3_64(body),
    }
}

/// What became of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Disposition {
    /// Judged.
    Applied,
    /// A copy of one that was seen before.
    Duplicate,
    /// Its call began before the breaker's latest transition.
    Late,
    /// Cancelled, an ignored code, or a stray while open or half-open.
    Ignored,
    /// Not decodable, senseless, or of a tenant or provider that no policy names.
    Rejected,
}

impl Disposition {
    /// The word in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Duplicate => "duplicate",
            Self::Late => "late",
            Self::Ignored => "ignored",
            Self::Rejected => "rejected",
        }
    }
}
