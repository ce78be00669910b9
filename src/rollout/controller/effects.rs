use std::fmt;

use super::decision::{Decision, Kind};
use super::refusal::CommandVerdict;
use super::rollout::TenantState;
use crate::domain::{RolloutId, Stamp, TenantId};
use crate::log::StepEntry;

/// What follows from one message. The caller carries it out, or not, while it catches up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// The rollout that it concerns.
    pub rollout: Option<RolloutId>,
    /// The answer to a plan or a command.
    pub verdict: Option<CommandVerdict>,
    /// A decision that is due from here on: record it in the stream.
    pub due: Option<Decision>,
    /// A step that a recorded decision made: append it to the log.
    pub step: Option<StepEntry>,
    /// A history that is wanted from here on: count it from the log and record it.
    pub history: Option<HistoryWanted>,
    /// What is worth a line in the program's own log, and a count.
    pub events: Vec<Event>,
}

/// A phase is prepared and needs to know its tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryWanted {
    /// Which rollout.
    pub rollout: RolloutId,
    /// Which phase.
    pub phase: usize,
    /// From when on the log counts.
    pub from: Stamp,
    /// Until when.
    pub to: Stamp,
}

/// What happened besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A decision took effect.
    Decided {
        /// Its number.
        n: u64,
        /// What.
        kind: Kind,
    },
    /// The recorded decision is obeyed, and this controller would have decided otherwise at this place.
    Differs {
        /// The decision's number.
        n: u64,
        /// What this controller holds due.
        own: Option<Kind>,
        /// What is recorded.
        recorded: Kind,
    },
    /// A record has no effect.
    DecisionPassedOver {
        /// Its number.
        n: u64,
        /// Why.
        why: DecisionFault,
    },
    /// A history has no effect.
    HistoryPassedOver {
        /// Its phase.
        phase: usize,
    },
    /// A message names a rollout that there is none of.
    UnknownRollout,
    /// A block is of a stream of rollouts that was made at another time.
    ForeignBlock {
        /// Its window.
        number: u64,
    },
    /// A block came before those that stand before it.
    BlockAhead {
        /// Its window.
        number: u64,
        /// The window that is due.
        next: u64,
    },
    /// The log was made anew, so windows count from 0 again.
    WindowsAnew {
        /// The first one.
        number: u64,
    },
    /// Rows of a window do not fit the phase.
    RowsPassedOver {
        /// The window.
        number: u64,
        /// Why.
        why: String,
    },
    /// A tenant left the rollout.
    TenantLeft {
        /// Who.
        tenant: TenantId,
        /// How.
        state: TenantState,
    },
    /// The rollout was started with a judge that this program lacks. It obeys and decides nothing.
    UnsupportedJudge {
        /// The version.
        version: u32,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decided { n, kind } => write!(f, "decision {n} is to {}", kind.as_str()),
            Self::Differs { n, own, recorded } => {
                let own = own.as_ref().map_or("nothing", Kind::as_str);
                write!(f, "decision {n} is to {}; this controller holds due: {own}", recorded.as_str())
            }
            Self::DecisionPassedOver { n, why } => write!(f, "decision {n} is passed over: {why}"),
            Self::HistoryPassedOver { phase } => write!(f, "a history of phase {phase} is not wanted"),
            Self::UnknownRollout => f.write_str("there is no such rollout"),
            Self::ForeignBlock { number } => write!(f, "window {number} is of another stream of rollouts"),
            Self::BlockAhead { number, next } => write!(f, "window {number} came before window {next}"),
            Self::WindowsAnew { number } => write!(f, "windows begin again with window {number}"),
            Self::RowsPassedOver { number, why } => {
                write!(f, "rows of window {number} are not judged: {why}")
            }
            Self::TenantLeft { tenant, state } => write!(f, "tenant {tenant} is {}", state.as_str()),
            Self::UnsupportedJudge { version } => write!(f, "version {version} of the judge is not known"),
        }
    }
}

/// Why a record has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecisionFault {
    /// Its number is taken: another record came first.
    Taken,
    /// Its number leaves others out.
    Ahead,
    /// A command was accepted after it was due.
    Void,
    /// The state does not allow it.
    Illegal,
}

impl fmt::Display for DecisionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Taken => "its number is taken",
            Self::Ahead => "decisions before it are missing",
            Self::Void => "a command was accepted after it was due",
            Self::Illegal => "the state does not allow it",
        })
    }
}
