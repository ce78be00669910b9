use serde_json::{Value, json};

use super::{STEP, Users, ground, one_percent_fails, plan};
use crate::support::{SOON, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_goes_the_straight_way_to_its_end() {
    let (stage, second) = ground().await;
    let caller = &stage.caller;
    let users = Users::start(caller, &["t1", "t2", "t3"], 100, one_percent_fails());
    users.go_on("t1", 100).await;
    let put = caller.command("rollout.put", &json!({"plan": plan(&json!({"approval": "each_phase"}))})).await;
    assert_eq!((&put["seq"], &put["state"]), (&json!(1), &json!("draft")), "{put}");
    let stale = caller.control("rollout.start", &json!({"rollout": "cb", "expected_seq": 0})).await;
    assert_eq!(stale["error"]["code"], "conflict", "{stale}");
    assert_eq!(stale["error"]["details"]["seq"], 1, "{stale}");
    let started = caller.command("rollout.start", &json!({"rollout": "cb", "expected_seq": 1})).await;
    assert_eq!(started["ok"], true, "{started}");
    let running = caller.rollout_is("running").await;
    assert_eq!((&running["phase"], &running["percent"]), (&json!("canary"), &json!(0)), "{running}");
    let early = caller.control("rollout.approve", &json!({"rollout": "cb"})).await;
    assert_eq!(early["error"]["details"]["refusal"], "wrong_state", "{early}");
    caller.rollout_becomes("half of the canary", STEP, |s| s["percent"] == 50).await;
    caller.enforced_becomes("t1", Some(50)).await;
    let effective = caller.command("policy.get", &json!({"tenant_id": "t1", "policy_id": "default"})).await;
    assert_eq!(effective["effective"]["circuit_breaker"]["enforce_percent"], 50, "{effective}");
    assert_eq!(effective["rollout"]["id"], "cb", "{effective}");
    caller.rollout_is("awaiting_approval").await;
    caller.command("rollout.approve", &json!({"rollout": "cb", "reason": "looks good"})).await;
    caller.rollout_becomes("all", STEP, |s| s["phase"] == "all").await;
    caller.rollout_is("awaiting_approval").await;
    caller.command("rollout.approve", &json!({"rollout": "cb"})).await;
    let done = caller.rollout_is("completed").await;
    caller.enforced_becomes("t3", Some(100)).await;
    let shares: Vec<&Value> = done["tenants"].as_array().unwrap().iter().map(|t| &t["percent"]).collect();
    assert_eq!(shares, [100, 100, 100], "{done}");
    let seen = users.stop().await;
    assert_eq!(seen.values().map(|seen| seen.refusals.len()).sum::<usize>(), 0, "nothing opened: {seen:?}");
    assert_eq!(seen.values().map(|seen| seen.without_provider).sum::<u64>(), 0, "{seen:?}");
    // Both workers decided the same, each once.
    let decisions = caller.decision_kinds().await;
    let want = [
        "start",
        "step",
        "step",
        "await_approval",
        "promote",
        "step",
        "step",
        "await_approval",
        "final_bake",
        "complete",
    ];
    assert_eq!(decisions, want);
    for worker in [&stage.worker, &second] {
        worker.agreed().await;
    }
    // What it laid over documents goes into them, and nothing changes by that.
    let graduated = caller.command("rollout.graduate", &json!({"rollout": "cb"})).await;
    assert_eq!((&graduated["written"], &graduated["left"]), (&json!(3), &json!(0)), "{graduated}");
    let own = caller.command("policy.get", &json!({"tenant_id": "t2", "policy_id": "default"})).await;
    assert_eq!(own["rollout"], Value::Null, "{own}");
    assert_eq!(own["policy"]["circuit_breaker"]["failure_threshold"], 5, "{own}");
    assert_eq!(own["policy"]["circuit_breaker"]["enforce_percent"], 100, "{own}");
    caller.command("rollout.delete", &json!({"rollout": "cb"})).await;
    eventually("it is gone from the metrics", SOON, async || {
        stage.worker.metrics().await.series("router_rollout_state", &[]) == 0
    })
    .await;
}
