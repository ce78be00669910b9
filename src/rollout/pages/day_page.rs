//! `daily/YYYY-MM-DD.md`.

use std::collections::{BTreeMap, BTreeSet};

use super::calendar::Day;
use super::circuits::{Circuit, Opens};
use super::journal::Journal;
use super::records::{DayRecord, DecisionRecord, StatusSummary};
use super::tables;
use super::text::{Empty, Page, code, count};
use super::tickets::Change;
use super::words;
use crate::rollout::controller::Kind;

/// What the pages of all days need.
pub(super) struct PageIndex<'j> {
    pub(super) journal: &'j Journal,
    /// The opens of each day.
    pub(super) opens: BTreeMap<Day, BTreeMap<Circuit, Opens>>,
    /// How the rollout stood at the end of each day with messages.
    pub(super) day_ends: BTreeMap<Day, StatusSummary>,
    /// What happened to tickets on each day.
    pub(super) tickets: BTreeMap<Day, Vec<(String, Change, String)>>,
}

impl<'j> PageIndex<'j> {
    pub(super) fn new(journal: &'j Journal) -> Self {
        let mut day_ends: BTreeMap<Day, StatusSummary> = BTreeMap::new();
        for (day, record) in &journal.days {
            day_ends.extend(record.day_end.clone().map(|day_end| (*day, day_end)));
        }
        if let (Some(range), Some(summary)) = (journal.range, journal.summary()) {
            day_ends.insert(range.last, summary);
        }
        let mut tickets: BTreeMap<Day, Vec<_>> = BTreeMap::new();
        for ticket in journal.tickets.iter() {
            for (day, change) in ticket.changes(&journal.days) {
                let what = format!("{}, {}", code(ticket.kind.as_str()), super::ticket_page::subject(ticket));
                tickets.entry(day).or_default().push((ticket.name(), change, what));
            }
        }
        Self { journal, opens: journal.circuits.by_day(), day_ends, tickets }
    }

    pub(super) fn decisions(&self, first: Day, last: Day) -> impl Iterator<Item = &DecisionRecord> {
        let within = move |record: &&DecisionRecord| (first..=last).contains(&Day::of(record.stamp));
        self.journal.decisions.iter().filter(within)
    }

    /// How the rollout stood at the end of a day, or before it where the day has no message.
    pub(super) fn summary(&self, day: Day) -> Option<&StatusSummary> {
        self.day_ends.range(..=day).next_back().map(|(_, summary)| summary)
    }

    /// Changes of tickets in some days.
    pub(super) fn ticket_list(&self, page: &mut Page, first: Day, last: Day) {
        let changes = self.tickets.range(first..=last).flat_map(|(day, changes)| {
            changes.iter().map(move |(name, change, what)| {
                vec![
                    day.to_string(),
                    format!("[{name}](../tickets/{name}.md)"),
                    change.as_str().to_owned(),
                    what.clone(),
                ]
            })
        });
        page.table(
            &["Day", "Ticket", "Change", "Of"],
            changes,
            Empty::None("no ticket was opened, closed or reopened"),
        );
    }
}

