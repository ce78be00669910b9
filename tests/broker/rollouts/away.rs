use std::time::Duration;

use serde_json::json;

use super::{Users, ground, one_percent_fails, short_plan};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_goes_on_after_the_broker_was_away() {
    let (mut stage, second) = ground().await;
    let caller = stage.caller.clone();
    let users = Users::start(&caller, &["t1"], 100, one_percent_fails());
    users.go_on("t1", 100).await;
    // Who asked while the broker was away may have given up on the answer: no call, and no outcome.
    caller.start_rollout(&short_plan(1, &json!({"analysis": {"coverage": 0.5}}))).await;
    caller.rollout_becomes("half", super::STEP, |s| s["percent"] == 50).await;
    stage.broker.kill();
    // Longer than a worker may be silent, which is three blocks.
    tokio::time::sleep(Duration::from_secs(4)).await;
    stage.broker.restart().await;
    for worker in [&stage.worker, &second] {
        worker.recovers().await;
    }
    caller.rollout_is("completed").await;
    for worker in [&stage.worker, &second] {
        worker.agreed().await;
    }
}
