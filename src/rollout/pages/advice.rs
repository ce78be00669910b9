//! What the stream suggests: lessons, thresholds, next steps.

use std::collections::BTreeMap;

use super::calendar::Day;
use super::circuits::{Circuit, Opens};
use super::journal::Journal;
use super::sums::increase;
use super::tables;
use super::text::{Empty, Page, code, count, no_data};
use super::words;
use crate::document::written;
use crate::rollout::controller::{Kind, TenantState};
use crate::rollout::judge::{Open, Recovery};

/// How often something happened, and on which days first and last.
struct Occurrences {
    times: u64,
    first: Day,
    last: Day,
}

#[derive(Default)]
struct Unexpected(BTreeMap<String, Occurrences>);

impl Unexpected {
    fn note(&mut self, what: String, day: Day, times: u64) {
        if times == 0 {
            return;
        }
        let known = self.0.entry(what).or_insert(Occurrences { times: 0, first: day, last: day });
        increase(&mut known.times, times);
        (known.first, known.last) = (known.first.min(day), known.last.max(day));
    }
}

/// What was not expected.
pub(super) fn lessons(page: &mut Page, journal: &Journal) {
    let mut unexpected = Unexpected::default();
    for (day, record) in &journal.days {
        for (note, times) in &record.notes {
            unexpected.note((*note).to_owned(), *day, *times);
        }
        let sums = &record.sums;
        unexpected.note("windows were incomplete".to_owned(), *day, sums.incomplete);
        unexpected.note("windows were missing".to_owned(), *day, sums.missing);
        unexpected.note("the log was purged before windows".to_owned(), *day, sums.purged);
        unexpected.note("refusals were not enforced in windows of a step".to_owned(), *day, sums.untreated);
        for (tenant, state) in &record.left {
            let state = code(words::tenant_state(*state));
            unexpected.note(format!("{} left the rollout: {state}", code(tenant)), *day, 1);
        }
    }
    for (day, circuits) in journal.circuits.by_day() {
        for opens in circuits.values() {
            for kind in [Open::Unexpected, Open::Unexplained] {
                unexpected.note(format!("opens were {}", code(kind.as_str())), day, opens.of_kind(kind));
            }
            for recovery in [Recovery::Late, Recovery::Overdue] {
                let times = opens.recovered(recovery);
                unexpected.note(format!("recoveries were {}", code(recovery.as_str())), day, times);
            }
        }
    }
    for record in journal.decisions.iter().filter(|record| !record.is_ordered) {
        let what = match record.kind {
            Kind::Pause { .. } => "the controller paused",
            Kind::RollBack | Kind::TenantBack { .. } => "the controller rolled back",
            Kind::Renew => "a step was renewed",
            _ => continue,
        };
        unexpected.note(format!("{what}: {}", record.why), Day::of(record.stamp), 1);
    }
    let none = if journal.days.values().any(super::records::DayRecord::has_data) {
        Empty::None("nothing unexpected is in the stream")
    } else {
        Empty::NoData("no window was published")
    };
    let row = |(what, of): (String, Occurrences)| {
        vec![what, of.times.to_string(), of.first.to_string(), of.last.to_string()]
    };
    page.table(&["What", "Times", "First day", "Last day"], unexpected.0.into_iter().map(row), none);
}

/// What the opens say of the thresholds.
pub(super) fn thresholds(page: &mut Page, journal: &Journal) {
    let mut circuits: BTreeMap<Circuit, Opens> = BTreeMap::new();
    for day in journal.circuits.by_day().values() {
        for (circuit, opens) in day {
            circuits.entry(circuit.clone()).or_default().merge(opens);
        }
    }
    tables::opens(
        page,
        &circuits,
        Empty::NoData("no circuit opened, so nothing says whether a threshold is right"),
    );
    if circuits.is_empty() {
        return;
    }
    let items = circuits.iter().map(|((tenant, provider), opens)| {
        format!("{} at {}: {}", code(tenant), code(provider), threshold(opens))
    });
    page.list(&items.collect::<Vec<_>>());
    page.paragraph(
        "Which value is best: no data, the stream of rollouts holds counts of opens and not the results of calls, so \
         other settings cannot be tried on it. Tenants that are not listed had no open.",
    );
}

fn threshold(opens: &Opens) -> String {
    let (needless, right) = (opens.of_kind(Open::Unexpected), opens.of_kind(Open::Expected));
    let late = opens.recovered(Recovery::Late).saturating_add(opens.recovered(Recovery::Overdue));
    let mut parts = vec![match (needless, right) {
        (0, 0) => no_data("no open has enough calls to tell whether it was right"),
        (0, right) => format!("keep the thresholds: {right} of {right} judged opens were right"),
        (needless, right) => format!(
            "raise the thresholds or `minimum_requests`: {needless} of {} judged opens were needless",
            needless.saturating_add(right)
        ),
    }];
    if late > 0 {
        parts.push(format!(
            "look at `timeout_ms` and `success_threshold`: recoveries late or overdue: {late}"
        ));
    }
    parts.join("; ")
}

/// What is to be done now.
pub(super) fn next_steps(page: &mut Page, journal: &Journal) {
    let Some(summary) = journal.summary() else {
        page.no_data("no plan was accepted");
        return;
    };
    let mut items = Vec::new();
    if !summary.needs.is_empty() {
        items.push(format!("To go on, the rollout needs: {}", summary.needs));
    }
    if let Some(when) = summary.when {
        items.push(format!("What comes next comes after {} of log time at least", written(when.max(1))));
    }
    items.extend(summary.issues.iter().map(|issue| format!("Solve the open issue: {issue}")));
    let tickets = journal.tickets.iter().filter(|ticket| ticket.is_open(&journal.days));
    items.extend(tickets.map(|ticket| {
        let kind = code(ticket.kind.as_str());
        format!("Work on {}: {kind}, {}", ticket.name(), super::ticket_page::subject(ticket))
    }));
    let waiting = summary.tenants.get(words::tenant_state(TenantState::Waiting)).copied().unwrap_or(0);
    if waiting > 0 {
        items.push(format!("Wait with {}, which later phases take in", count(waiting, "tenant")));
    }
    if items.is_empty() {
        items.push("Nothing: no lack, no open issue, no open ticket, no waiting tenant".to_owned());
    }
    page.list(&items);
}
