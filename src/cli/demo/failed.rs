use std::path::PathBuf;

use crate::cli::Exit;
use crate::nats::connect::ConnectFailed;
use crate::nats::control_client::ControlError;
use crate::nats::simulation::NotTaken;

/// Why the demo could not be shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum DemoFailed {
    #[error("no temporary folder: {0}")]
    Folder(#[source] std::io::Error),
    #[error("cannot start {}: {source}{}", program.display(), hint(source))]
    Spawn { program: PathBuf, source: std::io::Error },
    #[error("{} is no nats-server: it does not tell its version", program.display())]
    NoNatsServer { program: PathBuf },
    #[error("{} is nats-server {version}; the router needs {least} or newer", program.display())]
    TooOld { program: PathBuf, version: String, least: String },
    #[error("{name} ended by itself ({status})")]
    Ended { name: String, status: String, log: String },
    #[error("{name} is not ready after {seconds} s{}", because(reasons))]
    NotReady { name: String, seconds: u64, reasons: String, log: String },
    #[error(transparent)]
    Connect(#[from] ConnectFailed),
    #[error("the policy of {tenant} was not taken: {source}")]
    Policy { tenant: &'static str, source: ControlError },
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
    #[error("the settings of the demo cannot be used: {0}")]
    Settings(String),
}

impl DemoFailed {
    /// The exit code.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Spawn { .. } | Self::NoNatsServer { .. } | Self::TooOld { .. } => Exit::Usage,
            _ => Exit::Refused,
        }
    }

    /// The last lines that a process of the demo wrote: what may explain it.
    pub(super) fn log(&self) -> Option<&str> {
        match self {
            Self::Ended { log, .. } | Self::NotReady { log, .. } => {
                Some(log.as_str()).filter(|l| !l.is_empty())
            }
            _ => None,
        }
    }
}

fn hint(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::NotFound => {
            "; --nats-server names one, \"make demo\" gets one, and so does scripts/tools.py demo"
        }
        _ => "",
    }
}

fn because(reasons: &str) -> String {
    if reasons.is_empty() { String::new() } else { format!(": {reasons}") }
}
