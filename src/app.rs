//! The worker as a whole: what is built in which order, who runs, and how it ends.
//!
//! Order: logs, traces, HTTP, the connection, then one task for each conversation. The broker need not
//! be there. A worker is *ready*, and takes requests, once the log has been read to where it stood at
//! the start and the buckets have been compared with it; it stops being ready while it knows that it
//! is far behind. It goes on deciding while the broker is away, which `/readyz` tells.
//!
//! At a signal it stops taking requests, answers those it has, then stops the rest, flushes what waits
//! and exits with 0. A task that ends on its own ends the process: a worker without its reader would
//! be wrong in silence.

mod desk;
mod readiness;
mod start;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{LogFormat, Settings};
use crate::http::Access;
use crate::nats::{self, Worker};
use crate::telemetry::logs;
use desk::WorkerDesk;
use readiness::Readiness;
use start::Parts;

/// The exit code of a bug: EX_SOFTWARE of sysexits.h.
const PANICKED: i32 = 70;

/// How long spans may take to leave at the end.
const FLUSH: Duration = Duration::from_secs(3);

/// Runs a worker until a signal, or until it cannot go on.
///
/// Exits with 0 after a signal, 2 if the `OTEL_*` environment has faults, 1 where it could not start or
/// go on.
pub async fn serve(settings: Settings) -> ExitCode {
    let format = match settings.logging.format {
        LogFormat::Json => logs::Format::Json,
        LogFormat::Text => logs::Format::Text,
    };
    let level = settings.logging.level.as_str().parse().unwrap_or(tracing::level_filters::LevelFilter::INFO);
    // Only a second call in one process fails, and then the first one's choice stands.
    let _ = logs::init(format, level);
    die_of_panics();
    // Heard from the first moment on: a worker that is told to stop while it starts ends as any other.
    let Ok(signals) = Signals::listen() else {
        tracing::error!(event = "start_failed", error = "signals cannot be heard");
        return ExitCode::FAILURE;
    };
    let parts = match start::parts(settings).await {
        Ok(parts) => parts,
        Err(failure) => {
            tracing::error!(event = "start_failed", error = %failure);
            return ExitCode::from(failure.exit_code());
        }
    };
    run(parts, signals).await
}

/// A task that dies ends the process: what it left half done must not be served.
fn die_of_panics() {
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(event = "panicked", error = %panic);
        std::process::exit(PANICKED);
    }));
}

