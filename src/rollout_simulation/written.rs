use serde_json::{Map, Value, json};

use crate::domain::{Outcome, Stamp};
use crate::log::Entry;
use crate::wire;

/// The line of a file that an entry of the log is; `None` for what no file holds: steps and versions of the fold, which a
/// simulation makes, and what cannot be read. A version has a key that nobody but routers may know.
#[must_use]
pub fn written(entry: &Entry<'_>, at: Stamp) -> Option<Value> {
    match entry {
        Entry::Step(_) | Entry::FoldVersion(_) => None,
        Entry::Result(outcome) => {
            Some(json!({"at": at, "kind": "result", "identity": outcome.identity, "entry": result(outcome)}))
        }
        entry => {
            let (kind, body) = wire::encode_entry(entry)?;
            let body: Value = serde_json::from_slice(&body).ok()?;
            Some(json!({"at": at, "kind": kind.as_str(), "entry": body.get("entry")?}))
        }
    }
}

/// A result as an executor sends it.
fn result(outcome: &Outcome<'_>) -> Value {
    let Outcome {
        tenant_id,
        provider_id,
        request_id,
        assignment_id,
        status,
        latency_ms,
        cost_nanos,
        error_code,
        retry_after_ms,
        timestamp_ms,
        job_type,
        trace_id,
        identity: _,
    } = outcome;
    let mut fields = Map::new();
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    add("tenant_id", Some(json!(tenant_id)));
    add("provider_id", Some(json!(provider_id)));
    add("request_id", request_id.as_ref().map(|id| json!(id)));
    add("assignment_id", assignment_id.as_ref().map(|id| json!(id)));
    add("status", Some(json!(status)));
    add("latency_ms", latency_ms.map(|ms| json!(ms)));
    #[expect(clippy::cast_precision_loss, reason = "read back, it rounds to the same number")]
    add("cost", cost_nanos.map(|nanos| json!(nanos as f64 / 1e9)));
    add("error_code", error_code.as_ref().map(|code| json!(code)));
    add("retry_after_ms", retry_after_ms.map(|ms| json!(ms)));
    add("timestamp", timestamp_ms.map(|ms| json!(ms)));
    add("job", job_type.as_ref().map(|kind| json!({"type": kind})));
    add("trace_id", trace_id.as_ref().map(|id| json!(id)));
    Value::Object(fields)
}
