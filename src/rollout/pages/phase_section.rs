//! The phases of a run, on the page of the log.

use std::collections::BTreeMap;

use super::calendar::moment;
use super::journal::Journal;
use super::records::{DecisionRecord, PhaseRecord, Run};
use super::tables;
use super::text::{Empty, Page, code, escaped, no_data, rate, thousandths};
use super::words;
use crate::document::written;
use crate::domain::TenantId;
use crate::rollout::controller::{Kind, TenantStatus};
use crate::rollout::plan::{Phase, Plan};

/// Metrics to look at, and what for. Names are those of the program's metrics.
pub(super) const METRICS: [(&str, &str); 7] = [
    ("router_circuit_breaker_state", "breakers of the phase's tenants that are not closed"),
    ("router_circuit_breaker_error_rate", "how near they are to opening"),
    ("router_circuit_breaker_error_rate_threshold", "the rate at which they open"),
    ("router_circuit_breaker_requests_saved_total", "what refusals spare"),
    ("router_decisions_total", "requests that were answered `circuit_open`: no provider was left"),
    ("router_breaker_check_duration_seconds", "what asking breakers costs"),
    ("router_queue_refused_total", "queue `evidence`: windows that become incomplete"),
];

/// Alerts that concern a rollout.
pub(super) const ALERTS: [&str; 8] = [
    "RouterCircuitBreakerOpened",
    "RouterCircuitBreakerHighFailureRate",
    "RouterCircuitBreakerMultipleProvidersOpen",
    "RouterCircuitBreakerHalfOpenProbesFailed",
    "RouterCircuitBreakerFlapping",
    "RouterCircuitBreakerOpenTooLong",
    "RouterFailFastRatioHigh",
    "RouterLogLag",
];

pub(super) fn of_run(page: &mut Page, journal: &Journal, at: usize) {
    let Some(run) = journal.runs.get(at) else { return };
    let members = match journal.status().filter(|_| at.saturating_add(1) == journal.runs.len()) {
        Some(status) => status.tenants,
        None => Vec::new(),
    };
    let members = members.into_iter().map(|member| (member.tenant_id.clone(), member)).collect();
    for (index, phase) in run.plan.phases().iter().enumerate() {
        let prefix = prefix(journal, at);
        page.section(&format!("{prefix}Phase {}: {}", index.saturating_add(1), phase.name));
        match run.phases.iter().find(|record| record.index == index) {
            Some(record) => section(page, journal, run, phase, record, &members),
            None => page.no_data("the phase has not begun"),
        }
    }
    page.section(&format!("{}After the phases", prefix(journal, at)));
    after(page, journal, run);
}

/// Which run a section is of, where there are several.
fn prefix(journal: &Journal, at: usize) -> String {
    if journal.runs.len() > 1 { format!("Run {}, ", at.saturating_add(1)) } else { String::new() }
}

/// The final bake and the completion.
fn after(page: &mut Page, journal: &Journal, run: &Run) {
    let Some(bake) = run.bake.and_then(|at| journal.decisions.get(at)) else {
        page.no_data("the final bake has not begun");
        return;
    };
    let complete = run.complete.and_then(|at| journal.decisions.get(at));
    let complete = complete.map(|record| format!("{}, {}", moment(record.stamp), record.reference()));
    let share = run.plan.after_phase();
    page.facts(&[
        ("Final bake since (UTC)", format!("{}, {}", moment(bake.stamp), bake.reference())),
        ("Share meanwhile", format!("{share} %, the rest is compared for harm alone")),
        ("Length", format!("{} of qualified time", written(run.plan.final_bake_ms()))),
        ("Complete (UTC)", complete.unwrap_or_else(|| no_data("the final bake has not passed"))),
    ]);
}

