//! `tickets/CB-OPS-n.md`.

use super::calendar::{Day, moment};
use super::journal::Journal;
use super::text::{Empty, Page, code, no_data, rate};
use super::tickets::Ticket;
use crate::domain::TenantId;

/// What a ticket is of.
pub(super) fn subject(ticket: &Ticket) -> String {
    match (&ticket.tenant, &ticket.provider) {
        (Some(tenant), Some(provider)) => format!("{} at {}", code(tenant), code(provider)),
        (Some(tenant), None) => code(tenant),
        (None, _) => "the rollout".to_owned(),
    }
}

pub(super) fn page(journal: &Journal, ticket: &Ticket) -> String {
    let texts = ticket.kind.texts();
    let mut page = Page::new(&format!("[CB-OPS] {}: {}", texts.title, subject(ticket)));
    let changes = ticket.changes(&journal.days);
    let changes: Vec<String> =
        changes.iter().map(|(day, change)| format!("{} {day}", change.as_str())).collect();
    page.facts(&[
        ("Ticket", ticket.name()),
        ("State", if ticket.is_open(&journal.days) { "open" } else { "closed" }.to_owned()),
        ("Course", changes.join(", ")),
        ("Kind", code(ticket.kind.as_str())),
        ("Fingerprint", code(format!("{:016x}", ticket.fingerprint))),
    ]);
    page.section("Issue");
    page.paragraph(texts.issue);
    page.section("Context");
    page.facts(&[
        ("Rollout", code(&journal.rollout)),
        ("Tenant", or_all(ticket.tenant.as_ref().map(code))),
        ("Provider", or_all(ticket.provider.as_ref().map(code))),
        ("Opened (UTC)", moment(ticket.opened)),
        ("State of the rollout then", ticket.place.clone()),
        ("Breaker settings of the plan", code(&ticket.settings)),
    ]);
    page.section("Current");
    let row = |(day, (times, note)): (&Day, &(u64, String))| {
        let units = match &ticket.tenant {
            Some(tenant) => units(journal, *day, tenant),
            None => journal.days.get(day).map_or_else(none, |day| rates(&day.sums.units)),
        };
        vec![day.to_string(), times.to_string(), note.clone(), units]
    };
    let head = ["Day", "Times", "First finding of the day", "Failures of that day"];
    page.table(&head, ticket.found.iter().map(row), Empty::NoData("no day holds a finding"));
    page.section("Expected");
    page.paragraph(texts.expected);
    page.section("Metrics");
    page.list(&texts.metrics.iter().map(code).collect::<Vec<_>>());
    page.section("Proposed");
    page.paragraph(texts.proposed);
    page.section("Priority");
    page.paragraph(texts.priority);
    page.finish()
}

fn or_all(id: Option<String>) -> String {
    id.unwrap_or_else(|| "all: the finding is of no single one".to_owned())
}

fn none() -> String {
    no_data("no window of that day")
}

fn units(journal: &Journal, day: Day, tenant: &TenantId) -> String {
    let tenants = journal.days.get(&day).map(|day| &day.sums.tenants);
    tenants.and_then(|tenants| tenants.get(tenant)).map_or_else(none, rates)
}

fn rates(of: &super::sums::ByTreatment) -> String {
    let [treated, treated_failed, control, control_failed] = of.enforced.all;
    let [first, first_failed, second, second_failed] = of.alike.all;
    let (alike, alike_failed) = (first.saturating_add(second), first_failed.saturating_add(second_failed));
    let part = |name: &str, failed: u64, all: u64| {
        (all > 0).then(|| format!("{name} {failed} of {all} ({})", rate(failed, all)))
    };
    let parts = [
        part("treated", treated_failed, treated),
        part("control", control_failed, control),
        part("treated alike", alike_failed, alike),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { no_data("no unit with an outcome on that day") } else { parts.join(", ") }
}
