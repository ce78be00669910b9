//! What the fold knows of an entry reaches the evidence of rollouts.

use super::steps::{overlay, rollout, step, two};
use super::*;
use crate::log::{EvidenceSettings, OverlaySettings, StepEntry, StepNumber, TallyEntry, WorkerRun};
use crate::rollout::evidence::{EvidenceBlock, Leaving, OpenRecord};

const BLOCK_MS: u64 = 10_000;
const SETTLE_MS: u64 = 1_000;
/// Longer than any of these tests, unless one says otherwise.
const STALE_MS: u64 = 86_400_000;

fn watching(shares: &[(&str, u8)]) -> OverlaySettings {
    let evidence = EvidenceSettings {
        block_ms: BLOCK_MS,
        settle_ms: SETTLE_MS,
        max_stale_ms: STALE_MS,
        sample_ppm: 1_000_000,
    };
    OverlaySettings { evidence, ..overlay(shares) }
}

/// A tally of the only worker, which has read up to a position.
pub(super) fn tally(position: u64) -> Entry<'static> {
    Entry::Tally(TallyEntry {
        run: WorkerRun { worker: "w".to_owned(), boot: 1 },
        position,
        met: 0,
        enforcing: true,
        judged: [].into(),
        tenants: [].into(),
        last: false,
    })
}

impl Log {
    /// The rollout `cb` has begun, and units count.
    fn watched(shares: &[(&str, u8)]) -> Self {
        let mut log = two();
        log.begin(watching(shares));
        log
    }

    fn begin(&mut self, settings: OverlaySettings) {
        self.tallied();
        assert!(self.step("cb", 1, Some(settings)));
        self.tallied();
        self.after(SETTLE_MS);
    }

    /// A worker says that it has read all.
    fn tallied(&mut self) {
        self.apply(tally(self.at.position));
    }

    fn call(&mut self, request: &str, status: Status, latency_ms: u64) -> Disposition {
        self.results += 1;
        let identity = self.results;
        self.result(self.called(request, status, latency_ms, identity))
    }

    fn called(&self, request: &str, status: Status, latency_ms: u64, identity: u64) -> Outcome<'static> {
        Outcome {
            request_id: Some(request.to_owned().into()),
            latency_ms: Some(latency_ms),
            ..outcome("acme", "a", status, identity)
        }
    }

    /// The next window that closes, after the one that the log is in.
    fn closes(&mut self) -> Arc<EvidenceBlock> {
        let current = self.blocks().last().map_or(0, |last| last.number + 1);
        for _ in 0..8 {
            self.after(BLOCK_MS / 2).tallied();
            if let Some(block) = self.blocks().into_iter().find(|block| block.number == current) {
                return block;
            }
        }
        panic!("no window closes");
    }

    fn blocks(&self) -> Vec<Arc<EvidenceBlock>> {
        self.fold.evidence().closed(&rollout("cb")).cloned().collect()
    }

    /// Whether the tenants' refusals go unenforced, in a window that begins later.
    fn untreated(&mut self) -> Vec<String> {
        self.closes();
        let block = self.closes();
        block.untreated_tenants.iter().map(|tenant_id| tenant_id.as_str().to_owned()).collect()
    }

    fn opens(&mut self) -> Vec<OpenRecord> {
        self.closes().opens.clone()
    }
}

/// Units of a block, failed ones of these, and those without an outcome.
fn units(block: &EvidenceBlock) -> (u64, u64, u64) {
    block.rows.iter().fold((0, 0, 0), |(units, failed, none), row| {
        let [t, t_failed, c, c_failed] = row.plain;
        (units + t + c, failed + t_failed + c_failed, none + row.no_outcome.iter().sum::<u64>())
    })
}

