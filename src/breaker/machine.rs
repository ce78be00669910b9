use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::settings::Settings;
use super::transition::{Cause, Effect, Judged, State, Transition};
use super::window::{Counts, Sample, Window};
use crate::domain::{ClaimId, Disposition, Outcome, Ratio, Stamp, Status};

/// What may happen to a breaker. Every kind is one entry of the log, or a consequence of one.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A provider call ended.
    Result(&'a Outcome<'a>),
    /// A refusal or a timeout stands for a result. It has no latency of its own: only when its call
    /// began is known.
    Ended {
        /// Tenant, provider, request and status.
        outcome: &'a Outcome<'a>,
        /// How long ago the call was ordered.
        elapsed_ms: u64,
    },
    /// A provider call ended whose timeout or refusal was judged in its stead: only its retry hint
    /// counts.
    Hint(&'a Outcome<'a>),
    /// A request wants to probe.
    Claim(Claim<'a>),
    /// A claim is taken back by who made it.
    Release(ClaimId),
    /// An operator forces a state.
    Force {
        /// Open or closed; half-open cannot be forced and is taken as closed.
        to: State,
        /// For how long; for ever if absent.
        ttl_ms: Option<u64>,
    },
    /// An operator takes a force back.
    Unforce,
    /// An operator closes it and forgets its evidence.
    Reset,
    /// A policy revision changes its settings.
    Configure(Arc<Settings>),
    /// The emergency switch: `true` while breakers are off.
    Suspend(bool),
    /// The log's clock was set back; see [`super`].
    ClockSetBack,
}

/// A claim to a probe slot.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// The request that will be the probe.
    pub request_id: &'a str,
    /// The claim's own name.
    pub claim: ClaimId,
    /// The latest stamp at which it is still wanted.
    pub latest: Stamp,
    /// How long the slot must be held at least: an assignment's deadline and a second.
    pub lease_ms: u64,
}

/// A probe slot in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lease {
    pub(super) request_id: Box<str>,
    pub(super) claim: ClaimId,
    /// How long the slot is held at most.
    pub(super) length_ms: u64,
    pub(super) deadline: Stamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    Closed,
    Open {
        opened_at: Stamp,
        /// A provider's wish to be left alone until then; the epoch if there is none.
        hold_until: Stamp,
    },
    HalfOpen {
        /// Successful probes in a row.
        successes: u32,
        leases: Vec<Lease>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Force {
    pub(super) to: State,
    pub(super) since: Stamp,
    pub(super) ttl_ms: Option<u64>,
}

impl Force {
    pub(super) fn until(&self) -> Option<Stamp> {
        self.ttl_ms.map(|ttl| self.since.plus(ttl))
    }
}

/// The circuit breaker of one (tenant, provider); see [`super`]. What each result looks at stands first and
/// together: with many breakers it has to be fetched from memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Breaker {
    pub(super) settings: Arc<Settings>,
    pub(super) window: Window,
    pub(super) phase: Phase,
    pub(super) forced: Option<Box<Force>>,
    /// When the last result was applied: the row ends when a whole window passes without one.
    pub(super) row_at: Stamp,
    /// What makes calls that began before it late; the epoch until there was one.
    pub(super) last_transition: Stamp,
    /// Failures in a row.
    pub(super) row: u32,
    pub(super) suspended: bool,
    /// The failures' share when it last opened.
    pub(super) failure_share: Ratio,
    /// How often it opened.
    pub(super) trips: u32,
    /// How often it reopened without a close in between.
    pub(super) reopenings: u32,
    /// Since when it shows what it shows.
    pub(super) since: Stamp,
    /// A fixed hash of its key, for the jitter.
    pub(super) seed: u64,
}

impl Breaker {
    /// A closed breaker without evidence. `seed` is a fixed hash of its key.
    #[must_use]
    pub fn new(settings: Arc<Settings>, seed: u64, now: Stamp) -> Self {
        Self {
            window: Window::new(settings.window_ms),
            settings,
            phase: Phase::Closed,
            forced: None,
            suspended: false,
            row: 0,
            row_at: now,
            since: now,
            last_transition: Stamp(0),
            trips: 0,
            reopenings: 0,
            failure_share: Ratio::ZERO,
            seed,
        }
    }

