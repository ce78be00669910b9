use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{Users, ground, one_percent_fails, plan, short_plan};

/// How a command that was not accepted was refused.
fn refusal(answer: &Value) -> &str {
    let error = &answer["error"];
    error["details"]["refusal"].as_str().or(error["code"].as_str()).unwrap_or_else(|| panic!("{answer}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_approvals_at_once_one_is_accepted() {
    let (stage, second) = ground().await;
    let caller = &stage.caller;
    let users = Users::start(caller, &["t1"], 100, one_percent_fails());
    users.go_on("t1", 100).await;
    caller.start_rollout(&short_plan(1, &json!({"approval": "each_phase", "final_bake": "10m"}))).await;
    let waits = caller.rollout_is("awaiting_approval").await;
    let seq = waits["seq"].as_u64().unwrap();
    let stale = json!({"rollout": "cb", "expected_seq": seq - 1});
    let stale = caller.control("rollout.approve", &stale).await;
    assert_eq!((refusal(&stale), &stale["error"]["details"]["seq"]), ("conflict", &json!(seq)), "{stale}");

    let named = json!({"rollout": "cb", "expected_seq": seq});
    let unnamed = json!({"rollout": "cb"});
    let answers = tokio::join!(
        caller.control("rollout.approve", &named),
        caller.control("rollout.approve", &named),
        caller.control("rollout.approve", &unnamed),
    );
    let answers = [answers.0, answers.1, answers.2];
    let accepted = answers.iter().filter(|answer| answer["ok"] == true).count();
    assert_eq!(accepted, 1, "{answers:#?}");
    for answer in answers.iter().filter(|answer| answer["ok"] != true) {
        assert!(["conflict", "wrong_state"].contains(&refusal(answer)), "{answer}");
    }
    let status = caller.rollout_is("final_bake").await;
    assert_eq!(status["seq"], seq + 2, "one command and one decision: {status}");
    for worker in [&stage.worker, &second] {
        worker.agreed().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_does_not_start_beside_a_worker_that_does_not_know_rollouts() {
    let (stage, _second) = ground().await;
    let caller = &stage.caller;
    let client = caller.client.clone();
    let mut questions = client.subscribe("$SRV.INFO.beamline-router").await.unwrap();
    client.flush().await.unwrap();
    let answers = tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let endpoint = json!({"name": "decide", "subject": "beamline.router.v1.decide"});
            let info = json!({
                "type": "io.nats.micro.v1.info_response", "name": "beamline-router", "id": "OLD",
                "version": "0.0.1", "metadata": {"worker": "old-1"}, "endpoints": [endpoint],
            });
            client.publish(question.reply.unwrap(), info.to_string().into()).await.unwrap();
        }
    });
    caller.put_plan(&plan(&json!({}))).await;
    let refused = caller.control("rollout.start", &json!({"rollout": "cb"})).await;
    assert_eq!(refusal(&refused), "mixed_versions", "{refused}");
    assert_eq!(refused["error"]["details"]["workers"], json!(["old-1"]), "{refused}");
    assert_eq!(caller.rollout_status().await["state"], "draft");
    answers.abort();
    caller.command("rollout.start", &json!({"rollout": "cb"})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_that_was_aborted_and_deleted_can_be_put_again() {
    let (stage, second) = ground().await;
    let caller = &stage.caller;
    let users = Users::start(caller, &["t1"], 100, one_percent_fails());
    users.go_on("t1", 100).await;
    caller.start_rollout(&short_plan(1, &json!({}))).await;
    let units = |status: &Value| status["evidence"]["units"].as_u64();
    caller.rollout_becomes("evidence", super::STEP, |status| units(status) > Some(50)).await;
    caller.command("rollout.abort", &json!({"rollout": "cb"})).await;
    caller.enforced_becomes("t1", None).await;
    caller.command("rollout.delete", &json!({"rollout": "cb"})).await;
    let seq = caller.rollout_status().await["seq"].clone();
    let plan = json!({"plan": short_plan(1, &json!({})), "expected_seq": seq});
    caller.command("rollout.put", &plan).await;
    caller.command("rollout.start", &json!({"rollout": "cb"})).await;
    caller.rollout_is("completed").await;
    for worker in [&stage.worker, &second] {
        worker.agreed().await;
    }
}
