//! What a command starts for itself: a broker and workers of this very program, in a temporary folder.
//!
//! Each part ends when it is told to, or when it is dropped; only `SIGKILL` of this program cannot be
//! told in time. What they write goes to files in the folder, whose last lines explain a failure.

mod broker;
mod failed;
mod http;
mod machine;
mod process;
mod worker;

use std::collections::BTreeMap;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub(super) use broker::Broker;
pub(super) use failed::StandFailed;
pub(super) use machine::Machine;
pub(super) use process::{Folder, Process};
pub(super) use worker::{Page, Start, WorkerProcess, start_ready};

use super::exit::Exit;
use super::output::Output;
use crate::config::{ClientArgs, ClientSettings};

/// Why a command that stands on these parts came to nothing.
pub(super) trait Broken: std::error::Error {
    /// The part that failed, if it was one.
    fn part(&self) -> Option<&StandFailed>;

    /// The exit code, where it was no part.
    fn exit(&self) -> Exit {
        Exit::Refused
    }
}

/// Ends a command: says what went wrong, and the last lines that a part wrote, which may explain it.
pub(super) fn end(out: Output, done: Result<Exit, impl Broken>) -> ExitCode {
    let failed = match done {
        Ok(exit) => return exit.into(),
        Err(failed) => failed,
    };
    out.error(&failed.to_string());
    if let Some(log) = failed.part().and_then(StandFailed::log) {
        out.error(&format!("its last words:\n{log}"));
    }
    failed.part().map_or_else(|| failed.exit(), StandFailed::exit).into()
}

/// Cancelled at the first signal that ends programs.
pub(super) fn stop_at_a_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()] {
        // A signal that cannot be caught ends the program as it always does.
        let Ok(mut signals) = signal(kind) else { continue };
        let stop = stop.clone();
        tokio::spawn(async move {
            signals.recv().await;
            stop.cancel();
        });
    }
    stop
}

/// Settings for this broker alone, whatever the environment says of others.
pub(super) fn client_settings(url: &str) -> Result<ClientSettings, StandFailed> {
    let env = BTreeMap::from([("NATS_URL".to_owned(), url.to_owned())]);
    let resolved = ClientSettings::resolve(&ClientArgs::default(), &env);
    resolved.map_err(|faults| StandFailed::Settings(faults.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_hold() {
        let settings = client_settings("nats://127.0.0.1:4223").unwrap();
        assert_eq!(settings.nats.servers[0].as_str(), "nats://127.0.0.1:4223");
    }
}
