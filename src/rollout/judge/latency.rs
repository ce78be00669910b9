use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::config::{Alpha, Ppm};
use super::counts::float;
use crate::domain::logarithm::{ln, ln_ratio};

/// The increase of latency that must be excluded, up to twice as slow.
pub type LatencyLimit = Ppm<1, 1_000_000>;

/// How latency is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyConfig {
    /// The probability of a wrong verdict.
    pub alpha: Alpha,
    /// The increase that must be excluded.
    pub limit: LatencyLimit,
    /// The number of blocks at which the bounds are tightest.
    pub best_at: NonZeroU32,
    /// Fewer blocks than this are not judged: the bounds are asymptotic.
    pub least: u32,
}

impl Default for LatencyConfig {
    /// 5 %, an increase of 5 %, tightest at 72 blocks (six hours at the default block), at least 30.
    fn default() -> Self {
        const BEST_AT: NonZeroU32 = NonZeroU32::MIN.saturating_add(71);
        Self { alpha: Alpha::SAFE, limit: Ppm::DEFAULT_LATENCY, best_at: BEST_AT, least: 30 }
    }
}

/// Whether the treated arm is slower, from one quantile of the latency of both arms in each block.
///
/// A one-sided asymptotic confidence sequence for the mean of x = ln(treated ÷ control), valid at every look
/// (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, arXiv:2103.06476). A block needs at least 50 successful
/// units of each arm for the median, and 200 for the 95th percentile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencySequence {
    config: LatencyConfig,
    blocks: u64,
    /// Mean of x.
    #[serde(with = "bits")]
    mean: f64,
    /// Sum of squared deviations from the mean, by Welford's method.
    #[serde(with = "bits")]
    squares: f64,
}

impl LatencySequence {
    /// A sequence without blocks.
    #[must_use]
    pub const fn new(config: LatencyConfig) -> Self {
        Self { config, blocks: 0, mean: 0.0, squares: 0.0 }
    }

    /// Takes the quantile of both arms, in whole milliseconds; 0 counts as 1.
    pub fn look(&mut self, treated_ms: u64, control_ms: u64) -> LatencyLook {
        let x = ln_ratio(float(treated_ms.max(1)), float(control_ms.max(1)));
        self.blocks = self.blocks.saturating_add(1);
        let deviation = x - self.mean;
        self.mean += deviation / float(self.blocks);
        self.squares += deviation * (x - self.mean);
        self.current()
    }

    /// What is known so far.
    #[must_use]
    pub fn current(&self) -> LatencyLook {
        if self.blocks == 0 || self.blocks < u64::from(self.config.least) {
            return LatencyLook { verdict: LatencyVerdict::Inconclusive, low: self.mean, high: self.mean };
        }
        let half = self.half_width();
        let (low, high) = (self.mean - half, self.mean + half);
        let limit = ln(1.0 + self.config.limit.fraction());
        let verdict = if high < limit {
            LatencyVerdict::Pass
        } else if low > limit {
            LatencyVerdict::Fail
        } else {
            LatencyVerdict::Inconclusive
        };
        LatencyLook { verdict, low, high }
    }

    /// Distance of a bound from the mean.
    fn half_width(&self) -> f64 {
        let (alpha, j) = (self.config.alpha.fraction(), float(self.blocks));
        let variance = self.squares / j;
        let rho2 = self.rho2();
        let u = j * rho2 + 1.0;
        (variance * 2.0 * u / (j * j * rho2) * ln(1.0 + u.sqrt() / (2.0 * alpha))).sqrt()
    }

    /// ρ², by which a one-sided boundary is tightest at `best_at` blocks.
    fn rho2(&self) -> f64 {
        let log = -ln(2.0 * self.config.alpha.fraction());
        (2.0 * log + ln(1.0 + 2.0 * log)) / f64::from(self.config.best_at.get())
    }
}

/// What is known of latency after a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencyLook {
    /// What follows.
    pub verdict: LatencyVerdict,
    /// Lower bound of the mean of ln(treated ÷ control); the mean itself while there are too few blocks.
    pub low: f64,
    /// Upper bound; likewise.
    pub high: f64,
}

impl LatencyLook {
    /// [`Self::low`] in millionths, for reports.
    #[must_use]
    pub fn low_ppm(&self) -> i64 {
        millionths(self.low)
    }

    /// [`Self::high`] in millionths, for reports.
    #[must_use]
    pub fn high_ppm(&self) -> i64 {
        millionths(self.high)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounded; the cast saturates")]
fn millionths(bound: f64) -> i64 {
    (bound * 1e6).round() as i64
}

/// The verdict on latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LatencyVerdict {
    /// The treated arm is not slower than the limit.
    Pass,
    /// It is.
    Fail,
    /// Neither is proven.
    Inconclusive,
}

impl LatencyVerdict {
    /// The word on the wire and in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// The quantile of whole numbers by nearest rank; `None` without numbers. More than 1,000 permille is the
/// greatest.
#[must_use]
pub fn quantile(values: &[u64], permille: u16) -> Option<u64> {
    let mut ordered = values.to_vec();
    ordered.sort_unstable();
    let rank = ordered.len().saturating_mul(usize::from(permille.min(1_000))).div_ceil(1_000);
    ordered.get(rank.saturating_sub(1)).copied()
}

/// A float as its bits: text formats lose its last digit.
mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(value.to_bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        u64::deserialize(from).map(f64::from_bits)
    }
}
