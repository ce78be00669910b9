//! Usage events: what was spent, once for each result.

use bytes::BytesMut;
use serde::Serialize;

use super::reply::put_json;
use crate::domain::{Outcome, Stamp};

/// Appends the usage event of a result that the log took at `stamp`. What the result doesn't tell is
/// absent, except for the time, which is then the log's.
pub fn encode_usage(outcome: &Outcome<'_>, stamp: Stamp, out: &mut BytesMut) {
    let message = Message {
        version: "1",
        tenant_id: &outcome.tenant_id,
        provider_id: &outcome.provider_id,
        event_type: outcome.job_type.as_deref(),
        latency_ms: outcome.latency_ms,
        cost: outcome.cost_nanos.map(from_nanos),
        status: outcome.status.as_str(),
        trace_id: outcome.trace_id.as_deref(),
        timestamp: outcome.timestamp_ms.unwrap_or(stamp.0),
        assignment_id: outcome.assignment_id.as_deref(),
        request_id: outcome.request_id.as_deref(),
    };
    put_json(&message, out);
}

/// Nano-units of cost as results write it. Exact to 15 digits.
#[expect(clippy::cast_precision_loss, reason = "a result's cost came from a double of the same precision")]
fn from_nanos(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[derive(Serialize)]
struct Message<'a> {
    version: &'a str,
    tenant_id: &'a str,
    provider_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<f64>,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    assignment_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}