#[test]
fn calls_are_units_by_how_their_breaker_takes_them() {
    let mut log = two();
    let block = json!({"failure_threshold": 50, "ignored_error_codes": ["bad"]});
    log.put("acme", "p", with_breaker(&["a"], block));
    log.begin(watching(&[("acme", 50), ("beta", 50)]));
    log.call("succeeded", Status::Success, 10);
    log.call("failed", Status::Error, 10);
    log.call("cancelled", Status::Cancelled, 10);
    let caller = Outcome { error_code: Some("bad".into()), ..log.called("ignored", Status::Error, 10, 700) };
    log.result(caller);
    assert!(log.ended(ended("acme", "a", "timed-out", "x-1")));
    let block = log.closes();
    assert_eq!(units(&block), (3, 2, 2));
    let latencies: u64 = block.rows.iter().flat_map(|row| &row.latency).map(|l| l.count()).sum();
    assert_eq!(latencies, 1);
}

#[test]
fn what_is_no_other_call_is_no_evidence() {
    let mut log = Log::watched(&[("acme", 50)]);
    let first = log.called("r-1", Status::Success, 40, 800);
    assert_eq!(log.result(first.clone()), Disposition::Applied);
    assert_eq!(log.result(first), Disposition::Duplicate);
    assert!(log.ended(ended("acme", "a", "r-2", "x-2")));
    assert!(!log.ended(ended("acme", "a", "r-3", "x-2")));
    let late = log.called("r-2", Status::Success, 10, identity_of("acme", Some("x-2"), &[]));
    assert_eq!(log.result(late), Disposition::Late);
    let unknown = Outcome { provider_id: "zz".into(), ..log.called("r-4", Status::Success, 10, 801) };
    assert_eq!(log.result(unknown), Disposition::Rejected);
    log.apply(Entry::Rejected);
    let block = log.closes();
    assert_eq!(units(&block), (2, 1, 0));
    let latency =
        |row: &crate::rollout::evidence::TenantRow| row.latency.iter().find_map(|l| l.quantile(500));
    assert_eq!(block.rows.iter().find_map(latency), Some(40), "the latency of one call");
}

#[test]
fn a_call_from_before_the_circuit_opened_is_evidence() {
    let mut log = Log::watched(&[("acme", 50)]);
    log.after(1_000).call("r-1", Status::Error, 10);
    log.call("r-2", Status::Error, 10);
    assert_eq!(log.shown("acme", "a"), Shown::Open);
    log.after(100);
    assert_eq!(log.call("r-3", Status::Error, 900), Disposition::Late);
    assert_eq!(units(&log.closes()), (3, 3, 0));
}

#[test]
fn an_edit_of_a_policy_cuts_and_one_that_has_no_effect_does_not() {
    let mut log = Log::watched(&[("acme", 50), ("beta", 50)]);
    log.call("r-1", Status::Success, 10);
    log.policy("acme", "p", Revision { created: 1, revision: 1 }, Some(document(&["b"])));
    let revision = log.next_revision();
    log.policy("acme", "p", revision, Some(json!({"providers": []})));
    log.put("beta", "p", with_breaker(&["a"], json!({})));
    let block = log.closes();
    assert_eq!((units(&block), block.dropped), ((1, 0, 0), 0));
    log.call("r-2", Status::Success, 10);
    log.put("acme", "p", with_breaker(&["a"], json!({"failure_threshold": 7})));
    let block = log.closes();
    assert_eq!((units(&block), block.dropped), ((0, 0, 0), 1));
}

#[test]
fn an_open_is_recorded_with_what_its_breaker_is_set_to() {
    let own = json!({
        "failure_threshold": 2, "error_rate_threshold": 0.4, "success_threshold": 4,
        "latency_threshold_ms": 100, "slow_call_rate_threshold": 0.3, "minimum_requests": 2,
    });
    let opened = |calls: [(Status, u64); 2]| {
        let mut log = two();
        log.put("acme", "p", with_breaker(&["a"], own.clone()));
        // Nothing is enforced, so no call is selected by the breaker.
        log.begin(watching(&[("acme", 0)]));
        for (n, (status, latency_ms)) in calls.into_iter().enumerate() {
            log.call(&format!("r-{n}"), status, latency_ms);
        }
        log.after(500).call("slow", Status::Success, 200);
        log.opens()
    };
    let [by_failures] = &opened([(Status::Error, 10), (Status::Error, 10)])[..] else { panic!() };
    assert_eq!(by_failures.cause, Cause::FailureThresholdExceeded);
    assert_eq!((by_failures.threshold_ppm, by_failures.successes), (400_000, 4));
    assert_eq!(by_failures.spared, [1, 0], "a slow call is none that failed");
    let [by_latency] = &opened([(Status::Success, 10), (Status::Success, 200)])[..] else { panic!() };
    assert_eq!(by_latency.cause, Cause::LatencyThresholdExceeded);
    assert_eq!((by_latency.threshold_ppm, by_latency.spared), (300_000, [1, 1]));
}

