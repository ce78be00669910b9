use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::criterion::Criterion;
use super::decision::Decision;
use crate::domain::{Authenticated, ProviderId, RolloutId, Stamp, TenantId};
use crate::rollout::evidence::EvidenceBlock;

/// What stands in the stream of rollouts. Its place and its stamp are given beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    /// A plan is put.
    Plan(PlanMessage),
    /// An operator wants something.
    Command(Command),
    /// What is known of the tenants before a phase.
    History(History),
    /// The evidence of one window, all its parts together.
    Block(Box<EvidenceBlock>),
    /// What a worker's controller decided.
    Decision(Box<Decision>),
}

/// A plan is put. It becomes a draft, or replaces one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanMessage {
    /// Names the message; a copy of it gets the same verdict.
    pub id: String,
    /// The document.
    pub plan: Value,
    /// [`super::Status::seq`] as the sender knows it; 0 where there is no such rollout yet.
    pub expected_seq: u64,
    /// Who.
    pub actor: String,
    /// Who, by the broker's word. The controllers do not look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authenticated: Option<Authenticated>,
    /// Why.
    pub reason: String,
}

/// What an operator wants of one rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Which rollout.
    pub rollout: RolloutId,
    /// Names the message; a copy of it gets the same verdict.
    pub id: String,
    /// [`super::Status::seq`] as the sender knows it.
    pub expected_seq: u64,
    /// Who.
    pub actor: String,
    /// Who, by the broker's word. The controllers do not look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authenticated: Option<Authenticated>,
    /// Why.
    pub reason: String,
    /// What.
    #[serde(flatten)]
    pub verb: Verb,
}

/// The verbs of [`Command`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Verb {
    /// Begins a draft, and pins the version of the judge ([`super::JUDGE_VERSION`]).
    Start {
        /// The version.
        judge: u32,
    },
    /// Lets a phase that has passed go on to the next one.
    Approve,
    /// Passes over one criterion, once in a phase, where nothing else is lacking.
    Promote {
        /// Which one; never `harm`.
        #[serde(rename = "override")]
        criterion: Criterion,
    },
    /// Gives the phase more time, up to twice its `max`.
    Extend {
        /// How much, in log time.
        by_ms: u64,
    },
    /// Stops the rollout at the shares that it has.
    Pause,
    /// Takes all shares to 0 until [`Self::Resume`]. Workers send it, where they find that the rollout cannot go on
    /// safely.
    Suspend {
        /// What they found.
        why: Suspension,
    },
    /// Goes on.
    Resume,
    /// Takes the shares of one tenant, or of all, to 0.
    Rollback {
        /// Which one; all where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<TenantId>,
    },
    /// Ends the rollout and lays nothing over policies any more.
    Abort,
    /// Notes that an operator opens a breaker, so that the tenant's units are not judged meanwhile.
    Drill {
        /// Whose breaker.
        tenant: TenantId,
        /// For which provider.
        provider: ProviderId,
        /// For how long.
        for_ms: u64,
    },
    /// Reports a customer's issue, or that it is solved.
    Issue {
        /// Which of both.
        change: IssueChange,
        /// The issue; the same text closes it.
        text: String,
    },
    /// The block is being written into the documents.
    Graduate,
    /// Removes a rollout that runs no more, and what it lays over policies.
    Delete,
}

impl Verb {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Approve => "approve",
            Self::Promote { .. } => "promote",
            Self::Extend { .. } => "extend",
            Self::Pause => "pause",
            Self::Suspend { .. } => "suspend",
            Self::Resume => "resume",
            Self::Rollback { .. } => "rollback",
            Self::Abort => "abort",
            Self::Drill { .. } => "drill",
            Self::Issue { .. } => "issue",
            Self::Graduate => "graduate",
            Self::Delete => "delete",
        }
    }
}

/// See [`Verb::Suspend`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suspension {
    /// A worker does not support rollouts: it decides by the documents alone, and its requests are no evidence.
    MixedVersions,
}

impl Suspension {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MixedVersions => "mixed_versions",
        }
    }
}

/// See [`Verb::Issue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IssueChange {
    /// A customer reports it.
    Open,
    /// It is solved.
    Close,
}

/// What the log knows of the tenants before a phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Which rollout.
    pub rollout: RolloutId,
    /// For which phase, counted from 0.
    pub phase: usize,
    /// The log time that it covers.
    pub span: Span,
    /// By tenant.
    pub tenants: Vec<TenantHistory>,
}

/// From a time to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Its beginning.
    pub from: Stamp,
    /// Its end.
    pub to: Stamp,
}

/// One tenant's part of a [`History`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantHistory {
    /// Who.
    pub tenant: TenantId,
    /// Units.
    pub units: u64,
    /// How many of them failed.
    pub failures: u64,
    /// Units a minute, in thousandths.
    pub milli_per_minute: u64,
    /// Whether a document of the tenant enforces refusals already.
    pub already_enforced: bool,
    /// Whether every policy has a fallback for a refused request.
    pub fallback: bool,
    /// The longest open time of its policies.
    pub timeout_ms: u64,
}
