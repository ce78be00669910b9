use std::collections::BTreeSet;

use serde_json::json;

use super::super::stage::{Course, Stage, next};
use super::{BASE, Message, World, id, one_phase, tenant};
use crate::rollout::controller::{Criterion, IssueChange, Kind, Outcome, Suspension, Verb};
use crate::rollout::evidence::EvidenceBlock;

const STAGES: [Stage; 9] = [
    Stage::Draft,
    Stage::Preparing { phase: 0 },
    Stage::Running { phase: 0, rung: 1 },
    Stage::AwaitingApproval { phase: 0 },
    Stage::FinalBake,
    Stage::Completed,
    Stage::RolledBack,
    Stage::Aborted,
    Stage::Deleted,
];

fn course() -> Course {
    Course { last_rung: 1, next_phase: Some(1), prepared: true, paused: None }
}

/// Which of [`STAGES`] allow a decision, by their first letters; `.` is none.
#[test]
fn each_decision_is_possible_where_the_table_says_so() {
    let pause = Kind::Pause { to_zero: false, by_hand: false };
    let back = Kind::TenantBack { tenants: BTreeSet::new() };
    for (kind, allowed) in [
        (Kind::Start, "d........"),
        (Kind::Step { phase: 0, rung: 0 }, ".p......."),
        (Kind::Step { phase: 0, rung: 2 }, "........."),
        (Kind::AwaitApproval { phase: 0 }, "..r......"),
        (Kind::Promote { phase: 0 }, "..ra....."),
        (Kind::Promote { phase: 1 }, "........."),
        (Kind::FinalBake { phase: 0 }, "........."),
        (Kind::Complete, "....f...."),
        (pause, ".praf...."),
        (Kind::Resume, "........."),
        (Kind::Renew, ".praf...."),
        (back, ".prafc..."),
        (Kind::RollBack, ".prafc..."),
        (Kind::Abort, ".praf...."),
        (Kind::Delete, "d....cra."),
    ] {
        let letters: String = STAGES
            .iter()
            .map(|stage| match next(*stage, &kind, course()) {
                Ok(_) => stage.as_str().chars().next().unwrap(),
                Err(_) => '.',
            })
            .collect();
        assert_eq!(letters, allowed, "{kind:?}");
    }
}

#[test]
fn a_pause_by_hand_stops_all_but_harm_and_commands() {
    let paused = Course { paused: Some(true), ..course() };
    let running = Stage::Running { phase: 0, rung: 1 };
    assert!(next(running, &Kind::AwaitApproval { phase: 0 }, paused).is_err());
    assert!(next(running, &Kind::Promote { phase: 0 }, paused).is_err());
    assert!(next(Stage::FinalBake, &Kind::Complete, paused).is_err());
    assert_eq!(next(running, &Kind::RollBack, paused), Ok(Stage::RolledBack));
    assert_eq!(next(running, &Kind::Resume, paused), Ok(running));
}

#[test]
fn a_step_needs_the_history_and_the_last_phase_leads_to_the_final_bake() {
    let unprepared = Course { prepared: false, ..course() };
    assert!(next(Stage::Preparing { phase: 0 }, &Kind::Step { phase: 0, rung: 0 }, unprepared).is_err());
    let last = Course { next_phase: None, ..course() };
    let waiting = Stage::AwaitingApproval { phase: 0 };
    assert!(next(waiting, &Kind::Promote { phase: 0 }, last).is_err());
    assert_eq!(next(waiting, &Kind::FinalBake { phase: 0 }, last), Ok(Stage::FinalBake));
}

