//! Decisions that the router pushes to an executor itself, and what becomes of them.

use std::time::Duration;

use async_nats::HeaderMap;
use serde_json::{Value, json};

use crate::support::{Answer, SOON, Stage, Worker, eventually, request};

const DECIDE: &str = "beamline.router.v1.decide";

fn policy() -> Value {
    json!({
        "policy_id": "default", "providers": [{"name": "a", "weight": 100}],
        "circuit_breaker": {"enabled": true, "failure_threshold": 5}
    })
}

fn pushed(request_id: &str) -> Value {
    let mut body = request("acme", request_id);
    body["push_assignment"] = json!(true);
    body
}

fn result(assignment_id: &Value, status: &str) -> Value {
    json!({
        "assignment_id": assignment_id, "request_id": "r-1", "status": status, "provider_id": "a",
        "tenant_id": "acme", "latency_ms": 20
    })
}

fn ack(assignment_id: &Value, status: &str) -> bytes::Bytes {
    json!({"assignment_id": assignment_id, "status": status, "message": "m"}).to_string().into()
}

#[tokio::test]
async fn an_assignment_is_published_as_the_contract_shows_it() {
    let stage = Stage::start().await;
    stage.caller.put_policy("acme", &policy()).await;
    let mut executor = stage.caller.listen("caf.exec.assign.v1").await;
    let mut asked = pushed("r-1");
    asked["trace_id"] = json!("t-1");
    asked["metadata"] = json!({"kept": [1, {"as": "it is"}]});
    let decision = stage.caller.decided(&asked).await;
    let message = executor.next().await;
    let id = decision["assignment_id"].as_str().unwrap();
    assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 4);
    let headers = message.headers.clone().unwrap();
    assert_eq!(headers.get("content-type").unwrap().as_str(), "application/json");
    assert_eq!(headers.get("Nats-Msg-Id").unwrap().as_str(), id);
    assert_eq!(
        Answer::of(message).json(),
        json!({
            "version": "1", "assignment_id": id, "request_id": "r-1", "tenant_id": "acme",
            "executor": {"provider_id": "a", "channel": "nats"},
            "job": {"type": "text.generate", "payload_ref": "s3://in/1"},
            "options": {"priority": 50, "deadline_ms": 5000, "retry": {"max_attempts": 2, "backoff_ms": 200}},
            "correlation": {"trace_id": "t-1"},
            "decision": {"provider_id": "a", "expected_latency_ms": 0, "expected_cost": 0.0, "reason": "weighted"},
            "metadata": {"kept": [1, {"as": "it is"}]}
        })
    );
    // Nothing is pushed that was not asked for, nor for a request that was refused.
    stage.caller.decided(&request("acme", "r-2")).await;
    let mut refused = pushed("r-3");
    refused["policy_id"] = json!("none");
    stage.caller.decide(&refused).await;
    assert_eq!(executor.come().await.len(), 0);
}

#[tokio::test]
async fn an_inline_payload_travels_as_it_came() {
    let stage = Stage::start().await;
    stage.caller.put_policy("acme", &policy()).await;
    let mut executor = stage.caller.listen("caf.exec.assign.v1").await;
    let mut asked = pushed("r-1");
    asked["task"] = json!({"type": "t", "payload": {"prompt": "é \"q\"", "n": 12345678901234567_u64}});
    stage.caller.decided(&asked).await;
    assert_eq!(executor.next_json().await["job"], asked["task"]);
}

#[tokio::test]
async fn the_callers_trace_context_is_passed_on() {
    let stage = Stage::start().await;
    stage.caller.put_policy("acme", &policy()).await;
    let mut executor = stage.caller.listen("caf.exec.assign.v1").await;
    let trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
    for (name, state) in
        [("traceparent", "tracestate"), ("Traceparent", "Tracestate"), ("TRACEPARENT", "TraceState")]
    {
        let mut headers = HeaderMap::new();
        headers.insert(name, format!("00-{trace_id}-00f067aa0ba902b7-01").as_str());
        headers.insert(state, "vendor=value");
        let body = pushed("r-1").to_string();
        assert_eq!(stage.caller.ask(DECIDE, headers, body).await.json()["ok"], true);
        let headers = executor.next().await.headers.unwrap();
        let parent = headers.get("traceparent").unwrap().as_str();
        assert!(parent.starts_with(&format!("00-{trace_id}-")) && parent.ends_with("-01"), "{parent}");
        assert_eq!(headers.get("tracestate").unwrap().as_str(), "vendor=value");
    }
    stage.caller.decided(&pushed("r-2")).await;
    assert!(executor.next().await.headers.unwrap().get("traceparent").is_none(), "there was none");
}

