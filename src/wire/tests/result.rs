use std::borrow::Cow;

use serde_json::{Value, json};

use super::{Raw, raw};
use crate::domain::{MAX_LATENCY_MS, Outcome, Status, identity_of};
use crate::wire::{AckStatus, Content, Reject, decode_ack, decode_result};

fn plain() -> Value {
    json!({"assignment_id": "a-1", "request_id": "r-1", "status": "success", "provider_id": "openai",
           "job": {"type": "text.generate", "metadata": {}}, "latency_ms": 850, "cost": 0.012, "trace_id": "t-1",
           "tenant_id": "acme", "timestamp": 1_706_371_200_000_u64, "error_code": null, "error_message": 17,
           "retry_after_ms": 2000, "unknown": [1]})
}

fn decode(changes: &[(&str, Value)], look: impl FnOnce(Result<Outcome<'_>, Reject>)) {
    let mut body = plain();
    for (key, value) in changes {
        body[*key] = value.clone();
    }
    look(decode_result(Content::Json, body.to_string().as_bytes(), None));
}

#[test]
fn a_full_result_is_read_whole_and_in_place() {
    let body = plain().to_string();
    let outcome = decode_result(Content::Json, body.as_bytes(), Some("acme")).unwrap();
    let want = Outcome {
        tenant_id: "acme".into(),
        provider_id: "openai".into(),
        request_id: Some("r-1".into()),
        assignment_id: Some("a-1".into()),
        status: Status::Success,
        latency_ms: Some(850),
        cost_nanos: Some(12_000_000),
        error_code: None,
        retry_after_ms: Some(2000),
        timestamp_ms: Some(1_706_371_200_000),
        job_type: Some("text.generate".into()),
        trace_id: Some("t-1".into()),
        identity: identity_of("acme", Some("a-1"), b""),
    };
    assert_eq!(outcome, want);
    assert!(matches!(outcome.provider_id, Cow::Borrowed(_)));
}

#[test]
fn a_result_of_raw_protobuf_fields_is_read() {
    let body = raw(&[
        (1, Raw::Bytes(b"a-1")),
        (2, Raw::Bytes(b"r-1")),
        (3, Raw::Bytes(b"timeout")),
        (4, Raw::Bytes(b"openai")),
        (5, Raw::Bytes(&raw(&[(1, Raw::Bytes(b"text.generate"))]))),
        (6, Raw::Varint(850)),
        (7, Raw::Double(0.012)),
        (8, Raw::Bytes(b"t-1")),
        (9, Raw::Bytes(b"acme")),
        (10, Raw::Varint(1_706_371_200_000)),
        (11, Raw::Bytes(b"rate_limited")),
        (12, Raw::Bytes(b"slow down")),
        (13, Raw::Varint(2000)),
        (14, Raw::Varint(1)),
    ]);
    let outcome = decode_result(Content::Protobuf, &body, None).unwrap();
    assert_eq!(
        (&*outcome.tenant_id, &*outcome.provider_id, outcome.status),
        ("acme", "openai", Status::Timeout)
    );
    assert_eq!((outcome.request_id.as_deref(), outcome.assignment_id.as_deref()), (Some("r-1"), Some("a-1")));
    assert_eq!((outcome.latency_ms, outcome.cost_nanos), (Some(850), Some(12_000_000)));
    assert_eq!((outcome.timestamp_ms, outcome.retry_after_ms), (Some(1_706_371_200_000), Some(2000)));
    assert_eq!(outcome.error_code.as_deref(), Some("rate_limited"));
    assert_eq!(
        (outcome.job_type.as_deref(), outcome.trace_id.as_deref()),
        (Some("text.generate"), Some("t-1"))
    );
}

#[test]
fn protobuf_defaults_are_absent_but_a_latency_of_zero_can_be_said() {
    let fields = || vec![(3, Raw::Bytes(b"success")), (4, Raw::Bytes(b"p")), (9, Raw::Bytes(b"t"))];
    let bare = raw(&fields());
    let outcome = decode_result(Content::Protobuf, &bare, None).unwrap();
    assert_eq!((outcome.latency_ms, outcome.cost_nanos, outcome.timestamp_ms), (None, None, None));
    assert_eq!((outcome.request_id, outcome.assignment_id, outcome.retry_after_ms), (None, None, None));
    assert_eq!(outcome.identity, identity_of("t", None, &bare));
    let mut zeros = fields();
    zeros.extend([(1, Raw::Bytes(b"")), (6, Raw::Varint(0)), (7, Raw::Double(0.0)), (10, Raw::Varint(0))]);
    let zeros = raw(&zeros);
    let outcome = decode_result(Content::Protobuf, &zeros, None).unwrap();
    assert_eq!((outcome.latency_ms, outcome.cost_nanos, outcome.timestamp_ms), (Some(0), Some(0), None));
    assert_eq!(outcome.identity, identity_of("t", None, &zeros));
    let negative = raw(&[
        (3, Raw::Bytes(b"error")),
        (4, Raw::Bytes(b"p")),
        (9, Raw::Bytes(b"t")),
        (6, Raw::Varint(u64::MAX)),
    ]);
    assert_eq!(decode_result(Content::Protobuf, &negative, None), Err(Reject::Latency));
}

#[test]
fn every_senseless_result_is_rejected_for_its_reason() {
    let long = json!("x".repeat(256));
    let cases = [
        ("tenant_id", Value::Null, Reject::Field("tenant_id")),
        ("tenant_id", json!("a b"), Reject::Field("tenant_id")),
        ("tenant_id", json!(1), Reject::Field("tenant_id")),
        ("provider_id", Value::Null, Reject::Field("provider_id")),
        ("provider_id", json!(""), Reject::Field("provider_id")),
        ("provider_id", json!("a/b"), Reject::Field("provider_id")),
        ("status", Value::Null, Reject::Status),
        ("status", json!("Success"), Reject::Status),
        ("status", json!("ok"), Reject::Status),
        ("status", json!(200), Reject::Status),
        ("latency_ms", json!(-1), Reject::Latency),
        ("latency_ms", json!(MAX_LATENCY_MS + 1), Reject::Latency),
        ("latency_ms", json!("850"), Reject::Latency),
        ("cost", json!(-0.1), Reject::Field("cost")),
        ("cost", json!(1.1e9), Reject::Field("cost")),
        ("cost", json!("free"), Reject::Field("cost")),
        ("retry_after_ms", json!(-1), Reject::Field("retry_after_ms")),
        ("retry_after_ms", json!("2s"), Reject::Field("retry_after_ms")),
        ("timestamp", json!(-1), Reject::Field("timestamp")),
        ("timestamp", json!("2024-01-27T16:00:00Z"), Reject::Field("timestamp")),
        ("request_id", json!("a b"), Reject::Field("request_id")),
        ("request_id", json!("x".repeat(129)), Reject::Field("request_id")),
        ("assignment_id", long.clone(), Reject::Field("assignment_id")),
        ("assignment_id", json!(7), Reject::Field("assignment_id")),
        ("job", json!("text.generate"), Reject::Field("job")),
        ("job", json!({"type": 1}), Reject::Field("job.type")),
        ("job", json!({"type": long}), Reject::Field("job.type")),
        ("trace_id", json!("a\nb"), Reject::Field("trace_id")),
        ("error_code", json!(["x"]), Reject::Field("error_code")),
    ];
    for (key, value, reason) in cases {
        decode(&[(key, value.clone())], |result| assert_eq!(result, Err(reason), "{key} = {value}"));
    }
    for body in [&b""[..], b"{", b"[]", b"null", b"{}x", b"\xff", br#"{"status":"success""#] {
        assert_eq!(decode_result(Content::Json, body, Some("t")), Err(Reject::Undecodable));
    }
    assert_eq!(decode_result(Content::Protobuf, b"\x0a\xff", None), Err(Reject::Undecodable));
    let doubled = br#"{"status":"success","status":"error","tenant_id":"t","provider_id":"p"}"#;
    assert_eq!(decode_result(Content::Json, doubled, None), Err(Reject::Field("status")));
}

#[test]
fn numbers_are_rounded_and_bounds_are_inclusive() {
    decode(&[("latency_ms", json!(849.6)), ("cost", json!(1e9))], |result| {
        let outcome = result.unwrap();
        assert_eq!((outcome.latency_ms, outcome.cost_nanos), (Some(850), Some(1_000_000_000_000_000_000)));
    });
    decode(&[("latency_ms", json!(MAX_LATENCY_MS)), ("error_code", json!(503))], |result| {
        let outcome = result.unwrap();
        assert_eq!((outcome.latency_ms, outcome.error_code.as_deref()), (Some(MAX_LATENCY_MS), Some("503")));
    });
}

#[test]
fn the_subjects_tenant_stands_in_for_the_bodys_and_must_not_differ() {
    let body = br#"{"status":"success","provider_id":"p"}"#;
    assert_eq!(decode_result(Content::Json, body, Some("acme")).unwrap().tenant_id, "acme");
    let body = br#"{"status":"success","provider_id":"p","tenant_id":"other"}"#;
    assert_eq!(decode_result(Content::Json, body, Some("acme")), Err(Reject::TenantMismatch));
}

#[test]
fn results_without_assignment_are_told_apart_by_their_bodies() {
    let identity = |body: &[u8]| decode_result(Content::Json, body, Some("t")).unwrap().identity;
    let first = identity(br#"{"status":"success","provider_id":"p","request_id":"1","assignment_id":""}"#);
    let second = identity(br#"{"status":"success","provider_id":"p","request_id":"2","assignment_id":""}"#);
    assert_ne!(first, second);
}

#[test]
fn an_acknowledgement_is_read_in_both_forms() {
    let json = br#"{"assignment_id":"a-1","status":"rejected","message":"full","tenant_id":"acme","acknowledged_at":1}"#;
    let protobuf = raw(&[
        (1, Raw::Bytes(b"a-1")),
        (2, Raw::Bytes(b"rejected")),
        (3, Raw::Bytes(b"full")),
        (4, Raw::Bytes(b"r-1")),
        (5, Raw::Bytes(b"t-1")),
        (6, Raw::Bytes(b"acme")),
        (7, Raw::Varint(1)),
    ]);
    let ack = decode_ack(Content::Json, json).unwrap();
    assert_eq!(ack, decode_ack(Content::Protobuf, &protobuf).unwrap());
    assert_eq!((&*ack.assignment_id, ack.status), ("a-1", AckStatus::Rejected));
    assert_eq!((ack.message.as_deref(), ack.tenant_id.as_deref()), (Some("full"), Some("acme")));
    assert!(ack.status.is_refusal());
    for (body, reason) in [
        (&br#"{"status":"accepted"}"#[..], Reject::Field("assignment_id")),
        (br#"{"assignment_id":"a b","status":"accepted"}"#, Reject::Field("assignment_id")),
        (br#"{"assignment_id":"a"}"#, Reject::Status),
        (br#"{"assignment_id":"a","status":"done"}"#, Reject::Status),
        (b"accepted", Reject::Undecodable),
    ] {
        assert_eq!(decode_ack(Content::Json, body), Err(reason));
    }
}
