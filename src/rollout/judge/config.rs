//! Settings of the judge. Each is checked when it is made, here or when a snapshot is read, so that no
//! settings of a judge are illegal.

use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::counts::Outcomes;
use super::log_e::LogE;
use crate::domain::logarithm::ln;

/// A number outside its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange {
    /// The number.
    pub value: u32,
    /// The least that is allowed.
    pub least: u32,
    /// The most that is allowed.
    pub most: u32,
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not within {} to {}", self.value, self.least, self.most)
    }
}

impl std::error::Error for OutOfRange {}

const fn check(value: u32, least: u32, most: u32) -> Result<u32, OutOfRange> {
    if value < least || value > most { Err(OutOfRange { value, least, most }) } else { Ok(value) }
}

/// The share of a tenant's requests that are treated, in percent: 1 to 99. At 0 and at 100 one arm is empty
/// and there is nothing to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct TreatedPercent(u8);

impl TreatedPercent {
    /// Checks a share.
    ///
    /// # Errors
    /// [`OutOfRange`] unless it is within 1 to 99.
    pub fn try_new(percent: u8) -> Result<Self, OutOfRange> {
        check(u32::from(percent), 1, 99).map(|_| Self(percent))
    }

    /// In percent.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The probability that a unit is treated.
    pub(super) fn probability(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl TryFrom<u8> for TreatedPercent {
    type Error = OutOfRange;

    fn try_from(percent: u8) -> Result<Self, OutOfRange> {
        Self::try_new(percent)
    }
}

impl From<TreatedPercent> for u8 {
    fn from(percent: TreatedPercent) -> Self {
        percent.0
    }
}

/// Parts per million between two bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Ppm<const LEAST: u32, const MOST: u32>(u32);

impl<const LEAST: u32, const MOST: u32> Ppm<LEAST, MOST> {
    /// Checks a number of parts per million.
    ///
    /// # Errors
    /// [`OutOfRange`] unless it is within the bounds.
    pub fn try_new(ppm: u32) -> Result<Self, OutOfRange> {
        check(ppm, LEAST, MOST).map(Self)
    }

    /// In parts per million.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// As a fraction.
    pub(super) fn fraction(self) -> f64 {
        f64::from(self.0) / 1e6
    }
}

impl<const LEAST: u32, const MOST: u32> TryFrom<u32> for Ppm<LEAST, MOST> {
    type Error = OutOfRange;

    fn try_from(ppm: u32) -> Result<Self, OutOfRange> {
        Self::try_new(ppm)
    }
}

impl<const LEAST: u32, const MOST: u32> From<Ppm<LEAST, MOST>> for u32 {
    fn from(ppm: Ppm<LEAST, MOST>) -> Self {
        ppm.0
    }
}

/// The increase of the failure rate that SAFE must exclude. At 0 there would be nothing to bet on.
pub type SafeMargin = Ppm<1, 999_999>;

/// The increase of the failure rate that HARM tolerates. Above 6.6 percentage points, at a share of 1 %, no
/// prediction keeps a unit's loss within 19/20 of the capital.
pub type HarmMargin = Ppm<0, 50_000>;

impl HarmMargin {
    /// No increase.
    pub const NONE: Self = Self(0);
}

/// The probability of a wrong verdict that is accepted.
pub type Alpha = Ppm<1, 499_999>;

impl Alpha {
    /// 1 %: the default of HARM.
    pub const HARM: Self = Ppm(10_000);
    /// 5 %: the default of SAFE.
    pub const SAFE: Self = Ppm(50_000);

    /// The e-value that proves something at this probability, 1 / α.
    pub(super) fn threshold(self) -> f64 {
        1e6 / f64::from(self.0)
    }

    /// The logarithm of the e-value that proves something at this probability.
    #[must_use]
    pub fn log_threshold(self) -> LogE {
        LogE::from_nats(ln(self.threshold()))
    }
}

impl Ppm<1, 1_000_000> {
    /// 5 %: the default of [`LatencyConfig`](super::LatencyConfig).
    pub(super) const DEFAULT_LATENCY: Self = Ppm(50_000);
}

/// What a judge is told when a phase begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BetConfig {
    /// Units before the phase (seven days by default). Stakes and the first predictions come from their rate.
    pub history: Outcomes,
    /// The increase that SAFE must exclude.
    pub safe_margin: SafeMargin,
    /// The increase that HARM tolerates.
    pub harm_margin: HarmMargin,
    /// The number of lost requests that HARM tolerates besides.
    pub harm_budget: u64,
    /// HARM's probability of a false alarm in a phase.
    pub harm_alpha: Alpha,
    /// SAFE's probability of a false pass in a step.
    pub safe_alpha: Alpha,
    /// How long the phase may last, in hours as [`Block::hour`](super::Block::hour) counts them. Later starts
    /// share their weight equally over these.
    pub max_hours: NonZeroU32,
}

/// The SAFE margin of a plan that says `auto`: half of the history's failure rate, 0.1 to 1 percentage point.
#[must_use]
pub fn auto_safe_margin(history: Outcomes) -> SafeMargin {
    const LEAST: u32 = 1_000;
    const MOST: u32 = 10_000;
    // Nano-nats are parts per million here: a rate ÷ 1,000 × 10⁹.
    let ppm = LogE::from_nats(history.smoothed_rate() * 0.5 / 1e3).0;
    Ppm(u32::try_from(ppm).unwrap_or(MOST).clamp(LEAST, MOST))
}

/// The HARM budget of a plan that says `auto`: three requests with a fallback for refused requests; without
/// one, what reaches the treated arm in two open times, if that is more. This loss is the price of every
/// outage, since the circuit stays open for a while after it.
#[must_use]
pub fn auto_budget(treated_per_minute: u64, timeout_ms: u64, has_fallback: bool) -> u64 {
    const LEAST: u64 = 3;
    const MINUTE_MS: u64 = 60_000;
    if has_fallback {
        return LEAST;
    }
    let lost = treated_per_minute.saturating_mul(2).saturating_mul(timeout_ms).div_ceil(MINUTE_MS);
    lost.max(LEAST)
}
