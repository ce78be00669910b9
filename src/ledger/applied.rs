use std::sync::Arc;

use super::register::PolicyChange;
use crate::breaker::{Transition, Verdict};
use crate::domain::{ClaimId, Disposition, PolicyId, Status};
use crate::rollout::evidence::Lost;
use crate::state::Cell;

/// What one entry did.
#[derive(Clone, Debug)]
pub struct Applied {
    /// What it was, and what became of it.
    pub what: What,
    /// Every transition that it caused.
    pub moved: Vec<Moved>,
    /// How many windows of rollouts it closed.
    pub windows_closed: u64,
    /// What the evidence of rollouts lost by bounds; nearly always nothing.
    pub evidence_lost: Option<Box<Lost>>,
    /// Whether an identity was forgotten for it that was not yet old, since its tenant's share of them was taken.
    pub forgotten_early: bool,
}

/// A transition and whose it is.
#[derive(Clone, Debug)]
pub struct Moved {
    /// The breaker.
    pub cell: Arc<Cell>,
    /// The policy whose settings hold.
    pub policy_id: PolicyId,
    /// What changed.
    pub transition: Transition,
}

/// What an entry was, and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A result.
    Result {
        /// How the call ended; absent where that could not be read.
        status: Option<Status>,
        /// What became of it.
        disposition: Disposition,
    },
    /// A refusal or a timeout of an assignment; `judged` unless a result came first.
    Ended {
        /// Whether it counted.
        judged: bool,
    },
    /// A claim.
    Claim {
        /// Its name.
        claim: ClaimId,
        /// Its verdict; absent where no such breaker stands.
        verdict: Option<Verdict>,
    },
    /// A release.
    Release,
    /// A policy revision.
    Policy(PolicyChange),
    /// A switch; whether it was newer.
    Flag {
        /// Whether it took effect.
        newer: bool,
    },
    /// A force or a reset; whether such a breaker stands.
    Command {
        /// Whether it does.
        found: bool,
    },
    /// A force, a reset or a switch that came past its latest stamp, and changed nothing.
    Late,
    /// A step of a rollout; whether it was newer.
    Step {
        /// Whether it took effect.
        newer: bool,
    },
    /// A version of the fold; whether it is newer.
    FoldVersion {
        /// Whether it took effect.
        newer: bool,
    },
    /// Evidence for rollouts, which changes no breaker.
    Evidence,
    /// A mark.
    Mark,
    /// An entry that this version does not know.
    Unknown,
}

impl What {
    /// Whether a policy, a switch or a step is in force by it.
    pub(super) const fn took_effect(&self) -> bool {
        match self {
            Self::Policy(change) => matches!(change, PolicyChange::Put | PolicyChange::Deleted),
            Self::Flag { newer } | Self::Step { newer } => *newer,
            _ => false,
        }
    }
}
