//! Answering operators: `….control.v1.<verb>`.
//!
//! All workers share the verbs. Whichever gets one writes the change to its bucket, appends it to the
//! log and waits until its own reader has applied it; then it answers. Commands to breakers have no
//! bucket: the log is where they live. A message that nobody waits for an answer to is done all the
//! same, and a refusal of it is told as an event.
//!
//! Emergency verbs have places and a queue of their own (`lanes`).

mod body;
mod breakers;
mod flags;
mod intake;
mod lanes;
mod policies;
mod reply;
mod rollouts;
mod settle;
mod tenants;

pub use policies::put_if_absent;
pub use reply::ControlError;

use std::sync::Arc;
use std::time::Duration;

use beamline_nats::encode::Outgoing;
use beamline_nats::{Message, PublishError};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::buckets::{Bucket, Holds};
use super::events::Event;
use super::headers::{Received, field_of, incoming};
use super::ledger::Taken;
use crate::config::ControlIdentity;
use crate::domain::{Authenticated, ErrorCode, Stamp, Tick};
use crate::log::Entry;
use crate::telemetry::labels::{Publish, Source, Verb};
use crate::telemetry::{Facts, Message as Told};
use crate::wire::{CONTENT_TYPE, Content, SERVICE_ERROR, SERVICE_ERROR_CODE, authenticated, service_error};
use body::Body;
use intake::Intake;

/// How long a durable change may take to come back through the log.
const APPLY_PATIENCE: Duration = Duration::from_secs(5);
/// How long the broker may take over one question that a verb has; then the verb is answered as unavailable.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// How long a command is valid: it may wait for a place for 1 s, and the log may take 5 s; the rest is for clocks.
const VALID_MS: u64 = 8_000;
/// The longest body that is looked at: a policy of 256 providers is below 64 KiB.
const MAX_BODY: usize = 1 << 20;

/// Answers until stopped; then finishes what it has.
pub async fn run(worker: Arc<Worker>, stop: CancellationToken) {
    let names = &worker.settings.names;
    let subscribed = worker.traffic.subscribe(&names.control_all, Some(&names.queue_group));
    let Ok(mut verbs) = subscribed else { return };
    let intake = Arc::new(Intake::new(Arc::clone(&worker)));
    let taking = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = confirm(&worker) => {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = intake.take_all(&mut verbs) => {}
                }
            }
        }
        worker.link.set_controlled(false);
        verbs.drain();
        // The broker says in milliseconds that it sends nothing more; a drain has a bound of its own.
        let _ = tokio::time::timeout(ANSWER_PATIENCE, intake.take_all(&mut verbs)).await;
        intake.finish().await;
    };
    tokio::select! {
        () = taking => {}
        () = intake.refuse_late() => {}
    }
}

/// Waits until the broker holds the subscription, so that a worker that is ready is reached.
async fn confirm(worker: &Worker) {
    worker.traffic.subscribed().await;
    worker.link.set_controlled(true);
}

/// The end of a subject that names a verb.
fn verb_text<'s>(worker: &Worker, subject: &'s str) -> &'s str {
    subject.strip_prefix(worker.settings.names.control_prefix.as_str()).unwrap_or_default()
}

/// The verb of a message.
fn verb_of(worker: &Worker, message: &Message) -> Verb {
    Verb::parse(verb_text(worker, message.as_ref().subject().unwrap_or_default()))
}

/// A message as a request. None where no answer could be sent, and for an answer: those are dropped.
fn request_of<'m>(worker: &Worker, message: &'m Message) -> Option<Received<'m>> {
    let message = Received::of(message.as_ref());
    if let Some(malformed) = message.malformed {
        worker.link.note_malformed(Source::Control, malformed, &worker.metrics);
    }
    let is_dropped = message.is_unanswerable()
        || message.reply.is_some_and(|reply| !worker.may_answer_at(reply))
        || crate::wire::is_answer(message.payload);
    (!is_dropped).then_some(message)
}

async fn one(worker: &Arc<Worker>, message: Message, arrived: Tick) {
    let began = worker.clock.nanos();
    let Some(message) = request_of(worker, &message) else { return };
    let verb = Verb::parse(verb_text(worker, message.subject));
    let incoming = incoming(&message.headers);
    let told = Told { subject: message.subject, body_size: message.payload.len(), id: None };
    let span = worker.tracing.control(&incoming, verb, &told);

    let parsed = if let Some(malformed) = message.malformed {
        Err(ControlError::field(field_of(malformed), &format!("cannot be read: {malformed}")))
    } else if message.payload.len() > MAX_BODY {
        Err(ControlError::new(ErrorCode::InvalidRequest, "the body has more than 1 MiB"))
    } else {
        Body::parse(message.payload, sender(worker, &message), arrived)
    };
    let tenant_id = parsed.as_ref().ok().and_then(|b| b.peek("tenant_id"));
    let result = match parsed {
        Ok(body) => dispatch(worker, verb, body).await,
        Err(error) => Err(error),
    };
    let code = result.as_ref().err().map(|e| e.code);
    let body = match result {
        Ok(body) => {
            worker.metrics.control_requests.inc(verb, None);
            body
        }
        Err(error) => {
            note_refusal(worker, &message, &error, tenant_id.as_deref());
            error.body()
        }
    };
    // Before it is answered, so that who has the answer finds it counted.
    worker.discovery.control.record(worker.clock.nanos() - began, code.map(ErrorCode::as_str));
    answer(worker, &message, &body).await;
    if let Some(span) = span {
        span.end(&Facts {
            tenant_id: tenant_id.as_deref(),
            error: code.map(ErrorCode::as_str),
            message: body.pointer("/error/message").and_then(Value::as_str),
            ..Facts::default()
        });
    }
}

