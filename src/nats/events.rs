//! Telling others what happened: `….events.<kind>.<tenant>[.<provider>]`.
//!
//! Every worker that applies an entry publishes the same events under the same `Nats-Msg-Id`, made of
//! the entry's position, and the stream keeps one of them. So an event is there once however many
//! workers run. Where all of them die between applying and publishing, or none was there, the next one to start publishes
//! it. They leave in order: the next is sent when the broker has the last. `late` has what holds for a worker that was
//! away.

mod late;
mod publish;

pub(super) use late::last_transition;
pub use publish::run;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::assignments::Unreceived;
use crate::domain::{Authenticated, Stamp};
use crate::ledger::Moved;
use crate::log::{At, FlagEntry, ForceEntry, PolicyEntry, Scope};
use crate::rollout::controller::Decision;
use crate::telemetry::Metrics;
use crate::telemetry::labels::Queue;
use crate::wire::subjects::escape_token;

/// Eight thousand transitions wait while the broker is slow; more are dropped and counted, and the
/// other workers' copies stand in for them.
const QUEUE: usize = 8_192;
/// The last events are kept for those on this worker who follow them by looking now and then. Twice a
/// second, as the console does, this is two thousand a second; who is slower reads the stream.
const RECENT: usize = 1_024;
/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Behind the events prefix.
    subject: String,
    /// The same on every worker, and on no other event.
    id: String,
    /// When its entry was stored, of an event that every worker publishes.
    entry: Option<Stamp>,
    body: Value,
}

impl Event {
    /// A breaker's transition, the `n`-th that its entry caused; `command` is that of an operator.
    #[must_use]
    pub fn transition(at: At, n: usize, moved: &Moved, command: Option<&ForceEntry>) -> Self {
        let (cell, t) = (&moved.cell, &moved.transition);
        let body = json!({
            "version": "1",
            "kind": "breaker",
            "tenant_id": cell.tenant_id.as_str(),
            "provider_id": cell.provider_id.as_str(),
            "policy_id": moved.policy_id.as_str(),
            "position": at.position,
            "timestamp": t.at.0,
            "from": t.from.as_str(),
            "to": t.to.as_str(),
            "reason": t.cause.as_str(),
            "failure_count": t.failures_in_a_row,
            "error_rate": t.window.error_rate().as_f64(),
            "window": {
                "requests": t.window.requests,
                "failures": t.window.failures,
                "slow": t.window.slow,
                "mean_latency_ms": t.window.mean_latency_ms(),
            },
            "trips": t.trips,
            "open_until": t.open_until.map(|s| s.0),
            "actor": command.and_then(|c| c.actor.as_deref()),
            "actor_reason": command.and_then(|c| c.reason.as_deref()),
        });
        let body = with_sender(body, command.and_then(|c| c.authenticated.as_ref()));
        let subject = format!(
            "breaker.{}.{}",
            escape_token(cell.tenant_id.as_str()),
            escape_token(cell.provider_id.as_str())
        );
        Self { subject, id: format!("{}.{}.{n}", at.stamp.0, at.position), entry: Some(at.stamp), body }
    }

    /// A policy was put, deleted or refused.
    #[must_use]
    pub fn policy(at: At, change: &str, entry: &PolicyEntry) -> Self {
        let body = json!({
            "version": "1",
            "kind": "policy",
            "change": change,
            "tenant_id": entry.tenant_id.as_str(),
            "policy_id": entry.policy_id.as_str(),
            "revision": entry.revision.revision,
            "position": at.position,
            "timestamp": at.stamp.0,
            "actor": entry.actor,
            "reason": entry.reason,
        });
        let body = with_sender(body, entry.authenticated.as_ref());
        let subject = format!("policy.{}", escape_token(entry.tenant_id.as_str()));
        Self { subject, id: format!("{}.{}.p", at.stamp.0, at.position), entry: Some(at.stamp), body }
    }

    /// A switch was set. Of the world's switch the tenant is told as `_`.
    #[must_use]
    pub fn flag(at: At, entry: &FlagEntry) -> Self {
        let tenant_id = match &entry.scope {
            Scope::Global => None,
            Scope::Tenant { tenant_id } => Some(tenant_id.as_str()),
        };
        let body = json!({
            "version": "1",
            "kind": "flag",
            "scope": if tenant_id.is_some() { "tenant" } else { "global" },
            "tenant_id": tenant_id,
            "circuit_breaker_enabled": entry.circuit_breaker_enabled,
            "position": at.position,
            "timestamp": at.stamp.0,
            "actor": entry.actor,
            "reason": entry.reason,
        });
        let body = with_sender(body, entry.authenticated.as_ref());
        let subject = format!("flag.{}", tenant_id.map_or("_".into(), escape_token));
        Self { subject, id: format!("{}.{}.f", at.stamp.0, at.position), entry: Some(at.stamp), body }
    }

