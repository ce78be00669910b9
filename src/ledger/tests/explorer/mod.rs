//! Every schedule of a small world, up to a depth, from four beginnings.
//!
//! Two workers share one breaker with two probe slots. They read the gate of their own copy of the
//! fold, claim, wait, give up and release, send probes, lag behind the log, and die; calls are answered
//! well, badly or never; what is published lands in the log whenever it likes, or not at all; time
//! passes. The search goes breadth first through all interleavings. Two schedules that come to the
//! same world go on as one, and are counted as two.
//!
//! What is checked where ([`rules`]): at each entry that lands, the cap, the single judge, late claims
//! and what an open breaker owes; at each entry that a worker applies, that caught-up copies are equal;
//! at each world, that nothing is wedged: were all that is in flight lost, time alone brings back a
//! claim that is granted. At the end each log that was written is told to two real folds ([`replay`]).
//!
//! To show that the checks see anything, faults are put between the log and the breaker ([`Wiring`]);
//! the breaker itself is always the one that ships.

mod replay;
mod rules;
mod wiring;
mod world;

use std::collections::{HashMap, HashSet};

use wiring::{CAP, Landed, Message, Request, Tick, Wiring};
use world::{Action, World};

/// As deep as a debug build goes in a few seconds.
const DEPTH: usize = 7;

struct Found {
    /// Schedules of [`DEPTH`] steps, and shorter ones that can go no further.
    schedules: u128,
    worlds: usize,
    steps: usize,
    logs: HashSet<Vec<Landed>>,
}

struct Violation {
    rule: String,
    schedule: Vec<Action>,
}

fn explore(first: World, wiring: &Wiring) -> Result<Found, Violation> {
    let (mut seen, mut free) = (HashSet::new(), HashSet::new());
    let mut found = Found { schedules: 0, worlds: 0, steps: 0, logs: HashSet::new() };
    let mut layer = HashMap::from([(first.key(), (first, 1_u128))]);
    for depth in 0..=DEPTH {
        let mut next: HashMap<u128, (World, u128)> = HashMap::with_capacity(layer.len() * 4);
        for (key, (world, ways)) in layer {
            seen.insert(key);
            let violation = |rule, world: &World| Violation { rule, schedule: world.schedule() };
            let actions = if depth < DEPTH { world.actions() } else { Vec::new() };
            if actions.is_empty() {
                found.schedules += ways;
                found.logs.insert(world.log());
            }
            for action in actions {
                let mut after = world.clone();
                after.step(action, wiring).map_err(|rule| violation(rule, &after))?;
                if free.insert((after.truth.digest, after.now)) {
                    rules::not_wedged(&after.truth.breaker, after.now)
                        .map_err(|rule| violation(rule, &after))?;
                }
                found.steps += 1;
                next.entry(after.key()).or_insert((after, 0)).1 += ways;
            }
        }
        layer = next;
    }
    found.worlds = seen.len();
    Ok(found)
}

/// Explores from the world that these steps lead to, and tells every log to two folds.
#[expect(clippy::print_stdout, reason = "how much was visited is part of the proof")]
fn no_schedule_breaks_a_rule_after(beginning: &str, steps: &[Action]) {
    let mut first = World::new(&Wiring::AS_BUILT);
    for step in steps {
        first.step(*step, &Wiring::AS_BUILT).unwrap();
    }
    let found = match explore(first, &Wiring::AS_BUILT) {
        Ok(found) => found,
        Err(violation) => panic!("{}: {:?}", violation.rule, violation.schedule),
    };
    println!(
        "from {beginning}, {} steps in: {} schedules of {DEPTH} steps more, {} steps taken, {} worlds, {} logs",
        steps.len(),
        found.schedules,
        found.steps,
        found.worlds,
        found.logs.len()
    );
    assert!(found.worlds > 10_000, "the search has shrunk: {} worlds", found.worlds);
    replay::two_folds_agree(&found.logs);
}

/// Both workers' requests are probes at the provider.
const PROBING: [Action; 6] =
    [Action::Ask(0), Action::Ask(1), Action::Land(0), Action::Land(0), Action::Read(0), Action::Read(1)];

#[test]
fn no_schedule_breaks_a_rule_once_the_open_time_is_over() {
    no_schedule_breaks_a_rule_after("the open time being over", &[]);
}

#[test]
fn no_schedule_breaks_a_rule_while_both_slots_are_held() {
    no_schedule_breaks_a_rule_after("two probes", &PROBING);
}

#[test]
fn no_schedule_breaks_a_rule_after_a_probe_failed_while_the_other_is_out() {
    let steps = [PROBING.as_slice(), &[Action::Answer(0, false), Action::Tick]].concat();
    no_schedule_breaks_a_rule_after("a failed probe", &steps);
}

#[test]
fn no_schedule_breaks_a_rule_after_both_probes_succeeded() {
    let steps =
        [PROBING.as_slice(), &[Action::Tick, Action::Answer(0, true), Action::Answer(0, true)]].concat();
    no_schedule_breaks_a_rule_after("a close", &steps);
}

/// The rule that a fault breaks first, with the schedule that shows it.
fn broken_by(wiring: &Wiring) -> String {
    match explore(World::new(wiring), wiring) {
        Ok(found) => panic!("not seen in {} schedules", found.schedules),
        Err(violation) => {
            assert!(!violation.schedule.is_empty());
            violation.rule
        }
    }
}

#[test]
fn a_cap_that_is_one_too_high_is_caught() {
    let rule = broken_by(&Wiring { cap: CAP + 1, ..Wiring::AS_BUILT });
    assert!(rule.starts_with("the cap"), "{rule}");
}

#[test]
fn slots_that_are_no_leases_are_caught() {
    let rule = broken_by(&Wiring { lease_ms: u64::MAX, ..Wiring::AS_BUILT });
    assert!(rule.starts_with("wedged"), "{rule}");
}

#[test]
fn strays_that_are_judged_are_caught() {
    // A result that no live claim asked for is told as if one had.
    fn tell(message: Message, held: &[Request]) -> Message {
        match message {
            Message::Result { request, ok, sent } if !held.contains(&request) => {
                Message::Result { request: held.first().copied().unwrap_or(request), ok, sent }
            }
            other => other,
        }
    }
    let rule = broken_by(&Wiring { tell, ..Wiring::AS_BUILT });
    assert!(rule.starts_with("the single judge"), "{rule}");
}

#[test]
fn claims_that_land_late_and_are_granted_are_caught() {
    fn tell(message: Message, _: &[Request]) -> Message {
        match message {
            Message::Claim { request, .. } => Message::Claim { request, asked: Tick::MAX },
            other => other,
        }
    }
    let rule = broken_by(&Wiring { tell, ..Wiring::AS_BUILT });
    assert!(rule.starts_with("late claims"), "{rule}");
}

#[test]
fn releases_that_free_nothing_are_caught() {
    fn tell(message: Message, _: &[Request]) -> Message {
        match message {
            Message::Release { .. } => Message::Release { request: Request::MAX },
            other => other,
        }
    }
    let rule = broken_by(&Wiring { tell, ..Wiring::AS_BUILT });
    assert!(rule.starts_with("the books"), "{rule}");
}

#[test]
fn a_worker_that_judges_by_its_own_clock_is_caught() {
    let rule = broken_by(&Wiring { ahead_ms: [0, 1], ..Wiring::AS_BUILT });
    assert!(rule.starts_with("agreement"), "{rule}");
}