#[tokio::test]
async fn a_request_may_name_the_subjects_that_its_policy_lists_and_no_others() {
    let stage = Stage::with(|l| l.flag("--reconcile-interval-ms", 100)).await;
    let mut usual = stage.caller.listen("caf.exec.assign.v1").await;
    let mut own = stage.caller.listen("caf.exec.assign.v1.acme").await;
    let mut gpu = stage.caller.listen("caf.exec.assign.gpu.eu").await;
    let to = |subject: &str| {
        let mut asked = pushed("r-1");
        asked["assignment_subject"] = json!(subject);
        asked
    };
    stage.caller.put_policy("acme", &policy()).await;
    let id = stage.caller.decided(&to("caf.exec.assign.v1.acme")).await["assignment_id"].clone();
    assert_eq!(own.next_json().await["assignment_id"], id);
    let refused = |answer: Value| {
        assert_eq!(answer["error"]["code"], "invalid_request", "{answer}");
        let details = &answer["error"]["details"];
        assert_eq!(
            details,
            &json!({"field": "assignment_subject", "tenant_id": "acme", "policy_id": "default"})
        );
        assert!(answer["error"]["message"].as_str().unwrap().starts_with("assignment_subject is none of"));
    };
    for other in ["caf.exec.assign.gpu.eu", "caf.exec.assign.v1.globex"] {
        refused(stage.caller.decide(&to(other)).await);
    }

    let mut listed = policy();
    listed["assignment_subjects"] = json!(["caf.exec.assign.gpu.eu"]);
    stage.put_once_the_fold_has(3, "acme", &listed).await;
    let id = stage.caller.decided(&pushed("r-2")).await["assignment_id"].clone();
    assert_eq!(gpu.next_json().await["assignment_id"], id, "the first that is listed");
    let id = stage.caller.decided(&to("caf.exec.assign.gpu.eu")).await["assignment_id"].clone();
    assert_eq!(gpu.next_json().await["assignment_id"], id);
    refused(stage.caller.decide(&to("caf.exec.assign.v1")).await);
    assert_eq!(usual.come().await.len(), 0);
    for wrong in ["caf.exec.result.v1", "caf.exec.assign.v1.ack.acme", "caf.exec.assign.*"] {
        listed["assignment_subjects"] = json!([wrong]);
        let answer =
            stage.caller.control("policy.put", &json!({"tenant_id": "acme", "policy": listed})).await;
        let text = answer["error"]["details"].to_string();
        assert!(text.contains("/assignment_subjects"), "{wrong}: {answer}");
    }
}

#[tokio::test]
async fn a_list_of_subjects_waits_for_workers_that_know_it() {
    let stage = Stage::with(|l| l.flag("--fold-version", 2).flag("--reconcile-interval-ms", 100)).await;
    let mut listed = policy();
    listed["assignment_subjects"] = json!(["caf.exec.assign.gpu.eu"]);
    let answer = stage.caller.control("policy.put", &json!({"tenant_id": "acme", "policy": listed})).await;
    assert_eq!(answer["error"]["code"], "unavailable", "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    for named in ["assignment_subjects", "policy default", "tenant acme", "version 3"] {
        assert!(message.contains(named), "{message}");
    }
}

