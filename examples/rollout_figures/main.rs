//! What a rollout's judge proves, how often it errs and how long it takes, by simulation:
//! `cargo run --release --example rollout_figures -- [--quick] [--threads N]`.
//!
//! Prints tables in Markdown. Exits with 1 where the judge breaks a promise, or where a figure is not within a
//! tenth of what the judge's reference needed (a quarter with `--quick`, which has fewer runs). Seeds are fixed,
//! and neither a clock nor the number of threads changes a figure: two runs of one build print the same.

#![allow(clippy::unwrap_used, reason = "a program that cannot go on panics")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    reason = "counts of a simulation lie far below 2^53"
)]

mod arms;
mod bursts;
mod controller;
mod course;
mod ends;
mod outages;
mod promotion;
mod random;
mod report;
mod rollback;
mod runs;
mod tenants;
mod type_one;
mod z_test;

use std::io;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use report::Report;
use runs::Effort;

/// Measures the judge of rollouts by simulation.
#[derive(Parser)]
struct Options {
    /// Fewer runs: less than half a minute
    #[arg(long)]
    quick: bool,
    /// How many threads; as many as there are processors by default
    #[arg(long)]
    threads: Option<NonZeroUsize>,
}

fn main() -> io::Result<ExitCode> {
    let options = Options::parse();
    let processors = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let effort = Effort { quick: options.quick, threads: options.threads.unwrap_or_else(processors).get() };
    let mut report = Report::new(io::stdout().lock(), effort);
    let version = env!("CARGO_PKG_VERSION");
    report.line(&format!("# Figures of the judge, beamline-router {version}"))?;
    controller::agrees(&mut report, effort, 2001)?;
    type_one::errors(&mut report, effort, 101)?;
    type_one::without_data(&mut report, effort, 901)?;
    z_test::errors(&mut report, effort, 801)?;
    rollback::times_to_roll_back(&mut report, effort, 301)?;
    rollback::holdout(&mut report, effort, 351)?;
    promotion::times_to_promote(&mut report, effort, 401)?;
    ends::ends(&mut report, effort, 1001)?;
    outages::shared(&mut report, effort, 601)?;
    outages::alone(&mut report, effort, 651)?;
    outages::daily(&mut report, effort, 652)?;
    bursts::errors(&mut report, effort, 501)?;
    tenants::one_of_many(&mut report, effort, 1401)?;
    arms::losses(&mut report, effort, 1601)?;
    let failures = report.failures();
    report.line(&format!("\nRows that are not as expected: {failures}"))?;
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
