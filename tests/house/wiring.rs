//! The fold, the gates and routing put together, with paused time and no broker: what happens between
//! an entry of the log and the next decision.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use beamline_router::breaker::{State as Shown, Verdict};
use beamline_router::clock::Clock;
use beamline_router::domain::{
    Attributes, ClaimId, Constraints, Offset, Outcome, Payload, PolicyId, RouteRequest, Stamp, Status,
    TenantId,
};
use beamline_router::ledger::{Fold, Verdicts, What};
use beamline_router::log::{At, ClaimEntry, Entry, PolicyEntry, Revision};
use beamline_router::routing::{self, Routed, Trail};
use beamline_router::state::{Answer, Asking, State};
use serde_json::json;

const TENANT: &str = "acme";

/// A worker without its conversations. Its log is stamped by a clock of the broker's that runs with the
/// paused one, `ahead` of what the worker believes.
struct Rig {
    state: Arc<State>,
    fold: Fold,
    clock: Clock,
    ahead_ms: i64,
    position: u64,
}

impl Rig {
    fn new(ahead_ms: i64) -> Self {
        let state = Arc::new(State::new(true));
        state.set_log_in_reach(true);
        let fold = Fold::new(Arc::clone(&state), Arc::new(Verdicts::default()));
        Self { state, fold, clock: Clock::start(), ahead_ms, position: 0 }
    }

    fn stamp(&self) -> Stamp {
        Stamp(self.clock.stamp().0.checked_add_signed(self.ahead_ms).unwrap())
    }

    fn offset(&self) -> Offset {
        self.clock.offset()
    }

    fn apply(&mut self, entry: &Entry<'_>) -> What {
        self.position += 1;
        let at = At { position: self.position, stamp: self.stamp() };
        self.fold.apply(entry, at, self.offset(), true).what
    }

    fn put(&mut self, breaker: serde_json::Value) {
        let revision = Revision { created: 1, revision: self.position + 1 };
        self.apply(&Entry::Policy(PolicyEntry {
            tenant_id: TenantId::try_new(TENANT).unwrap(),
            policy_id: PolicyId::try_new("default").unwrap(),
            revision,
            document: Some(Arc::new(json!({
                "policy_id": "default",
                "providers": [{"name": "openai", "weight": 1}],
                "circuit_breaker": breaker,
            }))),
            actor: None,
            reason: None,
            authenticated: None,
        }));
    }

    fn result(&mut self, request_id: &str, status: Status) {
        let identity = u64::from_le_bytes(*b"identity") + self.position;
        self.apply(&Entry::Result(Outcome {
            request_id: Some(Cow::Borrowed(request_id)),
            latency_ms: Some(0),
            ..Outcome::of(TENANT, "openai", status, identity)
        }));
    }

    /// Decides, making the claims that are asked for. Tells the provider and whether it is a probe, or
    /// how long to wait.
    fn decide(&mut self, request_id: &str) -> Result<bool, u64> {
        let routable = self.state.catalog().find(TENANT, "default").unwrap();
        let mut answers = Vec::new();
        loop {
            let state = Arc::clone(&self.state);
            let request = request(request_id);
            let now = self.clock.tick();
            let mut asking = Asking::new(&state, &routable, request_id, now, &answers);
            match routing::decide(&routable.policy, &request, &mut asking, &mut Trail::default()) {
                Routed::To(choice) => return Ok(choice.probe),
                Routed::CircuitOpen(refused) => return Err(refused[0].retry_after_ms),
                Routed::Claim(candidate) => answers.push((candidate, self.claim(request_id))),
                Routed::Constrained(_) => unreachable!("no constraints"),
            }
        }
    }

    fn claim(&mut self, request_id: &str) -> Answer {
        let entry = Entry::Claim(ClaimEntry {
            tenant_id: Cow::Borrowed(TENANT),
            provider_id: Cow::Borrowed("openai"),
            request_id: Cow::Borrowed(request_id),
            claim: ClaimId(self.position),
            latest: self.stamp().plus(100),
            lease_ms: 0,
            takes: None,
        });
        match self.apply(&entry) {
            What::Claim { verdict: Some(Verdict::Granted), .. } => Answer::Granted,
            What::Claim { verdict: Some(Verdict::NotNeeded), .. } => Answer::NotNeeded,
            What::Claim { verdict: Some(Verdict::Refused { state, retry_after_ms }), .. } => {
                Answer::Refused { state, retry_after_ms }
            }
            other => panic!("{other:?}"),
        }
    }

    fn shown(&self) -> Shown {
        self.state.breaker(TENANT, "openai").unwrap().lock().breaker.state()
    }
}

