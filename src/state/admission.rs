use std::sync::Arc;

use super::{Cell, Reading, Reservation, Routable, State as Shared};
use crate::breaker::State;
use crate::domain::Tick;
use crate::log::Fate;
use crate::routing::{Admission, Candidates, Observed, Routed, enforced};

/// What became of a claim that this request made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has a slot.
    Granted,
    /// The circuit is closed by now.
    NotNeeded,
    /// No slot, or no verdict in time.
    Refused {
        /// What the breaker shows.
        state: State,
        /// How long until asking again may help.
        retry_after_ms: u64,
    },
}

/// How long half-open tells callers to wait while the log cannot be reached.
const NO_LOG_RETRY_MS: u64 = 1_000;
/// What a request is told whose slot was lost between grant and use.
const SLOT_GONE_RETRY_MS: u64 = 1_000;

/// One request's view of its policy's breakers: gates are read, and the answers to its claims
/// remembered. Counts nothing until [`Asking::settle`], since a decision may be run again.
#[derive(Debug)]
pub struct Asking<'s> {
    shared: &'s Shared,
    routable: &'s Routable,
    request_id: &'s str,
    now: Tick,
    answers: &'s [(usize, Answer)],
    refused: Vec<usize>,
    would_reject: Option<usize>,
    unwaited: Option<Reservation>,
    met: bool,
}

impl<'s> Asking<'s> {
    /// For one run of a decision at `now`, with the claims that earlier runs made.
    #[must_use]
    pub const fn new(
        shared: &'s Shared,
        routable: &'s Routable,
        request_id: &'s str,
        now: Tick,
        answers: &'s [(usize, Answer)],
    ) -> Self {
        Self {
            shared,
            routable,
            request_id,
            now,
            answers,
            refused: Vec::new(),
            would_reject: None,
            unwaited: None,
            met: false,
        }
    }

    /// Counts what this run refused and would have refused. `on_refusal` is told of each refusal for
    /// which a log line is due, with the number of refusals that it stands for. Gives back the claim
    /// that a request outside the enforced share makes without waiting for it.
    pub fn settle(self, mut on_refusal: impl FnMut(&Arc<Cell>, u32)) -> Option<Reservation> {
        for candidate in self.refused {
            if let Some(cell) = self.routable.cells.get(candidate)
                && let Some(stands_for) = cell.count_fail_fast(self.now)
            {
                on_refusal(cell, stands_for);
            }
        }
        if let Some(cell) = self.would_reject.and_then(|c| self.routable.cells.get(c)) {
            cell.count_would_reject();
        }
        self.unwaited
    }

    /// What became of the request, if it met a breaker that was not closed, under a policy that enables breakers. Both
    /// arms read the same gates up to the first refusal, so whether a request meets one does not depend on its arm.
    #[must_use]
    pub fn fate(&self, routed: &Routed<'_>) -> Option<Fate> {
        // Who made a claim met one in an earlier run.
        if !self.met && self.answers.is_empty() {
            return None;
        }
        Some(match routed {
            Routed::To(choice) if choice.probe => Fate::Probed,
            Routed::To(_) if self.refused.is_empty() => Fate::Spared,
            Routed::To(_) => Fate::FellBack,
            Routed::CircuitOpen(_) | Routed::Constrained(_) | Routed::Claim(_) => Fate::NoProvider,
        })
    }

    fn may_take_over(&self, cell: &Cell, enforce_percent: u8) -> bool {
        cell.has_late_grants() && self.shared.log_in_reach() && enforced(self.request_id, enforce_percent)
    }

    fn answer(&self, candidate: usize) -> Option<Answer> {
        self.answers.iter().find(|(c, _)| *c == candidate).map(|(_, answer)| *answer)
    }

    fn refuse(&mut self, candidate: usize, state: State, retry_after_ms: u64, percent: u8) -> Admission {
        if enforced(self.request_id, percent) {
            self.refused.push(candidate);
            Admission::Refuse { state, retry_after_ms }
        } else {
            self.would_reject = Some(candidate);
            Admission::WouldReject(state)
        }
    }
}

impl Candidates for Asking<'_> {
    fn admit(&mut self, candidate: usize) -> Admission {
        let Some(cell) = self.routable.cells.get(candidate) else { return Admission::Pass };
        if !self.shared.enforcing() {
            return Admission::Pass;
        }
        // What another policy has switched on refuses nothing to this one; an operator's force does.
        let off = !self.routable.policy.breaker().enabled();
        match cell.read(self.now) {
            Reading::Pass => Admission::Pass,
            Reading::Claim { .. } if off => Admission::Pass,
            Reading::Refuse { .. } if off && !cell.is_forced() => Admission::Pass,
            Reading::Refuse { state, retry_after_ms, enforce_percent } => {
                self.met |= !off;
                if state == State::HalfOpen {
                    match self.answer(candidate) {
                        // A slot that this request's claim has just taken can make the gate look full to it.
                        Some(Answer::Granted) => return Admission::Probe,
                        // And one that came too late for the request before it.
                        None if self.may_take_over(cell, enforce_percent) => return Admission::Claim,
                        _ => {}
                    }
                }
                self.refuse(candidate, state, retry_after_ms, enforce_percent)
            }
            Reading::Claim { state, free, enforce_percent } => {
                self.met = true;
                match self.answer(candidate) {
                    Some(Answer::Granted) if state == State::HalfOpen => return Admission::Probe,
                    // It reopened since, and the slot is gone.
                    Some(Answer::Granted | Answer::NotNeeded) => {
                        return self.refuse(candidate, state, SLOT_GONE_RETRY_MS, enforce_percent);
                    }
                    Some(Answer::Refused { state, retry_after_ms }) => {
                        return self.refuse(candidate, state, retry_after_ms, enforce_percent);
                    }
                    None => {}
                }
                if !self.shared.log_in_reach() {
                    return self.refuse(candidate, state, NO_LOG_RETRY_MS, enforce_percent);
                }
                if enforced(self.request_id, enforce_percent) {
                    return Admission::Claim;
                }
                self.unwaited = cell.reserve_claim(free);
                if self.unwaited.is_some() {
                    Admission::Pass
                } else {
                    self.would_reject = Some(candidate);
                    Admission::WouldReject(state)
                }
            }
        }
    }

    fn observed(&self, candidate: usize) -> Observed {
        self.routable.cells.get(candidate).map(|c| c.observed(self.now)).unwrap_or_default()
    }
}
