//! Replies to requests for a decision, and error replies of every kind.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use prost::Message as _;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::json::is_plain;
use super::request::Refusal;
use super::{Content, proto};
use crate::domain::{Decision, ErrorCode};

/// The header that tells an error in one line (NATS ADR-32); its value is [`service_error`].
pub const SERVICE_ERROR: &str = "Nats-Service-Error";
/// The header that tells an error's number (NATS ADR-32); its value is [`ErrorCode::number`].
pub const SERVICE_ERROR_CODE: &str = "Nats-Service-Error-Code";

/// Enough for any sentence of ours, and far below what a broker takes for headers.
const MAX_SERVICE_ERROR: usize = 200;

/// A buffer of less room is given more before a decision is written into it: nearly all fit.
const LEAST_ROOM: usize = 1_024;
/// So many bytes at once, which some two hundred decisions share.
const ROOM: usize = 1 << 16;

/// Where the explanation stands in a protobuf decision.
const EXPLANATION: &str = "explanation";
/// The detail that has a field of its own in a protobuf error.
const RETRY_AFTER: &str = "retry_after_ms";

/// What a decision's reply tells.
#[derive(Clone, Copy, Debug)]
pub struct DecisionReply<'a> {
    /// The decision.
    pub decision: &'a Decision<'a>,
    /// How it was decided, where the request asked for it.
    pub explanation: Option<&'a RawValue>,
    /// The request's id.
    pub request_id: &'a str,
    /// The caller's trace id.
    pub trace_id: Option<&'a str>,
}

/// What an error's reply tells.
#[derive(Clone, Copy, Debug)]
pub struct ErrorReply<'a> {
    /// What went wrong.
    pub code: ErrorCode,
    /// The same for people; nothing private.
    pub message: &'a str,
    /// More for programs.
    pub details: Details<'a>,
    /// The request's id, if it could be read.
    pub request_id: Option<&'a str>,
    /// The caller's trace id, if it could be read.
    pub trace_id: Option<&'a str>,
}

/// The `details` of an error.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub enum Details<'a> {
    /// None.
    None,
    /// The field that is wrong.
    Field {
        /// As the sender wrote it.
        field: &'a str,
    },
    /// Which breakers refused.
    CircuitOpen(CircuitOpen<'a>),
    /// Anything else; an object.
    Value(&'a Value),
}

/// Which breakers refused a request.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CircuitOpen<'a> {
    /// When the first of them may be worth a try.
    pub retry_after_ms: u64,
    /// All that were refused.
    pub providers: &'a [RefusedProvider<'a>],
}

/// A provider that was refused by its breaker.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RefusedProvider<'a> {
    /// Which.
    pub provider_id: &'a str,
    /// `open` or `half_open`.
    pub state: &'a str,
    /// When it may be worth a try.
    pub retry_after_ms: u64,
}

impl Refusal {
    /// What its reply tells.
    #[must_use]
    pub fn reply(&self) -> ErrorReply<'_> {
        ErrorReply {
            code: self.code,
            message: &self.message,
            details: self.field.map_or(Details::None, |field| Details::Field { field }),
            request_id: self.request_id.as_deref(),
            trace_id: self.trace_id.as_deref(),
        }
    }
}

/// Appends a decision's reply. A buffer with little room is given much, for the decisions to come.
pub fn encode_decision(content: Content, reply: &DecisionReply<'_>, out: &mut BytesMut) {
    if out.capacity() - out.len() < LEAST_ROOM {
        out.reserve(ROOM);
    }
    match content {
        Content::Json => put_decision(reply, out),
        Content::Protobuf => put_protobuf(proto::route_reply::Reply::Decision(protobuf_decision(reply)), out),
    }
}

/// Appends an error's reply.
pub fn encode_error(content: Content, reply: &ErrorReply<'_>, out: &mut BytesMut) {
    match content {
        Content::Json => put_json(&JsonReply::error(reply), out),
        Content::Protobuf => put_protobuf(proto::route_reply::Reply::Error(protobuf_error(reply)), out),
    }
}

/// An error's message as a header can carry it: printable ASCII, at most 200 characters.
#[must_use]
pub fn service_error(message: &str) -> Cow<'_, str> {
    let fits = |b: u8| (0x20..=0x7E).contains(&b);
    if !message.is_empty() && message.len() <= MAX_SERVICE_ERROR && message.bytes().all(fits) {
        return Cow::Borrowed(message);
    }
    let kept: String = message.bytes().filter(|b| fits(*b)).map(char::from).take(MAX_SERVICE_ERROR).collect();
    Cow::Owned(if kept.is_empty() { "error".to_owned() } else { kept })
}

