use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::{Agenda, Following, Logged, Piece, Task, split, tasks};
use crate::domain::{RolloutId, Stamp, TenantId, Tick};
use crate::log::StepNumber;
use crate::rollout::controller::{
    Command, Decision, Figures, History, Kind, Message, PlanMessage, Span, TenantHistory, Verb,
};
use crate::rollout::evidence::EvidenceBlock;

const MADE: i64 = 7;

fn id() -> RolloutId {
    RolloutId::try_new("cb").unwrap()
}

fn put() -> Message {
    let plan = json!({
        "kind": "PolicyRollout", "id": "cb", "history": "1m",
        "analysis": {"block": "1s", "settle": "100ms", "max_stale": "20s", "exercise": "no"},
        "phases": [{"name": "all", "tenants": {"percent": 100}, "ladder": [50], "bake": "3s", "min": "10s",
            "max": "200s"}],
    });
    let by = "ops".to_owned();
    Message::Plan(PlanMessage {
        id: "p".to_owned(),
        plan,
        expected_seq: 0,
        actor: by.clone(),
        authenticated: None,
        reason: by,
    })
}

fn start() -> Message {
    let by = "ops".to_owned();
    Message::Command(Command {
        rollout: id(),
        id: "s".to_owned(),
        expected_seq: 1,
        actor: by.clone(),
        authenticated: None,
        reason: by,
        verb: Verb::Start { judge: 1 },
    })
}

fn history(tenants: usize) -> Message {
    let of = |n: usize| TenantHistory {
        tenant: TenantId::try_new(format!("tenant-{n:05}")).unwrap(),
        units: 100_000,
        failures: 1_000,
        milli_per_minute: 60_000,
        already_enforced: false,
        fallback: true,
        timeout_ms: 1_000,
    };
    let span = Span { from: Stamp(1_000), to: Stamp(61_000) };
    Message::History(History { rollout: id(), phase: 0, span, tenants: (0..tenants).map(of).collect() })
}

/// A stream, written by a worker that does what there is to do.
struct World {
    following: Following,
    stream: Vec<(u64, Stamp, Option<Piece>)>,
    logged: BTreeMap<RolloutId, Logged>,
}

impl World {
    fn new() -> Self {
        Self { following: Following::new(MADE), stream: Vec::new(), logged: BTreeMap::new() }
    }

    fn take(&mut self, piece: Option<Piece>) {
        let at = (self.stream.len() as u64 + 1, Stamp(100_000), piece);
        self.stream.push(at.clone());
        self.following.apply(at.0, at.1, at.2);
    }

    fn send(&mut self, message: Message) {
        self.take(Some(Piece::Whole(Box::new(message))));
    }

    fn tasks(&self) -> Vec<Task> {
        tasks(self.following.controllers(), &self.logged, &[])
    }

    fn running() -> Self {
        let mut world = Self::new();
        world.send(put());
        world.send(start());
        let [Task::Record(decision)] = &*world.tasks() else { panic!("{:?}", world.tasks()) };
        assert_eq!((decision.n, &decision.kind), (1, &Kind::Start));
        world.send(Message::Decision(decision.clone()));
        let [Task::Count(wanted)] = &*world.tasks() else { panic!("{:?}", world.tasks()) };
        assert_eq!(wanted.phase, 0);
        world.send(history(3));
        let [Task::Record(decision)] = &*world.tasks() else { panic!("{:?}", world.tasks()) };
        assert_eq!((decision.n, &decision.kind), (2, &Kind::Step { phase: 0, rung: 0 }));
        world.send(Message::Decision(decision.clone()));
        world
    }
}

fn block(number: u64, start: u64) -> Arc<EvidenceBlock> {
    let (start, end) = (Stamp(start), Stamp(start + 1_000));
    Arc::new(EvidenceBlock { step: 2, ..EvidenceBlock::without_units(id(), MADE, number, start, end) })
}

#[test]
fn a_step_is_appended_until_the_log_has_it() {
    let mut world = World::running();
    let [Task::Append(step)] = &*world.tasks() else { panic!("{:?}", world.tasks()) };
    let number = step.number;
    assert_eq!((number, step.at_seq), (StepNumber { made: MADE, n: 2 }, 5));
    for (n, lacks) in [(1, true), (2, false), (3, false)] {
        let number = StepNumber { made: MADE, n };
        world.logged.insert(id(), Logged { number, is_running: true });
        assert_eq!(!world.tasks().is_empty(), lacks, "the log has {n}");
    }
}

