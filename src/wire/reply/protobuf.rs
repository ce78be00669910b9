//! Replies in their protobuf form.

use std::collections::BTreeMap;

use bytes::BytesMut;
use prost::Message as _;
use serde_json::Value;

use super::{DecisionReply, ErrorReply};
use crate::wire::proto::{self, route_reply::Reply};

/// Where the explanation stands in a decision.
const EXPLANATION: &str = "explanation";
/// The detail that has a field of its own in an error.
const RETRY_AFTER: &str = "retry_after_ms";

pub(super) fn put_decision(reply: &DecisionReply<'_>, out: &mut BytesMut) {
    let decision = reply.decision;
    let told = proto::RouteDecision {
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
        stale: decision.stale,
    };
    put(Reply::Decision(told), out);
}

pub(super) fn put_error(reply: &ErrorReply<'_>, out: &mut BytesMut) {
    let mut details = BTreeMap::new();
    if let Ok(Value::Object(members)) = serde_json::to_value(reply.details) {
        members.iter().for_each(|(key, value)| flatten(key, value, &mut details));
    }
    let retry_after_ms = details.remove(RETRY_AFTER).and_then(|ms| ms.parse().ok());
    let told = proto::RouteError {
        code: reply.code.as_str().to_owned(),
        number: i32::from(reply.code.number()),
        message: reply.message.to_owned(),
        details,
        retry_after_ms,
        request_id: reply.request_id.unwrap_or_default().to_owned(),
    };
    put(Reply::Error(told), out);
}

fn put(reply: Reply, out: &mut BytesMut) {
    let start = out.len();
    if (proto::RouteReply { reply: Some(reply) }).encode(out).is_err() {
        out.truncate(start);
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
