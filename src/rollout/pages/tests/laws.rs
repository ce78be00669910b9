//! What holds over any sequence of messages.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::{BASE, HOUR, MADE, World, first_cells, id, section, tenant};
use crate::domain::Stamp;
use crate::rollout::controller::{
    Controllers, Criterion, Decision, Event, Figures, IssueChange, Kind, Message, Verb,
};
use crate::rollout::pages::calendar::Day;
use crate::rollout::pages::{Journal, pages};

/// One thing that happens.
#[derive(Clone, Debug)]
enum Act {
    /// Windows of an hour, with failures of the treated arm in permille.
    Windows {
        count: u64,
        failing: u64,
        incomplete: bool,
        opens: bool,
    },
    Order(Verb),
    Wait(u64),
    /// The last message once more.
    Again,
    /// Somebody's record.
    Record(Kind),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let windows = (1..12_u64, prop_oneof![9 => Just(BASE), 1 => Just(6 * BASE)], 0..8_u8, 0..4_u8).prop_map(
        |(count, failing, incomplete, opens)| Act::Windows {
            count,
            failing,
            incomplete: incomplete == 0,
            opens: opens == 0,
        },
    );
    let issue = |change| Verb::Issue { change, text: "slow".to_owned() };
    let verb = prop_oneof![
        Just(Verb::Approve),
        Just(Verb::Pause),
        Just(Verb::Resume),
        Just(Verb::Extend { by_ms: HOUR }),
        Just(Verb::Rollback { tenant: Some(tenant("acme")) }),
        Just(Verb::Promote { criterion: Criterion::Telemetry }),
        Just(issue(IssueChange::Open)),
        Just(issue(IssueChange::Close)),
        Just(Verb::Abort),
        Just(Verb::Delete),
    ];
    let record = prop_oneof![
        Just(Kind::Step { phase: 0, rung: 1 }),
        Just(Kind::Renew),
        Just(Kind::Complete),
        Just(Kind::Pause { to_zero: true, by_hand: false }),
    ];
    let act = prop_oneof![
        6 => windows,
        4 => verb.prop_map(Act::Order),
        1 => (1..100_u64).prop_map(|hours| Act::Wait(hours * HOUR)),
        1 => Just(Act::Again),
        1 => record.prop_map(Act::Record),
    ];
    vec(act, 1..25)
}

fn run(acts: &[Act]) -> World {
    let mut world = World::started(json!({}));
    for act in acts {
        match act {
            Act::Windows { count, failing, incomplete, opens } => {
                for _ in 0..*count {
                    let record = world.open("acme", world.window, [500, 5]);
                    let mut block = world.next_block(|_| [*failing, BASE]);
                    block.incomplete = *incomplete;
                    block.opens.extend(opens.then_some(record));
                    world.send(Message::Block(Box::new(block)));
                }
            }
            Act::Order(verb) => {
                world.try_order(verb.clone());
            }
            Act::Wait(ms) => world.now = world.now.plus(*ms),
            Act::Again => {
                let (_, _, message) = world.stream.last().unwrap().clone();
                world.send(message);
            }
            Act::Record(kind) => {
                let decisions = world.stream.iter().filter(|(_, _, m)| matches!(m, Message::Decision(_)));
                let n = decisions.count() as u64 + 1;
                let at_seq = world.stream.last().unwrap().0;
                let (reasons, figures) = (vec!["by hand".to_owned()], Figures::default());
                let decision = Decision { rollout: id(), n, at_seq, kind: kind.clone(), reasons, figures };
                world.send(Message::Decision(Box::new(decision)));
            }
        }
    }
    world
}

/// What took effect on one day.
#[derive(Clone, Debug, Default)]
struct Effective {
    /// The places of accepted plans and commands.
    actions: Vec<u64>,
    /// The places of records that were the first of their number.
    records: Vec<u64>,
    /// Those numbers.
    decisions: Vec<u64>,
}