/// Appends a value as JSON. A buffer in memory takes all there is to write, and no type of this room
/// fails to be written; if it ever should, nothing is left half-written.
pub(super) fn put_json(value: &impl Serialize, out: &mut BytesMut) {
    let start = out.len();
    if serde_json::to_writer((&mut *out).writer(), value).is_err() {
        out.truncate(start);
    }
}

/// Appends a decision as JSON. Written by hand, since it is what the router does most; a law below holds
/// it against serde.
fn put_decision(reply: &DecisionReply<'_>, out: &mut BytesMut) {
    let decision = reply.decision;
    let mut digits = itoa::Buffer::new();
    out.put_slice(b"{\"ok\":true,\"decision\":{\"provider_id\":");
    put_text(decision.provider_id, out);
    out.put_slice(b",\"priority\":");
    out.put_slice(digits.format(decision.reason.priority()).as_bytes());
    out.put_slice(b",\"expected_latency_ms\":");
    out.put_slice(digits.format(decision.expected_latency_ms).as_bytes());
    out.put_slice(b",\"expected_cost\":");
    if decision.expected_cost.to_bits() == 0 {
        out.put_slice(b"0.0");
    } else {
        put_json(&decision.expected_cost, out);
    }
    out.put_slice(b",\"reason\":");
    put_text(decision.reason.as_str(), out);
    out.put_slice(b",\"policy_id\":");
    put_text(decision.policy_id, out);
    out.put_slice(b",\"policy_revision\":");
    out.put_slice(digits.format(decision.policy_revision).as_bytes());
    out.put_slice(b",\"fallback_used\":");
    put_flag(decision.reason.is_fallback(), out);
    if let Some(key) = decision.sticky_key {
        out.put_slice(b",\"sticky_key\":");
        put_text(key, out);
    }
    if let Some(id) = decision.assignment_id {
        out.put_slice(b",\"assignment_id\":");
        put_text(id, out);
    }
    out.put_slice(b",\"probe\":");
    put_flag(decision.probe, out);
    if let Some(ms) = decision.backoff_ms {
        out.put_slice(b",\"backoff_ms\":");
        out.put_slice(digits.format(ms).as_bytes());
    }
    if let Some(explanation) = reply.explanation {
        out.put_slice(b",\"explanation\":");
        out.put_slice(explanation.get().as_bytes());
    }
    out.put_slice(b"},\"context\":{\"request_id\":");
    put_text(reply.request_id, out);
    if let Some(id) = reply.trace_id {
        out.put_slice(b",\"trace_id\":");
        put_text(id, out);
    }
    out.put_slice(b"}}");
}

fn put_text(text: &str, out: &mut BytesMut) {
    if is_plain(text) {
        out.put_u8(b'"');
        out.put_slice(text.as_bytes());
        out.put_u8(b'"');
    } else {
        put_json(&text, out);
    }
}

fn put_flag(flag: bool, out: &mut BytesMut) {
    out.put_slice(if flag { b"true" } else { b"false" });
}

fn put_protobuf(reply: proto::route_reply::Reply, out: &mut BytesMut) {
    let start = out.len();
    if (proto::RouteReply { reply: Some(reply) }).encode(out).is_err() {
        out.truncate(start);
    }
}

#[derive(Serialize)]
struct JsonReply<'a> {
    ok: bool,
    error: JsonError<'a>,
    context: JsonContext<'a>,
}

#[derive(Serialize)]
struct JsonError<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "is_none")]
    details: Details<'a>,
}

#[derive(Serialize)]
struct JsonContext<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
}

fn is_none(details: &Details<'_>) -> bool {
    matches!(details, Details::None)
}

impl<'a> JsonReply<'a> {
    fn error(reply: &ErrorReply<'a>) -> Self {
        Self {
            ok: false,
            error: JsonError { code: reply.code.as_str(), message: reply.message, details: reply.details },
            context: JsonContext { request_id: reply.request_id, trace_id: reply.trace_id },
        }
    }
}

fn protobuf_decision(reply: &DecisionReply<'_>) -> proto::RouteDecision {
    let decision = reply.decision;
    proto::RouteDecision {
        provider_id: decision.provider_id.to_owned(),
        reason: decision.reason.as_str().to_owned(),
        priority: decision.reason.priority(),
        expected_latency_ms: signed(decision.expected_latency_ms),
        expected_cost: decision.expected_cost,
        metadata: reply
            .explanation
            .map(|raw| (EXPLANATION.to_owned(), raw.get().to_owned()))
            .into_iter()
            .collect(),
        policy_id: decision.policy_id.to_owned(),
        policy_revision: signed(decision.policy_revision),
        fallback_used: decision.reason.is_fallback(),
        sticky_key: decision.sticky_key.map(str::to_owned),
        assignment_id: decision.assignment_id.map(str::to_owned),
        probe: decision.probe,
        backoff_ms: decision.backoff_ms.map(signed),
        request_id: reply.request_id.to_owned(),
    }
}

