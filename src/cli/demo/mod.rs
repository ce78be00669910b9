//! `demo`: the main job, seen at work on a real broker.
//!
//! It starts a nats-server and workers of this very program in a temporary folder, puts policies
//! through the control subject, and lets clients and executors talk over the broker while providers
//! fail and recover. All of it is real but the calls to providers. What is seen goes to one board,
//! which is shown live in a terminal, as plain lines elsewhere, and summed up at the end. A run in which
//! something did not happen that must happen ends with exit code 1 and says what.
//!
//! Whatever ends it, what it started is ended too, and the folder removed; only `SIGKILL` cannot be
//! told in time.

mod board;
mod executors;
mod failed;
mod frame;
mod latencies;
pub(super) mod line;
mod rollout;
mod show;
mod stage;
mod story;
mod summary;
mod tally;
mod tenants;
mod terminal;
mod traffic;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::exit::Exit;
use super::output::Output;
use super::stand::{end, stop_at_a_signal};
use crate::config::parse_duration;
use failed::DemoFailed;
use stage::Stage;
use story::{SHORTEST, Story};
use summary::{Ended, missing, summary};

const EXAMPLES: &str = "\
Examples:
  beamline-router demo
  beamline-router demo --for 10s --plain
  beamline-router demo --rollout --out rollout-pages
  beamline-router demo --nats-server .tools/bin/nats-server --workers 3";

/// The command line of `demo`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {
    /// The nats-server program to start (2.12 or newer); without, the one on PATH
    #[arg(long, value_name = "PATH")]
    pub nats_server: Option<PathBuf>,

    /// How long it runs, at least 8s; below 40s all goes faster, above it goes round again
    #[arg(long = "for", value_name = "DURATION", default_value = "40s", value_parser = run_duration)]
    pub duration: Duration,

    /// Plain lines, no cursor control; also when the output is no terminal
    #[arg(long)]
    pub plain: bool,

    /// Switch breakers on by a rollout instead, in about 40 s: canary, five tenants, all; with an outage of a
    /// provider, and a tenant that is rolled back
    #[arg(long, conflicts_with = "duration")]
    pub rollout: bool,

    /// Where the pages of the rollout are written; without, a folder of their own below the temporary one
    #[arg(long, value_name = "DIR", requires = "rollout")]
    pub out: Option<PathBuf>,

    /// How many workers share the load
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub workers: u8,
}

fn run_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        run if run < SHORTEST => Err(format!("want at least {} s", SHORTEST.as_secs())),
        run => Ok(run),
    }
}

/// Runs the demo until its time is over or Ctrl-C.
pub async fn run(args: DemoArgs) -> ExitCode {
    let out = Output::people();
    let stop = stop_at_a_signal();
    if args.rollout {
        return end(out, rollout::perform(&args, &stop, out).await);
    }
    end(out, perform(&args, &stop, out).await)
}

async fn perform(args: &DemoArgs, stop: &CancellationToken, out: Output) -> Result<Exit, DemoFailed> {
    let story = Story::lasting(args.duration);
    let mut stage = Stage::new()?;
    let set = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        set = stage.set(args, &story, out) => Some(set),
    };
    let shown = match set {
        None => {
            stage.strike().await;
            out.line("ended before it began; nothing is left running");
            return Ok(Exit::Done);
        }
        Some(Ok(settings)) => show::show(&mut stage, &settings, story, args, stop, out).await,
        Some(Err(failed)) => Err(failed),
    };
    // All ends before the terminal is given back: that may have to wait for a person.
    let drained = stage.strike().await;
    let shown = shown?;
    let listed = shown.terminal.is_some();
    if let Some(terminal) = shown.terminal {
        terminal.give_back().await;
    }
    let ended = Ended {
        board: &shown.board,
        told: &shown.told,
        cast: &shown.cast,
        lasted: shown.lasted,
        drained,
        listed,
    };
    summary(&ended).iter().for_each(|line| out.line(line));
    let run = (!stop.is_cancelled()).then_some(args.duration);
    let missing = missing(&ended, &story, run);
    missing.iter().for_each(|what| out.error(&format!("this did not happen: {what}")));
    Ok(if missing.is_empty() { Exit::Done } else { Exit::Refused })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_long_enough_to_show_something() {
        assert_eq!(run_duration("8s"), Ok(Duration::from_secs(8)));
        assert_eq!(run_duration("7999ms"), Err("want at least 8 s".to_owned()));
        assert!(run_duration("40").is_err());
    }
}
