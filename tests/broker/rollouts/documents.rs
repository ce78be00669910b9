use serde_json::{Value, json};

use super::{Users, ground, one_percent_fails, short_plan, silent_policy};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_leave_by_a_share_of_their_own_and_by_being_deleted() {
    let (stage, second) = ground().await;
    let caller = &stage.caller;
    let users = Users::start(caller, &["t1", "t2", "t3"], 50, one_percent_fails());
    users.go_on("t1", 50).await;
    caller.start_rollout(&short_plan(3, &json!({"approval": "each_phase"}))).await;
    caller.rollout_becomes("half", super::STEP, |s| s["percent"] == 50).await;
    let mut own = silent_policy();
    own["circuit_breaker"] = json!({"enabled": true, "enforce_percent": 10});
    caller.put_policy("t2", &own).await;
    assert_eq!(caller.enforced_percent("t2").await, Some(10), "at once");
    caller.command("policy.delete", &json!({"tenant_id": "t3", "policy_id": "default"})).await;
    let states = |status: &Value| -> Vec<Value> {
        let tenants = status["tenants"].as_array().into_iter().flatten();
        tenants.map(|tenant| tenant["state"].clone()).collect()
    };
    let left = [json!("on_ladder"), json!("left_out"), json!("deleted")];
    caller.rollout_becomes("two have left", super::STEP, |status| states(status) == left).await;
    // One that comes back is another tenant.
    caller.put_policy("t3", &silent_policy()).await;
    caller.rollout_is("awaiting_approval").await;
    caller.command("rollout.approve", &json!({"rollout": "cb"})).await;
    caller.rollout_is("completed").await;
    caller.enforced_becomes("t1", Some(100)).await;
    assert_eq!(caller.enforced_percent("t2").await, Some(10));
    assert_eq!(caller.enforced_percent("t3").await, None);
    for worker in [&stage.worker, &second] {
        worker.agreed().await;
    }
}
