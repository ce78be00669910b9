//! Replies to requests for a decision, and error replies of every kind.

mod decision;
mod protobuf;

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Content;
use super::request::Refusal;
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
        Content::Json => decision::put(reply, out),
        Content::Protobuf => protobuf::put_decision(reply, out),
    }
}

/// Appends an error's reply.
pub fn encode_error(content: Content, reply: &ErrorReply<'_>, out: &mut BytesMut) {
    match content {
        Content::Json => put_json(&JsonReply::error(reply), out),
        Content::Protobuf => protobuf::put_error(reply, out),
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
