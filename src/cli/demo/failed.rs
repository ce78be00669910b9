use crate::cli::Exit;
use crate::cli::stand::StandFailed;
use crate::nats::connect::ConnectFailed;
use crate::nats::control_client::ControlError;
use crate::nats::simulation::NotTaken;

/// Why the demo could not be shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum DemoFailed {
    #[error(transparent)]
    Stand(#[from] StandFailed),
    #[error(transparent)]
    Connect(#[from] ConnectFailed),
    #[error("the policy of {tenant} was not taken: {source}")]
    Policy { tenant: &'static str, source: ControlError },
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
}

impl DemoFailed {
    /// The exit code.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Stand(failed) => failed.exit(),
            _ => Exit::Refused,
        }
    }

    /// The last lines that a process of the demo wrote: what may explain it.
    pub(super) fn log(&self) -> Option<&str> {
        match self {
            Self::Stand(failed) => failed.log(),
            _ => None,
        }
    }
}
