use serde_json::{Value, json};

use super::{Users, fallback_policy, ground, ground_with, one_percent_fails, short_plan};
use crate::support::cli;

/// How a command that was not accepted was refused.
pub(super) fn refusal(answer: &Value) -> &str {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drill_needs_a_fallback_whose_circuit_is_closed_now() {
    let (stage, second) = ground_with(&fallback_policy()).await;
    let caller = &stage.caller;
    let users = Users::start(caller, &["t1"], 100, one_percent_fails());
    users.go_on("t1", 100).await;
    let plan = short_plan(1, &json!({"analysis": {"exercise": "drill"}, "approval": "each_phase"}));
    caller.start_rollout(&plan).await;
    caller.rollout_becomes("half", super::STEP, |s| s["percent"] == 50).await;
    let freed = json!({"tenant_id": "t1", "provider_id": "b", "state": "auto"});
    let forced = json!({"tenant_id": "t1", "provider_id": "b", "state": "open"});
    let drill = json!({"rollout": "cb", "tenant_id": "t1", "provider_id": "a", "for": "2s"});
    caller.command("breaker.force", &forced).await;
    let refused = caller.control("rollout.drill", &drill).await;
    assert_eq!(
        (refusal(&refused), &refused["error"]["details"]["policy_id"]),
        ("no_fallback", &json!("default"))
    );
    let commands = |entries: &Value| {
        let entries = entries["entries"].as_array().unwrap().iter();
        entries.filter(|entry| entry["verb"] == "drill").count()
    };
    let history = async || caller.command("rollout.history", &json!({"rollout": "cb"})).await;
    assert_eq!(commands(&history().await), 0, "it is refused before it is recorded");
    assert_eq!(caller.breaker("t1", "a").await["state"], "closed");

    caller.command("breaker.force", &freed).await;
    caller.command("breaker.reset", &json!({"tenant_id": "t1", "provider_id": "b"})).await;
    caller.breaker_becomes("t1", "b", "closed").await;
    caller.command("rollout.drill", &drill).await;
    assert_eq!(commands(&history().await), 1);
    caller.breaker_becomes("t1", "a", "open").await;
    caller.breaker_becomes("t1", "a", "closed").await;
    caller.rollout_is("awaiting_approval").await;
    for worker in [&stage.worker, &second] {
        worker.agreed().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_lists_each_decision_once_in_pages_and_its_newest_entries() {
    let (stage, _second) = ground().await;
    let caller = &stage.caller;
    caller.start_rollout(&super::plan(&json!({}))).await;
    caller.rollout_is("running").await;
    // As a worker records it that has not heard of the others.
    let stream = caller.jetstream.get_stream("BEAMLINE_ROLLOUTS").await.unwrap();
    let subject = "beamline.router.v1.rollout.cb.decision";
    let copy = stream.get_last_raw_message_by_subject(subject).await.unwrap().payload;
    for _ in 0..3 {
        caller.jetstream.publish(subject, copy.clone()).await.unwrap().await.unwrap();
    }
    caller.command("rollout.pause", &json!({"rollout": "cb"})).await;

    let mut listed: Vec<Value> = Vec::new();
    let mut body = json!({"rollout": "cb", "limit": 1});
    loop {
        let page = caller.command("rollout.history", &body).await;
        listed.extend(page["entries"].as_array().unwrap().iter().cloned());
        match page["cursor"].as_str() {
            Some(cursor) => body["cursor"] = json!(cursor),
            None => break,
        }
    }
    let kinds: Vec<_> = listed.iter().map(|entry| entry["type"].as_str().unwrap()).collect();
    let want = ["plan", "command", "decision", "history", "decision", "command", "decision"];
    assert_eq!(kinds, want, "{listed:#?}");
    let numbers: Vec<_> = listed.iter().filter_map(|entry| entry["n"].as_u64()).collect();
    assert_eq!(numbers, [1, 2, 3]);
    let whole = caller.command("rollout.history", &json!({"rollout": "cb"})).await;
    assert_eq!(whole["entries"], json!(listed), "in one page it is the same");

    let newest = cli(&stage.broker, &["rollout", "history", "cb", "--limit", "2", "--json"]).await;
    assert_eq!(newest.code, 0, "{newest:?}");
    let newest: Value = serde_json::from_str(&newest.stdout).unwrap();
    assert_eq!(newest["entries"], json!(listed[5..]), "{newest}");
}
