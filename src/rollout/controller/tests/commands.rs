use serde_json::json;

use super::{MADE, Message, World, document, id, one_phase, read, tenant};
use crate::domain::ProviderId;
use crate::rollout::controller::{
    Controllers, Criterion, DecisionFault, Event, IssueChange, Kind, Outcome, Verb,
};

fn waiting() -> World {
    let mut world = World::started(document(json!({"approval": "each_phase"})), 8);
    world.well_until("awaiting_approval");
    world
}

#[test]
fn a_number_that_is_not_the_newest_is_a_conflict() {
    let mut world = waiting();
    let seq = world.status().seq;
    for expected in [0, seq - 1, seq + 1] {
        let command = world.command(Verb::Approve, expected);
        let verdict = world.send(Message::Command(command)).verdict.unwrap();
        assert_eq!(verdict.outcome, Outcome::Conflict { expected });
        assert_eq!((verdict.seq, world.status().seq), (seq, seq));
    }
    let put = world.put(document(json!({})), 0);
    assert_eq!(put.outcome, Outcome::Conflict { expected: 0 });
}

#[test]
fn blocks_do_not_count() {
    let mut world = World::started(one_phase(1, json!({})), 1);
    let seq = world.status().seq;
    world.well(3);
    assert_eq!(world.status().seq, seq);
}

#[test]
fn of_two_approvals_one_wins() {
    let mut world = waiting();
    let seq = world.status().seq;
    let first = world.command(Verb::Approve, seq);
    let second = world.command(Verb::Approve, seq);
    let second = super::Command { id: "another".to_owned(), ..second };
    let won = world.append(Message::Command(first));
    let lost = world.append(Message::Command(second)).verdict.unwrap();
    assert_eq!(won.verdict.unwrap().outcome, Outcome::Accepted);
    assert_eq!(lost.outcome, Outcome::Conflict { expected: seq });
    // Even with the newest number, until the decision is recorded.
    let third = world.command(Verb::Approve, seq + 1);
    let verdict = world.append(Message::Command(third)).verdict.unwrap();
    assert!(matches!(verdict.outcome, Outcome::Refused { code, .. } if code == "deciding"));
    world.append(Message::Decision(Box::new(won.due.unwrap())));
    assert_eq!(world.decided.last(), Some(&Kind::Promote { phase: 0 }));
}

#[test]
fn a_copy_of_a_command_gets_the_same_verdict_and_changes_nothing() {
    let mut world = waiting();
    let command = world.command(Verb::Approve, world.status().seq);
    let verdict = world.send(Message::Command(command.clone())).verdict;
    let before = world.status();
    assert_eq!(world.send(Message::Command(command)).verdict, verdict);
    assert_eq!(world.status(), before);
}

#[test]
fn a_command_makes_a_decision_void_that_was_due_before_it() {
    let mut world = World::started(one_phase(1, json!({})), 1);
    let due = loop {
        let block = world.next_block(|_| [super::BASE, super::BASE]);
        if let Some(due) = world.append(Message::Block(Box::new(block))).due {
            break due;
        }
    };
    assert_eq!(due.kind, Kind::FinalBake { phase: 0 });
    let pause = world.command(Verb::Pause, world.status().seq);
    let ordered = world.append(Message::Command(pause)).due.unwrap();
    let late = world.append(Message::Decision(Box::new(due)));
    let why = DecisionFault::Void;
    assert_eq!(late.events, [Event::DecisionPassedOver { n: ordered.n, why }]);
    world.append(Message::Decision(Box::new(ordered)));
    assert_eq!((world.status().state.as_str(), world.status().percent), ("paused", 50));
    world.accept(Verb::Resume);
    world.well_until("completed");
}

