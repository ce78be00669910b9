//! JSON and protobuf are two ways to say one thing.

use std::collections::{BTreeMap, HashMap};

use proptest::option;
use proptest::prelude::*;
use prost::Message as _;
use serde_json::json;

use super::{RULES, decoded};
use crate::domain::{Attributes, Decision, Payload, Reason, RouteRequest, Status};
use crate::wire::{Content, DecisionReply, Scratch, decode_request, decode_result, encode_decision, proto};

/// What a client wants to say, whatever the form.
#[derive(Clone, Debug)]
struct Wish {
    request_id: String,
    tenant_id: String,
    policy_id: Option<String>,
    trace_id: Option<String>,
    task_type: String,
    payload: Result<String, String>,
    max_latency_ms: Option<f64>,
    max_cost: Option<f64>,
    status: Option<String>,
    attempt: Option<u32>,
    push: Option<bool>,
    subject: Option<String>,
    explain: Option<bool>,
    context: BTreeMap<String, String>,
    metadata: BTreeMap<String, String>,
}

fn wishes() -> impl Strategy<Value = Wish> {
    let id = "[A-Za-z0-9_.:-]{1,20}";
    let attributes = || prop::collection::btree_map("k[a-z]{1,3}", ".{1,8}", 0..4);
    let numbers = || option::of(prop_oneof![(0_u32..100_000).prop_map(f64::from), 0.0..1e9]);
    let first = (
        "[!-~]{1,40}",
        id,
        option::of(id),
        option::of("[!-~]{1,20}"),
        "[^\\p{C}]{1,20}",
        prop_oneof!["\\PC{1,20}".prop_map(Ok), "\\PC{0,20}".prop_map(Err)],
        numbers(),
        numbers(),
    );
    let second = (
        option::of("[a-z0-9_]{1,10}"),
        option::of(1_u32..),
        option::of(any::<bool>()),
        option::of("caf\\.exec\\.assign\\.[a-z0-9]{1,9}"),
        option::of(any::<bool>()),
        attributes(),
        attributes(),
    );
    (first, second).prop_map(|(a, b)| Wish {
        request_id: a.0,
        tenant_id: a.1,
        policy_id: a.2,
        trace_id: a.3,
        task_type: a.4,
        payload: a.5,
        max_latency_ms: a.6,
        max_cost: a.7,
        status: b.0,
        attempt: b.1,
        push: b.2,
        subject: b.3,
        explain: b.4,
        context: b.5,
        metadata: b.6,
    })
}

impl Wish {
    fn json(&self) -> Vec<u8> {
        let mut task = json!({"type": self.task_type});
        match &self.payload {
            Ok(reference) => task["payload_ref"] = json!(reference),
            Err(inline) => task["payload"] = json!(inline),
        }
        let mut context = json!(self.context);
        context["status"] = json!(self.status);
        context["attempt"] = json!(self.attempt);
        json!({
            "version": "1", "request_id": self.request_id, "tenant_id": self.tenant_id, "policy_id": self.policy_id,
            "trace_id": self.trace_id, "task": task,
            "constraints": {"max_latency_ms": self.max_latency_ms, "max_cost": self.max_cost},
            "context": context, "metadata": self.metadata, "push_assignment": self.push,
            "assignment_subject": self.subject, "explain": self.explain,
        })
        .to_string()
        .into_bytes()
    }

    fn protobuf(&self) -> Vec<u8> {
        let mut context: HashMap<_, _> = self.context.clone().into_iter().collect();
        let mut put = |key: &str, value: Option<String>| {
            context.extend(value.map(|value| (key.to_owned(), value)));
        };
        put("status", self.status.clone());
        put("attempt", self.attempt.map(|n| n.to_string()));
        put("constraints.max_latency_ms", self.max_latency_ms.map(|n| n.to_string()));
        put("constraints.max_cost", self.max_cost.map(|n| n.to_string()));
        put("push_assignment", self.push.map(|b| b.to_string()));
        put("assignment_subject", self.subject.clone());
        put("explain", self.explain.map(|b| b.to_string()));
        put("payload_ref", self.payload.clone().ok());
        let message = proto::Message {
            message_id: self.request_id.clone(),
            tenant_id: self.tenant_id.clone(),
            trace_id: self.trace_id.clone().unwrap_or_default(),
            message_type: self.task_type.clone(),
            payload: self
                .payload
                .clone()
                .err()
                .map(|inline| json!(inline).to_string().into_bytes())
                .unwrap_or_default(),
            metadata: self.metadata.clone().into_iter().collect(),
            timestamp_ms: 0,
        };
        proto::RouteRequest {
            message: Some(message),
            policy_id: self.policy_id.clone().unwrap_or_default(),
            context,
        }
        .encode_to_vec()
    }

    /// All that a decision may depend on, and all that passes through.
    fn normal(&self, request: &RouteRequest<'_>) -> String {
        let payload = match &request.payload {
            Payload::Reference(reference) => format!("reference {reference}"),
            Payload::Json(text) => format!("inline {text}"),
            Payload::Bytes(bytes) => format!("inline {}", String::from_utf8_lossy(bytes)),
        };
        let values = |attributes: Attributes<'_>, keys: &BTreeMap<String, String>| -> Vec<_> {
            keys.keys().map(|key| attributes.get(key).map(String::from)).collect()
        };
        format!(
            "{:?}",
            (
                (&request.request_id, &request.tenant_id, &request.policy_id, &request.task_type, payload),
                (&request.trace_id, &request.constraints, &request.previous, &request.push, request.explain),
                (values(request.context, &self.context), values(request.metadata, &self.metadata)),
            )
        )
    }
}

