use serde::{Deserialize, Serialize};

use crate::breaker::Transition;
use crate::domain::{ProviderId, RolloutId, TenantId};

/// What the breakers' fold knows of one entry, beside the entry itself. The default says that nothing of it
/// happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct EntryFacts<'f> {
    /// For a result or an [`Ended`](crate::log::Ended): how the call ended. `None` where it is not another call:
    /// a copy by its identity, rejected, of no breaker, or an `Ended` whose result came first. It may stay
    /// `None` where [`Evidence::looks_at`](super::Evidence::looks_at) says no.
    pub call: Option<Call>,
    /// For a policy entry: whether it changed what is in force (put or deleted).
    pub policy_changed: bool,
    /// The transitions that the entry caused, in order. Those of tenants that nothing watches are passed over.
    pub moves: &'f [Move<'f>],
    /// Tenants that leave their rollout by this entry.
    pub left: &'f [(TenantId, Leaving)],
    /// For a step: tenants that it names and that another rollout has. They leave the step's rollout alone.
    pub taken: &'f [TenantId],
    /// Whether refusals of a tenant go unenforced: a flag is off for it, a breaker of it is forced closed, or its
    /// share fell to 0 since no window was judged for too long. Named is each tenant for which this changes, and
    /// each one for which it holds when a step takes it in. Others may be named too: the last value holds.
    pub untreated: &'f [(TenantId, bool)],
    /// Rollouts whose shares fall to 0 by this entry, since nothing was judged for too long. That ends with a step.
    pub lapsed: &'f [RolloutId],
    /// Whether an open counts only the first calls of other tenants, as from version 2 of the fold on.
    pub bounded_opens: bool,
    /// Whether entries before this one are missing: the log was purged, or made anew.
    pub gap: bool,
}

/// One provider call that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// How it ended.
    pub ended: CallEnd,
    /// Whether it answered a probe.
    pub probe: bool,
}

/// How a provider call ended, by the settings of its breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallEnd {
    /// Its status is success.
    Succeeded,
    /// Its status is one of `failure_statuses`, and its code is not ignored; or it is an
    /// [`Ended`](crate::log::Ended).
    Failed,
    /// Anything else: cancelled, an ignored code, a status that is no failure.
    Neutral,
}

/// A transition of one breaker, and what holds for it.
#[derive(Clone, Copy, Debug)]
pub struct Move<'f> {
    /// Whose breaker.
    pub tenant_id: &'f TenantId,
    /// For which provider.
    pub provider_id: &'f ProviderId,
    /// What changed.
    pub transition: &'f Transition,
    /// The rate in parts per million at which it opens: `error_rate_threshold`, or `slow_call_rate_threshold`
    /// where slow calls opened it.
    pub threshold_ppm: u32,
    /// `latency_threshold_ms` where slow calls opened it, else `None`.
    pub slow_over_ms: Option<u64>,
    /// Successful probes that close it (`success_threshold`).
    pub successes: u32,
}

/// Why a tenant is no longer part of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaving {
    /// A policy revision newer than the start states `enabled` or `enforce_percent`; or another rollout has it.
    LeftOut,
    /// Its last policy is deleted.
    Deleted,
}
