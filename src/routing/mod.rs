//! Which candidate of a policy serves a request.
//!
//! A pure function of the policy, the request and what is asked of the candidates' breakers; the
//! randomness is a hash of the request id, so a retry of the same request draws the same provider and
//! every worker draws the same one.
//!
//! The order in which candidates are looked at:
//!
//! 1. Those whose observed means exceed the request's constraints are out.
//! 2. The first choice: where an earlier attempt's status matches a fallback rule whose retries are
//!    used up, the rule's target unless it is out; else the session's provider, by weighted rendezvous hash; else a
//!    weighted draw.
//! 3. If its breaker refuses: the target of each rule that matches `circuit_breaker_open`, in order.
//! 4. Then the rest of the providers, drawn by weight again and again (by rendezvous for a session),
//!    each at most once.
//! 5. Nothing left: the fail-fast reply if a breaker refused one, else "constraints exclude all".
//!
//! A half-open breaker is asked with a claim, which takes a round trip. [`decide`] then stops with
//! [`Routed::Claim`]; the caller makes the claim and calls again with the answer known. Since all
//! else is a function of the request, the second run takes the same way to the same place.

mod assignment;
mod decide;
mod draw;
#[cfg(test)]
mod tests;

pub use assignment::assignment_subject;
pub use decide::decide;
pub use draw::{enforced, rendezvous, weighted};

use std::borrow::Cow;

use crate::breaker::State;
use crate::domain::Reason;

/// What routing asks of the candidates, by their index in the policy.
pub trait Candidates {
    /// Whether the candidate's breaker lets this request pass. Asked at most once a candidate and
    /// decision.
    fn admit(&mut self, candidate: usize) -> Admission;

    /// The means that results reported over the breaker's window.
    fn observed(&self, candidate: usize) -> Observed;
}

/// A breaker's answer to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may pass.
    Pass,
    /// It passes, since its refusal is not enforced; an enforcing breaker would have refused it.
    WouldReject(State),
    /// It passes as a probe: its claim got a slot.
    Probe,
    /// It may pass only with a claim, which the caller has to make first.
    Claim,
    /// It may not pass.
    Refuse {
        /// What the breaker shows.
        state: State,
        /// How long until asking again may help.
        retry_after_ms: u64,
    },
}

/// Means over a breaker's window; zero where nothing was reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Milliseconds.
    pub latency_ms: u64,
    /// Billionths of the unit that results report in.
    pub cost_nanos: u64,
}

/// How a decision came out.
#[derive(Clone, Debug, PartialEq)]
pub enum Routed<'a> {
    /// A candidate serves.
    To(Choice<'a>),
    /// This candidate must be claimed before the decision can go on.
    Claim(usize),
    /// None serves: at least one was refused by its breaker.
    CircuitOpen(Vec<Refused>),
    /// None serves: the constraints exclude every one.
    Constrained(Vec<Excluded>),
}

/// The candidate that serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice<'a> {
    /// Its index in the policy.
    pub candidate: usize,
    /// Why this one.
    pub reason: Reason,
    /// Whether the request is a probe.
    pub probe: bool,
    /// The session value that was used.
    pub sticky_key: Option<Cow<'a, str>>,
    /// How long the caller should wait before it sends.
    pub backoff_ms: Option<u64>,
}

/// A candidate that its breaker refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its index in the policy.
    pub candidate: usize,
    /// What its breaker shows.
    pub state: State,
    /// How long until asking again may help.
    pub retry_after_ms: u64,
}

/// A candidate that a constraint excludes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excluded {
    /// Its index in the policy.
    pub candidate: usize,
    /// The constraint's name on the wire.
    pub constraint: &'static str,
    /// What was observed.
    pub observed: Observed,
}

/// One step of a decision, for the explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A breaker was asked.
    Check {
        /// The candidate's index.
        candidate: usize,
        /// Its answer.
        admission: Admission,
    },
    /// A candidate was excluded by a constraint.
    Constraint(Excluded),
    /// Another candidate than the first choice is looked at.
    Fallback {
        /// The candidate's index.
        candidate: usize,
    },
}

/// Collects the steps where an explanation is asked for, and costs nothing elsewhere.
#[derive(Debug, Default)]
pub struct Trail(Option<Vec<Step>>);

impl Trail {
    /// A trail that keeps its steps if `wanted`.
    #[must_use]
    pub fn new(wanted: bool) -> Self {
        Self(wanted.then(Vec::new))
    }

    /// The steps so far.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        self.0.as_deref().unwrap_or_default()
    }

    fn add(&mut self, step: Step) {
        if let Some(steps) = &mut self.0 {
            steps.push(step);
        }
    }
}
