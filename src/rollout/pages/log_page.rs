//! `EXECUTION_LOG.md`.

use super::calendar::moment;
use super::journal::Journal;
use super::records::{Action, DecisionRecord};
use super::tables;
use super::text::{Empty, Page, code, no_data};
use super::{advice, checklist, phase_section};
use crate::rollout::controller::Kind;

pub(super) fn page(journal: &Journal) -> String {
    let mut page = Page::new(&format!("Execution log: rollout {}", code(&journal.rollout)));
    page.paragraph("Made from the stream of rollouts. All times are UTC, by the broker's clock.");
    if journal.range.is_none() {
        page.no_data("the stream has no accepted message of this rollout");
        return page.finish();
    }
    summary(&mut page, journal);
    page.section("Pre-rollout checklist");
    checklist::list(&mut page, journal);
    for run in 0..journal.runs.len() {
        phase_section::of_run(&mut page, journal, run);
    }
    page.section("Decisions");
    decisions(&mut page, journal);
    page.section("Tickets");
    tickets(&mut page, journal);
    page.section("Rollback events");
    rollbacks(&mut page, journal);
    page.section("Lessons");
    advice::lessons(&mut page, journal);
    page.section("Threshold recommendations");
    advice::thresholds(&mut page, journal);
    page.section("Next steps");
    advice::next_steps(&mut page, journal);
    page.finish()
}

fn summary(page: &mut Page, journal: &Journal) {
    let put = journal.runs.last().and_then(|run| journal.actions.get(run.put));
    let put = put.map_or_else(|| no_data("no plan was accepted"), by);
    let open = journal.tickets.iter().filter(|ticket| ticket.is_open(&journal.days)).count();
    page.facts(&[
        ("State", journal.place.clone()),
        ("Plan", put),
        ("First message", moment(journal.first)),
        ("Newest message", moment(journal.newest)),
        ("Open tickets", open.to_string()),
    ]);
}

/// Who did something, when and why.
pub(super) fn by(action: &Action) -> String {
    format!("message {}, {}, by {}: {}", action.sequence, moment(action.stamp), action.actor, action.reason)
}

fn decisions(page: &mut Page, journal: &Journal) {
    let row = |record: &DecisionRecord| {
        let [treated, treated_failed, control, control_failed] = record.figures.units;
        vec![
            record.n.to_string(),
            moment(record.stamp),
            record.what.clone(),
            record.who.clone(),
            record.why.clone(),
            format!("{treated_failed} of {treated}"),
            format!("{control_failed} of {control}"),
            super::text::nats(record.figures.harm),
            super::text::nats(record.figures.safe),
        ]
    };
    let head = [
        "No.",
        "Time (UTC)",
        "Decision",
        "Who",
        "Why",
        "Failures, treated",
        "Failures, control",
        "Harm (nats)",
        "Safety (nats)",
    ];
    page.table(&head, journal.decisions.iter().map(row), Empty::None("no decision took effect"));
}

fn tickets(page: &mut Page, journal: &Journal) {
    let row = |ticket: &super::tickets::Ticket| {
        let changes = ticket.changes(&journal.days);
        let changes: Vec<String> =
            changes.iter().map(|(day, change)| format!("{} {day}", change.as_str())).collect();
        vec![
            format!("[{name}](tickets/{name}.md)", name = ticket.name()),
            code(ticket.kind.as_str()),
            super::ticket_page::subject(ticket),
            changes.join(", "),
        ]
    };
    page.table(
        &["Ticket", "Kind", "Of", "Course"],
        journal.tickets.iter().map(row),
        Empty::None("no message holds a finding that opens a ticket"),
    );
    if journal.tickets.beyond() > 0 {
        page.paragraph(&format!("{} findings were one ticket too many.", journal.tickets.beyond()));
    }
}

fn rollbacks(page: &mut Page, journal: &Journal) {
    let row = |record: &DecisionRecord| {
        let number = record.step.as_ref().map(|step| step.number);
        let window = number.and_then(|number| journal.windows_by_step.range(number..).next());
        let result = match (number, window) {
            (None, _) => String::new(),
            (Some(_), Some((_, start))) => format!("; in force in the window of {}", moment(*start)),
            (Some(_), None) => format!("; {}", no_data("no window of this step was published yet")),
        };
        vec![
            moment(record.stamp),
            format!("{}, by {}", record.why, record.who),
            format!("decision {}: {}", record.n, record.what),
            format!("{}{result}", tables::step(record.step.as_ref())),
        ]
    };
    let is_rollback = |record: &&DecisionRecord| {
        matches!(record.kind, Kind::RollBack | Kind::TenantBack { .. } | Kind::Pause { to_zero: true, .. })
    };
    page.table(
        &["Date (UTC)", "Reason", "Action", "Result"],
        journal.decisions.iter().filter(is_rollback).map(row),
        Empty::None("no decision took a share back to 0"),
    );
}
