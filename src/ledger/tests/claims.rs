use super::*;
use crate::log::FoldVersion;
use crate::state::Reading;

const HALF_OPEN_CALLS: u64 = 3;

fn refused(state: Shown, retry_after_ms: u64) -> Option<Verdict> {
    Some(Verdict::Refused { state, retry_after_ms })
}

fn in_flight(log: &Log) -> u32 {
    log.view("acme", "a").half_open_in_flight
}

/// The result of the request that made this claim.
fn probe(claim: u64, status: Status) -> Outcome<'static> {
    Outcome { request_id: Some(format!("r{claim}").into()), ..outcome("acme", "a", status, 10_000 + claim) }
}

#[test]
fn claims_are_answered_by_their_place_in_the_log() {
    let mut log = Log::acme();
    assert_eq!(log.claim("acme", "a", 9), Some(Verdict::NotNeeded));
    log.trip();
    assert_eq!(log.claim("acme", "a", 8), refused(Shown::Open, TIMEOUT_MS));
    log.after(TIMEOUT_MS - 1);
    assert_eq!(log.claim("acme", "a", 7), refused(Shown::Open, 1));
    log.after(1);
    for claim in 1..=HALF_OPEN_CALLS {
        assert_eq!(log.claim("acme", "a", claim), Some(Verdict::Granted));
    }
    assert_eq!(log.claim("acme", "a", 4), refused(Shown::HalfOpen, 1_000));
    assert_eq!(log.claim("nobody", "a", 5), None);
    assert_eq!(log.claim("acme", "b", 6), None);
    assert_eq!(in_flight(&log), 3);
}

#[test]
fn the_first_claim_after_the_deadline_turns_the_breaker_half_open() {
    let mut log = Log::acme();
    log.trip().after(TIMEOUT_MS);
    // Time alone moves nothing.
    log.apply(Entry::Unknown);
    assert_eq!(log.shown("acme", "a"), Shown::Open);
    let applied = log.apply(Entry::Claim(claim_entry("acme", "a", 1, log.at.stamp)));
    assert_eq!(moves(&applied), [(Shown::Open, Shown::HalfOpen, Cause::TimeoutElapsed)]);
    assert!(matches!(
        log.cell("acme", "a").read(log.tick()),
        Reading::Claim { state: Shown::HalfOpen, free: 2, .. }
    ));
}

#[test]
fn a_claim_that_lands_after_its_latest_stamp_takes_no_slot() {
    let mut log = Log::acme();
    log.trip().after(TIMEOUT_MS);
    let late = |log: &Log, claim| Entry::Claim(claim_entry("acme", "a", claim, log.at.stamp.minus(1)));
    let applied = log.apply(late(&log, 1));
    assert!(applied.moved.is_empty());
    assert_eq!(log.shown("acme", "a"), Shown::Open);
    assert_eq!(log.claim("acme", "a", 2), Some(Verdict::Granted));
    log.apply(late(&log, 3));
    assert_eq!(in_flight(&log), 1);
}

#[test]
fn a_request_that_holds_a_slot_gets_no_second_one() {
    let mut log = Log::acme();
    log.half_open();
    let again = ClaimEntry { claim: ClaimId(77), ..claim_entry("acme", "a", 1, log.at.stamp) };
    let What::Claim { verdict, .. } = log.apply(Entry::Claim(again)).what else { panic!() };
    assert_eq!(verdict, refused(Shown::HalfOpen, 1_000));
    assert_eq!(in_flight(&log), 1);
}

#[test]
fn a_release_frees_its_own_claim_and_no_other() {
    let mut log = Log::acme();
    log.half_open();
    log.claim("acme", "a", 2);
    let release = |log: &mut Log, claim, p| {
        let entry = claim_entry("acme", p, claim, Stamp(0));
        assert_eq!(log.apply(Entry::Release(entry)).what, What::Release);
    };
    release(&mut log, 5, "a");
    release(&mut log, 1, "b");
    assert_eq!(in_flight(&log), 2);
    release(&mut log, 1, "a");
    release(&mut log, 1, "a");
    assert_eq!(in_flight(&log), 1);
    // Its request is no probe any more.
    assert_eq!(log.result(probe(1, Status::Error)), Disposition::Ignored);
    assert_eq!(log.shown("acme", "a"), Shown::HalfOpen);
}

/// The claim of another request that takes over the slot of a claim.
fn taking(log: &Log, claim: u64, takes: u64) -> Entry<'static> {
    let takes = Some(ClaimId(takes));
    Entry::Claim(ClaimEntry { takes, ..claim_entry("acme", "a", claim, log.at.stamp) })
}

fn verdict(log: &mut Log, entry: Entry<'static>) -> Option<Verdict> {
    let What::Claim { verdict, .. } = log.apply(entry).what else { panic!() };
    verdict
}

fn raised(version: FoldVersion) -> Log {
    let mut log = Log::acme();
    assert!(log.raise(version.0));
    log
}

#[test]
fn a_claim_that_takes_a_slot_over_makes_its_request_the_probe_and_no_more_slots_are_held() {
    let mut log = raised(FoldVersion::TAKEN_LEASES);
    log.half_open();
    log.claim("acme", "a", 2);
    log.claim("acme", "a", 3);
    let takes = taking(&log, 4, 2);
    assert_eq!(verdict(&mut log, takes), Some(Verdict::Granted), "though all slots are held");
    assert_eq!(in_flight(&log), 3);
    assert_eq!(log.result(probe(2, Status::Error)), Disposition::Ignored, "it gave its slot up");
    assert_eq!(log.result(probe(4, Status::Success)), Disposition::Applied);
    assert_eq!((in_flight(&log), log.view("acme", "a").successes_in_a_row), (2, 1));
}

