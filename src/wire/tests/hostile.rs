//! No bytes make decoding panic, and what is refused can always be answered.

use proptest::prelude::*;
use prost::Message as _;

use super::decoded;
use crate::wire::{Content, decode_ack, decode_result, encode_error, proto};

const FORMS: [Content; 2] = [Content::Json, Content::Protobuf];

fn feed(body: &[u8]) {
    for content in FORMS {
        decoded(content, body, |request| match request {
            Ok(request) => {
                let _ = (request.context.get("user"), request.metadata.get("user"));
            }
            Err(refusal) => {
                let mut out = bytes::BytesMut::new();
                encode_error(content, &refusal.reply(), &mut out);
                assert!(!out.is_empty());
                assert!(out.len() < 4096, "a refusal must not be a megaphone");
            }
        });
        let _ = decode_result(content, body, Some("acme"));
        let _ = decode_ack(content, body);
    }
}

fn valid() -> impl Strategy<Value = Vec<u8>> {
    let message = proto::Message {
        message_id: "r-1".into(),
        tenant_id: "acme".into(),
        trace_id: "t-1".into(),
        message_type: "text.generate".into(),
        payload: b"work".to_vec(),
        metadata: [("user".to_owned(), "u-42".to_owned())].into(),
        timestamp_ms: 1,
    };
    let context = [("status", "503"), ("attempt", "2"), ("explain", "true")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let request =
        proto::RouteRequest { message: Some(message), policy_id: "p".into(), context }.encode_to_vec();
    let result = proto::ExecResult {
        status: "success".into(),
        provider_id: "p".into(),
        latency_ms: Some(1),
        cost: Some(0.5),
        job: Some(proto::Job { r#type: "t".into(), ..Default::default() }),
        ..Default::default()
    }
    .encode_to_vec();
    let json: &[u8] = br#"{"version":"1","request_id":"r-1","tenant_id":"acme","task":{"type":"t\n\u00e9","payload":{"a":[1,{}]}},
        "constraints":{"max_latency_ms":1e3,"max_cost":-0.1},"context":{"status":503,"attempt":2,"user":"\"\\"},
        "metadata":{"user":null},"push_assignment":true,"assignment_subject":"caf.exec.assign.v1","explain":false}"#;
    let outcome: &[u8] = br#"{"assignment_id":"a","status":"error","provider_id":"p","tenant_id":"acme","job":{"type":"t"},
        "latency_ms":8.5e2,"cost":0.012,"timestamp":1706371200000,"error_code":"\u0041","retry_after_ms":2000}"#;
    prop::sample::select(vec![request, result, json.to_vec(), outcome.to_vec()])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_bytes(body in prop::collection::vec(any::<u8>(), 0..200)) {
        feed(&body);
    }

    #[test]
    fn random_texts_that_look_like_json(body in "[{}\\[\\]\",:a-c0-9.e\\\\u -]{0,80}") {
        feed(body.as_bytes());
    }

    #[test]
    fn valid_bodies_with_a_few_bytes_changed(
        mut body in valid(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        body.truncate(cut.map_or(body.len(), |cut| cut.index(body.len())));
        feed(&body);
    }
}

#[test]
fn nesting_is_no_way_to_exhaust_the_stack() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        feed(deep.as_bytes());
        feed(format!(r#"{{"status":"success","provider_id":"p","job":{deep}}}"#).as_bytes());
        feed(format!(r#"{{"request_id":"r","metadata":{deep}}}"#).as_bytes());
    }
    feed(&b"\x0a".repeat(100_000));
}

#[test]
fn a_flood_of_members_costs_no_more_than_reading_it() {
    let many: String = (0..20_000).map(|n| format!("\"k{n}\":{n},")).collect();
    feed(format!(r#"{{{many}"request_id":"r"}}"#).as_bytes());
    let same = r#""request_id":"r","#.repeat(20_000);
    feed(format!(r#"{{{same}"version":"1"}}"#).as_bytes());
}
