//! Decisions, verbs and figures in words.

use super::text::{code, escaped, nats};
use crate::document::written;
use crate::rollout::controller::{Criterion, CriterionStatus, IssueChange, Kind, TenantState, Verb};
use crate::rollout::judge::LogE;
use crate::rollout::plan::Plan;

/// The longest list of reasons that a page shows.
const MAX_REASONS: usize = 16;
/// Longer than each word of the judge.
const MAX_WORD: usize = 32;

pub(super) const fn tenant_state(state: TenantState) -> &'static str {
    match state {
        TenantState::Waiting => "waiting",
        TenantState::OnLadder => "on_ladder",
        TenantState::Passed => "passed",
        TenantState::RolledBack => "rolled_back",
        TenantState::LeftOut => "left_out",
        TenantState::Deleted => "deleted",
    }
}

/// A decision.
pub(super) fn decision(kind: &Kind, plan: Option<&Plan>) -> String {
    let phase = |index: usize| match plan.and_then(|plan| plan.phases().get(index)) {
        Some(phase) => format!("phase {}", code(&phase.name)),
        None => format!("phase {}", index.saturating_add(1)),
    };
    match kind {
        Kind::Start => "start".to_owned(),
        Kind::Step { phase: index, rung } => {
            let percent = plan.and_then(|plan| plan.phases().get(*index)?.ladder.steps().nth(*rung));
            let share = percent.map(|percent| format!(" at {percent} %")).unwrap_or_default();
            format!("step {}{share} of {}", rung.saturating_add(1), phase(*index))
        }
        Kind::AwaitApproval { phase: index } => format!("wait for approval of {}", phase(*index)),
        Kind::Promote { phase: index } => format!("{} has passed", phase(*index)),
        Kind::FinalBake { phase: index } => format!("{} has passed, final bake", phase(*index)),
        Kind::Complete => "complete at 100 %".to_owned(),
        Kind::Pause { to_zero: true, .. } => "pause with all shares at 0".to_owned(),
        Kind::Pause { to_zero: false, .. } => "pause".to_owned(),
        Kind::Resume => "resume".to_owned(),
        Kind::RollBack => "roll back".to_owned(),
        Kind::TenantBack { tenants } => {
            let names: Vec<String> = tenants.iter().map(code).collect();
            format!("roll back {}", names.join(", "))
        }
        Kind::Renew => "renew the step".to_owned(),
        Kind::Abort => "abort".to_owned(),
        Kind::Delete => "delete".to_owned(),
    }
}

/// What a command wants.
pub(super) fn verb(verb: &Verb) -> String {
    let word = verb.as_str();
    match verb {
        Verb::Start { judge } => format!("{word} with judge {judge}"),
        Verb::Suspend { why } => format!("{word}: {}", code(why.as_str())),
        Verb::Promote { criterion } => format!("{word} past {}", code(criterion.as_str())),
        Verb::Extend { by_ms } => format!("{word} by {}", written(*by_ms)),
        Verb::Rollback { tenant: Some(tenant) } => format!("{word} of {}", code(tenant)),
        Verb::Drill { tenant, provider, for_ms } => {
            format!("{word} of {} for provider {}, {}", code(tenant), code(provider), written(*for_ms))
        }
        Verb::Issue { change, text } => {
            let change = match change {
                IssueChange::Open => "open",
                IssueChange::Close => "close",
            };
            format!("{word} {change}: {}", escaped(text))
        }
        Verb::Approve
        | Verb::Pause
        | Verb::Resume
        | Verb::Rollback { tenant: None }
        | Verb::Abort
        | Verb::Graduate
        | Verb::Delete => word.to_owned(),
    }
}

/// Whether a command orders such a decision.
pub(super) fn orders(verb: &Verb, kind: &Kind) -> bool {
    match verb {
        Verb::Start { .. } => *kind == Kind::Start,
        Verb::Approve | Verb::Promote { .. } => {
            matches!(kind, Kind::Step { .. } | Kind::Promote { .. } | Kind::FinalBake { .. })
        }
        Verb::Pause => matches!(kind, Kind::Pause { by_hand: true, .. }),
        Verb::Suspend { .. } => matches!(kind, Kind::Pause { to_zero: true, .. }),
        Verb::Resume => *kind == Kind::Resume,
        Verb::Rollback { tenant: None } => *kind == Kind::RollBack,
        Verb::Rollback { tenant: Some(tenant) } => {
            matches!(kind, Kind::TenantBack { tenants } if tenants.contains(tenant))
        }
        Verb::Abort => *kind == Kind::Abort,
        Verb::Delete => *kind == Kind::Delete,
        Verb::Extend { .. } | Verb::Drill { .. } | Verb::Issue { .. } | Verb::Graduate => false,
    }
}

/// The reasons that a controller gave for a decision.
pub(super) fn reasons(kind: &Kind, reasons: &[String]) -> String {
    if reasons.is_empty() {
        let reason = match kind {
            Kind::Resume => "what paused it has cleared",
            Kind::Complete => "the final bake is over",
            Kind::Step { .. }
            | Kind::AwaitApproval { .. }
            | Kind::Promote { .. }
            | Kind::FinalBake { .. } => "all criteria hold",
            _ => "its record has no reason",
        };
        return reason.to_owned();
    }
    listed(reasons)
}

/// Reasons in a line.
pub(super) fn listed(reasons: &[String]) -> String {
    let shown: Vec<String> = reasons.iter().take(MAX_REASONS).map(|reason| one(reason)).collect();
    let rest = reasons.len().saturating_sub(MAX_REASONS);
    let rest = if rest > 0 { format!(", and {rest} more") } else { String::new() };
    format!("{}{rest}", shown.join(", "))
}

/// A word of the judge as such, and any other text as one of a person.
fn one(reason: &str) -> String {
    let is_word = (1..=MAX_WORD).contains(&reason.len())
        && reason.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if is_word { code(reason) } else { escaped(reason) }
}

/// The figures of a criterion, each with its unit.
pub(super) fn figures(status: &CriterionStatus) -> String {
    let figure = |(name, value): (&String, &i64)| match (status.name, name.as_str()) {
        (_, "log_e") => format!("evidence {} nats", nats(LogE(*value))),
        (Criterion::Latency, bound) => {
            format!("{bound} {}", nats(LogE(value.saturating_mul(1_000))))
        }
        (_, "permille") => format!("{value} ‰"),
        (_, "stale_ms") => format!("{value} ms overdue"),
        (_, name) => format!("{value} {name}"),
    };
    let shown: Vec<String> = status.figures.iter().map(figure).collect();
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}