#[test]
fn a_claim_that_takes_over_a_slot_which_is_gone_is_judged_as_any() {
    let mut log = raised(FoldVersion::TAKEN_LEASES);
    log.half_open();
    log.claim("acme", "a", 2);
    let takes = taking(&log, 4, 77);
    assert_eq!(verdict(&mut log, takes), Some(Verdict::Granted), "a slot is free");
    let takes = taking(&log, 5, 77);
    assert_eq!(verdict(&mut log, takes), refused(Shown::HalfOpen, 1_000));
    assert_eq!(in_flight(&log), 3);
    log.result(probe(4, Status::Error));
    let takes = taking(&log, 6, 2);
    assert_eq!(verdict(&mut log, takes), refused(Shown::Open, TIMEOUT_MS), "it reopened");
}

#[test]
fn a_claim_past_its_time_leaves_the_slot_that_it_takes() {
    let mut log = raised(FoldVersion::TAKEN_LEASES);
    log.trip().after(TIMEOUT_MS);
    for claim in 1..=HALF_OPEN_CALLS {
        assert_eq!(log.claim("acme", "a", claim), Some(Verdict::Granted));
    }
    let Entry::Claim(takes) = taking(&log, 4, 2) else { unreachable!() };
    let late = Entry::Claim(ClaimEntry { latest: log.at.stamp.minus(1), ..takes });
    assert_ne!(verdict(&mut log, late), Some(Verdict::Granted));
    assert_eq!(in_flight(&log), 3, "its request probes, and nobody else gets the slot");
}

#[test]
fn before_its_version_of_the_fold_a_claim_takes_nothing_over() {
    let mut log = raised(FoldVersion(FoldVersion::TAKEN_LEASES.0 - 1));
    log.half_open();
    log.claim("acme", "a", 2);
    log.claim("acme", "a", 3);
    let takes = taking(&log, 4, 2);
    assert_eq!(verdict(&mut log, takes), refused(Shown::HalfOpen, 1_000));
    assert_eq!(log.result(probe(2, Status::Success)), Disposition::Applied, "it still has its slot");
}

#[test]
fn a_release_that_overtakes_its_claim_frees_nothing_and_the_lease_ends_by_its_deadline() {
    let mut log = Log::acme();
    log.trip().after(TIMEOUT_MS);
    log.apply(Entry::Release(claim_entry("acme", "a", 1, Stamp(0))));
    assert_eq!(log.claim("acme", "a", 1), Some(Verdict::Granted));
    log.after(30_000).apply(Entry::Release(claim_entry("acme", "a", 9, Stamp(0))));
    assert_eq!(in_flight(&log), 0);
    assert_eq!(log.counters("acme", "a").expired_probes, 1);
}

#[test]
fn only_results_of_claimed_requests_judge_half_open() {
    let mut log = Log::acme();
    log.half_open();
    assert_eq!(log.ends("acme", "a", Status::Error), Disposition::Ignored);
    assert_eq!(log.result(probe(5, Status::Error)), Disposition::Ignored);
    assert_eq!(log.shown("acme", "a"), Shown::HalfOpen);
    assert_eq!(log.result(probe(1, Status::Success)), Disposition::Applied);
    assert_eq!(log.view("acme", "a").successes_in_a_row, 1);
    log.claim("acme", "a", 2);
    assert_eq!(log.result(probe(2, Status::Success)), Disposition::Applied);
    assert_eq!(log.shown("acme", "a"), Shown::Closed);
}

#[test]
fn a_claim_of_another_tenants_request_makes_no_probe_here() {
    let mut log = Log::acme();
    log.put("beta", "p", document(&["a"]));
    log.half_open();
    let theirs = Outcome { tenant_id: "beta".into(), ..probe(1, Status::Error) };
    assert_eq!(log.result(theirs), Disposition::Applied);
    assert_eq!((log.shown("acme", "a"), in_flight(&log)), (Shown::HalfOpen, 1));
}

#[test]
fn a_timeout_of_a_probe_frees_its_slot_and_opens() {
    let mut log = Log::acme();
    log.half_open();
    assert!(log.ended(ended("acme", "a", "r1", "x-1")));
    assert_eq!((log.shown("acme", "a"), in_flight(&log)), (Shown::Open, 0));
}

#[test]
fn a_lease_lasts_for_the_probe_timeout_or_as_long_as_its_assignment_if_longer() {
    for (lease_ms, lasts) in [(0, 30_000), (29_999, 30_000), (45_000, 45_000)] {
        let mut log = Log::acme();
        log.trip().after(TIMEOUT_MS);
        let entry = ClaimEntry { lease_ms, ..claim_entry("acme", "a", 1, log.at.stamp) };
        log.apply(Entry::Claim(entry));
        log.after(lasts - 1).apply(Entry::Release(claim_entry("acme", "a", 9, Stamp(0))));
        assert_eq!(in_flight(&log), 1, "{lease_ms}");
        log.after(1).apply(Entry::Release(claim_entry("acme", "a", 9, Stamp(0))));
        assert_eq!(in_flight(&log), 0, "{lease_ms}");
    }
}
