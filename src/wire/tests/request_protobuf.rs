use std::collections::HashMap;

use prost::Message as _;

use super::{Raw, decoded, raw};
use crate::domain::Payload;
use crate::wire::{Content, proto};

fn protobuf(change: impl FnOnce(&mut proto::RouteRequest, &mut proto::Message)) -> Vec<u8> {
    let mut message = proto::Message {
        message_id: "r-1".into(),
        tenant_id: "acme".into(),
        message_type: "text.generate".into(),
        payload: b"work".to_vec(),
        ..Default::default()
    };
    let mut request = proto::RouteRequest::default();
    change(&mut request, &mut message);
    request.message = Some(message);
    request.encode_to_vec()
}

#[test]
fn a_protobuf_request_of_raw_fields_is_read() {
    let message = raw(&[
        (1, Raw::Bytes(b"r-1")),
        (2, Raw::Bytes(b"acme")),
        (3, Raw::Bytes(b"t-1")),
        (4, Raw::Bytes(b"text.generate")),
        (5, Raw::Bytes(b"\x00\xff")),
        (6, Raw::Bytes(&raw(&[(1, Raw::Bytes(b"team")), (2, Raw::Bytes(b"x"))]))),
        (7, Raw::Varint(1_706_371_200_000)),
        (99, Raw::Bytes(b"from the future")),
    ]);
    let body = raw(&[
        (1, Raw::Bytes(&message)),
        (2, Raw::Bytes(b"canary")),
        (3, Raw::Bytes(&raw(&[(1, Raw::Bytes(b"user_id")), (2, Raw::Bytes(b"u-42"))]))),
    ]);
    decoded(Content::Protobuf, &body, |request| {
        let request = request.unwrap();
        assert_eq!(
            (&*request.request_id, &*request.tenant_id, &*request.policy_id),
            ("r-1", "acme", "canary")
        );
        assert_eq!(request.trace_id.as_deref(), Some("t-1"));
        assert_eq!(request.task_type, "text.generate");
        assert_eq!(request.payload, Payload::Bytes(b"\x00\xff"));
        assert_eq!(request.metadata.get("team").as_deref(), Some("x"));
        assert_eq!(request.context.get("user_id").as_deref(), Some("u-42"));
    });
}

#[test]
fn every_wrong_protobuf_field_is_named() {
    type Change = fn(&mut proto::RouteRequest, &mut proto::Message);
    let key = |key: &str, value: &str| HashMap::from([(key.to_owned(), value.to_owned())]);
    let plain: &[(&str, Change)] = &[
        ("message.message_id", |_, m| m.message_id.clear()),
        ("message.message_id", |_, m| m.message_id = "a b".into()),
        ("message.tenant_id", |_, m| m.tenant_id.clear()),
        ("message.tenant_id", |_, m| m.tenant_id = "a/b".into()),
        ("message.trace_id", |_, m| m.trace_id = "a b".into()),
        ("message.message_type", |_, m| m.message_type.clear()),
        ("message.message_type", |_, m| m.message_type = "\n".into()),
        ("message.payload", |_, m| m.payload.clear()),
        ("policy_id", |r, _| r.policy_id = "a b".into()),
    ];
    for (field, change) in plain {
        decoded(Content::Protobuf, &protobuf(change), |request| {
            assert_eq!(request.unwrap_err().field, Some(*field))
        });
    }
    let context = [
        ("message.payload", "payload_ref", "s3://b/k"),
        ("context.constraints.max_latency_ms", "constraints.max_latency_ms", "soon"),
        ("context.constraints.max_latency_ms", "constraints.max_latency_ms", "-1"),
        ("context.constraints.max_cost", "constraints.max_cost", "inf"),
        ("context.constraints.max_cost", "constraints.max_cost", "NaN"),
        ("context.status", "status", "a\tb"),
        ("context.attempt", "attempt", "0"),
        ("context.attempt", "attempt", "+2"),
        ("context.attempt", "attempt", "two"),
        ("context.push_assignment", "push_assignment", "yes"),
        ("context.explain", "explain", "1"),
        ("context.assignment_subject", "assignment_subject", "beamline.router.v1.log.x"),
    ];
    for (field, name, value) in context {
        let body = protobuf(|request, _| request.context = key(name, value));
        decoded(Content::Protobuf, &body, |request| {
            let refusal = request.unwrap_err();
            assert_eq!(
                (refusal.field, refusal.request_id.as_deref()),
                (Some(field), Some("r-1")),
                "{name}={value}"
            );
        });
    }
}

#[test]
fn a_broken_protobuf_body_still_echoes_the_ids() {
    let message = raw(&[(1, Raw::Bytes(b"r-1")), (3, Raw::Bytes(b"t")), (4, Raw::Bytes(b"\xff"))]);
    let whole = raw(&[(1, Raw::Bytes(&message)), (2, Raw::Bytes(b"\xff"))]);
    for body in [&whole[..], &whole[..whole.len() - 1]] {
        decoded(Content::Protobuf, body, |request| {
            let refusal = request.unwrap_err();
            assert_eq!(refusal.field, None);
            assert_eq!(
                (refusal.request_id.as_deref(), refusal.trace_id.as_deref()),
                (Some("r-1"), Some("t"))
            );
        });
    }
    decoded(Content::Protobuf, b"", |request| {
        assert_eq!(request.unwrap_err().field, Some("message.tenant_id"))
    });
}

#[test]
fn a_protobuf_body_that_ends_too_soon_echoes_the_ids_that_came_whole() {
    let body = protobuf(|request, message| {
        message.message_id = "r-1".into();
        message.trace_id = "t-1".into();
        request.policy_id = "p".into();
    });
    let id_ends = body.windows(3).position(|w| w == b"r-1").unwrap() + 3;
    let trace_ends = body.windows(3).position(|w| w == b"t-1").unwrap() + 3;
    assert!(id_ends < trace_ends);
    for end in 0..body.len() {
        decoded(Content::Protobuf, &body[..end], |request| {
            // What happens to end between two fields is a request that lacks some.
            let Err(refusal) = request else { return };
            let want = (end >= id_ends).then_some("r-1");
            assert_eq!(refusal.request_id.as_deref(), want, "{end} of {}", body.len());
            assert_eq!(refusal.trace_id.as_deref(), (end >= trace_ends).then_some("t-1"), "{end}");
        });
    }
}
