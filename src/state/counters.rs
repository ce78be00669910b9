use crate::breaker::{Cause, State, Transition};
use crate::domain::Disposition;

/// What one breaker's entries counted on this worker since it started. The same on every worker that
/// followed the log as long; entries read while catching up count nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Results that were judged and were no failures.
    pub success: u64,
    /// Results that were judged and were failures.
    pub failure: u64,
    /// Results that were neither.
    pub ignored: u64,
    /// Results of calls that began before the latest transition.
    pub late: u64,
    /// Second copies.
    pub duplicate: u64,
    /// Probe slots that ended by their deadline.
    pub expired_probes: u64,
    transitions: [[u32; 3]; 3],
    triggers: [u32; TRIGGERS.len()],
    timeouts: u32,
}

/// The causes that `router_circuit_breaker_trigger_reason_total` tells.
pub const TRIGGERS: [Cause; 5] = [
    Cause::FailureThresholdExceeded,
    Cause::ErrorRateThresholdExceeded,
    Cause::LatencyThresholdExceeded,
    Cause::HalfOpenFailure,
    Cause::Forced,
];

impl Counters {
    /// Counts a result.
    pub fn result(&mut self, disposition: Disposition, failure: bool) {
        let counter = match disposition {
            Disposition::Applied if failure => &mut self.failure,
            Disposition::Applied => &mut self.success,
            Disposition::Ignored => &mut self.ignored,
            Disposition::Late => &mut self.late,
            Disposition::Duplicate => &mut self.duplicate,
            Disposition::Rejected => return,
        };
        *counter += 1;
    }

    /// Counts a transition.
    pub fn transition(&mut self, t: &Transition) {
        if t.from != t.to
            && let Some(n) =
                self.transitions.get_mut(t.from as usize).and_then(|row| row.get_mut(t.to as usize))
        {
            *n = n.saturating_add(1);
        }
        let opened = t.to == State::Open && t.from != State::Open;
        if let Some(at) = TRIGGERS.iter().position(|c| *c == t.cause)
            && (opened || t.cause == Cause::Forced)
            && let Some(n) = self.triggers.get_mut(at)
        {
            *n = n.saturating_add(1);
        }
        if t.cause == Cause::TimeoutElapsed {
            self.timeouts = self.timeouts.saturating_add(1);
        }
    }

    /// Transitions by (from, to), those that happened at all.
    pub fn transitions(&self) -> impl Iterator<Item = (State, State, u32)> + '_ {
        State::ALL.into_iter().flat_map(move |from| {
            State::ALL.into_iter().filter_map(move |to| {
                let n = *self.transitions.get(from as usize)?.get(to as usize)?;
                (n > 0).then_some((from, to, n))
            })
        })
    }

    /// How often it went from one state to another.
    #[must_use]
    pub fn transitioned(&self, from: State, to: State) -> u32 {
        self.transitions.get(from as usize).and_then(|row| row.get(to as usize)).copied().unwrap_or(0)
    }

    /// How often a cause opened or forced it; 0 for a cause that does neither.
    #[must_use]
    pub fn triggered(&self, cause: Cause) -> u32 {
        let at = TRIGGERS.iter().position(|c| *c == cause);
        at.and_then(|at| self.triggers.get(at)).copied().unwrap_or(0)
    }

    /// How often the open time ran out and a claim turned the breaker half-open.
    #[must_use]
    pub const fn timeouts(&self) -> u32 {
        self.timeouts
    }
}