fn protobuf_error(reply: &ErrorReply<'_>) -> proto::RouteError {
    let mut details = BTreeMap::new();
    if let Ok(Value::Object(members)) = serde_json::to_value(reply.details) {
        members.iter().for_each(|(key, value)| flatten(key, value, &mut details));
    }
    let retry_after_ms = details.remove(RETRY_AFTER).and_then(|ms| ms.parse().ok());
    proto::RouteError {
        code: reply.code.as_str().to_owned(),
        number: i32::from(reply.code.number()),
        message: reply.message.to_owned(),
        details,
        retry_after_ms,
        request_id: reply.request_id.unwrap_or_default().to_owned(),
    }
}

/// Writes the scalars of a value under their paths: `providers.0.state`.
fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) => {
            into.insert(path.to_owned(), value.to_string());
        }
        Value::String(text) => {
            into.insert(path.to_owned(), text.clone());
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| flatten(&format!("{path}.{at}"), item, into));
        }
        Value::Object(members) => {
            members.iter().for_each(|(key, member)| flatten(&format!("{path}.{key}"), member, into));
        }
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Reason;

    /// A decision's reply as serde writes it.
    #[derive(Serialize)]
    struct JsonReply<'a> {
        ok: bool,
        decision: JsonDecision<'a>,
        context: JsonContext<'a>,
    }

    #[derive(Serialize)]
    struct JsonDecision<'a> {
        provider_id: &'a str,
        priority: i32,
        expected_latency_ms: u64,
        expected_cost: f64,
        reason: &'a str,
        policy_id: &'a str,
        policy_revision: u64,
        fallback_used: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        sticky_key: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        assignment_id: Option<&'a str>,
        probe: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        backoff_ms: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        explanation: Option<&'a RawValue>,
    }

    fn by_serde(reply: &DecisionReply<'_>) -> String {
        let decision = reply.decision;
        let told = JsonReply {
            ok: true,
            decision: JsonDecision {
                provider_id: decision.provider_id,
                priority: decision.reason.priority(),
                expected_latency_ms: decision.expected_latency_ms,
                expected_cost: decision.expected_cost,
                reason: decision.reason.as_str(),
                policy_id: decision.policy_id,
                policy_revision: decision.policy_revision,
                fallback_used: decision.reason.is_fallback(),
                sticky_key: decision.sticky_key,
                assignment_id: decision.assignment_id,
                probe: decision.probe,
                backoff_ms: decision.backoff_ms,
                explanation: reply.explanation,
            },
            context: JsonContext { request_id: Some(reply.request_id), trace_id: reply.trace_id },
        };
        serde_json::to_string(&told).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_decision_is_written_as_serde_would(
            texts in prop::collection::vec("[ -~é\u{0}-\u{1f}\"\\\\]{0,24}", 4),
            some in any::<[bool; 4]>(),
            expected_latency_ms: u64,
            expected_cost in prop_oneof![Just(0.0), Just(-0.0), 0.0..1e9_f64, any::<f64>()],
            policy_revision: u64,
            backoff_ms in proptest::option::of(any::<u64>()),
            (probe, reason) in (any::<bool>(), 0..4_usize),
        ) {
            let [request_id, trace_id, sticky_key, assignment_id] = texts.as_slice() else { unreachable!() };
            let raw = serde_json::value::to_raw_value(&texts).unwrap();
            let reasons = [Reason::Sticky, Reason::Weighted, Reason::Fallback, Reason::CircuitBreakerFallback];
            let decision = Decision {
                provider_id: "openai",
                reason: reasons[reason],
                expected_latency_ms,
                expected_cost,
                policy_id: "default",
                policy_revision,
                sticky_key: some[0].then_some(sticky_key),
                assignment_id: some[1].then_some(assignment_id),
                probe,
                backoff_ms,
            };
            let reply = DecisionReply {
                decision: &decision,
                explanation: some[2].then_some(&raw),
                request_id,
                trace_id: some[3].then_some(trace_id),
            };
            let mut out = BytesMut::from("before");
            encode_decision(Content::Json, &reply, &mut out);
            let written = std::str::from_utf8(&out).unwrap().strip_prefix("before").unwrap();
            prop_assert_eq!(written, by_serde(&reply));
        }
    }
}
