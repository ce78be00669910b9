//! The verbs and their flags.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand, ValueEnum};

use super::entries::EntriesArgs;
use super::listed::HistoryArgs;
use super::simulate::SimulateArgs;
use crate::cli::rollout_doctor::DoctorArgs;
use crate::cli::rollout_recommend::RecommendArgs;
use crate::config::parse_duration;
use crate::document::written;
use crate::domain::{ProviderId, RolloutId, TenantId};
use crate::rollout::controller::Criterion;

/// The plan of a verb that takes one.
#[derive(Args, Clone, Debug)]
pub(super) struct PlanFile {
    /// The plan, JSON or YAML; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub(super) file: PathBuf,
}

/// Which rollout.
#[derive(Args, Clone, Debug)]
pub(super) struct Which {
    /// The rollout
    #[arg(value_name = "ID", value_parser = rollout)]
    pub(super) id: String,
}

/// What a change takes.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Change {
    /// Change only what has this number (seq); a put over no rollout has 0
    #[arg(long, value_name = "N")]
    pub(super) expected_seq: Option<u64>,
    /// Why, kept in the history
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
}

/// What is started.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct Started {
    /// The rollout, whose plan was put before
    #[arg(value_name = "ID", value_parser = rollout)]
    pub(super) id: Option<String>,
    /// Put this plan first, JSON or YAML; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
}

/// Whether a customer's issue begins or ends.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum IssueChange {
    /// A customer reports it: the rollout pauses
    Open,
    /// It is solved; the text is the one that opened it
    Close,
}

impl IssueChange {
    /// The word on the wire.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Close => "close",
        }
    }
}

