//! One bet on the units of a block.
//!
//! A unit's score is Z = (A − π) / (π (1 − π)) · (Y − m): A is 1 in the treated arm and 0 in the control arm,
//! π the share of the treated arm, Y is 1 where the unit failed, m a prediction of Y. Given everything but
//! the arm, Z has the expectation Y(treated) − Y(control), the effect on this unit (Horvitz and Thompson
//! 1952), whatever m is: m must be fixed before and be the same for both arms. A good m only lowers the
//! variance.
//!
//! A bet of stake λ multiplies the capital by 1 ± λ (Z − tolerance) for each unit (Waudby-Smith and Ramdas,
//! *Estimating means of bounded random variables by betting*, 2024).

use super::config::{BetConfig, TreatedPercent};
use super::counts::{Counts, float};
use crate::domain::logarithm::{ln, ln_1p};

/// The greatest share of the capital that one unit may take, so that a bet can recover from it.
const GREATEST_LOSS: f64 = 0.95;

/// What a bet wins on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// More failures in the treated arm than tolerated.
    Harm,
    /// Fewer failures in the treated arm than the margin allows.
    Safety,
}

impl Side {
    const fn sign(self) -> f64 {
        match self {
            Self::Harm => 1.0,
            Self::Safety => -1.0,
        }
    }
}

/// A bet; see the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bet {
    pub(super) side: Side,
    /// π, the probability of the treated arm.
    pub(super) pi: f64,
    /// λ.
    pub(super) stake: f64,
    /// The effect at which the bet is fair.
    pub(super) tolerance: f64,
}

impl Bet {
    /// The logarithm, in nats, of what this bet multiplies its capital by over these units.
    pub(super) fn log_growth(&self, units: &Counts, prediction: f64) -> f64 {
        let factor = self.side.sign() * self.stake;
        let counts =
            [units.treated.failed, units.treated.succeeded, units.control.failed, units.control.succeeded];
        let scores = scores(self.bounded(prediction), self.pi);
        counts
            .iter()
            .zip(scores)
            .filter(|(count, _)| **count > 0)
            .fold(0.0, |total, (count, z)| total + float(*count) * ln_1p(factor * (z - self.tolerance)))
    }

    /// The logarithm, in nats, of what this bet multiplies its capital by over units that the treatment
    /// cannot have changed, so that their score is 0.
    pub(super) fn log_growth_unchanged(&self, units: u64) -> f64 {
        float(units) * ln_1p(-self.side.sign() * self.stake * self.tolerance)
    }

    /// The nearest prediction by which no unit loses more than [`GREATEST_LOSS`] of the capital. The stakes
    /// and the bounds of the margins are such that there is one.
    fn bounded(&self, prediction: f64) -> f64 {
        let qi = 1.0 - self.pi;
        let room = GREATEST_LOSS / self.stake;
        let (most, least) = match self.side {
            // Successes of the treated arm and failures of the control arm lose.
            Side::Harm => (self.pi * (room - self.tolerance), 1.0 - qi * (room - self.tolerance)),
            // Failures of the treated arm and successes of the control arm lose.
            Side::Safety => (qi * (room + self.tolerance), 1.0 - self.pi * (room + self.tolerance)),
        };
        // Not `clamp(least, most)`: it panics where bounds cross, and these are computed.
        prediction.min(most).max(least).clamp(0.0, 1.0)
    }
}

/// The score of a unit: treated and failed, treated and succeeded, control and failed, control and succeeded.
pub(super) fn scores(m: f64, pi: f64) -> [f64; 4] {
    let qi = 1.0 - pi;
    [(1.0 - m) / pi, -m / pi, -(1.0 - m) / qi, m / qi]
}

/// One of the bets that share the capital of a test.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stake {
    /// Its share of the capital.
    pub(super) weight: f64,
    /// λ.
    pub(super) size: f64,
}

/// The stakes on harm. They depend on the share alone, so they are constant over a step: only then does the
/// test speak of the *average* effect. The first two grow fastest where the treated arm fails 1.5 and 3 times
/// as often as the control arm; the third is for an outage of the treated arm alone.
pub(super) fn harm_stakes(pi: f64) -> [Stake; 3] {
    let qi = 1.0 - pi;
    let for_ratio = |ratio: f64| qi * (1.0 - 1.0 / (1.0 + (ratio - 1.0) * pi));
    [
        Stake { weight: 0.4, size: for_ratio(1.5) },
        Stake { weight: 0.4, size: for_ratio(3.0) },
        Stake { weight: 0.2, size: 0.9 * qi },
    ]
}

/// The stakes on safety: 0.9 and 0.3 of the one that grows fastest if the failure rate is that of the history
/// and the treatment has no effect. The smaller one is for a rate that has risen since.
pub(super) fn safe_stakes(pi: f64, history_rate: f64, margin: f64) -> [Stake; 2] {
    let qi = 1.0 - pi;
    let best = margin * pi * qi / (history_rate * (1.0 - history_rate));
    let best = best.min(pi.min(qi));
    [Stake { weight: 0.8, size: best * 0.9 }, Stake { weight: 0.2, size: best * 0.3 }]
}

/// Units of both arms after which SAFE has passed in four of five rollouts, if the treatment has no effect and
/// the failure rate is that of the history. A plan whose tenants have fewer cannot pass.
#[must_use]
pub fn units_needed(config: &BetConfig, percent: TreatedPercent) -> u64 {
    units_needed_at(
        config.history.smoothed_rate(),
        config.safe_margin.fraction(),
        percent.probability(),
        config.safe_alpha.threshold(),
    )
}

/// The nats that are needed over those that a unit brings on average, and 1.45 times that: by simulation, the
/// ratio of the 80th percentile to this quotient.
pub(super) fn units_needed_at(rate: f64, margin: f64, pi: f64, threshold: f64) -> u64 {
    const QUANTILE_80: f64 = 1.45;
    /// More than any tenant has: the bet does not grow.
    const NEVER: u64 = 1 << 53;
    let [Stake { weight, size }, _] = safe_stakes(pi, rate, margin);
    let chances = [pi * rate, pi * (1.0 - rate), (1.0 - pi) * rate, (1.0 - pi) * (1.0 - rate)];
    let growth = chances
        .iter()
        .zip(scores(rate, pi))
        .fold(0.0, |growth, (chance, z)| growth + chance * ln_1p(-size * (z - margin)));
    if growth <= 0.0 {
        return NEVER;
    }
    let units = QUANTILE_80 * (ln(threshold) - ln(weight)) / growth;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive; the cast saturates"
    )]
    let units = units as u64;
    units.saturating_add(1)
}
