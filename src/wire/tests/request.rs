use serde_json::{Value, json};

use super::{RULES, decoded};
use crate::domain::{ErrorCode, Payload, Previous};
use crate::wire::{Content, Scratch, decode_request, is_answer};

fn plain() -> Value {
    json!({"version": "1", "request_id": "r-1", "tenant_id": "acme", "task": {"type": "text.generate", "payload_ref": "s3://b/k"}})
}

/// A plain request with some members replaced; a path of two goes into an object.
fn with(changes: &[(&str, Value)]) -> Vec<u8> {
    let mut body = plain();
    for (path, value) in changes {
        let (outer, inner) = path.split_once('.').map_or((*path, None), |(o, i)| (o, Some(i)));
        match inner {
            None => body[outer] = value.clone(),
            Some(inner) => body[outer][inner] = value.clone(),
        }
    }
    body.to_string().into_bytes()
}

#[test]
fn the_least_request_is_enough() {
    decoded(Content::Json, &with(&[]), |request| {
        let request = request.unwrap();
        assert_eq!(request.request_id, "r-1");
        assert_eq!(request.tenant_id, "acme");
        assert_eq!(request.policy_id, "default");
        assert_eq!(request.task_type, "text.generate");
        assert_eq!(request.payload, Payload::Reference("s3://b/k".into()));
        assert_eq!((request.trace_id, request.previous, request.push), (None, None, None));
        assert!(!request.explain);
    });
}

