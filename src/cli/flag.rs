//! `flag`: the emergency switch.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::exit::{EXIT_CODES, Failure};
use super::output::{Table, shown, switched};
use super::shell::{Body, Session, ShellArgs, entries};

/// The command line of `flag`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct FlagCommand {
    #[command(flatten)]
    shell: ShellArgs,
    #[command(subcommand)]
    verb: FlagVerb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    /// Breakers refuse as their policies say
    On,
    /// Nothing is refused, forced or not
    Off,
}

/// Where the switch stands. One of the two must be named: an emergency is no time for a default.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
struct Scope {
    /// For all tenants
    #[arg(long)]
    global: bool,
    /// For this tenant
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
}

#[derive(Subcommand, Clone, Debug)]
enum FlagVerb {
    /// Switch circuit breakers on or off
    #[command(after_help = "\
Examples:
  beamline-router flag set off --global --reason 'incident 42'
  beamline-router flag set on --tenant acme

While off, nothing is refused and results judge nothing. On again, breakers start closed and empty.")]
    Set {
        /// Where to
        #[arg(value_enum)]
        switch: Switch,
        #[command(flatten)]
        scope: Scope,
        /// Why, kept in the history
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Show how the switches stand
    #[command(after_help = "\
Examples:
  beamline-router flag get
  beamline-router flag get --tenant acme")]
    Get {
        /// Of this tenant only
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
    },
}

impl FlagCommand {
    /// Does what the command line asks.
    pub async fn run(self) -> ExitCode {
        let verb = self.verb;
        self.shell.run(async move |session: &Session| verb.run(session).await).await
    }
}

fn scoped(tenant: Option<String>) -> Body {
    let scope = if tenant.is_some() { "tenant" } else { "global" };
    Body::new().with("scope", Some(scope)).with("tenant_id", tenant)
}

impl FlagVerb {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let answer = match self {
            Self::Set { switch, scope, reason } => {
                let body = scoped(scope.tenant)
                    .with("circuit_breaker_enabled", Some(switch == Switch::On))
                    .with("reason", reason);
                session.change("flag.set", body).await?
            }
            Self::Get { tenant: None } => session.ask("flag.get", Body::new()).await?,
            Self::Get { tenant } => session.ask("flag.get", scoped(tenant)).await?,
        };
        session.out.body(&answer);
        session.out.table(&listed(&entries(&answer, "flags")));
        session.warn(&answer);
        Ok(())
    }
}

fn listed(flags: &[Value]) -> Table {
    let mut table = Table::new(&["SCOPE", "TENANT", "CIRCUIT BREAKERS"]);
    for flag in flags {
        let switch = switched(flag.get("circuit_breaker_enabled"));
        table.row([shown(flag.get("scope")), shown(flag.get("tenant_id")), switch]);
    }
    table
}