    /// A rollout decided something.
    #[must_use]
    pub fn rollout(at: At, decision: &Decision) -> Self {
        let rollout = decision.rollout.as_str();
        let body = json!({
            "version": "1",
            "kind": "rollout",
            "rollout": rollout,
            "position": at.position,
            "timestamp": at.stamp.0,
            "n": decision.n,
            "decision": decision.kind,
            "reasons": decision.reasons,
            "figures": decision.figures,
        });
        Self {
            subject: format!("rollout.{rollout}"),
            id: format!("rollout.{rollout}.{}.{}", at.stamp.0, at.position),
            entry: Some(at.stamp),
            body,
        }
    }

    /// Assignments of a tenant were received by nobody; it stands for so many.
    #[must_use]
    pub fn no_executor(unreceived: &Unreceived<'_>, stands_for: u64, now_ms: u64) -> Self {
        let Unreceived { tracked, assignment_id, policy_id, subject } = unreceived;
        let body = json!({
            "version": "1",
            "kind": "assignment",
            "change": "no_executor",
            "tenant_id": &*tracked.tenant_id,
            "provider_id": &*tracked.provider_id,
            "policy_id": policy_id,
            "request_id": &*tracked.request_id,
            "assignment_id": assignment_id,
            "subject": subject,
            "stands_for": stands_for,
            "timestamp": now_ms,
        });
        let (tenant, provider) = (escape_token(&tracked.tenant_id), escape_token(&tracked.provider_id));
        let id = format!("assignment.{assignment_id}");
        Self { subject: format!("assignment.{tenant}.{provider}"), id, entry: None, body }
    }

    /// A control message that nobody waits for an answer to was refused. Of one without a tenant it
    /// is told as `_`.
    #[must_use]
    pub fn rejected(verb: &str, tenant_id: Option<&str>, error: &Value, now_ms: u64) -> Self {
        let mut body = Map::new();
        body.insert("version".into(), "1".into());
        body.insert("kind".into(), "control_rejected".into());
        body.insert("verb".into(), verb.into());
        body.insert("tenant_id".into(), tenant_id.into());
        body.insert("timestamp".into(), now_ms.into());
        body.insert("error".into(), error.clone());
        let subject = format!("control_rejected.{}", tenant_id.map_or("_".into(), escape_token));
        Self { subject, id: uuid::Uuid::new_v4().to_string(), entry: None, body: Value::Object(body) }
    }
}

impl Event {
    /// The same on every worker, and on no other event.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What subscribers read.
    #[must_use]
    pub const fn body(&self) -> &Value {
        &self.body
    }
}

/// The body of an event, with who caused it where the broker said so.
fn with_sender(mut body: Value, authenticated: Option<&Authenticated>) -> Value {
    if let (Some(who), Some(fields)) = (authenticated, body.as_object_mut()) {
        fields.insert("authenticated".to_owned(), json!(who));
    }
    body
}

/// The way in.
#[derive(Clone, Debug)]
pub struct Events {
    queue: mpsc::Sender<Event>,
    recent: Arc<Mutex<Recent>>,
}

/// The last events of this worker, numbered from 1.
#[derive(Debug, Default)]
struct Recent {
    last: u64,
    held: VecDeque<Event>,
}

/// What happened since somebody last looked.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// The events, oldest first.
    pub events: Vec<Event>,
    /// The number of the last one; the next look begins behind it.
    pub last: u64,
    /// Those that are not held any more.
    pub missed: u64,
}

impl Events {
    /// The way in and the queue that [`run`] empties.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Event>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        (Self { queue, recent: Arc::default() }, receiver)
    }

    /// The events behind a number, as far as they are held.
    #[must_use]
    pub fn since(&self, number: u64) -> News {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = recent.last.saturating_sub(number);
        let held = u64::try_from(recent.held.len()).unwrap_or(u64::MAX);
        let skip = usize::try_from(held.saturating_sub(fresh)).unwrap_or(usize::MAX);
        News {
            events: recent.held.iter().skip(skip).cloned().collect(),
            last: recent.last,
            missed: fresh.saturating_sub(held),
        }
    }

    /// Queues an event; a full queue drops it, counted. It is held for a while either way.
    pub fn send(&self, event: Event, metrics: &Metrics) {
        {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            recent.last += 1;
            recent.held.push_back(event.clone());
            if recent.held.len() > RECENT {
                recent.held.pop_front();
            }
        }
        if self.queue.try_send(event).is_err() {
            metrics.queue_refused.inc(Queue::Events);
        }
    }
}
