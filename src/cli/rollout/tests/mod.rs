use serde_json::{Value, json};

use super::standing::Standing;
use crate::rollout::plan;

mod answers;
mod files;
mod page;
mod status;
mod words;

/// A plan of two phases.
fn document() -> Value {
    json!({
        "kind": "PolicyRollout", "id": "cb-2026",
        "phases": [
            {"name": "canary", "tenants": {"count": 1}, "ladder": [0, 10, 50], "bake": "12h", "min": "3d", "max": "7d"},
            {"name": "all", "tenants": {"percent": 100}, "ladder": [10, 50], "bake": "12h", "min": "7d", "max": "14d"},
        ],
    })
}

fn with(mut value: Value, fields: Value) -> Value {
    for (field, field_value) in fields.as_object().unwrap() {
        value[field] = field_value.clone();
    }
    value
}

/// How it stands, with these fields instead of those of a draft.
fn standing(fields: Value) -> Standing {
    let draft = json!({
        "ok": true, "rollout": "cb-2026", "seq": 1, "state": "draft", "reasons": [], "phase": null, "step": null,
        "percent": 0, "tenants": [], "already_enforced": [], "criteria": [], "qualified_ms": 0, "min_ms": 0,
        "max_ms": 0, "next": {"when": null, "needs": ["start"]},
        "evidence": {"harm_e": 0, "safe_e": 0, "units": 0, "needed": 0}, "pending": null, "issues": [],
        "graduating": false,
    });
    let answer = with(draft, fields);
    let status = serde_json::from_value(answer.clone()).unwrap();
    Standing { status, plan: Some(plan::parse(&document()).unwrap().plan), answer }
}

fn tenant(id: &str, state: &str, percent: u8, units: u64, log_e: i64) -> Value {
    json!({"tenant_id": id, "state": state, "percent": percent, "units": units, "log_e": log_e})
}

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// The fields of the last phase at its second step, in the middle.
fn running() -> Value {
    json!({
        "seq": 9, "state": "running", "phase": "all", "step": 1, "percent": 50,
        "tenants": [
            tenant("acme", "on_ladder", 50, 12_345, 1_200_000_000),
            tenant("beta", "on_ladder", 50, 1_000, 2_345_000_000),
            tenant("canary-1", "passed", 95, 900, -500_000_000),
            tenant("gamma", "left_out", 0, 10, 0),
        ],
        "already_enforced": ["delta"],
        "criteria": criteria(&json!({
            "safe": ["inconclusive", "insufficient_sample", {"log_e": 1_498_000_000}],
            "exercise": ["inconclusive", "not_exercised", {"closed": 0, "late": 0}],
        })),
        "qualified_ms": 26 * HOUR, "min_ms": 7 * DAY, "max_ms": 14 * DAY,
        "next": {"when": null, "needs": ["insufficient_sample", "not_exercised", "too_early"]},
        "evidence": {"harm_e": 1_151_000_000, "safe_e": 1_498_000_000, "units": 4_600, "needed": 18_400},
    })
}

/// All criteria, which pass but for those named.
fn criteria(others: &Value) -> Vec<Value> {
    let passed = [
        ("harm", json!({"log_e": 1_151_000_000})),
        ("safe", json!({"log_e": 3_200_000_000_i64})),
        ("latency", json!({"p50_low": -12_000, "p50_high": 8_000, "p95_low": -50_000, "p95_high": 40_000})),
        ("unexpected_opens", json!({"drill": 1, "expected": 2, "unexpected": 0, "unexplained": 0})),
        ("recovery", json!({"closed": 3, "late": 0})),
        ("exercise", json!({"closed": 3, "late": 0})),
        ("coverage", json!({"permille": 987})),
        ("sample_ratio", json!({"log_e": 120_000_000})),
        ("loss_ratio", json!({"log_e": -30_000_000})),
        ("telemetry", json!({"stale_ms": 0})),
        ("issues", json!({"open": 0})),
    ];
    let named = |(name, figures): (&str, Value)| {
        let [verdict, reason, figures] = match others[name].as_array() {
            Some(other) => [other[0].clone(), other[1].clone(), other[2].clone()],
            None => [json!("pass"), json!(""), figures],
        };
        json!({"name": name, "verdict": verdict, "reason": reason, "figures": figures})
    };
    passed.into_iter().map(named).collect()
}