#[test]
fn a_probe_is_known_for_one() {
    // All is enforced, so only probes are not selected by the breaker.
    let mut log = Log::watched(&[("acme", 100)]);
    log.call("r-0", Status::Error, 10);
    log.call("r-0b", Status::Error, 10);
    log.after(60_000 - 3 * BLOCK_MS / 2);
    for _ in 0..3 {
        log.after(BLOCK_MS / 2).tallied();
    }
    assert_eq!(log.claim("acme", "a", 1), Some(Verdict::Granted));
    log.after(100).call("r1", Status::Success, 10);
    log.call("r-2", Status::Success, 10);
    let spared: Vec<_> = (0..8).map(|_| log.opens()).map(|opens| opens[0].spared).collect();
    assert_eq!(spared.last(), Some(&[1, 0]));
}

#[test]
fn who_leaves_is_evidence_of_the_window_and_its_requests_are_none() {
    let mut log = Log::watched(&[("acme", 50), ("beta", 50)]);
    log.put("beta", "q", with_breaker(&["b"], json!({})));
    log.delete("beta", "p");
    log.put("acme", "p", with_breaker(&["a"], json!({"enabled": true, "enforce_percent": 30})));
    log.after(2 * SETTLE_MS).call("r-1", Status::Success, 10);
    let block = log.closes();
    assert_eq!(block.left, [(tenant("acme"), Leaving::LeftOut)]);
    assert_eq!(units(&block), (0, 0, 0));
    log.delete("beta", "q");
    assert_eq!(log.closes().left, [(tenant("beta"), Leaving::Deleted)]);
}

#[test]
fn a_tenant_that_another_rollout_has_leaves_the_one_whose_step_came_later() {
    let mut log = two();
    log.raise(2);
    log.tallied();
    log.step("first", 1, Some(watching(&[("acme", 50)])));
    log.begin(watching(&[("acme", 50), ("beta", 50)]));
    log.call("r-1", Status::Success, 10);
    let block = log.closes();
    assert_eq!(block.left, [(tenant("acme"), Leaving::LeftOut)]);
    assert_eq!(units(&block), (0, 0, 0));
    let first: Vec<_> = log.fold.evidence().closed(&rollout("first")).cloned().collect();
    assert!(first.iter().all(|block| block.left.is_empty()), "{first:?}");
    assert_eq!(first.iter().map(|block| units(block).0).sum::<u64>(), 1);
}

#[test]
fn what_finds_no_room_is_told_by_the_entry_that_lost_it() {
    let mut log = Log::watched(&[("acme", 50)]);
    let none = log.apply(Entry::Mark).evidence_lost;
    assert_eq!(none, None);
    for n in 0..crate::rollout::evidence::MAX_ROLLOUTS {
        let lost = log.apply(step(&format!("more-{n}"), 1, Some(watching(&[("beta", 50)])))).evidence_lost;
        let steps = lost.map_or(0, |lost| lost.steps);
        assert_eq!(steps, u64::from(n + 1 == crate::rollout::evidence::MAX_ROLLOUTS), "{n}");
    }
}