proptest! {
    #[test]
    fn a_request_means_the_same_in_both_forms(wish in wishes()) {
        let normal = |content, body: &[u8]| decoded(content, body, |request| wish.normal(&request.unwrap()));
        prop_assert_eq!(normal(Content::Json, &wish.json()), normal(Content::Protobuf, &wish.protobuf()));
    }

    #[test]
    fn a_request_of_another_tenant_is_refused_in_both_forms(wish in wishes()) {
        for (content, body) in [(Content::Json, wish.json()), (Content::Protobuf, wish.protobuf())] {
            let mut scratch = Scratch::default();
            let code = decode_request(content, &body, Some("~"), &RULES, &mut scratch).unwrap_err().code;
            prop_assert_eq!(code, crate::domain::ErrorCode::Unauthorized);
        }
    }

    #[test]
    fn a_decision_says_the_same_in_both_forms(
        latency in 0_u64..1 << 40, cost in 0.0..1e6, revision in 0_u64..1 << 40, probe: bool, stale: bool,
        sticky in option::of(".{0,9}"), assignment in option::of("[a-z]{1,9}"), backoff in option::of(0_u64..100_000),
        reason in prop::sample::select(vec![Reason::Sticky, Reason::Weighted, Reason::Fallback, Reason::CircuitBreakerFallback]),
    ) {
        let decision = Decision {
            provider_id: "openai", reason, expected_latency_ms: latency, expected_cost: cost, policy_id: "default",
            policy_revision: revision, sticky_key: sticky.as_deref(), assignment_id: assignment.as_deref(), probe,
            backoff_ms: backoff, stale,
        };
        let reply = DecisionReply { decision: &decision, explanation: None, request_id: "r", trace_id: None };
        let encode = |content| { let mut out = bytes::BytesMut::new(); encode_decision(content, &reply, &mut out); out };
        let json: serde_json::Value = serde_json::from_slice(&encode(Content::Json)).unwrap();
        let Some(proto::route_reply::Reply::Decision(said)) =
            proto::RouteReply::decode(&encode(Content::Protobuf)[..]).unwrap().reply else { panic!("no decision") };
        let mut want = json!({
            "provider_id": said.provider_id, "priority": said.priority, "expected_latency_ms": said.expected_latency_ms,
            "expected_cost": said.expected_cost, "reason": said.reason, "policy_id": said.policy_id,
            "policy_revision": said.policy_revision, "fallback_used": said.fallback_used, "sticky_key": said.sticky_key,
            "assignment_id": said.assignment_id, "probe": said.probe, "backoff_ms": said.backoff_ms,
            "stale": said.stale.then_some(true),
        });
        want.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        // The default reader of serde_json may be off by one bit in a double.
        prop_assert!((json["decision"]["expected_cost"].as_f64().unwrap() - cost).abs() <= cost * f64::EPSILON);
        let mut json = json;
        json["decision"]["expected_cost"] = want["expected_cost"].clone();
        prop_assert_eq!(&json["decision"], &want);
        prop_assert_eq!(&json["context"]["request_id"], &json!(said.request_id));
    }

    #[test]
    fn a_result_means_the_same_in_both_forms(
        tenant in "[A-Za-z0-9_.:-]{1,20}", provider in "[A-Za-z0-9_.:-]{1,20}", request in option::of("[!-~]{1,40}"),
        assignment in "[!-~]{1,40}", status in prop::sample::select(Status::ALL.to_vec()),
        latency in option::of(0_i64..86_400_000), cost in option::of(0.0..1e9), code in option::of("[a-z0-9_]{1,9}"),
        retry in option::of(0_i64..1 << 50), time in option::of(0_i64..1 << 50), job in option::of("[a-z.]{1,9}"),
    ) {
        let json = json!({
            "tenant_id": tenant, "provider_id": provider, "request_id": request, "assignment_id": assignment,
            "status": status.as_str(), "latency_ms": latency, "cost": cost, "error_code": code, "retry_after_ms": retry,
            "timestamp": time, "job": job.as_ref().map(|kind| json!({"type": kind})), "trace_id": null,
        }).to_string();
        let protobuf = proto::ExecResult {
            tenant_id: tenant, provider_id: provider, request_id: request.unwrap_or_default(), assignment_id: assignment,
            status: status.as_str().into(), latency_ms: latency, cost, error_code: code.unwrap_or_default(),
            retry_after_ms: retry.unwrap_or(0), timestamp: time.unwrap_or(0), trace_id: String::new(),
            job: job.map(|kind| proto::Job { r#type: kind, metadata: HashMap::new() }), error_message: "x".into(),
        }.encode_to_vec();
        prop_assert_eq!(
            decode_result(Content::Json, json.as_bytes(), None).unwrap(),
            decode_result(Content::Protobuf, &protobuf, None).unwrap()
        );
    }
}