/// Who sent a request, where the settings say that the broker says so.
fn sender(worker: &Worker, message: &Received<'_>) -> Option<Authenticated> {
    match worker.settings.control_identity {
        ControlIdentity::None => None,
        ControlIdentity::Import => authenticated(message.headers.iter()),
    }
}

/// Answers a request with an error, without a look at its body.
fn refuse(worker: &Worker, message: &Message, error: &ControlError) {
    let Some(message) = request_of(worker, message) else { return };
    note_refusal(worker, &message, error, None);
    worker.discovery.control.record(0, Some(error.code.as_str()));
    if !answer_now(worker, &message, &error.body()) {
        worker.metrics.nats_publish_failures.inc(Publish::Reply);
    }
}

/// Counts a refusal. It is logged where it is a fault of the router or nobody is answered; then an event says so
/// too.
fn note_refusal(worker: &Worker, message: &Received<'_>, error: &ControlError, tenant_id: Option<&str>) {
    let verb = verb_text(worker, message.subject);
    worker.metrics.control_requests.inc(Verb::parse(verb), Some(error.code));
    let ours = matches!(error.code, ErrorCode::Internal | ErrorCode::Unavailable);
    let code = error.code.as_str();
    if (ours || message.reply.is_none())
        && let Some(stands_for) = worker.line_due("control_refused", &format!("{code} {verb}"))
    {
        tracing::warn!(
            event = "control_refused",
            verb,
            code,
            message = %error.message,
            trace_id = incoming(&message.headers).parent().map(|p| p.trace_id_hex()),
            stands_for
        );
    }
    if message.reply.is_none() {
        let error = error.body().get("error").cloned().unwrap_or_default();
        let event = Event::rejected(verb, tenant_id, &error, worker.clock.wall_ms());
        worker.events.send(event, &worker.metrics);
    }
}

/// Does what a verb asks, for whoever reached this worker by another way than NATS. Counted as a
/// control request.
///
/// # Errors
/// [`ControlError`], as the verb's answer would have it.
pub async fn perform(worker: &Arc<Worker>, verb: Verb, body: &Value) -> Result<Value, ControlError> {
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    let result = match Body::parse(&bytes, None, worker.clock.tick()) {
        Ok(body) => dispatch(worker, verb, body).await,
        Err(error) => Err(error),
    };
    worker.metrics.control_requests.inc(verb, result.as_ref().err().map(|e| e.code));
    result
}

async fn dispatch(worker: &Arc<Worker>, verb: Verb, body: Body) -> Result<Value, ControlError> {
    let result = match verb {
        Verb::PolicyPut => policies::put(worker, body).await,
        Verb::PolicyPatch => policies::patch(worker, body).await,
        Verb::PolicyGet => policies::get(worker, body).await,
        Verb::PolicyList => policies::list(worker, body),
        Verb::PolicyHistory => policies::history(worker, body).await,
        Verb::PolicyDelete => policies::delete(worker, body).await,
        Verb::PolicyRollback => policies::rollback(worker, body).await,
        Verb::PolicyValidate => policies::validate(worker, body),
        Verb::TenantDelete => tenants::delete(worker, body).await,
        Verb::BreakerList => breakers::list(worker, body),
        Verb::BreakerGet => breakers::get(worker, body),
        Verb::BreakerForce => breakers::force(worker, body).await,
        Verb::BreakerReset => breakers::reset(worker, body).await,
        Verb::FlagSet => flags::set(worker, body).await,
        Verb::FlagGet => flags::get(worker, body),
        Verb::RolloutPut => rollouts::put(worker, body).await,
        Verb::RolloutLint => rollouts::lint(worker, body).await,
        Verb::RolloutPlan => rollouts::plan(worker, body).await,
        Verb::RolloutStart => rollouts::start(worker, body).await,
        Verb::RolloutApprove => rollouts::approve(worker, body).await,
        Verb::RolloutPromote => rollouts::promote(worker, body).await,
        Verb::RolloutExtend => rollouts::extend(worker, body).await,
        Verb::RolloutPause => rollouts::pause(worker, body).await,
        Verb::RolloutResume => rollouts::resume(worker, body).await,
        Verb::RolloutRollback => rollouts::rollback(worker, body).await,
        Verb::RolloutAbort => rollouts::abort(worker, body).await,
        Verb::RolloutDrill => rollouts::drill(worker, body).await,
        Verb::RolloutIssue => rollouts::issue(worker, body).await,
        Verb::RolloutGraduate => rollouts::graduate(worker, body).await,
        Verb::RolloutDelete => rollouts::delete(worker, body).await,
        Verb::RolloutGet => rollouts::get(worker, &body),
        Verb::RolloutList => rollouts::list(worker, &body),
        Verb::RolloutStatus => rollouts::status(worker, &body),
        Verb::RolloutHistory => rollouts::history(worker, &body).await,
        Verb::RolloutReport => rollouts::report(worker, &body).await,
        Verb::Other => Err(ControlError::new(ErrorCode::NotFound, "there is no such verb")),
    };
    result.inspect_err(|error| error.note(worker))
}