#[test]
fn a_full_request_is_read_whole() {
    let body = br#" {"version":"1","request_id":"r-1","tenant_id":"acme","policy_id":"canary","trace_id":"t-1","unknown":{"a":[1]},
        "task":{"type":"text.\u0067enerate","payload":{"prompt":"hi"},"else":1},
        "constraints":{"max_latency_ms":1500,"max_cost":0.25},
        "metadata":{"team":"x"},"context":{"user_id":"u-42","status":503,"attempt":3},
        "push_assignment":true,"assignment_subject":"caf.exec.assign.gpu.v1","explain":true} "#;
    decoded(Content::Json, body, |request| {
        let request = request.unwrap();
        assert_eq!(request.policy_id, "canary");
        assert_eq!(request.trace_id.as_deref(), Some("t-1"));
        assert_eq!(request.task_type, "text.generate");
        assert_eq!(request.payload, Payload::Json(r#"{"prompt":"hi"}"#));
        assert_eq!(request.constraints.max_latency_ms, Some(1500.0));
        assert_eq!(request.constraints.max_cost, Some(0.25));
        assert_eq!(request.metadata.get("team").as_deref(), Some("x"));
        assert_eq!(request.context.get("user_id").as_deref(), Some("u-42"));
        assert_eq!(request.previous, Some(Previous { status: "503".into(), attempt: 3 }));
        assert_eq!(request.push.unwrap().subject.as_deref(), Some("caf.exec.assign.gpu.v1"));
        assert!(request.explain);
    });
}

#[test]
fn null_is_as_good_as_absent() {
    let nulls = [
        "policy_id",
        "trace_id",
        "task.payload",
        "constraints",
        "metadata",
        "context",
        "push_assignment",
        "assignment_subject",
        "explain",
    ];
    let changes: Vec<_> = nulls.iter().map(|path| (*path, Value::Null)).collect();
    decoded(Content::Json, &with(&changes), |request| assert_eq!(request.unwrap().policy_id, "default"));
}

#[test]
fn an_attempt_after_another_is_the_second_at_least() {
    let attempt = |changes: &[(&str, Value)]| {
        decoded(Content::Json, &with(changes), |request| request.unwrap().previous.map(|p| p.attempt))
    };
    assert_eq!(attempt(&[("context.status", json!("timeout"))]), Some(2));
    assert_eq!(attempt(&[("context.status", json!("timeout")), ("context.attempt", json!(1))]), Some(2));
    assert_eq!(attempt(&[("context.status", json!("timeout")), ("context.attempt", json!(5))]), Some(5));
    assert_eq!(attempt(&[("context.attempt", json!(5))]), None);
}

#[test]
fn a_payload_of_any_kind_passes_through() {
    for payload in [json!({"a": 1}), json!([1, "x"]), json!("text"), json!(7), json!(false)] {
        let body = with(&[("task", json!({"type": "t", "payload": payload}))]);
        let want = payload.to_string();
        decoded(Content::Json, &body, |request| assert_eq!(request.unwrap().payload, Payload::Json(&want)));
    }
}

#[test]
fn every_wrong_field_is_named() {
    let long = "x".repeat(256);
    let cases: &[(&str, &str, Value)] = &[
        ("version", "version", Value::Null),
        ("version", "version", json!("2")),
        ("version", "version", json!(1)),
        ("request_id", "request_id", Value::Null),
        ("request_id", "request_id", json!("")),
        ("request_id", "request_id", json!("a b")),
        ("request_id", "request_id", json!("é")),
        ("request_id", "request_id", json!("x".repeat(129))),
        ("request_id", "request_id", json!(7)),
        ("tenant_id", "tenant_id", Value::Null),
        ("tenant_id", "tenant_id", json!("")),
        ("tenant_id", "tenant_id", json!("a/b")),
        ("tenant_id", "tenant_id", json!(long)),
        ("tenant_id", "tenant_id", json!({})),
        ("policy_id", "policy_id", json!("")),
        ("policy_id", "policy_id", json!("a b")),
        ("policy_id", "policy_id", json!(true)),
        ("trace_id", "trace_id", json!(long)),
        ("trace_id", "trace_id", json!("a\nb")),
        ("trace_id", "trace_id", json!(1)),
        ("task", "task", json!("text")),
        ("task", "task.type", Value::Null),
        ("task.type", "task.type", Value::Null),
        ("task.type", "task.type", json!("")),
        ("task.type", "task.type", json!("a\u{7}b")),
        ("task.type", "task.type", json!(long)),
        ("task.type", "task.type", json!(1)),
        ("task.payload_ref", "task.payload", Value::Null),
        ("task.payload", "task.payload", json!({"both": 1})),
        ("task.payload_ref", "task.payload_ref", json!("")),
        ("task.payload_ref", "task.payload_ref", json!({})),
        ("constraints", "constraints", json!([])),
        ("constraints.max_latency_ms", "constraints.max_latency_ms", json!(-1)),
        ("constraints.max_latency_ms", "constraints.max_latency_ms", json!("100")),
        ("constraints.max_cost", "constraints.max_cost", json!(-0.5)),
        ("constraints.max_cost", "constraints.max_cost", json!([1])),
        ("metadata", "metadata", json!("x")),
        ("metadata", "metadata", json!([1])),
        ("context", "context", json!(1)),
        ("context.status", "context.status", json!(true)),
        ("context.status", "context.status", json!("")),
        ("context.status", "context.status", json!(long)),
        ("context.attempt", "context.attempt", json!(0)),
        ("context.attempt", "context.attempt", json!(-1)),
        ("context.attempt", "context.attempt", json!(1.5)),
        ("context.attempt", "context.attempt", json!("2")),
        ("context.attempt", "context.attempt", json!(5_000_000_000_u64)),
        ("push_assignment", "push_assignment", json!("true")),
        ("push_assignment", "push_assignment", json!(1)),
        ("explain", "explain", json!(0)),
        ("assignment_subject", "assignment_subject", json!("")),
        ("assignment_subject", "assignment_subject", json!("caf.exec.assign.*")),
        ("assignment_subject", "assignment_subject", json!("caf.exec.assign.>")),
        ("assignment_subject", "assignment_subject", json!("caf.exec.assign.a..b")),
        ("assignment_subject", "assignment_subject", json!("caf.exec.assign.")),
        ("assignment_subject", "assignment_subject", json!("caf.exec.assign")),
        ("assignment_subject", "assignment_subject", json!("caf.exec.assign.a b")),
        ("assignment_subject", "assignment_subject", json!("caf.exec.assign.v1.ack")),
        ("assignment_subject", "assignment_subject", json!("beamline.router.control.v1.flag.set")),
        ("assignment_subject", "assignment_subject", json!(format!("caf.exec.assign.{long}"))),
        ("assignment_subject", "assignment_subject", json!(1)),
    ];
    for (path, field, value) in cases {
        decoded(Content::Json, &with(&[(path, value.clone())]), |request| {
            let refusal = request.expect_err(&format!("{path} = {value}"));
            assert_eq!(refusal.code, ErrorCode::InvalidRequest, "{path} = {value}");
            assert_eq!(refusal.field, Some(*field), "{path} = {value}");
            assert!(refusal.message.starts_with(field), "{}", refusal.message);
            assert!(refusal.message.len() < 200, "{}", refusal.message);
            if *path != "request_id" {
                assert_eq!(refusal.request_id.as_deref(), Some("r-1"), "{path} = {value}");
            }
        });
    }
}

#[test]
fn what_json_values_cannot_say_is_named_too() {
    let cases = [
        (r#"{"version":"1","request_id":"r-1","request_id":"r-2"}"#, "request_id"),
        (r#"{"version":"1","request_id":"r-1","task":{"type":"t"},"task":{"type":"t"}}"#, "task"),
        (r#"{"version":"1","request_id":"r-1","task":{"type":"t","\u0074ype":"t"}}"#, "task.type"),
        (r#"{"version":"1","request_id":"r-1","context":{"status":"a","status":"b"}}"#, "context.status"),
        (r#"{"version":"1","request_id":"r-1","context":{"\ud800":1}}"#, "context"),
        (r#"{"version":"1","request_id":"r-1","trace_id":"\udc00"}"#, "trace_id"),
        (
            r#"{"version":"1","request_id":"r-1","tenant_id":"a","task":{"type":"t","payload":1},"constraints":{"max_cost":1e999}}"#,
            "constraints.max_cost",
        ),
    ];
    for (body, field) in cases {
        decoded(Content::Json, body.as_bytes(), |request| {
            let refusal = request.unwrap_err();
            assert_eq!((refusal.field, refusal.request_id.as_deref()), (Some(field), Some("r-1")), "{body}");
        });
    }
}

#[test]
fn a_broken_body_still_echoes_what_stood_before_the_break() {
    let deep = format!(
        r#"{{"request_id":"r-1","trace_id":"t","task":{{"payload":{}1{}}}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    let cases: [(&[u8], &str); 6] = [
        (br#"{"request_id":"r-1","trace_id":"t","task":{"#, "is not JSON"),
        (br#"{"request_id":"r-1","trace_id":"t"} trailing"#, "is not JSON"),
        (br#"{"request_id":"r-1","trace_id":"t","x":nul}"#, "is not JSON"),
        (b"{\"request_id\":\"r-1\",\"trace_id\":\"t\",\"x\":\"\xff\"}", "is not UTF-8"),
        (deep.as_bytes(), "deeper than 127 levels"),
        (br#"{"trace_id":"t","request_id":"r-1","version":[]}"#, "version must be a string"),
    ];
    for (body, message) in cases {
        decoded(Content::Json, body, |request| {
            let refusal = request.unwrap_err();
            assert!(refusal.message.contains(message), "{}", refusal.message);
            assert_eq!(refusal.request_id.as_deref(), Some("r-1"), "{message}");
            assert_eq!(refusal.trace_id.as_deref(), Some("t"), "{message}");
        });
    }
}

#[test]
fn an_id_that_is_no_text_or_has_no_bound_is_not_echoed() {
    for id in [json!(7), json!({"a": 1}), json!("x".repeat(300)), json!("a\u{0}b"), json!("")] {
        decoded(Content::Json, &with(&[("request_id", id)]), |request| {
            assert_eq!(request.unwrap_err().request_id, None)
        });
    }
    decoded(Content::Json, &with(&[("request_id", json!("with space"))]), |request| {
        assert_eq!(request.unwrap_err().request_id.as_deref(), Some("with space"));
    });
}

#[test]
fn a_body_that_is_no_object_is_refused_without_repeating_it() {
    for body in [&b""[..], b"null", b"[1]", b"\"a secret\"", b"7", b"\xff\xfe"] {
        decoded(Content::Json, body, |request| {
            let refusal = request.unwrap_err();
            assert_eq!((refusal.code, refusal.field), (ErrorCode::InvalidRequest, None));
            assert!(!refusal.message.contains("secret"));
        });
    }
}

#[test]
fn the_subjects_tenant_stands_in_for_the_bodys_and_must_not_differ() {
    let mut scratch = Scratch::default();
    let body = with(&[("tenant_id", Value::Null)]);
    let request = decode_request(Content::Json, &body, Some("acme"), &RULES, &mut scratch).unwrap();
    assert_eq!(request.tenant_id, "acme");
    let body = with(&[]);
    assert!(decode_request(Content::Json, &body, Some("acme"), &RULES, &mut Scratch::default()).is_ok());
    let refusal =
        decode_request(Content::Json, &body, Some("other"), &RULES, &mut Scratch::default()).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::Unauthorized);
    assert_eq!(refusal.request_id.as_deref(), Some("r-1"));
    assert!(!refusal.message.contains("acme") && !refusal.message.contains("other"));
    let body = with(&[("tenant_id", Value::Null)]);
    let refusal =
        decode_request(Content::Json, &body, Some("a$b"), &RULES, &mut Scratch::default()).unwrap_err();
    assert_eq!((refusal.code, refusal.field), (ErrorCode::InvalidRequest, Some("tenant_id")));
}

#[test]
fn an_answer_is_known_by_its_ok() {
    assert!(is_answer(br#"{"ok":false,"error":{}}"#));
    assert!(is_answer(br#"{"context":{},"ok":true"#));
    assert!(!is_answer(br#"{"context":{"ok":true}}"#));
    assert!(!is_answer(&with(&[])));
    assert!(!is_answer(b"\x0a\xff"));
}
