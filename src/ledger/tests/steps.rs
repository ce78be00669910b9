//! Steps of rollouts: what lies over policies, for whom and until when.

use super::*;
use crate::domain::RolloutId;
use crate::log::{
    EvidenceSettings, JudgedWindow, OverlaySettings, Share, StepEntry, StepNumber, TallyEntry, WorkerRun,
};

const EVIDENCE: EvidenceSettings =
    EvidenceSettings { block_ms: 300_000, settle_ms: 120_000, max_stale_ms: 600_000, sample_ppm: 1_000_000 };
/// Without a judged window a share holds for so long after its step.
const HOLDS_MS: u64 = 1_020_000;

pub(super) fn rollout(id: &str) -> RolloutId {
    RolloutId::try_new(id).unwrap()
}

pub(super) fn overlay(shares: &[(&str, u8)]) -> OverlaySettings {
    let share =
        |(tenant_id, percent): &(&str, u8)| (tenant(tenant_id), Share { percent: *percent, split: 50 });
    OverlaySettings {
        circuit_breaker: json!({"failure_threshold": 2}).as_object().unwrap().clone(),
        tenants: shares.iter().map(share).collect(),
        evidence: EVIDENCE,
        completed: false,
    }
}

pub(super) fn step(id: &str, n: u64, overlay: Option<OverlaySettings>) -> Entry<'static> {
    Entry::Step(StepEntry {
        rollout: rollout(id),
        number: StepNumber { made: 1, n },
        at_seq: 10 * n,
        overlay,
    })
}

/// A worker that has read the log up to a position has judged a window.
pub(super) fn judged(position: u64, id: &str, number: u64, end: Stamp) -> Entry<'static> {
    Entry::Tally(TallyEntry {
        run: WorkerRun { worker: "w".to_owned(), boot: 1 },
        position,
        met: 0,
        enforcing: true,
        judged: [(rollout(id), JudgedWindow { number, end })].into(),
        tenants: [].into(),
        last: false,
    })
}

impl Log {
    pub(super) fn step(&mut self, id: &str, n: u64, overlay: Option<OverlaySettings>) -> bool {
        match self.apply(step(id, n, overlay)).what {
            What::Step { newer } => newer,
            other => panic!("{other:?}"),
        }
    }

    /// A worker that has read all has judged a window.
    fn judged(&mut self, number: u64, end: Stamp) {
        self.apply(judged(self.at.position, "cb", number, end));
    }

    /// Whether the breaker that a policy gives its provider is enabled, its share, and its threshold.
    pub(super) fn holds(&self, tenant_id: &str, id: &str) -> (bool, u64, u64) {
        let record = self.fold.register().get(&tenant(tenant_id), &policy_id(id)).unwrap();
        let policy = &record.live.as_ref().unwrap().policy;
        let decided = self.state.catalog().find(tenant_id, id).unwrap();
        assert_eq!(decided.policy, *policy, "decisions are made by what is in force");
        let of_breaker = self.cell(tenant_id, policy.candidates()[0].provider.as_str()).lock().step.clone();
        assert_eq!(of_breaker, decided.step, "both are shown the same step");
        if let Some(step) = &decided.step {
            assert_eq!(u64::from(step.percent), policy.breaker().to_draft().enforce_percent);
        }
        let draft = policy.breaker().to_draft();
        (draft.enabled, draft.enforce_percent, draft.failure_threshold)
    }
}

/// Tenants `acme` and `beta`, whose policies name no breaker.
pub(super) fn two() -> Log {
    let mut log = Log::new();
    log.put("acme", "p", with_breaker(&["a"], json!({})));
    log.put("beta", "p", with_breaker(&["a"], json!({"failure_threshold": 4})));
    log
}

const OFF: (bool, u64, u64) = (false, 100, 5);

#[test]
fn a_step_holds_for_its_tenants_and_the_last_one_alone() {
    let mut log = two();
    assert!(log.step("cb", 1, Some(overlay(&[("acme", 10), ("beta", 0)]))));
    assert_eq!(log.holds("acme", "p"), (true, 10, 2));
    assert_eq!(log.holds("beta", "p"), (true, 0, 4), "its own threshold is stronger");
    log.fail("acme", "a", 2);
    assert_eq!(log.shown("acme", "a"), Shown::Open);
    assert!(log.step("cb", 2, Some(overlay(&[("beta", 50)]))));
    assert_eq!(log.holds("acme", "p"), OFF, "it is in the step no more");
    assert_eq!(log.holds("beta", "p"), (true, 50, 4));
    for late in [1, 2] {
        assert!(!log.step("cb", late, Some(overlay(&[("acme", 99)]))));
    }
    assert_eq!((log.holds("acme", "p"), log.holds("beta", "p")), (OFF, (true, 50, 4)));
    assert!(log.step("cb", 3, None));
    assert_eq!(log.holds("beta", "p"), (false, 100, 4));
}

