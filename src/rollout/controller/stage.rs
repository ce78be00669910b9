use std::fmt;

use serde::{Deserialize, Serialize};

use super::decision::Kind;

/// Where a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Stage {
    /// There is a plan.
    Draft,
    /// The history of a phase is wanted, or its first step.
    Preparing {
        /// The phase.
        phase: usize,
    },
    /// The phase is at a step of its ladder.
    Running {
        /// The phase.
        phase: usize,
        /// The place in its ladder.
        rung: usize,
    },
    /// The phase has passed, stays at its last step, and waits for a person.
    AwaitingApproval {
        /// The phase.
        phase: usize,
    },
    /// All phases have passed; all tenants have the share of `after_phase`.
    FinalBake,
    /// Everybody has 100 %.
    Completed,
    /// All shares are 0.
    RolledBack,
    /// Nothing is laid over policies.
    Aborted,
    /// Likewise, and only numbers are kept: a plan may be put again.
    Deleted,
}

impl Stage {
    /// The word on the wire and in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Preparing { .. } => "preparing",
            Self::Running { .. } => "running",
            Self::AwaitingApproval { .. } => "awaiting_approval",
            Self::FinalBake => "final_bake",
            Self::Completed => "completed",
            Self::RolledBack => "rolled_back",
            Self::Aborted => "aborted",
            Self::Deleted => "deleted",
        }
    }

    /// The phase, where there is one.
    #[must_use]
    pub const fn phase(self) -> Option<usize> {
        match self {
            Self::Preparing { phase } | Self::Running { phase, .. } | Self::AwaitingApproval { phase } => {
                Some(phase)
            }
            Self::Draft
            | Self::FinalBake
            | Self::Completed
            | Self::RolledBack
            | Self::Aborted
            | Self::Deleted => None,
        }
    }

    /// Whether decisions move it on: it has begun and has not ended.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(
            self,
            Self::Preparing { .. } | Self::Running { .. } | Self::AwaitingApproval { .. } | Self::FinalBake
        )
    }
}

/// What a status says while a pause holds a rollout where it is.
pub const PAUSED: &str = "paused";

/// The words for the state of a rollout, in the order of its life.
pub const STATES: [&str; 10] = [
    Stage::Draft.as_str(),
    Stage::Preparing { phase: 0 }.as_str(),
    Stage::Running { phase: 0, rung: 0 }.as_str(),
    Stage::AwaitingApproval { phase: 0 }.as_str(),
    PAUSED,
    Stage::FinalBake.as_str(),
    Stage::Completed.as_str(),
    Stage::RolledBack.as_str(),
    Stage::Aborted.as_str(),
    Stage::Deleted.as_str(),
];

/// Why a rollout stays where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Whether all shares are 0.
    pub to_zero: bool,
    /// Whether only a command ends it.
    pub by_hand: bool,
    /// Why.
    pub reasons: Vec<String>,
}

/// A decision that its place does not allow. It is passed over, and its number stays free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Illegal;

impl fmt::Display for Illegal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the state does not allow this decision")
    }
}

/// What of the plan the transitions depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    /// The place of the last step in the phase's ladder.
    pub(super) last_rung: usize,
    /// The next phase that has tenants of its own.
    pub(super) next_phase: Option<usize>,
    /// Whether the phase's history is there.
    pub(super) prepared: bool,
    /// Whether it is paused, and by hand.
    pub(super) paused: Option<bool>,
}

/// The state machine: where a decision leads. See the table in [`super`].
pub(super) fn next(stage: Stage, kind: &Kind, course: Course) -> Result<Stage, Illegal> {
    let when = |condition: bool, to: Stage| if condition { Ok(to) } else { Err(Illegal) };
    // Only a command ends a pause by hand.
    let free = course.paused != Some(true);
    let at_end = match stage {
        Stage::Running { phase, rung } if rung == course.last_rung => Some(phase),
        Stage::AwaitingApproval { phase } => Some(phase),
        _ => None,
    };
    match *kind {
        Kind::Start => when(stage == Stage::Draft, Stage::Preparing { phase: 0 }),
        Kind::Step { phase, rung } => {
            let follows = match stage {
                Stage::Preparing { phase: prepared } => prepared == phase && rung == 0 && course.prepared,
                Stage::Running { phase: current, rung: before } => {
                    current == phase && before.checked_add(1) == Some(rung) && rung <= course.last_rung
                }
                _ => false,
            };
            when(free && follows, Stage::Running { phase, rung })
        }
        Kind::AwaitApproval { phase } => {
            let running = matches!(stage, Stage::Running { .. }) && at_end == Some(phase);
            when(free && running, Stage::AwaitingApproval { phase })
        }
        Kind::Promote { phase } => match course.next_phase {
            Some(next) => when(free && at_end == Some(phase), Stage::Preparing { phase: next }),
            None => Err(Illegal),
        },
        Kind::FinalBake { phase } => {
            when(free && at_end == Some(phase) && course.next_phase.is_none(), Stage::FinalBake)
        }
        Kind::Complete => when(free && stage == Stage::FinalBake, Stage::Completed),
        Kind::Pause { .. } | Kind::Renew | Kind::Abort if !stage.is_active() => Err(Illegal),
        Kind::Pause { .. } | Kind::Renew => Ok(stage),
        Kind::Abort => Ok(Stage::Aborted),
        Kind::Resume => when(course.paused.is_some() && stage.is_active(), stage),
        Kind::RollBack => when(stage.is_active() || stage == Stage::Completed, Stage::RolledBack),
        Kind::TenantBack { .. } => when(stage.is_active() || stage == Stage::Completed, stage),
        Kind::Delete => when(
            matches!(stage, Stage::Draft | Stage::Completed | Stage::RolledBack | Stage::Aborted),
            Stage::Deleted,
        ),
    }
}