#[test]
fn a_tenant_that_is_deleted_is_out_whatever_is_put_later() {
    let mut log = Log::watched(&[("acme", 50), ("beta", 50)]);
    log.delete("acme", "p");
    log.put("acme", "p", with_breaker(&["a"], json!({})));
    assert_eq!(log.holds("acme", "p"), (false, 100, 5), "what is not watched is not treated");
    log.step("cb", 2, Some(watching(&[("acme", 50), ("beta", 50)])));
    assert_eq!((log.holds("acme", "p").1, log.holds("beta", "p").1), (100, 50));
    let mut done = two();
    done.step("cb", 9, Some(OverlaySettings { completed: true, ..watching(&[("acme", 100)]) }));
    done.delete("acme", "p");
    done.put("acme", "p", with_breaker(&["a"], json!({})));
    assert_eq!(done.holds("acme", "p"), (true, 100, 2), "a complete rollout has nobody to lose");
}

#[test]
fn the_delete_of_a_policy_that_was_not_there_takes_nobody_out() {
    let mut log = Log::watched(&[("gamma", 50)]);
    log.delete("gamma", "old");
    log.put("gamma", "p", with_breaker(&["a"], json!({})));
    assert_eq!(log.holds("gamma", "p"), (true, 50, 2));
    assert_eq!(log.closes().left, []);
}

#[test]
fn what_a_switch_turns_off_is_untreated_until_it_is_on() {
    let mut log = Log::watched(&[("acme", 50), ("beta", 50)]);
    assert_eq!(log.untreated(), [""; 0]);
    log.flag(scope_of("acme"), false);
    assert_eq!(log.untreated(), ["acme"]);
    log.flag(Scope::Global, false);
    assert_eq!(log.untreated(), ["acme", "beta"]);
    log.flag(scope_of("acme"), true);
    assert_eq!(log.untreated(), ["acme", "beta"]);
    log.flag(Scope::Global, true);
    assert_eq!(log.untreated(), [""; 0]);
}

#[test]
fn who_is_forced_closed_is_untreated_until_the_force_ends() {
    let mut log = Log::watched(&[("acme", 50), ("beta", 50)]);
    log.force(ForceTo::Open, None);
    assert_eq!(log.untreated(), [""; 0]);
    log.force(ForceTo::Closed, None);
    assert_eq!(log.untreated(), ["acme"]);
    log.force(ForceTo::Auto, None);
    assert_eq!(log.untreated(), [""; 0]);
    // Its time to live ends, and no entry concerns the breaker.
    log.force(ForceTo::Closed, Some(BLOCK_MS));
    log.apply(Entry::Force(command("beta", "a", Some(ForceTo::Closed), Some(8 * BLOCK_MS))));
    let windows: Vec<_> = (0..7).map(|_| log.closes().untreated_tenants.len()).collect();
    assert_eq!(windows.first(), Some(&2));
    assert_eq!(windows[3..], [1; 4], "{windows:?}");
    log.delete("beta", "p");
    log.put("beta", "p", with_breaker(&["a"], json!({})));
    assert_eq!(log.untreated(), [""; 0], "the breaker is gone, and its tenant too");
}

#[test]
fn a_breaker_that_goes_takes_its_force_with_it() {
    let mut log = Log::watched(&[("acme", 50)]);
    log.put("acme", "q", with_breaker(&["b"], json!({})));
    log.force(ForceTo::Closed, None);
    assert_eq!(log.untreated(), ["acme"]);
    log.delete("acme", "p");
    assert_eq!(log.untreated(), [""; 0]);
}

#[test]
fn a_force_that_begins_anew_with_the_clock_ends_by_the_clock() {
    let mut log = Log::watched(&[("acme", 50)]);
    log.force(ForceTo::Closed, Some(2 * BLOCK_MS));
    log.at.stamp = log.at.stamp.minus(600_000);
    log.tallied();
    let windows: Vec<_> = (0..8).map(|_| log.closes().untreated_tenants.len()).collect();
    assert_eq!((windows[0], windows[7]), (1, 0), "{windows:?}");
}

#[test]
fn a_restart_does_not_lose_the_end_of_a_force() {
    let mut log = Log::watched(&[("acme", 50)]);
    log.force(ForceTo::Closed, Some(BLOCK_MS));
    let bytes = log.fold.snapshot("s").unwrap();
    let mut again = Log::new();
    again.fold.restore(&bytes, "s", OFFSET).unwrap();
    again.at = log.at;
    for log in [&mut log, &mut again] {
        assert_eq!(log.closes().untreated_tenants, [tenant("acme")]);
        log.closes();
        assert_eq!(log.untreated(), [""; 0]);
    }
    assert_eq!(log.fold.evidence(), again.fold.evidence());
}