#[tokio::test]
async fn assignments_that_nobody_receives_are_no_evidence_about_the_provider() {
    let stage =
        Stage::with(|l| l.flag("--assignment-deadline-min-ms", 100).flag("--assignment-deadline-factor", 1))
            .await;
    stage.caller.put_policy("acme", &policy()).await;
    let mut events = stage.caller.listen("beamline.router.v1.events.assignment.>").await;
    for n in 0..12 {
        let answer = stage.caller.ask(DECIDE, HeaderMap::new(), pushed(&format!("r-{n}")).to_string()).await;
        assert_eq!(answer.header("Nats-Service-Error-Code"), Some("503"));
        let body = answer.json();
        assert_eq!(body["error"]["code"], "no_executor", "{body}");
        assert_eq!(body["error"]["details"]["subject"], "caf.exec.assign.v1");
        assert_eq!(body["error"]["details"]["provider_id"], "a");
        assert_eq!(body["context"]["request_id"], format!("r-{n}"));
    }
    // Their deadlines are over, and so is the time after a start in which none is reported.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let breaker = stage.caller.breaker("acme", "a").await;
    assert_eq!((&breaker["state"], &breaker["window_requests"]), (&json!("closed"), &json!(0)), "{breaker}");
    let metrics = stage.worker.metrics().await;
    assert_eq!(metrics.sum("router_assignments_total", &[("outcome", "no_executor")]), 12.0);
    assert_eq!(metrics.sum("router_assignments_total", &[]), 12.0);
    assert_eq!(metrics.sum("router_decisions_total", &[("outcome", "no_executor")]), 12.0);
    assert_eq!(metrics.value("router_assignments_in_flight", &[]), Some(0.0));
    let event = events.next_json().await;
    assert_eq!((&event["kind"], &event["change"]), (&json!("assignment"), &json!("no_executor")));
    for (field, value) in [("tenant_id", "acme"), ("provider_id", "a"), ("policy_id", "default")] {
        assert_eq!(event[field], value);
    }
    assert_eq!(stage.worker.events("assignment_without_executor").len(), 1, "one line stands for them");
    let mut executor = stage.caller.listen("caf.exec.assign.v1").await;
    let id = stage.caller.decided(&pushed("r-12")).await["assignment_id"].clone();
    assert_eq!(executor.next_json().await["assignment_id"], id);
}

#[tokio::test]
async fn an_acknowledgement_counts_for_its_own_tenants_assignments_only() {
    let stage = Stage::start().await;
    stage.caller.put_policy("acme", &policy()).await;
    let _executor = stage.caller.listen("caf.exec.assign.v1").await;
    let id = stage.caller.decided(&pushed("r-1")).await["assignment_id"].clone();
    let say = async |subject: &str, tenant: Value| {
        let mut body = json!({"assignment_id": id, "status": "rejected"});
        body["tenant_id"] = tenant;
        stage.caller.client.publish(subject.to_owned(), body.to_string().into()).await.unwrap();
    };
    say("caf.exec.assign.v1.ack.globex", Value::Null).await;
    say("caf.exec.assign.v1.ack.globex", json!("acme")).await;
    say("caf.exec.assign.v1.ack", json!("globex")).await;
    eventually("they are refused", SOON, async || {
        let metrics = stage.worker.metrics().await;
        metrics.sum("router_acks_refused_total", &[("reason", "tenant")]) == 3.0
    })
    .await;
    let line = &stage.worker.events("ack_refused")[0];
    assert_eq!(
        (&line["tenant_id"], &line["subject"]),
        (&json!("acme"), &json!("caf.exec.assign.v1.ack.globex"))
    );
    assert_eq!(stage.caller.breaker("acme", "a").await["failure_count"], 0);
    say("caf.exec.assign.v1.ack.acme", Value::Null).await;
    eventually("its own is judged", SOON, async || {
        stage.caller.breaker("acme", "a").await["failure_count"] == 1
    })
    .await;
}

#[tokio::test]
async fn where_tenant_assignments_are_required_all_stays_on_the_tenants_own_subjects() {
    let stage = Stage::with(|l| l.switch("--require-tenant-assignments")).await;
    let mut shared = stage.caller.listen("caf.exec.assign.v1").await;
    let mut own = stage.caller.listen("caf.exec.assign.v1.acme").await;
    stage.caller.put_policy("acme", &policy()).await;
    let id = stage.caller.decided(&pushed("r-1")).await["assignment_id"].clone();
    assert_eq!(own.next_json().await["assignment_id"], id);
    stage.caller.client.publish("caf.exec.assign.v1.ack", ack(&id, "rejected")).await.unwrap();
    eventually("it is refused", SOON, async || {
        let metrics = stage.worker.metrics().await;
        metrics.sum("router_acks_refused_total", &[("reason", "subject")]) == 1.0
    })
    .await;
    let mut asked = pushed("r-2");
    asked["assignment_subject"] = json!("caf.exec.assign.v1");
    assert_eq!(stage.caller.decide(&asked).await["error"]["code"], "invalid_request");
    stage.caller.client.publish("caf.exec.assign.v1.ack.acme", ack(&id, "rejected")).await.unwrap();
    eventually("its own is judged", SOON, async || {
        stage.caller.breaker("acme", "a").await["failure_count"] == 1
    })
    .await;
    // An id with a dot is no token of a subject.
    stage.caller.put_policy("a.b", &policy()).await;
    let mut asked = pushed("r-3");
    asked["tenant_id"] = json!("a.b");
    assert_eq!(stage.caller.decide(&asked).await["error"]["code"], "invalid_request");
    assert_eq!(shared.come().await.len(), 0);
}

