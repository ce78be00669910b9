use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{End, Habits, Users, ground, one_percent_fails, short_plan};
use crate::support::Caller;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_of_treated_results_takes_the_share_back_and_nothing_passes() {
    let (stage, second) = ground().await;
    let caller = &stage.caller;
    let users = Users::start(caller, &["t1"], 100, one_percent_fails());
    users.go_on("t1", 100).await;
    users.now(Arc::new(|call| {
        let is_lost = call.in_treated_half && call.n % 2 == 0;
        if is_lost { End::Unreported } else { End::Success }
    }));
    caller.start_rollout(&short_plan(1, &json!({}))).await;
    let paused = caller.rollout_becomes("paused for its sample", super::STEP, |status| {
        let mut reasons = status["reasons"].as_array().into_iter().flatten();
        status["state"] == "paused" && reasons.any(|reason| reason == "sample_ratio")
    });
    let paused = paused.await;
    let verdict = |name: &str| {
        let mut criteria = paused["criteria"].as_array().unwrap().iter();
        criteria.find(|criterion| criterion["name"] == name).unwrap()["verdict"].clone()
    };
    assert_ne!(verdict("coverage"), "pass", "{paused:#}");
    caller.enforced_becomes("t1", Some(0)).await;
    let passes = ["await_approval", "promote", "final_bake", "complete"];
    let kinds = caller.decision_kinds().await;
    assert!(!kinds.iter().any(|kind| passes.contains(&kind.as_str())), "{kinds:?}");

    users.now(one_percent_fails());
    caller.command("rollout.resume", &json!({"rollout": "cb", "reason": "results come again"})).await;
    caller.rollout_is("completed").await;
    for worker in [&stage.worker, &second] {
        worker.agreed().await;
    }
}

/// What the criterion says: its verdict and its reason.
fn criterion(status: &Value, name: &str) -> (String, String) {
    let mut criteria = status["criteria"].as_array().into_iter().flatten();
    let found = criteria.find(|criterion| criterion["name"] == name);
    let text = |field: &str| found.map_or("", |found| found[field].as_str().unwrap()).to_owned();
    (text("verdict"), text("reason"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_results_of_both_arms_nothing_is_decided_until_they_come_again() {
    let (stage, second) = ground().await;
    let caller = &stage.caller;
    let users = Users::start(caller, &["t1"], 100, one_percent_fails());
    users.go_on("t1", 100).await;
    // A breaker that counts cancelled calls and lost ones would open.
    caller.start_rollout(&short_plan(1, &json!({"analysis": {"coverage": 0.5}}))).await;
    caller.rollout_becomes("half", super::STEP, |s| s["percent"] == 50).await;
    // The executor is dead; then it is there again and cancels every call.
    for end in [End::Unreported, End::Cancelled] {
        users.now(Arc::new(move |_: &super::Call<'_>| end));
        // Longer than the phase needs where all is well.
        users.go_on("t1", 500).await;
        let lacks = ("inconclusive".to_owned(), "low_coverage".to_owned());
        let status = caller.rollout_becomes("coverage is low", super::STEP, |status| {
            status["state"] == "running" && criterion(status, "coverage") == lacks
        });
        let status = status.await;
        assert_eq!((&status["percent"], &status["step"]), (&json!(50), &json!(0)), "{status:#}");
        assert_eq!(
            criterion(&status, "harm").0,
            "pass",
            "lost and cancelled calls are no failures: {status:#}"
        );
        assert_ne!(criterion(&status, "safe").0, "pass", "{status:#}");
    }
    assert_eq!(caller.decision_kinds().await, ["start", "step"]);
    assert_eq!(caller.breaker("t1", "a").await["state"], "closed");

    users.now(one_percent_fails());
    caller.rollout_is("completed").await;
    for worker in [&stage.worker, &second] {
        worker.agreed().await;
    }
}

/// Units of all windows, and those that cuts dropped.
async fn counted(caller: &Caller) -> [u64; 2] {
    let stream = caller.jetstream.get_stream("BEAMLINE_ROLLOUTS").await.unwrap();
    let mut blocks: BTreeMap<u64, Value> = BTreeMap::new();
    let last = stream.cached_info().state.last_sequence;
    for sequence in 1..=last {
        let message = stream.get_raw_message(sequence).await.unwrap();
        if message.subject.ends_with(".block") {
            let body: Value = serde_json::from_slice(&message.payload).unwrap();
            let block = body["message"].clone();
            let number = block["number"].as_u64().unwrap_or_else(|| panic!("{block}"));
            blocks.entry(number).or_insert(block);
        }
    }
    assert!(!blocks.is_empty());
    let sum = |numbers: &Value, places: &[usize]| -> u64 {
        places.iter().map(|place| numbers[*place].as_u64().unwrap()).sum()
    };
    let mut counted = [0; 2];
    for block in blocks.values() {
        for row in block["rows"].as_array().unwrap() {
            counted[0] +=
                sum(&row["plain"], &[0, 2]) + sum(&row["met"], &[0, 2]) + sum(&row["no_outcome"], &[0, 1]);
        }
        counted[1] += block["dropped"].as_u64().unwrap();
    }
    counted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_and_retries_of_a_request_are_one_unit() {
    let (stage, second) = ground().await;
    let caller = &stage.caller;
    // At once, and when the unit has settled.
    let copies = vec![Duration::ZERO, Duration::from_millis(1_500)];
    // Half of the first attempts fail, and nearly all of the second succeed.
    let ends = Arc::new(|call: &super::Call<'_>| match call.n % 100 {
        0 => End::Cancelled,
        2 => End::Failure,
        n => End::failure_if(n % 2 == 0 && call.attempt == 1),
    });
    let users = Users::with(caller, &["t1"], 50, ends, Habits { copies, retries: true });
    users.go_on("t1", 120).await;
    // No circuit opens.
    let breaker = json!({"failure_threshold": 100, "minimum_requests": 10_000});
    caller
        .start_rollout(&short_plan(1, &json!({"circuit_breaker": breaker, "approval": "each_phase"})))
        .await;
    let before = users.seen("t1").asked;
    let passed = caller.rollout_is("awaiting_approval").await;
    let [units, dropped] = counted(caller).await;
    let asked = users.seen("t1").asked;
    assert!(units + dropped <= asked, "{units} units and {dropped} dropped of {asked} requests");
    assert!(units > asked / 4, "{units} units of {asked} requests");
    let history = passed["tenants"][0]["units"].as_u64().unwrap();
    assert!(history <= before, "{history} units of {before} requests before it began");
    for worker in [&stage.worker, &second] {
        worker.agreed().await;
    }
}