#[test]
fn who_is_untreated_already_is_so_when_a_step_takes_it_in() {
    let mut log = two();
    log.flag(scope_of("acme"), false);
    log.apply(Entry::Force(command("beta", "a", Some(ForceTo::Closed), None)));
    log.begin(watching(&[("acme", 50)]));
    assert_eq!(log.untreated(), ["acme"]);
    log.step("cb", 2, Some(watching(&[("acme", 50), ("beta", 50)])));
    log.tallied();
    assert_eq!(log.untreated(), ["acme", "beta"]);
}

#[test]
fn a_share_that_fell_to_zero_is_untreated_until_the_next_step() {
    let mut log = two();
    let mut settings = watching(&[("acme", 50), ("beta", 0)]);
    settings.evidence.max_stale_ms = 3 * BLOCK_MS;
    log.begin(settings.clone());
    let windows: Vec<_> = (0..8).map(|_| log.closes().untreated_tenants.clone()).collect();
    assert_eq!(log.holds("acme", "p").1, 0);
    assert_eq!((&windows[0], &windows[7]), (&vec![], &vec![tenant("acme")]), "beta had no share to lose");
    let lapsed: Vec<bool> = log.blocks().iter().map(|block| block.lapsed).collect();
    assert_eq!((lapsed[0], lapsed[7]), (false, true));
    log.step("cb", 2, Some(settings));
    log.tallied();
    assert_eq!(log.untreated(), [""; 0]);
    assert!(log.blocks().last().is_some_and(|block| !block.lapsed));
}

#[test]
fn entries_that_are_missing_mark_the_window_and_cut() {
    let mut log = Log::watched(&[("acme", 50)]);
    log.call("r-1", Status::Success, 10);
    let block = log.closes();
    assert_eq!((units(&block), block.purged, block.incomplete), ((1, 0, 0), false, false));
    log.call("r-2", Status::Success, 10);
    let bytes = log.fold.snapshot("s").unwrap();
    let mut again = Log::new();
    again.fold.restore(&bytes, "s", OFFSET).unwrap();
    (again.at, again.results) = (log.at, log.results);
    for log in [&mut log, &mut again] {
        log.at.position += 1;
        let block = log.closes();
        assert_eq!((units(&block), block.purged, block.incomplete), ((0, 0, 0), true, true));
        assert_eq!(block.dropped, 1);
        log.closes();
        assert!(!log.closes().purged, "the windows of the gap alone");
    }
    assert_eq!(log.fold.evidence(), again.fold.evidence());
}

#[test]
fn each_window_that_closes_is_reported_once() {
    let mut log = Log::watched(&[("acme", 50)]);
    let mut closed = 0;
    for _ in 0..40 {
        let (tally, before) = (tally(log.at.position), log.fold.evidence().closed_revision());
        let applied = log.after(BLOCK_MS / 4).apply(tally);
        closed += applied.windows_closed;
        assert_eq!(log.fold.evidence().closed_revision() - before, applied.windows_closed);
    }
    assert_eq!((closed, log.blocks().len()), (9, 9));
}

#[test]
fn a_stream_made_anew_begins_with_windows_of_its_own() {
    let mut log = Log::watched(&[("acme", 50)]);
    log.closes();
    let before = log.fold.evidence().closed_revision();
    let Entry::Step(first) = step("cb", 1, Some(watching(&[("acme", 50)]))) else { panic!() };
    log.apply(Entry::Step(StepEntry { number: StepNumber { made: 2, n: 1 }, ..first }));
    assert_eq!(log.blocks().len(), 0);
    assert!(log.fold.evidence().closed_revision() > before);
    log.tallied();
    assert_eq!((log.closes().number, log.blocks()[0].made), (0, 2));
}
