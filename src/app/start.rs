use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::config::{Env, ProcessEnv, Settings};
use crate::http;
use crate::ledger::{MOST_PAGES, Verdicts};
use crate::nats::Worker;
use crate::nats::assignments::Assignments;
use crate::nats::buckets::Turns;
use crate::nats::claims::Claims;
use crate::nats::connect::{self, Access, ConnectFailed};
use crate::nats::discovery::Discovery;
use crate::nats::events::{Event, Events};
use crate::nats::evidence::SharedCollector;
use crate::nats::ledger::Ledger;
use crate::nats::link::Link;
use crate::nats::rollouts::Rollouts;
use crate::state::State;
use crate::telemetry::breakers::Breakers;
use crate::telemetry::repeats::Lines;
use crate::telemetry::traces::{Environment, SpanCounters, StartError, Subjects};
use crate::telemetry::{Exposition, Tracing};

/// What a worker is made of.
pub(super) struct Parts {
    pub(super) worker: Arc<Worker>,
    pub(super) exposition: Exposition,
    pub(super) listener: TcpListener,
    pub(super) events: mpsc::Receiver<Event>,
}

/// Why a worker could not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartFailed {
    #[error("settings of OpenTelemetry: {0}")]
    Environment(String),
    #[error("traces: {0}")]
    Traces(#[from] StartError),
    #[error("{0}")]
    Http(#[from] http::BindError),
    #[error("{0}")]
    Connect(#[from] ConnectFailed),
}

impl StartFailed {
    /// 2 for faults of settings, as everywhere.
    pub(super) const fn exit_code(&self) -> u8 {
        match self {
            Self::Environment(_) => 2,
            _ => 1,
        }
    }
}

/// Builds a worker; nothing runs yet but the connection, which may still be looking for its broker.
pub(super) async fn parts(settings: Settings) -> Result<Parts, StartFailed> {
    let clock = Clock::start();
    let state = Arc::new(State::new(settings.circuit_breaker_enabled));
    let mut exposition = Exposition::new(env!("CARGO_PKG_VERSION"));
    let metrics = exposition.metrics();
    let scrape_clock = clock.clone();
    exposition.show_breakers(Breakers::new(Arc::clone(&state), Arc::new(move || scrape_clock.stamp())));
    let rollouts = Arc::new(Rollouts::default());
    let tracing = start_tracing(&settings, &metrics, &clock)?;
    let listener = http::bind(settings.http_addr).await?;
    let link = Arc::new(Link::new(clock.clone()));
    let (events, queue) = Events::channel();
    let on_event = {
        let (link, metrics) = (Arc::clone(&link), Arc::clone(&metrics));
        move |event| link.on_event(&event, &metrics)
    };
    let on_traffic_event = {
        let (link, metrics) = (Arc::clone(&link), Arc::clone(&metrics));
        move |event| link.on_traffic_event(&event, &metrics)
    };
    let (name, capacity) = (&settings.worker_name, settings.subscription_capacity);
    let access = Arc::new(Access::read(&settings.nats).map_err(ConnectFailed::from)?);
    let client = connect::connect_worker(&access, name, on_event).await?;
    let traffic = connect::start_traffic(&access, &format!("{name}-traffic"), capacity, on_traffic_event);
    // Who meters nothing asks for none.
    let remembered = if settings.usage_metering { MOST_PAGES } else { 0 };
    let verdicts = Arc::new(Verdicts::remembering(remembered));
    metrics.usage_min_retention.set(settings.usage_min_retention.as_secs());
    let worker = Arc::new(Worker {
        clock,
        ledger: Ledger::new(Arc::clone(&state), Arc::clone(&verdicts)),
        state,
        verdicts,
        claims: Claims::default(),
        collector: SharedCollector::new(&settings.worker_name),
        rollouts,
        assignments: Assignments::new(settings.assignments.max_tracked),
        link,
        events,
        metrics,
        lines: Lines::default(),
        discovery: Discovery::default(),
        tracing,
        access,
        turns: Turns::default(),
        publishing: tokio::sync::RwLock::default(),
        traffic,
        jetstream: connect::jetstream(&client),
        client,
        settings,
    });
    let shown = Arc::clone(&worker);
    let statuses = Arc::new(move || shown.rollout_statuses());
    exposition.show_rollouts(crate::telemetry::rollouts::Rollouts::new(statuses));
    Ok(Parts { worker, exposition, listener, events: queue })
}

fn start_tracing(
    settings: &Settings,
    metrics: &crate::telemetry::Metrics,
    clock: &Clock,
) -> Result<Tracing, StartFailed> {
    let environment = Environment::read(|name| ProcessEnv.var(name).ok().flatten()).map_err(|faults| {
        StartFailed::Environment(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    })?;
    for warning in &environment.warnings {
        tracing::warn!(event = "otel_setting_ignored", warning = %warning);
    }
    let Some(trace_settings) = environment.settings else { return Ok(Tracing::off()) };
    let names = &settings.names;
    let server = match settings.nats.servers.as_slice() {
        [one] => one.host_and_port(),
        _ => None,
    };
    let subjects = Subjects::new(names.router_prefix(), names.exec_prefix(), &names.queue_group)
        .of_worker(&settings.worker_name)
        .at_server(server);
    let clock = clock.clone();
    let counters = SpanCounters {
        started: metrics.trace_spans_started.clone(),
        lost: metrics.trace_spans_dropped.clone(),
    };
    Ok(Tracing::start(&trace_settings, subjects, counters, Arc::new(move || clock.wall()))?)
}