fn section(
    page: &mut Page,
    journal: &Journal,
    run: &Run,
    phase: &Phase,
    record: &PhaseRecord,
    members: &BTreeMap<TenantId, TenantStatus>,
) {
    let end = record.end.and_then(|at| journal.decisions.get(at));
    page.subsection("Tenants");
    tenants(page, run, record, members);
    page.subsection("Breaker settings laid over policies");
    settings(page, &run.plan);
    page.subsection("Monitoring");
    monitoring(page, phase, &run.plan);
    page.subsection("Criteria");
    match end {
        Some(end) => {
            page.paragraph(&format!("At the end of the phase, {}:", moment(end.stamp)));
            tables::criteria(
                page,
                &end.criteria,
                Empty::NoData("the phase ended where no criterion is judged"),
            );
        }
        None => {
            page.paragraph("The phase has not ended. As of the newest message:");
            let now = journal.summary().map(|summary| summary.criteria).unwrap_or_default();
            tables::criteria(page, &now, Empty::NoData("no criterion is judged in this state"));
        }
    }
    page.subsection("Decision");
    decision(page, journal, record, end);
}

fn tenants(page: &mut Page, run: &Run, record: &PhaseRecord, members: &BTreeMap<TenantId, TenantStatus>) {
    let row = |id: &TenantId| {
        let history = run.cohort.get(id);
        let none = || no_data("it is not in the newest history");
        let facts = run.plan.facts().get(id);
        let owner = facts.and_then(|facts| facts.owner.as_deref()).map(escaped);
        let notified = facts.and_then(|facts| facts.notified).map(|day| day.to_string());
        let unstated = || no_data("the plan's facts do not state it");
        let now = members
            .get(id)
            .map(|member| format!("{} at {} %", code(words::tenant_state(member.state)), member.percent));
        vec![
            code(id),
            moment(record.since),
            history.map_or_else(none, |tenant| thousandths(tenant.milli_per_minute)),
            history.map_or_else(none, |tenant| rate(tenant.failures, tenant.units)),
            history.map_or_else(none, |tenant| if tenant.fallback { "yes" } else { "no" }.to_owned()),
            owner.unwrap_or_else(unstated),
            notified.unwrap_or_else(unstated),
            now.unwrap_or_else(|| no_data("the rollout was deleted")),
        ]
    };
    let head = [
        "Tenant",
        "Since (UTC)",
        "Units a minute",
        "Error rate before",
        "Fallback",
        "Owner",
        "Notified",
        "Now",
    ];
    page.table(&head, record.tenants.iter().map(row), Empty::NoData("no tenant came in with this phase"));
}

fn settings(page: &mut Page, plan: &Plan) {
    let fields = plan.circuit_breaker().fields();
    if fields.is_empty() {
        page.paragraph(
            "The plan states none. Each tenant has the settings of its documents, or the defaults.",
        );
        return;
    }
    match serde_json::to_string_pretty(fields) {
        Ok(text) => page.code("json", &text),
        Err(_) => page.no_data("the settings cannot be written as JSON"),
    }
    page.paragraph("Fields that a tenant's own document states are stronger.");
}

fn monitoring(page: &mut Page, phase: &Phase, plan: &Plan) {
    let ladder: Vec<String> = phase.ladder.steps().map(|percent| format!("{percent} %")).collect();
    let mut items = vec![format!(
        "Steps {}; windows of {}, judged {} after their end; {} at least, {} at most",
        ladder.join(", "),
        written(phase.block_ms),
        written(plan.analysis().settle_ms),
        written(phase.min_ms),
        written(phase.max_ms),
    )];
    items.extend(METRICS.iter().map(|(name, what)| format!("{}: {what}", code(name))));
    let alerts: Vec<String> = ALERTS.iter().map(code).collect();
    items.push(format!("Alerts: {}", alerts.join(", ")));
    page.list(&items);
}

fn decision(page: &mut Page, journal: &Journal, record: &PhaseRecord, end: Option<&DecisionRecord>) {
    let until = end.map_or(u64::MAX, |end| end.sequence);
    let extensions = journal
        .actions
        .iter()
        .filter(|action| action.extends && (record.sequence..until).contains(&action.sequence));
    let mut items: Vec<String> = extensions
        .map(|action| format!("Extend: {}, {}", action.what, super::log_page::by(action)))
        .collect();
    items.push(match end {
        Some(end) => {
            let word = match end.kind {
                Kind::Promote { .. } | Kind::FinalBake { .. } => "Proceed",
                Kind::RollBack => "Roll back",
                _ => "Abort",
            };
            format!("{word}: {}, {}", moment(end.stamp), end.reference())
        }
        None => format!("Proceed, extend or roll back: {}", no_data("the phase has not ended")),
    });
    page.list(&items);
}