#[tokio::test]
async fn one_tenants_flood_of_assignments_leaves_places_to_others() {
    let stage = Stage::with(|l| l.flag("--max-tracked-assignments", 50)).await;
    let _executor = stage.caller.listen("caf.exec.assign.v1").await;
    stage.caller.put_policy("acme", &policy()).await;
    stage.caller.put_policy("quiet", &policy()).await;
    let mut refused = 0;
    for n in 0..60 {
        let answer = stage.caller.decide(&pushed(&format!("r-{n}"))).await;
        refused += u32::from(answer["error"]["code"] == "overloaded");
    }
    assert_eq!(refused, 20, "four fifths are one tenant's share");
    for n in 0..8 {
        let mut asked = pushed(&format!("q-{n}"));
        asked["tenant_id"] = json!("quiet");
        stage.caller.decided(&asked).await;
    }
    let metrics = stage.worker.metrics().await;
    assert_eq!(metrics.sum("router_queue_refused_total", &[("queue", "assignments")]), 20.0);
}

#[tokio::test]
async fn the_deadline_follows_the_expected_latency_between_its_bounds() {
    let stage = Stage::start().await;
    let mut executor = stage.caller.listen("caf.exec.assign.v1").await;
    for (tenant, latency, deadline) in
        [("short", 100, 5_000), ("between", 2_000, 10_000), ("long", 50_000, 60_000)]
    {
        stage.caller.put_policy(tenant, &policy()).await;
        let mut outcome = result(&json!(format!("as-{tenant}")), "success");
        outcome["tenant_id"] = json!(tenant);
        outcome["latency_ms"] = json!(latency);
        let position = stage.caller.result(&outcome).await;
        stage.worker.applied(position).await;
        let mut asked = pushed("r-1");
        asked["tenant_id"] = json!(tenant);
        assert_eq!(stage.caller.decided(&asked).await["expected_latency_ms"], latency);
        assert_eq!(executor.next_json().await["options"]["deadline_ms"], deadline, "{tenant}");
    }
}

#[tokio::test]
async fn an_acknowledgement_of_refusal_counts_once_as_an_error() {
    let stage = Stage::start().await;
    // It hears the acknowledgements too, and leaves them to the one that pushed.
    let _second = Worker::start(&stage.broker, |l| l).await;
    let _executor = stage.caller.listen("caf.exec.assign.v1").await;
    stage.caller.put_policy("acme", &policy()).await;
    stage.worker.follows(&stage.caller).await;
    let mut failures = 0;
    for status in ["rejected", "error"] {
        let id = stage.caller.decided(&pushed("r-1")).await["assignment_id"].clone();
        stage.caller.client.publish("caf.exec.assign.v1.ack", ack(&id, "accepted")).await.unwrap();
        for _ in 0..2 {
            stage.caller.client.publish("caf.exec.assign.v1.ack", ack(&id, status)).await.unwrap();
        }
        failures += 1;
        eventually("the refusal is judged", SOON, async || {
            stage.caller.breaker("acme", "a").await["failure_count"] == failures
        })
        .await;
        // What the executor says afterwards is late, whatever it is.
        let position = stage.caller.result(&result(&id, "success")).await;
        stage.worker.applied(position).await;
        let breaker = stage.caller.breaker("acme", "a").await;
        assert_eq!(
            (&breaker["failure_count"], &breaker["window_requests"]),
            (&json!(failures), &json!(failures))
        );
    }
    let metrics = stage.worker.metrics().await;
    assert_eq!(metrics.sum("router_results_total", &[("status", "success"), ("disposition", "late")]), 2.0);
    // An acknowledgement of what nobody pushed is nobody's.
    let stranger = json!(uuid::Uuid::new_v4().to_string());
    stage.caller.client.publish("caf.exec.assign.v1.ack", ack(&stranger, "rejected")).await.unwrap();
    let id = stage.caller.decided(&pushed("r-9")).await["assignment_id"].clone();
    stage.caller.client.publish("caf.exec.assign.v1.ack", ack(&id, "rejected")).await.unwrap();
    eventually("the next one is judged", SOON, async || {
        stage.caller.breaker("acme", "a").await["failure_count"] == 3
    })
    .await;
}

