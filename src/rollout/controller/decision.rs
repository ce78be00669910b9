use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::domain::{RolloutId, TenantId};
use crate::rollout::judge::LogE;

/// What a controller decided. It takes effect at the place of its first record in the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Of which rollout.
    pub rollout: RolloutId,
    /// Counts the rollout's decisions, from 1.
    pub n: u64,
    /// The place of the message that made it due. A command that was accepted after it makes it void.
    pub at_seq: u64,
    /// What.
    #[serde(flatten)]
    pub kind: Kind,
    /// Why, in words of the judge or of the command.
    pub reasons: Vec<String>,
    /// What was known then.
    pub figures: Figures,
}

/// What is decided. Phases and steps of a ladder count from 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// The rollout begins with the history of its first phase.
    Start,
    /// A step of a phase begins.
    Step {
        /// The phase.
        phase: usize,
        /// The place in its ladder.
        rung: usize,
    },
    /// The phase has passed, and waits for a person.
    AwaitApproval {
        /// The phase.
        phase: usize,
    },
    /// The phase has passed; its tenants get the share of `after_phase`, and the next one is prepared.
    Promote {
        /// The phase that has passed.
        phase: usize,
    },
    /// The last phase has passed.
    FinalBake {
        /// The phase that has passed.
        phase: usize,
    },
    /// Everybody gets 100 %.
    Complete,
    /// The rollout stays where it is.
    Pause {
        /// Whether all shares go to 0 meanwhile.
        to_zero: bool,
        /// Whether only a command ends it.
        by_hand: bool,
    },
    /// It goes on.
    Resume,
    /// All shares go to 0, for good.
    RollBack,
    /// The shares of single tenants go to 0, for good.
    TenantBack {
        /// Which.
        tenants: BTreeSet<TenantId>,
    },
    /// The step is said again, since the log took its shares to 0 while nothing was judged.
    Renew,
    /// The rollout ends and lays nothing over policies.
    Abort,
    /// So it does, and is forgotten but for its numbers.
    Delete,
}

impl Kind {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Step { .. } => "step",
            Self::AwaitApproval { .. } => "await_approval",
            Self::Promote { .. } => "promote",
            Self::FinalBake { .. } => "final_bake",
            Self::Complete => "complete",
            Self::Pause { .. } => "pause",
            Self::Resume => "resume",
            Self::RollBack => "roll_back",
            Self::TenantBack { .. } => "tenant_back",
            Self::Renew => "renew",
            Self::Abort => "abort",
            Self::Delete => "delete",
        }
    }
}

/// What was known when a decision became due. Logs are of the phase's ladder, or of what comes after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// HARM.
    pub harm: LogE,
    /// SAFE.
    pub safe: LogE,
    /// The share test.
    pub share: LogE,
    /// Units of the step: treated, failed of these, control, failed of these.
    pub units: [u64; 4],
    /// Qualified time of the phase.
    pub qualified_ms: u64,
    /// Time of the phase.
    pub elapsed_ms: u64,
}
