//! Circuit breakers, from results to refusals and back.

mod commands;
mod far;
mod judging;
mod opening;
mod probing;
mod shadow;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{Launch, SOON, Stage, eventually, request};

/// A claim's round trip is far below this, and a busy machine does not turn a probe away.
fn patient(launch: Launch) -> Launch {
    launch.flag("--claim-wait-ms", 3_000)
}

fn policy(breaker: Value) -> Value {
    let mut settings = json!({"enabled": true, "timeout_ms": 1000});
    settings.as_object_mut().unwrap().extend(breaker.as_object().unwrap().clone());
    json!({"policy_id": "default", "providers": [{"name": "a", "weight": 100}], "circuit_breaker": settings})
}

async fn with(breaker: Value) -> Stage {
    let stage = Stage::with(patient).await;
    stage.caller.put_policy("acme", &policy(breaker)).await;
    stage
}

/// Many requests at once, each another.
async fn ask_many(stage: &Stage, count: usize) -> Vec<(String, Value)> {
    join_all((0..count).map(|_| async {
        let id = uuid::Uuid::new_v4().to_string();
        let answer = stage.caller.decide(&request("acme", &id)).await;
        (id, answer)
    }))
    .await
}

/// The ids of those that probe; the others must have been refused.
fn probes(answers: &[(String, Value)]) -> Vec<&str> {
    let mut probes = Vec::new();
    for (id, answer) in answers {
        if answer["ok"] == true {
            assert_eq!(answer["decision"]["probe"], true, "{answer}");
            probes.push(id.as_str());
        } else {
            assert_eq!(answer["error"]["code"], "circuit_open", "{answer}");
        }
    }
    probes
}

async fn ended(stage: &Stage, request_id: &str, status: &str) {
    let result = json!({
        "request_id": request_id, "status": status, "provider_id": "a", "tenant_id": "acme", "latency_ms": 0
    });
    let position = stage.caller.result(&result).await;
    stage.worker.applied(position).await;
}

/// Asks, many at a time, until as many probes have passed as may: their ids. Not one more passes.
async fn take_slots(stage: &Stage, slots: usize) -> Vec<String> {
    let mut taken = Vec::new();
    eventually("the open time ends and probes pass", SOON, async || {
        taken.extend(probes(&ask_many(stage, 12).await).into_iter().map(str::to_owned));
        taken.len() >= slots
    })
    .await;
    assert_eq!(taken.len(), slots);
    assert!(probes(&ask_many(stage, 24).await).is_empty(), "one more than {slots}");
    taken
}