pub(super) fn page(index: &PageIndex<'_>, day: Day) -> String {
    let journal = index.journal;
    let mut page = Page::new(&format!("{day}: rollout {}", code(&journal.rollout)));
    let empty = DayRecord::default();
    let record = journal.days.get(&day).unwrap_or(&empty);
    let summary = index.summary(day);
    page.facts(&[
        ("Week", day.week().to_string()),
        ("State at the end of the day", summary.map_or_else(|| code("none"), |s| s.place.clone())),
        ("Evidence of the day", tables::windows(&record.sums)),
    ]);
    page.section("State transitions");
    tables::transitions(&mut page, index.decisions(day, day));
    page.section("Requests");
    tables::requests(&mut page, &record.sums);
    page.section("Fail fast");
    tables::fail_fast(&mut page, &record.sums);
    page.section("Tenants");
    tables::tenants(&mut page, &record.sums.tenants);
    page.section("Evidence at the end of the day");
    match summary {
        Some(summary) => tables::evidence(&mut page, summary),
        None => page.no_data("no plan was accepted until then"),
    }
    page.section("Alerts");
    alerts(&mut page, index, day, summary);
    page.section("Opens");
    let none = BTreeMap::new();
    tables::opens(
        &mut page,
        index.opens.get(&day).unwrap_or(&none),
        Empty::None("no circuit opened on this day"),
    );
    page.section("Issues");
    issues(&mut page, journal, day, summary);
    page.section("Actions");
    tables::actions(&mut page, journal.actions.iter().filter(|action| Day::of(action.stamp) == day));
    page.section("Unexpected");
    unexpected(&mut page, record);
    page.section("Tickets");
    index.ticket_list(&mut page, day, day);
    page.finish()
}

/// Criteria that failed at a decision or at the end of the day, and pauses.
fn alerts(page: &mut Page, index: &PageIndex<'_>, day: Day, summary: Option<&StatusSummary>) {
    let mut rows: BTreeSet<(String, String, String)> = BTreeSet::new();
    let at_end = summary.filter(|summary| Day::of(summary.at) == day);
    let at_end = at_end.map(|summary| ("at the end of the day".to_owned(), &summary.criteria));
    let at_decisions = index.decisions(day, day).map(|r| (format!("at decision {}", r.n), &r.criteria));
    for (when, criteria) in at_decisions.chain(at_end) {
        for criterion in criteria.iter().filter(|criterion| criterion.verdict == "fail") {
            let why = format!("{}: {}", code(&criterion.reason), words::figures(criterion));
            rows.insert((code(criterion.name.as_str()), when.clone(), why));
        }
    }
    let held = |record: &&DecisionRecord| !record.is_ordered && matches!(record.kind, Kind::Pause { .. });
    for record in index.decisions(day, day).filter(held) {
        rows.insert(("pause".to_owned(), format!("at decision {}", record.n), record.why.clone()));
    }
    let rows = rows.into_iter().map(|(criterion, when, why)| vec![criterion, when, why]);
    let none = match at_end_or_decided(index, day) {
        true => Empty::None("no criterion failed and nothing paused"),
        false => Empty::NoData("no criterion was judged on this day"),
    };
    page.table(&["Criterion", "When", "Why"], rows, none);
}

fn at_end_or_decided(index: &PageIndex<'_>, day: Day) -> bool {
    let judged = index.day_ends.get(&day).is_some_and(|summary| !summary.criteria.is_empty());
    judged || index.decisions(day, day).any(|record| !record.criteria.is_empty())
}

fn issues(page: &mut Page, journal: &Journal, day: Day, summary: Option<&StatusSummary>) {
    let changes = journal.actions.iter().filter(|action| action.issue && Day::of(action.stamp) == day);
    let mut items: Vec<String> = changes
        .map(|action| format!("Changed by message {}: see [Actions](#actions)", action.sequence))
        .collect();
    let open = summary.map(|summary| summary.issues.as_slice()).unwrap_or_default();
    items.extend(open.iter().map(|issue| format!("Open at the end of the day: {issue}")));
    if items.is_empty() {
        page.none("no issue was reported, solved or open");
    } else {
        page.list(&items);
    }
}

fn unexpected(page: &mut Page, record: &DayRecord) {
    let notes = record.notes.iter().map(|(note, times)| format!("{note}: {}", count(*times, "time")));
    let left = record.left.iter().map(|(tenant, state)| {
        format!("Left the rollout: {}, {}", code(tenant), code(words::tenant_state(*state)))
    });
    let items: Vec<String> = notes.chain(left).collect();
    if items.is_empty() {
        page.none("nothing unexpected is in the stream");
    } else {
        page.list(&items);
    }
}
