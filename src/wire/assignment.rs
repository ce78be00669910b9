//! Assignments that the router publishes for clients: JSON always, since executors read nothing else.

use std::fmt;

use bytes::BytesMut;
use serde::ser::{Error as _, SerializeMap};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::reply::put_json;
use crate::domain::{Attributes, Decision, Payload, RouteRequest};

/// What an assignment tells the executor.
#[derive(Clone, Copy, Debug)]
pub struct Assignment<'a> {
    /// Its id.
    pub assignment_id: &'a str,
    /// The request behind it.
    pub request: &'a RouteRequest<'a>,
    /// Who serves it.
    pub decision: &'a Decision<'a>,
    /// How long the executor has.
    pub deadline_ms: u64,
    /// How often it may try.
    pub retry: Retry,
}

/// How often an executor may try the call, and how long it waits in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Retry {
    /// Tries in all.
    pub max_attempts: u32,
    /// Milliseconds.
    pub backoff_ms: u64,
}

impl Default for Retry {
    /// What executors have always been told: 2 tries, 200 ms.
    fn default() -> Self {
        Self { max_attempts: 2, backoff_ms: 200 }
    }
}

/// Appends an assignment.
pub fn encode_assignment(assignment: &Assignment<'_>, out: &mut BytesMut) {
    let Assignment { assignment_id, request, decision, deadline_ms, retry } = *assignment;
    let message = Message {
        version: "1",
        assignment_id,
        request_id: &request.request_id,
        tenant_id: &request.tenant_id,
        executor: Executor { provider_id: decision.provider_id, channel: "nats" },
        job: Job { kind: &request.task_type, payload: &request.payload },
        options: Options { priority: decision.reason.priority(), deadline_ms, retry },
        correlation: Correlation { trace_id: request.trace_id.as_deref() },
        decision: Summary {
            provider_id: decision.provider_id,
            expected_latency_ms: decision.expected_latency_ms,
            expected_cost: decision.expected_cost,
            reason: decision.reason.as_str(),
        },
        metadata: Metadata(request.metadata),
    };
    put_json(&message, out);
}

#[derive(Serialize)]
struct Message<'a> {
    version: &'a str,
    assignment_id: &'a str,
    request_id: &'a str,
    tenant_id: &'a str,
    executor: Executor<'a>,
    job: Job<'a>,
    options: Options,
    correlation: Correlation<'a>,
    decision: Summary<'a>,
    metadata: Metadata<'a>,
}

#[derive(Serialize)]
struct Executor<'a> {
    provider_id: &'a str,
    channel: &'a str,
}

#[derive(Serialize)]
struct Options {
    priority: i32,
    deadline_ms: u64,
    retry: Retry,
}

#[derive(Serialize)]
struct Correlation<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Summary<'a> {
    provider_id: &'a str,
    expected_latency_ms: u64,
    expected_cost: f64,
    reason: &'a str,
}

struct Job<'a> {
    kind: &'a str,
    payload: &'a Payload<'a>,
}

impl Serialize for Job<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("type", self.kind)?;
        match self.payload {
            Payload::Reference(reference) => map.serialize_entry("payload_ref", reference)?,
            Payload::Json(text) => map.serialize_entry("payload", &Raw(text))?,
            Payload::Bytes(bytes) => map.serialize_entry("payload_base64", &Base64(bytes))?,
        }
        map.end()
    }
}

struct Metadata<'a>(Attributes<'a>);

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Attributes::Absent => serializer.serialize_map(Some(0))?.end(),
            Attributes::Json(text) => Raw(text).serialize(serializer),
            Attributes::Map(map) => map.serialize(serializer),
        }
    }
}

/// JSON text that is written as it is.
struct Raw<'a>(&'a str);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(self.0).map_err(S::Error::custom)?.serialize(serializer)
    }
}

/// Bytes in the standard alphabet of RFC 4648, padded.
struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Base64<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        for chunk in self.0.chunks(3) {
            let at = |i: usize| chunk.get(i).copied().map_or(0, u32::from);
            let bits = at(0) << 16 | at(1) << 8 | at(2);
            let mut four = [b'='; 4];
            for (i, place) in four.iter_mut().enumerate().take(chunk.len() + 1) {
                *place = ALPHABET[(bits >> (18 - 6 * i) & 0x3F) as usize];
            }
            f.write_str(std::str::from_utf8(&four).map_err(|_| fmt::Error)?)?;
        }
        Ok(())
    }
}
