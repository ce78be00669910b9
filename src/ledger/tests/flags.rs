use super::*;
use crate::state::Reading;

fn window(log: &Log, tenant_id: &str) -> (u32, u32) {
    let counts = log.view(tenant_id, "a").window;
    (counts.requests, counts.failures)
}

#[test]
fn while_a_flag_is_off_results_are_counted_and_nothing_is_judged_or_refused() {
    let mut log = Log::acme();
    log.trip();
    let applied = log.flag(Scope::Global, false);
    assert_eq!(moves(&applied), [(Shown::Open, Shown::Closed, Cause::Flag)]);
    assert_eq!(log.cell("acme", "a").read(log.tick()), Reading::Pass);
    for _ in 0..20 {
        assert_eq!(log.ends("acme", "a", Status::Error), Disposition::Applied);
    }
    assert_eq!((log.shown("acme", "a"), window(&log, "acme")), (Shown::Closed, (20, 20)));
    assert_eq!(log.cell("acme", "a").read(log.tick()), Reading::Pass);
    assert_eq!(log.counters("acme", "a").failure, 23);
    assert_eq!(log.claim("acme", "a", 1), Some(Verdict::NotNeeded));
}

#[test]
fn when_a_flag_is_on_again_breakers_start_closed_and_empty() {
    let mut log = Log::acme();
    log.flag(Scope::Global, false);
    log.fail("acme", "a", 20);
    log.flag(Scope::Global, true);
    let view = log.view("acme", "a");
    assert_eq!((view.state, view.window.requests, view.failures_in_a_row), (Shown::Closed, 0, 0));
    log.fail("acme", "a", 2);
    assert_eq!(log.shown("acme", "a"), Shown::Closed);
    log.fail("acme", "a", 1);
    assert_eq!(log.shown("acme", "a"), Shown::Open);
}

#[test]
fn a_tenants_flag_is_for_that_tenant_alone() {
    let mut log = Log::acme();
    log.put("beta", "p", document(&["a"]));
    log.flag(scope_of("acme"), false);
    log.fail("acme", "a", 9).fail("beta", "a", 3);
    assert_eq!((log.shown("acme", "a"), log.shown("beta", "a")), (Shown::Closed, Shown::Open));
    assert!(log.view("acme", "a").suspended && !log.view("beta", "a").suspended);
}

#[test]
fn breakers_judge_only_while_both_the_worlds_and_the_tenants_flag_are_on() {
    let rows = [(true, true), (true, false), (false, true), (false, false)];
    for (world, own) in rows {
        let mut log = Log::acme();
        log.flag(scope_of("acme"), own);
        log.flag(Scope::Global, world);
        assert_eq!(log.view("acme", "a").suspended, !(world && own), "{world} {own}");
        assert_eq!(log.fold.flags().enabled(&tenant("acme")), world && own);
        log.fail("acme", "a", 3);
        assert_eq!(log.shown("acme", "a") == Shown::Open, world && own);
    }
}

#[test]
fn a_breaker_made_while_its_flag_is_off_does_not_judge_until_it_is_on() {
    for scope in [Scope::Global, scope_of("acme")] {
        let mut log = Log::new();
        log.flag(scope.clone(), false);
        log.put("acme", "p", document(&["a"]));
        log.fail("acme", "a", 9);
        assert_eq!((log.shown("acme", "a"), window(&log, "acme")), (Shown::Closed, (9, 9)));
        assert_eq!(log.cell("acme", "a").read(log.tick()), Reading::Pass);
        log.flag(scope, true);
        assert_eq!(window(&log, "acme"), (0, 0));
        log.trip();
    }
}

#[test]
fn an_older_flag_changes_nothing() {
    let mut log = Log::acme();
    let at = |created, revision| Revision { created, revision };
    let newer = |log: &mut Log, revision, on| log.apply(flag_entry(Scope::Global, revision, on)).what;
    assert_eq!(newer(&mut log, at(1, 50), false), What::Flag { newer: true });
    log.fail("acme", "a", 5);
    for old in [at(1, 49), at(1, 50), at(0, 99)] {
        assert_eq!(newer(&mut log, old, true), What::Flag { newer: false });
        assert!(log.view("acme", "a").suspended);
    }
    assert_eq!(window(&log, "acme"), (5, 5));
    assert_eq!(newer(&mut log, at(2, 1), true), What::Flag { newer: true });
    assert!(!log.view("acme", "a").suspended);
}

#[test]
fn a_flag_set_to_what_it_is_leaves_breakers_as_they_are() {
    let mut log = Log::acme();
    log.fail("acme", "a", 2);
    assert!(log.flag(Scope::Global, true).moved.is_empty());
    assert_eq!(log.view("acme", "a").failures_in_a_row, 2);
    log.trip();
    assert!(log.flag(scope_of("acme"), true).moved.is_empty());
    assert_eq!(log.shown("acme", "a"), Shown::Open);
}

#[test]
fn a_flag_tells_of_every_breaker_that_it_moves_in_order() {
    let mut log = Log::new();
    for t in ["zeta", "acme", "beta"] {
        log.put(t, "p", document(&["b", "a", "c"]));
        log.fail(t, "a", 3).fail(t, "c", 3);
    }
    let applied = log.flag(Scope::Global, false);
    let told: Vec<_> =
        applied.moved.iter().map(|m| format!("{}/{}", m.cell.tenant_id, m.cell.provider_id)).collect();
    assert_eq!(told, ["acme/a", "acme/c", "beta/a", "beta/c", "zeta/a", "zeta/c"]);
}
