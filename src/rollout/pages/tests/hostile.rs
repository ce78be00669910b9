//! Texts that people write, and stamps that no clock should give.

use serde_json::json;

use super::{HOUR, MADE, World, document, id, section};
use crate::domain::Stamp;
use crate::rollout::controller::{Decision, Figures, IssueChange, Kind, Message, Verb};
use crate::rollout::pages::pages;
use crate::rollout::pages::text::escaped;

const FORGED: &str =
    "ok |\n\n## Decisions\n\n| 99 | `x` | [a](http://b) <b>*all* is well</b>\u{202E}\r\u{85}\u{2028}- [x]";

#[test]
fn a_stream_without_messages_has_one_page_that_says_so() {
    let all = World::empty().pages();
    assert_eq!(all.keys().collect::<Vec<_>>(), ["EXECUTION_LOG.md"]);
    assert!(all["EXECUTION_LOG.md"].contains("No data: the stream has no accepted message of this rollout."));
    // Messages of nobody's rollout, and those of another one, are no messages of this one.
    let mut world = World::started(json!({}));
    world.well(1);
    assert_eq!(pages(MADE, &id(), world.stream.iter().skip(1).cloned()), all);
    let other = crate::domain::RolloutId::try_new("other").unwrap();
    assert_eq!(pages(MADE, &other, world.stream.clone()).len(), 1);
}

#[test]
fn nobody_forges_a_page_by_a_text() {
    let mut world = World::empty();
    world.put(document(json!({"facts": {"acme": {"owner": FORGED}}})), FORGED, FORGED);
    world.order(Verb::Start { judge: 1 }, FORGED, FORGED);
    world.order(Verb::Issue { change: IssueChange::Open, text: FORGED.to_owned() }, FORGED, FORGED);
    world.well(1);
    // A record with reasons that no controller writes.
    let n = world.fold.pending(&id()).map_or(4, |due| due.n);
    let reasons = vec![FORGED.to_owned(); 40];
    let at_seq = world.stream.last().unwrap().0;
    let kind = Kind::Pause { to_zero: true, by_hand: false };
    let decision = Decision { rollout: id(), n, at_seq, kind, reasons, figures: Figures::default() };
    world.append(Message::Decision(Box::new(decision)));

    let mut plain = World::started(json!({}));
    plain.order(Verb::Issue { change: IssueChange::Open, text: "slow".to_owned() }, "bob", "a call");
    plain.well(1);
    for (path, page) in world.pages() {
        assert!(!page.contains(['\r', '\u{85}', '\u{2028}', '\u{202E}']), "{path}");
        for line in page.lines() {
            assert!(
                !line.starts_with("| 99 |") && !line.replace("\\]", "").contains("](http"),
                "{path}: {line}"
            );
            if line.starts_with("## ") {
                let known = plain.pages().values().any(|page| page.lines().any(|other| other == line));
                assert!(
                    known || line.starts_with("## Issue") || path.starts_with("tickets/"),
                    "{path}: {line}"
                );
            }
        }
        // Each row has as many cells as the head of its table.
        let cells = |line: &str| line.replace("\\|", "").matches('|').count();
        let mut before: Option<usize> = None;
        for line in page.lines() {
            let count = line.starts_with('|').then(|| cells(line));
            if let (Some(before), Some(count)) = (before, count) {
                assert_eq!(before, count, "{path}: {line}");
            }
            before = count;
        }
    }
    let log = world.page("EXECUTION_LOG.md");
    assert_eq!(log.matches("\n## Decisions\n").count(), 1);
    assert!(section(&log, "Decisions").contains(", and 24 more"), "{log}");
}

#[test]
fn a_text_is_bounded_and_stays_on_its_line() {
    assert_eq!(escaped("a|b\nc"), "a\\|b c");
    assert_eq!(
        escaped("`x` *y* _z_ [l](u) <i> # ~ & ! \\ $"),
        "\\`x\\` \\*y\\* \\_z\\_ \\[l\\](u) \\<i\\> \\# \\~ \\& \\! \\\\ \\$"
    );
    assert_eq!(escaped("a\u{202E}b\u{200B}c\u{7}d"), "a\u{FFFD}b\u{FFFD}c d");
    assert_eq!(escaped(&"é".repeat(1_024)).chars().count(), 1_024);
    let long = escaped(&"é".repeat(5_000));
    assert_eq!((long.chars().count(), long.ends_with('…')), (1_025, true));
}

#[test]
fn a_clock_that_jumps_by_decades_makes_no_page_for_each_day() {
    let mut world = World::started(json!({}));
    world.well(2);
    world.now = world.now.plus(40 * 365 * 24 * HOUR);
    world.order(Verb::Pause, "bob", "the clock is wrong");
    let days = world.pages().keys().filter(|path| path.starts_with("daily/")).count();
    assert_eq!(days, 3);
    world.now = Stamp(u64::MAX);
    world.order(Verb::Resume, "bob", "the clock is worse");
    assert!(world.pages().contains_key("daily/9999-12-31.md"));
}

#[test]
fn stamps_that_go_back_keep_each_message_on_its_day() {
    let mut world = World::started(json!({}));
    world.well(3);
    world.now = world.now.minus(30 * HOUR);
    world.order(Verb::Pause, "bob", "the clock is set back");
    let actions = section(&world.page("daily/2026-11-18.md"), "Actions");
    assert!(actions.contains("| pause | bob | the clock is set back |"), "{actions}");
}
