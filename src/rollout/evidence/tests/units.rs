use serde::Deserialize;
use serde_json::Value;

use super::{Bench, id_in, settings, tenant};
use crate::domain::Status;
use crate::domain::{arm_hash, is_treated};
use crate::log::{Ended, Entry, EvidenceSettings, Fate, Met};
use crate::rollout::evidence::{Call, CallEnd, EntryFacts, Leaving, is_sampled};
use std::borrow::Cow;

/// A unit vector of the reference. Its time begins one window after the rollout's first step, whose cut is then
/// over; the rollout of the reference begins without one.
#[derive(Deserialize)]
struct Vector {
    name: String,
    percent: u8,
    block_ms: u64,
    settle_ms: u64,
    entries: Vec<VectorEntry>,
    blocks: Vec<VectorBlock>,
    no_outcome: u64,
}

#[derive(Deserialize)]
struct VectorEntry {
    kind: String,
    at: i64,
    #[serde(default)]
    id: String,
    #[serde(default)]
    bucket: u64,
    #[serde(default)]
    status: String,
    #[serde(default)]
    neutral: bool,
    fate: Option<Fate>,
    #[serde(default)]
    retry: bool,
    #[serde(default)]
    percent: u8,
}

#[derive(Debug, Deserialize, PartialEq)]
struct VectorBlock {
    hour: u64,
    percent: u8,
    plain: [u64; 4],
    met: [u64; 4],
}

#[test]
fn the_vectors_of_the_reference_are_met() {
    let text = include_str!("../../judge/tests/vectors.json");
    let mut all: Value = serde_json::from_str(text).unwrap();
    let vectors: Vec<Vector> = serde_json::from_value(all["units"].take()).unwrap();
    assert!(vectors.len() > 10);
    for vector in &vectors {
        let (bench, shift) = played(vector);
        // Windows are those of the rollout, whose first one is before the vector's.
        let blocks: Vec<VectorBlock> = bench
            .rows()
            .into_iter()
            .filter(|(_, row)| row.plain != [0; 4] || row.met != [0; 4])
            .map(|(number, row)| {
                let block = row.judge_block(number - shift).unwrap();
                VectorBlock { hour: block.hour, percent: block.percent.get(), plain: row.plain, met: row.met }
            })
            .collect();
        assert_eq!(blocks, vector.blocks, "{}", vector.name);
        let no_outcome: u64 = bench.rows().iter().map(|(_, row)| row.no_outcome.iter().sum::<u64>()).sum();
        assert_eq!(no_outcome, vector.no_outcome, "{}", vector.name);
    }
}

fn played(vector: &Vector) -> (Bench, u64) {
    const DAY: i64 = 100_000_000;
    let evidence = settings(vector.block_ms, vector.settle_ms);
    let zero = u64::try_from(DAY).unwrap();
    let mut bench = Bench::new();
    let mut last = zero - vector.block_ms;
    bench.step(last, 1, &[("t", vector.percent, vector.percent)], evidence);
    bench.beat(last, zero);
    last = zero;
    let mut n = 1;
    for entry in &vector.entries {
        let at = u64::try_from(DAY + entry.at).unwrap();
        // A longer step of the reference is a jump, which nobody sees pass.
        if at.saturating_sub(last) <= 600_000 {
            bench.beat(last, at);
        }
        last = if at + 300_000 < last { at } else { last.max(at) };
        match entry.kind.as_str() {
            "percent" => {
                n += 1;
                bench.step(at, n, &[("t", entry.percent, entry.percent)], evidence);
            }
            "cut" => bench.edit(at, "t"),
            "tick" => bench.apply(at, &Entry::Mark),
            "met" => {
                let hash = arm_hash(&id_in(entry.bucket, &entry.id));
                bench.next_met(at, "t", Met { hash, fate: entry.fate.unwrap(), retry: entry.retry });
            }
            _ => {
                let end = match entry.status.as_str() {
                    "success" => CallEnd::Succeeded,
                    "error" | "timeout" if !entry.neutral => CallEnd::Failed,
                    _ => CallEnd::Neutral,
                };
                bench.call(at, "t", &id_in(entry.bucket, &entry.id), end, None);
            }
        }
    }
    bench.beat(last, last + 2 * (vector.block_ms + vector.settle_ms));
    (bench, 1)
}

