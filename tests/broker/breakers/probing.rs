//! How an open breaker comes back: probes, over one worker and several.

use serde_json::{Value, json};

use super::{ask_many, ended, patient, policy, probes, take_slots, with};
use crate::support::{SOON, Stage, Worker, eventually, request};

#[tokio::test]
async fn after_its_time_exactly_the_probes_pass_and_their_successes_close() {
    let stage = with(json!({"failure_threshold": 5, "success_threshold": 2, "half_open_max_calls": 3})).await;
    let mut events = stage.caller.listen("beamline.router.v1.events.breaker.>").await;
    stage.fail("acme", "a", 5).await;
    let refused = stage.caller.decide(&request("acme", "r")).await;
    let wait = refused["error"]["details"]["retry_after_ms"].as_u64().unwrap();
    assert!((1..=1_000).contains(&wait), "{refused}");
    stage.state_is("acme", "a", "open").await;
    let slots = take_slots(&stage, 3).await;
    let refused = stage.caller.decide(&request("acme", "r")).await;
    let provider = &refused["error"]["details"]["providers"][0];
    assert_eq!(
        (&provider["state"], provider["retry_after_ms"].is_u64()),
        (&json!("half_open"), true),
        "{provider}"
    );
    let breaker = stage.caller.breaker("acme", "a").await;
    assert_eq!((&breaker["state"], &breaker["half_open_in_flight"]), (&json!("half_open"), &json!(3)));

    // A request that holds a slot gets no second one, and is not turned away either.
    let again = stage.caller.decide(&request("acme", &slots[0])).await;
    assert!(again["ok"] == true || again["error"]["code"] == "circuit_open", "{again}");
    assert_eq!(stage.caller.breaker("acme", "a").await["half_open_in_flight"], 3);

    ended(&stage, &slots[0], "success").await;
    let breaker = stage.caller.breaker("acme", "a").await;
    assert_eq!((&breaker["state"], &breaker["success_count"]), (&json!("half_open"), &json!(1)));
    assert_eq!(breaker["half_open_in_flight"], 2);
    // What nobody claimed judges nothing.
    stage.results("acme", "a", "error", 3).await;
    stage.state_is("acme", "a", "half_open").await;
    let more = ask_many(&stage, 5).await;
    assert_eq!(probes(&more).len(), 1, "the slot that was freed");
    ended(&stage, &slots[1], "success").await;
    let breaker = stage.caller.breaker("acme", "a").await;
    assert_eq!(
        (&breaker["state"], &breaker["window_requests"]),
        (&json!("closed"), &json!(0)),
        "closed and empty"
    );
    for (_, answer) in ask_many(&stage, 20).await {
        assert_eq!((&answer["ok"], &answer["decision"]["probe"]), (&json!(true), &json!(false)), "{answer}");
    }
    let mut told = Vec::new();
    for _ in 0..3 {
        let event = events.next_json().await;
        told.push(format!("{} {}", event["from"].as_str().unwrap(), event["to"].as_str().unwrap()));
    }
    assert_eq!(told, ["closed open", "open half_open", "half_open closed"]);
    for (event, level) in [
        ("circuit_breaker_opened", "WARN"),
        ("circuit_breaker_half_opened", "INFO"),
        ("circuit_breaker_closed", "INFO"),
    ] {
        let lines = stage.worker.events(event);
        assert_eq!(lines.len(), 1, "{event}");
        assert_eq!(lines[0]["level"], level);
    }
    let metrics = stage.worker.metrics().await;
    assert_eq!(metrics.sum("router_circuit_breaker_timeout_transitions_total", &[]), 1.0);
    assert_eq!(metrics.sum("router_circuit_breaker_timeout_remaining_seconds", &[]), 0.0);
}

#[tokio::test]
async fn a_failing_probe_reopens_and_the_backoff_grows() {
    let stage =
        with(json!({"failure_threshold": 1, "backoff_multiplier": 5.0, "success_threshold": 3})).await;
    stage.fail("acme", "a", 1).await;
    let slots = take_slots(&stage, 3).await;
    ended(&stage, &slots[0], "success").await;
    ended(&stage, &slots[1], "timeout").await;
    let breaker = stage.caller.breaker("acme", "a").await;
    assert_eq!((&breaker["state"], &breaker["trips"]), (&json!("open"), &json!(2)));
    let remaining = breaker["timeout_remaining_ms"].as_u64().unwrap();
    assert!((3_000..=5_000).contains(&remaining), "five times as long: {remaining}");
    // The third probe's result comes after the reopening: its call began before.
    let mut late =
        json!({"request_id": slots[2], "status": "success", "provider_id": "a", "tenant_id": "acme"});
    late["latency_ms"] = json!(20_000);
    let position = stage.caller.result(&late).await;
    stage.worker.applied(position).await;
    stage.state_is("acme", "a", "open").await;
    let reasons = stage.worker.metrics().await;
    assert_eq!(
        reasons.sum("router_circuit_breaker_trigger_reason_total", &[("reason", "half_open_failure")]),
        1.0
    );
}

fn pushed(tenant: &str, id: &str) -> Value {
    let mut asked = request(tenant, id);
    asked["push_assignment"] = json!(true);
    asked
}

