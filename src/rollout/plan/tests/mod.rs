//! Behaviour of the module as a whole, from a document to its faults, its plan, and the plan's tenants.

mod cohort;
mod cohort_laws;
mod documents;
mod golden;
mod laws;
mod page;
mod ranges;
mod sound;
mod warned;

use serde_json::{Value, json};

use super::{Plan, parse};
use crate::document::Fault;
use crate::policy::merge_patch;

/// The shortest sound document, changed by a merge patch.
fn document(change: Value) -> Value {
    let mut document = json!({"kind": "PolicyRollout", "id": "cb-2026"});
    merge_patch(&mut document, &change);
    document
}

/// A sound document with one phase, the canary of the defaults, changed by a merge patch.
fn one_phase(change: Value) -> Value {
    let mut phase = json!({
        "name": "canary", "tenants": {"count": 1}, "ladder": [0, 10, 50],
        "bake": "12h", "min": "3d", "max": "7d",
    });
    merge_patch(&mut phase, &change);
    json!({ "phases": [phase] })
}

fn plan(change: Value) -> Plan {
    parse(&document(change)).unwrap().plan
}

fn faults(change: Value) -> Vec<Fault> {
    parse(&document(change)).unwrap_err()
}

fn paths(change: Value) -> Vec<String> {
    parse(&document(change)).map_or_else(|f| f.into_iter().map(|f| f.path).collect(), |_| Vec::new())
}

fn warnings(change: Value) -> Vec<String> {
    parse(&document(change)).unwrap().warnings
}

fn effective(plan: &Plan) -> Value {
    serde_json::to_value(plan).unwrap()
}
