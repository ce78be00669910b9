//! The ladder: phases and steps, where the rollout is and what has passed.

use super::standing::{Progress, Standing};
use crate::document::written;
use crate::rollout::plan::{Phase, Plan};

/// One row of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rung {
    pub(super) name: String,
    pub(super) progress: Progress,
    /// Shares in percent.
    pub(super) steps: Vec<(u8, Progress)>,
    /// How long it takes.
    pub(super) period: String,
}

/// The phases, and what comes after them.
pub(super) fn rungs(standing: &Standing, plan: &Plan) -> Vec<Rung> {
    let phases = plan.phases().iter().enumerate().map(|(place, phase)| of_phase(standing, place, phase));
    phases.chain([after_phases(standing, plan)]).collect()
}

fn of_phase(standing: &Standing, place: usize, phase: &Phase) -> Rung {
    let progress = standing.progress(place);
    let here = standing.status.step;
    let step = |index: usize| match progress {
        Progress::Here => match here {
            Some(here) if index < here => Progress::Passed,
            Some(here) if index == here => Progress::Here,
            _ => Progress::Ahead,
        },
        other => other,
    };
    Rung {
        name: phase.name.to_string(),
        progress,
        steps: phase.ladder.steps().enumerate().map(|(index, share)| (share, step(index))).collect(),
        period: format!("{} to {}", written(phase.min_ms), written(phase.max_ms)),
    }
}

fn after_phases(standing: &Standing, plan: &Plan) -> Rung {
    let [progress, baking, full] = match standing.status.state.as_str() {
        "completed" => [Progress::Passed, Progress::Passed, Progress::Here],
        _ if standing.is_final_bake() => [Progress::Here, Progress::Here, Progress::Ahead],
        _ => [Progress::Ahead; 3],
    };
    Rung {
        name: "final bake".to_owned(),
        progress,
        steps: vec![(plan.after_phase(), baking), (100, full)],
        period: written(plan.final_bake_ms()),
    }
}