async fn run(parts: Parts, mut signals: Signals) -> ExitCode {
    let Parts { worker, exposition, listener, events } = parts;
    let settings = &worker.settings;
    // With the port that was chosen, where the setting leaves it open.
    let http = listener.local_addr().unwrap_or(settings.http_addr);
    tracing::info!(
        event = "worker_starting",
        version = env!("CARGO_PKG_VERSION"),
        worker = settings.worker_name,
        %http,
        circuit_breaker_enabled = settings.circuit_breaker_enabled,
    );
    // Two stages of stopping: first nothing new is taken, then everything ends.
    let (taking, all) = (CancellationToken::new(), CancellationToken::new());
    let ready = watch::Sender::new(false);
    let mut takers: JoinSet<Result<(), Ended>> = JoinSet::new();
    let mut others: JoinSet<Result<(), Ended>> = JoinSet::new();

    for number in 0..settings.decide.connections {
        let task = nats::decide::on_a_thread(Arc::clone(&worker), number, ready.subscribe(), taking.clone());
        takers.spawn(named("decide", task));
    }
    takers.spawn(named("discovery", nats::discovery::run(Arc::clone(&worker), taking.clone())));
    takers
        .spawn(named("control", control_when_ready(Arc::clone(&worker), ready.subscribe(), taking.clone())));

    let reader = nats::ledger::run(Arc::clone(&worker), all.clone());
    others.spawn(async move { reader.await.map_err(|error| Ended::Streams(error.to_string())) });
    others.spawn(named("watchdog", nats::ledger::run_watchdog(Arc::clone(&worker), all.clone())));
    others.spawn(named("upkeep", nats::upkeep::run(Arc::clone(&worker), all.clone())));
    others.spawn(named("agreement", nats::snapshots::keep_agreed(Arc::clone(&worker), all.clone())));
    others.spawn(named("evidence", nats::evidence::run(Arc::clone(&worker), all.clone())));
    others.spawn(named("fold_version", nats::fold_version::run(Arc::clone(&worker), all.clone())));
    others.spawn(named("rollouts", nats::rollouts::run(Arc::clone(&worker), all.clone())));
    others.spawn(named("assignments", nats::assignments::sweep(Arc::clone(&worker), all.clone())));
    others.spawn(named("acks", nats::assignments::hear_acks(Arc::clone(&worker), all.clone())));
    others.spawn(named("events", nats::events::run(Arc::clone(&worker), events, all.clone())));
    if let Some(hang_up) = signals.hang_up.take() {
        others.spawn(named("renewal", nats::renewal::run(Arc::clone(&worker), hang_up, all.clone())));
    }
    if settings.usage_metering {
        others.spawn(named("usage", nats::usage::run(Arc::clone(&worker), all.clone())));
    }
    let readiness = Arc::new(Readiness::new(Arc::clone(&worker), exposition));
    others.spawn(named("readiness", readiness::run(Arc::clone(&readiness), ready, all.clone())));
    let http_stop = all.clone();
    let desk = Arc::new(WorkerDesk::new(Arc::clone(&worker), readiness));
    let console = &settings.console;
    let access = Access { actions: console.actions, hosts: console.hosts.clone() };
    others.spawn(named("http", async move {
        crate::http::serve(listener, desk, access, http_stop.cancelled_owned()).await;
    }));

    let code = tokio::select! {
        () = signals.come() => {
            tracing::info!(event = "worker_draining");
            ExitCode::SUCCESS
        }
        ended = first_end(&mut takers, &mut others) => {
            tracing::error!(event = "worker_failed", error = %ended);
            ExitCode::FAILURE
        }
    };
    taking.cancel();
    let drained =
        tokio::time::timeout(settings.drain_timeout, async { while takers.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!(event = "drain_incomplete", after = ?settings.drain_timeout);
    }
    all.cancel();
    let _ =
        tokio::time::timeout(Duration::from_secs(5), async { while others.join_next().await.is_some() {} })
            .await;
    if worker.link.is_up() {
        let both = async { tokio::join!(worker.client.flush(), worker.traffic.flush()) };
        let _ = tokio::time::timeout(Duration::from_secs(2), both).await;
    }
    let lost = worker.tracing.shutdown(FLUSH).await;
    if lost > 0 {
        tracing::warn!(event = "spans_lost", lost);
    }
    tracing::info!(event = "worker_stopped");
    code
}

/// Why a task ended before it was told to.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Streams(String),
    #[error("the task {0} ended")]
    Task(&'static str),
    #[error("a task died: {0}")]
    Died(String),
}

/// A task that is not meant to end before it is stopped.
async fn named(name: &'static str, task: impl Future<Output = ()>) -> Result<(), Ended> {
    task.await;
    Err(Ended::Task(name))
}

/// The first task of either stage that ends.
async fn first_end(
    takers: &mut JoinSet<Result<(), Ended>>,
    others: &mut JoinSet<Result<(), Ended>>,
) -> Ended {
    let joined = tokio::select! {
        Some(joined) = takers.join_next() => joined,
        Some(joined) = others.join_next() => joined,
        else => return Ended::Task("every one"),
    };
    match joined {
        Ok(Ok(())) => Ended::Task("reader"),
        Ok(Err(ended)) => ended,
        Err(died) => Ended::Died(died.to_string()),
    }
}

/// Control verbs are taken once this worker has read the log: before, it could not tell whether a
/// change is in force.
async fn control_when_ready(worker: Arc<Worker>, mut ready: watch::Receiver<bool>, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => return,
        is_ready = ready.wait_for(|r| *r) => if is_ready.is_err() { return },
    }
    nats::control::run(worker, stop).await;
}

/// What a worker is told from outside: to end, or to read its credentials again.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Option<Signal>,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        let hang_up = Some(signal(SignalKind::hangup())?);
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, hang_up })
    }

    async fn come(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