/// A rollout of one tenant in each of its states, with the verbs that are accepted there.
#[test]
fn each_verb_is_possible_where_the_table_says_so() {
    let plan = || one_phase(1, json!({"approval": "each_phase"}));
    let draft = World::new(plan(), 1);
    let mut preparing = draft.clone();
    let start = preparing.command(Verb::Start { judge: 1 }, 1);
    let due = preparing.append(super::Message::Command(start)).due.unwrap();
    preparing.append(super::Message::Decision(Box::new(due)));
    let running = World::started(plan(), 1);
    let mut waiting = running.clone();
    waiting.well_until("awaiting_approval");
    let mut baking = waiting.clone();
    baking.accept(Verb::Approve);
    let mut completed = baking.clone();
    completed.well_until("completed");
    let mut rolled_back = running.clone();
    rolled_back.accept(Verb::Rollback { tenant: None });
    let mut aborted = running.clone();
    aborted.accept(Verb::Abort);
    let mut deleted = draft.clone();
    deleted.accept(Verb::Delete);
    let mut paused = running.clone();
    paused.accept(Verb::Pause);

    let one = || tenant("tenant-0");
    let drill = Verb::Drill {
        tenant: one(),
        provider: crate::domain::ProviderId::try_new("p").unwrap(),
        for_ms: 1_000,
    };
    let verbs = [
        (Verb::Start { judge: 1 }, 's'),
        (Verb::Approve, 'a'),
        (Verb::Promote { criterion: Criterion::Coverage }, 'p'),
        (Verb::Extend { by_ms: 1_000 }, 'e'),
        (Verb::Pause, 'h'),
        (Verb::Suspend { why: Suspension::MixedVersions }, 'm'),
        (Verb::Resume, 'r'),
        (Verb::Rollback { tenant: None }, 'b'),
        (Verb::Rollback { tenant: Some(one()) }, 't'),
        (Verb::Abort, 'x'),
        (drill, 'd'),
        (Verb::Issue { change: IssueChange::Open, text: "slow".to_owned() }, 'i'),
        (Verb::Graduate, 'g'),
        (Verb::Delete, 'k'),
    ];
    for (name, world, accepted) in [
        ("draft", draft, "sk"),
        ("preparing", preparing, "hmbxi"),
        ("running", running, "ehmbtxdi"),
        ("paused", paused, "emrbtxdi"),
        ("awaiting_approval", waiting, "aphmbtxdi"),
        ("final_bake", baking, "hmbtxdi"),
        ("completed", completed, "btigk"),
        ("rolled_back", rolled_back, "ik"),
        ("aborted", aborted, "k"),
        ("deleted", deleted, ""),
    ] {
        assert_eq!(world.status().state, name);
        let tried = verbs.iter().filter(|(verb, _)| {
            let mut world = world.clone();
            let before = world.status();
            let verdict = world.order(verb.clone());
            let accepted = verdict.outcome == Outcome::Accepted;
            assert_eq!(accepted, world.status().seq > before.seq, "{name} {verb:?}");
            accepted
        });
        let letters: String = tried.map(|(_, letter)| letter).collect();
        assert_eq!(letters, accepted, "{name}");
    }
}

#[test]
fn a_rollout_that_was_deleted_goes_on_counting_under_its_name() {
    let mut world = World::started(one_phase(1, json!({})), 1);
    world.well(3);
    let laid = world.fold.newest_step(&id()).unwrap().number;
    world.accept(Verb::Abort);
    assert_eq!(world.steps.last().unwrap().overlay, None);
    world.accept(Verb::Delete);
    let seq = world.status().seq;
    // A window that had closed, and two that never will.
    let old = EvidenceBlock { step: laid.n, ..world.next_block(|_| [BASE, BASE]) };
    world.window += 2;
    assert_eq!(world.put(one_phase(1, json!({})), seq).outcome, Outcome::Accepted);
    world.accept(Verb::Start { judge: 1 });
    assert_eq!(world.status().state, "running");
    assert!(world.fold.newest_step(&id()).unwrap().number > laid);
    world.send(Message::Block(Box::new(old)));
    assert_eq!(world.fold.judged().map(|(_, window)| window.number).collect::<Vec<_>>(), [2]);
    world.well_until("completed");
}