async fn its_slot_is_free(stage: &Stage) {
    eventually("its slot is free", SOON, async || {
        let breaker = stage.caller.breaker("acme", "a").await;
        breaker["state"] == "half_open" && breaker["half_open_in_flight"] == 0
    })
    .await;
}

#[tokio::test]
async fn a_probe_that_cannot_be_pushed_gives_its_slot_back_at_once() {
    // Nothing ends by its time here: neither the lease, nor the one assignment that may be tracked.
    let stage = Stage::with(|l| {
        patient(l)
            .flag("--max-tracked-assignments", 1)
            .flag("--assignment-deadline-min-ms", 600_000)
            .flag("--assignment-deadline-max-ms", 600_000)
    })
    .await;
    let breaker = json!({"failure_threshold": 1, "probe_timeout_ms": 300_000, "half_open_max_calls": 1});
    stage.caller.put_policy("acme", &policy(breaker)).await;
    stage.caller.put_policy("busy", &policy(json!({}))).await;
    let _executor = stage.caller.listen("caf.exec.assign.v1").await;
    stage.caller.decided(&pushed("busy", "r-busy")).await;
    stage.fail("acme", "a", 1).await;
    for round in 0..3 {
        eventually("a probe's slot is granted, and the push refused", SOON, async || {
            let answer = stage.caller.decide(&pushed("acme", &format!("r-{round}"))).await;
            answer["error"]["code"] == "overloaded"
        })
        .await;
        its_slot_is_free(&stage).await;
    }
    assert_eq!(stage.caller.decided(&request("acme", "r-probe")).await["probe"], true);
    let granted = stage.worker.metrics().await.sum("router_claims_total", &[("outcome", "granted")]);
    assert_eq!(granted, 4.0);
}

#[tokio::test]
async fn a_probe_whose_assignment_nobody_receives_gives_its_slot_back_at_once() {
    let stage = Stage::with(patient).await;
    let breaker = json!({"failure_threshold": 1, "probe_timeout_ms": 300_000, "half_open_max_calls": 1});
    stage.caller.put_policy("acme", &policy(breaker)).await;
    stage.fail("acme", "a", 1).await;
    for round in 0..3 {
        eventually("a probe's slot is granted, and nobody receives the assignment", SOON, async || {
            let answer = stage.caller.decide(&pushed("acme", &format!("r-{round}"))).await;
            answer["error"]["code"] == "no_executor"
        })
        .await;
        its_slot_is_free(&stage).await;
    }
    assert_eq!(stage.caller.decided(&request("acme", "r-probe")).await["probe"], true);
}

#[tokio::test]
async fn a_probe_without_result_gives_its_slot_back() {
    let stage =
        with(json!({"failure_threshold": 1, "probe_timeout_ms": 1000, "half_open_max_calls": 1})).await;
    stage.fail("acme", "a", 1).await;
    take_slots(&stage, 1).await;
    eventually("the slot is free again", SOON, async || !probes(&ask_many(&stage, 1).await).is_empty()).await;
    stage.state_is("acme", "a", "half_open").await;
}

#[tokio::test]
async fn two_workers_see_the_same_and_share_the_slots() {
    let stage = with(json!({"failure_threshold": 5, "success_threshold": 2})).await;
    let second = Worker::start(&stage.broker, patient).await;
    let digests = async || {
        let end = stage.caller.log_end().await;
        let mut told = Vec::new();
        for worker in [&stage.worker, &second] {
            worker.applied(end).await;
            let metrics = worker.metrics().await;
            let position = metrics.value("router_log_position", &[]).unwrap();
            told.push((position, metrics.value("router_log_state_digest", &[]).unwrap()));
        }
        assert_eq!(told[0], told[1], "the same position, the same digest");
        told[0].1
    };
    let empty = digests().await;
    stage.fail("acme", "a", 1).await;
    let one = digests().await;
    stage.fail("acme", "a", 4).await;
    let open = digests().await;
    assert!(empty != one && one != open && empty != open);
    for worker in [&stage.worker, &second] {
        let state = worker.metrics().await.value("router_circuit_breaker_state", &[("state", "open")]);
        assert_eq!(state, Some(1.0));
    }
    assert!(probes(&ask_many(&stage, 20).await).is_empty(), "both refuse");
    let slots = take_slots(&stage, 3).await;
    digests().await;
    for slot in &slots[..2] {
        ended(&stage, slot, "success").await;
    }
    digests().await;
    for worker in [&stage.worker, &second] {
        let metrics = worker.metrics().await;
        assert_eq!(metrics.value("router_circuit_breaker_state", &[("state", "closed")]), Some(1.0));
        // What the log feeds is the same on both.
        let events = |kind| metrics.sum("router_circuit_breaker_events_total", &[("event_type", kind)]);
        assert_eq!((events("failure"), events("success")), (5.0, 2.0));
        assert_eq!(metrics.sum("router_circuit_breaker_state_transitions_total", &[]), 3.0);
        assert!(metrics.sum("router_decisions_total", &[]) > 0.0, "both answered");
    }
    // Each transition is once in the stream of events, though both told it.
    let mut events = stage.caller.jetstream.get_stream("BEAMLINE_EVENTS").await.unwrap();
    eventually("the transitions are kept", SOON, async || events.info().await.unwrap().state.messages == 4)
        .await;
}
