use serde_json::{Value, json};

use super::{Users, ground, one_percent_fails, short_plan};
use crate::support::{Worker, eventually};
use crate::traffic::{RECOVERY, result};

/// A phase that takes longer than a purge in it.
fn longer() -> Value {
    json!({"name": "only", "tenants": {"count": 1}, "ladder": [50], "bake": "1s", "min": "6s", "max": "10m"})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_that_was_purged_is_not_judged_and_safety_is_proven_anew() {
    let (stage, second) = ground().await;
    let caller = &stage.caller;
    let users = Users::start(caller, &["t1"], 100, one_percent_fails());
    users.go_on("t1", 100).await;
    caller.start_rollout(&short_plan(1, &json!({"phases": [longer()], "approval": "each_phase"}))).await;
    let units = |status: &Value| status["evidence"]["units"].as_u64().unwrap_or(0);
    let before = caller.rollout_becomes("evidence", super::STEP, |s| units(s) > 200).await;
    for worker in [&stage.worker, &second] {
        worker.pause();
    }
    // Nothing that comes now reaches them.
    for reader in caller.log_readers().await {
        caller.log().await.delete_consumer(&reader).await.unwrap();
    }
    for n in 0..20 {
        caller.result(&result("t1", "a", &format!("unread-{n}"), "success")).await;
    }
    caller.log().await.purge().await.unwrap();
    for worker in [&stage.worker, &second] {
        worker.resume();
    }
    for worker in [&stage.worker, &second] {
        eventually("it rebuilds", RECOVERY, async || worker.count("router_log_rebuilds_total").await > 0)
            .await;
        worker.recovers().await;
    }
    caller.rollout_becomes("safety begins anew", super::STEP, |s| units(s) < units(&before)).await;
    let passed = caller.rollout_is("awaiting_approval").await;
    assert!(units(&passed) > 0, "{passed:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_lacks_what_was_purged_can_take_a_rollout_over() {
    let (mut stage, mut second) = ground().await;
    let caller = stage.caller.clone();
    let users = Users::start(&caller, &["t1"], 100, one_percent_fails());
    users.go_on("t1", 100).await;
    caller.start_rollout(&short_plan(1, &json!({"phases": [longer()]}))).await;
    caller.rollout_becomes("half", super::STEP, |s| s["percent"] == 50).await;
    users.go_on("t1", 300).await;
    // The workers have read it, and no log holds the step for the next one.
    let (first, other) = (stage.worker.standing().await.0, second.standing().await.0);
    caller.log().await.purge().sequence(first.min(other)).await.unwrap();
    stage.worker.kill();
    stage.worker = Worker::start(&stage.broker, |launch| launch).await;
    users.go_on("t1", 200).await;
    assert_eq!(second.stop().await, 0);
    caller.rollout_is("completed").await;
}
