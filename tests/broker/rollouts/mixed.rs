use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::commands::refusal;
use super::{Users, ground, one_percent_fails, plan, short_plan};
use crate::support::Caller;

/// Workers check whether there is one that does not support rollouts every ten seconds.
const NOTICED: Duration = Duration::from_secs(30);

/// Answers discovery as a worker that does not support rollouts, until aborted.
async fn older_worker(caller: &Caller) -> JoinHandle<()> {
    let client = caller.client.clone();
    let mut questions = client.subscribe("$SRV.INFO.beamline-router").await.unwrap();
    client.flush().await.unwrap();
    tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let endpoint = json!({"name": "decide", "subject": "beamline.router.v1.decide"});
            let info = json!({
                "type": "io.nats.micro.v1.info_response", "name": "beamline-router", "id": "OLD",
                "version": "0.0.1", "metadata": {"worker": "old-1"}, "endpoints": [endpoint],
            });
            client.publish(question.reply.unwrap(), info.to_string().into()).await.unwrap();
        }
    })
}

fn is_mixed(answer: &Value) {
    assert_eq!(refusal(answer), "mixed_versions", "{answer}");
    assert_eq!(answer["error"]["details"]["workers"], json!(["old-1"]), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_does_not_start_beside_a_worker_that_does_not_know_rollouts() {
    let (stage, _second) = ground().await;
    let caller = &stage.caller;
    let older = older_worker(caller).await;
    caller.put_plan(&plan(&json!({}))).await;
    is_mixed(&caller.control("rollout.start", &json!({"rollout": "cb"})).await);
    assert_eq!(caller.rollout_status().await["state"], "draft");
    older.abort();
    caller.command("rollout.start", &json!({"rollout": "cb"})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_does_not_know_rollouts_takes_the_shares_to_0_until_it_is_gone_and_somebody_resumes() {
    let (stage, second) = ground().await;
    let caller = &stage.caller;
    let users = Users::start(caller, &["t1"], 100, one_percent_fails());
    users.go_on("t1", 100).await;
    caller.start_rollout(&short_plan(1, &json!({"approval": "each_phase"}))).await;
    caller.enforced_becomes("t1", Some(50)).await;
    caller.rollout_is("awaiting_approval").await;
    let older = older_worker(caller).await;
    let paused =
        caller.rollout_becomes("it is suspended", NOTICED, |status| status["state"] == "paused").await;
    assert_eq!((&paused["percent"], &paused["tenants"][0]["percent"]), (&json!(0), &json!(0)), "{paused}");
    let reasons = paused["reasons"].to_string();
    assert!(reasons.contains("mixed_versions") && reasons.contains("old-1"), "{paused}");
    caller.enforced_becomes("t1", Some(0)).await;
    let body = json!({"rollout": "cb"});
    is_mixed(&caller.control("rollout.resume", &body).await);
    let approved = caller.control("rollout.approve", &body).await;
    assert_eq!(refusal(&approved), "paused", "{approved}");

    older.abort();
    caller.command("rollout.resume", &body).await;
    caller.enforced_becomes("t1", Some(50)).await;
    // The evidence of the step begins anew.
    let ready = |status: &Value| status["next"]["needs"] == json!(["approve"]);
    caller.rollout_becomes("it is proven again", super::STEP, ready).await;
    caller.command("rollout.approve", &body).await;
    caller.rollout_is("completed").await;
    for worker in [&stage.worker, &second] {
        worker.agreed().await;
    }
}
