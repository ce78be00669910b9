use serde_json::json;
use std::sync::Arc;

use super::{End, Users, fallback_policy, ground_with, one_percent_fails, short_plan};
use crate::support::{SOON, eventually};
use crate::traffic::RECOVERY;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_whose_stream_is_deleted_lays_nothing_over_policies_any_more() {
    let (stage, second) = ground_with(&fallback_policy()).await;
    let caller = &stage.caller;
    let users = Users::start(caller, &["t1"], 100, one_percent_fails());
    users.go_on("t1", 100).await;
    let breaker = json!({"failure_threshold": 20, "minimum_requests": 10_000, "timeout_ms": 300_000});
    let plan = short_plan(1, &json!({"circuit_breaker": breaker, "approval": "each_phase"}));
    caller.start_rollout(&plan).await;
    caller.rollout_becomes("half", super::STEP, |s| s["percent"] == 50).await;
    users.now(Arc::new(|call| End::failure_if(call.provider == "a")));
    eventually("requests are refused", SOON, async || users.seen("t1").refusals.len() > 10).await;

    let before = caller.last_step().await.1;
    caller.jetstream.delete_stream("BEAMLINE_ROLLOUTS").await.unwrap();
    let (place, step) = eventually("the log says so", RECOVERY, async || {
        let (place, step) = caller.last_step().await;
        (step["made"] != before["made"]).then_some((place, step))
    })
    .await;
    assert!(step["overlay"].is_null(), "{step}");
    users.follow("t1", place).await;
    assert_eq!(caller.enforced_percent("t1").await, None);
    let seen = users.seen("t1");
    let late: Vec<_> = seen.refusals.iter().filter(|refusal| refusal.position >= place).collect();
    assert!(late.is_empty(), "the end stands at {place}: {late:?}");
    eventually("there is no rollout", SOON, async || {
        let gone = caller.control("rollout.status", &json!({"rollout": "cb"})).await;
        gone["error"]["code"] == "not_found"
    })
    .await;
    for worker in [&stage.worker, &second] {
        worker.recovers().await;
        assert_eq!(worker.events("rollout_stream_made_anew").len(), 1);
    }

    // Another one may come under the same name.
    users.now(one_percent_fails());
    caller.start_rollout(&plan).await;
    caller.rollout_is("awaiting_approval").await;
    for worker in [&stage.worker, &second] {
        worker.agreed().await;
    }
}