    /// Applies one input at `now`: the only way a breaker changes.
    pub fn apply(&mut self, input: &Input<'_>, now: Stamp) -> Effect {
        let mut effect = Effect::default();
        self.end_force(now, &mut effect);
        match *input {
            Input::Result(outcome) => self.result(outcome, outcome.began(now), now, &mut effect),
            Input::Ended { outcome, elapsed_ms } => {
                self.result(outcome, now.minus(elapsed_ms), now, &mut effect);
            }
            Input::Hint(outcome) => self.hint(outcome, now),
            Input::Claim(ref claim) => effect.verdict = Some(self.claim(claim, now, &mut effect)),
            Input::Release(claim) => self.release(claim, now, &mut effect),
            Input::Force { to, ttl_ms } => self.force(to, ttl_ms, now, &mut effect),
            Input::Unforce => self.unforce(now, &mut effect),
            Input::Reset => self.reset(now, &mut effect),
            Input::Configure(ref settings) => self.configure(Arc::clone(settings), now, &mut effect),
            Input::Suspend(off) => self.suspend(off, now, &mut effect),
            Input::ClockSetBack => self.clock_set_back(now),
        }
        effect
    }

    // ---- results ----

    fn result(&mut self, outcome: &Outcome<'_>, began: Stamp, now: Stamp, effect: &mut Effect) {
        self.expire_leases(now, effect);
        let failure = self.settings.failure_statuses.contains(outcome.status);
        let probe = self.take_lease(outcome, effect);
        let late = !probe && began < self.last_transition;
        let disposition = if self.is_neutral(outcome, failure) {
            Disposition::Ignored
        } else if late {
            if failure {
                self.hold(outcome.retry_after_ms, now);
            }
            Disposition::Late
        } else {
            self.judge(outcome, failure, probe, now, effect)
        };
        effect.judged = Some(Judged { disposition, failure, probe });
    }

    fn hint(&mut self, outcome: &Outcome<'_>, now: Stamp) {
        if self.is_failure(outcome) && outcome.began(now) < self.last_transition {
            self.hold(outcome.retry_after_ms, now);
        }
    }

    /// Whether its settings take a call that ended so for a failure.
    #[must_use]
    pub fn is_failure(&self, outcome: &Outcome<'_>) -> bool {
        let failure = self.settings.failure_statuses.contains(outcome.status);
        failure && !self.is_neutral(outcome, failure)
    }

    /// Neither success nor failure: cancelled unless that is named a failure, or the caller's fault.
    fn is_neutral(&self, outcome: &Outcome<'_>, failure: bool) -> bool {
        let ignored = |code: &str| self.settings.ignored_error_codes.iter().any(|c| c == code);
        match outcome.status {
            Status::Cancelled if !failure => true,
            Status::Success => false,
            _ => outcome.error_code.as_deref().is_some_and(ignored),
        }
    }

    fn judge(
        &mut self,
        outcome: &Outcome<'_>,
        failure: bool,
        probe: bool,
        now: Stamp,
        effect: &mut Effect,
    ) -> Disposition {
        let slow = match (self.settings.latency_threshold_ms, outcome.latency_ms) {
            (Some(threshold), Some(latency)) => latency > threshold,
            _ => false,
        };
        let sample = Sample { failure, slow, latency_ms: outcome.latency_ms, cost_nanos: outcome.cost_nanos };
        if let Some(force) = &self.forced
            && !self.suspended
        {
            // What lies beneath a force does not move; under a forced-closed one the window shows
            // the operator how the provider does, and is emptied when the force ends.
            if force.to == State::Open {
                return Disposition::Ignored;
            }
            self.window.record(now, sample);
            return Disposition::Applied;
        }
        if self.suspended || !self.settings.enabled {
            self.window.record(now, sample);
            return Disposition::Applied;
        }
        match &mut self.phase {
            Phase::Closed => {
                self.judge_closed(sample, now, outcome.retry_after_ms, effect);
                Disposition::Applied
            }
            Phase::Open { .. } => Disposition::Ignored,
            Phase::HalfOpen { .. } if !probe => Disposition::Ignored,
            Phase::HalfOpen { successes, .. } => {
                if failure || slow {
                    self.window.record(now, sample);
                    self.reopenings = self.reopenings.saturating_add(1);
                    self.open(
                        Cause::HalfOpenFailure,
                        outcome.retry_after_ms.filter(|_| failure),
                        now,
                        effect,
                    );
                } else {
                    *successes = successes.saturating_add(1);
                    let closes = *successes >= self.settings.success_threshold;
                    self.window.record(now, sample);
                    if closes {
                        self.shown(now, effect, Cause::ProbesSucceeded, Self::close);
                        self.last_transition = now;
                    }
                }
                Disposition::Applied
            }
        }
    }

