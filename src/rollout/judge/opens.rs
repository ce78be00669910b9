use serde::{Deserialize, Serialize};

use super::counts::{Outcomes, float};
use crate::domain::logarithm::{ln_ratio, ln_ratio_with};

/// ln 20: the likelihood ratio that decides is 20 to 1.
const DECISIVE: f64 = 2.995_732_273_553_991;
/// The least base rate that is assumed, in parts per million.
const LEAST_BASE_PPM: u32 = 1_000;
/// The greatest failure rate that a threshold stands for. At 1 a single success would exclude it.
const MOST_THRESHOLD_PPM: u32 = 999_999;

/// Whether it was right that a circuit opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Open {
    /// The provider failed at the breaker's threshold.
    Expected,
    /// The provider failed at its base rate.
    Unexpected,
    /// Too few calls to tell.
    Unexplained,
    /// An operator opened it.
    Drill,
}

impl Open {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Expected, Self::Unexpected, Self::Unexplained, Self::Drill];

    /// The word on the wire and in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expected => "expected",
            Self::Unexpected => "unexpected",
            Self::Unexplained => "unexplained",
            Self::Drill => "drill",
        }
    }
}

/// The two failure rates between which calls decide, in parts per million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureRates {
    /// At which the breaker opens.
    pub threshold_ppm: u32,
    /// Of the provider when it is well.
    pub base_ppm: u32,
}

/// Judges an open by calls to the provider while the circuit was open that no breaker selected: `spared`, calls
/// of this tenant's control arm and its probes; where these do not decide, `elsewhere`, calls of other tenants
/// within one window's length of the open. By Wald's likelihood ratio of failing at the threshold against the
/// base rate. `drill` says that an operator forced the state.
#[must_use]
pub fn classify_open(drill: bool, spared: Outcomes, elsewhere: Outcomes, rates: FailureRates) -> Open {
    if drill {
        return Open::Drill;
    }
    let threshold = f64::from(rates.threshold_ppm.min(MOST_THRESHOLD_PPM)) / 1e6;
    let base = f64::from(rates.base_ppm.max(LEAST_BASE_PPM)) / 1e6;
    if threshold <= base {
        return Open::Unexplained;
    }
    let log_ratio = |calls: Outcomes| {
        float(calls.failed) * ln_ratio(threshold, base)
            + float(calls.succeeded) * ln_ratio_with(1.0 - threshold, 1.0 - base, base - threshold)
    };
    let decided = [spared, elsewhere].map(log_ratio).into_iter().find(|log| log.abs() >= DECISIVE);
    match decided {
        Some(log) if log > 0.0 => Open::Expected,
        Some(_) => Open::Unexpected,
        None => Open::Unexplained,
    }
}

/// Judges the opens of one circuit in a phase that stayed unexplained together, by the sum of their spared
/// calls: at low traffic one open time holds too few. `opens` are the judged opens of the circuit, each with
/// its spared calls; what is decided for the unexplained ones is decided for each of them.
#[must_use]
pub fn pool_unexplained(opens: &[(Open, Outcomes)], rates: FailureRates) -> Vec<Open> {
    let spared = opens
        .iter()
        .filter(|(open, _)| *open == Open::Unexplained)
        .fold(Outcomes::default(), |sum, (_, calls)| sum.plus(*calls));
    let together = classify_open(false, spared, Outcomes::default(), rates);
    let pooled = |open: Open| if open == Open::Unexplained { together } else { open };
    opens.iter().map(|(open, _)| pooled(*open)).collect()
}
