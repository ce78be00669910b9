//! `rollout`: what is done before a rollout.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::exit::EXIT_CODES;
use super::rollout_doctor::DoctorArgs;
use super::rollout_recommend::RecommendArgs;
use super::shell::{Session, ShellArgs};

/// The command line of `rollout`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct RolloutCommand {
    #[command(flatten)]
    shell: ShellArgs,
    #[command(subcommand)]
    verb: RolloutVerb,
}

#[derive(Subcommand, Clone, Debug)]
enum RolloutVerb {
    /// Replay the log through breaker settings, and name the best for a tenant
    Recommend(RecommendArgs),
    /// Check whether all is ready for a rollout; 1 if something is not
    Doctor(DoctorArgs),
}

impl RolloutCommand {
    /// Does what the command line asks.
    pub async fn run(self) -> ExitCode {
        let verb = self.verb;
        let run = async move |session: &Session| match verb {
            RolloutVerb::Recommend(args) => args.run(session).await,
            RolloutVerb::Doctor(args) => args.run(session).await,
        };
        self.shell.run(run).await
    }
}