fn fate(id: &str, fate: Fate, retry: bool) -> Met {
    Met { hash: arm_hash(id), fate, retry }
}

#[test]
fn a_refused_assignment_is_a_failure_unless_a_result_succeeds() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    for id in [id_in(3, "lost"), id_in(4, "saved")] {
        let ended = Ended {
            tenant_id: Cow::Borrowed("t"),
            provider_id: Cow::Borrowed("p"),
            request_id: Cow::Owned(id),
            assignment_id: Cow::Borrowed("x"),
            status: Status::Timeout,
            elapsed_ms: 100,
        };
        let facts =
            EntryFacts { call: Some(Call { ended: CallEnd::Failed, probe: false }), ..EntryFacts::default() };
        bench.apply_with(6_000, &Entry::Ended(ended.clone()), &facts);
        // A copy, or one whose result came first.
        bench.apply(6_000, &Entry::Ended(ended));
    }
    bench.succeed(6_500, "t", &id_in(4, "saved"));
    bench.beat(6_500, 20_000);
    assert_eq!(bench.plain(0), [2, 1, 0, 0]);
}

#[test]
fn calls_that_do_not_count_are_passed_over() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    let mut outcome = crate::domain::Outcome::of("t", "p", Status::Error, 0);
    outcome.request_id = Some("copy".into());
    bench.apply(6_000, &Entry::Result(outcome));
    bench.apply(6_000, &Entry::Rejected);
    bench.apply(6_000, &Entry::Unknown);
    bench.fail(6_000, "other", "of-another-tenant");
    bench.beat(6_000, 20_000);
    assert!(bench.rows().is_empty());
    assert!(bench.evidence.looks_at("t", "any") && !bench.evidence.looks_at("other", "p"));
}

#[test]
fn latency_is_the_sum_over_the_calls_of_a_successful_unit() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    bench.call(6_000, "t", &id_in(3, "x"), CallEnd::Failed, Some(100));
    bench.call(6_500, "t", &id_in(3, "x"), CallEnd::Succeeded, Some(20));
    bench.call(6_500, "t", &id_in(4, "failed"), CallEnd::Failed, Some(9));
    bench.call(6_500, "t", &id_in(5, "silent"), CallEnd::Succeeded, None);
    bench.call(6_500, "t", &id_in(70, "control"), CallEnd::Succeeded, Some(7));
    bench.beat(6_500, 20_000);
    let rows = bench.rows();
    let (_, row) = rows[0];
    assert_eq!(row.plain, [3, 1, 1, 0]);
    let [treated, control] = &row.latency;
    assert_eq!((treated.count(), treated.quantile(500)), (1, Some(120)));
    assert_eq!((control.count(), control.quantile(500)), (1, Some(7)));
}

#[test]
fn a_retry_makes_no_unit_met_and_may_make_it_a_failure() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    let (first, retry) = (id_in(3, "first"), id_in(4, "retry"));
    bench.next_met(6_000, "t", fate(&first, Fate::NoProvider, false));
    bench.next_met(6_000, "t", fate(&retry, Fate::NoProvider, true));
    bench.next_met(6_000, "t", fate(&id_in(80, "spared"), Fate::Spared, false));
    bench.succeed(6_100, "t", &id_in(80, "spared"));
    bench.beat(6_100, 20_000);
    let rows = bench.rows();
    assert_eq!((rows[0].1.plain, rows[0].1.met), ([1, 1, 0, 0], [1, 1, 1, 0]));
}

#[test]
fn the_split_makes_the_arms_and_the_percentage_does_not() {
    let mut bench = Bench::started(&[("t", 0, 50)]);
    bench.succeed(6_000, "t", &id_in(10, "x"));
    bench.succeed(6_000, "t", &id_in(90, "y"));
    bench.beat(6_000, 20_000);
    let rows = bench.rows();
    assert_eq!((rows[0].1.plain, rows[0].1.percent, rows[0].1.split), ([1, 0, 1, 0], 0, 50));
    assert_eq!(rows[0].1.judge_block(25).unwrap().hour, 2);
}

