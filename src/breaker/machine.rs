use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::gate::HALF_OPEN_RETRY_MS;
use super::settings::Settings;
use super::transition::{Cause, Effect, Judged, State, Transition, Verdict};
use super::window::{Counts, Sample, Window};
use crate::domain::{ClaimId, Disposition, Outcome, Ratio, Stamp, Status};

/// What may happen to a breaker. Every kind is one entry of the log, or a consequence of one.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A provider call ended.
    Result(&'a Outcome<'a>),
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

/// The circuit breaker of one (tenant, provider); see [`super`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    pub(super) settings: Arc<Settings>,
    pub(super) phase: Phase,
    pub(super) forced: Option<Force>,
    pub(super) suspended: bool,
    pub(super) window: Window,
    /// Failures in a row.
    pub(super) row: u32,
    /// When the last result was applied: the row ends when a whole window passes without one.
    pub(super) row_at: Stamp,
    /// Since when it shows what it shows.
    pub(super) since: Stamp,
    /// What makes calls that began before it late; the epoch until there was one.
    pub(super) last_transition: Stamp,
    /// How often it opened.
    pub(super) trips: u32,
    /// How often it reopened without a close in between.
    pub(super) reopenings: u32,
    /// The failures' share when it last opened.
    pub(super) failure_share: Ratio,
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
    pub fn apply(&mut self, input: Input<'_>, now: Stamp) -> Effect {
        let mut effect = Effect::default();
        self.end_force(now, &mut effect);
        match input {
            Input::Result(outcome) => self.result(outcome, now, &mut effect),
            Input::Claim(claim) => effect.verdict = Some(self.claim(&claim, now, &mut effect)),
            Input::Release(claim) => self.release(claim, now, &mut effect),
            Input::Force { to, ttl_ms } => self.force(to, ttl_ms, now, &mut effect),
            Input::Unforce => self.unforce(now, &mut effect),
            Input::Reset => self.reset(now, &mut effect),
            Input::Configure(settings) => self.configure(settings, now, &mut effect),
            Input::Suspend(off) => self.suspend(off, now, &mut effect),
            Input::ClockSetBack => self.clock_set_back(now),
        }
        effect
    }

    // ---- results ----

    fn result(&mut self, outcome: &Outcome<'_>, now: Stamp, effect: &mut Effect) {
        self.expire_leases(now, effect);
        let failure = self.settings.failure_statuses.contains(outcome.status);
        let probe = self.take_lease(outcome, effect);
        let late = !probe && outcome.began(now) < self.last_transition;
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

    // ---- probes ----

    fn claim(&mut self, claim: &Claim<'_>, now: Stamp, effect: &mut Effect) -> Verdict {
        if self.suspended {
            return Verdict::NotNeeded;
        }
        if let Some(force) = &self.forced {
            return match force.to {
                State::Open => {
                    let wait = force.until().map_or(self.settings.timeout_ms, |until| until.since(now));
                    Verdict::Refused { state: State::Open, retry_after_ms: wait }
                }
                _ => Verdict::NotNeeded,
            };
        }
        self.expire_leases(now, effect);
        let refused = |state, retry_after_ms| Verdict::Refused { state, retry_after_ms };
        match &mut self.phase {
            Phase::Closed => Verdict::NotNeeded,
            Phase::Open { .. } => {
                let remaining = self.remaining_ms(now);
                if remaining > 0 || now > claim.latest {
                    return refused(State::Open, remaining);
                }
                let lease = self.lease(claim, now);
                self.shown(now, effect, Cause::TimeoutElapsed, |b| {
                    b.phase = Phase::HalfOpen { successes: 0, leases: vec![lease] };
                });
                self.last_transition = now;
                Verdict::Granted
            }
            Phase::HalfOpen { leases, .. } => {
                let full =
                    leases.len() >= usize::try_from(self.settings.half_open_max_calls).unwrap_or(usize::MAX);
                let held = leases.iter().any(|l| *l.request_id == *claim.request_id);
                if full || held || now > claim.latest {
                    let soonest =
                        leases.iter().map(|l| l.deadline.since(now)).min().unwrap_or(HALF_OPEN_RETRY_MS);
                    return refused(State::HalfOpen, soonest.min(HALF_OPEN_RETRY_MS));
                }
                let lease = self.lease(claim, now);
                if let Phase::HalfOpen { leases, .. } = &mut self.phase {
                    leases.push(lease);
                }
                Verdict::Granted
            }
        }
    }

    fn lease(&self, claim: &Claim<'_>, now: Stamp) -> Lease {
        let length_ms = self.settings.probe_timeout_ms.max(claim.lease_ms);
        Lease {
            request_id: claim.request_id.into(),
            claim: claim.claim,
            length_ms,
            deadline: now.plus(length_ms),
        }
    }

    fn release(&mut self, claim: ClaimId, now: Stamp, effect: &mut Effect) {
        if self.forced.is_some() {
            return;
        }
        self.expire_leases(now, effect);
        if let Phase::HalfOpen { leases, .. } = &mut self.phase
            && let Some(at) = leases.iter().position(|l| l.claim == claim)
        {
            effect.freed = Some(leases.remove(at).claim);
        }
    }

    /// The lease that a result answers, taken off the books: it is a probe's result, whatever it says.
    fn take_lease(&mut self, outcome: &Outcome<'_>, effect: &mut Effect) -> bool {
        if self.forced.is_some() || self.suspended {
            return false;
        }
        if let Phase::HalfOpen { leases, .. } = &mut self.phase
            && let Some(request_id) = outcome.request_id.as_deref()
            && let Some(at) = leases.iter().position(|l| *l.request_id == *request_id)
        {
            effect.freed = Some(leases.remove(at).claim);
            return true;
        }
        false
    }

    fn expire_leases(&mut self, now: Stamp, effect: &mut Effect) {
        // What lies beneath a force does not move.
        if self.forced.is_some() {
            return;
        }
        if let Phase::HalfOpen { leases, .. } = &mut self.phase {
            let before = leases.len();
            leases.retain(|l| l.deadline > now);
            effect.expired_leases += u32::try_from(before - leases.len()).unwrap_or(u32::MAX);
        }
    }

    // ---- operators ----

    fn force(&mut self, to: State, ttl_ms: Option<u64>, now: Stamp, effect: &mut Effect) {
        let to = if to == State::Open { State::Open } else { State::Closed };
        self.commanded(now, effect, Cause::Forced, |b| b.forced = Some(Force { to, since: now, ttl_ms }));
    }

    fn unforce(&mut self, now: Stamp, effect: &mut Effect) {
        if self.forced.is_some() {
            self.commanded(now, effect, Cause::ForceLifted, Self::lift_force);
        }
    }

    fn end_force(&mut self, now: Stamp, effect: &mut Effect) {
        if self.forced.as_ref().and_then(Force::until).is_some_and(|until| until <= now) {
            self.commanded(now, effect, Cause::ForceLifted, Self::lift_force);
        }
    }

    /// After forced closed it is closed and empty, after forced open half-open.
    fn lift_force(&mut self) {
        let was = self.forced.take().map(|f| f.to);
        self.close();
        if was == Some(State::Open) && self.settings.enabled {
            self.phase = Phase::HalfOpen { successes: 0, leases: Vec::new() };
        }
    }

    fn reset(&mut self, now: Stamp, effect: &mut Effect) {
        // A reset never removes a force, and while forced what lies beneath does not move.
        if self.forced.is_none() {
            self.commanded(now, effect, Cause::Reset, |b| {
                b.close();
                b.trips = 0;
            });
        }
    }

    fn configure(&mut self, settings: Arc<Settings>, now: Stamp, effect: &mut Effect) {
        let switched = settings.enabled != self.settings.enabled;
        // A row that the old window has ended does not come back with a longer one.
        self.row = self.failures_in_a_row(now);
        self.window.resize(settings.window_ms, now);
        self.settings = settings;
        if switched && self.forced.is_none() {
            // Switched off it is closed; switched on it starts without evidence.
            if self.shown(now, effect, Cause::Disabled, Self::close) {
                self.last_transition = now;
            }
        }
    }

    fn suspend(&mut self, off: bool, now: Stamp, effect: &mut Effect) {
        if self.suspended == off {
            return;
        }
        let moved = self.shown(now, effect, Cause::Flag, |b| {
            b.suspended = off;
            if b.forced.is_none() {
                b.close();
            }
        });
        if moved {
            self.last_transition = now;
        }
    }

    /// Windows empty and deadlines start anew, since times from before cannot be compared.
    fn clock_set_back(&mut self, now: Stamp) {
        self.window.clear();
        self.row = 0;
        self.row_at = now;
        self.since = now;
        self.last_transition = self.last_transition.min(now);
        if let Some(force) = &mut self.forced {
            force.since = now;
        }
        match &mut self.phase {
            Phase::Closed => {}
            Phase::Open { opened_at, hold_until } => {
                *opened_at = now;
                *hold_until = Stamp(0);
            }
            Phase::HalfOpen { leases, .. } => {
                for lease in leases {
                    lease.deadline = now.plus(lease.length_ms);
                }
            }
        }
    }

    // ---- moves ----

    /// Opens, for as long at least as the failure's retry hint asks.
    fn open(&mut self, cause: Cause, retry_after_ms: Option<u64>, now: Stamp, effect: &mut Effect) {
        let counts = self.window.counts(now);
        self.failure_share = counts.error_rate();
        self.trips = self.trips.saturating_add(1);
        let hold_until = retry_after_ms.map_or(Stamp(0), |ms| now.plus(ms.min(self.settings.max_timeout_ms)));
        self.shown(now, effect, cause, |b| b.phase = Phase::Open { opened_at: now, hold_until });
        self.last_transition = now;
    }

    /// Holds a circuit that is open already for as long as the provider asks, up to the longest open time.
    fn hold(&mut self, retry_after_ms: Option<u64>, now: Stamp) {
        if self.forced.is_some() || self.suspended {
            return;
        }
        if let (Phase::Open { opened_at, hold_until }, Some(ms)) = (&mut self.phase, retry_after_ms) {
            let wish = now.plus(ms).min(opened_at.plus(self.settings.max_timeout_ms));
            *hold_until = (*hold_until).max(wish);
        }
    }

    fn close(&mut self) {
        self.phase = Phase::Closed;
        self.window.clear();
        self.row = 0;
        self.reopenings = 0;
        self.failure_share = Ratio::ZERO;
    }

    /// Makes a change, and tells it if what the breaker shows has changed.
    fn shown(
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
    fn commanded(&mut self, now: Stamp, effect: &mut Effect, cause: Cause, change: impl FnOnce(&mut Self)) {
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

    /// Feeds all that later inputs depend on to a hash: equal states, equal digests.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(&self.settings.digest.to_le_bytes());
        let (tag, a, b) = match &self.phase {
            Phase::Closed => (0u64, 0, 0),
            Phase::Open { opened_at, hold_until } => (1, opened_at.0, hold_until.0),
            Phase::HalfOpen { successes, leases } => (2, u64::from(*successes), leases.len() as u64),
        };
        let force = self.forced.as_ref();
        for n in [
            self.seed,
            tag,
            a,
            b,
            force.map_or(0, |f| 1 + f.to as u64),
            force.map_or(0, |f| f.since.0),
            u64::from(force.is_some_and(|f| f.ttl_ms.is_some())),
            force.and_then(|f| f.ttl_ms).unwrap_or(0),
            u64::from(self.suspended),
            u64::from(self.row),
            self.row_at.0,
            self.since.0,
            self.last_transition.0,
            u64::from(self.trips),
            u64::from(self.reopenings),
            u64::from(self.failure_share.ppm()),
        ] {
            hash.update(&n.to_le_bytes());
        }
        if let Phase::HalfOpen { leases, .. } = &self.phase {
            for lease in leases {
                hash.update(lease.request_id.as_bytes());
                hash.update(&lease.claim.0.to_le_bytes());
                hash.update(&lease.length_ms.to_le_bytes());
                hash.update(&lease.deadline.0.to_le_bytes());
            }
        }
        self.window.digest(&mut hash);
        hash.digest()
    }
}
