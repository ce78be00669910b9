//! How a rollout stands, as lines for a pipe or a file: no colours, no bars.

use super::criteria::figures;
use super::standing::Standing;
use super::words::{age, grouped, held, nats, next, reason, tenant_counts, tenant_state, tenants};
use crate::rollout::controller::Status;

/// Tenants that are named; `--json` has all.
const MOST_TENANTS: usize = 20;

/// The block of lines.
pub(super) fn lines(standing: &Standing) -> Vec<String> {
    let status = &standing.status;
    let mut lines = vec![heading(standing)];
    let mut add = |line: String| lines.push(format!("  {line}"));
    status.reasons.iter().for_each(|why| add(format!("{}: {}", held(status), reason(why))));
    next(status).into_iter().for_each(|(label, what)| add(format!("{label}: {what}")));
    evidence(standing).into_iter().for_each(&mut add);
    if status.min_ms > 0 {
        add(format!("time: {}", time(status)));
    }
    for criterion in &status.criteria {
        let parts = [criterion.verdict.clone(), criterion.reason.clone(), figures(criterion)];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        add(format!("{}: {}", criterion.name.as_str(), parts.join(", ")));
    }
    status.issues.iter().for_each(|issue| add(format!("issue: {issue}")));
    add(format!("tenants: {}", tenant_counts(status)));
    for tenant in tenants(status).into_iter().take(MOST_TENANTS) {
        let (id, state, harm) = (&tenant.tenant_id, tenant_state(tenant.state), nats(tenant.log_e));
        let units = grouped(tenant.units);
        add(format!("{id}: {state}, {} %, harm {harm}, {units} requests before", tenant.percent));
    }
    if let more @ 1.. = status.tenants.len().saturating_sub(MOST_TENANTS) {
        add(format!("and {more} more tenants"));
    }
    lines
}

/// Where it is, in one line.
pub(super) fn heading(standing: &Standing) -> String {
    let status = &standing.status;
    let mut parts = vec![status.state.clone()];
    parts.extend(place(standing));
    format!("{}: {}, seq {}", status.rollout, parts.join(", "), status.seq)
}

/// The phase, the step and the share.
pub(super) fn place(standing: &Standing) -> Vec<String> {
    let status = &standing.status;
    let mut parts = Vec::new();
    if let Some(name) = &status.phase {
        let of = match (standing.phase(), &standing.plan) {
            (Some((place, _)), Some(plan)) => format!(" ({} of {})", place + 1, plan.phases().len()),
            _ => String::new(),
        };
        parts.push(format!("phase {name}{of}"));
    }
    if let Some(step) = status.step {
        let of = standing
            .phase()
            .map_or_else(String::new, |(_, phase)| format!(" of {}", phase.ladder.steps().count()));
        parts.push(format!("step {}{of}", step + 1));
        parts.push(format!("{} %", status.percent));
    }
    parts
}

/// Qualified time beside what the phase may take.
pub(super) fn time(status: &Status) -> String {
    let [qualified, least, most] = [status.qualified_ms, status.min_ms, status.max_ms].map(age);
    format!("{qualified} qualified, at least {least}, at most {most}")
}

fn evidence(standing: &Standing) -> Vec<String> {
    let (status, evidence) = (&standing.status, standing.status.evidence);
    let thresholds = standing.plan.as_ref().map(|plan| status.thresholds(plan));
    let of = |log_e| format!(" of {}", nats(log_e));
    let harm = thresholds.map_or_else(String::new, |t| of(t.harm));
    let harm = format!("harm {}{harm}", nats(evidence.harm_e));
    if standing.is_final_bake() {
        return vec![format!("evidence: {harm}, {} requests", grouped(evidence.units))];
    }
    if status.criteria.is_empty() {
        return Vec::new();
    }
    let safe = thresholds.and_then(|t| t.safe).map_or_else(String::new, of);
    let safe = format!("safe {}{safe}", nats(evidence.safe_e));
    let (units, needed) = (grouped(evidence.units), grouped(evidence.needed));
    vec![format!("evidence: {harm}, {safe}, {units} of {needed} requests")]
}
