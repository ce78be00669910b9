use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::criterion::Criterion;
use super::decision::Decision;
use super::holdout::Holdout;
use super::message::TenantHistory;
use super::refusal::CommandVerdict;
use super::run::PhaseRun;
use super::stage::{Course, Pause, Stage};
use super::stored::StoredPlan;
use super::windows::Windows;
use crate::domain::{ProviderId, RolloutId, Stamp, TenantId};
use crate::log::StepEntry;
use crate::rollout::evidence::Leaving;
use crate::rollout::plan::Phase;

/// One rollout, as the stream has told of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Rollout {
    pub(super) plan: StoredPlan,
    /// The judge's version that the start pinned.
    pub(super) judge: u32,
    pub(super) stage: Stage,
    pub(super) paused: Option<Pause>,
    /// Counts accepted plans and commands, and recorded decisions.
    pub(super) seq: u64,
    /// The number of the newest recorded decision.
    pub(super) decided: u64,
    /// The place of the newest of what `seq` counts.
    pub(super) changed_at: u64,
    pub(super) pending: Option<Pending>,
    pub(super) members: BTreeMap<TenantId, Member>,
    pub(super) already_enforced: Vec<TenantId>,
    /// Whether the history of the phase that is prepared is there.
    pub(super) prepared: bool,
    /// Since when it is prepared.
    pub(super) preparing_since: Stamp,
    /// Why the phase that is prepared finds no tenants.
    pub(super) unmet: Option<String>,
    pub(super) run: Option<PhaseRun>,
    pub(super) holdout: Option<Holdout>,
    pub(super) windows: Windows,
    /// The decision with which the phase's first step came.
    pub(super) phase_since: u64,
    /// What [`super::Verb::Extend`] added to the phase's `max`.
    pub(super) extended_ms: u64,
    /// What is passed over in this phase.
    pub(super) overridden: Option<Criterion>,
    pub(super) issues: Vec<String>,
    pub(super) drills: VecDeque<Drill>,
    pub(super) graduating: bool,
    /// The newest step for the log, and the stamp of its decision.
    pub(super) step: Option<StepEntry>,
    pub(super) step_since: Stamp,
    /// The step that ended the life before this one.
    #[serde(default)]
    pub(super) ended_by: Option<StepEntry>,
    /// Whether the log has taken the shares of the newest step to 0, since nothing was judged for too long.
    pub(super) lapsed: bool,
    /// Verdicts on the last messages, oldest first.
    pub(super) verdicts: VecDeque<CommandVerdict>,
}

/// A decision that is due and not recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) decision: Decision,
    /// Whether a command ordered it.
    pub(super) ordered: bool,
}

/// A tenant of the cohort.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    pub(super) state: TenantState,
    /// The phase that it comes in with; `None` if it is in none.
    pub(super) phase: Option<usize>,
    pub(super) history: TenantHistory,
}

/// Where a tenant stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantState {
    /// Its phase has not begun.
    Waiting,
    /// It goes up the ladder.
    OnLadder,
    /// Its phase has passed.
    Passed,
    /// Its share is 0 for good.
    RolledBack,
    /// A policy of its own states the share, or another rollout has it.
    LeftOut,
    /// It has no policy any more.
    Deleted,
}

impl TenantState {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Waiting, Self::OnLadder, Self::Passed, Self::RolledBack, Self::LeftOut, Self::Deleted];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::OnLadder => "on_ladder",
            Self::Passed => "passed",
            Self::RolledBack => "rolled_back",
            Self::LeftOut => "left_out",
            Self::Deleted => "deleted",
        }
    }

    /// The state of a tenant that leaves.
    pub(super) const fn of(leaving: Leaving) -> Self {
        match leaving {
            Leaving::LeftOut => Self::LeftOut,
            Leaving::Deleted => Self::Deleted,
        }
    }
}

/// An operator opens a breaker for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Drill {
    pub(super) tenant: TenantId,
    pub(super) provider: ProviderId,
    pub(super) from: Stamp,
    pub(super) until: Stamp,
}

impl Rollout {
    pub(super) fn new(plan: StoredPlan) -> Self {
        Self {
            plan,
            judge: super::JUDGE_VERSION,
            stage: Stage::Draft,
            paused: None,
            seq: 0,
            decided: 0,
            changed_at: 0,
            pending: None,
            members: BTreeMap::new(),
            already_enforced: Vec::new(),
            prepared: false,
            preparing_since: Stamp::default(),
            unmet: None,
            run: None,
            holdout: None,
            windows: Windows::default(),
            phase_since: 0,
            extended_ms: 0,
            overridden: None,
            issues: Vec::new(),
            drills: VecDeque::new(),
            graduating: false,
            step: None,
            step_since: Stamp::default(),
            ended_by: None,
            lapsed: false,
            verdicts: VecDeque::new(),
        }
    }

    /// Another plan under the same id. Numbers, windows and the newest step go on.
    pub(super) fn replaced(self, plan: StoredPlan) -> Self {
        let Self { seq, decided, changed_at, mut windows, step, step_since, verdicts, .. } = self;
        let ended_by = step.clone();
        if let Some(step) = &step {
            windows.end_life(step.number.n);
        }
        Self { seq, decided, changed_at, windows, step, step_since, ended_by, verdicts, ..Self::new(plan) }
    }

    pub(super) fn id(&self) -> &RolloutId {
        self.plan.id()
    }

    pub(super) fn phase(&self, index: usize) -> Option<&Phase> {
        self.plan.phases().get(index)
    }

    /// The phase that runs or is prepared.
    pub(super) fn current_phase(&self) -> Option<&Phase> {
        self.stage.phase().and_then(|index| self.phase(index))
    }

    /// The tenants in a state.
    pub(super) fn in_state(&self, state: TenantState) -> impl Iterator<Item = (&TenantId, &Member)> + Clone {
        self.members.iter().filter(move |(_, member)| member.state == state)
    }

    /// Whether a tenant is in a state.
    pub(super) fn is(&self, tenant: &TenantId, state: TenantState) -> bool {
        self.members.get(tenant).is_some_and(|member| member.state == state)
    }

    /// The next phase after one that has tenants of its own.
    fn next_phase(&self, after: usize) -> Option<usize> {
        self.in_state(TenantState::Waiting).filter_map(|(_, m)| m.phase).filter(|p| *p > after).min()
    }

    pub(super) fn course(&self) -> Course {
        let phase = self.stage.phase();
        Course {
            last_rung: phase.and_then(|p| self.phase(p)).map_or(0, |phase| phase.ladder.bakes().len()),
            next_phase: phase.and_then(|after| self.next_phase(after)),
            prepared: self.prepared,
            paused: self.paused.as_ref().map(|pause| pause.by_hand),
        }
    }

    /// The share of the ladder's tenants, in percent; 0 where there is no ladder.
    pub(super) fn ladder_percent(&self) -> u8 {
        let share = |phase: usize, rung: Option<usize>| {
            let ladder = &self.phase(phase)?.ladder;
            rung.map_or(Some(ladder.judged()), |rung| ladder.steps().nth(rung))
        };
        match self.stage {
            Stage::Running { phase, rung } => share(phase, Some(rung)),
            Stage::AwaitingApproval { phase } => share(phase, None),
            _ => None,
        }
        .unwrap_or(0)
    }

    /// Whether refusals are enforced for anybody by the newest step.
    pub(super) fn enforces(&self) -> bool {
        let settings = self.step.as_ref().and_then(|step| step.overlay.as_ref());
        settings.is_some_and(|settings| settings.tenants.values().any(|share| share.percent > 0))
    }
}
