use super::*;

fn tick(seconds: u64) -> Tick {
    Tick(NOW.0 + seconds * 1_000)
}

#[test]
fn a_settled_run_counts_each_refusal_once() {
    let state = State::new(true);
    let cells = ["a", "b", "c"].map(|p| cell("acme", p, |_| {})).into_iter().collect();
    let routable = Routable { policy: Arc::new(single()), revision: 1, cells, step: None };
    fail(&routable.cells[0], NOW);
    fail(&routable.cells[1], NOW);
    let mut asking = Asking::new(&state, &routable, "r", NOW, &[]);
    assert_eq!((0..3).map(|c| asking.admit(c)).filter(|a| *a == Admission::Pass).count(), 1);
    let mut told = Vec::new();
    asking.settle(|cell, stands_for| told.push((cell.provider_id.to_string(), stands_for)));
    assert_eq!(told, [("a".to_owned(), 1), ("b".to_owned(), 1)]);
    let counts: Vec<_> = routable.cells.iter().map(|c| c.refusals().0).collect();
    assert_eq!(counts, [1, 1, 0]);
}

#[test]
fn a_log_line_is_due_at_once_and_then_every_ten_seconds_for_all_in_between() {
    let bench = Bench::open(|_| {});
    let due = |at| bench.cell().count_fail_fast(at);
    assert_eq!(due(tick(0)), Some(1));
    for n in 0..500 {
        assert_eq!(due(tick(n / 60)), None);
    }
    assert_eq!(due(Tick(tick(10).0 - 1)), None);
    assert_eq!(due(tick(10)), Some(502));
    assert_eq!(due(tick(19)), None);
    assert_eq!(due(tick(1_000)), Some(2));
    assert_eq!(bench.refusals(), (505, 0));
}

#[test]
fn saved_calls_are_the_failures_share_when_it_opened_for_each_enforced_refusal() {
    let bench = Bench::closed(|d| (d.failure_threshold, d.minimum_requests) = (3, 100));
    apply(bench.cell(), Input::Result(&outcome(Status::Success, None, None)), NOW);
    for _ in 0..3 {
        fail(bench.cell(), NOW);
    }
    for _ in 0..8 {
        bench.cell().count_fail_fast(NOW);
    }
    bench.cell().count_would_reject();
    let (enforced, not, saved) = bench.cell().refusals();
    assert_eq!((enforced, not), (8, 1));
    assert!((saved - 6.0).abs() < 1e-6, "{saved}");
}

#[test]
fn means_are_told_from_the_last_result_until_it_is_a_window_old() {
    let cell = cell("acme", "a", |d| (d.failure_threshold, d.error_rate_window_seconds) = (100, 60));
    assert_eq!(cell.observed(NOW), Observed::default());
    for (at, latency, cost) in [(0, 100, 1_000_000), (1, 200, 2_000_000), (2, 301, 3_000_000)] {
        apply(&cell, Input::Result(&outcome(Status::Success, Some(latency), Some(cost))), tick(at));
        cell.publish_means(&cell.lock(), OFFSET.to_stamp(tick(at)), OFFSET);
    }
    let means = Observed { latency_ms: 200, cost_nanos: 2_000_000 };
    assert_eq!(cell.observed(tick(2)), means);
    assert_eq!(cell.observed(Tick(tick(62).0 - 1)), means);
    assert_eq!(cell.observed(tick(62)), Observed::default());
}

#[test]
fn a_request_sees_its_candidates_means() {
    let bench = Bench::closed(|_| {});
    apply(bench.cell(), Input::Result(&outcome(Status::Success, Some(850), Some(12_000_000))), NOW);
    bench.cell().publish_means(&bench.cell().lock(), START, OFFSET);
    let asking = bench.asking("r", NOW, &[]);
    assert_eq!(asking.observed(0), Observed { latency_ms: 850, cost_nanos: 12_000_000 });
    assert_eq!(asking.observed(1), Observed::default());
}

#[test]
fn a_gate_is_read_by_this_workers_own_clock() {
    let cell = cell("acme", "a", |_| {});
    fail(&cell, NOW);
    // A worker whose clock started later has smaller ticks for the same moments.
    let later = Offset(OFFSET.0 + 1_000_000);
    cell.publish(&cell.lock(), later);
    let until = Tick(DEADLINE.0 - 1_000_000);
    assert!(matches!(cell.read(Tick(until.0 - 1)), Reading::Refuse { retry_after_ms: 1, .. }));
    assert!(matches!(cell.read(until), Reading::Claim { free: 3, .. }));
}