#[test]
fn a_policy_that_is_put_or_edited_under_a_step_is_under_it_too() {
    let mut log = two();
    log.step("cb", 1, Some(overlay(&[("acme", 10)])));
    log.put("acme", "q", with_breaker(&["b"], json!({"timeout_ms": 5_000})));
    log.put("acme", "p", with_breaker(&["a", "b"], json!({"failure_threshold": 6})));
    assert_eq!((log.holds("acme", "p"), log.holds("acme", "q")), ((true, 10, 6), (true, 10, 2)));
    log.delete("acme", "q");
    assert!(log.state.catalog().find("acme", "q").is_none());
    assert!(log.step("cb", 2, Some(overlay(&[("acme", 50)]))));
    assert_eq!(log.holds("acme", "p"), (true, 50, 6));
    assert!(log.state.catalog().find("acme", "q").is_none());
}

#[test]
fn who_states_a_share_takes_the_tenant_out_and_a_later_step_does_not_take_it_in() {
    let mut log = two();
    log.put("acme", "q", with_breaker(&["b"], json!({})));
    log.step("cb", 1, Some(overlay(&[("acme", 10), ("beta", 10)])));
    let refused = log.next_revision();
    let faulty = with_breaker(&["a"], json!({"enabled": false, "timeout_ms": 1}));
    assert!(matches!(log.policy("acme", "p", refused, Some(faulty)), PolicyChange::Refused(_)));
    assert_eq!(log.holds("acme", "p"), (true, 10, 2), "what is refused changes nothing");
    let stale = Revision { created: 1, revision: 1 };
    let late = with_breaker(&["a"], json!({"enabled": false}));
    assert_eq!(log.policy("acme", "p", stale, Some(late)), PolicyChange::Stale);
    assert_eq!(log.holds("acme", "p"), (true, 10, 2));
    log.put("acme", "p", with_breaker(&["a"], json!({"enabled": true, "enforce_percent": 30})));
    assert_eq!((log.holds("acme", "p"), log.holds("acme", "q")), ((true, 30, 5), OFF));
    log.step("cb", 2, Some(overlay(&[("acme", 50), ("beta", 50)])));
    assert_eq!((log.holds("acme", "p"), log.holds("beta", "p")), ((true, 30, 5), (true, 50, 4)));
}

#[test]
fn once_a_rollout_is_complete_a_policy_leaves_it_alone() {
    let mut log = two();
    log.put("acme", "q", with_breaker(&["b"], json!({})));
    log.step("cb", 9, Some(OverlaySettings { completed: true, ..overlay(&[("acme", 100)]) }));
    log.put("acme", "p", with_breaker(&["a"], json!({"enabled": true, "failure_threshold": 2})));
    assert_eq!((log.holds("acme", "p"), log.holds("acme", "q")), ((true, 100, 2), (true, 100, 2)));
    log.after(100 * HOLDS_MS).apply(Entry::Mark);
    assert_eq!(log.holds("acme", "q"), (true, 100, 2), "nobody judges it any more");
}

#[test]
fn a_share_that_nobody_judges_falls_to_zero_until_the_next_step() {
    let mut log = two();
    log.step("cb", 1, Some(overlay(&[("acme", 10)])));
    log.after(HOLDS_MS).apply(Entry::Mark);
    assert_eq!(log.holds("acme", "p"), (true, 10, 2));
    let end = log.at.stamp.minus(1_000);
    log.judged(3, end);
    log.judged(2, end.minus(300_000));
    log.after(HOLDS_MS - 1_000).apply(Entry::Mark);
    assert_eq!(log.holds("acme", "p"), (true, 10, 2), "a window was judged");
    log.after(1).ends("beta", "a", Status::Success);
    assert_eq!(log.holds("acme", "p"), (true, 0, 2), "any entry at that time is enough");
    log.judged(4, log.at.stamp);
    assert_eq!(log.holds("acme", "p"), (true, 0, 2), "only a step brings it back");
    log.step("cb", 2, Some(overlay(&[("acme", 10)])));
    assert_eq!(log.holds("acme", "p"), (true, 10, 2));
}

