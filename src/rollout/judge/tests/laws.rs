use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{block, config, counts, outcomes, percent};
use crate::rollout::judge::{
    Alpha, BetConfig, BetJudge, Block, Counts, Decision, Facts, HarmMargin, LatencyConfig, LatencySequence,
    LatencyVerdict, LogE, Look, Open, PhaseJudge, Reason, Recovery, SafeMargin, ShareTest, TreatedPercent,
    Verdict, decide, e_bh,
};

/// A row of a block: all units of both arms, and the failed ones among them.
fn row(most: u64) -> impl Strategy<Value = [u64; 4]> {
    let arm = move || (0..=most).prop_flat_map(|units| (Just(units), 0..=units));
    (arm(), arm()).prop_map(|((t, t_failed), (c, c_failed))| [t, t_failed, c, c_failed])
}

fn settings() -> impl Strategy<Value = BetConfig> {
    let history = (0u64..100_000).prop_flat_map(|units| (Just(units), 0..=units));
    (history, 1u32..100_000, 0u32..=50_000, 0u64..20).prop_map(|((units, failed), safe, harm, budget)| {
        BetConfig {
            history: outcomes(units, failed),
            safe_margin: SafeMargin::try_new(safe).unwrap(),
            harm_margin: HarmMargin::try_new(harm).unwrap(),
            harm_budget: budget,
            ..config()
        }
    })
}

/// Blocks of several hours.
fn blocks(most: u64) -> impl Strategy<Value = (u8, Vec<Block>)> {
    let rows = prop::collection::vec((row(most), row(most / 10)), 1..40);
    (1u8..=99, rows).prop_map(|(share, rows)| {
        let blocks = (0u64..).zip(rows).map(|(n, (plain, met))| block(n / 4, share, plain, met));
        (share, blocks.collect())
    })
}

/// The same units, without those of one arm.
fn one_sided(block: Block, treated: bool) -> Block {
    let only = |mut counts: Counts| {
        let emptied = if treated { &mut counts.control } else { &mut counts.treated };
        *emptied = outcomes(0, 0);
        counts
    };
    Block { plain: only(block.plain), met: only(block.met), ..block }
}

fn look() -> impl Strategy<Value = Look> {
    let verdict = prop::sample::select(vec![
        Verdict::Pass,
        Verdict::Fail,
        Verdict::Inconclusive(Reason::NoData),
        Verdict::Inconclusive(Reason::SampleRatio),
        Verdict::Inconclusive(Reason::InsufficientSample),
        Verdict::Inconclusive(Reason::Undecided),
    ]);
    (verdict, around(ShareTest::THRESHOLD)).prop_map(|(verdict, share)| Look {
        harm: LogE::ZERO,
        safe: LogE::ZERO,
        share,
        verdict,
    })
}

/// Just below, at and above a threshold.
fn around(threshold: LogE) -> impl Strategy<Value = LogE> {
    prop::sample::select(vec![LogE::ZERO, LogE(threshold.0 - 1), threshold, LogE(threshold.0 + 1)])
}

fn logs() -> impl Strategy<Value = Vec<LogE>> {
    prop::collection::vec((0i64..12_000_000_000).prop_map(LogE), 1..12)
}

