use serde_json::json;
use std::collections::BTreeMap;

use super::{Users, ground, one_percent_fails, short_plan};
use crate::support::{Worker, eventually};
use crate::traffic::RECOVERY;

/// The numbers of the decisions that took effect at a worker, each with how often.
fn decided(worker: &Worker) -> BTreeMap<u64, usize> {
    let mut numbers = BTreeMap::new();
    for event in worker.events("rollout_decided") {
        *numbers.entry(event["n"].as_u64().unwrap()).or_default() += 1;
    }
    numbers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_are_killed_leave_a_rollout_that_goes_on() {
    let (mut stage, mut second) = ground().await;
    let caller = stage.caller.clone();
    let users = Users::start(&caller, &["t1"], 100, one_percent_fails());
    users.go_on("t1", 100).await;
    let plan = short_plan(1, &json!({"approval": "each_phase"}));
    // While it is prepared, while it runs, and soon after one came back.
    caller.start_rollout(&plan).await;
    stage.worker.kill();
    stage.worker = Worker::start(&stage.broker, |launch| launch).await;
    caller.rollout_becomes("half", super::STEP, |s| s["percent"] == 50).await;
    second.kill();
    second = Worker::start(&stage.broker, |launch| launch).await;
    users.go_on("t1", 100).await;
    stage.worker.kill();
    stage.worker = Worker::start(&stage.broker, |launch| launch).await;
    caller.rollout_is("awaiting_approval").await;
    let workers = [&stage.worker, &second];
    eventually("both show the same", RECOVERY, async || {
        workers[0].rollout_figures().await == workers[1].rollout_figures().await
    })
    .await;
    assert!(!workers[0].rollout_figures().await.is_empty());
    caller.command("rollout.approve", &json!({"rollout": "cb"})).await;
    caller.rollout_is("completed").await;
    let decisions = caller.decisions().await;
    let numbers: Vec<u64> = decisions.iter().map(|decision| decision["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    for worker in workers {
        let decided = decided(worker);
        assert!(decided.contains_key(numbers.last().unwrap()), "{decided:?}");
        assert!(decided.values().all(|times| *times == 1), "{decided:?}");
        worker.agreed().await;
    }
}