#[test]
fn a_clock_that_was_ahead_does_not_put_the_deadline_off() {
    let mut log = two();
    log.after(50 * HOLDS_MS).step("cb", 1, Some(overlay(&[("acme", 10)])));
    log.at.stamp = START.plus(1_000);
    log.apply(Entry::Mark);
    log.after(HOLDS_MS + 1).apply(Entry::Mark);
    assert_eq!(log.holds("acme", "p"), (true, 0, 2));
}

#[test]
fn a_stream_of_rollouts_made_anew_counts_from_its_beginning() {
    let mut log = two();
    log.step("cb", 7, Some(overlay(&[("acme", 10)])));
    let anew = StepEntry {
        rollout: rollout("cb"),
        number: StepNumber { made: 2, n: 1 },
        at_seq: 1,
        overlay: Some(overlay(&[("acme", 20)])),
    };
    assert_eq!(log.apply(Entry::Step(anew)).what, What::Step { newer: true });
    assert_eq!(log.holds("acme", "p"), (true, 20, 2));
    assert!(!log.step("cb", 8, None), "the old stream's");
}

#[test]
fn a_block_that_does_not_fit_a_document_is_left_out_and_said() {
    let mut log = two();
    log.put("acme", "p", with_breaker(&["a"], json!({"timeout_ms": 60_000})));
    let block = json!({"max_timeout_ms": 30_000, "failure_threshold": 9}).as_object().unwrap().clone();
    log.step(
        "cb",
        1,
        Some(OverlaySettings { circuit_breaker: block, ..overlay(&[("acme", 10), ("beta", 10)]) }),
    );
    assert_eq!(log.holds("acme", "p"), (true, 10, 5));
    let fits = |tenant_id: &str| {
        let record = log.fold.register().get(&tenant(tenant_id), &policy_id("p")).unwrap();
        record.live.as_ref().unwrap().laid.as_ref().unwrap().fits
    };
    assert_eq!((fits("acme"), fits("beta")), (false, false), "60 s is the default, too");
}

#[test]
fn of_two_rollouts_that_name_a_tenant_the_first_in_the_log_has_it_and_the_other_one_never() {
    let mut log = two();
    log.raise(2);
    log.step("b", 1, Some(overlay(&[("acme", 20)])));
    log.step("a", 1, Some(overlay(&[("acme", 10), ("beta", 10)])));
    assert_eq!((log.holds("acme", "p"), log.holds("beta", "p")), ((true, 20, 2), (true, 10, 4)));
    log.step("b", 2, Some(overlay(&[("acme", 50), ("beta", 50)])));
    assert_eq!((log.holds("acme", "p"), log.holds("beta", "p")), ((true, 50, 2), (true, 10, 4)));
    log.step("b", 3, None);
    assert_eq!(log.holds("acme", "p"), OFF);
    log.step("a", 2, Some(overlay(&[("acme", 50), ("beta", 50)])));
    assert_eq!((log.holds("acme", "p"), log.holds("beta", "p")), (OFF, (true, 50, 4)));
    // Another rollout may have a tenant that left one.
    log.step("c", 1, Some(overlay(&[("acme", 30)])));
    assert_eq!(log.holds("acme", "p"), (true, 30, 2));
}

#[test]
fn a_snapshot_keeps_what_lies_over_policies_who_left_and_the_deadline() {
    const STREAM: &str = "2024-01-01T00:00:00Z";
    let mut log = two();
    log.put("gone", "p", with_breaker(&["a"], json!({})));
    log.put("early", "p", with_breaker(&["a"], json!({"enabled": true, "enforce_percent": 5})));
    let all = [("acme", 10), ("beta", 10), ("gone", 10), ("early", 10)];
    log.step("cb", 1, Some(overlay(&all)));
    log.put("gone", "p", with_breaker(&["a"], json!({"enabled": false})));
    let bytes = log.fold.snapshot(STREAM).unwrap();
    let mut again = Log::new();
    again.fold.restore(&bytes, STREAM, OFFSET).unwrap();
    again.at = log.at;
    assert_eq!(again.fold.snapshot(STREAM).unwrap(), bytes);
    for log in [&mut log, &mut again] {
        assert_eq!((log.holds("acme", "p"), log.holds("gone", "p")), ((true, 10, 2), OFF));
        assert_eq!(log.holds("early", "p"), (true, 10, 2), "stated before the step");
        log.after(HOLDS_MS + 1).apply(Entry::Mark);
        assert_eq!(log.holds("acme", "p"), (true, 0, 2));
        log.step("cb", 2, Some(overlay(&all)));
        assert_eq!((log.holds("acme", "p"), log.holds("gone", "p")), ((true, 10, 2), OFF));
    }
    assert_eq!(log.fold.digest(), again.fold.digest());
}

