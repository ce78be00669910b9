use beamline_router::domain::{arm_hash, is_treated};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{End, Ends, Users, fallback_policy, ground_with, one_percent_fails, short_plan};
use crate::support::{SOON, eventually};

/// All calls to `a` fail, and none to `b`.
fn outage() -> Ends {
    Arc::new(|call| End::failure_if(call.provider == "a"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn harm_of_treated_requests_alone_rolls_back_and_nothing_is_refused_from_there_on() {
    let (stage, second) = ground_with(&fallback_policy()).await;
    let caller = &stage.caller;
    let users = Users::start(caller, &["t1"], 100, one_percent_fails());
    users.go_on("t1", 100).await;
    // A circuit stays open long after its provider is well, and where refused requests go, most calls fail; but
    // never enough of them in a row that this circuit opens, too.
    let breaker = json!({"failure_threshold": 20, "minimum_requests": 10_000, "timeout_ms": 300_000});
    caller.start_rollout(&short_plan(1, &json!({"circuit_breaker": breaker}))).await;
    caller.rollout_becomes("half", super::STEP, |s| s["percent"] == 50).await;
    users.now(outage());
    caller.breaker_becomes("t1", "a", "open").await;
    let to_b = AtomicU64::new(0);
    users.now(Arc::new(move |call| {
        End::failure_if(call.provider == "b" && !to_b.fetch_add(1, Ordering::Relaxed).is_multiple_of(5))
    }));
    let back = caller.rollout_is("rolled_back").await;
    assert_eq!(back["tenants"][0]["state"], "rolled_back", "{back}");
    let decisions = caller.decisions().await;
    let last = decisions.last().unwrap();
    assert_eq!((&last["kind"], &last["reasons"]), (&json!("roll_back"), &json!(["harm"])), "{last}");

    let (place, step) = eventually("the log has the rollback", SOON, async || {
        let (place, step) = caller.last_step().await;
        (step["n"] == last["n"]).then_some((place, step))
    })
    .await;
    assert_eq!(step["overlay"]["tenants"]["t1"]["percent"], 0, "{step}");
    users.follow("t1", place).await;
    assert_eq!(caller.breaker("t1", "a").await["state"], "open", "it is not enforced, and open all the same");
    let seen = users.stop().await["t1"].clone();
    assert!(seen.refusals.len() > 10, "it did refuse: {}", seen.refusals.len());
    let late: Vec<_> = seen.refusals.iter().filter(|refusal| refusal.position >= place).collect();
    assert!(late.is_empty(), "the rollback stands at {place}: {late:?}");
    let control: Vec<_> =
        seen.refusals.iter().filter(|refusal| !is_treated(arm_hash(&refusal.request_id), 50)).collect();
    assert!(control.is_empty(), "{control:?}");
    for worker in [&stage.worker, &second] {
        worker.agreed().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_that_hits_both_arms_is_an_exercise_and_no_harm() {
    let (stage, second) = ground_with(&fallback_policy()).await;
    let caller = &stage.caller;
    let users = Users::start(caller, &["t1"], 100, one_percent_fails());
    users.go_on("t1", 100).await;
    // It does not pass before a circuit has opened and closed.
    caller.start_rollout(&short_plan(1, &json!({"analysis": {"exercise": "required"}}))).await;
    caller.rollout_becomes("half", super::STEP, |s| s["percent"] == 50).await;
    users.go_on("t1", 100).await;
    users.now(outage());
    caller.breaker_becomes("t1", "a", "open").await;
    users.go_on("t1", 200).await;
    assert!(!users.seen("t1").refusals.is_empty());
    users.now(one_percent_fails());
    caller.rollout_is("completed").await;
    let kinds: BTreeSet<String> = caller.decision_kinds().await.into_iter().collect();
    for kind in ["roll_back", "tenant_back"] {
        assert!(!kinds.contains(kind), "{kinds:?}");
    }
    for worker in [&stage.worker, &second] {
        worker.agreed().await;
    }
}
