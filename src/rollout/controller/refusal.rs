use serde::{Deserialize, Serialize};

use super::criterion::Criterion;
use crate::domain::{PhaseName, TenantId};

/// What became of a plan or a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandVerdict {
    /// The message's `id`.
    pub id: String,
    /// The rollout's number after it.
    pub seq: u64,
    /// The verdict itself.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// See [`CommandVerdict`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Outcome {
    /// It counts.
    Accepted,
    /// `expected_seq` is not the rollout's number: something came between.
    Conflict {
        /// As the sender knew it.
        expected: u64,
    },
    /// It changes nothing.
    Refused {
        /// For programs.
        code: String,
        /// For people.
        text: String,
    },
}

impl Outcome {
    pub(super) fn refused(refusal: &Refusal) -> Self {
        Self::Refused { code: refusal.code().to_owned(), text: refusal.to_string() }
    }
}

/// Why a plan or a command changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such rollout.
    #[error("rollout: there is none with this id")]
    UnknownRollout,
    /// The document has faults.
    #[error("plan: {0}")]
    Plan(String),
    /// A text is empty or too long.
    #[error("{field}: must have 1 to {most} bytes")]
    Text {
        /// Which.
        field: &'static str,
        /// The most bytes.
        most: usize,
    },
    /// A number is outside its range.
    #[error("{field}: must be from 1 to {most}")]
    Number {
        /// Which.
        field: &'static str,
        /// The most.
        most: u64,
    },
    /// The state does not allow the verb.
    #[error("{verb}: is not possible while the rollout is {state}")]
    State {
        /// The verb.
        verb: &'static str,
        /// The state.
        state: &'static str,
    },
    /// A decision that a command ordered is not recorded yet.
    #[error("decision {n} is due and not recorded yet; try again")]
    Deciding {
        /// Its number.
        n: u64,
    },
    /// It is paused by hand already.
    #[error("pause: the rollout is paused already")]
    Paused,
    /// It is paused by hand, or with all shares at 0, and the verb moves it on.
    #[error("{verb}: the rollout is paused; resume it first")]
    Held {
        /// The verb.
        verb: &'static str,
    },
    /// It is not paused.
    #[error("resume: the rollout is not paused")]
    NotPaused,
    /// What paused it still stands.
    #[error("{verb}: phase {phase}: {reasons}")]
    NotReady {
        /// The verb.
        verb: &'static str,
        /// The phase.
        phase: PhaseName,
        /// Why.
        reasons: String,
    },
    /// Harm is never passed over.
    #[error("override: harm is never passed over")]
    OverrideHarm,
    /// Only one criterion is passed over in a phase.
    #[error("override: {} is passed over in phase {phase} already", criterion.as_str())]
    OverrideUsed {
        /// Which one was.
        criterion: Criterion,
        /// In which phase.
        phase: PhaseName,
    },
    /// More time than twice `max`.
    #[error("by: phase {phase} can have at most {most_ms} ms more")]
    Extend {
        /// The phase.
        phase: PhaseName,
        /// What is left.
        most_ms: u64,
    },
    /// The tenant has no share in this rollout.
    #[error("tenant: {tenant} has no share in this rollout")]
    Tenant {
        /// Who.
        tenant: TenantId,
    },
    /// A drill would cost the tenant's requests.
    #[error("tenant: {tenant} has a policy without a fallback for circuit_breaker_open")]
    NoFallback {
        /// Who.
        tenant: TenantId,
    },
    /// No more are kept.
    #[error("{what}: at most {most} at a time")]
    TooMany {
        /// What.
        what: &'static str,
        /// The most.
        most: usize,
    },
    /// The issue is not open.
    #[error("text: no such issue is open")]
    UnknownIssue,
    /// The issue is open.
    #[error("text: this issue is open already")]
    KnownIssue,
}

impl Refusal {
    /// The word for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownRollout => "unknown_rollout",
            Self::Plan(_) => "invalid_plan",
            Self::Text { .. } | Self::Number { .. } | Self::Extend { .. } => "invalid_argument",
            Self::State { .. } => "wrong_state",
            Self::Deciding { .. } => "deciding",
            Self::Paused | Self::Held { .. } => "paused",
            Self::NotPaused => "not_paused",
            Self::NotReady { .. } => "not_ready",
            Self::OverrideHarm | Self::OverrideUsed { .. } => "override_refused",
            Self::Tenant { .. } => "unknown_tenant",
            Self::NoFallback { .. } => "no_fallback",
            Self::TooMany { .. } => "too_many",
            Self::UnknownIssue | Self::KnownIssue => "issue",
        }
    }
}
