//! Every row of the error table, from bytes to reply.

use async_nats::HeaderMap;
use beamline_router::wire::proto;
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::{Answer, SOON, Stage, eventually, request};

const DECIDE: &str = "beamline.router.v1.decide";

/// An error reply in JSON: what the contract says of each of them, then its `error`.
fn refused(answer: &Answer, code: &str, number: &str, request_id: Option<&str>) -> Value {
    let body = answer.json();
    assert_eq!(body["ok"], false, "{body}");
    assert_eq!(body["error"]["code"], code, "{body}");
    let message = body["error"]["message"].as_str().unwrap();
    assert!(!message.is_empty());
    assert_eq!(body["context"]["request_id"].as_str(), request_id, "{body}");
    assert_eq!(answer.header("Nats-Service-Error"), Some(message));
    assert_eq!(answer.header("Nats-Service-Error-Code"), Some(number));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(body.get("decision").is_none());
    body["error"].clone()
}

async fn ask(stage: &Stage, body: impl ToString) -> Answer {
    stage.caller.ask(DECIDE, HeaderMap::new(), body.to_string()).await
}

/// A good request with one member set, or taken away by `null`.
fn changed(pointer: &str, value: Value) -> Value {
    let mut body = request("acme", "r-1");
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    if !parent.is_empty() && body.pointer(parent).is_none() {
        body[&parent[1..]] = json!({});
    }
    let parent = body.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Value::Null => parent.remove(key),
        value => parent.insert(key.to_owned(), value),
    };
    body
}

#[tokio::test]
async fn a_bad_field_is_named_and_the_request_id_echoed() {
    let stage = Stage::start().await;
    let policy = json!({"policy_id": "default", "providers": [{"name": "a", "weight": 1}]});
    stage.caller.put_policy("acme", &policy).await;
    let long = |n| Value::from("x".repeat(n));
    let cases = [
        ("/version", Value::Null, "version"),
        ("/version", json!("2"), "version"),
        ("/version", json!(1), "version"),
        ("/tenant_id", Value::Null, "tenant_id"),
        ("/tenant_id", json!(""), "tenant_id"),
        ("/tenant_id", json!("a b"), "tenant_id"),
        ("/tenant_id", json!("é"), "tenant_id"),
        ("/tenant_id", long(256), "tenant_id"),
        ("/tenant_id", json!(["acme"]), "tenant_id"),
        ("/policy_id", json!(""), "policy_id"),
        ("/policy_id", json!("a/b"), "policy_id"),
        ("/policy_id", json!(7), "policy_id"),
        ("/trace_id", json!("a b"), "trace_id"),
        ("/trace_id", json!({}), "trace_id"),
        ("/task", Value::Null, "task.type"),
        ("/task", json!("text"), "task"),
        ("/task", json!([]), "task"),
        ("/task/type", Value::Null, "task.type"),
        ("/task/type", json!(""), "task.type"),
        ("/task/type", json!(1), "task.type"),
        ("/task/type", long(256), "task.type"),
        ("/task/payload_ref", Value::Null, "task.payload"),
        ("/task/payload_ref", json!(""), "task.payload_ref"),
        ("/task/payload_ref", json!(1), "task.payload_ref"),
        ("/task/payload", json!({"both": 1}), "task.payload"),
        ("/constraints", json!(1), "constraints"),
        ("/constraints/max_latency_ms", json!(-1), "constraints.max_latency_ms"),
        ("/constraints/max_latency_ms", json!("1"), "constraints.max_latency_ms"),
        ("/constraints/max_cost", json!(-0.1), "constraints.max_cost"),
        ("/constraints/max_cost", json!(true), "constraints.max_cost"),
        ("/metadata", json!([1]), "metadata"),
        ("/context", json!("x"), "context"),
        ("/context/status", json!({}), "context.status"),
        ("/context/status", json!(""), "context.status"),
        ("/context/attempt", json!(0), "context.attempt"),
        ("/context/attempt", json!(1.5), "context.attempt"),
        ("/context/attempt", json!("2"), "context.attempt"),
        ("/push_assignment", json!("yes"), "push_assignment"),
        ("/push_assignment", json!(1), "push_assignment"),
        ("/assignment_subject", json!(1), "assignment_subject"),
        ("/assignment_subject", json!("caf.exec.result.v1"), "assignment_subject"),
        ("/assignment_subject", json!("caf.exec.assign.*"), "assignment_subject"),
        ("/assignment_subject", json!("caf.exec.assign.>"), "assignment_subject"),
        ("/assignment_subject", json!("caf.exec.assign."), "assignment_subject"),
        ("/assignment_subject", json!("caf.exec.assign.a b"), "assignment_subject"),
        ("/assignment_subject", json!("caf.exec.assign.v1.ack"), "assignment_subject"),
        ("/explain", json!("true"), "explain"),
    ];
    for (pointer, value, field) in cases {
        let body = changed(pointer, value);
        let answer = ask(&stage, &body).await;
        let error = refused(&answer, "invalid_request", "400", Some("r-1"));
        assert_eq!(error["details"]["field"], field, "{body}");
        assert!(error["message"].as_str().unwrap().contains(field), "{body}: {error}");
    }
    for (id, echoed) in [
        (Value::Null, None),
        (json!(""), None),
        (json!(7), None),
        (json!("a b"), Some("a b")),
        (json!("x".repeat(129)), Some("x".repeat(129).as_str())),
    ] {
        let answer = ask(&stage, changed("/request_id", id)).await;
        let error = refused(&answer, "invalid_request", "400", echoed);
        assert_eq!(error["details"]["field"], "request_id");
    }
    let metrics = stage.worker.metrics().await;
    let refused = metrics.sum("router_decisions_total", &[("outcome", "invalid_request")]);
    assert_eq!(refused, metrics.sum("router_decisions_total", &[]), "none of these was decided");
}