#[test]
fn a_recorded_decision_is_obeyed_though_the_judge_would_say_otherwise() {
    let mut world = World::started(document(json!({})), 8);
    world.well(1);
    let own = world.fold.pending(&id()).cloned();
    let mut decision = world.stream.iter().rev().find_map(|(_, _, message)| match message {
        Message::Decision(decision) => Some(decision.clone()),
        _ => None,
    });
    let decision = decision.as_mut().unwrap();
    decision.n += 1;
    decision.at_seq = world.stream.last().unwrap().0;
    decision.kind = Kind::RollBack;
    let effects = world.append(Message::Decision(decision.clone()));
    let differs = Event::Differs { n: decision.n, own: own.map(|own| own.kind), recorded: Kind::RollBack };
    assert!(effects.events.contains(&differs), "{:?}", effects.events);
    assert_eq!(world.status().state, "rolled_back");
    // The second record of the number has no effect.
    decision.kind = Kind::Abort;
    let before = world.fold.clone();
    let effects = world.append(Message::Decision(decision.clone()));
    assert_eq!((effects.step, effects.events), (None, Vec::new()));
    assert_eq!(world.status(), before.status(&id(), world.now).unwrap());
}

#[test]
fn a_decision_that_the_state_does_not_allow_leaves_its_number_free() {
    let mut world = World::started(document(json!({})), 8);
    let mut decision = match &world.stream.last().unwrap().2 {
        Message::Decision(decision) => decision.clone(),
        other => panic!("{other:?}"),
    };
    decision.n += 1;
    decision.at_seq = world.stream.last().unwrap().0;
    decision.kind = Kind::Complete;
    let effects = world.append(Message::Decision(decision.clone()));
    assert_eq!(effects.events, [Event::DecisionPassedOver { n: decision.n, why: DecisionFault::Illegal }]);
    world.well(3);
    assert_eq!(world.decided.last(), Some(&Kind::Step { phase: 0, rung: 1 }));
}

#[test]
fn one_criterion_may_be_passed_over_and_never_harm() {
    let mut world = World::started(one_phase(1, json!({"approval": "each_phase"})), 1);
    world.accept(Verb::Issue { change: IssueChange::Open, text: "slow".to_owned() });
    world.well(100);
    assert_eq!(world.status().state, "paused");
    let harm = world.refuse(Verb::Promote { criterion: Criterion::Harm });
    assert_eq!(harm, ("override_refused".to_owned(), "override: harm is never passed over".to_owned()));
    let (code, text) = world.refuse(Verb::Promote { criterion: Criterion::Coverage });
    assert_eq!((code.as_str(), text.as_str()), ("not_ready", "promote: phase canary: issue_open"));
    world.accept(Verb::Promote { criterion: Criterion::Issues });
    assert_eq!(world.status().state, "final_bake");
}

#[test]
fn a_lack_of_all_data_is_not_passed_over() {
    let mut world = World::started(one_phase(1, json!({})), 1);
    for _ in 0..20 {
        let mut block = world.next_block(|_| [0, 0]);
        block.rows.clear();
        world.send(Message::Block(Box::new(block)));
    }
    let (code, text) = world.refuse(Verb::Promote { criterion: Criterion::Safe });
    assert_eq!((code.as_str(), text.as_str()), ("not_ready", "promote: phase canary: no_data"));
}

#[test]
fn a_phase_is_extended_up_to_twice_its_longest_time() {
    let mut world = World::started(one_phase(1, json!({})), 1);
    world.accept(Verb::Extend { by_ms: 150_000 });
    let (code, text) = world.refuse(Verb::Extend { by_ms: 50_001 });
    assert_eq!(code, "invalid_argument");
    assert_eq!(text, "by: phase canary can have at most 50000 ms more");
    world.accept(Verb::Extend { by_ms: 50_000 });
    assert_eq!(world.status().max_ms, 400_000);
}

#[test]
fn qualified_time_stands_still_in_a_pause_and_harm_still_counts() {
    let mut world = World::started(one_phase(1, json!({})), 1);
    world.well(2);
    world.accept(Verb::Pause);
    let before = world.status().qualified_ms;
    world.well(5);
    assert_eq!(world.status().qualified_ms, before);
    for _ in 0..30 {
        world.window(|_| [40, 10]);
    }
    assert_eq!(world.status().state, "rolled_back");
}

