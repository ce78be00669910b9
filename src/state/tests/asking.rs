use super::breaker::State::{HalfOpen, Open};
use super::*;

#[test]
fn a_closed_breaker_lets_everyone_pass_without_a_claim() {
    let bench = Bench::closed(|_| {});
    assert_eq!(bench.ask("r", NOW), Admission::Pass);
    bench.state.set_log_in_reach(false);
    assert_eq!(bench.ask("r", NOW), Admission::Pass);
}

#[test]
fn an_open_breaker_refuses_until_its_deadline_and_is_worth_a_claim_from_then_on() {
    let bench = Bench::open(|_| {});
    assert_eq!(bench.ask("r", NOW), refused(Open, TIMEOUT_MS));
    assert_eq!(bench.ask("r", Tick(DEADLINE.0 - 1)), refused(Open, 1));
    assert_eq!(bench.ask("r", DEADLINE), Admission::Claim);
    assert_eq!(bench.ask("r", Tick(DEADLINE.0 + 86_400_000)), Admission::Claim);
}

#[test]
fn a_breaker_forced_open_for_ever_is_never_worth_a_claim() {
    let bench = Bench::closed(|_| {});
    apply(bench.cell(), Input::Force { to: Open, ttl_ms: None }, NOW);
    assert_eq!(bench.ask("r", NOW), refused(Open, 60_000));
    assert_eq!(bench.ask("r", Tick(u64::MAX)), refused(Open, 60_000));
}

#[test]
fn half_open_asks_for_a_claim_while_slots_are_free_and_refuses_when_none_is() {
    let bench = Bench::half_open(|d| d.half_open_max_calls = 2);
    assert_eq!(bench.ask("r", DEADLINE), Admission::Claim);
    claim(bench.cell(), "second", DEADLINE);
    assert_eq!(bench.ask("r", DEADLINE), refused(HalfOpen, 1_000));
    // The leases of 30 s end without an answer.
    assert_eq!(bench.ask("r", Tick(DEADLINE.0 + 29_999)), refused(HalfOpen, 1));
    assert_eq!(bench.ask("r", Tick(DEADLINE.0 + 30_000)), Admission::Claim);
}

#[test]
fn a_granted_claim_makes_the_request_a_probe_even_when_it_took_the_last_slot() {
    let roomy = Bench::half_open(|d| d.half_open_max_calls = 2);
    assert_eq!(roomy.ask_after(Answer::Granted, DEADLINE), Admission::Probe);
    let full = Bench::half_open(|d| d.half_open_max_calls = 1);
    assert_eq!(full.ask("other", DEADLINE), refused(HalfOpen, 1_000));
    assert_eq!(full.ask_after(Answer::Granted, DEADLINE), Admission::Probe);
}

#[test]
fn a_slot_that_this_worker_holds_and_nobody_uses_is_worth_a_claim_though_none_is_free() {
    let full = Bench::half_open(|d| (d.half_open_max_calls, d.enforce_percent) = (1, 50));
    let (enforced, spared) = (request_where(true, 50), request_where(false, 50));
    assert_eq!(full.ask(&enforced, DEADLINE), refused(HalfOpen, 1_000));
    full.cell().set_late_grants(1);
    assert_eq!(full.ask(&enforced, DEADLINE), Admission::Claim);
    assert_eq!(full.ask(&spared, DEADLINE), Admission::WouldReject(HalfOpen));
    let asked = [(0, Answer::Refused { state: HalfOpen, retry_after_ms: 321 })];
    assert_eq!(full.asking(&enforced, DEADLINE, &asked).admit(0), refused(HalfOpen, 1_000), "once");
    full.state.set_log_in_reach(false);
    assert_eq!(full.ask(&enforced, DEADLINE), refused(HalfOpen, 1_000), "nobody can take it over");
    full.state.set_log_in_reach(true);
    full.cell().set_late_grants(0);
    assert_eq!(full.ask(&enforced, DEADLINE), refused(HalfOpen, 1_000));
    let open = Bench::open(|_| {});
    open.cell().set_late_grants(1);
    assert_eq!(open.ask("r", NOW), refused(Open, TIMEOUT_MS), "it reopened");
}

#[test]
fn a_granted_claim_is_lost_when_the_breaker_reopened_since() {
    let bench = Bench::open(|_| {});
    assert_eq!(bench.ask_after(Answer::Granted, NOW), refused(Open, TIMEOUT_MS));
    // Open past its deadline: the slot was one of an earlier half-open time.
    assert_eq!(bench.ask_after(Answer::Granted, DEADLINE), refused(Open, 1_000));
}

#[test]
fn a_granted_claim_of_a_breaker_that_closed_since_is_an_ordinary_call() {
    let bench = Bench::closed(|_| {});
    assert_eq!(bench.ask_after(Answer::Granted, NOW), Admission::Pass);
}

#[test]
fn a_claim_that_was_not_needed_passes_unless_the_breaker_reopened_since() {
    assert_eq!(Bench::closed(|_| {}).ask_after(Answer::NotNeeded, NOW), Admission::Pass);
    assert_eq!(Bench::open(|_| {}).ask_after(Answer::NotNeeded, NOW), refused(Open, TIMEOUT_MS));
    assert_eq!(Bench::half_open(|_| {}).ask_after(Answer::NotNeeded, DEADLINE), refused(HalfOpen, 1_000));
}

