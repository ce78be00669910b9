use std::path::PathBuf;
use std::time::Duration;

use crate::cli::exit::Exit;
use crate::cli::stand::StandFailed;
use crate::nats::connect::ConnectFailed;
use crate::nats::control_client::ControlError;
use crate::nats::simulation::NotTaken;

/// Why a scenario could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadFailed {
    #[error(transparent)]
    Stand(#[from] StandFailed),
    #[error(transparent)]
    Connect(#[from] ConnectFailed),
    #[error("{verb}: {source}")]
    Control { verb: &'static str, source: Box<ControlError> },
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
    #[error("this did not happen within {seconds} s: {what}")]
    Awaited { what: String, seconds: u64 },
    #[error("not through after {limit:?}: ended; --limit allows more")]
    TooLong { limit: Duration },
    #[error("{}: cannot be written: {source}", path.display())]
    Report { path: PathBuf, source: std::io::Error },
    #[error("the broker's monitoring did not answer")]
    NoMonitoring,
}

impl LoadFailed {
    /// The exit code.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Stand(failed) => failed.exit(),
            Self::Report { .. } => Exit::Usage,
            _ => Exit::Refused,
        }
    }

    /// The last lines that a part wrote: what may explain it.
    pub(super) fn log(&self) -> Option<&str> {
        match self {
            Self::Stand(failed) => failed.log(),
            _ => None,
        }
    }
}