#[test]
fn a_drill_needs_a_fallback_and_takes_its_tenant_out_of_the_judgement() {
    let drill = |name: &str| Verb::Drill {
        tenant: tenant(name),
        provider: ProviderId::try_new("p").unwrap(),
        for_ms: 100_000,
    };
    let mut world = World::started(one_phase(1, json!({})), 1);
    assert_eq!(world.refuse(drill("nobody")).0, "unknown_tenant");
    world.accept(drill("tenant-0"));
    for _ in 0..30 {
        world.window(|_| [500, 10]);
    }
    let status = world.status();
    assert_eq!((status.state.as_str(), status.evidence.units), ("running", 0));

    let mut world = World::new(one_phase(1, json!({})), 1);
    let start = world.command(Verb::Start { judge: 1 }, 1);
    let due = world.append(Message::Command(start)).due.unwrap();
    world.append(Message::Decision(Box::new(due)));
    let mut history = world.history(0);
    history.tenants[0].fallback = false;
    world.send(Message::History(history));
    let (code, text) = world.refuse(drill("tenant-0"));
    assert_eq!(code, "no_fallback");
    assert!(text.starts_with("tenant: tenant-0 has a policy without a fallback"), "{text}");
}

#[test]
fn a_command_needs_an_actor_and_a_reason_of_bounded_length() {
    let mut world = World::new(one_phase(1, json!({})), 1);
    let base = world.command(Verb::Pause, 1);
    for (field, command) in [
        ("actor", super::Command { actor: String::new(), ..base.clone() }),
        ("reason", super::Command { reason: "x".repeat(1_025), id: "other".to_owned(), ..base.clone() }),
        ("id", super::Command { id: "x".repeat(129), ..base }),
    ] {
        let verdict = world.send(Message::Command(command)).verdict.unwrap();
        match verdict.outcome {
            Outcome::Refused { code, text } => {
                assert_eq!(code, "invalid_argument");
                assert!(text.starts_with(field), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_rollout_with_a_judge_that_this_program_lacks_decides_nothing() {
    let mut world = World::new(one_phase(1, json!({})), 1);
    let start = world.command(Verb::Start { judge: 2 }, 1);
    let effects = world.append(Message::Command(start));
    assert_eq!((effects.due, world.fold.pending(&id())), (None, None));
    // Another program records the start.
    let decision = super::super::Decision {
        rollout: id(),
        n: 1,
        at_seq: effects.verdict.map(|_| world.stream.last().unwrap().0).unwrap(),
        kind: Kind::Start,
        reasons: Vec::new(),
        figures: super::super::Figures::default(),
    };
    let effects = world.append(Message::Decision(Box::new(decision)));
    assert!(effects.events.contains(&Event::UnsupportedJudge { version: 2 }));
    let history = world.history(0);
    assert_eq!(world.append(Message::History(history)).due, None);
}

#[test]
fn a_document_with_faults_is_refused_with_all_of_them() {
    let mut world = World::new(one_phase(1, json!({})), 1);
    let verdict = world.put(one_phase(1, json!({"after_phase": 100, "nonsense": 1})), 1);
    let Outcome::Refused { code, text } = verdict.outcome else { panic!("{verdict:?}") };
    assert_eq!(code, "invalid_plan");
    assert!(text.contains("after_phase") && text.contains("nonsense"), "{text}");
}

#[test]
fn a_message_reads_as_it_was_written() {
    let mut world = World::started(document(json!({})), 8);
    world.well(20);
    world.accept(Verb::Rollback { tenant: Some(tenant("tenant-0")) });
    for (_, _, message) in &world.stream {
        let text = serde_json::to_string(message).unwrap();
        assert_eq!(&serde_json::from_str::<Message>(&text).unwrap(), message, "{text}");
    }
    assert_eq!(read(&world.fold), world.fold);
}

#[test]
fn a_replay_comes_to_the_same_state_and_asks_for_nothing_that_is_recorded() {
    let mut world = World::started(document(json!({})), 8);
    world.well_until("completed");
    let mut replay = Controllers::new(MADE);
    for (sequence, stamp, message) in &world.stream {
        replay.apply(*sequence, *stamp, message);
    }
    assert_eq!(replay, world.fold);
    assert_eq!((replay.pending(&id()), replay.history_wanted(&id())), (None, None));
}
