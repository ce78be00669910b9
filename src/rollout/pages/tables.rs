//! Tables that several pages have.

use std::collections::BTreeMap;

use super::calendar::moment;
use super::circuits::{Circuit, Opens};
use super::records::{Action, DecisionRecord, StatusSummary, StepRecord};
use super::sums::{ByTreatment, Sums, Units};
use super::text::{Empty, Page, code, count, nats, no_data, rate};
use super::words;
use crate::document::written;
use crate::domain::TenantId;
use crate::rollout::controller::CriterionStatus;
use crate::rollout::evidence::LatencyHistogram;
use crate::rollout::judge::{Open, Recovery};

/// Tenants of a table on a page of days and weeks.
const MAX_ROWS: usize = 20;

/// Decisions with the states between which they lead.
pub(super) fn transitions<'r>(page: &mut Page, records: impl Iterator<Item = &'r DecisionRecord>) {
    let row = |record: &DecisionRecord| {
        vec![
            record.sequence.to_string(),
            moment(record.stamp),
            format!("{}: {}", record.n, record.what),
            record.from.clone(),
            record.to.clone(),
            record.who.clone(),
            record.why.clone(),
        ]
    };
    let head = ["Message", "Time (UTC)", "Decision", "From", "To", "Who", "Why"];
    page.table(&head, records.map(row), Empty::None("no decision took effect"));
}

/// What people did.
pub(super) fn actions<'r>(page: &mut Page, actions: impl Iterator<Item = &'r Action>) {
    let row = |action: &Action| {
        vec![
            action.sequence.to_string(),
            moment(action.stamp),
            action.what.clone(),
            action.actor.clone(),
            action.reason.clone(),
        ]
    };
    page.table(
        &["Message", "Time (UTC)", "Action", "Who", "Why"],
        actions.map(row),
        Empty::None("no command was accepted"),
    );
}

/// How complete the evidence is.
pub(super) fn windows(sums: &Sums) -> String {
    if sums.windows == 0 {
        return no_data("no window was published");
    }
    let Sums { windows, incomplete, untreated, purged, missing, dropped, .. } = sums;
    format!(
        "{}: {incomplete} incomplete, {untreated} with refusals that were not enforced, {purged} after a purge; \
         {missing} missing; {} dropped by cuts",
        count(*windows, "window"),
        count(*dropped, "unit"),
    )
}

/// Units by arm.
pub(super) fn requests(page: &mut Page, sums: &Sums) {
    let mut rows = Vec::new();
    let ByTreatment { enforced, alike } = &sums.units;
    if !enforced.is_empty() {
        rows.extend(arms(enforced, ["treated", "control"], Some(&sums.latency)));
    }
    if !alike.is_empty() {
        rows.extend(arms(alike, ["treated alike, first half", "treated alike, second half"], None));
    }
    let head = [
        "Arm",
        "Units",
        "Successes",
        "Failures",
        "Error rate",
        "No outcome",
        "Requests asked",
        "p50 (ms)",
        "p95 (ms)",
    ];
    page.table(&head, rows, Empty::NoData("no window has units"));
}

fn arms(units: &Units, names: [&str; 2], latency: Option<&[LatencyHistogram; 2]>) -> Vec<Vec<String>> {
    let [treated, treated_failed, control, control_failed] = units.all;
    let arms = [(treated, treated_failed), (control, control_failed)];
    let each = names.into_iter().zip(arms).zip(units.no_outcome).zip(units.asked).enumerate();
    each.map(|(arm, (((name, (all, failed)), no_outcome), asked))| {
        let quantile = |permille| match latency.and_then(|latency| latency.get(arm)) {
            Some(latency) => latency
                .quantile(permille)
                .map_or_else(|| no_data("no success with a latency"), |ms| ms.to_string()),
            None => no_data("not compared where arms are treated alike"),
        };
        vec![
            name.to_owned(),
            all.to_string(),
            all.saturating_sub(failed).to_string(),
            failed.to_string(),
            rate(failed, all),
            no_outcome.to_string(),
            asked.to_string(),
            quantile(500),
            quantile(950),
        ]
    })
    .collect()
}

/// Units that met a breaker which was not closed.
pub(super) fn fail_fast(page: &mut Page, sums: &Sums) {
    let [treated, treated_failed, control, control_failed] = sums.units.enforced.met;
    let row = |arm: &str, what: &str, all: u64, failed: u64| {
        vec![arm.to_owned(), what.to_owned(), all.to_string(), failed.to_string(), rate(failed, all)]
    };
    let rows = if sums.units.enforced.is_empty() {
        Vec::new()
    } else {
        vec![
            row("treated", "refused by the breaker, or a probe", treated, treated_failed),
            row("control", "sent in spite of the breaker, or a probe", control, control_failed),
        ]
    };
    let head = ["Arm", "Treatment", "Units that met a breaker that was not closed", "Failures", "Error rate"];
    page.table(&head, rows, Empty::NoData("no window has units of a step that enforces refusals"));
    page.paragraph(
        "Replies without a provider are not counted by themselves: no data, the stream of rollouts holds how units \
         ended, not why. Each is a failure above. `router_decisions_total{outcome=\"circuit_open\"}` counts them.",
    );
}

