//! One span while it lasts. It belongs to the task that holds it and to no thread, so it may cross
//! awaits; what is not ended is ended when dropped.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::{
    Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks, SpanProcessor};

use super::Core;
use super::context::TraceParent;
use crate::domain::{Disposition, Reason, Status as CallStatus};
use crate::telemetry::names::{attribute, operation, step};

/// The message that a span is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'a> {
    /// The subject that it came or goes on.
    pub subject: &'a str,
    /// Bytes of the body.
    pub body_size: usize,
    /// `Nats-Msg-Id`, where it has one.
    pub id: Option<&'a str>,
}

/// What became known while a span lasted. All of it is optional; `..Facts::default()` fills the rest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// The request.
    pub request_id: Option<&'a str>,
    /// The tenant.
    pub tenant_id: Option<&'a str>,
    /// The policy that decided.
    pub policy_id: Option<&'a str>,
    /// Its revision.
    pub policy_revision: Option<u64>,
    /// The provider.
    pub provider_id: Option<&'a str>,
    /// Why this provider.
    pub reason: Option<Reason>,
    /// The state of its breaker: `closed`, `open` or `half_open`.
    pub breaker_state: Option<&'static str>,
    /// Whether the request probes.
    pub probe: Option<bool>,
    /// The assignment.
    pub assignment_id: Option<&'a str>,
    /// How the provider call ended.
    pub status: Option<CallStatus>,
    /// What became of the result.
    pub disposition: Option<Disposition>,
    /// How long a refused caller is told to wait.
    pub retry_after_ms: Option<u64>,
    /// The class of error that it ended with, an error code of the contract where there is one; it
    /// sets the span's status to error.
    pub error: Option<&'static str>,
    /// The error in words that its caller reads too; the status tells them.
    pub message: Option<&'a str>,
}

/// A step of a decision's routing, told as an event of its span.
#[derive(Clone, Copy, Debug)]
pub enum RoutingStep<'a> {
    /// A candidate's breaker was asked.
    Check {
        /// The candidate.
        provider_id: &'a str,
        /// `allowed`, `rejected` or `would_reject`.
        result: &'static str,
        /// The breaker's state: `closed`, `open` or `half_open`.
        state: &'static str,
        /// How long until asking again may help, of a refusal.
        retry_after_ms: Option<u64>,
    },
    /// Another candidate than the first choice is looked at.
    Fallback {
        /// The candidate.
        provider_id: &'a str,
    },
    /// A constraint excludes a candidate.
    Constraint {
        /// The candidate.
        provider_id: &'a str,
        /// The constraint's name on the wire.
        constraint: &'static str,
    },
    /// A slot was claimed in the log.
    Claim {
        /// The candidate.
        provider_id: &'a str,
        /// `granted`, `refused` or `not_needed`.
        outcome: &'static str,
        /// How long the request waited for it.
        waited: Duration,
    },
}

/// The most steps of one decision that are told: each of 256 candidates is looked at once and may be a
/// fallback. The specification's own limit is 128; what lies beyond is counted as dropped.
const MAX_STEPS: usize = 128;

/// Room for the attributes of a message and those of a usual decision.
const ATTRIBUTES: usize = 22;

/// What a span begins with.
pub(super) struct Opening<'a> {
    pub(super) name: String,
    pub(super) kind: SpanKind,
    pub(super) own: TraceParent,
    /// The parent's span id, and whether it is of another process.
    pub(super) parent: Option<([u8; 8], bool)>,
    pub(super) state: Option<Cow<'a, str>>,
    pub(super) link: Option<TraceParent>,
    pub(super) message: &'a Message<'a>,
    pub(super) template: Option<&'a str>,
    pub(super) group: Option<&'a str>,
}

/// A span that lasts.
#[must_use = "a span lasts as long as its guard"]
pub struct SpanGuard {
    core: Arc<Core>,
    own: TraceParent,
    state: Option<Box<str>>,
    /// Taken when it ends.
    data: Option<Box<SpanData>>,
}

