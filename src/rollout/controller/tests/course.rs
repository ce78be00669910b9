use std::collections::BTreeSet;

use serde_json::json;

use super::{BASE, World, document, id, one_phase, tenant};
use crate::domain::TenantId;
use crate::rollout::controller::{Kind, TenantState, Verb};

fn is_first(name: &TenantId) -> bool {
    *name == tenant("tenant-0")
}

#[test]
fn four_phases_of_equal_arms_are_completed() {
    let mut world = World::started(document(json!({})), 8);
    world.well_until("completed");
    let step = |phase, rung| Kind::Step { phase, rung };
    let all = [
        Kind::Start,
        step(0, 0),
        step(0, 1),
        step(0, 2),
        Kind::Promote { phase: 0 },
        step(1, 0),
        step(1, 1),
        Kind::Promote { phase: 1 },
        step(2, 0),
        Kind::Promote { phase: 2 },
        step(3, 0),
        Kind::FinalBake { phase: 3 },
        Kind::Complete,
    ];
    assert_eq!(world.decided, all);
    let overlay = world.steps.last().unwrap().overlay.clone().unwrap();
    assert!(overlay.completed && overlay.tenants.len() == 8);
    assert!(overlay.tenants.values().all(|share| share.percent == 100));
}

#[test]
fn shares_follow_the_ladder_and_stay_below_all_until_the_end() {
    let mut world = World::started(document(json!({})), 8);
    let share = |world: &World| world.share("tenant-0").map(|share| (share.percent, share.split));
    assert_eq!(share(&world), Some((0, 50)));
    assert_eq!(world.share("tenant-1"), None);
    world.well(3);
    assert_eq!(share(&world), Some((10, 10)));
    world.well(3);
    assert_eq!(share(&world), Some((50, 50)));
    world.well_until("completed");
    let shares: Vec<u8> = world
        .steps
        .iter()
        .filter_map(|step| step.overlay.as_ref()?.tenants.get(&tenant("tenant-0")).map(|s| s.percent))
        .collect();
    let mut each = shares.clone();
    each.dedup();
    assert_eq!(each, [0, 10, 50, 95, 100]);
    let numbers: Vec<u64> = world.steps.iter().map(|step| step.number.n).collect();
    assert!(numbers.is_sorted() && world.steps.iter().all(|step| step.number.made == super::MADE));
}

#[test]
fn each_phase_waits_for_a_person_at_its_last_step() {
    let mut world = World::started(document(json!({"approval": "each_phase"})), 8);
    for _ in 0..4 {
        world.well_until("awaiting_approval");
        let percent = world.status().percent;
        world.well(5);
        assert_eq!((percent, world.status().percent), (50, 50));
        world.accept(Verb::Approve);
    }
    world.well_until("completed");
}

#[test]
fn harm_of_the_treated_arm_alone_rolls_back() {
    let mut world = World::started(one_phase(1, json!({})), 1);
    world.well(2);
    for _ in 0..30 {
        world.window(|_| [3 * BASE, BASE]);
    }
    assert_eq!(world.status().state, "rolled_back");
    assert_eq!(world.share("tenant-0").map(|s| (s.percent, s.split)), Some((0, 50)));
    assert_eq!(world.decided.last(), Some(&Kind::RollBack));
    assert!(world.steps.last().unwrap().at_seq > 0);
}

#[test]
fn an_outage_of_both_arms_does_not_roll_back() {
    let mut world = World::started(one_phase(1, json!({})), 1);
    world.well(2);
    for _ in 0..30 {
        world.window(|_| [400, 400]);
    }
    assert_ne!(world.status().state, "rolled_back");
    assert!(!world.decided.contains(&Kind::RollBack));
}

