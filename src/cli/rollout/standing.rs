use serde_json::Value;

use crate::cli::exit::Exit;
use crate::rollout::controller::{Criterion, Status};
use crate::rollout::plan::{Phase, Plan};

/// How a rollout stands, and by which plan it goes.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) status: Status,
    /// `None` where a router of a later version has a plan that this program cannot read.
    pub(super) plan: Option<Plan>,
    /// The status as the router answered it.
    pub(super) answer: Value,
}

/// Where a phase is in its course.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It has not begun, or it is not known how far it came.
    Ahead,
    /// It is the current one.
    Here,
    Passed,
}

impl Standing {
    /// Of a status that no router answered.
    pub(super) fn of(status: Status, plan: Plan) -> Self {
        Self { status, plan: Some(plan), answer: Value::Null }
    }

    /// The exit code of a command that ends here.
    pub(super) fn exit(&self) -> Exit {
        match self.status.state.as_str() {
            "completed" => Exit::Done,
            "rolled_back" | "aborted" => Exit::RolledBack,
            "awaiting_approval" => Exit::AwaitsApproval,
            "deleted" => Exit::NotFound,
            _ => Exit::Undecided,
        }
    }

    /// Whether it goes on no more.
    pub(super) fn has_ended(&self) -> bool {
        self.status.has_ended()
    }

    /// Whether it stands otherwise than before. What only grows with time is no difference.
    pub(super) fn differs(&self, before: &Self) -> bool {
        timeless(&self.status) != timeless(&before.status)
    }

    /// Whether all phases have passed, and only the last wait is left: paused there, it has no phase.
    pub(super) fn is_final_bake(&self) -> bool {
        let Status { state, phase, .. } = &self.status;
        state == "final_bake" || (state == "paused" && phase.is_none())
    }

    /// The current phase, and its place from 0.
    pub(super) fn phase(&self) -> Option<(usize, &Phase)> {
        let name = self.status.phase.as_ref()?;
        self.plan.as_ref()?.phases().iter().enumerate().find(|(_, phase)| phase.name == *name)
    }

    /// How far a phase is, by its place.
    pub(super) fn progress(&self, place: usize) -> Progress {
        if self.is_final_bake() || self.status.state == "completed" {
            return Progress::Passed;
        }
        match self.phase() {
            Some((here, _)) if place < here => Progress::Passed,
            Some((here, _)) if place == here => Progress::Here,
            _ => Progress::Ahead,
        }
    }
}

fn timeless(status: &Status) -> Status {
    let mut status = status.clone();
    for criterion in status.criteria.iter_mut().filter(|criterion| criterion.name == Criterion::Telemetry) {
        criterion.figures.clear();
    }
    status
}
