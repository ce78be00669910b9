//! `rollout`: circuit breakers are switched on for all tenants, step by step.
//!
//! A plan comes from a file ([`plan_file`]). Each verb is one request (`run`); `checks` and `listed` say how its
//! answer looks. `status` is more: a [`standing`] is how a rollout stands and by which plan, `picture` draws it,
//! `plain` writes it in lines, and `watch` asks for it again and again. Only `watch` does I/O.

mod args;
mod checks;
mod criteria;
mod entries;
mod ladder;
mod listed;
pub(super) mod page_files;
mod picture;
mod plain;
mod plan_file;
mod run;
mod simulate;
mod standing;
#[cfg(test)]
mod tests;
mod watch;
mod words;

use std::process::ExitCode;

use clap::Args;

use super::exit::EXIT_CODES;
use super::shell::{Session, ShellArgs};
use args::RolloutVerb;

/// The command line of `rollout`.
#[derive(Args, Clone, Debug)]
#[command(after_help = format!("{EXIT_CODES}\n{OWN_EXIT_CODES}"))]
pub struct RolloutCommand {
    #[command(flatten)]
    shell: ShellArgs,
    #[command(subcommand)]
    verb: RolloutVerb,
}

/// What `--help` says of codes that only rollouts have.
const OWN_EXIT_CODES: &str = "  \
  10 status, start -w: the rollout is undecided or paused: draft, preparing, running, final_bake, paused
  11 status, start -w: the rollout is rolled back or aborted
  13 status, start -w: the rollout awaits approval

status and start -w end with 0 only where the rollout is completed. lint and plan end with 1 where the plan
cannot pass. All other verbs end with 0 when the router has accepted them.";

impl RolloutCommand {
    /// Does what the command line asks.
    pub async fn run(self) -> ExitCode {
        let verb = self.verb;
        self.shell.run(async move |session: &Session| verb.run(session).await).await
    }
}