#[test]
fn one_of_five_tenants_that_is_harmed_goes_back_alone() {
    let mut world = World::started(one_phase(5, json!({})), 5);
    for _ in 0..30 {
        world.window(|name| [if is_first(name) { 5 * BASE } else { BASE }, BASE]);
    }
    let back = Kind::TenantBack { tenants: BTreeSet::from([tenant("tenant-0")]) };
    assert_eq!(world.decided.iter().filter(|kind| **kind == back).count(), 1);
    world.well_until("completed");
    assert_eq!(world.share("tenant-0").map(|share| share.percent), Some(0));
    assert_eq!(world.share("tenant-1").map(|share| share.percent), Some(100));
    let states: Vec<TenantState> = world.status().tenants.iter().map(|tenant| tenant.state).collect();
    assert_eq!(states.iter().filter(|state| **state == TenantState::RolledBack).count(), 1);
}

#[test]
fn harm_of_many_tenants_rolls_all_back() {
    let mut world = World::started(one_phase(5, json!({})), 5);
    for _ in 0..30 {
        world.window(|_| [3 * BASE, BASE]);
    }
    assert_eq!(world.status().state, "rolled_back");
}

#[test]
fn harm_after_a_phase_still_rolls_back() {
    let mut world = World::started(document(json!({"approval": "each_phase"})), 8);
    world.well_until("awaiting_approval");
    for _ in 0..60 {
        world.window(|_| [3 * BASE, BASE]);
    }
    assert_eq!(world.status().state, "rolled_back");

    let mut world = World::started(one_phase(1, json!({"final_bake": "1h"})), 1);
    world.well_until("final_bake");
    for _ in 0..60 {
        world.window(|_| [4 * BASE, BASE]);
    }
    assert_eq!(world.status().state, "rolled_back");
}

#[test]
fn a_phase_without_a_verdict_pauses_or_rolls_back_at_its_longest_time() {
    for (word, state) in [("pause", "paused"), ("rollback", "rolled_back")] {
        let mut world = World::started(one_phase(1, json!({"on_exhausted": word})), 1);
        for _ in 0..205 {
            let mut block = world.next_block(|_| [BASE, BASE]);
            block.rows.clear();
            world.send(super::Message::Block(Box::new(block)));
        }
        assert_eq!(world.status().state, state);
        if state == "paused" {
            assert_eq!(world.share("tenant-0").map(|share| share.percent), Some(50));
            world.accept(Verb::Extend { by_ms: 100_000 });
            assert_eq!(world.status().state, "running");
        }
    }
}

#[test]
fn a_phase_that_nobody_comes_in_with_is_passed_over() {
    let mut world = World::started(document(json!({})), 2);
    world.well_until("completed");
    let phases: Vec<usize> = world
        .decided
        .iter()
        .filter_map(|kind| match kind {
            Kind::Step { phase, rung: 0 } => Some(*phase),
            _ => None,
        })
        .collect();
    assert_eq!(phases, [0, 1]);
}

#[test]
fn tenants_that_the_first_phase_does_not_find_pause_it_until_it_is_resumed() {
    let mut world = World::started(one_phase(3, json!({})), 2);
    let status = world.status();
    assert_eq!(status.state, "paused");
    assert!(status.reasons[0].contains("phase canary needs 3 tenants"), "{:?}", status.reasons);
    world.names.push("tenant-9".to_owned());
    world.accept(Verb::Resume);
    assert_eq!(world.status().state, "running");
    assert!(world.fold.newest_step(&id()).is_some());
}

#[test]
fn a_busy_rollout_takes_evidence_of_a_thousand_units_a_second() {
    let mut world = World::new(one_phase(1, json!({})), 1);
    let start = world.command(Verb::Start { judge: 1 }, 1);
    let due = world.append(super::Message::Command(start)).due.unwrap();
    world.append(super::Message::Decision(Box::new(due)));
    let mut history = world.history(0);
    history.tenants[0].milli_per_minute = 4_000 * 60 * 1_000;
    world.send(super::Message::History(history));
    let overlay = world.steps.last().unwrap().overlay.clone().unwrap();
    assert_eq!(overlay.evidence.sample_ppm, 250_000);
}