/// The tenants with most failures.
pub(super) fn tenants(page: &mut Page, tenants: &BTreeMap<TenantId, ByTreatment>) {
    let mut order: Vec<(&TenantId, &ByTreatment)> = tenants.iter().collect();
    let failures = |of: &ByTreatment| {
        let failed = |units: &Units| {
            let [_, treated, _, control] = units.all;
            treated.saturating_add(control)
        };
        failed(&of.enforced).saturating_add(failed(&of.alike))
    };
    order.sort_by_key(|(id, units)| (std::cmp::Reverse(failures(units)), *id));
    let row = |(id, of): &(&TenantId, &ByTreatment)| {
        let [treated, treated_failed, control, control_failed] = of.enforced.all;
        let [first, first_failed, second, second_failed] = of.alike.all;
        let alike = first_failed.saturating_add(second_failed);
        vec![
            code(id),
            format!("{treated_failed} of {treated} ({})", rate(treated_failed, treated)),
            format!("{control_failed} of {control} ({})", rate(control_failed, control)),
            format!("{alike} of {}", first.saturating_add(second)),
        ]
    };
    let head = ["Tenant", "Failures, treated", "Failures, control", "Failures, treated alike"];
    page.table(&head, order.iter().take(MAX_ROWS).map(row), Empty::NoData("no window has units"));
    let rest = order.len().saturating_sub(MAX_ROWS);
    if rest > 0 {
        page.paragraph(&format!("Those with most failures come first. {rest} more tenants are not listed."));
    }
}

/// Opens by circuit.
pub(super) fn opens(page: &mut Page, opens: &BTreeMap<Circuit, Opens>, empty: Empty<'_>) {
    let row = |((tenant, provider), opens): (&Circuit, &Opens)| {
        let mut row = vec![code(tenant), code(provider), opens.count().to_string()];
        row.extend(Open::ALL.map(|kind| opens.of_kind(kind).to_string()));
        row.extend(Recovery::ALL.map(|recovery| opens.recovered(recovery).to_string()));
        row.push(match opens.open_ms.checked_div(opens.closed) {
            Some(mean) => written(mean),
            None => no_data("none has closed"),
        });
        row
    };
    let words = Open::ALL.map(Open::as_str).into_iter().chain(Recovery::ALL.map(Recovery::as_str));
    let words: Vec<String> = words.map(code).collect();
    let mut head = vec!["Tenant", "Provider", "Opens"];
    head.extend(words.iter().map(String::as_str));
    head.push("Mean open time");
    page.table(&head, opens.iter().map(row), empty);
}

/// The criteria of a step.
pub(super) fn criteria(page: &mut Page, criteria: &[CriterionStatus], empty: Empty<'_>) {
    let row = |status: &CriterionStatus| {
        let reason = if status.reason.is_empty() { "it holds".to_owned() } else { code(&status.reason) };
        vec![code(status.name.as_str()), status.verdict.clone(), reason, words::figures(status)]
    };
    page.table(&["Criterion", "Verdict", "Reason", "Figures"], criteria.iter().map(row), empty);
}

/// Evidence and time.
pub(super) fn evidence(page: &mut Page, summary: &StatusSummary) {
    let evidence = &summary.evidence;
    let log_e = |log_e| match evidence.units {
        0 => no_data("no unit is judged in this state"),
        _ => format!("{} nats", nats(log_e)),
    };
    let units = match (evidence.units, evidence.needed) {
        (0, 0) => no_data("nothing is compared in this state"),
        (units, 0) => format!("{units}; they are compared for harm alone"),
        (units, needed) => format!("{units}; a verdict needs about {needed}"),
    };
    let times = if summary.max_ms == 0 {
        no_data("no phase is on its ladder")
    } else {
        let [qualified, least, most] = [summary.qualified_ms, summary.min_ms, summary.max_ms].map(written);
        format!("{qualified}, of {least} at least and {most} at most")
    };
    page.facts(&[
        ("As of (UTC)", moment(summary.at)),
        ("Evidence of harm", log_e(evidence.harm_e)),
        ("Evidence of safety", log_e(evidence.safe_e)),
        ("Units of the step", units),
        ("Qualified time of the phase", times),
    ]);
}

/// What became of the shares by a step.
pub(super) fn step(step: Option<&StepRecord>) -> String {
    match step {
        None => "no step was needed: the shares were so already".to_owned(),
        Some(StepRecord { number, tenants: None }) => {
            format!("step {number} lays nothing over policies")
        }
        Some(StepRecord { number, tenants: Some([at_zero, above]) }) => {
            format!("step {number}: {} at share 0, {above} above", count(*at_zero, "tenant"))
        }
    }
}
