//! `demo`: the main job, seen at work on a real broker.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::exit::Exit;
use super::output::Output;
use crate::config::parse_duration;

const EXAMPLES: &str = "\
Examples:
  beamline-router demo
  beamline-router demo --for 10s --plain
  beamline-router demo --nats-server .tools/nats-server --workers 3";

/// The command line of `demo`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {
    /// The nats-server program to start (2.12 or newer); without, the one on PATH
    #[arg(long, value_name = "PATH")]
    pub nats_server: Option<PathBuf>,

    /// How long it runs
    #[arg(long = "for", value_name = "DURATION", default_value = "40s", value_parser = parse_duration)]
    pub duration: Duration,

    /// Plain lines, no cursor control; also when the output is no terminal
    #[arg(long)]
    pub plain: bool,

    /// How many workers share the load
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub workers: u8,
}

/// Runs the demo until its time is over or Ctrl-C.
#[expect(clippy::unused_async, reason = "the body comes")]
pub async fn run(_args: DemoArgs) -> ExitCode {
    Output::people().error("demo: not in this build");
    Exit::Refused.into()
}