#[test]
fn a_refused_claim_is_not_made_again() {
    let bench = Bench::half_open(|_| {});
    let answer = Answer::Refused { state: HalfOpen, retry_after_ms: 321 };
    assert_eq!(bench.ask_after(answer, DEADLINE), refused(HalfOpen, 321));
    // Unless it closed meanwhile.
    assert_eq!(Bench::closed(|_| {}).ask_after(answer, NOW), Admission::Pass);
}

#[test]
fn an_answer_for_one_candidate_says_nothing_of_another() {
    let bench = Bench::half_open(|_| {});
    assert_eq!(bench.asking("r", DEADLINE, &[(1, Answer::Granted)]).admit(0), Admission::Claim);
}

#[test]
fn with_the_log_out_of_reach_whatever_needs_a_claim_is_refused_for_a_second() {
    let half_open = Bench::half_open(|_| {});
    half_open.state.set_log_in_reach(false);
    assert_eq!(half_open.ask("r", DEADLINE), refused(HalfOpen, 1_000));
    let open = Bench::open(|_| {});
    open.state.set_log_in_reach(false);
    assert_eq!(open.ask("r", DEADLINE), refused(Open, 1_000));
    // What was known before holds on.
    assert_eq!(open.ask("r", NOW), refused(Open, TIMEOUT_MS));
    // And a slot that is held is held.
    assert_eq!(half_open.ask_after(Answer::Granted, DEADLINE), Admission::Probe);
    half_open.state.set_log_in_reach(true);
    assert_eq!(half_open.ask("r", DEADLINE), Admission::Claim);
}

#[test]
fn a_worker_whose_own_switch_is_off_refuses_nothing_and_counts_nothing() {
    for bench in [Bench::open(|_| {}), Bench::half_open(|d| d.half_open_max_calls = 1)] {
        let bench = Bench { state: State::new(false), ..bench };
        assert!(!bench.state.enforcing());
        for at in [NOW, DEADLINE] {
            let mut asking = bench.asking("r", at, &[]);
            assert_eq!(asking.admit(0), Admission::Pass);
            assert!(asking.settle(|_, _| panic!("nothing to log")).is_none());
        }
        apply(bench.cell(), Input::Force { to: Open, ttl_ms: None }, NOW);
        assert_eq!(bench.ask("r", NOW), Admission::Pass);
        assert_eq!(bench.refusals(), (0, 0));
    }
}

#[test]
fn both_arms_meet_a_breaker_by_one_rule() {
    let to = |probe| {
        let reason = crate::domain::Reason::Weighted;
        Routed::To(Choice { candidate: 0, reason, probe, sticky_key: None, backoff_ms: None })
    };
    let closed = Bench::closed(|_| {});
    let mut asking = closed.asking("r", NOW, &[]);
    asking.admit(0);
    assert_eq!(asking.fate(&to(false)), None);
    for (percent, other) in [(100, Fate::FellBack), (0, Fate::Spared)] {
        let open = Bench::open(|d| d.enforce_percent = percent);
        let mut asking = open.asking("r", NOW, &[]);
        assert_eq!(asking.fate(&to(false)), None, "it has asked nobody");
        asking.admit(0);
        assert_eq!(asking.fate(&to(false)), Some(other));
        assert_eq!(asking.fate(&Routed::CircuitOpen(Vec::new())), Some(Fate::NoProvider));
    }
    let half_open = Bench::half_open(|_| {});
    let granted = [(0, Answer::Granted)];
    let mut asking = half_open.asking("r", NOW, &granted);
    asking.admit(0);
    assert_eq!(asking.fate(&to(true)), Some(Fate::Probed));
    // It closed while the claim was under way.
    let not_needed = [(0, Answer::NotNeeded)];
    assert_eq!(closed.asking("r", NOW, &not_needed).fate(&to(false)), Some(Fate::Spared));
}

#[test]
fn a_policy_with_its_breakers_off_is_refused_nothing_by_what_another_has_switched_on() {
    let off = |bench: Bench| {
        let routable = Routable { policy: Arc::new(policy_with(false)), ..bench.routable };
        Bench { routable, ..bench }
    };
    let benches =
        [Bench::open(|_| {}), Bench::half_open(|_| {}), Bench::half_open(|d| d.half_open_max_calls = 1)]
            .map(off);
    for bench in benches {
        for at in [NOW, DEADLINE] {
            let mut asking = bench.asking("r", at, &[]);
            assert_eq!(asking.admit(0), Admission::Pass);
            assert!(asking.settle(|_, _| panic!("nothing to log")).is_none());
        }
        assert_eq!(bench.refusals(), (0, 0));
    }
}

#[test]
fn an_operators_force_holds_for_a_policy_with_its_breakers_off_too() {
    let bench = Bench::closed(|_| {});
    let routable = Routable { policy: Arc::new(policy_with(false)), ..bench.routable };
    let bench = Bench { routable, ..bench };
    apply(bench.cell(), Input::Force { to: Open, ttl_ms: Some(5_000) }, NOW);
    assert_eq!(bench.ask("r", NOW), refused(Open, 5_000));
    assert_eq!(bench.ask("r", Tick(NOW.0 + 5_000)), Admission::Pass);
    apply(bench.cell(), Input::Suspend(true), NOW);
    assert_eq!(bench.ask("r", NOW), Admission::Pass);
    apply(bench.cell(), Input::Suspend(false), NOW);
    apply(bench.cell(), Input::Force { to: breaker::State::Closed, ttl_ms: None }, NOW);
    assert_eq!(bench.ask("r", NOW), Admission::Pass);
    apply(bench.cell(), Input::Unforce, NOW);
    fail(bench.cell(), NOW);
    assert_eq!(bench.ask("r", NOW), Admission::Pass);
}
