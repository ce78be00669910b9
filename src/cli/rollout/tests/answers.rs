use super::*;
use crate::cli::rollout::{checks, listed};

#[test]
fn a_change_says_where_the_rollout_stands() {
    let answer =
        json!({"ok": true, "rollout": "cb", "seq": 7, "state": "running", "phase": "canary", "percent": 10});
    assert_eq!(listed::standing(&answer), "cb is running, phase canary, at 10 %, seq 7");
    let answer = json!({"ok": true, "rollout": "cb", "seq": 1, "state": "draft"});
    assert_eq!(listed::standing(&answer), "cb is draft, seq 1");
}

#[test]
fn lists_count_steps_from_one() {
    let rollouts = [
        json!({"rollout": "cb", "seq": 7, "state": "running", "phase": "canary", "step": 0, "percent": 10, "tenants": 3}),
        json!({"rollout": "old", "seq": 31, "state": "completed", "phase": null, "step": null, "percent": 0, "tenants": 40}),
    ];
    insta::assert_snapshot!(listed::rollouts(&rollouts).to_string());
}

#[test]
fn a_history_says_what_happened_and_who_said_so() {
    let mut position = 0;
    let mut entry = |of: Value| {
        position += 1;
        with(of, json!({"position": position, "stamp": 1_795_800_000_000_u64 + position * 60_000}))
    };
    let command = |verb: &str, fields: Value| {
        with(json!({"type": "command", "verb": verb, "actor": "alice", "reason": "ticket 42"}), fields)
    };
    let decision = |kind: &str, fields: Value| {
        with(
            json!({"type": "decision", "n": 3, "kind": kind, "reasons": ["harm"], "effect": "accepted"}),
            fields,
        )
    };
    let entries = [
        entry(json!({"type": "plan", "actor": "alice", "reason": "first", "effect": "accepted"})),
        entry(command("start", json!({"effect": "accepted"}))),
        entry(json!({"type": "history", "phase": 0, "tenants": 2, "effect": "accepted"})),
        entry(decision("step", json!({"phase": 0, "rung": 1}))),
        entry(decision("await_approval", json!({"phase": 0}))),
        entry(decision("promote", json!({"phase": 1}))),
        entry(decision("final_bake", json!({"phase": 1}))),
        entry(decision(
            "pause",
            json!({"to_zero": true, "by_hand": false, "reasons": ["loss_ratio", "no_data"]}),
        )),
        entry(decision("pause", json!({"to_zero": false, "by_hand": true}))),
        entry(decision("tenant_back", json!({"tenants": ["acme", "beta"]}))),
        entry(decision("roll_back", json!({}))),
        entry(decision("renew", json!({}))),
        entry(decision("complete", json!({}))),
        entry(command("promote", json!({"override": "exercise", "effect": "refused"}))),
        entry(command("extend", json!({"by_ms": 2 * DAY, "effect": "accepted"}))),
        entry(command("rollback", json!({"tenant": "acme", "effect": "conflict"}))),
        entry(command("rollback", json!({"effect": "accepted"}))),
        entry(command("drill", json!({"tenant": "acme", "provider": "openai", "for_ms": 30_000}))),
        entry(command("issue", json!({"change": "open", "text": "more 503\u{1b}[2J"}))),
        entry(json!({"type": "something_new"})),
    ];
    insta::assert_snapshot!(listed::history(&entries).to_string());
}

#[test]
fn lint_shows_what_each_phase_needs() {
    let phase = |name: &str, verdict: &str, needed_ms: Value| json!({"phase": name, "tenants": 1, "units_needed": 18_400, "needed_ms": needed_ms, "milli_per_minute": 12_500, "verdict": verdict});
    let phases = [phase("canary", "fits", json!(216_000_000)), phase("all", "unknown", Value::Null)];
    insta::assert_snapshot!(checks::needs(&phases).to_string());
    assert!(!checks::cannot_pass(&phases));
    assert!(checks::cannot_pass(&[phase("canary", "too_little_traffic", json!(90))]));
}

#[test]
fn a_plan_shows_whom_each_phase_treats() {
    let many: Vec<String> = (0..45).map(|n| format!("t{n}")).collect();
    let phases = [
        json!({"phase": "canary", "tenants": ["acme"]}),
        json!({"phase": "limited", "tenants": []}),
        json!({"phase": "all", "tenants": many}),
    ];
    insta::assert_snapshot!(checks::chosen(&phases).to_string());
}
