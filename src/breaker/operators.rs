//! What operators and their documents do to a breaker: force, reset, settings, the emergency switch.

use std::sync::Arc;

use super::Breaker;
use super::machine::{Force, Phase};
use super::settings::Settings;
use super::transition::{Cause, Effect, State};
use crate::domain::Stamp;

impl Breaker {
    pub(super) fn force(&mut self, to: State, ttl_ms: Option<u64>, now: Stamp, effect: &mut Effect) {
        let to = if to == State::Open { State::Open } else { State::Closed };
        self.commanded(now, effect, Cause::Forced, |b| {
            b.forced = Some(Box::new(Force { to, since: now, ttl_ms }))
        });
    }

    pub(super) fn unforce(&mut self, now: Stamp, effect: &mut Effect) {
        if self.forced.is_some() {
            self.commanded(now, effect, Cause::ForceLifted, Self::lift_force);
        }
    }

    /// Ends a force whose time is over. The first entry after it finds that, but it ended when it
    /// ended: calls that began since are not late.
    pub(super) fn end_force(&mut self, now: Stamp, effect: &mut Effect) {
        let Some(until) = self.force_ended(now) else { return };
        let told = effect.transitions.len();
        self.commanded(now, effect, Cause::ForceLifted, Self::lift_force);
        self.last_transition = until;
        if let Some(transition) = effect.transitions.get_mut(told) {
            transition.at = until;
            if transition.from != transition.to {
                self.since = until;
            }
        }
    }

    /// When a force ended whose time is over at `now`.
    pub(super) fn force_ended(&self, now: Stamp) -> Option<Stamp> {
        self.forced.as_deref().and_then(Force::until).filter(|until| *until <= now)
    }

    /// After forced closed it is closed and empty, after forced open half-open.
    pub(super) fn lift_force(&mut self) {
        let was = self.forced.take().map(|f| f.to);
        self.close();
        if was == Some(State::Open) && self.settings.enabled {
            self.phase = Phase::HalfOpen { successes: 0, leases: Vec::new() };
        }
    }

    pub(super) fn reset(&mut self, now: Stamp, effect: &mut Effect) {
        // A reset never removes a force, and while forced what lies beneath does not move.
        if self.forced.is_none() {
            self.commanded(now, effect, Cause::Reset, |b| {
                b.close();
                b.trips = 0;
            });
        }
    }

    pub(super) fn configure(&mut self, settings: Arc<Settings>, now: Stamp, effect: &mut Effect) {
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

    pub(super) fn suspend(&mut self, off: bool, now: Stamp, effect: &mut Effect) {
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
    pub(super) fn clock_set_back(&mut self, now: Stamp) {
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
}