#[test]
fn the_end_of_a_rollout_is_appended_before_it_begins_again() {
    let mut world = World::running();
    let by = || "ops".to_owned();
    for (id_of_message, verb) in
        [("abort", Some(Verb::Abort)), ("delete", Some(Verb::Delete)), ("put", None), ("start", None)]
    {
        let expected_seq = world.following.controllers().seq(&id()).unwrap();
        let command = |verb| {
            let (id_of_message, rollout) = (id_of_message.to_owned(), id());
            Message::Command(Command {
                rollout,
                id: id_of_message,
                expected_seq,
                actor: by(),
                authenticated: None,
                reason: by(),
                verb,
            })
        };
        world.send(match (verb, put()) {
            (Some(verb), _) => command(verb),
            (None, Message::Plan(plan)) if id_of_message == "put" => {
                Message::Plan(PlanMessage { id: id_of_message.to_owned(), expected_seq, ..plan })
            }
            (None, _) => command(Verb::Start { judge: 1 }),
        });
        let decision = world.following.controllers().pending(&id()).cloned();
        decision.into_iter().for_each(|decision| world.send(Message::Decision(decision.into())));
    }
    world.send(history(3));
    let decision = world.following.controllers().pending(&id()).cloned().unwrap();
    world.send(Message::Decision(decision.into()));
    // The log did not take the end in time.
    let step = |n, is_running: bool, world: &mut World| {
        world.logged.insert(id(), Logged { number: StepNumber { made: MADE, n }, is_running });
        match &*world.tasks() {
            [Task::Append(step)] => Some((step.number.n, step.overlay.is_some())),
            [] => None,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(step(2, true, &mut world), Some((3, false)));
    assert_eq!(step(3, false, &mut world), Some((6, true)));
    assert_eq!(step(6, true, &mut world), None);
    world.logged.clear();
    let [Task::Append(step)] = &*world.tasks() else { panic!("{:?}", world.tasks()) };
    assert_eq!(step.number.n, 6, "a log without it needs no end");
}

#[test]
fn what_a_former_stream_laid_over_policies_is_taken_away() {
    let world = World::new();
    let orphan = |made, is_running| {
        let logged = BTreeMap::from([(id(), Logged { number: StepNumber { made, n: 9 }, is_running })]);
        tasks(world.following.controllers(), &logged, &[])
    };
    let [Task::Append(step)] = &*orphan(MADE - 1, true) else { panic!("nothing to append") };
    assert_eq!((step.number, &step.overlay), (StepNumber { made: MADE, n: 0 }, &None));
    assert!(orphan(MADE - 1, false).is_empty(), "it lays nothing");
    assert!(orphan(MADE, true).is_empty(), "it is of this stream");
    // The rollout began again in this stream: its own step follows.
    let mut world = World::running();
    let number = StepNumber { made: MADE - 1, n: 9 };
    world.logged.insert(id(), Logged { number, is_running: true });
    let [Task::Append(step)] = &*world.tasks() else { panic!("{:?}", world.tasks()) };
    assert_eq!(step.number.n, 2);
}

#[test]
fn blocks_are_published_until_they_were_judged() {
    let mut world = World::running();
    world.logged.insert(id(), Logged { number: StepNumber { made: MADE, n: 2 }, is_running: true });
    let closed: Vec<_> = (0..40).map(|n| block(n, 200_000 + n * 1_000)).collect();
    let published = |world: &World| -> Vec<u64> {
        let tasks = tasks(world.following.controllers(), &world.logged, &closed);
        let number = |task: &Task| match task {
            Task::Publish(block) => block.number,
            other => panic!("{other:?}"),
        };
        tasks.iter().map(number).collect()
    };
    assert_eq!(published(&world), [0], "others are passed over before it");
    for block in &closed[..3] {
        world.send(Message::Block(Box::new((**block).clone())));
    }
    assert_eq!(published(&world), [3]);
    let foreign = Arc::new(EvidenceBlock { made: MADE + 1, ..(*block(50, 900_000)).clone() });
    assert!(tasks(world.following.controllers(), &world.logged, &[foreign]).is_empty());
    // The log was made anew: numbers begin again behind what was judged.
    let again = [block(0, 300_000)];
    assert_eq!(tasks(world.following.controllers(), &world.logged, &again).len(), 1);
    let names: Vec<_> =
        closed.iter().chain(&again).map(|b| Task::Publish(Arc::clone(b)).name(MADE)).collect();
    let distinct: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
}

#[test]
fn a_task_is_tried_again_after_a_second_while_it_is_there() {
    let decision = Decision {
        rollout: id(),
        n: 1,
        at_seq: 2,
        kind: Kind::Start,
        reasons: Vec::new(),
        figures: Figures::default(),
    };
    let task = || vec![Task::Record(decision.clone().into())];
    let mut agenda = Agenda::default();
    assert_eq!(agenda.due(Tick(0), MADE, task()).len(), 1);
    assert_eq!(agenda.due(Tick(999), MADE, task()).len(), 0);
    assert_eq!(agenda.due(Tick(1_000), MADE, task()).len(), 1);
    assert_eq!(agenda.due(Tick(1_001), MADE, Vec::new()).len(), 0);
    let due = agenda.due(Tick(1_002), MADE, task());
    assert_eq!(due.len(), 1, "it came back: it is another one");
    // It is stored, and still not done.
    let first = &due[0];
    agenda.stored(&first.key);
    let again = agenda.due(Tick(2_002), MADE, task());
    assert_eq!((&again[0].task, &again[0].key), (&first.task, &first.key));
    assert_ne!(again[0].name, first.name);
    let unanswered = agenda.due(Tick(3_002), MADE, task());
    assert_eq!(unanswered[0].name, again[0].name, "it may be stored");
}

#[test]
fn a_long_message_comes_in_parts_in_any_order_and_from_two_workers() {
    let long = history(9_000);
    let parts = split(&id(), &serde_json::to_string(&long).unwrap());
    assert!(parts.len() > 2, "{}", parts.len());
    assert!(split(&id(), "short").is_empty());
    let mut world = World::new();
    world.send(put());
    world.send(start());
    let [Task::Record(decision)] = &*world.tasks() else { panic!("{:?}", world.tasks()) };
    world.send(Message::Decision(decision.clone()));
    let before = world.following.clone();
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        world.following = before.clone();
        let mut sequence = world.following.applied();
        let mut told = 0;
        for n in order.iter().flat_map(|n| [*n, *n]).chain(3..parts.len()) {
            sequence += 1;
            let piece = Some(Piece::Part(parts[n].clone()));
            told += usize::from(world.following.apply(sequence, Stamp(100_000), piece).is_some());
        }
        assert_eq!(told, 1, "{order:?}");
        assert_eq!(world.following.controllers().status(&id(), Stamp(0)).unwrap().tenants.len(), 9_000);
    }
    // A part that does not fit its hash makes nothing.
    world.following = before;
    for part in &parts {
        let part = super::Part { text: part.text.replace("tenant-00001", "tenant-0000x"), ..part.clone() };
        let sequence = world.following.applied() + 1;
        assert!(world.following.apply(sequence, Stamp(100_000), Some(Piece::Part(part))).is_none());
    }
}

#[test]
fn what_cannot_be_read_is_passed_and_copies_change_nothing() {
    let mut world = World::new();
    world.take(None);
    world.send(put());
    world.take(None);
    assert_eq!(world.following.applied(), 3);
    let before = world.following.clone();
    assert!(world.following.apply(2, Stamp(1), Some(Piece::Whole(Box::new(start())))).is_none());
    assert_eq!(world.following, before);
}

#[test]
fn a_snapshot_at_any_place_goes_on_as_the_stream_does() {
    let mut world = World::running();
    for n in 0..3 {
        world.send(Message::Block(Box::new((*block(n, 200_000 + n * 1_000)).clone())));
    }
    world.take(Some(Piece::Part(split(&id(), &"x".repeat(500_000)).remove(0))));
    for cut in 0..=world.stream.len() {
        let mut following = Following::new(MADE);
        let (head, tail) = world.stream.split_at(cut);
        for (sequence, stamp, piece) in head.iter().cloned() {
            following.apply(sequence, stamp, piece);
        }
        let bytes = following.snapshot().unwrap();
        let mut restored = Following::restore(&bytes, MADE).unwrap();
        assert_eq!(restored, following);
        for (sequence, stamp, piece) in tail.iter().cloned() {
            restored.apply(sequence, stamp, piece);
        }
        assert_eq!(restored.snapshot().unwrap(), world.following.snapshot().unwrap(), "cut at {cut}");
        assert!(Following::restore(&bytes, MADE + 1).is_err());
    }
}
