use crate::cli::stand::{Broken, StandFailed};
use crate::nats::connect::ConnectFailed;
use crate::nats::control_client::ControlError;
use crate::nats::rollouts::NotRead;
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
    #[error("the rollout cannot go on: {0}")]
    Rollout(#[from] ControlError),
    #[error(transparent)]
    NotRead(#[from] NotRead),
    #[error("the pages cannot be written: {0}")]
    Pages(#[from] std::io::Error),
}

impl Broken for DemoFailed {
    fn part(&self) -> Option<&StandFailed> {
        if let Self::Stand(failed) = self { Some(failed) } else { None }
    }
}