impl SpanGuard {
    pub(super) fn open(core: &Arc<Core>, opening: Opening<'_>) -> Self {
        core.built.inc();
        let Opening { name, kind, own, parent, state, link, message, template, group } = opening;
        let operation = if kind == SpanKind::Producer { operation::SEND } else { operation::PROCESS };
        let mut attributes = Vec::with_capacity(ATTRIBUTES);
        attributes.push(KeyValue::new(attribute::SYSTEM, "nats"));
        attributes.push(KeyValue::new(attribute::OPERATION_TYPE, operation));
        attributes.push(KeyValue::new(attribute::OPERATION_NAME, operation));
        attributes.push(KeyValue::new(attribute::DESTINATION, message.subject.to_owned()));
        attributes.push(KeyValue::new(attribute::BODY_SIZE, integer(message.body_size as u64)));
        let texts = [
            (attribute::DESTINATION_TEMPLATE, template),
            (attribute::CONSUMER_GROUP, group),
            (attribute::MESSAGE_ID, message.id),
            (attribute::CLIENT_ID, core.subjects.worker.as_deref()),
        ];
        attributes
            .extend(texts.into_iter().filter_map(|(key, value)| Some(KeyValue::new(key, value?.to_owned()))));
        if let Some((address, port)) = &core.subjects.server {
            attributes.push(KeyValue::new(attribute::SERVER_ADDRESS, address.clone()));
            attributes.push(KeyValue::new(attribute::SERVER_PORT, i64::from(*port)));
        }
        let mut links = SpanLinks::default();
        links.links.extend(link.map(|to| Link::with_context(context(&to, None))));
        let start = (core.now)();
        let data = SpanData {
            span_context: context(&own, state.as_deref()),
            parent_span_id: parent.map_or(SpanId::INVALID, |(id, _)| SpanId::from_bytes(id)),
            parent_span_is_remote: parent.is_some_and(|(_, remote)| remote),
            span_kind: kind,
            name: Cow::Owned(name),
            start_time: start,
            end_time: start,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: Status::Unset,
            instrumentation_scope: core.scope.clone(),
        };
        let state = state.map(|s| s.into_owned().into_boxed_str());
        Self { core: Arc::clone(core), own, state, data: Some(Box::new(data)) }
    }

    /// The span as the parent of what it causes, and what results of its assignment link to.
    #[must_use]
    pub fn context(&self) -> TraceParent {
        self.own
    }

    /// `tracestate` of the trace.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Adds what is known now; what was known before is replaced.
    pub fn record(&mut self, facts: &Facts<'_>) {
        let Some(data) = self.data.as_mut() else { return };
        let texts = [
            (attribute::REQUEST_ID, facts.request_id),
            (attribute::CONVERSATION_ID, facts.request_id),
            (attribute::TENANT_ID, facts.tenant_id),
            (attribute::POLICY_ID, facts.policy_id),
            (attribute::PROVIDER_ID, facts.provider_id),
            (attribute::ASSIGNMENT_ID, facts.assignment_id),
        ];
        let words = [
            (attribute::REASON, facts.reason.map(Reason::as_str)),
            (attribute::BREAKER_STATE, facts.breaker_state),
            (attribute::RESULT_STATUS, facts.status.map(CallStatus::as_str)),
            (attribute::RESULT_DISPOSITION, facts.disposition.map(Disposition::as_str)),
            (attribute::ERROR_TYPE, facts.error),
        ];
        let texts = texts
            .into_iter()
            .filter_map(|(key, v)| Some(KeyValue::new(key, StringValue::from(v?.to_owned()))));
        let words = words.into_iter().filter_map(|(key, v)| Some(KeyValue::new(key, v?)));
        let revision = facts.policy_revision.map(|r| KeyValue::new(attribute::POLICY_REVISION, integer(r)));
        let retry = facts.retry_after_ms.map(|ms| KeyValue::new(attribute::RETRY_AFTER_MS, integer(ms)));
        let probe = facts.probe.map(|p| KeyValue::new(attribute::PROBE, p));
        for fact in texts.chain(words).chain(revision).chain(retry).chain(probe) {
            match data.attributes.iter_mut().find(|known| known.key == fact.key) {
                Some(known) => *known = fact,
                None => data.attributes.push(fact),
            }
        }
        // The class stands in `error.type`; the status has what it lacks: words.
        if facts.error.is_some() {
            data.status = Status::error(facts.message.unwrap_or_default().to_owned());
        }
    }