#[test]
fn who_leaves_under_a_step_keeps_an_open_circuit_open() {
    for completed in [false, true] {
        let mut log = two();
        log.step("cb", 1, Some(OverlaySettings { completed, ..overlay(&[("acme", 100)]) }));
        log.fail("acme", "a", 2);
        assert_eq!(log.shown("acme", "a"), Shown::Open);
        let own = json!({"enabled": true, "enforce_percent": 100, "failure_threshold": 2});
        let revision = log.next_revision();
        let applied = log.apply(policy_entry("acme", "p", revision, Some(with_breaker(&["a"], own))));
        assert_eq!((log.shown("acme", "a"), moves(&applied)), (Shown::Open, Vec::new()));
    }
}

#[test]
fn a_bucket_made_anew_takes_nobody_out() {
    let mut log = two();
    let own = with_breaker(&["a"], json!({"enabled": true, "enforce_percent": 0}));
    log.put("acme", "p", own.clone());
    log.step("cb", 1, Some(overlay(&[("acme", 50)])));
    let anew = Revision { created: 99, revision: 1 };
    assert_eq!(log.policy("acme", "p", anew, Some(own.clone())), PolicyChange::Put);
    assert_eq!(log.holds("acme", "p"), (true, 50, 2));
    assert_eq!(log.policy("acme", "p", Revision { created: 99, revision: 2 }, Some(own)), PolicyChange::Put);
    assert_eq!(log.holds("acme", "p"), (true, 0, 5), "an operator puts it");
}

#[test]
fn an_end_that_lies_ahead_does_not_put_the_deadline_off() {
    let mut log = two();
    log.step("cb", 1, Some(overlay(&[("acme", 10)])));
    log.after(300_000);
    log.judged(1, log.at.stamp.plus(86_400_000));
    log.after(HOLDS_MS).apply(Entry::Mark);
    assert_eq!(log.holds("acme", "p"), (true, 10, 2));
    log.after(1).apply(Entry::Mark);
    assert_eq!(log.holds("acme", "p"), (true, 0, 2));
}

#[test]
fn windows_whose_numbers_begin_again_put_the_deadline_off() {
    let mut log = two();
    log.step("cb", 1, Some(overlay(&[("acme", 10)])));
    log.judged(1_000, log.at.stamp);
    for number in 0..8 {
        log.after(300_000);
        log.judged(number, log.at.stamp);
        assert_eq!(log.holds("acme", "p"), (true, 10, 2), "{number}");
    }
    // The same window again is no other one, though its end lies ahead.
    log.after(1_000);
    log.judged(8, log.at.stamp.plus(86_400_000));
    log.after(HOLDS_MS);
    log.judged(8, log.at.stamp.plus(86_400_000));
    log.after(1).apply(Entry::Mark);
    assert_eq!(log.holds("acme", "p"), (true, 0, 2));
}

#[test]
fn a_window_of_the_stream_before_is_not_taken_for_one_of_this() {
    let mut log = two();
    log.step("cb", 1, Some(overlay(&[("acme", 10)])));
    log.judged(1_000, log.at.stamp);
    let anew = StepEntry {
        rollout: rollout("cb"),
        number: StepNumber { made: 2, n: 1 },
        at_seq: 1,
        overlay: Some(overlay(&[("acme", 20)])),
    };
    log.apply(Entry::Step(anew));
    let read = log.at.position;
    // Its worker has not read the step yet.
    log.apply(judged(read - 1, "cb", 1_001, log.at.stamp));
    for number in 0..8 {
        log.after(300_000);
        log.judged(number, log.at.stamp);
        assert_eq!(log.holds("acme", "p"), (true, 20, 2), "{number}");
    }
}