#[tokio::test]
async fn a_field_that_may_hold_anything_is_taken() {
    let stage = Stage::start().await;
    let policy = json!({"policy_id": "default", "providers": [{"name": "a", "weight": 1}]});
    stage.caller.put_policy("acme", &policy).await;
    for (pointer, value) in [
        ("/unknown", json!({"from": "the future"})),
        ("/trace_id", json!("")),
        ("/request_id", json!("!~".repeat(64))),
        ("/constraints", json!({})),
        ("/constraints/max_cost", json!(0)),
        ("/context/status", json!(503)),
        ("/context/attempt", json!(4_000_000_000_u32)),
        ("/metadata", json!({"a": {"b": [1, null, "\u{0}"]}})),
        ("/explain", json!(true)),
        ("/push_assignment", json!(false)),
        ("/assignment_subject", json!("caf.exec.assign.mine")),
    ] {
        let answer = stage.caller.decide(&changed(pointer, value)).await;
        assert_eq!(answer["ok"], true, "{pointer}: {answer}");
    }
}

#[tokio::test]
async fn what_is_not_decodable_is_refused_and_an_id_that_can_be_read_echoed() {
    let stage = Stage::start().await;
    let typed = |content_type: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", content_type);
        headers
    };
    for (body, echoed) in [
        ("{", None),
        ("{\"request_id\": \"r-1\", \"task\":", Some("r-1")),
        ("{\"request_id\": \"r-1\"} x", Some("r-1")),
        ("{\"request_id\": \"r-1\", \"request_id\": \"r-1\"}", Some("r-1")),
    ] {
        let answer = ask(&stage, body).await;
        refused(&answer, "invalid_request", "400", echoed);
    }
    let answer = stage.caller.ask(DECIDE, typed("application/json"), "[1]").await;
    refused(&answer, "invalid_request", "400", None);
    let answer = stage.caller.ask(DECIDE, typed("application/json"), "").await;
    refused(&answer, "invalid_request", "400", None);
    let answer = stage.caller.ask(DECIDE, typed("text/xml"), "{\"request_id\": \"r-1\"}").await;
    let error = refused(&answer, "invalid_request", "400", Some("r-1"));
    assert_eq!(error["details"]["field"], "content-type");

    // As protobuf, answered as protobuf.
    for body in [&b""[..], b"\xff\xff\xff", b"\x0a\x05ab"] {
        let answer = stage.caller.ask(DECIDE, HeaderMap::new(), body.to_vec()).await;
        let error = protobuf_error(&answer);
        assert_eq!((error.code.as_str(), error.number), ("invalid_request", 400));
        assert_eq!(answer.header("Nats-Service-Error-Code"), Some("400"));
    }
    let message = proto::Message { message_id: "r-1".to_owned(), ..proto::Message::default() };
    let body = proto::RouteRequest { message: Some(message), ..proto::RouteRequest::default() };
    let error = protobuf_error(&stage.caller.ask(DECIDE, HeaderMap::new(), body.encode_to_vec()).await);
    assert_eq!(error.details["field"], "message.tenant_id");
    assert_eq!(error.request_id, "r-1");
}