#[tokio::test]
async fn a_result_in_time_ends_an_assignment_and_counts_once() {
    let stage = Stage::with(|l| l.flag("--assignment-deadline-min-ms", 1_000)).await;
    let _executor = stage.caller.listen("caf.exec.assign.v1").await;
    stage.caller.put_policy("acme", &policy()).await;
    let id = stage.caller.decided(&pushed("r-1")).await["assignment_id"].clone();
    let mut position = stage.caller.result(&result(&id, "error")).await;
    stage.worker.applied(position).await;
    // A second copy, and a refusal after it.
    position = stage.caller.result(&result(&id, "error")).await;
    stage.caller.client.publish("caf.exec.assign.v1.ack", ack(&id, "rejected")).await.unwrap();
    stage.worker.applied(position).await;
    eventually("nothing is awaited any more", SOON, async || {
        stage.worker.metrics().await.value("router_assignments_in_flight", &[]) == Some(0.0)
    })
    .await;
    let metrics = stage.worker.metrics().await;
    assert_eq!(metrics.sum("router_assignments_total", &[("outcome", "result")]), 1.0);
    assert_eq!(metrics.sum("router_assignments_total", &[]), 1.0);
    assert_eq!(metrics.sum("router_results_total", &[("disposition", "duplicate")]), 1.0);
    assert_eq!(stage.caller.breaker("acme", "a").await["failure_count"], 1);
}

#[tokio::test]
async fn an_assignment_without_result_by_its_deadline_is_a_timeout_and_its_result_late() {
    let settings = |l: crate::support::Launch| {
        l.flag("--assignment-deadline-min-ms", 100).flag("--assignment-deadline-factor", 1)
    };
    let stage = Stage::with(settings).await;
    let _second = Worker::start(&stage.broker, settings).await;
    let _executor = stage.caller.listen("caf.exec.assign.v1").await;
    stage.caller.put_policy("acme", &policy()).await;
    stage.worker.follows(&stage.caller).await;
    // Deadlines shortly after a time when the log did not move are not told, and the start may be one.
    let ids = eventually("a timeout is judged", Duration::from_secs(30), async || {
        let id = stage.caller.decided(&pushed("r-1")).await["assignment_id"].clone();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let breaker = stage.caller.breaker("acme", "a").await;
        (breaker["failure_count"] == 1).then_some(id)
    })
    .await;
    let position = stage.caller.result(&result(&ids, "success")).await;
    stage.worker.applied(position).await;
    let metrics = stage.worker.metrics().await;
    assert_eq!(metrics.sum("router_results_total", &[("status", "success"), ("disposition", "late")]), 1.0);
    let breaker = stage.caller.breaker("acme", "a").await;
    assert_eq!((&breaker["failure_count"], &breaker["window_requests"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn who_tracks_as_many_assignments_as_it_may_refuses_the_next() {
    let stage = Stage::with(|l| l.flag("--max-tracked-assignments", 2)).await;
    stage.caller.put_policy("acme", &policy()).await;
    let mut executor = stage.caller.listen("caf.exec.assign.v1").await;
    let first = stage.caller.decided(&pushed("r-1")).await["assignment_id"].clone();
    stage.caller.decided(&pushed("r-2")).await;
    let answer = stage.caller.ask(DECIDE, HeaderMap::new(), pushed("r-3").to_string()).await;
    assert_eq!(answer.json()["error"]["code"], "overloaded");
    assert_eq!(answer.json()["context"]["request_id"], "r-3");
    assert_eq!(answer.header("Nats-Service-Error-Code"), Some("429"));
    assert_eq!(executor.come().await.len(), 2, "what is refused is not pushed");
    assert_eq!(stage.caller.decided(&request("acme", "r-4")).await["provider_id"], "a", "others are served");
    let position = stage.caller.result(&result(&first, "success")).await;
    stage.worker.applied(position).await;
    stage.caller.decided(&pushed("r-5")).await;
}
