//! Behaviour of the room as a whole, from a document to its faults or its policy.

mod documents;
mod laws;
mod settings;
mod warned;

use serde_json::{Value, json};

use super::{Fault, Policy, merge_patch, parse};

/// A sound document with these members in place of its own; `null` takes one away.
fn document(change: Value) -> Value {
    let mut document = json!({
        "policy_id": "p",
        "providers": [{"name": "openai", "weight": 70}, {"name": "anthropic", "weight": 30}],
    });
    for (name, value) in change.as_object().unwrap() {
        if value.is_null() {
            document.as_object_mut().unwrap().remove(name);
        } else {
            document[name] = value.clone();
        }
    }
    document
}

fn policy(change: Value) -> Policy {
    parse(&document(change)).unwrap().policy
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
