use super::*;
use crate::state::Reading;

fn tell_time(log: &mut Log, stamp: Stamp) {
    log.at.stamp = stamp;
    assert_eq!(log.apply(Entry::Unknown).what, What::Unknown);
}

#[test]
fn fold_time_is_the_greatest_stamp_and_never_goes_a_little_backwards() {
    let mut log = Log::acme();
    tell_time(&mut log, START.plus(1_000));
    for behind in [0, 1, 999, 5 * MINUTE_MS] {
        tell_time(&mut log, START.plus(1_000).minus(behind));
        assert_eq!(log.fold.now(), START.plus(1_000), "{behind}");
    }
    assert_eq!(log.fold.at(), log.at);
    tell_time(&mut log, START.plus(1_001));
    assert_eq!(log.fold.now(), START.plus(1_001));
}

#[test]
fn a_stamp_a_bit_behind_counts_as_the_time_that_was() {
    let mut log = Log::acme();
    log.trip().after(TIMEOUT_MS);
    let deadline = log.at.stamp;
    tell_time(&mut log, deadline);
    log.at.stamp = log.at.stamp.minus(MINUTE_MS);
    let entry = claim_entry("acme", "a", 1, log.fold.now());
    assert_eq!(
        log.apply(Entry::Claim(entry)).what,
        What::Claim { claim: ClaimId(1), verdict: Some(Verdict::Granted) }
    );
    assert_eq!(log.view("acme", "a").since, log.fold.now());
}

#[test]
fn a_stamp_more_than_five_minutes_behind_sets_time_back() {
    let mut log = Log::acme();
    let back = START.plus(MINUTE_MS);
    tell_time(&mut log, START.plus(60 * MINUTE_MS));
    tell_time(&mut log, back);
    assert_eq!(log.fold.now(), back);
    tell_time(&mut log, back.plus(1));
    assert_eq!(log.fold.now(), back.plus(1));
}

#[test]
fn where_time_is_set_back_windows_empty_and_open_times_start_anew() {
    let mut log = Log::acme();
    log.put("beta", "p", document(&["a"]));
    log.at.stamp = START.plus(60 * MINUTE_MS);
    log.trip().fail("beta", "a", 2);
    log.after(TIMEOUT_MS - 1);
    let back = START.plus(MINUTE_MS);
    log.at.stamp = back;
    assert_eq!(
        log.claim("acme", "a", 1),
        Some(Verdict::Refused { state: Shown::Open, retry_after_ms: TIMEOUT_MS })
    );
    let beta = log.view("beta", "a");
    assert_eq!((beta.window.requests, beta.failures_in_a_row, beta.state), (0, 0, Shown::Closed));
    let gate = log.cell("acme", "a").read(log.tick());
    assert!(matches!(gate, Reading::Refuse { retry_after_ms: TIMEOUT_MS, .. }), "{gate:?}");
    log.after(TIMEOUT_MS);
    assert_eq!(log.claim("acme", "a", 2), Some(Verdict::Granted));
}

#[test]
fn a_time_set_back_counts_its_own_entry_under_the_new_time() {
    let mut log = Log::acme();
    log.at.stamp = START.plus(60 * MINUTE_MS);
    log.fail("acme", "a", 2);
    log.at.stamp = START;
    log.fail("acme", "a", 1);
    let view = log.view("acme", "a");
    assert_eq!((view.window.failures, view.failures_in_a_row, view.state), (1, 1, Shown::Closed));
}

#[test]
fn means_do_not_outlive_the_window_when_time_is_set_back() {
    let mut log = Log::acme();
    log.at.stamp = START.plus(60 * MINUTE_MS);
    log.result(Outcome { latency_ms: Some(500), ..outcome("acme", "a", Status::Success, 1) });
    tell_time(&mut log, START);
    assert_eq!(log.cell("acme", "a").observed(log.tick()).latency_ms, 0);
}

