//! The control verbs for policies, over NATS.

mod changes;
mod crowd;
mod following;
mod lists;
mod refused;

use std::collections::BTreeSet;

use serde_json::{Value, json};

fn to(provider: &str) -> Value {
    json!({"policy_id": "default", "providers": [{"name": provider, "weight": 100}]})
}

/// The code of a refusal, and its details.
fn refusal(answer: &Value) -> (&str, &Value) {
    assert_eq!(answer["ok"], false, "{answer}");
    assert!(answer["error"]["message"].as_str().is_some_and(|m| !m.is_empty()), "{answer}");
    (answer["error"]["code"].as_str().unwrap(), &answer["error"]["details"])
}

fn paths(faults: &Value) -> BTreeSet<&str> {
    faults.as_array().unwrap().iter().map(|f| f["path"].as_str().unwrap()).collect()
}
