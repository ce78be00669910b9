//! Two rollouts at a time.

use serde_json::{Value, json};

use super::{STEP, Users, ground, one_percent_fails, short_plan, silent_policy};
use crate::support::{Caller, eventually};
use crate::traffic::agree;

/// One phase over at most two tenants, under this id.
fn plan_of(id: &str, tenants: [&str; 2], change: &Value) -> Value {
    let phase = json!({"name": "only", "tenants": {"min": 1, "max": 2}, "ladder": [50], "bake": "1s", "min": "2s", "max": "10m"});
    let mut plan = short_plan(2, &json!({"id": id, "cohort": {"include": tenants}, "phases": [phase]}));
    beamline_router::policy::merge_patch(&mut plan, change);
    plan
}

impl Caller {
    async fn status_of(&self, rollout: &str) -> Value {
        self.command("rollout.status", &json!({"rollout": rollout})).await
    }

    async fn becomes(&self, rollout: &str, state: &str) {
        let what = format!("{rollout} is {state}");
        eventually(&what, STEP, async || self.status_of(rollout).await["state"] == state).await;
    }
}

/// An entry of the log by which a rollout takes in a tenant, of a stream that is made later.
fn step(rollout: &str, tenant: &str, percent: u8) -> Value {
    let evidence =
        json!({"block_ms": 300_000, "settle_ms": 120_000, "max_stale_ms": 600_000, "sample_ppm": 1_000_000});
    let tenants = json!({tenant: {"percent": percent, "split": 50}});
    let overlay = json!({"circuit_breaker": {}, "tenants": tenants, "evidence": evidence});
    json!({"v": 1, "entry": {"rollout": rollout, "made": i64::MAX, "n": 1, "at_seq": 1, "overlay": overlay}})
}

/// Whether a rollout treats a tenant.
fn has(status: &Value, tenant: &str) -> bool {
    let mut tenants = status["tenants"].as_array().unwrap().iter();
    let states = ["on_ladder", "passed"];
    tenants.any(|t| t["tenant_id"] == tenant && states.contains(&t["state"].as_str().unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_rollouts_that_start_at_once_one_has_the_tenant_that_both_name() {
    let (stage, second) = ground().await;
    let caller = &stage.caller;
    let users = Users::start(caller, &["t1", "t2", "t3"], 100, one_percent_fails());
    users.go_on("t1", 100).await;
    caller.put_plan(&plan_of("cb", ["t1", "t2"], &json!({}))).await;
    caller.put_plan(&plan_of("other", ["t1", "t3"], &json!({}))).await;
    let both = [json!({"rollout": "cb"}), json!({"rollout": "other"})];
    tokio::join!(caller.command("rollout.start", &both[0]), caller.command("rollout.start", &both[1]));
    for (rollout, own) in [("cb", "t2"), ("other", "t3")] {
        caller.becomes(rollout, "completed").await;
        assert!(has(&caller.status_of(rollout).await, own));
        caller.enforced_becomes(own, Some(100)).await;
    }
    let both = [caller.status_of("cb").await, caller.status_of("other").await];
    let having = both.iter().filter(|status| has(status, "t1")).count();
    assert_eq!(having, 1, "{both:#?}");
    caller.enforced_becomes("t1", Some(100)).await;
    // As of one that counted its history before the other one took its step.
    users.stop().await;
    let late = step("aa", "t1", 7);
    let sent = caller.jetstream.publish("beamline.router.v1.log.step", late.to_string().into()).await;
    agree(&[&stage.worker, &second], sent.unwrap().await.unwrap().sequence).await;
    assert_eq!(caller.enforced_percent("t1").await, Some(100), "it is taken already");
    for worker in [&stage.worker, &second] {
        worker.agreed().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_left_a_rollout_may_be_in_another_one_and_in_the_same_one_when_it_begins_again() {
    let (stage, second) = ground().await;
    let caller = &stage.caller;
    let users = Users::start(caller, &["t1", "t2", "t3"], 100, one_percent_fails());
    users.go_on("t1", 100).await;
    let stays = json!({"approval": "each_phase"});
    let start = async |plan: &Value| {
        caller.put_plan(plan).await;
        caller.command("rollout.start", &json!({"rollout": plan["id"]})).await;
    };
    start(&plan_of("cb", ["t1", "t2"], &stays)).await;
    caller.enforced_becomes("t2", Some(50)).await;
    // It takes in nobody that another one has.
    start(&plan_of("other", ["t2", "t3"], &stays)).await;
    caller.enforced_becomes("t3", Some(50)).await;
    let other = caller.status_of("other").await;
    assert_eq!(other["already_enforced"], json!(["t2"]), "{other}");
    assert!(!has(&other, "t2"), "{other}");

    let mut own = silent_policy();
    own["circuit_breaker"] = json!({"enabled": true, "enforce_percent": 10});
    caller.put_policy("t2", &own).await;
    caller.put_policy("t2", &silent_policy()).await;
    caller.enforced_becomes("t2", None).await;
    eventually("it has left", STEP, async || !has(&caller.status_of("cb").await, "t2")).await;
    start(&plan_of("third", ["t2", "t4"], &stays)).await;
    caller.enforced_becomes("t2", Some(50)).await;
    assert!(has(&caller.status_of("third").await, "t2"));

    for rollout in ["third", "cb"] {
        caller.command("rollout.abort", &json!({"rollout": rollout})).await;
        caller.command("rollout.delete", &json!({"rollout": rollout})).await;
    }
    caller.enforced_becomes("t2", None).await;
    let seq = caller.status_of("cb").await["seq"].clone();
    let again = json!({"plan": plan_of("cb", ["t1", "t2"], &stays), "expected_seq": seq});
    caller.command("rollout.put", &again).await;
    caller.command("rollout.start", &json!({"rollout": "cb"})).await;
    caller.enforced_becomes("t2", Some(50)).await;
    caller.becomes("cb", "awaiting_approval").await;
    assert!(has(&caller.status_of("cb").await, "t2"));
    for worker in [&stage.worker, &second] {
        worker.agreed().await;
    }
}
