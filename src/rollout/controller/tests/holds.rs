use serde_json::json;

use super::{BASE, Event, MADE, Message, SECOND, World, document, id, one_phase, tenant};
use crate::breaker::Cause;
use crate::domain::{ProviderId, Stamp};
use crate::rollout::controller::{Criterion, IssueChange, Kind, Suspension, TenantState, Verb};
use crate::rollout::evidence::{EvidenceBlock, LatencyHistogram, Leaving, OpenRecord};

fn send(world: &mut World, change: impl FnOnce(&mut EvidenceBlock)) {
    let mut block = world.next_block(|_| [BASE, BASE]);
    change(&mut block);
    world.send(Message::Block(Box::new(block)));
}

fn open(world: &World, spared: [u64; 2]) -> OpenRecord {
    OpenRecord {
        tenant: tenant("tenant-0"),
        provider: ProviderId::try_new("p").unwrap(),
        position: 5,
        opened_at: world.now,
        cause: Cause::FailureThresholdExceeded,
        drill: false,
        spared,
        elsewhere: [0, 0],
        threshold_ppm: 500_000,
        base: [10_000, 100],
        open_until: world.now.plus(SECOND),
        well_at: Some(world.now),
        closed_at: None,
        mean_gap_ms: 1,
        slow_ms: 1,
        successes: 1,
    }
}

#[test]
fn a_gap_holds_for_twelve_windows_and_clears_by_itself() {
    let mut world = World::started(one_phase(1, json!({})), 1);
    world.well(3);
    let units = world.status().evidence.units;
    send(&mut world, |block| block.incomplete = true);
    let status = world.status();
    assert_eq!(status.state, "paused");
    assert_eq!(status.reasons[0], "metric_discontinuity");
    assert_eq!(status.evidence.units, units);
    world.well(11);
    assert_eq!(world.status().state, "paused");
    world.well(1);
    assert!(world.decided.contains(&Kind::Resume));
    assert_ne!(world.status().state, "paused");
    let mut world = World::started(one_phase(1, json!({})), 1);
    send(&mut world, |block| block.incomplete = true);
    assert_eq!(world.share("tenant-0").map(|share| share.percent), Some(50));
}

#[test]
fn a_suspension_takes_shares_to_0_until_somebody_resumes() {
    let mut world = World::started(one_phase(1, json!({})), 1);
    world.well(2);
    let suspend = || Verb::Suspend { why: Suspension::MixedVersions };
    assert_eq!(world.fold.enforcing().count(), 1);
    world.accept(suspend());
    let status = world.status();
    assert_eq!((status.state.as_str(), status.percent), ("paused", 0));
    assert_eq!(status.reasons[..2], ["suspend", "mixed_versions"]);
    assert_eq!(world.share("tenant-0").map(|share| share.percent), Some(0));
    assert_eq!(world.fold.enforcing().count(), 0);
    assert_eq!(world.refuse(suspend()).0, "paused");
    world.well(40);
    assert_eq!(world.status().state, "paused", "it does not end by itself");
    world.accept(Verb::Resume);
    assert_eq!(world.share("tenant-0").map(|share| share.percent), Some(50));
}

#[test]
fn a_circuit_of_a_tenant_that_went_back_does_not_hold_the_others() {
    let mut world = World::started(one_phase(3, json!({})), 3);
    world.well(2);
    let record = open(&world, [4, 4]);
    send(&mut world, |block| block.opens.push(record));
    world.accept(Verb::Rollback { tenant: Some(tenant("tenant-0")) });
    world.well(20);
    assert!(!world.decided.iter().any(|kind| matches!(kind, Kind::Pause { .. })), "{:?}", world.decided);
    world.well_until("completed");
}

#[test]
fn an_issue_holds_until_it_is_closed() {
    let mut world = World::started(one_phase(1, json!({})), 1);
    let issue = |change| Verb::Issue { change, text: "slow".to_owned() };
    world.well(1);
    world.accept(issue(IssueChange::Open));
    assert_eq!(world.status().state, "paused");
    assert_eq!(world.refuse(issue(IssueChange::Open)).0, "issue");
    assert_eq!(world.refuse(Verb::Resume).0, "not_ready");
    world.accept(issue(IssueChange::Close));
    assert_eq!(world.status().state, "running");
}

#[test]
fn arms_of_other_sizes_take_all_shares_to_zero_until_a_person_resumes() {
    let mut world = World::started(one_phase(1, json!({})), 1);
    world.well(1);
    for _ in 0..5 {
        send(&mut world, |block| {
            for row in &mut block.rows {
                row.plain = [700, 7, 1_000, 10];
            }
        });
    }
    let status = world.status();
    assert_eq!((status.state.as_str(), status.reasons[0].as_str()), ("paused", "sample_ratio"));
    assert_eq!(world.share("tenant-0").map(|s| (s.percent, s.split)), Some((0, 50)));
    world.well(20);
    assert_eq!(world.status().state, "paused");
    world.accept(Verb::Resume);
    assert_eq!(world.share("tenant-0").map(|share| share.percent), Some(50));
    assert_eq!(world.status().evidence.units, 0);
    world.well_until("completed");
}

