use super::*;
use crate::state::Reading;

#[test]
fn a_forced_state_outlives_results() {
    let mut log = Log::acme();
    assert_eq!(log.force(ForceTo::Closed, None).what, What::Command { found: true });
    log.fail("acme", "a", 50);
    assert_eq!(log.shown("acme", "a"), Shown::Closed);
    log.force(ForceTo::Open, None);
    for _ in 0..50 {
        log.ends("acme", "a", Status::Success);
    }
    assert_eq!(log.shown("acme", "a"), Shown::Open);
    assert!(matches!(log.cell("acme", "a").read(log.tick()), Reading::Refuse { .. }));
}

#[test]
fn a_force_outlives_flags_and_resets_and_policies() {
    let mut log = Log::acme();
    log.force(ForceTo::Open, None);
    assert_eq!(log.apply(Entry::Reset(command("acme", "a", None, None))).what, What::Command { found: true });
    assert_eq!(log.shown("acme", "a"), Shown::Open);
    log.put("acme", "p", document(&["a", "b"]));
    assert_eq!(log.shown("acme", "a"), Shown::Open);
    // The flag lies over it, and takes nothing away.
    log.flag(Scope::Global, false);
    assert_eq!(log.cell("acme", "a").read(log.tick()), Reading::Pass);
    assert!(log.view("acme", "a").forced.is_some());
    log.flag(Scope::Global, true);
    assert_eq!(log.shown("acme", "a"), Shown::Open);
}

#[test]
fn a_force_while_the_flag_is_off_shows_once_it_is_on() {
    let mut log = Log::acme();
    log.flag(Scope::Global, false);
    log.force(ForceTo::Open, None);
    assert_eq!(log.shown("acme", "a"), Shown::Closed);
    log.flag(Scope::Global, true);
    assert_eq!(log.shown("acme", "a"), Shown::Open);
}

#[test]
fn auto_lets_the_breaker_judge_again_half_open_after_open_and_closed_after_closed() {
    let mut log = Log::acme();
    log.force(ForceTo::Open, None);
    let applied = log.force(ForceTo::Auto, None);
    assert_eq!(moves(&applied), [(Shown::Open, Shown::HalfOpen, Cause::ForceLifted)]);
    assert_eq!(log.claim("acme", "a", 1), Some(Verdict::Granted));
    log.force(ForceTo::Closed, None);
    log.fail("acme", "a", 5);
    log.force(ForceTo::Auto, None);
    let view = log.view("acme", "a");
    assert_eq!((view.state, view.window.requests), (Shown::Closed, 0));
    assert!(log.force(ForceTo::Auto, None).moved.is_empty());
}

#[test]
fn a_force_with_a_time_to_live_ends_at_the_first_entry_after_it() {
    let mut log = Log::acme();
    log.force(ForceTo::Open, Some(5_000));
    log.after(4_999).ends("acme", "a", Status::Success);
    assert_eq!(log.shown("acme", "a"), Shown::Open);
    assert!(matches!(log.cell("acme", "a").read(log.tick()), Reading::Refuse { retry_after_ms: 1, .. }));
    log.after(1);
    assert_eq!(log.claim("acme", "a", 1), Some(Verdict::Granted));
    assert_eq!(log.shown("acme", "a"), Shown::HalfOpen);
}

#[test]
fn a_reset_closes_and_forgets() {
    let mut log = Log::acme();
    log.trip();
    let applied = log.apply(Entry::Reset(command("acme", "a", None, None)));
    assert_eq!(moves(&applied), [(Shown::Open, Shown::Closed, Cause::Reset)]);
    let view = log.view("acme", "a");
    assert_eq!((view.window.requests, view.failures_in_a_row, view.trips), (0, 0, 0));
    assert_eq!(log.cell("acme", "a").read(log.tick()), Reading::Pass);
}

#[test]
fn a_reset_is_a_reset_whatever_state_its_entry_names() {
    let mut log = Log::acme();
    log.trip();
    log.apply(Entry::Reset(command("acme", "a", Some(ForceTo::Open), None)));
    let view = log.view("acme", "a");
    assert_eq!((view.state, view.forced), (Shown::Closed, None));
}

#[test]
fn results_of_calls_from_before_a_command_are_late() {
    let mut log = Log::acme();
    log.after(1_000).force(ForceTo::Open, None);
    log.after(10).force(ForceTo::Auto, None);
    log.after(10);
    let slow = Outcome { latency_ms: Some(11), ..outcome("acme", "a", Status::Error, 1) };
    assert_eq!(log.result(slow), Disposition::Late);
}
