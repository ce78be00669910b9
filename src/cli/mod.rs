//! The command line.
//!
//! `serve`, `demo`, `bench` and `load` run the router; `policy`, `breaker`, `flag`, `tenant`, `rollout` and `top` ask the
//! control verbs of whichever worker answers, over NATS like any other client, and hold nothing of their own:
//! what a verb means, checks and refuses is the router's. A command is its flags, one request after another,
//! and how the answer looks. It ends with one of the codes of [`Exit`]; what went wrong goes to standard error.
//!
//! Only [`output`] prints; `demo`, `rollout status` and `top` may draw on a terminal.

pub mod bench;
mod breaker;
pub mod demo;
mod exit;
mod flag;
pub mod load;
pub mod output;
mod policy;
mod policy_apply;
pub mod policy_files;
mod rng;
mod rollout;
mod rollout_doctor;
mod rollout_recommend;
mod rollout_scenario;
mod screen;
mod shell;
mod stand;
mod tenant;
pub mod top;

#[cfg(test)]
mod tests;

use clap::{Parser, Subcommand};

pub use breaker::BreakerCommand;
pub use exit::Exit;
pub use flag::FlagCommand;
pub use policy::PolicyCommand;
pub use rollout::RolloutCommand;
pub use shell::ShellArgs;
pub use tenant::TenantCommand;

use crate::config::ServeArgs;

/// The whole command line.
#[derive(Parser, Clone, Debug)]
#[command(name = "beamline-router", version, about, after_help = exit::EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Run a worker: decide, count results, follow policies, until SIGTERM
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(ServeArgs),
    /// See the main job at work on a real broker
    Demo(demo::DemoArgs),
    /// Measure how fast decisions are on this machine, against a responder that only echoes
    Bench(bench::BenchArgs),
    /// Run the load scenarios on a real broker, and report
    Load(load::LoadArgs),
    /// Put, change, show and check policies
    Policy(PolicyCommand),
    /// Show circuit breakers, force and reset them
    Breaker(BreakerCommand),
    /// The emergency switch of the circuit breakers
    Flag(FlagCommand),
    /// Remove what is stored of a tenant
    Tenant(TenantCommand),
    /// Switch circuit breakers on for all tenants, step by step
    Rollout(RolloutCommand),
    /// Watch the circuit breakers, live
    Top(top::TopArgs),
}

const SERVE_EXAMPLES: &str = "\
Examples:
  beamline-router serve
  beamline-router serve --nats-url nats://a:4222,nats://b:4222,nats://c:4222 --replicas 3
  NATS_CREDS=router.creds BEAMLINE_POLICY_DIR=policies beamline-router serve

A flag outranks its variable; a variable that is empty counts as not set. Traces go where the OTEL_*
variables say. Exit codes: 0 after a drain, 2 if settings cannot be used, 1 otherwise.";
