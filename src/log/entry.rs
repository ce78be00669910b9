use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::rollout::{MetEntry, StepEntry, TallyEntry};
use super::version::FoldVersionEntry;
use crate::breaker::State;
use crate::domain::{Authenticated, ClaimId, Outcome, PolicyId, ProviderId, Stamp, Status, TenantId};

/// Where an entry stands in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct At {
    /// The stream's sequence.
    pub position: u64,
    /// The broker's time.
    pub stamp: Stamp,
}

/// One entry of the log.
#[derive(Clone, Debug)]
pub enum Entry<'a> {
    /// A provider call ended; published by an executor.
    Result(Outcome<'a>),
    /// An assignment ended without a result: refused, or past its deadline.
    Ended(Ended<'a>),
    /// A policy was put or deleted.
    Policy(PolicyEntry),
    /// The emergency switch was set.
    Flag(FlagEntry),
    /// A request wants to probe.
    Claim(ClaimEntry<'a>),
    /// A claim is taken back.
    Release(ClaimEntry<'a>),
    /// An operator forces a breaker, or takes the force back.
    Force(ForceEntry),
    /// An operator resets a breaker.
    Reset(ForceEntry),
    /// A rollout takes a step.
    Step(StepEntry),
    /// Requests of a watched tenant that met a breaker which was not closed.
    Met(MetEntry),
    /// What a worker has done so far, by its own count.
    Tally(TallyEntry),
    /// The fold applies the rules of a newer version from here on.
    FoldVersion(FoldVersionEntry),
    /// Time has passed and nothing else happened: makes a snapshot due, so that the log may forget by
    /// age what came before.
    Mark,
    /// What could not be read as a result: counted, and nothing else.
    Rejected,
    /// An entry of a newer version of this router.
    Unknown,
}

/// An assignment that ended without a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended<'a> {
    /// Whose it was.
    pub tenant_id: Cow<'a, str>,
    /// Who should have served it.
    pub provider_id: Cow<'a, str>,
    /// The request.
    pub request_id: Cow<'a, str>,
    /// The assignment.
    pub assignment_id: Cow<'a, str>,
    /// `timeout` past its deadline, `error` if the executor refused it.
    pub status: Status,
    /// How long ago it was issued.
    pub elapsed_ms: u64,
}

/// A revision of a bucket. Ordered by the bucket's making first, so that a bucket made anew, whose
/// revisions start again at 1, is newer than the old one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision {
    /// When the bucket was made, in nanoseconds since the Unix epoch.
    pub created: i64,
    /// The revision within it.
    pub revision: u64,
}

/// A policy was put or deleted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicyEntry {
    /// Whose.
    pub tenant_id: TenantId,
    /// Which.
    pub policy_id: PolicyId,
    /// The bucket's revision.
    #[serde(flatten)]
    pub revision: Revision,
    /// The whole document as it was put; absent for a delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<Arc<serde_json::Value>>,
    /// Who did it, in their own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Why, in their own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who did it, by the broker's word. The fold does not look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authenticated: Option<Authenticated>,
}

/// What a flag speaks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "scope", rename_all = "snake_case")]
pub enum Scope {
    /// Every tenant.
    Global,
    /// One tenant.
    Tenant {
        /// Which.
        tenant_id: TenantId,
    },
}

/// The emergency switch was set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlagEntry {
    /// For whom.
    #[serde(flatten)]
    pub scope: Scope,
    /// The bucket's revision.
    #[serde(flatten)]
    pub revision: Revision,
    /// Whether breakers judge and refuse.
    pub circuit_breaker_enabled: bool,
    /// The latest stamp at which it is valid; always without. An entry that repeats what the bucket holds has
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<Stamp>,
    /// Who did it, in their own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Why, in their own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who did it, by the broker's word. The fold does not look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authenticated: Option<Authenticated>,
}

/// A request wants to probe, or takes that back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimEntry<'a> {
    /// Whose breaker.
    pub tenant_id: Cow<'a, str>,
    /// For which provider.
    pub provider_id: Cow<'a, str>,
    /// The request that will be the probe.
    pub request_id: Cow<'a, str>,
    /// The claim's own name.
    pub claim: ClaimId,
    /// The latest stamp at which it is still wanted; unused in a release.
    #[serde(default)]
    pub latest: Stamp,
    /// How long the slot must be held at least; unused in a release.
    #[serde(default)]
    pub lease_ms: u64,
    /// A claim whose slot this one takes over: it is released first. From
    /// [`TAKEN_LEASES`](super::FoldVersion::TAKEN_LEASES) on; unused in a release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes: Option<ClaimId>,
}

/// What an operator forces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForceTo {
    /// Everything is refused.
    Open,
    /// Everything passes.
    Closed,
    /// The breaker judges for itself again.
    Auto,
}

impl ForceTo {
    /// The state that is forced; `None` for auto.
    #[must_use]
    pub const fn state(self) -> Option<State> {
        match self {
            Self::Open => Some(State::Open),
            Self::Closed => Some(State::Closed),
            Self::Auto => None,
        }
    }
}

/// An operator's command to one breaker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ForceEntry {
    /// Whose breaker.
    pub tenant_id: TenantId,
    /// For which provider.
    pub provider_id: ProviderId,
    /// What is forced; absent for a reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<ForceTo>,
    /// For how long; for ever if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// The latest stamp at which it is valid; always without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<Stamp>,
    /// Who did it, in their own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Why, in their own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who did it, by the broker's word. The fold does not look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authenticated: Option<Authenticated>,
}