    /// Tells a step of the routing, as of now.
    pub fn tell(&mut self, told: RoutingStep<'_>) {
        let now = (self.core.now)();
        let Some(data) = self.data.as_mut() else { return };
        if data.events.events.len() >= MAX_STEPS {
            data.events.dropped_count = data.events.dropped_count.saturating_add(1);
            return;
        }
        let provider = |id: &str| KeyValue::new(attribute::PROVIDER_ID, id.to_owned());
        let word = |key: &'static str, word: &'static str| KeyValue::new(key, word);
        let number = |key: &'static str, n: u64| KeyValue::new(key, Value::from(integer(n)));
        let (name, attributes) = match told {
            RoutingStep::Check { provider_id, result, state, retry_after_ms } => {
                let mut told = vec![
                    provider(provider_id),
                    word(attribute::CHECK_RESULT, result),
                    word(attribute::BREAKER_STATE, state),
                ];
                told.extend(retry_after_ms.map(|ms| number(attribute::RETRY_AFTER_MS, ms)));
                (step::CHECK, told)
            }
            RoutingStep::Fallback { provider_id } => (step::FALLBACK, vec![provider(provider_id)]),
            RoutingStep::Constraint { provider_id, constraint } => {
                (step::CONSTRAINT, vec![provider(provider_id), word(attribute::CONSTRAINT, constraint)])
            }
            RoutingStep::Claim { provider_id, outcome, waited } => {
                let waited = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
                let told = vec![
                    provider(provider_id),
                    word(attribute::CLAIM_OUTCOME, outcome),
                    number(attribute::CLAIM_WAIT_US, waited),
                ];
                (step::CLAIM, told)
            }
        };
        // The same moment for all: a clock set back must not put an event before its span.
        let at = now.max(data.start_time);
        data.events.events.push(Event::new(name, at, attributes, 0));
    }

    /// Adds what became known and ends the span.
    pub fn end(mut self, facts: &Facts<'_>) {
        self.record(facts);
        self.finish();
    }

    fn finish(&mut self) {
        if let Some(mut data) = self.data.take() {
            // A wall clock set back in between must not make a span end before it began.
            data.end_time = (self.core.now)().max(data.start_time);
            self.core.processor.on_end(*data);
        }
    }
}

/// A span dropped on the way was given up: its task was cancelled.
impl Drop for SpanGuard {
    fn drop(&mut self) {
        if self.data.is_some() {
            let message = Some("the work was given up before it ended");
            self.record(&Facts { error: Some(ABANDONED), message, ..Facts::default() });
            self.finish();
        }
    }
}

/// `error.type` of a span whose work was dropped before it ended.
pub const ABANDONED: &str = "abandoned";

impl std::fmt::Debug for SpanGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.data.as_ref().map(|d| d.name.as_ref());
        f.debug_struct("SpanGuard").field("name", &name).field("context", &self.own).finish_non_exhaustive()
    }
}

fn context(of: &TraceParent, state: Option<&str>) -> SpanContext {
    let state: TraceState = state.and_then(|text| text.parse().ok()).unwrap_or_default();
    let (trace, span) = (TraceId::from_bytes(of.trace_id), SpanId::from_bytes(of.span_id));
    SpanContext::new(trace, span, TraceFlags::new(of.flags), false, state)
}

fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
