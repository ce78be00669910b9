//! The checklist before a rollout, as far as the stream holds its facts.

use super::calendar::moment;
use super::journal::Journal;
use super::log_page::by;
use super::records::Run;
use super::text::{Page, code, count, no_data, rate, thousandths};
use crate::rollout::plan::TenantSelection;

pub(super) fn list(page: &mut Page, journal: &Journal) {
    let Some(run) = journal.runs.last() else {
        page.no_data("no plan was accepted");
        return;
    };
    let items = [
        plan(journal, run),
        start(journal, run),
        history(run),
        cohort(run),
        already_enforced(run),
        fallbacks(run),
        first_phase(run),
        owners(run),
        held_elsewhere("streams, permissions and results with a request id"),
        held_elsewhere("alert rules that are loaded"),
        held_elsewhere("workers of one version"),
        held_elsewhere("a rollback that was tried"),
    ];
    let items = items.into_iter().map(|(done, text)| {
        let mark = if done { "[x]" } else { "[ ]" };
        format!("{mark} {text}")
    });
    page.list(&items.collect::<Vec<_>>());
}

type Item = (bool, String);

fn held_elsewhere(what: &str) -> Item {
    (false, format!("Check of {what}: {}", no_data("the stream of rollouts does not hold it")))
}

fn plan(journal: &Journal, run: &Run) -> Item {
    match journal.actions.get(run.put) {
        Some(put) => (true, format!("The plan has no faults: {}", by(put))),
        None => (false, format!("The plan: {}", no_data("it was not put"))),
    }
}

fn start(journal: &Journal, run: &Run) -> Item {
    match run.start.and_then(|at| journal.decisions.get(at)) {
        Some(start) => {
            (true, format!("The start is ordered: {}, {}", moment(start.stamp), start.reference()))
        }
        None => (false, format!("The start: {}", no_data("it was not ordered"))),
    }
}

fn history(run: &Run) -> Item {
    let Some(history) = run.histories.first() else {
        return (false, format!("The history: {}", no_data("it was not counted")));
    };
    let (from, to) = (moment(history.span.from), moment(history.span.to));
    let (units, failures) = (history.units, history.failures);
    let rate = rate(failures, units);
    (units > 0, format!("The history is counted: {from} to {to}, {units} units, {failures} failed ({rate})"))
}

fn cohort(run: &Run) -> Item {
    let size = u64::try_from(run.cohort.len()).unwrap_or(u64::MAX);
    match size {
        0 => (false, format!("The cohort: {}", no_data("no history fixed it"))),
        size => (true, format!("The cohort is fixed: {}", count(size, "tenant"))),
    }
}

fn already_enforced(run: &Run) -> Item {
    if run.histories.is_empty() {
        return (false, format!("Tenants that enforce already: {}", no_data("no history was counted")));
    }
    let names: Vec<String> = run.already_enforced.iter().map(code).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    (true, format!("Tenants that enforce by documents of their own are not taken in: {names}"))
}

fn fallbacks(run: &Run) -> Item {
    let without: Vec<String> =
        run.cohort.values().filter(|tenant| !tenant.fallback).map(|tenant| code(&tenant.tenant)).collect();
    if run.cohort.is_empty() {
        (false, format!("Fallbacks for refused requests: {}", no_data("no history was counted")))
    } else if without.is_empty() {
        (true, "Each policy has a fallback for refused requests".to_owned())
    } else {
        (false, format!("A policy without a fallback for refused requests is of: {}", without.join(", ")))
    }
}

fn first_phase(run: &Run) -> Item {
    let Some(phase) = run.phases.first() else {
        return (false, format!("The first phase's tenants: {}", no_data("it has not begun")));
    };
    let each: Vec<String> = phase
        .tenants
        .iter()
        .map(|id| {
            let traffic = run.cohort.get(id).map(|tenant| thousandths(tenant.milli_per_minute));
            let traffic = traffic.unwrap_or_else(|| no_data("it is not in the history"));
            let critical =
                if run.plan.is_critical(id) { "critical" } else { "not critical by the plan's facts" };
            format!("{} ({traffic} units a minute, {critical})", code(id))
        })
        .collect();
    let limit = match run.plan.phases().get(phase.index).map(|phase| phase.tenants) {
        Some(TenantSelection::Count { max_per_minute: Some(most), .. }) => {
            format!("; at most {most} a minute")
        }
        _ => String::new(),
    };
    (!each.is_empty(), format!("The first phase has: {}{limit}", each.join(", ")))
}

fn owners(run: &Run) -> Item {
    if run.cohort.is_empty() {
        return (false, format!("Owners that were notified: {}", no_data("no cohort is fixed")));
    }
    let facts = || run.cohort.keys().map(|id| run.plan.facts().get(id));
    let owned = facts().flatten().filter(|facts| facts.owner.is_some()).count();
    let notified = facts().flatten().filter(|facts| facts.notified.is_some()).count();
    let all = run.cohort.len();
    (
        notified == all,
        format!("Owners by the plan's facts: {owned} of {all} tenants have one, {notified} were notified"),
    )
}
