//! Every schedule of a small world, up to a depth.
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
mod world;

use std::collections::{HashMap, HashSet};

use world::{Action, Message, Request, Wiring, World};

/// As deep as a debug build goes in a few seconds.
const DEPTH: usize = 8;

struct Found {
    /// Schedules of at most [`DEPTH`] steps that go as far as they can.
    schedules: u128,
    worlds: usize,
    steps: usize,
    logs: HashSet<Vec<world::Landed>>,
}

struct Violation {
    rule: String,
    schedule: Vec<Action>,
}

fn explore(wiring: &Wiring, depth: usize) -> Result<Found, Violation> {
    let first = World::new(wiring);
    let mut seen = HashSet::from([first.key()]);
    let mut found = Found { schedules: 0, worlds: 0, steps: 0, logs: HashSet::new() };
    let mut layer = HashMap::from([(first.key(), (first, 1_u128))]);
    for _ in 0..depth {
        let mut next: HashMap<u128, (World, u128)> = HashMap::with_capacity(layer.len() * 2);
        for (world, ways) in layer.into_values() {
            let actions = world.actions();
            if actions.is_empty() {
                found.schedules += ways;
                found.logs.insert(world.log());
            }
            for action in actions {
                let mut after = world.clone();
                let violation = |rule, world: &World| Violation { rule, schedule: world.schedule() };
                after.step(action, wiring).map_err(|rule| violation(rule, &after))?;
                found.steps += 1;
                let key = after.key();
                if seen.insert(key) {
                    rules::not_wedged(&after, wiring).map_err(|rule| violation(rule, &after))?;
                }
                next.entry(key).or_insert((after, 0)).1 += ways;
            }
        }
        layer = next;
        eprintln!("layer {} worlds, {} steps", layer.len(), found.steps);
    }
    for (world, ways) in layer.into_values() {
        found.schedules += ways;
        found.logs.insert(world.log());
    }
    found.worlds = seen.len();
    Ok(found)
}

#[expect(clippy::print_stdout, reason = "how much was visited is part of the proof")]
#[test]
fn no_schedule_of_two_workers_breaks_the_cap_the_single_judge_or_the_agreement_or_wedges() {
    let found = match explore(&Wiring::AS_BUILT, DEPTH) {
        Ok(found) => found,
        Err(violation) => panic!("{}: {:#?}", violation.rule, violation.schedule),
    };
    println!(
        "{} schedules of up to {DEPTH} steps, {} steps taken, {} worlds, {} logs",
        found.schedules,
        found.steps,
        found.worlds,
        found.logs.len()
    );
    assert!(found.worlds > 10_000, "the search has shrunk: {} worlds", found.worlds);
    replay::two_folds_agree(&found.logs);
}

/// The rule that a fault breaks first, with the schedule that shows it.
fn broken_by(wiring: &Wiring) -> String {
    match explore(wiring, DEPTH) {
        Ok(found) => panic!("not seen in {} schedules", found.schedules),
        Err(violation) => {
            assert!(!violation.schedule.is_empty());
            violation.rule
        }
    }
}

#[test]
fn a_cap_that_is_one_too_high_is_caught() {
    let rule = broken_by(&Wiring { cap: world::CAP + 1, ..Wiring::AS_BUILT });
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
            Message::Claim { request, .. } => Message::Claim { request, latest: u64::MAX },
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