/// What took effect, by a controller alone.
fn effective(stream: &[(u64, Stamp, Message)]) -> BTreeMap<String, Effective> {
    let mut fold = Controllers::new(MADE);
    let mut days: BTreeMap<String, Effective> = BTreeMap::new();
    for (sequence, stamp, message) in stream {
        let seq = |fold: &Controllers| fold.status(&id(), *stamp).map_or(0, |status| status.seq);
        let before = seq(&fold);
        let effects = fold.apply(*sequence, *stamp, message);
        let day = days.entry(Day::of(*stamp).to_string()).or_default();
        if matches!(message, Message::Plan(_) | Message::Command(_)) && seq(&fold) > before {
            day.actions.push(*sequence);
        }
        for event in effects.events {
            if let Event::Decided { n, .. } = event {
                day.records.push(*sequence);
                day.decisions.push(n);
            }
        }
    }
    days
}

fn numbers(cells: &[String]) -> Vec<u64> {
    cells.iter().map(|cell| cell.parse().unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn each_action_and_decision_is_a_row_of_the_page_of_its_day(acts in acts()) {
        let world = run(&acts);
        let all = world.pages();
        let effective = effective(&world.stream);
        for (path, page) in all.iter().filter(|(path, _)| path.starts_with("daily/")) {
            let day = path.trim_start_matches("daily/").trim_end_matches(".md");
            let of_day = effective.get(day).cloned().unwrap_or_default();
            prop_assert_eq!(numbers(&first_cells(&section(page, "Actions"))), of_day.actions, "{}", day);
            let rows = numbers(&first_cells(&section(page, "State transitions")));
            prop_assert_eq!(rows, of_day.records, "{}", day);
        }
        for (day, of_day) in &effective {
            let is_empty = of_day.actions.is_empty() && of_day.records.is_empty();
            let has_page = all.contains_key(&format!("daily/{day}.md"));
            prop_assert!(is_empty || has_page, "{}", day);
        }
        let log = numbers(&first_cells(&section(&all["EXECUTION_LOG.md"], "Decisions")));
        let decisions: Vec<u64> = effective.into_values().flat_map(|of_day| of_day.decisions).collect();
        prop_assert_eq!(log, decisions);
    }

    #[test]
    fn equal_messages_make_equal_pages_however_often_they_come(acts in acts()) {
        let world = run(&acts);
        let all = world.pages();
        prop_assert_eq!(&all, &world.pages());
        // Each message twice at its place, and all of them again at the end.
        let twice = world.stream.iter().flat_map(|message| [message.clone(), message.clone()]);
        let again = twice.chain(world.stream.iter().cloned());
        prop_assert_eq!(&all, &pages(MADE, &id(), again));
        // Copies at places of their own, much later. A history is counted anew where one is wanted.
        let mut copies = world.stream.clone();
        let last = copies.last().unwrap().0;
        let later = world.now.plus(500 * HOUR);
        let mut copied = 0;
        for (_, _, message) in &world.stream {
            if !matches!(message, Message::History(_)) {
                copied += 1;
                copies.push((last + copied, later, message.clone()));
            }
        }
        let is_taken = |page: &str| !page.contains("was passed over");
        if is_taken(&all["EXECUTION_LOG.md"]) {
            prop_assert_eq!(&all, &pages(MADE, &id(), copies));
        }
    }

    #[test]
    fn no_cell_is_empty_and_no_ticket_changes_its_number(acts in acts()) {
        let world = run(&acts);
        let mut journal = Journal::new(MADE, &id());
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        for (at, (sequence, stamp, message)) in world.stream.iter().enumerate() {
            journal.apply(*sequence, *stamp, message);
            if at % 7 != 0 {
                continue;
            }
            for (path, page) in journal.pages() {
                for line in page.lines().filter(|line| line.starts_with('|') && *line != "|  |  |") {
                    let empty = line.trim_matches('|').split('|').any(|cell| cell.trim().is_empty());
                    prop_assert!(!empty, "{}: {}", path, line);
                }
                if path.starts_with("tickets/") {
                    let print = page.lines().find(|line| line.starts_with("| Fingerprint")).unwrap().to_owned();
                    prop_assert_eq!(known.entry(path).or_insert_with(|| print.clone()), &print);
                }
            }
        }
        prop_assert_eq!(journal.pages(), world.pages());
    }
}
