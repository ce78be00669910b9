//! `load`: five scenarios against a real broker and real workers, and a report of what they showed.
//!
//! It starts a nats-server and workers of this very program in a temporary folder. Requests and results
//! cross the broker as those of any client and executor do; only the calls to providers are played. Each
//! scenario states its bounds and passes or fails by them: docs/load.md says what each proves.
//!
//! One stage serves all scenarios, each with tenants of its own, so that none sees another's breakers.
//! A worker is addressed alone by a reply subject that only it may answer at (`--reply-prefix`): what
//! comes there is its own word, and a request that reached another worker is dropped.
//!
//! Whatever ends it, what it started is ended too, and the folder removed; only `SIGKILL` cannot be
//! told in time.

mod accounts;
mod ask;
mod bodies;
mod crowd;
mod day;
mod failed;
mod ground;
mod injected;
mod markdown;
mod moves;
mod probes;
mod recovery;
mod report;
mod rollout;
mod spike;
mod windows;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::exit::Exit;
use super::output::Output;
use super::stand::{end, stop_at_a_signal};
use crate::config::parse_duration;
use failed::LoadFailed;
use ground::{Ground, Scene};
use report::{Report, Section};

/// A day at a thousand requests a minute.
const DAY: u64 = 24 * 60 * 1_000;

const EXAMPLES: &str = "\
Examples:
  beamline-router load
  beamline-router load --short --json
  beamline-router load --scenario 1,2 --workers 4
  beamline-router load --full --report report.md

Exit codes: 0 every scenario that ran kept its bounds, 1 one did not or could not run, 2 wrong usage or no nats-server.";

/// The command line of `load`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct LoadArgs {
    /// The nats-server program to start (2.12 or newer); without, the one on PATH
    #[arg(long, value_name = "PATH")]
    pub nats_server: Option<PathBuf>,

    /// Which scenarios: 1 error spike, 2 normalisation, 3 windows, 4 concurrency and a day,
    /// 5 a rollout
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2,3,4,5",
          value_parser = clap::value_parser!(u8).range(1..=5))]
    pub scenario: Vec<u8>,

    /// Less than a minute: fewer rounds and requests, short windows, a short rollout
    #[arg(long, conflicts_with = "full")]
    pub short: bool,

    /// Also windows of 30, 60 and 120 s and an open time of 60 s, in real time
    #[arg(long)]
    pub full: bool,

    /// How many workers share the load
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub workers: u8,

    /// How many clients ask at once, in one run after the other; the day is asked by the last number
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "20,100,1000",
          value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub clients: Vec<u32>,

    /// Requests of the day; without, 1440000, and 4000 with --short
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub requests: Option<u64>,

    /// Write the report to this file, in Markdown
    #[arg(long, value_name = "FILE", default_value = "load-report.md")]
    pub report: PathBuf,

    /// Print the report as one line of JSON
    #[arg(long)]
    pub json: bool,

    /// End it when it takes longer; without, 3m with --short, else 30m
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub limit: Option<Duration>,
}

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Short,
    Usual,
    Full,
}

impl LoadArgs {
    fn length(&self) -> Length {
        match (self.short, self.full) {
            (true, _) => Length::Short,
            (_, true) => Length::Full,
            _ => Length::Usual,
        }
    }

    fn day(&self) -> u64 {
        self.requests.unwrap_or(if self.short { 4_000 } else { DAY })
    }

    fn limit(&self) -> Duration {
        self.limit.unwrap_or(Duration::from_secs(if self.short { 180 } else { 1_800 }))
    }
}

/// Runs the scenarios, until they are through, the time is up, or Ctrl-C.
pub async fn run(args: LoadArgs) -> ExitCode {
    let out = Output::new(args.json);
    let stop = stop_at_a_signal();
    end(out, perform(&args, &stop, out).await)
}

async fn perform(args: &LoadArgs, stop: &CancellationToken, out: Output) -> Result<Exit, LoadFailed> {
    let mut ground = Ground::new()?;
    let ran = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        ran = tokio::time::timeout(args.limit(), scenarios(args, &mut ground, out)) => Some(ran),
    };
    // All ends before anything is judged.
    let drained = ground.strike().await;
    let mut report = match ran {
        None => {
            out.error("stopped; nothing is left running");
            return Ok(Exit::Refused);
        }
        Some(Err(_)) => return Err(LoadFailed::TooLong { limit: args.limit() }),
        Some(Ok(ran)) => ran?,
    };
    report.drained(drained);
    std::fs::write(&args.report, report.markdown())
        .map_err(|source| LoadFailed::Report { path: args.report.clone(), source })?;
    report.lines().iter().for_each(|line| out.line(line));
    out.line(&format!("report: {}", args.report.display()));
    out.body(&report.json());
    for bound in report.missed() {
        out.error(&format!("this bound was not kept: {bound}"));
    }
    Ok(if report.passed() { Exit::Done } else { Exit::Refused })
}

async fn scenarios(args: &LoadArgs, ground: &mut Ground, out: Output) -> Result<Report, LoadFailed> {
    let scene = ground.set(args, out).await?;
    let mut report = Report::new(args, ground.broker_version(), scene.clock.wall());
    for number in 1..=5 {
        if !args.scenario.contains(&number) {
            continue;
        }
        let began = scene.clock.nanos();
        let mut section = match scenario(number, args, ground, &scene).await {
            // What must come and does not is a bound that was not kept; the others can still be looked at.
            Err(LoadFailed::Awaited { what, seconds }) => Section::without(number, &what, seconds),
            section => section?,
        };
        section.seconds = seconds(scene.clock.nanos() - began);
        out.line(&section.headline());
        report.sections.push(section);
        ground.check()?;
    }
    Ok(report)
}

async fn scenario(
    number: u8,
    args: &LoadArgs,
    ground: &mut Ground,
    scene: &Scene,
) -> Result<Section, LoadFailed> {
    match number {
        1 => spike::run(ground, scene).await,
        2 => recovery::run(ground, scene).await,
        3 => windows::run(ground, scene).await,
        4 => day::run(args, ground, scene).await,
        _ => rollout::run(ground, scene).await,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a program runs for less than 2^53 nanoseconds")]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

fn millis(nanos: u64) -> f64 {
    seconds(nanos) * 1e3
}
