use std::path::PathBuf;
use std::time::Duration;

use crate::cli::exit::Exit;
use crate::cli::stand::{Broken, StandFailed};
use crate::nats::connect::ConnectFailed;
use crate::nats::control_client::ControlError;
use crate::nats::rollouts::NotRead;
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
    NotRead(#[from] NotRead),
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

impl Broken for LoadFailed {
    fn part(&self) -> Option<&StandFailed> {
        if let Self::Stand(failed) = self { Some(failed) } else { None }
    }

    fn exit(&self) -> Exit {
        if let Self::Report { .. } = self { Exit::Usage } else { Exit::Refused }
    }
}