    fn judge_closed(&mut self, sample: Sample, now: Stamp, retry_after_ms: Option<u64>, effect: &mut Effect) {
        self.row = if sample.failure { self.failures_in_a_row(now).saturating_add(1) } else { 0 };
        self.row_at = now;
        self.window.record(now, sample);
        let counts = self.window.counts(now);
        let judging = counts.requests >= self.settings.minimum_requests;
        let cause = if sample.failure && self.row >= self.settings.failure_threshold {
            Cause::FailureThresholdExceeded
        } else if judging && self.settings.error_rate.reached_by(counts.failures, counts.requests) {
            Cause::ErrorRateThresholdExceeded
        } else if judging
            && self.settings.latency_threshold_ms.is_some()
            && self.settings.slow_call_rate.reached_by(counts.slow, counts.requests)
        {
            Cause::LatencyThresholdExceeded
        } else {
            return;
        };
        self.open(cause, retry_after_ms.filter(|_| sample.failure), now, effect);
    }

    // ---- moves ----

    /// Opens, for as long at least as the failure's retry hint asks.
    pub(super) fn open(
        &mut self,
        cause: Cause,
        retry_after_ms: Option<u64>,
        now: Stamp,
        effect: &mut Effect,
    ) {
        let counts = self.window.counts(now);
        self.failure_share = counts.error_rate();
        self.trips = self.trips.saturating_add(1);
        let hold_until = retry_after_ms.map_or(Stamp(0), |ms| now.plus(ms.min(self.settings.max_timeout_ms)));
        self.shown(now, effect, cause, |b| b.phase = Phase::Open { opened_at: now, hold_until });
        self.last_transition = now;
    }

    /// Holds a circuit that is open already for as long as the provider asks, up to the longest open time.
    pub(super) fn hold(&mut self, retry_after_ms: Option<u64>, now: Stamp) {
        if self.forced.is_some() || self.suspended {
            return;
        }
        if let (Phase::Open { opened_at, hold_until }, Some(ms)) = (&mut self.phase, retry_after_ms) {
            let wish = now.plus(ms).min(opened_at.plus(self.settings.max_timeout_ms));
            *hold_until = (*hold_until).max(wish);
        }
    }

    pub(super) fn close(&mut self) {
        self.phase = Phase::Closed;
        self.window.clear();
        self.row = 0;
        self.reopenings = 0;
        self.failure_share = Ratio::ZERO;
    }

    /// Makes a change, and tells it if what the breaker shows has changed.
    pub(super) fn shown(
        &mut self,
        now: Stamp,
        effect: &mut Effect,
        cause: Cause,
        change: impl FnOnce(&mut Self),
    ) -> bool {
        let (from, window, row) = (self.state(), self.window.counts(now), self.failures_in_a_row(now));
        change(self);
        let to = self.state();
        if from == to {
            return false;
        }
        self.since = now;
        effect.transitions.push(self.transition(from, cause, now, window, row));
        true
    }

    /// As [`Self::shown`], but an operator's command is told, and makes earlier calls late, even
    /// where what the breaker shows stays the same.
    pub(super) fn commanded(
        &mut self,
        now: Stamp,
        effect: &mut Effect,
        cause: Cause,
        change: impl FnOnce(&mut Self),
    ) {
        let (window, row) = (self.window.counts(now), self.failures_in_a_row(now));
        if !self.shown(now, effect, cause, change) {
            effect.transitions.push(self.transition(self.state(), cause, now, window, row));
        }
        self.last_transition = now;
    }

    fn transition(
        &self,
        from: State,
        cause: Cause,
        at: Stamp,
        window: Counts,
        failures_in_a_row: u32,
    ) -> Transition {
        let open_until = if self.state() == State::Open { self.open_until() } else { None };
        Transition {
            from,
            to: self.state(),
            cause,
            at,
            window,
            failures_in_a_row,
            trips: self.trips,
            open_until,
        }
    }
}
