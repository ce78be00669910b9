use std::path::PathBuf;

use crate::cli::Exit;

/// Why a part could not be started, or is gone.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum StandFailed {
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
    #[error("settings that this program makes for itself cannot be used: {0}")]
    Settings(String),
}

impl StandFailed {
    /// The exit code.
    pub(in crate::cli) fn exit(&self) -> Exit {
        match self {
            Self::Spawn { .. } | Self::NoNatsServer { .. } | Self::TooOld { .. } => Exit::Usage,
            _ => Exit::Refused,
        }
    }

    /// The last lines that a part wrote: what may explain it.
    pub(in crate::cli) fn log(&self) -> Option<&str> {
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
