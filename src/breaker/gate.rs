use super::Breaker;
use super::machine::Phase;
use super::transition::State;
use crate::domain::Stamp;

/// How long a caller is told to wait for a slot of a half-open breaker: a probe's answer comes soon,
/// or not at all.
pub(super) const HALF_OPEN_RETRY_MS: u64 = 1_000;

/// What the decide path needs to know of a breaker. Derived from its state; holds until the next
/// input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Who may pass.
    pub position: Position,
    /// Share of requests, in percent, whose refusal is enforced.
    pub enforce_percent: u8,
}

/// Who may pass a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Everyone.
    Pass,
    /// No one before `until`; after it a claim is worth a try. `None`: no one until an operator
    /// says so.
    Refuse {
        /// The end of the open time or of the force.
        until: Option<Stamp>,
    },
    /// Whoever claims one of the `free` slots. With none free, a claim is worth a try again when the
    /// soonest lease ends.
    Probe {
        /// Slots that nobody holds.
        free: u32,
        /// When the soonest of the leases ends.
        next_expiry: Option<Stamp>,
    },
}

impl Breaker {
    /// What the decide path needs to know.
    #[must_use]
    pub fn gate(&self) -> Gate {
        let position = if self.suspended {
            Position::Pass
        } else if let Some(force) = &self.forced {
            match force.to {
                State::Open => Position::Refuse { until: force.until() },
                _ => Position::Pass,
            }
        } else {
            match &self.phase {
                Phase::Closed => Position::Pass,
                Phase::Open { .. } => Position::Refuse { until: self.open_until() },
                Phase::HalfOpen { leases, .. } => Position::Probe {
                    free: self
                        .settings
                        .half_open_max_calls
                        .saturating_sub(u32::try_from(leases.len()).unwrap_or(u32::MAX)),
                    next_expiry: leases.iter().map(|l| l.deadline).min(),
                },
            }
        };
        Gate { position, enforce_percent: self.settings.enforce_percent }
    }
}