#[derive(Subcommand, Clone, Debug)]
pub(super) enum RolloutVerb {
    /// Put a plan: a rollout that has not started, or another plan for it
    #[command(after_help = "\
Examples:
  beamline-router rollout put -f cb-2026.yaml
  beamline-router rollout put -f cb-2026.yaml --expected-seq 0 --reason 'ticket 42'")]
    Put {
        #[command(flatten)]
        plan: PlanFile,
        #[command(flatten)]
        change: Change,
    },
    /// Report all faults of a plan, and whether its tenants have enough traffic; 1 if not
    #[command(after_help = "\
Example:
  beamline-router rollout lint -f cb-2026.yaml")]
    Lint {
        #[command(flatten)]
        plan: PlanFile,
    },
    /// Show which tenants each phase would have; 1 if a phase finds none
    #[command(after_help = "\
Example:
  beamline-router rollout plan -f cb-2026.yaml")]
    Plan {
        #[command(flatten)]
        plan: PlanFile,
    },
    /// Start a rollout
    #[command(after_help = "\
Examples:
  beamline-router rollout start cb-2026 --reason 'ticket 42'
  beamline-router rollout start -f cb-2026.yaml -w

With -f the plan is put and started; with --json that is one answer each. With -w it goes on as status -w.")]
    Start {
        #[command(flatten)]
        started: Started,
        /// Show how it goes until it ends
        #[arg(short, long)]
        watch: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Let a phase that has passed go on to the next one
    #[command(after_help = "\
Example:
  beamline-router rollout approve cb-2026 --reason 'customers agree'")]
    Approve {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        change: Change,
    },
    /// Pass over one criterion, once in a phase, where nothing else is missing
    #[command(after_help = "\
Example:
  beamline-router rollout promote cb-2026 --override exercise --reason 'drilled last week'")]
    Promote {
        #[command(flatten)]
        which: Which,
        /// Which one; harm is never passed over
        #[arg(long = "override", value_name = "CRITERION", value_parser = PossibleValuesParser::new(overridable()))]
        criterion: String,
        /// Why, kept in the history
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Change only what has this number (seq)
        #[arg(long, value_name = "N")]
        expected_seq: Option<u64>,
    },
    /// Give a phase more time, up to twice its longest time
    #[command(after_help = "\
Example:
  beamline-router rollout extend cb-2026 --by 2d --reason 'little traffic over the holidays'")]
    Extend {
        #[command(flatten)]
        which: Which,
        /// How much
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        by: String,
        #[command(flatten)]
        change: Change,
    },
    /// Stop a rollout at the shares that it has
    #[command(after_help = "\
Example:
  beamline-router rollout pause cb-2026 --reason 'release freeze'")]
    Pause {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        change: Change,
    },
    /// End a pause
    #[command(after_help = "\
Example:
  beamline-router rollout resume cb-2026 --reason 'freeze is over'")]
    Resume {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        change: Change,
    },
    /// Enforce nothing any more for one tenant, or for all
    #[command(after_help = "\
Examples:
  beamline-router rollout rollback cb-2026 --reason 'incident 42'
  beamline-router rollout rollback cb-2026 --tenant acme --reason 'acme asks for it'

It is for good: the tenant, or the rollout, does not go on.")]
    Rollback {
        #[command(flatten)]
        which: Which,
        /// This tenant only
        #[arg(long, value_name = "TENANT", value_parser = tenant)]
        tenant: Option<String>,
        #[command(flatten)]
        change: Change,
    },
    /// End a rollout; policies are as their documents say again
    #[command(after_help = "\
Example:
  beamline-router rollout abort cb-2026 --reason 'another plan comes'")]
    Abort {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        change: Change,
    },
    /// Open a breaker for a while, to see it open and close
    #[command(after_help = "\
Example:
  beamline-router rollout drill cb-2026 --tenant acme --provider openai --for 30s")]
    Drill {
        #[command(flatten)]
        which: Which,
        /// Whose breaker
        #[arg(long, value_name = "TENANT", value_parser = tenant)]
        tenant: String,
        /// For which provider
        #[arg(long, value_name = "PROVIDER", value_parser = provider)]
        provider: String,
        /// For how long, at most 1h
        #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
        period: String,
        #[command(flatten)]
        change: Change,
    },
    /// Report that a customer has an issue, or that it is solved
    #[command(after_help = "\
Examples:
  beamline-router rollout issue cb-2026 open 'acme: more 503 than usual'
  beamline-router rollout issue cb-2026 close 'acme: more 503 than usual'")]
    Issue {
        #[command(flatten)]
        which: Which,
        /// Whether it begins or ends
        #[arg(value_enum, value_name = "CHANGE")]
        change_to: IssueChange,
        /// The issue
        #[arg(value_name = "TEXT")]
        text: String,
        #[command(flatten)]
        change: Change,
    },
    /// Write the breaker settings of a completed rollout into the policies
    #[command(after_help = "\
Example:
  beamline-router rollout graduate cb-2026")]
    Graduate {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        change: Change,
    },
    /// Remove a rollout that runs no more
    #[command(after_help = "\
Example:
  beamline-router rollout delete cb-2026")]
    Delete {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        change: Change,
    },
    /// Show the plan of a rollout, as it was put
    #[command(after_help = "\
Example:
  beamline-router rollout get cb-2026 > cb-2026.json")]
    Get {
        #[command(flatten)]
        which: Which,
    },
    /// List rollouts
    #[command(after_help = "\
Example:
  beamline-router rollout list")]
    List,
    /// Show how a rollout stands, and what comes next
    #[command(after_help = "\
Examples:
  beamline-router rollout status cb-2026
  beamline-router rollout status cb-2026 -w
  beamline-router rollout status cb-2026 -w --json

On a terminal -w draws, until the rollout ends, or q or Ctrl-C is pressed; NO_COLOR takes the colours away.
Elsewhere it prints a block at each change, with --json one answer a line.")]
    Status {
        #[command(flatten)]
        which: Which,
        /// Show how it goes until it ends
        #[arg(short, long)]
        watch: bool,
    },
    /// Show what happened in a rollout: plans, commands, histories, decisions
    #[command(after_help = "\
Examples:
  beamline-router rollout history cb-2026
  beamline-router rollout history cb-2026 --limit 20")]
    History(HistoryArgs),
    /// Replay the log through breaker settings, and name the best for a tenant
    Recommend(RecommendArgs),
    /// Check whether all is ready for a rollout; 1 if something is not
    Doctor(DoctorArgs),
    /// Write what the log holds as lines that simulate reads
    Entries(EntriesArgs),
    /// Run a plan over a file of entries, without a broker; verdicts window by window, and decisions
    Simulate(SimulateArgs),
    /// Write the pages of a rollout: execution log, days, weeks, tickets
    #[command(after_help = "\
Example:
  beamline-router rollout report cb-2026 --out rollout-pages

Reads the stream of rollouts, which the user must be permitted to read.")]
    Report {
        #[command(flatten)]
        which: Which,
        /// The folder for them
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Make the pages of a rollout again and compare them with those of a folder
    #[command(after_help = "\
Example:
  beamline-router rollout rebuild cb-2026 --check rollout-pages

Ends with 1 where a page is missing or differs.")]
    Rebuild {
        #[command(flatten)]
        which: Which,
        /// The folder with the pages
        #[arg(long, value_name = "DIR")]
        check: PathBuf,
    },
}

fn overridable() -> Vec<&'static str> {
    Criterion::ALL.into_iter().filter(|c| *c != Criterion::Harm).map(Criterion::as_str).collect()
}

fn rollout(text: &str) -> Result<String, String> {
    RolloutId::try_new(text).map(String::from).map_err(|error| error.to_string())
}

fn tenant(text: &str) -> Result<String, String> {
    TenantId::try_new(text).map(String::from).map_err(|error| error.to_string())
}

fn provider(text: &str) -> Result<String, String> {
    ProviderId::try_new(text).map(String::from).map_err(|error| error.to_string())
}

/// A duration as documents have it.
fn duration(text: &str) -> Result<String, String> {
    let ms = u64::try_from(parse_duration(text)?.as_millis()).map_err(|error| error.to_string())?;
    if ms == 0 { Err("want at least 1ms".to_owned()) } else { Ok(written(ms)) }
}
