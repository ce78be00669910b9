use std::fmt;

use super::config::TreatedPercent;
use super::log_e::LogE;

/// What is known after a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The greatest evidence that the treatment harms.
    pub harm: LogE,
    /// The greatest evidence that it adds less than the margin.
    pub safe: LogE,
    /// The greatest evidence that the arms do not have their sizes; see [`ShareTest`](super::ShareTest).
    pub share: LogE,
    /// What follows.
    pub verdict: Verdict,
}

/// The verdict on the treatment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Proven safe: the treatment adds less than the margin to the failure rate.
    Pass,
    /// Proven harm. It stays for the phase.
    Fail,
    /// Neither.
    Inconclusive(Reason),
}

impl Verdict {
    /// The word on the wire and in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive(_) => "inconclusive",
        }
    }

    /// The word for why; empty where it passes.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Pass => "",
            Self::Fail => "harm",
            Self::Inconclusive(reason) => reason.as_str(),
        }
    }
}

/// Why a verdict is inconclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// An arm of this step has no units.
    NoData,
    /// The arms do not have their sizes, so the bets prove nothing.
    SampleRatio,
    /// Fewer units than SAFE needs without an effect.
    InsufficientSample,
    /// Enough units, and still neither harm nor safety is proven.
    Undecided,
}

impl Reason {
    /// The word on the wire and in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoData => "no_data",
            Self::SampleRatio => "sample_ratio",
            Self::InsufficientSample => "insufficient_sample",
            Self::Undecided => "undecided",
        }
    }
}

/// Why a block is not judged. The judge stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookError {
    /// The block was split by another share than that of the step.
    OtherPercent {
        /// The block's share.
        block: TreatedPercent,
        /// The step's share.
        step: TreatedPercent,
    },
    /// The block's tenant is not one of the phase.
    UnknownTenant,
}

impl fmt::Display for LookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherPercent { block, step } => {
                write!(f, "the block has a share of {} %, the step of {} %", block.get(), step.get())
            }
            Self::UnknownTenant => f.write_str("the tenant is not in this phase"),
        }
    }
}

impl std::error::Error for LookError {}
