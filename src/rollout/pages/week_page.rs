//! `weekly/YYYY-Www.md`.

use std::collections::BTreeMap;

use super::calendar::{Day, Week};
use super::circuits::{Circuit, Opens};
use super::day_page::PageIndex;
use super::sums::Sums;
use super::tables;
use super::text::{Empty, Page, code, no_data, rate};

/// `days` are those of the week that have pages, in order.
pub(super) fn page(index: &PageIndex<'_>, week: Week, days: &[Day]) -> String {
    let journal = index.journal;
    let mut page = Page::new(&format!("{week}: rollout {}", code(&journal.rollout)));
    let (Some(first), Some(last)) = (days.first().copied(), days.last().copied()) else {
        page.no_data("no day of the week has a page");
        return page.finish();
    };
    let mut sums = Sums::default();
    let mut opens: BTreeMap<Circuit, Opens> = BTreeMap::new();
    for day in days {
        if let Some(record) = journal.days.get(day) {
            sums.merge(&record.sums);
        }
        for (circuit, of_day) in index.opens.get(day).into_iter().flatten() {
            opens.entry(circuit.clone()).or_default().merge(of_day);
        }
    }
    let summary = index.summary(last);
    page.facts(&[
        ("Days", format!("{first} to {last}")),
        ("State at the end", summary.map_or_else(|| code("none"), |s| s.place.clone())),
        ("Evidence of the week", tables::windows(&sums)),
    ]);
    page.section("Days");
    page.table(
        &["Day", "Windows", "Failures, treated", "Failures, control", "Failures, treated alike", "Decisions"],
        days.iter().map(|day| row(index, *day)),
        Empty::NoData("no day of the week has a page"),
    );
    page.section("State transitions");
    tables::transitions(&mut page, index.decisions(first, last));
    page.section("Requests");
    tables::requests(&mut page, &sums);
    page.section("Fail fast");
    tables::fail_fast(&mut page, &sums);
    page.section("Tenants");
    tables::tenants(&mut page, &sums.tenants);
    tenants_by_state(&mut page, index, last);
    page.section("Evidence at the end of the week");
    match summary {
        Some(summary) => {
            tables::evidence(&mut page, summary);
            tables::criteria(
                &mut page,
                &summary.criteria,
                Empty::NoData("no criterion is judged in this state"),
            );
        }
        None => page.no_data("no plan was accepted until then"),
    }
    page.section("Opens");
    tables::opens(&mut page, &opens, Empty::None("no circuit opened in this week"));
    page.section("Actions");
    let within = |stamp| (first..=last).contains(&Day::of(stamp));
    tables::actions(&mut page, journal.actions.iter().filter(|action| within(action.stamp)));
    page.section("Tickets");
    index.ticket_list(&mut page, first, last);
    page.finish()
}

fn row(index: &PageIndex<'_>, day: Day) -> Vec<String> {
    let link = format!("[{day}](../daily/{day}.md)");
    let decisions = index.decisions(day, day).count().to_string();
    let Some(sums) = index.journal.days.get(&day).map(|record| &record.sums).filter(|sums| sums.windows > 0)
    else {
        let none = || no_data("no window");
        return vec![link, "0".to_owned(), none(), none(), none(), decisions];
    };
    let [treated, treated_failed, control, control_failed] = sums.units.enforced.all;
    let [first, first_failed, second, second_failed] = sums.units.alike.all;
    let alike = first.saturating_add(second);
    vec![
        link,
        sums.windows.to_string(),
        rate(treated_failed, treated),
        rate(control_failed, control),
        rate(first_failed.saturating_add(second_failed), alike),
        decisions,
    ]
}

fn tenants_by_state(page: &mut Page, index: &PageIndex<'_>, last: Day) {
    let tenants = index.summary(last).map(|summary| &summary.tenants);
    let rows = tenants.into_iter().flatten().map(|(state, count)| vec![code(state), count.to_string()]);
    page.table(&["State of tenants", "Tenants"], rows, Empty::NoData("no history fixed a cohort until then"));
}
