//! `bench`: how fast decisions are, against the least that any responder over NATS can do.
//!
//! It starts a nats-server, two responders that echo, each in a process of this very program, so that all
//! share one build, and workers. The *floor* echoes over the client library; the *raw echo* over the
//! connection that workers take decide requests from. All are asked in turn, round by round, so that what else happens on the machine meets all of them alike. What is told is
//! the median over the rounds with the least and the greatest; ratios are those within a round.
//!
//! The asker, the broker and the responder share the machine, as told with the figures. A floor below
//! `bars::LEAST_FLOOR` means that the machine is busy or slow, and voids the run.

mod accounts;
mod bars;
mod figures;
mod floor;
mod groups;
mod growth;
mod process;
mod pushed;
mod report;
mod rollout;
mod rounds;
mod sink;
mod site;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::exit::Exit;
use super::output::Output;
use super::stand::{Broken, StandFailed, end, stop_at_a_signal};
use crate::config::parse_duration;
use crate::nats::connect::ConnectFailed;
use crate::nats::control_client::ControlError;
use crate::nats::measuring::{AskerFailed, EchoOver};
use crate::nats::rollouts::NotRead;
use groups::Group;

const EXAMPLES: &str = "\
Examples:
  beamline-router bench --quick
  beamline-router bench --nats-server .tools/bin/nats-server --rounds 9
  beamline-router bench --only closed,results --json
  beamline-router bench --only closed -- --decide-connections 2
  beamline-router bench --only closed --rounds 11 --against ./beamline-router-before
  beamline-router bench --only rollout --rounds 10

What stands behind -- are flags of \"serve\" for the workers. Without --only it runs closed, breakers, open,
results, tracing, accounts and pushed, about six minutes; the others show how cost grows, and some take minutes to set up.
Exit codes: 0 done; 1 void (the floor is too low, or requests were not answered), a bar of the group rollout is not met,
or failed; 2 usage.";

/// The command line of `bench`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    /// The nats-server program to start (2.12 or newer); without, the one on PATH
    #[arg(long, value_name = "PATH")]
    pub nats_server: Option<PathBuf>,

    /// How often each figure is measured
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u8).range(1..=99))]
    pub rounds: u8,

    /// How long one measurement takes, after a fifth of that to warm up
    #[arg(long = "for", value_name = "DURATION", default_value = "1s", value_parser = run_duration)]
    pub lasting: Duration,

    /// Three rounds of 250ms, without open loops and traces: less than a minute
    #[arg(long, conflicts_with_all = ["rounds", "lasting"])]
    pub quick: bool,

    /// How many tenants ask in turn, where a group does not say otherwise
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub tenants: u32,

    /// What is measured
    #[arg(long, value_name = "GROUP", value_enum, value_delimiter = ',')]
    pub only: Vec<Group>,

    /// Another build of this program, whose router is measured beside this one's
    #[arg(long, value_name = "PATH")]
    pub against: Option<PathBuf>,

    /// One JSON object for machines
    #[arg(long)]
    pub json: bool,

    /// Flags of "serve" for the workers
    #[arg(last = true, value_name = "SERVE FLAGS")]
    pub serve: Vec<String>,

    /// Echo on this broker; how this program starts itself
    #[arg(long, hide = true, value_name = "URL")]
    pub echo: Option<String>,

    /// What the echo is built on
    #[arg(long, hide = true, value_enum, default_value = "library")]
    pub over: EchoOver,
}

fn run_duration(text: &str) -> Result<Duration, String> {
    let bounds = Duration::from_millis(50)..=Duration::from_secs(60);
    match parse_duration(text)? {
        lasting if bounds.contains(&lasting) => Ok(lasting),
        _ => Err("want 50ms to 1m".to_owned()),
    }
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
enum BenchFailed {
    #[error(transparent)]
    Stand(#[from] StandFailed),
    #[error(transparent)]
    Connect(#[from] ConnectFailed),
    #[error(transparent)]
    Asker(#[from] AskerFailed),
    #[error("a control verb was refused: {0}")]
    Control(#[from] ControlError),
    #[error("the rollout cannot be read: {0}")]
    NotRead(#[from] NotRead),
    #[error("the rollout cannot be measured: {0}")]
    Rollout(String),
    #[error("{name} did not come to it within {seconds} s: {what}")]
    Never { name: String, seconds: u64, what: &'static str },
}

impl Broken for BenchFailed {
    fn part(&self) -> Option<&StandFailed> {
        if let Self::Stand(failed) = self { Some(failed) } else { None }
    }
}

/// How thoroughly it is measured.
#[derive(Clone, Copy, Debug)]
struct Effort {
    rounds: u8,
    warm_up: Duration,
    lasting: Duration,
}

impl Effort {
    fn of(args: &BenchArgs) -> Self {
        let (rounds, lasting) =
            if args.quick { (3, Duration::from_millis(250)) } else { (args.rounds, args.lasting) };
        Self { rounds, lasting, warm_up: lasting / 5 }
    }
}

/// Measures, and tells.
pub async fn run(args: BenchArgs) -> ExitCode {
    let out = Output::new(args.json);
    if let Some(url) = &args.echo {
        return floor::run(url, args.over, out).await;
    }
    let effort = Effort::of(&args);
    let groups = if args.only.is_empty() { Group::usual(args.quick) } else { args.only.clone() };
    let stop = stop_at_a_signal();
    let measured = tokio::select! {
        biased;
        () = stop.cancelled() => {
            out.error("ended by a signal; nothing is left running");
            return Exit::Refused.into();
        }
        measured = groups::measure(&args, &groups, effort, out) => measured,
    };
    let told = measured.map(|measured| {
        out.body(&report::json(&measured));
        report::tell(&measured, out);
        let failed = bars::bars(&measured).iter().any(|bar| bar.required && !bar.met);
        if failed || measured.void().is_some() { Exit::Refused } else { Exit::Done }
    });
    end(out, told)
}