fn protobuf_error(answer: &Answer) -> proto::RouteError {
    assert_eq!(answer.header("content-type"), Some("application/protobuf"));
    match proto::RouteReply::decode(answer.body.clone()).unwrap().reply {
        Some(proto::route_reply::Reply::Error(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_tenant_that_differs_from_the_subjects_is_unauthorized() {
    let stage = Stage::start().await;
    let policy = json!({"policy_id": "default", "providers": [{"name": "a", "weight": 1}]});
    for tenant in ["acme", "other"] {
        stage.caller.put_policy(tenant, &policy).await;
    }
    let subject = "beamline.router.v1.tenant.acme.decide";
    let answer = stage.caller.ask(subject, HeaderMap::new(), request("other", "r-1").to_string()).await;
    refused(&answer, "unauthorized", "401", Some("r-1"));
    let message = proto::Message {
        message_id: "r-1".to_owned(),
        tenant_id: "other".to_owned(),
        message_type: "t".to_owned(),
        payload: vec![1],
        ..proto::Message::default()
    };
    let body = proto::RouteRequest { message: Some(message), ..proto::RouteRequest::default() };
    let error = protobuf_error(&stage.caller.ask(subject, HeaderMap::new(), body.encode_to_vec()).await);
    assert_eq!((error.code.as_str(), error.number), ("unauthorized", 401));
}

#[tokio::test]
async fn the_plain_subject_is_unauthorized_where_the_tenants_own_is_required() {
    let stage = Stage::with(|l| l.switch("--require-tenant-subject")).await;
    let policy = json!({"policy_id": "default", "providers": [{"name": "a", "weight": 1}]});
    stage.caller.put_policy("acme", &policy).await;
    let body = request("acme", "r-1").to_string();
    let answer = stage.caller.ask(DECIDE, HeaderMap::new(), body.clone()).await;
    refused(&answer, "unauthorized", "401", Some("r-1"));
    let answer = stage.caller.ask("beamline.router.v1.tenant.acme.decide", HeaderMap::new(), body).await;
    assert_eq!(answer.json()["ok"], true);
}

#[tokio::test]
async fn a_policy_that_the_tenant_does_not_have_is_not_found() {
    let stage = Stage::start().await;
    let policy = json!({"policy_id": "mine", "providers": [{"name": "a", "weight": 1}]});
    stage.caller.put_policy("acme", &policy).await;
    let answer = ask(&stage, request("acme", "r-1")).await;
    refused(&answer, "policy_not_found", "404", Some("r-1"));
    let answer = ask(&stage, changed("/policy_id", json!("other"))).await;
    refused(&answer, "policy_not_found", "404", Some("r-1"));
    let mut body = request("stranger", "r-2");
    body["policy_id"] = json!("mine");
    refused(&ask(&stage, body).await, "policy_not_found", "404", Some("r-2"));
    assert_eq!(ask(&stage, changed("/policy_id", json!("mine"))).await.json()["ok"], true);
}

#[tokio::test]
async fn without_a_candidate_left_by_breakers_the_circuit_is_open() {
    let stage = Stage::start().await;
    let policy = json!({
        "policy_id": "default", "providers": [{"name": "a", "weight": 60}, {"name": "b", "weight": 40}],
        "circuit_breaker": {"enabled": true, "failure_threshold": 2, "timeout_ms": 60000}
    });
    stage.caller.put_policy("acme", &policy).await;
    for provider in ["a", "b"] {
        stage.fail("acme", provider, 2).await;
        stage.state_is("acme", provider, "open").await;
    }
    let answer = ask(&stage, request("acme", "r-1")).await;
    let error = refused(&answer, "circuit_open", "503", Some("r-1"));
    let details = &error["details"];
    let told = details["providers"].as_array().unwrap();
    let mut names: Vec<_> = told.iter().map(|p| p["provider_id"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "b"]);
    let waits: Vec<u64> = told.iter().map(|p| p["retry_after_ms"].as_u64().unwrap()).collect();
    assert!(told.iter().all(|p| p["state"] == "open"), "{details}");
    assert!(waits.iter().all(|w| (50_000..=60_000).contains(w)), "{details}");
    assert_eq!(details["retry_after_ms"].as_u64(), waits.iter().copied().min());

    let message = proto::Message {
        message_id: "r-2".to_owned(),
        tenant_id: "acme".to_owned(),
        message_type: "t".to_owned(),
        payload: vec![1],
        ..proto::Message::default()
    };
    let body = proto::RouteRequest { message: Some(message), ..proto::RouteRequest::default() };
    let error = protobuf_error(&stage.caller.ask(DECIDE, HeaderMap::new(), body.encode_to_vec()).await);
    assert_eq!((error.code.as_str(), error.number), ("circuit_open", 503));
    assert!(error.retry_after_ms.is_some_and(|ms| ms > 50_000), "{error:?}");
    assert_eq!(error.details["providers.0.state"], "open");
}

#[tokio::test]
async fn constraints_that_exclude_every_candidate_fail_the_decision() {
    let stage = Stage::start().await;
    let policy = json!({"policy_id": "default", "providers": [{"name": "a", "weight": 60}, {"name": "b", "weight": 40}]});
    stage.caller.put_policy("acme", &policy).await;
    let mut last = 0;
    for provider in ["a", "b"] {
        let result = json!({
            "request_id": "x", "status": "success", "provider_id": provider, "tenant_id": "acme",
            "latency_ms": 900, "cost": 0.5
        });
        last = stage.caller.result(&result).await;
    }
    stage.worker.applied(last).await;
    let answer = ask(&stage, changed("/constraints/max_latency_ms", json!(899.5))).await;
    let error = refused(&answer, "decision_failed", "422", Some("r-1"));
    let text = error["details"].to_string();
    for part in ["\"a\"", "\"b\"", "max_latency_ms"] {
        assert!(text.contains(part), "which and why: {text}");
    }
    let answer = ask(&stage, changed("/constraints/max_cost", json!(0.4))).await;
    assert!(
        refused(&answer, "decision_failed", "422", Some("r-1"))["details"].to_string().contains("max_cost")
    );
    for (pointer, most) in [("/constraints/max_latency_ms", 900.0), ("/constraints/max_cost", 0.5)] {
        assert_eq!(ask(&stage, changed(pointer, json!(most))).await.json()["ok"], true, "{pointer} {most}");
    }
}

#[tokio::test]
async fn a_request_that_waited_too_long_in_the_worker_is_overloaded() {
    let stage = Stage::with(|l| l.flag("--max-queue-ms", 1).flag("--max-request-bytes", "1MiB")).await;
    let policy = json!({"policy_id": "default", "providers": [{"name": "a", "weight": 1}]});
    stage.caller.put_policy("acme", &policy).await;
    let mut replies = stage.caller.listen("_INBOX.flood.*").await;
    let inflated = "x".repeat(100_000);
    let mut body = request("acme", "r-1");
    body["task"] = json!({"type": "t", "payload": inflated});
    let body = bytes::Bytes::from(body.to_string());
    // What arrives in one piece is stamped in one piece: the last of many wait for the first.
    eventually("one is refused", SOON, async || {
        for n in 0..200 {
            let reply = format!("_INBOX.flood.{n}");
            stage.caller.client.publish_with_reply(DECIDE, reply, body.clone()).await.unwrap();
        }
        for _ in 0..200 {
            let answer = Answer::of(replies.next().await);
            if answer.json()["ok"] == false {
                refused(&answer, "overloaded", "429", Some("r-1"));
                return true;
            }
        }
        false
    })
    .await;
}