#[test]
fn an_edit_cuts_only_its_tenant() {
    let mut bench = Bench::started(&[("t", 50, 50), ("u", 50, 50)]);
    for whose in ["t", "u"] {
        bench.succeed(6_000, whose, &id_in(1, "open"));
    }
    bench.edit(7_000, "t");
    for whose in ["t", "u"] {
        bench.succeed(8_999, whose, &id_in(1, "soon"));
        bench.succeed(9_000, whose, &id_in(1, "later"));
    }
    bench.beat(9_000, 30_000);
    let of = |whose: &str| {
        let rows = bench.rows().into_iter().filter(|(_, row)| row.tenant == tenant(whose));
        rows.map(|(_, row)| row.plain[0]).collect::<Vec<_>>()
    };
    assert_eq!((of("t"), of("u")), (vec![1], vec![3]));
    assert_eq!(bench.block(0).dropped, 2);
}

#[test]
fn a_steps_cut_lasts_until_every_worker_has_read_the_step() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    bench.tally(5_000, "b");
    bench.step(10_000, 2, &[("t", 10, 10)], settings(10_000, 2_000));
    bench.beat(10_000, 13_000);
    bench.succeed(13_000, "t", &id_in(1, "before"));
    bench.tally(13_500, "b");
    bench.succeed(14_000, "t", &id_in(1, "after"));
    bench.tally(14_000, "b");
    bench.beat(14_000, 22_000);
    bench.tally(22_000, "b");
    assert_eq!((bench.plain(1), bench.block(1).dropped), ([1, 0, 0, 0], 1));
}

#[test]
fn a_tenant_that_left_is_told_once_and_stays_out_while_steps_name_it() {
    let mut bench = Bench::started(&[("t", 50, 50), ("u", 50, 50)]);
    bench.succeed(6_000, "t", &id_in(1, "open"));
    let left = [(tenant("t"), Leaving::LeftOut), (tenant("nobody"), Leaving::Deleted)];
    bench.apply_with(6_500, &Entry::Mark, &EntryFacts { left: &left, ..EntryFacts::default() });
    bench.apply_with(6_600, &Entry::Mark, &EntryFacts { left: &left, ..EntryFacts::default() });
    bench.step(7_000, 2, &[("t", 50, 50), ("u", 50, 50)], settings(10_000, 2_000));
    bench.beat(7_000, 12_000);
    bench.succeed(12_000, "t", &id_in(1, "later"));
    // Once a step without it was taken, one may take it in again.
    bench.step(12_000, 3, &[("u", 50, 50)], settings(10_000, 2_000));
    bench.step(12_000, 4, &[("t", 50, 50)], settings(10_000, 2_000));
    bench.beat(12_000, 16_000);
    bench.succeed(16_000, "t", &id_in(1, "again"));
    bench.beat(16_000, 30_000);
    assert_eq!(bench.block(0).left, [(tenant("t"), Leaving::LeftOut)]);
    assert!(bench.block(1).left.is_empty());
    assert_eq!((bench.plain(0), bench.plain(1)), ([0; 4], [1, 0, 0, 0]));
}

#[test]
fn only_the_sample_counts_and_both_arms_keep_their_share() {
    let mut bench = Bench::started(&[]);
    let tenth = EvidenceSettings { sample_ppm: 100_000, ..settings(10_000, 2_000) };
    bench.step(5_000, 2, &[("t", 50, 50)], tenth);
    bench.beat(5_000, 8_000);
    let ids: Vec<String> = (0..2_000).map(|n| format!("r{n}")).collect();
    for id in &ids {
        bench.succeed(8_000, "t", id);
    }
    bench.beat(8_000, 20_000);
    let sampled = |treated: bool| {
        let hashes = ids.iter().map(|id| arm_hash(id)).filter(|hash| is_treated(*hash, 50) == treated);
        hashes.filter(|hash| is_sampled(*hash, 100_000)).count() as u64
    };
    assert_eq!(bench.plain(0), [sampled(true), 0, sampled(false), 0]);
    assert!((70..130).contains(&sampled(true)) && (70..130).contains(&sampled(false)));
    assert!(!is_sampled(0, 0) && is_sampled(u64::MAX, 1_000_000) && !is_sampled(u64::MAX, 999_999));
}

#[test]
fn an_older_step_changes_nothing() {
    let mut bench = Bench::started(&[("t", 50, 50)]);
    let before = bench.evidence.clone();
    let overlay = super::overlay(&[("u", 1, 1)], settings(1_000, 100));
    bench.apply(5_000, &super::step_of("r", 1, Some(overlay)));
    bench.apply(5_000, &super::step_of("r", 0, None));
    assert_eq!(bench.evidence, before);
}
