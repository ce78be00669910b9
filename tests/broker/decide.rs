//! A request and its reply: forms, headers, subjects.

use async_nats::HeaderMap;
use beamline_router::wire::proto;
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::{Answer, SOON, Stage, eventually, request};

const DECIDE: &str = "beamline.router.v1.decide";

fn typed(content_type: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", content_type);
    headers
}

fn route_request(tenant: &str, request_id: &str) -> proto::RouteRequest {
    proto::RouteRequest {
        message: Some(proto::Message {
            message_id: request_id.to_owned(),
            tenant_id: tenant.to_owned(),
            message_type: "text.generate".to_owned(),
            payload: b"\x00\x01 any bytes".to_vec(),
            ..proto::Message::default()
        }),
        ..proto::RouteRequest::default()
    }
}

fn decision(answer: &Answer) -> proto::RouteDecision {
    match proto::RouteReply::decode(answer.body.clone()).unwrap().reply {
        Some(proto::route_reply::Reply::Decision(decision)) => decision,
        other => panic!("{other:?}"),
    }
}

fn one_provider() -> Value {
    json!({"policy_id": "default", "providers": [{"name": "openai", "weight": 100}]})
}

#[tokio::test]
async fn a_json_request_is_answered_as_the_contract_shows_it() {
    let stage = Stage::start().await;
    let revision = stage.caller.put_policy("acme", &one_provider()).await;
    let mut asked = request("acme", "r-1");
    asked["trace_id"] = json!("t-1");
    let answer = stage.caller.ask(DECIDE, HeaderMap::new(), asked.to_string()).await;
    assert_eq!(
        answer.json(),
        json!({
            "ok": true,
            "decision": {
                "provider_id": "openai", "priority": 50, "expected_latency_ms": 0, "expected_cost": 0.0,
                "reason": "weighted", "policy_id": "default", "policy_revision": revision,
                "fallback_used": false, "probe": false
            },
            "context": {"request_id": "r-1", "trace_id": "t-1"}
        })
    );
    assert_eq!(answer.header("Nats-Service-Error"), None);
    assert_eq!(answer.header("Nats-Service-Error-Code"), None);
}

#[tokio::test]
async fn a_request_is_answered_in_the_form_it_came_in() {
    let stage = Stage::start().await;
    let revision = stage.caller.put_policy("acme", &one_provider()).await;
    let ask = async |headers, body: Vec<u8>| stage.caller.ask(DECIDE, headers, body).await;
    let json_body = || request("acme", "r-1").to_string().into_bytes();
    let proto_body = || route_request("acme", "r-1").encode_to_vec();

    for content_type in ["application/json", "Application/JSON; charset=utf-8"] {
        let answer = ask(typed(content_type), json_body()).await;
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.json()["decision"]["provider_id"], "openai");
    }
    for headers in [typed("application/protobuf"), HeaderMap::new()] {
        let answer = ask(headers, proto_body()).await;
        let decision = decision(&answer);
        assert_eq!(decision.provider_id, "openai");
        assert_eq!((decision.reason.as_str(), decision.priority), ("weighted", 50));
        assert_eq!(decision.policy_id, "default");
        assert_eq!(decision.policy_revision, i64::try_from(revision).unwrap());
        assert_eq!(decision.request_id, "r-1");
        assert!(!decision.fallback_used && !decision.probe);
    }
    // JSON that does not begin with a brace is known by its header only.
    let spaced = [b"\n ".to_vec(), json_body()].concat();
    assert_eq!(ask(typed("application/json"), spaced).await.json()["ok"], true);
    // The header's name in any letter case.
    let mut headers = HeaderMap::new();
    headers.insert("CONTENT-TYPE", "application/protobuf");
    assert_eq!(decision(&ask(headers, proto_body()).await).provider_id, "openai");
}

#[tokio::test]
async fn both_forms_carry_the_same_decision() {
    let stage = Stage::start().await;
    let policy = json!({
        "policy_id": "p", "sticky": {"enabled": true, "session_key": "user"},
        "providers": [{"name": "a", "weight": 50}, {"name": "b", "weight": 30}, {"name": "c", "weight": 20}]
    });
    stage.caller.put_policy("acme", &policy).await;
    for n in 0..20 {
        let id = format!("r-{n}");
        let mut plain = request("acme", &id);
        plain["policy_id"] = json!("p");
        let mut message = route_request("acme", &id);
        message.policy_id = "p".to_owned();
        if n % 2 == 0 {
            plain["context"] = json!({"user": format!("u-{n}")});
            message.context.insert("user".to_owned(), format!("u-{n}"));
        }
        let plain = stage.caller.decided(&plain).await;
        let answer = stage.caller.ask(DECIDE, typed("application/protobuf"), message.encode_to_vec()).await;
        let decision = decision(&answer);
        assert_eq!(plain["provider_id"], decision.provider_id);
        assert_eq!(plain["reason"], decision.reason);
        assert_eq!(plain["priority"], decision.priority);
        assert_eq!(plain["policy_revision"], decision.policy_revision);
        assert_eq!(plain["sticky_key"].as_str(), decision.sticky_key.as_deref());
    }
}

