use std::sync::Arc;

use super::Breaker;
use super::machine::Phase;
use super::settings::Settings;
use super::transition::{Effect, State};
use super::window::Counts;
use crate::domain::{Ratio, Stamp};

/// A breaker as people and metrics see it at some moment.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// What it shows.
    pub state: State,
    /// Since when.
    pub since: Stamp,
    /// Failures in a row.
    pub failures_in_a_row: u32,
    /// Successful probes in a row, while half-open.
    pub successes_in_a_row: u32,
    /// The window's sums.
    pub window: Counts,
    /// Probes in flight.
    pub half_open_in_flight: u32,
    /// Milliseconds until a probe may be claimed; only while open, absent where open has no end.
    pub remaining_ms: Option<u64>,
    /// When a probe may be claimed; only while open, absent where open has no end.
    pub open_until: Option<Stamp>,
    /// How often it opened.
    pub trips: u32,
    /// What an operator forced, and until when.
    pub forced: Option<(State, Option<Stamp>)>,
    /// Whether the emergency switch is off for it.
    pub suspended: bool,
    /// When it last moved; absent if it never did.
    pub last_transition: Option<Stamp>,
    /// The failures' share when it last opened.
    pub failure_share: Ratio,
}

impl Breaker {
    /// What it shows: the switch before a force, a force before its own judgement.
    #[must_use]
    pub fn state(&self) -> State {
        if self.suspended {
            return State::Closed;
        }
        if let Some(force) = &self.forced {
            return force.to;
        }
        match self.phase {
            Phase::Closed => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// Whether an operator's force decides what it shows.
    #[must_use]
    pub const fn is_forced(&self) -> bool {
        self.forced.is_some() && !self.suspended
    }

    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its settings, shared.
    #[must_use]
    pub fn settings_shared(&self) -> Arc<Settings> {
        Arc::clone(&self.settings)
    }

    /// The failures' share when it last opened, for the estimate of calls saved.
    #[must_use]
    pub const fn failure_share(&self) -> Ratio {
        self.failure_share
    }

    /// Reads a word of each of its cache lines that a result touches. What it tells is of no use: the lines
    /// are then at hand.
    #[must_use]
    pub fn glance(&self) -> u64 {
        self.window.glance() ^ self.row_at.0 ^ self.seed
    }

    /// As [`Self::glance`], for what stands elsewhere and is touched when time moves on.
    #[must_use]
    pub fn glance_past(&self, until: Stamp) -> u64 {
        self.window.glance_past(until)
    }

    /// The window's sums at `now`.
    #[must_use]
    pub fn counts(&self, now: Stamp) -> Counts {
        self.window.counts(now)
    }

    /// The window's buckets at `now`, oldest first, each with when it began.
    #[must_use]
    pub fn buckets(&self, now: Stamp) -> Vec<(Stamp, Counts)> {
        self.window.buckets(now)
    }

    /// Failures in a row at `now`: while closed, a whole window without a result ends the row.
    pub(super) fn failures_in_a_row(&self, now: Stamp) -> u32 {
        let ended = self.phase == Phase::Closed && now.since(self.row_at) >= self.settings.window_ms;
        if ended { 0 } else { self.row }
    }

    /// When the open time ends; `None` while not open, or forced open without an end.
    pub(super) fn open_until(&self) -> Option<Stamp> {
        if let Some(force) = &self.forced {
            return force.until();
        }
        match self.phase {
            Phase::Open { opened_at, hold_until } => {
                let own = opened_at.plus(self.settings.open_ms(self.reopenings, self.trips, self.seed));
                // A hint taken under a longer bound than today's is cut to today's.
                let hold = hold_until.min(opened_at.plus(self.settings.max_timeout_ms));
                Some(own.max(hold))
            }
            _ => None,
        }
    }

    /// Milliseconds of the open time that are left; 0 while not open.
    pub(super) fn remaining_ms(&self, now: Stamp) -> u64 {
        self.open_until().map_or(0, |until| until.since(now))
    }

    /// What people and metrics see at `now`, which may be later than the last input.
    #[must_use]
    pub fn view(&self, now: Stamp) -> View {
        if self.force_ended(now).is_some() {
            // No entry has found it yet; whoever looks need not wait for one.
            let mut after = self.clone();
            after.end_force(now, &mut Effect::default());
            return after.view(now);
        }
        let (successes, leases) = match &self.phase {
            Phase::HalfOpen { successes, leases } => (*successes, leases.as_slice()),
            _ => (0, [].as_slice()),
        };
        let state = self.state();
        let open_until = match state {
            State::Open => self.open_until(),
            _ => None,
        };
        View {
            state,
            since: self.since,
            failures_in_a_row: self.failures_in_a_row(now),
            successes_in_a_row: successes,
            window: self.window.counts(now),
            half_open_in_flight: u32::try_from(leases.iter().filter(|l| l.deadline > now).count())
                .unwrap_or(u32::MAX),
            remaining_ms: open_until.map(|until| until.since(now)),
            open_until,
            trips: self.trips,
            forced: self.forced.as_ref().map(|f| (f.to, f.until())),
            suspended: self.suspended,
            last_transition: (self.last_transition > Stamp(0)).then_some(self.last_transition),
            failure_share: self.failure_share,
        }
    }
}
