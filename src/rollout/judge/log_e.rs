use std::fmt;

use serde::{Deserialize, Serialize};

const NANO: f64 = 1e9;

/// The logarithm of an e-value in whole nano-nats: 10⁹ times its natural logarithm.
///
/// An e-value is the capital of a bet that began with 1. Under the null hypothesis its expectation is at most
/// 1, so by Ville's inequality it ever reaches 1 / α with probability α at most.
///
/// Evidence is rounded to this unit once, for each block, and is an integer from then on: sums are exact and
/// do not depend on their order. They saturate beyond ±9.2 · 10⁹ nats, which no block sequence reaches: at
/// 1,000 units a second that takes more than a month of units that all lose 3 nats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogE(pub i64);

impl LogE {
    /// An e-value of 1: no evidence.
    pub const ZERO: Self = Self(0);
    /// An e-value of 1,000.
    pub const THOUSAND: Self = Self(6_907_755_279);

    /// From nats, to the nearest nano-nat; half goes away from zero.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "rounded; the cast saturates")]
    pub fn from_nats(nats: f64) -> Self {
        Self((nats * NANO).round() as i64)
    }

    /// The evidence of two blocks, or of two tenants that are judged together; saturates.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl LogE {
    /// In nats, for people and graphs.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "nobody judges by it")]
    pub fn nats(self) -> f64 {
        self.0 as f64 / NANO
    }
}

impl fmt::Display for LogE {
    /// In nats, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.nats())
    }
}