#[tokio::test]
async fn what_json_has_fields_for_stands_in_the_context_of_protobuf() {
    let stage = Stage::start().await;
    stage.caller.put_policy("acme", &one_provider()).await;
    let mut executor = stage.caller.listen("caf.exec.assign.v1.acme").await;
    let mut message = route_request("acme", "r-1");
    message.context =
        [("push_assignment", "true"), ("assignment_subject", "caf.exec.assign.v1.acme"), ("explain", "true")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
    message.message.as_mut().unwrap().metadata.insert("kept".to_owned(), "as it is".to_owned());
    let decision = decision(&stage.caller.ask(DECIDE, HeaderMap::new(), message.encode_to_vec()).await);
    let assignment = executor.next_json().await;
    assert_eq!(assignment["assignment_id"].as_str(), decision.assignment_id.as_deref());
    assert_eq!(assignment["job"], json!({"type": "text.generate", "payload_base64": "AAEgYW55IGJ5dGVz"}));
    assert_eq!(assignment["metadata"], json!({"kept": "as it is"}));
    let explanation: Value = serde_json::from_str(&decision.metadata["explanation"]).unwrap();
    assert_eq!(explanation["steps"][0]["result"], "allowed");
    message.context.insert("attempt".to_owned(), "first".to_owned());
    let answer = stage.caller.ask(DECIDE, HeaderMap::new(), message.encode_to_vec()).await;
    assert_eq!(answer.header("Nats-Service-Error-Code"), Some("400"));
    assert_eq!(executor.come().await.len(), 0);
}

#[tokio::test]
async fn the_tenant_may_stand_in_the_subject() {
    let stage = Stage::start().await;
    stage.caller.put_policy("acme", &one_provider()).await;
    let subject = "beamline.router.v1.tenant.acme.decide";
    let mut asked = request("acme", "r-1");
    let answer = stage.caller.ask(subject, HeaderMap::new(), asked.to_string()).await;
    assert_eq!(answer.json()["ok"], true, "the same tenant in both");
    asked.as_object_mut().unwrap().remove("tenant_id");
    let answer = stage.caller.ask(subject, HeaderMap::new(), asked.to_string()).await;
    assert_eq!(answer.json()["decision"]["provider_id"], "openai", "in the subject only");
    let mut message = route_request("", "r-2");
    message.message.as_mut().unwrap().tenant_id.clear();
    let answer = stage.caller.ask(subject, HeaderMap::new(), message.encode_to_vec()).await;
    assert_eq!(decision(&answer).provider_id, "openai", "in the subject only, as protobuf");
}

#[tokio::test]
async fn a_request_without_reply_subject_is_answered_once_at_the_default_one() {
    let stage = Stage::start().await;
    stage.caller.put_policy("acme", &one_provider()).await;
    let mut replies = stage.caller.listen("beamline.router.v1.decide.reply").await;
    let body = request("acme", "r-1").to_string();
    stage.caller.client.publish(DECIDE, body.into()).await.unwrap();
    assert_eq!(replies.next_json().await["context"]["request_id"], "r-1");
    // A refused one too.
    stage.caller.client.publish(DECIDE, "{}".into()).await.unwrap();
    assert_eq!(replies.next_json().await["error"]["code"], "invalid_request");
    // The default reply subject may be named, too.
    let body = request("acme", "r-2").to_string();
    stage
        .caller
        .client
        .publish_with_reply(DECIDE, "beamline.router.v1.decide.reply", body.into())
        .await
        .unwrap();
    assert_eq!(replies.next_json().await["context"]["request_id"], "r-2");
    // Nothing goes round: what the worker took is what was sent here.
    stage.caller.decided(&request("acme", "r-3")).await;
    assert_eq!(replies.come().await.len(), 0);
    assert_eq!(stage.worker.metrics().await.sum("router_decisions_total", &[]), 4.0);
}

#[tokio::test]
async fn what_is_itself_an_answer_is_never_answered() {
    let stage = Stage::start().await;
    stage.caller.put_policy("acme", &one_provider()).await;
    let mut replies = stage.caller.listen("_INBOX.here.*").await;
    let mut with_ok = request("acme", "r-ok");
    with_ok["ok"] = json!(true);
    let bodies = [
        stage.caller.decide(&request("acme", "r-1")).await,
        stage.caller.decide(&json!({"request_id": "r-2"})).await,
        json!({"ok": true}),
        json!({"ok": false, "error": {}}),
        with_ok,
    ];
    for (n, body) in bodies.iter().enumerate() {
        for headers in [HeaderMap::new(), typed("application/json"), typed("text/plain")] {
            stage
                .caller
                .client
                .publish_with_reply_and_headers(
                    DECIDE,
                    format!("_INBOX.here.{n}"),
                    headers,
                    body.to_string().into(),
                )
                .await
                .unwrap();
        }
    }
    // One connection is served in order: when this is answered, those before are done.
    stage.caller.decided(&request("acme", "r-9")).await;
    let answered: Vec<_> = replies.come().await.iter().map(|m| m.subject.to_string()).collect();
    assert!(answered.is_empty(), "answered: {answered:?}");
    // Nor where answers are told by default.
    let mut replies = stage.caller.listen("beamline.router.v1.decide.reply").await;
    for body in &bodies {
        stage.caller.client.publish(DECIDE, body.to_string().into()).await.unwrap();
    }
    stage.caller.decided(&request("acme", "r-10")).await;
    assert_eq!(replies.come().await.len(), 0);
}

#[tokio::test]
async fn a_reply_goes_to_inboxes_only_and_never_to_the_routers_own_subjects() {
    let stage = Stage::with(|l| l.flag("--reply-prefix", "my.replies")).await;
    let caller = &stage.caller;
    caller.put_policy("acme", &one_provider()).await;
    let before = stage.worker.metrics().await.sum("router_control_requests_total", &[]);
    let forbidden = [
        "beamline.router.control.v1.policy.delete",
        "beamline.router.v1.decide",
        "beamline.router.v1.events.x.y",
        "beamline.router.v1.log.x",
        "caf.exec.result.v1",
        "$JS.API.STREAM.DELETE.BEAMLINE_LOG",
        "anything.else",
        "_INBOXES.x",
    ];
    let mut heard = caller.listen(">").await;
    for reply in forbidden {
        let body = request("acme", "r-1").to_string();
        caller.client.publish_with_reply(DECIDE, reply, body.into()).await.unwrap();
    }
    // Control verbs have the same guard.
    let verb = "beamline.router.control.v1.policy.list";
    caller.client.publish_with_reply(verb, forbidden[0], "{}".into()).await.unwrap();
    caller.client.publish_with_reply(verb, "anything.else", "{}".into()).await.unwrap();

    eventually("all are counted", SOON, async || {
        let metrics = stage.worker.metrics().await;
        metrics.value("router_replies_dropped_total", &[]) == Some(10.0)
    })
    .await;
    let published: Vec<_> = heard.come().await;
    let by_the_router: Vec<_> =
        published.iter().filter(|m| forbidden.contains(&m.subject.as_str()) && m.reply.is_none()).collect();
    assert!(by_the_router.is_empty(), "{by_the_router:?}");
    let metrics = stage.worker.metrics().await;
    assert_eq!(metrics.sum("router_control_requests_total", &[]), before, "nothing reached control");
    assert_eq!(metrics.sum("router_decisions_total", &[]), 0.0, "nothing was decided");

    // The broker itself keeps clients from naming `_R_.`.
    for reply in ["_INBOX.a.b", "my.replies.1", "beamline.router.v1.decide.reply"] {
        let mut listener = caller.listen(reply).await;
        let body = request("acme", "r-1").to_string();
        caller.client.publish_with_reply(DECIDE, reply, body.into()).await.unwrap();
        assert_eq!(listener.next_json().await["ok"], true, "{reply}");
    }
}

#[tokio::test]
async fn a_reply_prefix_that_would_reach_the_router_is_no_setting() {
    let broker = crate::support::Broker::start().await;
    for prefix in ["beamline", "beamline.router.control", "caf.exec"] {
        let done = crate::support::cli(&broker, &["serve", "--reply-prefix", prefix]).await;
        assert_eq!(done.code, 2, "{prefix}: {done:?}");
        assert!(done.stderr.contains("--reply-prefix"), "{done:?}");
    }
}
