//! What the benchmarks and the gate stand on: policies and breakers in force, made by the real fold, and a
//! request's way through `wire`, `state` and `routing` as `nats/decide` goes it.

#![allow(dead_code, reason = "each program uses its part of it")]

use std::borrow::Cow;
use std::hint::black_box;
use std::sync::Arc;

use beamline_router::domain::{Decision, Offset, Outcome, PolicyId, Stamp, Status, TenantId, Tick};
use beamline_router::ledger::{Fold, Verdicts};
use beamline_router::log::{At, Entry, PolicyEntry, Revision};
use beamline_router::routing::{Choice, Routed, Trail, decide};
use beamline_router::state::{Asking, Routable, State};
use beamline_router::wire::{
    Content, DecisionReply, Headers, Rules, Scratch, decode_request, encode_decision,
};
use bytes::{Bytes, BytesMut};
use serde_json::json;

/// Providers of each policy.
pub(crate) const PROVIDERS: [&str; 3] = ["openai", "anthropic", "local_llm"];

/// When the policies were put, by the log's clock and by this process's.
pub(crate) const START: Stamp = Stamp(1_795_000_000_000);
pub(crate) const NOW: Tick = Tick(3_600_000);
pub(crate) const OFFSET: Offset = Offset(1_795_000_000_000 - 3_600_000);

/// So many tenants, each with a policy of three providers: three breakers each.
pub(crate) struct World {
    pub(crate) state: Arc<State>,
    pub(crate) fold: Fold,
    pub(crate) position: u64,
    tenants: u64,
}

impl World {
    pub(crate) fn new(tenants: u64, breakers: bool) -> Self {
        let state = Arc::new(State::new(true));
        state.set_log_in_reach(true);
        let fold = Fold::new(Arc::clone(&state), Arc::new(Verdicts::default()));
        let mut world = Self { state, fold, position: 0, tenants };
        let document = Arc::new(json!({
            "policy_id": "default",
            "providers": PROVIDERS.map(|name| json!({"name": name, "weight": 30})),
            "circuit_breaker": {"enabled": breakers, "failure_threshold": 5},
        }));
        for n in 0..tenants {
            let entry = PolicyEntry {
                tenant_id: TenantId::try_new(tenant(n)).unwrap(),
                policy_id: PolicyId::try_new("default").unwrap(),
                revision: Revision { created: 1, revision: n + 1 },
                document: Some(Arc::clone(&document)),
                actor: None,
                reason: None,
                authenticated: None,
            };
            world.apply(&Entry::Policy(entry), START);
        }
        world.fold.digest();
        world
    }

    /// A world with so many breakers, give or take two.
    pub(crate) fn with_breakers(breakers: u64) -> Self {
        Self::new(breakers.div_ceil(3), true)
    }

    pub(crate) fn apply(&mut self, entry: &Entry<'_>, stamp: Stamp) {
        self.position += 1;
        black_box(&self.fold.apply(entry, At { position: self.position, stamp }, OFFSET, true));
    }

    /// Every policy in force.
    pub(crate) fn routables(&self) -> Vec<Arc<Routable>> {
        (0..self.tenants).map(|n| self.state.catalog().find(&tenant(n), "default").unwrap()).collect()
    }
}

pub(crate) fn tenant(n: u64) -> String {
    format!("tenant-{n}")
}

/// A request as clients send it.
pub(crate) fn request(tenant: &str, id: u64) -> String {
    format!(
        r#"{{"version":"1","request_id":"{:08x}-6c0e-4e43-9a65-{:012x}","tenant_id":"{tenant}","task":{{"type":"text.generate","payload_ref":"s3://prompts/1"}},"context":{{"user_id":"u-{id}"}}}}"#,
        id.wrapping_mul(2_654_435_761) & 0xFFFF_FFFF,
        id,
    )
}

/// A result of a call that took no time.
pub(crate) fn outcome(tenant: Cow<'static, str>, provider: &'static str, identity: u64) -> Outcome<'static> {
    Outcome {
        tenant_id: tenant,
        provider_id: Cow::Borrowed(provider),
        request_id: Some(Cow::Borrowed("0b0f7c1e-6c0e-4e43-9a65-6a1f6f0b8a31")),
        assignment_id: None,
        status: if identity.is_multiple_of(16) { Status::Error } else { Status::Success },
        latency_ms: Some(850),
        cost_nanos: Some(12_000_000),
        error_code: None,
        retry_after_ms: None,
        timestamp_ms: None,
        job_type: None,
        trace_id: None,
        // Identities are hashes.
        identity: mixed(identity),
    }
}

/// A permutation of the numbers that looks like chance (SplitMix64's).
pub(crate) fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A message without headers, as most are.
pub(crate) struct NoHeaders;

impl Headers for NoHeaders {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }
}

/// What is reused from request to request.
#[derive(Default)]
pub(crate) struct Path {
    pub(crate) scratch: Scratch,
    pub(crate) out: BytesMut,
}

pub(crate) const RULES: Rules<'_> =
    Rules { assign_prefix: "caf.exec.assign.", ack_subject: "caf.exec.assign.v1.ack" };

impl Path {
    /// Decodes a request, decides it and encodes the reply: all that a decision costs besides what the
    /// broker's client does. `None` if it is refused.
    pub(crate) fn run(&mut self, state: &State, body: &[u8]) -> Option<Bytes> {
        let content = Content::of(&NoHeaders, body).ok()?;
        let request = decode_request(content, body, None, &RULES, &mut self.scratch).ok()?;
        let routable = state.catalog().find(&request.tenant_id, &request.policy_id)?;
        let mut asking = Asking::new(state, &routable, &request.request_id, NOW, &[]);
        let mut trail = Trail::new(request.explain);
        let routed = decide(&routable.policy, &request, &mut asking, &mut trail);
        asking.settle(|_, _| {});
        let Routed::To(choice) = routed else { return None };
        let trace_id = request.trace_id.as_deref();
        encode(&routable, &choice, &request.request_id, trace_id, &mut self.out);
        Some(self.out.split().freeze())
    }
}

/// Encodes a reply.
pub(crate) fn encode(
    routable: &Routable,
    choice: &Choice<'_>,
    request_id: &str,
    trace_id: Option<&str>,
    out: &mut BytesMut,
) {
    let observed = routable.cells[choice.candidate].observed(NOW);
    let decision = Decision {
        provider_id: routable.policy.candidates()[choice.candidate].provider.as_str(),
        reason: choice.reason,
        expected_latency_ms: observed.latency_ms,
        expected_cost: observed.cost_nanos as f64 / 1e9,
        policy_id: routable.policy.id().as_str(),
        policy_revision: routable.revision,
        sticky_key: choice.sticky_key.as_deref(),
        assignment_id: None,
        probe: choice.probe,
        backoff_ms: choice.backoff_ms,
        stale: false,
    };
    let reply = DecisionReply { decision: &decision, explanation: None, request_id, trace_id };
    encode_decision(Content::Json, &reply, out);
}