#[test]
fn a_loss_of_one_arms_outcomes_takes_all_shares_to_zero() {
    let mut world = World::started(one_phase(1, json!({})), 1);
    for _ in 0..5 {
        send(&mut world, |block| block.rows.iter_mut().for_each(|row| row.no_outcome = [50, 1]));
    }
    assert_eq!(world.status().reasons[0], "loss_ratio");
    assert_eq!(world.share("tenant-0").map(|share| share.percent), Some(0));
}

#[test]
fn a_difference_between_arms_that_are_treated_alike_is_a_fault_of_the_evidence() {
    let mut world = World::started(
        document(json!({"phases": [{
            "name": "canary", "tenants": {"count": 1}, "ladder": [0, 50],
            "bake": "30s", "min": "10s", "max": "200s",
        }]})),
        1,
    );
    for _ in 0..20 {
        send(&mut world, |block| block.rows.iter_mut().for_each(|row| row.plain = [1_000, 40, 1_000, 10]));
    }
    assert_eq!(world.status().reasons, ["evidence_suspect"]);
    assert!(!world.decided.contains(&Kind::RollBack));
    world.accept(Verb::Resume);
    world.well(31);
    assert_eq!(world.share("tenant-0").map(|share| share.percent), Some(50));
    world.well_until("completed");
}

#[test]
fn an_open_while_the_provider_is_well_holds_until_it_is_passed_over() {
    let mut world = World::started(one_phase(1, json!({})), 1);
    let record = open(&world, [500, 5]);
    let closed = OpenRecord { closed_at: Some(world.now.plus(SECOND)), ..record };
    send(&mut world, |block| block.opens.push(closed));
    assert_eq!(world.status().reasons[0], "unexpected_open");
    world.well(100);
    assert_eq!(world.status().state, "paused");
    world.accept(Verb::Promote { criterion: Criterion::UnexpectedOpens });
    assert_eq!(world.status().state, "final_bake");
}

#[test]
fn a_circuit_that_closes_too_late_holds_and_clears_by_itself() {
    let mut world = World::started(one_phase(1, json!({})), 1);
    let record = open(&world, [500, 250]);
    let began = world.now;
    for _ in 0..8 {
        send(&mut world, |block| block.opens.push(record.clone()));
    }
    assert_eq!(world.status().reasons[0], "recovery_overdue");
    let closed = OpenRecord { closed_at: Some(began.plus(8 * SECOND)), ..record };
    send(&mut world, |block| block.opens.push(closed));
    assert_eq!(world.status().state, "paused");
    world.well(11);
    assert_eq!(world.status().state, "paused");
    world.well(1);
    assert_ne!(world.status().state, "paused");
}

#[test]
fn a_plan_that_wants_an_exercise_waits_for_a_circuit_to_open_and_close() {
    let mut world = World::started(one_phase(1, json!({"analysis": {"exercise": "required"}})), 1);
    world.well(100);
    assert_eq!(world.status().next.needs, ["not_exercised"]);
    let record = open(&world, [500, 250]);
    let closed = OpenRecord { closed_at: Some(world.now.plus(SECOND)), ..record };
    send(&mut world, |block| block.opens.push(closed));
    world.well_until("completed");
}

#[test]
fn slower_requests_of_the_treated_arm_hold() {
    let mut world = World::started(one_phase(1, json!({"analysis": {"latency": {"quantiles": [0.5]}}})), 1);
    let of = |ms: u64| {
        let mut histogram = LatencyHistogram::default();
        // Two windows are merged for one look.
        (0..30).for_each(|n| histogram.add(ms + n % 3));
        histogram
    };
    for _ in 0..61 {
        send(&mut world, |block| block.rows.iter_mut().for_each(|row| row.latency = [of(60), of(40)]));
    }
    assert_eq!(world.status().reasons[0], "slower");
}

#[test]
fn requests_without_an_outcome_in_both_arms_lack_coverage() {
    let mut world = World::started(one_phase(1, json!({})), 1);
    for _ in 0..60 {
        send(&mut world, |block| block.rows.iter_mut().for_each(|row| row.asked = [1_100, 1_100]));
    }
    assert_eq!(world.status().next.needs, ["low_coverage"]);
}

#[test]
fn a_step_that_the_log_took_to_zero_is_renewed_once_windows_come_again() {
    let mut world = World::started(one_phase(1, json!({})), 1);
    world.well(2);
    let units = world.status().evidence.units;
    let before = world.fold.newest_step(&id()).unwrap().clone();
    world.now = world.now.plus(60 * SECOND);
    world.well(1);
    assert_eq!(world.decided.last(), Some(&Kind::Renew));
    let renewed = world.fold.newest_step(&id()).unwrap();
    assert!(renewed.number > before.number && renewed.overlay == before.overlay);
    assert_eq!(world.status().evidence.units, units);
    world.well_until("completed");
}

