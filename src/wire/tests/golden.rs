//! Every message that goes out, to the byte.

use std::collections::HashMap;
use std::fmt::Write as _;

use bytes::BytesMut;
use insta::assert_snapshot;
use prost::Message as _;
use serde_json::json;
use serde_json::value::to_raw_value;

use super::decoded;
use crate::domain::{
    Attributes, Constraints, Decision, ErrorCode, Outcome, Payload, Push, Reason, RouteRequest, Stamp, Status,
};
use crate::wire::*;

const DECISION: Decision<'static> = Decision {
    provider_id: "openai",
    reason: Reason::Weighted,
    expected_latency_ms: 850,
    expected_cost: 0.012,
    policy_id: "default",
    policy_revision: 7,
    sticky_key: None,
    assignment_id: None,
    probe: false,
    backoff_ms: None,
    stale: false,
};

fn written(write: impl FnOnce(&mut BytesMut)) -> String {
    let mut out = BytesMut::new();
    write(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

fn hex(write: impl FnOnce(&mut BytesMut)) -> String {
    let mut out = BytesMut::new();
    write(&mut out);
    out.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[test]
fn a_plain_decision() {
    let reply = DecisionReply { decision: &DECISION, explanation: None, request_id: "r-1", trace_id: None };
    assert_snapshot!(
        written(|out| encode_decision(Content::Json, &reply, out)),
        @r#"{"ok":true,"decision":{"provider_id":"openai","priority":50,"expected_latency_ms":850,"expected_cost":0.012,"reason":"weighted","policy_id":"default","policy_revision":7,"fallback_used":false,"probe":false},"context":{"request_id":"r-1"}}"#
    );
    assert_snapshot!(
        hex(|out| encode_decision(Content::Protobuf, &reply, out)),
        @"0a300a066f70656e616912087765696768746564183220d20629fa7e6abc7493883f3a0764656661756c7440077203722d31"
    );
}

#[test]
fn a_decision_with_all_there_is() {
    let decision = Decision {
        reason: Reason::CircuitBreakerFallback,
        sticky_key: Some("u-\"42\""),
        assignment_id: Some("9f1c"),
        probe: true,
        backoff_ms: Some(200),
        stale: true,
        expected_latency_ms: 0,
        expected_cost: 0.0,
        ..DECISION
    };
    let explanation = to_raw_value(&json!({"steps": []})).unwrap();
    let reply = DecisionReply {
        decision: &decision,
        explanation: Some(&explanation),
        request_id: "r-1",
        trace_id: Some("t-1"),
    };
    assert_snapshot!(
        written(|out| encode_decision(Content::Json, &reply, out)),
        @r#"{"ok":true,"decision":{"provider_id":"openai","priority":20,"expected_latency_ms":0,"expected_cost":0.0,"reason":"circuit_breaker_fallback","policy_id":"default","policy_revision":7,"fallback_used":true,"sticky_key":"u-\"42\"","assignment_id":"9f1c","probe":true,"backoff_ms":200,"stale":true,"explanation":{"steps":[]}},"context":{"request_id":"r-1","trace_id":"t-1"}}"#
    );
    assert_snapshot!(
        hex(|out| encode_decision(Content::Protobuf, &reply, out)),
        @"0a680a066f70656e61691218636972637569745f627265616b65725f66616c6c6261636b1814321b0a0b6578706c616e6174696f6e120c7b227374657073223a5b5d7d3a0764656661756c74400748015206752d223432225a0439663163600168c8017203722d317801"
    );
}

#[test]
fn replies_are_appended() {
    let mut out = BytesMut::from(&b"before"[..]);
    let reply = DecisionReply { decision: &DECISION, explanation: None, request_id: "r-1", trace_id: None };
    encode_decision(Content::Json, &reply, &mut out);
    assert!(out.starts_with(b"before{"));
}

#[test]
fn the_refusal_of_a_field() {
    let body =
        br#"{"version":"1","request_id":"r-1","trace_id":"t-1","tenant_id":"acme","task":{"type":""}}"#;
    decoded(Content::Json, body, |request| {
        let refusal = request.unwrap_err();
        assert_snapshot!(
            written(|out| encode_error(Content::Json, &refusal.reply(), out)),
            @r#"{"ok":false,"error":{"code":"invalid_request","message":"task.type must have 1 to 255 bytes","details":{"field":"task.type"}},"context":{"request_id":"r-1","trace_id":"t-1"}}"#
        );
    });
    decoded(Content::Json, b"{", |request| {
        let refusal = request.unwrap_err();
        assert_snapshot!(
            written(|out| encode_error(Content::Json, &refusal.reply(), out)),
            @r#"{"ok":false,"error":{"code":"invalid_request","message":"the body is not JSON: EOF while parsing an object at line 1 column 1"},"context":{}}"#
        );
    });
}

#[test]
fn the_fail_fast_reply() {
    let providers = [
        RefusedProvider { provider_id: "openai", state: "open", retry_after_ms: 1200 },
        RefusedProvider { provider_id: "anthropic", state: "half_open", retry_after_ms: 1000 },
    ];
    let reply = ErrorReply {
        code: ErrorCode::CircuitOpen,
        message: "every provider left was refused by its circuit breaker",
        details: Details::CircuitOpen(CircuitOpen { retry_after_ms: 1000, providers: &providers }),
        request_id: Some("r-1"),
        trace_id: None,
    };
    assert_snapshot!(
        written(|out| encode_error(Content::Json, &reply, out)),
        @r#"{"ok":false,"error":{"code":"circuit_open","message":"every provider left was refused by its circuit breaker","details":{"retry_after_ms":1000,"providers":[{"provider_id":"openai","state":"open","retry_after_ms":1200},{"provider_id":"anthropic","state":"half_open","retry_after_ms":1000}]}},"context":{"request_id":"r-1"}}"#
    );
    let mut out = BytesMut::new();
    encode_error(Content::Protobuf, &reply, &mut out);
    let Some(proto::route_reply::Reply::Error(said)) = proto::RouteReply::decode(out).unwrap().reply else {
        panic!("no error");
    };
    assert_eq!(
        (&*said.code, said.number, said.retry_after_ms, &*said.request_id),
        ("circuit_open", 503, Some(1000), "r-1")
    );
    assert_snapshot!(serde_json::to_string(&said.details).unwrap(), @r#"{"providers.0.provider_id":"openai","providers.0.retry_after_ms":"1200","providers.0.state":"open","providers.1.provider_id":"anthropic","providers.1.retry_after_ms":"1000","providers.1.state":"half_open"}"#);
}

#[test]
fn an_error_with_free_details() {
    let details = json!({"providers": [{"provider_id": "a", "excluded": true}], "limit": 1.5, "none": null});
    let reply = ErrorReply {
        code: ErrorCode::DecisionFailed,
        message: "constraints exclude every provider",
        details: Details::Value(&details),
        request_id: Some("r-1"),
        trace_id: None,
    };
    assert_snapshot!(
        written(|out| encode_error(Content::Json, &reply, out)),
        @r#"{"ok":false,"error":{"code":"decision_failed","message":"constraints exclude every provider","details":{"limit":1.5,"none":null,"providers":[{"excluded":true,"provider_id":"a"}]}},"context":{"request_id":"r-1"}}"#
    );
    assert_snapshot!(
        hex(|out| encode_error(Content::Protobuf, &reply, out)),
        @"1287010a0f6465636973696f6e5f6661696c656410a6031a22636f6e73747261696e7473206578636c7564652065766572792070726f7669646572220c0a056c696d69741203312e35221c0a1470726f7669646572732e302e6578636c75646564120474727565221c0a1770726f7669646572732e302e70726f76696465725f69641201613203722d31"
    );
}

#[test]
fn a_header_carries_an_error_in_one_short_line() {
    assert_eq!(service_error("task.type is required"), "task.type is required");
    assert_eq!(service_error("a\r\nNats-Msg-Id: b\0é"), "aNats-Msg-Id: b");
    assert_eq!(service_error(""), "error");
    assert_eq!(service_error(&"x".repeat(1000)).len(), 200);
}

fn request(payload: Payload<'static>, metadata: Attributes<'static>) -> RouteRequest<'static> {
    RouteRequest {
        request_id: "r-1".into(),
        tenant_id: "acme".into(),
        policy_id: "default".into(),
        task_type: "text.generate".into(),
        payload,
        trace_id: Some("t-1".into()),
        constraints: Constraints::default(),
        context: Attributes::Absent,
        metadata,
        previous: None,
        push: Some(Push { subject: None }),
        explain: false,
    }
}

#[test]
fn an_assignment() {
    let request =
        request(Payload::Reference("s3://b/k".into()), Attributes::Json(r#"{"team":"x", "n":[1]}"#));
    let assignment = Assignment {
        assignment_id: "9f1c",
        request: &request,
        decision: &DECISION,
        deadline_ms: 5000,
        retry: Retry::default(),
    };
    assert_snapshot!(
        written(|out| encode_assignment(&assignment, out)),
        @r#"{"version":"1","assignment_id":"9f1c","request_id":"r-1","tenant_id":"acme","executor":{"provider_id":"openai","channel":"nats"},"job":{"type":"text.generate","payload_ref":"s3://b/k"},"options":{"priority":50,"deadline_ms":5000,"retry":{"max_attempts":2,"backoff_ms":200}},"correlation":{"trace_id":"t-1"},"decision":{"provider_id":"openai","expected_latency_ms":850,"expected_cost":0.012,"reason":"weighted"},"metadata":{"team":"x", "n":[1]}}"#
    );
}

#[test]
fn an_assignments_payload_in_each_of_its_forms() {
    let map = HashMap::from([("team".to_owned(), "x".to_owned())]);
    let map: &'static HashMap<_, _> = Box::leak(Box::new(map));
    let job = |payload, metadata| {
        let request = RouteRequest { trace_id: None, ..request(payload, metadata) };
        let assignment = Assignment {
            assignment_id: "9f1c",
            request: &request,
            decision: &DECISION,
            deadline_ms: 5000,
            retry: Retry::default(),
        };
        let text = written(|out| encode_assignment(&assignment, out));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        format!("{} {} {}", value["job"], value["correlation"], value["metadata"])
    };
    assert_snapshot!(
        job(Payload::Json(r#"{"prompt":"hi"}"#), Attributes::Absent),
        @r#"{"payload":{"prompt":"hi"},"type":"text.generate"} {} {}"#
    );
    assert_snapshot!(
        job(Payload::Bytes(b"\x00\xff\x10"), Attributes::Map(map)),
        @r#"{"payload_base64":"AP8Q","type":"text.generate"} {} {"team":"x"}"#
    );
    for (bytes, want) in
        [(&b""[..], "\"\""), (b"f", "\"Zg==\""), (b"fo", "\"Zm8=\""), (b"foob", "\"Zm9vYg==\"")]
    {
        assert!(job(Payload::Bytes(bytes), Attributes::Absent).contains(want), "{want}");
    }
}

#[test]
fn a_usage_event() {
    let outcome = Outcome {
        tenant_id: "acme".into(),
        provider_id: "openai".into(),
        request_id: Some("r-1".into()),
        assignment_id: Some("9f1c".into()),
        status: Status::Success,
        latency_ms: Some(850),
        cost_nanos: Some(12_000_000),
        error_code: None,
        retry_after_ms: None,
        timestamp_ms: Some(1_706_371_200_000),
        job_type: Some("text.generate".into()),
        trace_id: Some("t-1".into()),
        identity: 0,
    };
    assert_snapshot!(
        written(|out| encode_usage(&outcome, Stamp(1), out)),
        @r#"{"version":"1","tenant_id":"acme","provider_id":"openai","event_type":"text.generate","latency_ms":850,"cost":0.012,"status":"success","trace_id":"t-1","timestamp":1706371200000,"assignment_id":"9f1c","request_id":"r-1"}"#
    );
    let bare = Outcome {
        request_id: None,
        assignment_id: None,
        latency_ms: None,
        cost_nanos: None,
        timestamp_ms: None,
        job_type: None,
        trace_id: None,
        status: Status::Timeout,
        ..outcome
    };
    assert_snapshot!(
        written(|out| encode_usage(&bare, Stamp(1_706_371_200_001), out)),
        @r#"{"version":"1","tenant_id":"acme","provider_id":"openai","status":"timeout","timestamp":1706371200001}"#
    );
}
