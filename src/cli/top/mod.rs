//! `top`: the breakers, live, from anywhere with a connection.
//!
//! [`crate::nats::watch`] asks and hears; `model` keeps what is known; `view` makes a picture of it
//! and `plain` lines; `keys` says what keys do. Those are pure but for the first: what they are given
//! is all that they know. `screen` holds the terminal.

mod breaker;
mod keys;
mod model;
mod order;
mod plain;
mod screen;
mod view;
pub(super) mod words;

#[cfg(test)]
mod tests;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::exit::{Exit, Failure};
use super::output::Output;
use super::screen::is_there;
use super::stand::stop_at_a_signal;
use crate::breaker::State;
use crate::clock::Clock;
use crate::config::{ClientArgs, ClientSettings, ProcessEnv, parse_duration};
use crate::domain::{ProviderId, TenantId, Tick};
use crate::nats::control_client::ControlError;
use crate::nats::watch::{Scope, Seen, Watch};
use keys::{FASTEST, Look, SLOWEST};
use model::Model;
use order::{Filter, Sort};

/// What was seen and waits to be drawn; a full queue slows the asking down.
const SEEN: usize = 256;
/// After a list, how long a plain run waits for workers to tell of themselves.
const WORKERS_PATIENCE: Duration = Duration::from_millis(500);

/// The command line of `top`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct TopArgs {
    /// Of this tenant only
    #[arg(long, value_name = "ID", value_parser = tenant)]
    tenant: Option<String>,
    /// Of this provider only
    #[arg(long, value_name = "ID", value_parser = provider)]
    provider: Option<String>,
    /// In this state only
    #[arg(long, value_enum)]
    state: Option<super::breaker::State>,
    /// Sort by this
    #[arg(long, value_enum, default_value = "state")]
    sort: Sort,
    /// Turn the order round
    #[arg(long)]
    reverse: bool,
    /// Ask for all breakers so often; transitions show at once
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = interval)]
    interval: Duration,
    /// Print once, as soon as all is known, and end
    #[arg(long)]
    once: bool,
    /// Print lines instead of drawing on the terminal; also when there is none
    #[arg(long)]
    plain: bool,
    /// Print a line of JSON instead
    #[arg(long)]
    json: bool,
    /// Print at most so many breakers
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    #[command(flatten)]
    client: ClientArgs,
}

const EXAMPLES: &str = "\
Examples:
  beamline-router top
  beamline-router top --tenant acme --sort rate
  beamline-router top --state open --interval 500ms
  beamline-router top --once --rows 20
  beamline-router top --once --json
  beamline-router top --nats-url nats://broker.example:4222 --plain --interval 10s

Keys: ? shows all of them. q or Ctrl-C quits. NO_COLOR takes the colours away.

Exit codes: 0 quit, by a key or a signal; 2 wrong usage or settings; 3 cannot reach NATS, or no router answers.";

fn tenant(text: &str) -> Result<String, String> {
    TenantId::try_new(text).map(String::from).map_err(|error| error.to_string())
}

fn provider(text: &str) -> Result<String, String> {
    ProviderId::try_new(text).map(String::from).map_err(|error| error.to_string())
}

fn interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        every if every < FASTEST => Err("want at least 250ms".to_owned()),
        every if every > SLOWEST => Err("want at most 5m".to_owned()),
        every => Ok(every),
    }
}

/// Shows breakers until it is told to stop.
pub async fn run(args: TopArgs) -> ExitCode {
    let out = Output::new(args.json);
    // Heard before the terminal is taken over, so that no signal leaves it as it was drawn on.
    let stop = stop_at_a_signal();
    match show(args, out, &stop).await {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            failure.tell(out);
            failure.exit().into()
        }
    }
}

async fn show(args: TopArgs, out: Output, stop: &CancellationToken) -> Result<(), Failure> {
    let settings = ClientSettings::resolve(&args.client, &ProcessEnv).map_err(Failure::Settings)?;
    let clock = Clock::start();
    let scope = Scope { tenant_id: args.tenant.clone(), provider_id: args.provider.clone() };
    let watched = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        watched = Watch::connect(&settings, scope, clock.clone()) => watched.map_err(ControlError::from)?,
    };
    let (every, intervals) = watch::channel(args.interval);
    let refresh = Arc::new(Notify::new());
    let (to, seen) = mpsc::channel(SEEN);
    tokio::spawn(watched.run(intervals, Arc::clone(&refresh), to));
    let filter = Filter { state: args.state.map(State::from), text: String::new() };
    let model = Model::new(filter, args.sort, args.reverse);
    if args.once || args.plain || args.json || !is_there() {
        return print(model, &args, &clock, seen, out, stop).await;
    }
    let look = Look::new(args.interval);
    let drawn = screen::run(model, look, &clock, seen, every, refresh, stop).await;
    drawn.map_err(|error| Failure::Usage(format!("top cannot go on: {error}")))
}

/// Prints after each list, or after the first.
async fn print(
    mut model: Model,
    args: &TopArgs,
    clock: &Clock,
    mut seen: mpsc::Receiver<Seen>,
    out: Output,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let mut due: Option<Tick> = None;
    let mut looks = tokio::time::interval(WORKERS_PATIENCE / 10);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            what = seen.recv() => {
                let Some(what) = what else { return Err(Failure::Told(Exit::Unreachable)) };
                match &what {
                    Seen::Listed => {
                        due.get_or_insert_with(|| later(clock.tick(), WORKERS_PATIENCE));
                    }
                    // The rest may be permitted; what is not stays without an answer.
                    Seen::Denied(why) => out.error(why),
                    Seen::Failed(why) => {
                        out.error(why);
                        if args.once {
                            return Err(Failure::Told(Exit::Unreachable));
                        }
                    }
                    Seen::Disconnected => out.error("the connection is lost, trying again"),
                    _ => {}
                }
                model.apply(what, clock.tick());
            }
            _ = looks.tick() => {
                if due.is_some_and(|due| clock.tick() >= due) {
                    due = None;
                    plain::tell(&model, clock.tick(), clock.wall_ms(), args.rows, out);
                    if args.once || out.is_unread() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

fn later(at: Tick, by: Duration) -> Tick {
    Tick(at.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
}
