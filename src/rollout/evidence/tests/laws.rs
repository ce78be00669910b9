use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;

use super::model::{Act, Counted, Event, Logged, Recount, acts, folded, give, logged};
use super::{Bench, id_in, rollout, settings};
use crate::log::EvidenceSettings;
use crate::rollout::evidence::{CallEnd, Evidence, EvidenceBlock, MAX_WINDOWS};

fn own(_: u64) -> EvidenceSettings {
    settings(0, 0)
}

fn blocks(evidence: &Evidence, id: &str) -> Vec<EvidenceBlock> {
    evidence.closed(&rollout(id)).map(|block| (**block).clone()).collect()
}

/// Rows by window and tenant, in the order of their cuts.
type Rows = BTreeMap<(u64, String), Vec<Counted>>;

fn rows_of(blocks: &[EvidenceBlock]) -> Rows {
    let mut rows = Rows::new();
    for block in blocks {
        for row in &block.rows {
            rows.entry((block.number, row.tenant.as_str().to_owned())).or_default().push(Counted {
                step: row.step,
                split: row.split,
                plain: row.plain,
                met: row.met,
                asked: row.asked,
                no_outcome: row.no_outcome,
                with_latency: [row.latency[0].count(), row.latency[1].count()],
            });
        }
    }
    rows
}

fn in_order(blocks: &[EvidenceBlock]) -> bool {
    blocks.windows(2).all(|pair| pair[0].number + 1 == pair[1].number && pair[0].end == pair[1].start)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_fold_counts_what_a_recount_by_request_id_counts(acts in acts(250)) {
        let log = logged(&acts, own);
        let evidence = folded(&log);
        for id in ["r", "s"] {
            let blocks = blocks(&evidence, id);
            let recount = Recount::of(&log, id);
            let mut expected = Rows::new();
            for ((window, tenant, _), row) in &recount.rows {
                expected.entry((*window, (*tenant).to_owned())).or_default().push(row.clone());
            }
            let closed = blocks.len() as u64;
            let last = recount.rows.keys().map(|(window, ..)| *window).max().unwrap_or(0);
            prop_assert!(closed <= MAX_WINDOWS as u64 && in_order(&blocks) && blocks[0].number == 0);
            // Tallies of the last second may report requests in a window that is not closed.
            expected.retain(|(window, _), rows| *window < closed || rows.iter().any(|row| row.plain != [0; 4]));
            prop_assert!(last <= closed + 4);
            prop_assert_eq!(rows_of(&blocks), expected);
            let dropped: BTreeMap<u64, u64> =
                blocks.iter().filter(|b| b.dropped > 0).map(|b| (b.number, b.dropped)).collect();
            prop_assert_eq!(dropped, recount.dropped);
            let losses = evidence.losses(&rollout(id)).unwrap();
            prop_assert_eq!(losses, crate::rollout::evidence::Losses::default());
        }
    }

    #[test]
    fn copies_change_nothing(acts in acts(120), copied in prop::collection::vec(any::<Index>(), 0..40)) {
        let log = logged(&acts, own);
        let mut copies: Vec<usize> = copied.iter().map(|index| index.index(log.len())).collect();
        copies.sort_unstable();
        copies.dedup();
        let mut twice: Vec<Logged> = Vec::new();
        for (index, entry) in log.iter().enumerate() {
            twice.push(entry.clone());
            if copies.binary_search(&index).is_ok() {
                let mut again = entry.clone();
                again.position += 1;
                match &mut again.event {
                    Event::Call { copy, .. } => *copy = true,
                    Event::Edit { changed, .. } => *changed = false,
                    _ => {}
                }
                twice.push(again);
            }
        }
        prop_assert_eq!(folded(&twice), folded(&log));
    }

    #[test]
    fn a_restart_at_any_entry_changes_nothing(acts in acts(120), at in any::<Index>()) {
        let log = logged(&acts, own);
        let at = at.index(log.len());
        let (mut evidence, mut now) = (Evidence::default(), 0);
        for (index, entry) in log.iter().enumerate() {
            if index == at {
                let bytes = postcard::to_stdvec(&evidence).unwrap();
                let read: Evidence = postcard::from_bytes(&bytes).unwrap();
                prop_assert_eq!(&read, &evidence);
                evidence = read;
            }
            give(&mut evidence, entry, &mut now);
        }
        let other = folded(&log);
        prop_assert_eq!(postcard::to_stdvec(&evidence).unwrap(), postcard::to_stdvec(&other).unwrap());
        prop_assert_eq!(evidence, other);
    }

    #[test]
    fn windows_are_in_order_and_closed_once_whatever_their_lengths(acts in acts(200), many in any::<bool>()) {
        let lengths = |drawn: u64| settings([1, 150, 1_000, 1_000, 2_500][usize::try_from(drawn % 5).unwrap()], 10 * drawn);
        let acts: Vec<(u64, Act)> = acts
            .into_iter()
            .enumerate()
            .map(|(n, (gap, act))| {
                let step = Act::Step { id: "r", up: true, split: (n % 101) as u8 };
                (gap, if many && n % 9 == 0 { step } else { act })
            })
            .collect();
        let log = logged(&acts, lengths);
        let (mut evidence, mut now) = (Evidence::default(), 0);
        let mut known: Vec<EvidenceBlock> = Vec::new();
        let (mut all, mut revision) = (Vec::new(), 0);
        for entry in &log {
            give(&mut evidence, entry, &mut now);
            let (of_all, newer) = (evidence.all_closed(), evidence.closed_revision());
            prop_assert_eq!(of_all != all, newer > revision, "it grows with each change and with nothing else");
            prop_assert!(newer >= revision && of_all.is_sorted_by_key(|block| block.end));
            (all, revision) = (of_all, newer);
            let blocks = blocks(&evidence, "r");
            let next = known.last().map_or(0, |last| last.number + 1);
            known.extend(blocks.iter().filter(|block| block.number >= next).cloned());
            // What was closed does not change.
            prop_assert!(blocks.len() <= MAX_WINDOWS);
            prop_assert_eq!(&blocks[..], &known[known.len() - blocks.len()..]);
        }
        for pair in known.windows(2) {
            let skipped = pair[1].number - pair[0].number - 1;
            prop_assert!(pair[1].missing >= skipped && (skipped > 0 || pair[0].end == pair[1].start));
            prop_assert!(pair[0].end > pair[0].start && pair[0].step <= pair[1].step);
        }
        prop_assert_eq!(folded(&log), evidence);
    }

    #[test]
    fn the_order_of_units_within_a_window_does_not_matter(
        calls in prop::collection::vec((0_u64..100, 0_u8..5, any::<bool>()), 2..40).prop_flat_map(|calls| (Just(calls.clone()), Just(calls).prop_shuffle())),
    ) {
        let play = |calls: &[(u64, u8, bool)]| {
            let mut bench = Bench::new();
            bench.tally(0, "a");
            bench.step(0, 1, &[("t", 50, 50), ("u", 30, 30)], settings(10_000, 12_000));
            bench.beat(0, 21_000);
            let mut ms = 21_000;
            for (bucket, id, succeeds) in calls {
                ms += 200;
                let end = if *succeeds { CallEnd::Succeeded } else { CallEnd::Failed };
                let whose = if id % 2 == 0 { "t" } else { "u" };
                bench.call(ms, whose, &id_in(*bucket, &format!("{id}")), end, Some(*bucket));
            }
            bench.beat(ms, 60_000);
            bench.blocks().into_iter().cloned().collect::<Vec<_>>()
        };
        let (one, other) = calls;
        prop_assert_eq!(play(&one), play(&other));
    }
}
