use super::*;
use crate::ledger::seen::Memory;

fn assigned(tenant_id: &str, assignment: &str, status: Status) -> Outcome<'static> {
    let identity = identity_of(tenant_id, Some(assignment), b"");
    Outcome { assignment_id: Some(assignment.to_owned().into()), ..outcome(tenant_id, "a", status, identity) }
}

#[test]
fn a_second_copy_of_a_result_judges_nothing() {
    let mut log = Log::acme();
    let by_assignment = assigned("acme", "x-1", Status::Error);
    let by_body = outcome("acme", "a", Status::Error, identity_of("acme", None, b"{\"status\":\"error\"}"));
    for result in [by_assignment, by_body] {
        assert_eq!(log.result(result.clone()), Disposition::Applied);
        let digest = log.fold.digest();
        for _ in 0..5 {
            assert_eq!(log.after(10).result(result.clone()), Disposition::Duplicate);
        }
        assert_eq!(log.fold.digest(), digest);
    }
    assert_eq!(log.view("acme", "a").failures_in_a_row, 2);
    let counters = log.counters("acme", "a");
    assert_eq!((counters.failure, counters.duplicate), (2, 10));
}

#[test]
fn a_copy_that_says_otherwise_is_a_copy_all_the_same() {
    let mut log = Log::acme();
    assert_eq!(log.result(assigned("acme", "x-1", Status::Success)), Disposition::Applied);
    assert_eq!(log.result(assigned("acme", "x-1", Status::Error)), Disposition::Duplicate);
    assert_eq!(log.view("acme", "a").failures_in_a_row, 0);
}

#[test]
fn one_tenants_assignment_ids_are_not_anothers() {
    let mut log = Log::acme();
    log.put("beta", "p", document(&["a"]));
    assert_eq!(log.result(assigned("acme", "x-1", Status::Error)), Disposition::Applied);
    assert_eq!(log.result(assigned("beta", "x-1", Status::Error)), Disposition::Applied);
}

#[test]
fn a_result_after_its_timeout_is_late_and_the_next_one_a_copy() {
    let mut log = Log::acme();
    assert!(log.ended(ended("acme", "a", "r1", "x-1")));
    assert_eq!(log.view("acme", "a").failures_in_a_row, 1);
    assert_eq!(log.result(assigned("acme", "x-1", Status::Success)), Disposition::Late);
    assert_eq!(log.view("acme", "a").failures_in_a_row, 1);
    assert_eq!(log.result(assigned("acme", "x-1", Status::Success)), Disposition::Duplicate);
    let counters = log.counters("acme", "a");
    assert_eq!((counters.failure, counters.late, counters.duplicate), (1, 1, 1));
}

#[test]
fn a_timeout_after_its_result_does_not_count() {
    let mut log = Log::acme();
    assert_eq!(log.result(assigned("acme", "x-1", Status::Success)), Disposition::Applied);
    let (digest, counters) = (log.fold.digest(), log.counters("acme", "a"));
    assert!(!log.ended(ended("acme", "a", "r1", "x-1")));
    assert_eq!((log.fold.digest(), log.counters("acme", "a")), (digest, counters));
    assert_eq!(log.result(assigned("acme", "x-1", Status::Success)), Disposition::Duplicate);
}

#[test]
fn a_timeout_told_twice_counts_once_and_a_refusal_counts_as_an_error() {
    let mut log = Log::acme();
    assert!(log.ended(ended("acme", "a", "r1", "x-1")));
    assert!(!log.ended(ended("acme", "a", "r1", "x-1")));
    assert!(log.ended(Ended { status: Status::Error, ..ended("acme", "a", "r2", "x-2") }));
    assert_eq!(log.view("acme", "a").failures_in_a_row, 2);
}

#[test]
fn a_timeout_of_an_assignment_from_before_the_latest_transition_is_late() {
    let mut log = Log::acme();
    log.after(1_000).apply(Entry::Reset(command("acme", "a", None, None)));
    log.after(100);
    assert!(log.ended(Ended { elapsed_ms: 101, ..ended("acme", "a", "r1", "x-1") }));
    assert!(log.ended(Ended { elapsed_ms: 99, ..ended("acme", "a", "r2", "x-2") }));
    let (counters, view) = (log.counters("acme", "a"), log.view("acme", "a"));
    assert_eq!((counters.late, counters.failure, view.failures_in_a_row), (1, 1, 1));
}

