use std::collections::BTreeMap;

use super::convergence::random_log;
use super::*;
use crate::breaker::Breaker;
use crate::ledger::digest::MOST_DIRTY;
use proptest::prelude::*;

fn breakers(log: &Log) -> BTreeMap<(TenantId, ProviderId), Breaker> {
    let mut all = BTreeMap::new();
    log.state.for_each_breaker(|c| {
        all.insert((c.tenant_id.clone(), c.provider_id.clone()), c.lock().breaker.clone());
    });
    all
}

#[test]
fn the_digest_of_nothing_is_zero_and_of_something_has_53_bits() {
    let mut log = Log::new();
    assert_eq!(log.fold.digest(), 0);
    for n in 0..50 {
        log.put("acme", &format!("p{n}"), document(&[&format!("a{n}")]));
        assert!(log.fold.digest() < 1 << 53);
    }
    assert_ne!(log.fold.digest(), 0);
}

#[test]
fn the_digest_is_what_it_was_once_every_breaker_is_gone() {
    let mut log = Log::acme();
    log.put("beta", "p", document(&["b"]));
    let before = log.fold.digest();
    log.put("gone", "p", document(&["x", "y"]));
    log.fail("gone", "x", 2);
    assert_ne!(log.fold.digest(), before);
    log.fail("gone", "y", 2);
    log.delete("gone", "p");
    assert_eq!(log.fold.digest(), before);
    log.delete("beta", "p");
    log.delete("acme", "p");
    assert_eq!(log.fold.digest(), 0);
}

#[test]
fn breakers_in_the_same_state_do_not_cancel_each_other() {
    let digest_of = |tenant_id: &str, provider_id: &str| {
        let mut log = Log::new();
        log.put(tenant_id, "p", document(&[provider_id]));
        log.fold.digest()
    };
    let all = [("acme", "a"), ("acme", "b"), ("beta", "a"), ("a", "acme")].map(|(t, p)| digest_of(t, p));
    for (n, digest) in all.iter().enumerate() {
        assert!(!all[n + 1..].contains(digest));
    }
}

#[test]
fn entries_that_change_no_breaker_leave_the_digest_as_it_is() {
    let mut log = Log::acme();
    log.half_open();
    let seen = log.result(outcome("acme", "a", Status::Success, 777));
    assert_eq!(seen, Disposition::Ignored);
    let digest = log.fold.digest();
    let stale = Revision { created: 0, revision: 9 };
    log.flag(Scope::Global, true);
    for entry in [
        Entry::Unknown,
        Entry::Rejected,
        Entry::Result(outcome("acme", "a", Status::Error, 777)),
        Entry::Result(outcome("acme", "a", Status::Error, 778)),
        Entry::Result(outcome("acme", "a", Status::Cancelled, 779)),
        Entry::Result(outcome("nobody", "a", Status::Error, 780)),
        Entry::Result(outcome("acme", "b", Status::Error, 781)),
        Entry::Ended(ended("nobody", "a", "r", "x")),
        Entry::Claim(claim_entry("acme", "b", 5, log.at.stamp)),
        Entry::Claim(claim_entry("acme", "a", 5, Stamp(0))),
        Entry::Claim(ClaimEntry { claim: ClaimId(6), ..claim_entry("acme", "a", 1, log.at.stamp) }),
        Entry::Release(claim_entry("acme", "a", 5, Stamp(0))),
        Entry::Force(command("acme", "a", Some(ForceTo::Auto), None)),
        Entry::Force(command("acme", "b", Some(ForceTo::Open), None)),
        Entry::Reset(command("nobody", "a", None, None)),
        policy_entry("acme", "p", stale, Some(document(&["z"]))),
        policy_entry("acme", "p", Revision { created: 1, revision: 99 }, Some(json!({}))),
        policy_entry("acme", "p", Revision { created: 1, revision: 100 }, Some(document(&["a"]))),
        flag_entry(Scope::Global, stale, false),
        flag_entry(Scope::Global, Revision { created: 1, revision: 99 }, true),
    ] {
        let told = format!("{entry:?}");
        log.after(1).apply(entry);
        assert_eq!(log.fold.digest(), digest, "{told}");
        assert_eq!(log.recomputed(), digest, "{told}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_digest_is_that_of_all_breakers_anew_and_moves_when_and_only_when_one_does(entries in random_log(100)) {
        let mut log = Log::new();
        let (mut before, mut digest) = (breakers(&log), log.fold.digest());
        for drawn in &entries {
            drawn.stamp(&mut log);
            log.apply(drawn.entry.clone());
            let (after, fresh) = (breakers(&log), log.fold.digest());
            prop_assert_eq!(fresh, log.recomputed());
            prop_assert_eq!(fresh != digest, after != before, "{:?}", drawn.entry);
            (before, digest) = (after, fresh);
        }
    }

    #[test]
    fn one_result_turned_round_shows_in_the_digest(entries in random_log(60)) {
        let mut log = Log::new();
        for (n, drawn) in entries.iter().enumerate() {
            drawn.stamp(&mut log);
            let applied = log.apply(drawn.entry.clone()).what;
            let Entry::Result(outcome) = &drawn.entry else { continue };
            let turned = match outcome.status {
                Status::Success => Status::Error,
                Status::Error | Status::Timeout if outcome.error_code.is_none() => Status::Success,
                _ => continue,
            };
            if !matches!(applied, What::Result { disposition: Disposition::Applied, .. }) || outcome.error_code.is_some() {
                continue;
            }
            let mut other = Log::new();
            for drawn in &entries[..n] {
                drawn.stamp(&mut other);
                other.apply(drawn.entry.clone());
            }
            drawn.stamp(&mut other);
            other.apply(Entry::Result(Outcome { status: turned, ..outcome.clone() }));
            prop_assert_ne!(log.fold.digest(), other.fold.digest(), "entry {} of {:?}", n, outcome);
        }
    }
}

#[test]
fn breakers_that_come_and_go_while_nobody_looks_do_not_pile_up() {
    let mut log = Log::acme();
    log.live = false;
    log.fail("acme", "a", 2);
    let providers: Vec<String> = (0..256).map(|n| format!("x{n}")).collect();
    let providers: Vec<&str> = providers.iter().map(String::as_str).collect();
    let rounds = 2 * MOST_DIRTY / providers.len() + 1;
    for _ in 0..rounds {
        log.put("gone", "p", document(&providers));
        log.delete("gone", "p");
        assert!(log.fold.waiting() < MOST_DIRTY + providers.len());
    }
    assert_eq!(log.fold.digest(), log.recomputed());
    assert_eq!(log.fold.waiting(), 0);
}
