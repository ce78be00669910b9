//! What must hold, by books that are kept without looking into the breaker.

use super::wiring::{CAP, LEASE, Message, OPEN, Tick, latest, put, stamp, worth_a_claim};
use super::world::World;
use crate::breaker::{Breaker, Effect, State, Verdict};
use crate::domain::Disposition;

fn must(holds: bool, rule: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(rule()) }
}

/// After a message landed: keeps the books, and compares.
pub(super) fn landed(
    world: &mut World,
    before: &Breaker,
    message: Message,
    effect: &Effect,
) -> Result<(), String> {
    let now = world.now;
    let (was, is) = (before.state(), world.truth.breaker.state());
    match message {
        Message::Claim { request, asked } => {
            let granted = effect.verdict == Some(Verdict::Granted);
            if granted {
                let open = was == State::Open;
                must(!open || now >= world.moved_at + OPEN, || {
                    format!("open: {request} was granted before the deadline")
                })?;
                must(stamp(now) <= latest(asked), || format!("late claims: {request} took a slot"))?;
                must(world.held.iter().all(|(r, _)| *r != request), || {
                    format!("one slot each: {request} has two")
                })?;
                if open {
                    world.held.clear();
                }
                world.held.push((request, now + LEASE));
            }
        }
        Message::Release { request } => world.held.retain(|(r, _)| *r != request),
        Message::Result { request, ok, sent } => {
            let claimed = world.held.iter().any(|(r, _)| *r == request);
            world.held.retain(|(r, _)| *r != request);
            let disposition = effect.judged.map(|j| j.disposition);
            if was == State::HalfOpen && !claimed {
                let successes = |b: &Breaker| b.view(stamp(now)).successes_in_a_row;
                let unmoved = is == was && successes(before) == successes(&world.truth.breaker);
                must(unmoved, || format!("the single judge: {request} had no claim and judged half-open"))?;
            }
            if was == State::HalfOpen && claimed && !ok {
                must(is == State::Open, || {
                    format!("the single judge: the probe {request} failed and nothing opened")
                })?;
            }
            if was == State::Open {
                must(is == was, || format!("the single judge: {request} moved an open breaker"))?;
            }
            if was == State::Closed && sent < world.moved_at {
                let late = is == was && disposition == Some(Disposition::Late);
                must(late, || {
                    format!("late results: {request} began before it closed and was {disposition:?}")
                })?;
            }
        }
    }
    if is != was {
        world.moved_at = now;
        if is != State::HalfOpen {
            world.held.clear();
        }
    }
    must(world.held.len() as u64 <= CAP, || format!("the cap: {:?} hold slots", world.held))?;
    let view = world.truth.breaker.view(stamp(now));
    must(view.half_open_in_flight as usize == world.held.len(), || {
        format!("the books: {:?} hold slots and the breaker has {}", world.held, view.half_open_in_flight)
    })?;
    must(is != State::Closed || view.window.requests == 0 || was == State::Closed, || {
        "the window is not empty after a close".to_owned()
    })
}

/// A worker that has applied the whole log holds what the log says.
pub(super) fn agreement(world: &World, w: usize) -> Result<(), String> {
    let worker = &world.workers[w];
    let agrees = !worker.behind.is_empty() || worker.replica.breaker == world.truth.breaker;
    must(agrees, || format!("agreement: worker {w} has applied the log and holds something else"))
}

/// Were all that is in flight lost, and no call ever answered: time alone must bring back a gate that
/// asks for a claim, and a claim that is granted. (Workers that read on hold the same: [`agreement`].)
pub(super) fn not_wedged(truth: &Breaker, now: Tick) -> Result<(), String> {
    let mut breaker = truth.clone();
    let mut now = now + LEASE + OPEN;
    if breaker.state() == State::Closed {
        put(&mut breaker, Message::Result { request: u8::MAX, ok: false, sent: now }, 0, stamp(now));
        must(breaker.state() == State::Open, || "wedged: a closed breaker does not open".to_owned())?;
        now += OPEN;
    }
    let asks = worth_a_claim(breaker.gate(), stamp(now));
    must(asks == Some(true), || "wedged: the gate never asks for a claim again".to_owned())?;
    let effect = put(&mut breaker, Message::Claim { request: u8::MAX, asked: now }, 0, stamp(now));
    must(effect.verdict == Some(Verdict::Granted), || {
        format!("wedged: no claim is granted: {:?}", effect.verdict)
    })
}
