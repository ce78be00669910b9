use std::sync::Arc;

use serde_json::Value;

use super::readiness::Readiness;
use crate::breaker::State as Shown;
use crate::domain::{ErrorCode, Reason, Stamp};
use crate::http::{
    Answer, Asked, Bucket, Decisions, Desk, Digest, Flags, Forced, Log, Nats, News, Overview, Probe, Refusal,
    Row, Transitions,
};
use crate::log::Scope;
use crate::nats::{Worker, control, history};
use crate::state::Cell;
use crate::telemetry::labels::{Label as _, Outcome, Queue, Verb};

/// What the console is told of the worker.
pub(super) struct WorkerDesk {
    worker: Arc<Worker>,
    readiness: Arc<Readiness>,
}

impl WorkerDesk {
    pub(super) const fn new(worker: Arc<Worker>, readiness: Arc<Readiness>) -> Self {
        Self { worker, readiness }
    }
}

impl Probe for WorkerDesk {
    fn alive(&self) -> bool {
        self.readiness.alive()
    }

    fn not_ready(&self) -> Vec<String> {
        self.readiness.not_ready()
    }

    fn metrics(&self) -> String {
        self.readiness.metrics()
    }
}

impl Desk for WorkerDesk {
    fn overview(&self) -> Overview {
        let worker = &self.worker;
        let metrics = &worker.metrics;
        let reasons = self.readiness.not_ready();
        let flags = {
            let fold = worker.ledger.fold();
            let mut flags = Flags { worker: worker.state.enforcing(), global: true, tenants_off: Vec::new() };
            for (scope, _) in fold.flags().iter().filter(|(_, record)| !record.enabled) {
                match scope {
                    Scope::Global => flags.global = false,
                    Scope::Tenant { tenant_id } => flags.tenants_off.push(tenant_id.clone()),
                }
            }
            flags
        };
        Overview {
            worker: worker.settings.worker_name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            ready: reasons.is_empty(),
            reasons,
            actions: worker.settings.console.actions,
            now: worker.clock.stamp().0,
            nats: Nats {
                connected: worker.link.is_up(),
                reconnects: metrics.nats_reconnects.get(),
                slow_consumer: metrics.nats_slow_consumer.get(),
            },
            troubles: worker.link.all_troubles().into_iter().collect(),
            log: Log {
                reachable: worker.ledger.health().borrow().reachable,
                position: worker.ledger.progress().borrow().position,
                lag: metrics.log_lag.get(),
            },
            flags,
            policies: metrics.policies.get(),
            decisions: decisions(worker),
        }
    }

    fn digest(&self) -> Digest {
        let mut fold = self.worker.ledger.fold();
        Digest { value: fold.digest(), position: fold.at().position }
    }

    fn breakers(&self) -> Vec<Row> {
        let state = &self.worker.state;
        let now = self.worker.clock.stamp();
        let tenants = state.tenants();
        let mut rows = Vec::with_capacity(state.breaker_count());
        for tenant_id in tenants {
            rows.extend(state.breakers_of(tenant_id.as_str()).iter().map(|cell| row(cell, now)));
        }
        rows
    }

    fn breaker(&self, tenant_id: &str, provider_id: &str) -> Option<Row> {
        let now = self.worker.clock.stamp();
        self.worker.state.with_breaker(tenant_id, provider_id, |cell| row(cell, now))
    }

    fn buckets(&self, tenant_id: &str, provider_id: &str) -> Option<Vec<Bucket>> {
        let cell = self.worker.state.breaker(tenant_id, provider_id)?;
        let buckets = cell.lock().breaker.buckets(self.worker.clock.stamp());
        let told = buckets.into_iter().map(|(from, counts)| Bucket {
            from: from.0,
            requests: counts.requests,
            failures: counts.failures,
            slow: counts.slow,
        });
        Some(told.collect())
    }

    fn news(&self, after: u64) -> News {
        let news = self.worker.events.since(after);
        let events = news.events.iter().map(|event| named(event.id(), event.body().clone())).collect();
        News { events, last: news.last, missed: news.missed }
    }

    fn transitions<'a>(&'a self, asked: Asked) -> Answer<'a, Transitions> {
        Box::pin(async move {
            let since = asked.within_ms.map_or(Stamp(0), |ms| self.worker.clock.stamp().minus(ms));
            let question = history::Asked {
                tenant_id: asked.tenant_id.as_ref().map(|t| t.as_str()),
                provider_id: asked.provider_id.as_ref().map(|p| p.as_str()),
                since,
                limit: asked.limit,
            };
            let found = history::transitions(&self.worker, question).await.map_err(|error| Refusal {
                code: ErrorCode::Unavailable,
                message: error.to_string(),
                details: None,
            })?;
            let events = found.events.into_iter().rev().map(|event| named(&event.id, event.body));
            Ok(Transitions { transitions: events.collect(), complete: found.complete })
        })
    }

    fn control(&self, verb: Verb, body: Value) -> Answer<'_, Value> {
        Box::pin(async move {
            control::perform(&self.worker, verb, &body).await.map_err(|error| Refusal {
                code: error.code,
                message: error.message,
                details: error.details,
            })
        })
    }

    fn tick(&self) -> u64 {
        self.worker.clock.tick().0
    }

    fn count_refused(&self, queue: Queue, n: u64) {
        self.worker.metrics.queue_refused.add(queue, n);
    }
}

/// An event with its id beside its fields.
fn named(id: &str, mut body: Value) -> Value {
    if let Some(map) = body.as_object_mut() {
        map.insert("id".to_owned(), id.into());
    }
    body
}

fn row(cell: &Cell, now: Stamp) -> Row {
    let (view, settings, counters, policy_id) = {
        let guarded = cell.lock();
        let breaker = &guarded.breaker;
        (breaker.view(now), breaker.settings_shared(), guarded.counters, guarded.policy_id.clone())
    };
    let (fail_fast, would_reject, requests_saved) = cell.refusals();
    let opens = counters.transitions().filter(|(_, to, _)| *to == Shown::Open).map(|(.., n)| u64::from(n));
    Row {
        tenant_id: cell.tenant_id.clone(),
        provider_id: cell.provider_id.clone(),
        policy_id,
        enabled: settings.enabled(),
        state: view.state,
        since: view.since.0,
        open_until: view.open_until.map(|s| s.0),
        failure_count: view.failures_in_a_row,
        success_count: view.successes_in_a_row,
        error_rate: view.window.error_rate().as_f64(),
        error_rate_threshold: settings.error_rate().as_f64(),
        minimum_requests: settings.minimum_requests(),
        window_requests: view.window.requests,
        window_failures: view.window.failures,
        window_slow: view.window.slow,
        mean_latency_ms: view.window.mean_latency_ms(),
        half_open_in_flight: view.half_open_in_flight,
        trips: view.trips,
        opens: opens.sum(),
        forced: view.forced.map(|(state, until)| Forced { state, until: until.map(|s| s.0) }),
        flag_off: view.suspended,
        fail_fast,
        would_reject,
        requests_saved,
    }
}

fn decisions(worker: &Worker) -> Decisions {
    let counted = &worker.metrics.decisions;
    let mut told = Decisions::default();
    for outcome in Outcome::ALL {
        for reason in <Option<Reason>>::ALL {
            let n = counted.get(*outcome, *reason);
            told.total += n;
            match outcome {
                Outcome::Decided => told.decided += n,
                Outcome::CircuitOpen => told.circuit_open += n,
                _ => told.failed += n,
            }
            if *reason == Some(Reason::CircuitBreakerFallback) {
                told.circuit_breaker_fallback += n;
            }
        }
    }
    told
}
