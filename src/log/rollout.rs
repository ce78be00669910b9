//! What a rollout adds to the log.
//!
//! A [`StepEntry`] changes which settings hold for which tenants. [`MetEntry`] and [`TallyEntry`] are evidence
//! that results do not give: replies without a provider, requests that met a breaker which was not closed, and
//! how many requests each worker was asked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::{PolicyId, RolloutId, Stamp, TenantId};

/// Where a decision of a rollout stands. Ordered by the making of its stream first, as revisions of a bucket
/// are: a stream that is made anew numbers its decisions from 1 again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StepNumber {
    /// When the stream of rollouts was made, in nanoseconds since the Unix epoch.
    pub made: i64,
    /// The decision's number in its rollout.
    pub n: u64,
}

/// A rollout takes a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepEntry {
    /// Which rollout.
    pub rollout: RolloutId,
    /// Which decision it carries out.
    #[serde(flatten)]
    pub number: StepNumber,
    /// Where that decision stands in the stream of rollouts.
    pub at_seq: u64,
    /// What holds from here on, as a whole; absent where the rollout lays nothing over policies any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<OverlaySettings>,
}

/// The step of a rollout that lies over a policy, as people are shown it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepInForce {
    /// Which rollout's.
    #[serde(rename = "id")]
    pub rollout: RolloutId,
    /// Which of its decisions.
    pub step: u64,
    /// The share of requests whose refusals are enforced.
    pub percent: u8,
    /// By which percentage evidence is split into arms.
    #[serde(skip)]
    pub split: u8,
    /// The share of requests that evidence is taken of, in parts per million.
    #[serde(skip)]
    pub sample_ppm: u32,
}

/// What a step lays over the policies of its tenants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverlaySettings {
    /// The plan's `circuit_breaker` block. A document's own fields are stronger.
    pub circuit_breaker: Map<String, Value>,
    /// The tenants, and the share of each.
    pub tenants: BTreeMap<TenantId, Share>,
    /// How evidence is collected.
    pub evidence: EvidenceSettings,
    /// Whether the plan has come to its end: a policy that states its own share then leaves alone, without
    /// its tenant.
    #[serde(default)]
    pub completed: bool,
}

/// A tenant's share in a step, in percent: neither is above 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedShare")]
pub struct Share {
    /// The percentage of requests whose refusals are enforced.
    pub percent: u8,
    /// By which percentage evidence is split into arms. It differs from `percent` where nothing is enforced
    /// yet: such a step compares two halves that are treated alike.
    pub split: u8,
}

#[derive(Deserialize)]
struct UncheckedShare {
    percent: u8,
    split: u8,
}

impl TryFrom<UncheckedShare> for Share {
    type Error = &'static str;

    fn try_from(UncheckedShare { percent, split }: UncheckedShare) -> Result<Self, Self::Error> {
        if percent > 100 || split > 100 {
            return Err("a share is at most 100 percent");
        }
        Ok(Self { percent, split })
    }
}

/// How evidence is collected in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceSettings {
    /// The length of a window in log time.
    pub block_ms: u64,
    /// How long after its first entry a request is complete.
    pub settle_ms: u64,
    /// For how long beyond that a share holds without a judged window.
    pub max_stale_ms: u64,
    /// The share of requests that evidence is taken of, in parts per million.
    pub sample_ppm: u32,
}

/// A worker in one run of its process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerRun {
    /// Its name.
    pub worker: String,
    /// Chosen at random when the process starts.
    pub boot: u64,
}

/// Requests of one policy that met a breaker which was not closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetEntry {
    /// Whose.
    pub tenant_id: TenantId,
    /// The policy that decided.
    pub policy_id: PolicyId,
    /// Who decided.
    #[serde(flatten)]
    pub run: WorkerRun,
    /// Counts these entries of the worker's run, from 1.
    pub number: u64,
    /// The requests.
    pub met: Vec<Met>,
}

/// A request that met a breaker which was not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Met {
    /// The hash of the request id that its arm is drawn by.
    pub hash: u64,
    /// What became of it.
    pub fate: Fate,
    /// Whether it reported how an attempt before ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retry: bool,
}

/// What became of a request that met a breaker which was not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// The reply was without a provider.
    NoProvider,
    /// Another provider serves it.
    FellBack,
    /// It probes.
    Probed,
    /// The refusal was not enforced.
    Spared,
}

/// What a worker has done so far, by its own count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TallyEntry {
    /// Who.
    #[serde(flatten)]
    pub run: WorkerRun,
    /// How far it had read the log.
    pub position: u64,
    /// How many [`MetEntry`]s it has written.
    pub met: u64,
    /// Whether its breakers refuse (`ROUTER_CIRCUIT_BREAKER_ENABLED`).
    pub enforcing: bool,
    /// The latest window that its controller has judged, by rollout.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub judged: BTreeMap<RolloutId, JudgedWindow>,
    /// Running totals of watched tenants.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tenants: BTreeMap<TenantId, ArmTotals>,
    /// Whether the worker ends here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub last: bool,
}

/// A window of a rollout that was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JudgedWindow {
    /// Its number.
    pub number: u64,
    /// Its end, in log time.
    pub end: Stamp,
}

/// Running totals of a tenant's requests in one worker, by arm: treated, then control. Pairs that are absent are zeros.
/// They are written all the same while a program may run that cannot read a tally without them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmTotals {
    /// Requests that were answered, each counted by its first attempt.
    pub asked: [u64; 2],
    /// Replies without a provider.
    #[serde(default)]
    pub no_provider: [u64; 2],
    /// Requests that another provider serves than the one whose breaker refuses.
    #[serde(default)]
    pub fell_back: [u64; 2],
    /// Requests whose refusal was not enforced.
    #[serde(default)]
    pub spared: [u64; 2],
}
