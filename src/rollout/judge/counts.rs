use serde::{Deserialize, Serialize};

use super::config::TreatedPercent;

/// How units ended. A unit is one request id; retries and fallbacks under one id are one unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// Units that ended without success.
    pub failed: u64,
    /// All others.
    pub succeeded: u64,
}

impl Outcomes {
    /// From all units and the failed ones among them; `None` where more failed than there are.
    #[must_use]
    pub fn of(units: u64, failed: u64) -> Option<Self> {
        Some(Self { failed, succeeded: units.checked_sub(failed)? })
    }

    /// Failed and succeeded; saturates.
    #[must_use]
    pub const fn units(&self) -> u64 {
        self.failed.saturating_add(self.succeeded)
    }

    /// Both together; saturates.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            failed: self.failed.saturating_add(other.failed),
            succeeded: self.succeeded.saturating_add(other.succeeded),
        }
    }

    /// These without others of them.
    pub(super) const fn minus(self, part: Self) -> Self {
        Self {
            failed: self.failed.saturating_sub(part.failed),
            succeeded: self.succeeded.saturating_sub(part.succeeded),
        }
    }

    /// The share of failures, shrunk towards 1 % with the weight of 50 units: never 0 or 1, and 1 % where
    /// there are no units.
    pub(super) fn smoothed_rate(&self) -> f64 {
        (float(self.failed) + 0.5) / (float(self.units()) + 50.0)
    }
}

/// Units by arm: *treated*, whose refusals are enforced, and *control*, whose refusals are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Units of the treated arm.
    pub treated: Outcomes,
    /// Units of the control arm.
    pub control: Outcomes,
}

impl Counts {
    /// From `[treated, treated that failed, control, control that failed]`, the row of a block on the wire;
    /// `None` where more failed than there are.
    #[must_use]
    pub fn from_row([treated, treated_failed, control, control_failed]: [u64; 4]) -> Option<Self> {
        let (treated, control) =
            (Outcomes::of(treated, treated_failed)?, Outcomes::of(control, control_failed)?);
        Some(Self { treated, control })
    }

    /// Both arms together.
    #[must_use]
    pub const fn pooled(&self) -> Outcomes {
        self.treated.plus(self.control)
    }

    /// Both together, arm by arm; saturates.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self { treated: self.treated.plus(other.treated), control: self.control.plus(other.control) }
    }

    /// These without others of them, arm by arm.
    pub(super) const fn minus(self, part: Self) -> Self {
        Self { treated: self.treated.minus(part.treated), control: self.control.minus(part.control) }
    }
}

/// The units of one tenant that were first seen in one window of log time (five minutes by default).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Groups of twelve windows since the phase began: hours at the default block.
    pub hour: u64,
    /// The share that split these units into arms.
    pub percent: TreatedPercent,
    /// Units that did not meet a breaker.
    pub plain: Counts,
    /// Units that met a breaker which was not closed, whether their refusal was enforced or not.
    pub met: Counts,
}

/// A count as a float: exact below 2^53, which no count reaches.
#[expect(clippy::cast_precision_loss, reason = "counts lie far below 2^53")]
pub(super) const fn float(count: u64) -> f64 {
    count as f64
}
