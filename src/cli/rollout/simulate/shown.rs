//! How a report of a simulation looks: a line for people, or an object for machines.

use serde_json::{Value, json};

use crate::cli::output::{Output, moment};
use crate::cli::rollout::standing::Standing;
use crate::cli::rollout::words::{grouped, nats};
use crate::cli::rollout::{listed, plain};
use crate::domain::Stamp;
use crate::rollout::controller::{Decision, Status};
use crate::rollout::plan::Plan;
use crate::rollout_simulation::Report;

/// Prints one.
pub(super) fn report(out: Output, report: &Report, plan: &Plan) {
    // Windows of a rollout that has ended are judged by nobody.
    if matches!(report, Report::Window { status, .. } if status.has_ended()) {
        return;
    }
    if out.is_json() {
        out.body(&body(report));
    } else {
        out.line(&line(report, plan));
    }
}

/// How the rollout stands at the end, for machines.
pub(super) fn end(status: &Status) -> Value {
    json!({"type": "end", "verdict": verdict(status), "status": status})
}

fn body(report: &Report) -> Value {
    match report {
        Report::Window { number, start, end, status } => json!({
            "type": "window", "number": number, "start": start, "end": end,
            "verdict": verdict(status), "status": status,
        }),
        Report::Decision { at, decision } => json!({"type": "decision", "at": at, "decision": decision}),
        Report::Refused { at, verb, why } => json!({"type": "refused", "at": at, "verb": verb, "why": why}),
        Report::Event { at, event } => json!({"type": "event", "at": at, "event": event.to_string()}),
    }
}

fn line(report: &Report, plan: &Plan) -> String {
    match report {
        Report::Window { number, end, status, .. } => {
            format!("{}  window {number}: {}", time(*end), window(status, plan))
        }
        Report::Decision { at, decision } => format!("{}  {}", time(*at), decided(decision)),
        Report::Refused { at, verb, why } => format!("{}  {verb} is refused: {why}", time(*at)),
        Report::Event { at, event } => format!("{}  {event}", time(*at)),
    }
}

fn time(at: Stamp) -> String {
    moment(&json!(at)).unwrap_or_else(|| "-".to_owned())
}

fn window(status: &Status, plan: &Plan) -> String {
    let standing = Standing::of(status.clone(), plan.clone());
    let mut parts = vec![status.state.clone()];
    parts.extend(plain::place(&standing));
    let evidence = status.evidence;
    let figures = format!(
        "harm {}, safe {}, {} requests",
        nats(evidence.harm_e),
        nats(evidence.safe_e),
        grouped(evidence.units)
    );
    let mut text = format!("{}: {}; {figures}", parts.join(", "), verdict(status));
    let reasons: Vec<&str> = reasons(status).collect();
    if !reasons.is_empty() {
        text.push_str(&format!("; {}", reasons.join(", ")));
    }
    text
}

/// The reasons of all criteria that have not passed.
fn reasons(status: &Status) -> impl Iterator<Item = &str> {
    let open = status.criteria.iter().filter(|criterion| criterion.verdict != "pass");
    open.map(|criterion| criterion.reason.as_str()).filter(|reason| !reason.is_empty())
}

/// The criteria together; `-` where the step is not judged by them.
fn verdict(status: &Status) -> &'static str {
    let any = |verdict: &str| status.criteria.iter().any(|criterion| criterion.verdict == verdict);
    if status.criteria.is_empty() {
        "-"
    } else if any("fail") {
        "fail"
    } else if any("inconclusive") {
        "inconclusive"
    } else {
        "pass"
    }
}

fn decided(decision: &Decision) -> String {
    let entry = serde_json::to_value(decision).unwrap_or_default();
    let text = format!("decision {}: {}", decision.n, listed::decision(&entry));
    if decision.reasons.is_empty() { text } else { format!("{text} ({})", decision.reasons.join("; ")) }
}
