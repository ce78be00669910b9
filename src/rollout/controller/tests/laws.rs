use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::{Controllers, MADE, Message, World, document, id, read, tenant};
use crate::domain::{Stamp, TenantId};
use crate::rollout::controller::{Criterion, Decision, Figures, Kind, Suspension, TenantState, Verb};

/// One thing that happens.
#[derive(Clone, Debug)]
enum Act {
    /// A window with failures of both arms in permille, and how many of its rows are there.
    Window {
        failing: [u64; 2],
        rows: usize,
        incomplete: bool,
        untreated: bool,
    },
    /// The last block once more.
    Again,
    Order(Verb),
    /// Time passes.
    Wait(u64),
    /// Somebody's record.
    Record(Kind),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let name = || (0..8_usize).prop_map(|n| tenant(&format!("tenant-{n}")));
    let window = (prop_oneof![Just([10, 10]), Just([60, 10]), Just([200, 200])], 0..8_usize, 0..20_u8)
        .prop_map(|(failing, rows, odd)| Act::Window {
            failing,
            rows: 8 - rows,
            incomplete: odd == 0,
            untreated: odd == 1,
        });
    let verb = prop_oneof![
        Just(Verb::Approve),
        Just(Verb::Pause),
        Just(Verb::Suspend { why: Suspension::MixedVersions }),
        Just(Verb::Resume),
        Just(Verb::Extend { by_ms: 10_000 }),
        name().prop_map(|tenant| Verb::Rollback { tenant: Some(tenant) }),
        Just(Verb::Promote { criterion: Criterion::Telemetry }),
        Just(Verb::Promote { criterion: Criterion::Safe }),
    ];
    let record = prop_oneof![
        Just(Kind::Step { phase: 0, rung: 1 }),
        Just(Kind::Promote { phase: 0 }),
        Just(Kind::Resume),
        Just(Kind::Renew),
        Just(Kind::Complete),
        name().prop_map(|tenant| Kind::TenantBack { tenants: BTreeSet::from([tenant]) }),
    ];
    let act = prop_oneof![
        30 => window,
        1 => Just(Act::Again),
        3 => verb.prop_map(Act::Order),
        1 => (1..60_000_u64).prop_map(Act::Wait),
        1 => record.prop_map(Act::Record),
    ];
    vec(act, 1..120)
}

/// Carries an act out. Blocks hold no units where `empty`.
fn act(world: &mut World, act: &Act, empty: bool) {
    match act {
        Act::Window { failing, rows, incomplete, untreated } => {
            let mut block = world.next_block(|_| *failing);
            block.rows.truncate(if empty { 0 } else { *rows });
            (block.incomplete, block.untreated) = (*incomplete, *untreated);
            world.send(Message::Block(Box::new(block)));
        }
        Act::Again => {
            let last = world.stream.iter().rev().find(|(_, _, m)| matches!(m, Message::Block(_))).cloned();
            if let Some((_, _, message)) = last {
                world.send(message);
            }
        }
        Act::Order(verb) => {
            world.order(verb.clone());
        }
        Act::Wait(ms) => world.now = world.now.plus(*ms),
        Act::Record(kind) => {
            let n = world.decided.len() as u64 + 1;
            let at_seq = world.stream.last().map_or(0, |(sequence, ..)| *sequence);
            let (reasons, figures) = (Vec::new(), Figures::default());
            let decision = Decision { rollout: id(), n, at_seq, kind: kind.clone(), reasons, figures };
            world.send(Message::Decision(Box::new(decision)));
        }
    }
}

fn started() -> World {
    World::started(document(json!({"approval": "each_phase"})), 8)
}

fn rolled_back(world: &World) -> BTreeSet<TenantId> {
    let tenants = world.status().tenants.into_iter();
    tenants.filter(|t| t.state == TenantState::RolledBack).map(|t| t.tenant_id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn without_data_nothing_is_promoted(acts in acts()) {
        let mut world = started();
        for one in acts.iter().filter(|one| !matches!(one, Act::Record(_))) {
            act(&mut world, one, true);
            prop_assert!(world.steps.iter().filter_map(|step| step.overlay.as_ref()).all(
                |overlay| overlay.tenants.values().all(|share| share.percent == 0)
            ));
        }
    }

    #[test]
    fn a_phase_passes_only_where_each_criterion_passes_or_is_passed_over(acts in acts()) {
        let mut world = started();
        for one in acts.iter().filter(|one| !matches!(one, Act::Record(_))) {
            let before = world.clone();
            act(&mut world, one, false);
            let passed = world.decided[before.decided.len()..].iter().any(|kind| {
                matches!(kind, Kind::AwaitApproval { .. } | Kind::Promote { .. } | Kind::FinalBake { .. })
            });
            if !passed {
                continue;
            }
            // As of the place where the decision became due.
            let due = world.stream[before.stream.len()].clone();
            let mut fold = before.fold.clone();
            fold.apply(due.0, due.1, &due.2);
            let status = fold.status(&id(), due.1).unwrap();
            prop_assert!(status.qualified_ms >= status.min_ms);
            prop_assert!(status.evidence.units > 0);
            for criterion in status.criteria {
                let fine = criterion.verdict == "pass" || criterion.reason == "overridden";
                prop_assert!(fine, "{:?} {:?}", one, criterion);
            }
        }
    }

    #[test]
    fn a_tenant_that_was_rolled_back_is_never_enforced_again(acts in acts()) {
        let mut world = started();
        let mut back = BTreeSet::new();
        for one in &acts {
            act(&mut world, one, false);
            let now = rolled_back(&world);
            prop_assert!(back.is_subset(&now));
            back = now;
            let overlay = world.fold.newest_step(&id()).and_then(|step| step.overlay.as_ref());
            for name in &back {
                let share = overlay.and_then(|overlay| overlay.tenants.get(name));
                prop_assert!(share.is_none_or(|share| share.percent == 0));
            }
        }
    }

    #[test]
    fn a_fold_that_is_read_at_any_place_goes_on_as_the_one_that_was_written(
        acts in acts(),
        place in any::<proptest::sample::Index>(),
    ) {
        let mut world = started();
        for one in &acts {
            act(&mut world, one, false);
        }
        let place = place.index(world.stream.len());
        let (mut one, mut other) = (Controllers::new(MADE), Controllers::new(MADE));
        for (at, (sequence, stamp, message)) in world.stream.iter().enumerate() {
            if at == place {
                other = read(&other);
            }
            prop_assert_eq!(one.apply(*sequence, *stamp, message), other.apply(*sequence, *stamp, message));
            // A message whose place was reached changes nothing.
            other.apply(*sequence, *stamp, message);
        }
        prop_assert_eq!(&one, &world.fold);
        prop_assert_eq!(&one, &other);
        prop_assert_eq!(serde_json::to_string(&one).unwrap(), serde_json::to_string(&other).unwrap());
    }
}

#[test]
fn no_message_is_taken_before_the_first_plan() {
    let mut fold = Controllers::new(MADE);
    let world = started();
    for (sequence, stamp, message) in world.stream.iter().skip(1) {
        let effects = fold.apply(*sequence, *stamp, message);
        assert_eq!((effects.due, effects.step), (None, None));
    }
    assert_eq!(fold.status(&id(), Stamp(0)), None);
}