#[test]
fn a_step_that_a_block_reports_at_zero_is_renewed_though_windows_came_in_time() {
    let mut world = World::started(one_phase(1, json!({})), 1);
    world.well(2);
    let (units, before) = (world.status().evidence.units, world.fold.newest_step(&id()).unwrap().clone());
    send(&mut world, |block| block.lapsed = true);
    assert_eq!(world.decided.last(), Some(&Kind::Renew));
    assert_eq!(world.status().evidence.units, units, "its rows are not judged");
    let renewed = world.fold.newest_step(&id()).unwrap().clone();
    assert!(renewed.number > before.number && renewed.overlay == before.overlay);
    // The window of the renewal began at 0.
    send(&mut world, |block| (block.lapsed, block.step) = (true, before.number.n));
    assert_eq!(world.fold.newest_step(&id()), Some(&renewed), "once");
    world.well_until("completed");
}

#[test]
fn a_tenant_that_leaves_is_judged_no_more_and_an_empty_cohort_pauses() {
    let mut world = World::started(one_phase(2, json!({})), 2);
    send(&mut world, |block| block.left.push((tenant("tenant-0"), Leaving::LeftOut)));
    assert_eq!(world.status().tenants[0].state, TenantState::LeftOut);
    assert_eq!(world.status().state, "running");
    send(&mut world, |block| block.left.push((tenant("tenant-1"), Leaving::Deleted)));
    assert_eq!(world.status().reasons, ["empty_cohort"]);
}

#[test]
fn blocks_that_are_known_or_ahead_or_of_another_stream_change_nothing() {
    let mut world = World::started(one_phase(1, json!({})), 1);
    world.well(5);
    let before = world.fold.clone();
    let known = world.stream.iter().rev().find_map(|(_, _, message)| match message {
        Message::Block(block) => Some(block.clone()),
        _ => None,
    });
    let known = known.unwrap();
    let start = world.now.plus(4 * SECOND);
    let ahead = EvidenceBlock { number: 9, start, end: start.plus(SECOND), ..*known.clone() };
    let foreign = EvidenceBlock { made: MADE + 1, number: 5, ..*known.clone() };
    for block in [*known, ahead, foreign] {
        let effects = world.append(Message::Block(Box::new(block)));
        assert_eq!((effects.due, effects.step), (None, None));
        assert_eq!(world.status(), before.status(&id(), world.now).unwrap());
    }
    assert!(world.events.contains(&Event::BlockAhead { number: 9, next: 5 }));
    assert!(world.events.contains(&Event::ForeignBlock { number: 5 }));
}

#[test]
fn windows_of_a_log_that_was_made_anew_are_taken_as_a_gap() {
    let mut world = World::started(one_phase(1, json!({})), 1);
    world.well(5);
    world.window = 0;
    world.well(1);
    assert!(world.events.contains(&Event::WindowsAnew { number: 0 }));
    assert_eq!(world.status().reasons[0], "metric_discontinuity");
    world.well_until("completed");
    let judged: Vec<(u64, Stamp)> =
        world.fold.judged().map(|(_, window)| (window.number, window.end)).collect();
    assert_eq!(judged, [(world.window - 1, world.now)]);
}

#[test]
fn a_worker_that_numbers_windows_otherwise_can_take_over() {
    let mut world = World::started(one_phase(1, json!({})), 1);
    world.well(9);
    for number in [4, 60] {
        let judged = world.fold.judged().next().unwrap().1;
        // What it counted in windows that were taken is not counted twice.
        world.now = judged.end.minus(SECOND / 2);
        world.window = number;
        world.well(1);
        assert_eq!(world.fold.judged().next().unwrap().1, judged);
        world.well(1);
        assert_eq!(world.fold.judged().next().unwrap().1.number, number + 1);
        assert!(world.events.contains(&Event::WindowsAnew { number: number + 1 }));
        assert_eq!(world.status().reasons[0], "metric_discontinuity");
    }
    world.well_until("completed");
}

#[test]
fn rows_of_another_step_or_share_or_of_an_untreated_tenant_are_not_judged() {
    let mut world = World::started(one_phase(1, json!({})), 1);
    world.well(2);
    let units = world.status().evidence.units;
    send(&mut world, |block| block.rows[0].step -= 1);
    send(&mut world, |block| block.rows[0].percent = 0);
    send(&mut world, |block| block.untreated_tenants.push(tenant("tenant-0")));
    send(&mut world, |block| block.untreated = true);
    assert_eq!(world.status().evidence.units, units);
    world.well(1);
    assert!(world.status().evidence.units > units);
}
