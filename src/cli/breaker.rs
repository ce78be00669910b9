//! `breaker`: what the circuit breakers do, and the hand on them.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::exit::{EXIT_CODES, Failure};
use super::output::{Table, moment, shown};
use super::shell::{Body, Session, ShellArgs};
use crate::config::parse_duration;

/// The command line of `breaker`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct BreakerCommand {
    #[command(flatten)]
    shell: ShellArgs,
    #[command(subcommand)]
    verb: BreakerVerb,
}

/// Which breaker.
#[derive(Args, Clone, Debug)]
struct Which {
    /// The tenant
    #[arg(long, value_name = "ID")]
    tenant: String,
    /// The provider
    #[arg(long, value_name = "ID")]
    provider: String,
}

/// A breaker's state, to look for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum State {
    Closed,
    Open,
    #[value(name = "half_open", alias = "half-open")]
    HalfOpen,
}

impl From<State> for crate::breaker::State {
    fn from(state: State) -> Self {
        match state {
            State::Closed => Self::Closed,
            State::Open => Self::Open,
            State::HalfOpen => Self::HalfOpen,
        }
    }
}

/// What to force a breaker to.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Forced {
    /// Refuse all
    Open,
    /// Let all through
    Closed,
    /// Let results judge again
    Auto,
}

#[derive(Subcommand, Clone, Debug)]
enum BreakerVerb {
    /// List breakers
    #[command(after_help = "\
Examples:
  beamline-router breaker list
  beamline-router breaker list --tenant acme --state open")]
    List {
        /// Of this tenant only
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        /// Of this provider only
        #[arg(long, value_name = "ID")]
        provider: Option<String>,
        /// In this state only
        #[arg(long, value_enum)]
        state: Option<State>,
    },
    /// Show all that is known of a breaker
    #[command(after_help = "\
Example:
  beamline-router breaker get --tenant acme --provider openai")]
    Get {
        #[command(flatten)]
        which: Which,
    },
    /// Hold a breaker open or closed, whatever results say
    #[command(after_help = "\
Examples:
  beamline-router breaker force open --tenant acme --provider openai --ttl 30m --reason 'maintenance'
  beamline-router breaker force auto --tenant acme --provider openai")]
    Force {
        /// What to hold it at; auto ends it
        #[arg(value_enum)]
        state: Forced,
        #[command(flatten)]
        which: Which,
        /// For how long; without, until auto
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        ttl: Option<Duration>,
        /// Why, kept in the history
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Close a breaker and empty its counters; a forced state stays
    #[command(after_help = "\
Example:
  beamline-router breaker reset --tenant acme --provider openai")]
    Reset {
        #[command(flatten)]
        which: Which,
        /// Why, kept in the history
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

impl BreakerCommand {
    /// Does what the command line asks.
    pub async fn run(self) -> ExitCode {
        let verb = self.verb;
        self.shell.run(async move |session: &Session| verb.run(session).await).await
    }
}

impl Which {
    fn body(&self) -> Body {
        Body::new()
            .with("tenant_id", Some(self.tenant.as_str()))
            .with("provider_id", Some(self.provider.as_str()))
    }
}

fn word(value: &impl ValueEnum) -> Option<String> {
    value.to_possible_value().map(|value| value.get_name().to_owned())
}

impl BreakerVerb {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List { tenant, provider, state } => {
                let body = Body::new()
                    .with("tenant_id", tenant)
                    .with("provider_id", provider)
                    .with("state", state.as_ref().and_then(word));
                let (answer, breakers) = session.list("breaker.list", body, "breakers").await?;
                session.out.body(&answer);
                session.out.table(&listed(&breakers));
            }
            Self::Get { which } => {
                let answer = session.ask("breaker.get", which.body()).await?;
                session.out.body(&answer);
                session.out.table(&Table::of_fields(answer.get("breaker").unwrap_or(&Value::Null)));
            }
            Self::Force { state, which, ttl, reason } => {
                let body = which
                    .body()
                    .with("state", word(&state))
                    .with("ttl_seconds", ttl.map(whole_seconds).transpose()?)
                    .with("reason", reason);
                let answer = session.change("breaker.force", body).await?;
                changed(session, &which, &answer);
            }
            Self::Reset { which, reason } => {
                let answer = session.change("breaker.reset", which.body().with("reason", reason)).await?;
                changed(session, &which, &answer);
            }
        }
        Ok(())
    }
}

fn whole_seconds(ttl: Duration) -> Result<u64, Failure> {
    if ttl.is_zero() || ttl.subsec_nanos() != 0 {
        return Err(Failure::Usage("--ttl: want whole seconds, at least one".to_owned()));
    }
    Ok(ttl.as_secs())
}

fn listed(breakers: &[Value]) -> Table {
    let mut table = Table::new(&[
        "TENANT",
        "PROVIDER",
        "STATE",
        "FORCED",
        "SINCE",
        "WINDOW",
        "FAILED",
        "RATE",
        "IN A ROW",
        "PROBES",
        "OPEN FOR MS",
        "TRIPS",
        "POLICY",
    ]);
    let shown: Vec<Value> = breakers.iter().map(readable).collect();
    table.rows(
        &shown,
        &[
            "tenant_id",
            "provider_id",
            "state",
            "forced",
            "since",
            "window_requests",
            "window_failures",
            "error_rate",
            "failure_count",
            "half_open_in_flight",
            "timeout_remaining_ms",
            "trips",
            "policy_id",
        ],
    );
    table
}

/// A breaker with its force and its times as people read them.
fn readable(breaker: &Value) -> Value {
    let mut breaker = breaker.clone();
    if let Some(fields) = breaker.as_object_mut() {
        let forced = fields.get("forced").and_then(forced);
        fields.insert("forced".to_owned(), forced.into());
        if let Some(since) = fields.get("since").and_then(moment) {
            fields.insert("since".to_owned(), since.into());
        }
    }
    breaker
}

/// A force in words: `open`, or `open until 2026-01-31T12:00:00Z`.
fn forced(force: &Value) -> Option<String> {
    let state = force.get("state")?.as_str()?;
    Some(match force.get("until").and_then(moment) {
        Some(until) => format!("{state} until {until}"),
        None => state.to_owned(),
    })
}

fn changed(session: &Session, which: &Which, answer: &Value) {
    session.out.body(answer);
    let field = |name: &str| answer.get("breaker").and_then(|breaker| breaker.get(name));
    let forced = field("forced").and_then(forced).map_or(String::new(), |f| format!(", forced {f}"));
    session.out.line(&format!("{}/{} is {}{forced}", which.tenant, which.provider, shown(field("state"))));
    session.warn(answer);
}