proptest! {
    #[test]
    fn one_arm_alone_never_passes(settings in settings(), (share, blocks) in blocks(5_000), treated: bool) {
        let mut judge = BetJudge::new(settings, percent(share));
        prop_assert_eq!(judge.current().verdict, Verdict::Inconclusive(Reason::NoData));
        for block in blocks {
            let look = judge.look(&one_sided(block, treated)).unwrap();
            prop_assert_ne!(look.verdict, Verdict::Pass);
        }
    }

    #[test]
    fn empty_blocks_never_decide(settings in settings(), share in 1u8..=99, number in 1u64..60) {
        let mut judge = BetJudge::new(settings, percent(share));
        for n in 0..number {
            let look = judge.look(&block(n / 4, share, [0; 4], [0; 4])).unwrap();
            prop_assert_eq!(look.verdict, Verdict::Inconclusive(Reason::NoData));
        }
    }

    #[test]
    fn one_block_of_equal_arms_is_never_harm(
        settings in settings(), share in 1u8..=99, plain in 0u64..20_000, met in 0u64..2_000, failing in 0u64..=100,
    ) {
        let (treated, control) = (u64::from(share), 100 - u64::from(share));
        let equal = |n: u64| [treated * n, treated * (n * failing / 100), control * n, control * (n * failing / 100)];
        let mut judge = BetJudge::new(settings, percent(share));
        let fresh = judge.current();
        let look = judge.look(&block(0, share, equal(plain), equal(met))).unwrap();
        prop_assert!(look.harm <= fresh.harm.plus(LogE(1)), "one nano-nat of rounding: {} {}", fresh.harm, look.harm);
        prop_assert_ne!(look.verdict, Verdict::Fail);
    }

    #[test]
    fn proven_harm_stays(settings in settings(), (share, blocks) in blocks(500)) {
        let mut judge = BetJudge::new(settings, percent(share));
        let mut failed = false;
        for block in blocks {
            let verdict = judge.look(&block).unwrap().verdict;
            prop_assert!(!failed || verdict == Verdict::Fail);
            failed = verdict == Verdict::Fail;
        }
        judge.begin_step(percent(50));
        prop_assert_eq!(judge.current().verdict == Verdict::Fail, failed);
    }

    #[test]
    fn the_order_of_tenants_does_not_matter(
        settings in settings(), (share, blocks) in blocks(500), histories in prop::collection::vec(row(50_000), 3),
    ) {
        let histories: Vec<_> = histories.into_iter().map(|row| counts(row).treated).collect();
        let judge = |names: [&'static str; 3]| {
            PhaseJudge::new(settings, percent(share), names.into_iter().zip(histories.iter().copied()))
        };
        let (first, second) = (["a", "b", "c"], ["c", "a", "b"]);
        let (mut one, mut other) = (judge(first), judge(second));
        for (n, window) in blocks.chunks(3).enumerate() {
            let named = |names: [&'static str; 3]| -> BTreeMap<_, _> {
                let blocks = window.iter().map(|block| Block { hour: n as u64 / 4, ..*block });
                names.into_iter().zip(blocks).collect()
            };
            prop_assert_eq!(one.look(&named(first)), other.look(&named(second)));
        }
    }

    #[test]
    fn a_phase_of_one_tenant_is_judged_as_that_tenant(settings in settings(), (share, blocks) in blocks(500)) {
        let mut alone = BetJudge::new(settings, percent(share));
        let mut phase = PhaseJudge::new(settings, percent(share), [("acme", settings.history)]);
        for block in blocks {
            let look = alone.look(&block);
            prop_assert_eq!(phase.look(&BTreeMap::from([("acme", block)])), look);
            prop_assert_eq!(phase.tenants().next(), Some((&"acme", alone.current())));
        }
    }

    #[test]
    fn a_judge_survives_a_snapshot((share, blocks) in blocks(500), more in row(500), next in 1u8..=99) {
        let mut judge = PhaseJudge::new(config(), percent(share), [("acme".to_owned(), outcomes(100, 3))]);
        let window = |block: Block| BTreeMap::from([("acme".to_owned(), block)]);
        for block in blocks {
            judge.look(&window(block)).unwrap();
        }
        let mut read: PhaseJudge<String> =
            serde_json::from_str(&serde_json::to_string(&judge).unwrap()).unwrap();
        prop_assert_eq!(&read, &judge);
        for judge in [&mut read, &mut judge] {
            judge.begin_step(percent(next));
        }
        let more = window(block(100, next, more, [0; 4]));
        prop_assert_eq!(read.look(&more), judge.look(&more));
        prop_assert_eq!(read, judge);
    }

    #[test]
    fn a_latency_sequence_survives_a_snapshot(pairs in prop::collection::vec((0u64..5_000, 0u64..5_000), 0..80)) {
        let mut sequence = LatencySequence::new(LatencyConfig::default());
        for (treated, control) in pairs {
            sequence.look(treated, control);
        }
        let mut read: LatencySequence =
            serde_json::from_str(&serde_json::to_string(&sequence).unwrap()).unwrap();
        prop_assert_eq!(&read, &sequence);
        prop_assert_eq!(read.look(800, 790), sequence.look(800, 790));
    }

    #[test]
    fn more_evidence_or_more_alpha_never_clears_a_tenant(
        logs in logs(), at in any::<prop::sample::Index>(), more in 0i64..5_000_000_000, alpha in 1u32..400_000,
    ) {
        let alphas = [alpha, alpha + 50_000].map(|alpha| Alpha::try_new(alpha).unwrap());
        let harmed = e_bh(&logs, alphas[0]);
        let mut stronger = logs.clone();
        let log = at.get(&logs).plus(LogE(more));
        stronger[at.index(logs.len())] = log;
        for after in [e_bh(&stronger, alphas[0]), e_bh(&logs, alphas[1])] {
            prop_assert!(harmed.iter().all(|index| after.contains(index)), "{harmed:?} {after:?}");
        }
        prop_assert!(harmed.is_sorted());
        let least = harmed.iter().map(|index| logs[*index]).min();
        let greatest = (0..logs.len()).filter(|index| !harmed.contains(index)).map(|index| logs[index]).max();
        prop_assert!(least.is_none_or(|least| greatest.is_none_or(|greatest| greatest < least)));
    }

    #[test]
    fn only_proven_safety_that_lacks_nothing_promotes(
        look in look(),
        [qualified_ms, min_ms, elapsed_ms, max_ms, stale_ms, max_stale_ms] in prop::array::uniform6(0u64..3),
        latency in prop::sample::select(vec![
            LatencyVerdict::Pass, LatencyVerdict::Pass, LatencyVerdict::Fail, LatencyVerdict::Inconclusive,
        ]),
        opens in prop::collection::vec(prop::sample::select(Open::ALL.to_vec()), 0..3),
        recoveries in prop::collection::vec(prop::sample::select(Recovery::ALL.to_vec()), 0..3),
        coverage in prop::sample::select(vec![949u32, 950, 1_000]),
        loss in around(ShareTest::THRESHOLD),
        [needs_exercise, gap, accounts_differ] in prop::array::uniform3(any::<bool>()),
        issues_open in 0u64..2,
    ) {
        let facts = Facts {
            look, qualified_ms, min_ms, max_ms, elapsed_ms, latency, opens: &opens, recoveries: &recoveries,
            needs_exercise, coverage_permille: coverage, min_coverage_permille: 950, stale_ms, max_stale_ms, loss,
            gap, accounts_differ, issues_open,
        };
        let decision = decide(&facts);
        let evidence = look.verdict == Verdict::Pass
            && look.share < ShareTest::THRESHOLD
            && loss < ShareTest::THRESHOLD
            && latency == LatencyVerdict::Pass
            && coverage >= 950
            && stale_ms <= max_stale_ms
            && !(gap || accounts_differ);
        let breaker = !opens.iter().any(|open| matches!(open, Open::Unexpected | Open::Unexplained))
            && !recoveries.iter().any(|r| matches!(r, Recovery::Pending | Recovery::Late | Recovery::Overdue))
            && (!needs_exercise || recoveries.contains(&Recovery::Closed));
        let may = evidence && breaker && qualified_ms >= min_ms && issues_open == 0;
        prop_assert_eq!(decision == Decision::Promote, may, "{:?}", decision);
        prop_assert_eq!(decision == Decision::Rollback, look.verdict == Verdict::Fail);
        if let Decision::Extend(lacks) = &decision {
            prop_assert!(!lacks.is_empty() && elapsed_ms < max_ms);
        }
        prop_assert_eq!(decision.reasons().is_empty(), decision == Decision::Promote);
    }
}

#[test]
fn settings_out_of_range_cannot_be_made_or_read() {
    assert!(TreatedPercent::try_new(0).is_err() && TreatedPercent::try_new(100).is_err());
    assert!(SafeMargin::try_new(0).is_err() && SafeMargin::try_new(1_000_000).is_err());
    assert!(HarmMargin::try_new(50_001).is_err() && Alpha::try_new(500_000).is_err());
    assert!(serde_json::from_str::<TreatedPercent>("100").is_err());
    let error = serde_json::from_str::<SafeMargin>("0").unwrap_err();
    assert!(error.to_string().starts_with("0 is not within 1 to 999999"), "{error}");
}
