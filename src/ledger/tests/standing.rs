//! For which keys a breaker stands.

use super::*;

#[test]
fn a_breaker_stands_for_each_provider_that_some_policy_names_and_for_no_other() {
    let mut log = Log::new();
    assert!(log.standing().is_empty());
    let mut with_target = document(&["a", "b"]);
    with_target["fallbacks"] = json!([{"to": "local"}, {"to": "a"}]);
    log.put("acme", "p", with_target);
    assert_eq!(log.standing(), ["acme/a", "acme/b", "acme/local"]);
    log.put("acme", "q", document(&["b", "c"]));
    log.put("beta", "p", document(&["a"]));
    assert_eq!(log.standing(), ["acme/a", "acme/b", "acme/c", "acme/local", "beta/a"]);
    log.put("acme", "p", document(&["a"]));
    assert_eq!(log.standing(), ["acme/a", "acme/b", "acme/c", "beta/a"]);
    log.delete("acme", "q");
    log.delete("beta", "p");
    assert_eq!(log.standing(), ["acme/a"]);
    assert_eq!(log.state.breaker_count(), 1);
}

#[test]
fn a_breaker_without_a_block_in_its_policy_stands_and_counts() {
    let mut log = Log::new();
    log.put("acme", "p", json!({"providers": [{"name": "a", "weight": 1}]}));
    log.fail("acme", "a", 200);
    let view = log.view("acme", "a");
    assert_eq!((view.state, view.window.failures), (Shown::Closed, 200));
}

#[test]
fn a_new_revision_keeps_the_evidence_and_a_provider_that_was_gone_starts_without() {
    let mut log = Log::acme();
    log.fail("acme", "a", 2);
    log.put("acme", "p", document(&["a", "b"]));
    assert_eq!(log.view("acme", "a").failures_in_a_row, 2);
    log.put("acme", "p", document(&["b"]));
    log.put("acme", "p", document(&["a", "b"]));
    let view = log.view("acme", "a");
    assert_eq!((view.failures_in_a_row, view.window.requests, view.trips), (0, 0, 0));
}

#[test]
fn one_tenants_failures_never_move_anothers_breaker() {
    let mut log = Log::acme();
    log.put("beta", "p", document(&["a"]));
    log.trip();
    assert_eq!(log.view("beta", "a").window.requests, 0);
    assert_eq!(log.shown("beta", "a"), Shown::Closed);
}

#[test]
fn a_hundred_thousand_invented_tenants_leave_nothing_behind() {
    let mut log = Log::acme();
    log.fail("acme", "a", 1);
    let (digest, seen, counters) = (log.fold.digest(), log.fold.seen.len(), log.counters("acme", "a"));
    for n in 0..100_000_u64 {
        let invented = format!("invented-{n}");
        let entry = match n % 5 {
            0 => Entry::Result(outcome(&invented, "a", Status::Error, 1_000 + n)),
            1 => Entry::Result(outcome("acme", &invented, Status::Error, 1_000 + n)),
            2 => Entry::Ended(ended(&invented, "a", "r", &invented)),
            3 => Entry::Claim(claim_entry(&invented, "a", n, log.at.stamp)),
            _ => Entry::Release(claim_entry(&invented, "a", n, log.at.stamp)),
        };
        let applied = log.apply(entry);
        assert!(applied.moved.is_empty());
        match applied.what {
            What::Result { disposition, .. } => assert_eq!(disposition, Disposition::Rejected),
            What::Ended { judged } => assert!(!judged),
            What::Claim { verdict, .. } => assert_eq!(verdict, None),
            other => assert_eq!(other, What::Release),
        }
    }
    assert_eq!(log.state.breaker_count(), 1);
    assert_eq!(log.fold.seen.len(), seen);
    assert_eq!(log.fold.digest(), digest);
    assert_eq!(log.counters("acme", "a"), counters);
}

#[test]
fn a_command_to_a_breaker_that_does_not_stand_makes_none() {
    let mut log = Log::acme();
    for entry in [
        Entry::Force(command("acme", "b", Some(ForceTo::Open), None)),
        Entry::Reset(command("nobody", "a", None, None)),
    ] {
        assert_eq!(log.apply(entry).what, What::Command { found: false });
    }
    assert_eq!(log.standing(), ["acme/a"]);
}