/// Answers, and waits for room in the connection if there is none.
async fn answer(worker: &Worker, message: &Received<'_>, body: &Value) {
    if !answer_now(worker, message, body) {
        let _ = tokio::time::timeout(ANSWER_PATIENCE, worker.traffic.room()).await;
        if !answer_now(worker, message, body) {
            worker.metrics.nats_publish_failures.inc(Publish::Reply);
        }
    }
}

/// Answers without waiting; `false` if the connection has no room.
fn answer_now(worker: &Worker, message: &Received<'_>, body: &Value) -> bool {
    let Some(reply) = message.reply.filter(|reply| worker.may_answer_at(reply)) else { return true };
    let text = |pointer| body.pointer(pointer).and_then(Value::as_str);
    let mut headers = vec![(CONTENT_TYPE, Content::Json.mime())];
    let (error, code);
    if body.get("error").is_some() {
        error = service_error(text("/error/message").unwrap_or_default());
        code = reply::number_of(text("/error/code").unwrap_or_default()).to_string();
        headers.extend([(SERVICE_ERROR, error.as_ref()), (SERVICE_ERROR_CODE, code.as_str())]);
    }
    let payload = serde_json::to_vec(body).unwrap_or_default();
    let reply = Outgoing { headers: &headers, ..Outgoing::new(reply, &payload) };
    match worker.traffic.publish(&reply) {
        Err(PublishError::Full) => false,
        Err(_) => {
            worker.metrics.nats_publish_failures.inc(Publish::Reply);
            true
        }
        Ok(()) => true,
    }
}

/// Opens a bucket, if the broker is there.
async fn opened(worker: &Worker, holds: Holds) -> Result<Bucket, ControlError> {
    Ok(worker.link.answers(ANSWER_PATIENCE, Bucket::open(worker, holds)).await??)
}

/// Appends a command that has no bucket and waits until it is applied here.
async fn command(worker: &Worker, entry: &Entry<'_>) -> Result<bool, ControlError> {
    let appended = worker.append(entry, None).await.map_err(|error| {
        let error = error.to_string();
        if let Some(stands_for) = worker.line_due("command_not_appended", &error) {
            tracing::warn!(event = "command_not_appended", error, stands_for);
        }
        ControlError::new(ErrorCode::Unavailable, "the log did not take the command; try again")
    })?;
    let applied = worker.ledger.wait_applied(appended.position, APPLY_PATIENCE).await;
    if applied && worker.ledger.taken(appended.position) == Some(Taken::Late) {
        let message = "the command came too late into the log, and nothing changed; try again";
        return Err(ControlError::new(ErrorCode::Unavailable, message));
    }
    Ok(applied)
}

/// The latest stamp at which a command is valid that this worker took up at a tick, by the broker's clock as
/// far as it is known. A request that was held up must not undo what was commanded since.
fn latest_of(worker: &Worker, arrived: Tick) -> Stamp {
    worker.clock.offset().to_stamp(arrived).plus(VALID_MS)
}

/// One page of a list: as many items as the limit and the broker's payload allow. `next` names the
/// cursor behind an item.
fn page(worker: &Worker, field: &str, limit: usize, items: impl Iterator<Item = (String, Value)>) -> Value {
    // Room for the envelope and headers.
    let most = worker.traffic.max_payload().saturating_sub(4_096).max(4_096);
    let mut taken = Vec::new();
    let mut bytes = 0;
    let mut last = None;
    let mut cursor = None;
    for (at, item) in items {
        let size = serde_json::to_vec(&item).map_or(0, |v| v.len()) + 1;
        if taken.len() >= limit || (bytes + size > most && !taken.is_empty()) {
            cursor = last;
            break;
        }
        bytes += size;
        taken.push(item);
        last = Some(at);
    }
    let mut body = json!({ "ok": true, field: taken });
    if let (Some(cursor), Some(map)) = (cursor, body.as_object_mut()) {
        map.insert("cursor".to_owned(), Value::String(cursor));
    }
    body
}