#[test]
fn a_result_for_what_no_policy_names_is_rejected_and_not_remembered() {
    let mut log = Log::acme();
    for result in [outcome("nobody", "a", Status::Error, 1), outcome("acme", "b", Status::Error, 2)] {
        assert_eq!(log.result(result.clone()), Disposition::Rejected);
        assert_eq!(log.result(result), Disposition::Rejected);
    }
    assert_eq!(log.fold.seen.len(), 0);
    // So it counts when a policy comes to name it.
    log.put("acme", "p", document(&["a", "b"]));
    assert_eq!(log.result(outcome("acme", "b", Status::Error, 2)), Disposition::Applied);
}

#[test]
fn a_tenant_that_floods_the_log_forgets_its_own_results_and_the_entry_says_so() {
    let mut log = Log::acme();
    log.put("beta", "p", document(&["a"]));
    log.raise(3);
    log.fold.seen = Memory::of_size(100, 50, MINUTE_MS, log.at.stamp);
    assert_eq!(log.result(assigned("beta", "x-1", Status::Success)), Disposition::Applied);
    let mut early = 0;
    for n in 0..1_000 {
        let entry = Entry::Result(assigned("acme", &format!("x-{n}"), Status::Success));
        early += usize::from(log.after(1).apply(entry).forgotten_early);
    }
    // Four fifths of what the other leaves.
    assert_eq!(early, 1_000 - 80);
    assert!(!log.apply(Entry::Mark).forgotten_early);
    assert_eq!(log.result(assigned("beta", "x-1", Status::Success)), Disposition::Duplicate);
    assert_eq!(log.result(assigned("acme", "x-999", Status::Success)), Disposition::Duplicate);
    assert_eq!(log.result(assigned("acme", "x-0", Status::Success)), Disposition::Applied);
}

#[test]
fn usage_is_metered_once_for_each_result_that_is_one() {
    let mut log = Log::acme();
    let metering = |log: &Log| log.verdicts.metering(log.at.position);
    assert_eq!(log.verdicts.metering(log.at.position + 1), Metering::Wait);
    log.result(assigned("acme", "x-1", Status::Success));
    assert_eq!(metering(&log), Metering::Meter);
    log.result(assigned("acme", "x-1", Status::Success));
    assert_eq!(metering(&log), Metering::Skip);
    log.ended(ended("acme", "a", "r2", "x-2"));
    assert_eq!(metering(&log), Metering::Forgotten);
    log.result(assigned("acme", "x-2", Status::Success));
    assert_eq!(metering(&log), Metering::Meter);
    log.ends("acme", "a", Status::Cancelled);
    assert_eq!(metering(&log), Metering::Meter);
    log.ends("nobody", "a", Status::Success);
    assert_eq!(metering(&log), Metering::Skip);
    let applied = log.apply(Entry::Rejected);
    assert_eq!(applied.what, What::Result { status: None, disposition: Disposition::Rejected });
    assert_eq!(metering(&log), Metering::Skip);
}

#[test]
fn results_show_in_the_means_that_requests_see_until_the_window_is_emptied() {
    let mut log = Log::acme();
    let timed = |id, ms| Outcome { latency_ms: Some(ms), ..outcome("acme", "a", Status::Success, id) };
    log.result(timed(1, 100));
    log.result(timed(2, 300));
    let observed = |log: &Log| log.cell("acme", "a").observed(log.tick()).latency_ms;
    assert_eq!(observed(&log), 200);
    // Off and on again is closed and empty, even where nothing that shows has changed.
    log.flag(Scope::Global, false);
    assert_eq!(observed(&log), 0);
    log.flag(Scope::Global, true);
    log.result(timed(3, 500));
    assert_eq!(observed(&log), 500);
    log.apply(Entry::Reset(command("acme", "a", None, None)));
    assert_eq!(observed(&log), 0);
}

#[test]
fn entries_read_while_catching_up_change_state_and_count_nothing() {
    let mut log = Log::with(OFFSET, false);
    log.put("acme", "p", document(&["a"]));
    log.half_open();
    log.result(outcome("acme", "a", Status::Error, 99));
    log.result(outcome("acme", "a", Status::Error, 99));
    log.ended(ended("acme", "a", "r1", "x-1"));
    log.after(MINUTE_MS).claim("acme", "a", 2);
    log.after(MINUTE_MS).claim("acme", "a", 3);
    log.force(ForceTo::Closed, None);
    log.flag(Scope::Global, false);
    assert_eq!(log.counters("acme", "a"), Counters::default());
    let view = log.view("acme", "a");
    assert_eq!((view.trips, view.suspended, view.forced), (2, true, Some((Shown::Closed, None))));
    log.live = true;
    log.flag(Scope::Global, true);
    log.fail("acme", "a", 4);
    assert_eq!(log.counters("acme", "a").failure, 4);
}
