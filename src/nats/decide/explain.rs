use serde::Serialize;
use serde_json::value::RawValue;

use super::Request;
use crate::breaker::State;
use crate::domain::{Decision, Tick};
use crate::log::StepInForce;
use crate::nats::Worker;
use crate::routing::{Admission, Step, Trail, enforced};
use crate::state::{Answer, Cell, Reading, Routable};
use crate::telemetry::{RoutingStep, SpanGuard};

/// What a request is told to wait whose slot somebody else got.
pub(super) const RETRY_MS: u64 = 1_000;

#[derive(Serialize)]
struct Explanation<'a> {
    reason: &'a str,
    provider_id: &'a str,
    policy_id: &'a str,
    /// The last entry of the log that it rests on, at least.
    position: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rollout: Option<&'a StepInForce>,
    steps: Vec<Told<'a>>,
}

#[derive(Serialize)]
struct Told<'a> {
    step: &'static str,
    provider_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<serde_json::Value>,
}

/// What the breaker of a candidate shows the decide path.
pub(super) fn state_of(cell: &Cell, now: Tick) -> State {
    match cell.read(now) {
        Reading::Pass => State::Closed,
        Reading::Refuse { state, .. } | Reading::Claim { state, .. } => state,
    }
}

/// Tells a span the steps of its decision.
pub(super) fn tell(span: &mut SpanGuard, routable: &Routable, trail: &Trail, now: Tick) {
    let name =
        |candidate: usize| routable.policy.candidates().get(candidate).map_or("", |c| c.provider.as_str());
    for step in trail.steps() {
        span.tell(match *step {
            Step::Check { candidate, admission } => {
                let (result, refused) = answered(admission);
                let shown = || routable.cells.get(candidate).map(|cell| state_of(cell, now));
                RoutingStep::Check {
                    provider_id: name(candidate),
                    result,
                    state: refused.or_else(shown).unwrap_or(State::Closed).as_str(),
                    retry_after_ms: match admission {
                        Admission::Refuse { retry_after_ms, .. } => Some(retry_after_ms),
                        _ => None,
                    },
                }
            }
            Step::Fallback { candidate } => RoutingStep::Fallback { provider_id: name(candidate) },
            Step::Constraint(e) => {
                RoutingStep::Constraint { provider_id: name(e.candidate), constraint: e.constraint }
            }
        });
    }
}

/// What came of a claim, in a word.
pub(super) const fn claimed(answer: Answer) -> &'static str {
    match answer {
        Answer::Granted => "granted",
        Answer::NotNeeded => "not_needed",
        Answer::Refused { .. } => "refused",
    }
}

/// A breaker's answer in a word, and the state that it tells.
const fn answered(admission: Admission) -> (&'static str, Option<State>) {
    match admission {
        Admission::Pass => ("allowed", None),
        Admission::Probe | Admission::Claim => ("allowed", Some(State::HalfOpen)),
        Admission::WouldReject(state) => ("would_reject", Some(state)),
        Admission::Refuse { state, .. } => ("rejected", Some(state)),
    }
}

/// Tells how a decision came about.
pub(super) fn explanation(
    routable: &Routable,
    decision: &Decision<'_>,
    trail: &Trail,
    asked: &Request<'_>,
    request_id: &str,
) -> Option<Box<RawValue>> {
    let worker = asked.worker;
    let name =
        |candidate: usize| routable.policy.candidates().get(candidate).map_or("", |c| c.provider.as_str());
    let steps = trail.steps().iter().map(|step| match *step {
        Step::Check { candidate, admission } => {
            check(routable, candidate, name(candidate), admission, request_id, worker)
        }
        Step::Fallback { candidate } => {
            Told { step: "fallback", provider_id: name(candidate), result: None, state: None, context: None }
        }
        Step::Constraint(e) => Told {
            step: "constraint",
            provider_id: name(e.candidate),
            result: Some("excluded"),
            state: None,
            context: Some(serde_json::json!({
                "constraint": e.constraint,
                "observed_latency_ms": e.observed.latency_ms,
                "observed_cost": cost(e.observed.cost_nanos),
            })),
        },
    });
    let told = Explanation {
        reason: decision.reason.as_str(),
        provider_id: decision.provider_id,
        policy_id: decision.policy_id,
        position: asked.position,
        rollout: routable.step.as_deref(),
        steps: steps.collect(),
    };
    serde_json::value::to_raw_value(&told).ok()
}

fn check<'a>(
    routable: &Routable,
    candidate: usize,
    provider_id: &'a str,
    admission: Admission,
    request_id: &str,
    worker: &Worker,
) -> Told<'a> {
    let view = routable.cells.get(candidate).map(|cell| {
        let guarded = cell.lock();
        let spared = !enforced(request_id, guarded.breaker.settings().enforce_percent());
        (guarded.breaker.view(worker.clock.stamp()), spared)
    });
    let shown = view.as_ref().map_or(State::Closed, |(v, _)| v.state);
    let (result, state, passed) = match admission {
        Admission::Pass => {
            let off = !worker.state.enforcing();
            let disabled = !routable.policy.breaker().enabled();
            let (state, reason) = match &view {
                _ if off => (shown, "worker_switch_off"),
                Some((v, _)) if v.suspended => (shown, "flag_off"),
                Some((v, _)) if v.forced.is_some_and(|(to, _)| to == State::Closed) => {
                    (shown, "forced_closed")
                }
                _ if disabled => (shown, "circuit_breaker_disabled"),
                // It claims without being waited for.
                Some((_, true)) if shown != State::Closed => (shown, "not_enforced"),
                // It was closed when it was asked, whatever has come since.
                _ => (State::Closed, "circuit_closed"),
            };
            ("allowed", state, Some(reason))
        }
        Admission::Probe | Admission::Claim => ("allowed", State::HalfOpen, None),
        Admission::WouldReject(state) => ("would_reject", state, None),
        Admission::Refuse { state, .. } => ("rejected", state, None),
    };
    let reason = passed.unwrap_or(match state {
        State::Closed => "circuit_closed",
        State::Open => "circuit_open",
        State::HalfOpen => "circuit_half_open",
    });
    let context = view.map(|(v, _)| {
        serde_json::json!({
            "failure_count": v.failures_in_a_row,
            "error_rate": v.window.error_rate().as_f64(),
            "reason": reason,
        })
    });
    Told {
        step: "circuit_breaker_check",
        provider_id,
        result: Some(result),
        state: Some(state.as_str()),
        context,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a mean cost lies far below 2^53 billionths")]
fn cost(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