#[test]
fn a_force_that_ends_while_time_is_set_back_is_told_for_each_breaker_in_order() {
    let mut log = Log::new();
    for t in ["zeta", "acme"] {
        log.put(t, "p", document(&["b", "a"]));
        for p in ["b", "a"] {
            log.apply(Entry::Force(command(t, p, Some(ForceTo::Open), Some(1_000))));
        }
    }
    // Nothing is said to these breakers until the time of a wrong clock is taken back.
    tell_time(&mut log, START.plus(60 * MINUTE_MS));
    log.at.stamp = START.plus(10 * MINUTE_MS);
    let applied = log.apply(Entry::Unknown);
    let told: Vec<_> = applied
        .moved
        .iter()
        .map(|m| format!("{}/{} {}", m.cell.tenant_id, m.cell.provider_id, m.transition.cause.as_str()))
        .collect();
    assert_eq!(told, ["acme/a", "acme/b", "zeta/a", "zeta/b"].map(|k| format!("{k} force_lifted")));
    let counted = log.counters("acme", "a").transitions().map(|(from, to, _)| (from, to)).collect::<Vec<_>>();
    assert_eq!(counted, [(Shown::Closed, Shown::Open), (Shown::Open, Shown::HalfOpen)]);
}

#[test]
fn the_age_of_a_log_costs_nothing() {
    let mut log = Log::acme();
    log.fail("acme", "a", 2);
    log.after(100 * 86_400_000);
    log.fail("acme", "a", 2);
    let view = log.view("acme", "a");
    assert_eq!((view.state, view.window.requests, view.failures_in_a_row), (Shown::Closed, 2, 2));
}

#[test]
fn a_local_clock_that_jumps_an_hour_either_way_moves_nothing_in_any_state() {
    const HOUR_MS: i64 = 3_600_000;
    /// What happens from the first failure to the close, with the local clock jumping before one step.
    fn story(jump: Option<(usize, i64)>) -> Vec<(String, View, u64)> {
        type Deed = fn(&mut Log) -> String;
        let deeds: [(u64, Deed); 9] = [
            (0, |log| format!("{:?}", log.ends("acme", "a", Status::Error))),
            (10, |log| format!("{:?}", log.ends("acme", "a", Status::Error))),
            (10, |log| format!("{:?}", log.ends("acme", "a", Status::Error))),
            // Open.
            (10, |log| format!("{:?}", log.claim("acme", "a", 1))),
            (10, |log| format!("{:?}", log.ends("acme", "a", Status::Success))),
            (TIMEOUT_MS, |log| format!("{:?}", log.claim("acme", "a", 2))),
            // Half-open.
            (10, |log| format!("{:?}", log.claim("acme", "a", 3))),
            (10, |log| {
                let probe = |n: u64| Outcome {
                    request_id: Some(Cow::Owned(format!("r{n}"))),
                    ..outcome("acme", "a", Status::Success, 1_000 + n)
                };
                format!("{:?} {:?}", log.result(probe(2)), log.result(probe(3)))
            }),
            // Closed again.
            (10, |log| format!("{:?}", log.ends("acme", "a", Status::Error))),
        ];
        let mut log = Log::acme();
        let mut told = Vec::new();
        for (n, (after, deed)) in deeds.into_iter().enumerate() {
            if let Some((_, by)) = jump.filter(|(at, _)| *at == n) {
                log.offset = Offset(log.offset.0 + by);
            }
            let what = deed(log.after(after));
            told.push((what, log.view("acme", "a"), log.fold.digest()));
        }
        told
    }
    let calm = story(None);
    let states: Vec<_> = calm.iter().map(|(_, view, _)| view.state).collect();
    assert_eq!(
        states[2..9],
        [
            Shown::Open,
            Shown::Open,
            Shown::Open,
            Shown::HalfOpen,
            Shown::HalfOpen,
            Shown::Closed,
            Shown::Closed
        ]
    );
    for at in 0..calm.len() {
        for by in [-HOUR_MS, HOUR_MS] {
            assert_eq!(story(Some((at, by))), calm, "a jump by {by} before step {at}");
        }
    }
}