fn request(request_id: &str) -> RouteRequest<'_> {
    RouteRequest {
        request_id: Cow::Borrowed(request_id),
        tenant_id: Cow::Borrowed(TENANT),
        policy_id: Cow::Borrowed("default"),
        task_type: Cow::Borrowed("chat"),
        payload: Payload::Reference(Cow::Borrowed("s3://x")),
        trace_id: None,
        constraints: Constraints::default(),
        context: Attributes::Absent,
        metadata: Attributes::Absent,
        previous: None,
        push: None,
        explain: false,
    }
}

async fn pass(ms: u64) {
    tokio::time::advance(Duration::from_millis(ms)).await;
}

fn settings() -> serde_json::Value {
    json!({"enabled": true, "failure_threshold": 5, "timeout_ms": 10_000, "success_threshold": 2,
           "half_open_max_calls": 2, "probe_timeout_ms": 3_000})
}

#[tokio::test(start_paused = true)]
async fn five_failures_open_time_passes_probes_close() {
    let mut rig = Rig::new(0);
    rig.put(settings());
    for n in 0..5 {
        assert_eq!(rig.decide(&format!("r{n}")), Ok(false));
        rig.result(&format!("r{n}"), Status::Error);
        pass(1).await;
    }
    assert_eq!(rig.shown(), Shown::Open);
    assert_eq!(rig.decide("refused"), Err(9_999));
    pass(9_998).await;
    assert_eq!(rig.decide("refused"), Err(1));
    pass(1).await;
    assert_eq!(rig.decide("p1"), Ok(true));
    assert_eq!(rig.decide("p2"), Ok(true));
    assert!(rig.decide("p3").is_err(), "both slots are taken");
    rig.result("p1", Status::Success);
    assert_eq!(rig.shown(), Shown::HalfOpen);
    rig.result("p2", Status::Success);
    assert_eq!(rig.shown(), Shown::Closed);
    assert_eq!(rig.decide("after"), Ok(false));
}

#[tokio::test(start_paused = true)]
async fn lost_probes_give_their_slots_back_and_wedge_nothing() {
    let mut rig = Rig::new(0);
    rig.put(settings());
    for n in 0..5 {
        rig.result(&format!("r{n}"), Status::Timeout);
    }
    pass(10_000).await;
    for round in 0..20 {
        assert_eq!(rig.decide(&format!("a{round}")), Ok(true));
        assert_eq!(rig.decide(&format!("b{round}")), Ok(true));
        assert!(rig.decide(&format!("c{round}")).is_err());
        pass(3_000).await;
    }
    assert_eq!(rig.decide("last-1"), Ok(true));
    rig.result("last-1", Status::Success);
    assert_eq!(rig.decide("last-2"), Ok(true));
    rig.result("last-2", Status::Success);
    assert_eq!(rig.shown(), Shown::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_clock_is_an_hour_off_changes_nothing_that_the_log_judges() {
    for ahead_ms in [-3_600_000, 0, 3_600_000] {
        let mut rig = Rig::new(ahead_ms);
        rig.put(settings());
        for n in 0..5 {
            rig.result(&format!("r{n}"), Status::Error);
        }
        assert_eq!(rig.shown(), Shown::Open, "{ahead_ms}");
        pass(5_000).await;
        // A wrong clock may make the worker claim too early, or refuse for too long; the fold grants
        // nothing before its own time.
        assert!(rig.decide("early").is_err(), "{ahead_ms}");
        assert!(matches!(rig.claim("early-2"), Answer::Refused { .. }), "{ahead_ms}");
        assert_eq!(rig.shown(), Shown::Open, "{ahead_ms}");
        pass(5_000).await;
        assert_eq!(rig.claim("p1"), Answer::Granted, "{ahead_ms}");
        assert_eq!(rig.shown(), Shown::HalfOpen, "{ahead_ms}");
    }
}

#[tokio::test(start_paused = true)]
async fn half_open_refuses_while_the_log_is_out_of_reach() {
    let mut rig = Rig::new(0);
    rig.put(settings());
    for n in 0..5 {
        rig.result(&format!("r{n}"), Status::Error);
    }
    pass(10_000).await;
    rig.state.set_log_in_reach(false);
    assert_eq!(rig.decide("x"), Err(1_000));
    rig.state.set_log_in_reach(true);
    assert_eq!(rig.decide("x"), Ok(true));
}

#[tokio::test(start_paused = true)]
async fn a_settings_change_while_open_applies_at_once() {
    let mut rig = Rig::new(0);
    rig.put(settings());
    for n in 0..5 {
        rig.result(&format!("r{n}"), Status::Error);
    }
    let mut shorter = settings();
    shorter["timeout_ms"] = json!(1_000);
    rig.put(shorter);
    pass(1_000).await;
    assert_eq!(rig.decide("x"), Ok(true));
}
