//! The verbs of rollouts. A change is a message in the stream of rollouts; the controllers judge it at its place
//! there, on every worker alike, and the answer is their verdict.

mod drill;
mod graduate;
mod numbered;
mod read;

pub(super) use drill::drill;
pub(super) use graduate::graduate;
pub(super) use read::{get, history, list, report, status};

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::APPLY_PATIENCE;
use super::body::Body;
use super::reply::ControlError;
use crate::document::read_text;
use crate::domain::{Authenticated, ErrorCode, RolloutId};
use crate::nats::Worker;
use crate::nats::rollouts::{history_of, note_unrecorded, record, workers_without};
use crate::rollout::controller::{
    self, Command, Criterion, History, HistoryWanted, IssueChange, JUDGE_VERSION, Message, Outcome,
    PlanMessage,
};
use crate::rollout::plan::{self, Checked};

/// How long the decision that a command orders may take to be recorded; the answer says how the rollout then stands.
const DECISION_PATIENCE: Duration = Duration::from_secs(2);
/// A command without `expected_seq` whose rollout changes meanwhile is sent again, this often.
const TRIES: usize = 5;
/// Between tries.
const RETRY: Duration = Duration::from_millis(100);
/// How long the log may take to be counted for a question.
const COUNT_PATIENCE: Duration = Duration::from_secs(4);

pub(super) async fn put(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["plan", "expected_seq"])?;
    let (document, checked) = plan_of(&body)?;
    let rollout = checked.plan.id().clone();
    send(worker, &body, &rollout, |origin, expected_seq| {
        let Origin { id, actor, authenticated, reason } = origin;
        Message::Plan(PlanMessage { id, plan: document.clone(), expected_seq, actor, authenticated, reason })
    })
    .await?;
    let mut answer = standing(worker, &rollout)?;
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("warnings".to_owned(), json!(checked.warnings));
    }
    Ok(answer)
}

pub(super) async fn lint(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["plan"])?;
    let (_, Checked { plan, mut warnings }) = plan_of(&body)?;
    let phases = match count(worker, &plan).await {
        Err(why) => {
            warnings.push(format!("what the phases need is not known: {}", why.message));
            Vec::new()
        }
        Ok(history) => match controller::outlook(&plan, &history) {
            Ok(phases) => phases,
            Err(unmet) => {
                warnings.extend(unmet.iter().map(|unmet| format!("phases: {unmet}")));
                Vec::new()
            }
        },
    };
    let phases: Vec<Value> = phases
        .iter()
        .map(|phase| {
            json!({
                "phase": phase.phase,
                "tenants": phase.tenants.len(),
                "milli_per_minute": phase.milli_per_minute,
                "units_needed": phase.units_needed,
                "needed_ms": phase.needed_ms,
                "verdict": if phase.fits { "fits" } else { "too_little_traffic" },
            })
        })
        .collect();
    Ok(json!({ "ok": true, "rollout": plan.id(), "plan": plan, "warnings": warnings, "phases": phases }))
}

pub(super) async fn plan(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["plan"])?;
    let (_, Checked { plan, .. }) = plan_of(&body)?;
    let history = count(worker, &plan).await?;
    let (phases, unmet) = match controller::outlook(&plan, &history) {
        Ok(phases) => (phases, Vec::new()),
        Err(unmet) => (Vec::new(), unmet),
    };
    let phases: Vec<Value> =
        phases.iter().map(|phase| json!({ "phase": phase.phase, "tenants": phase.tenants })).collect();
    let unmet: Vec<Value> =
        unmet.iter().map(|unmet| json!({ "phase": unmet.phase, "why": unmet.to_string() })).collect();
    Ok(json!({ "ok": true, "rollout": plan.id(), "phases": phases, "unmet": unmet }))
}

pub(super) async fn start(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["rollout", "expected_seq"])?;
    check_versions(worker, "start").await?;
    change(worker, &body, controller::Verb::Start { judge: JUDGE_VERSION }).await
}

/// Nothing is enforced beside a worker that does not support rollouts.
async fn check_versions(worker: &Worker, verb: &str) -> Result<(), ControlError> {
    let without = workers_without(worker).await;
    let without = without.map_err(|error| ControlError::new(ErrorCode::Unavailable, error.to_string()))?;
    if without.is_empty() {
        return Ok(());
    }
    let names = without.join(", ");
    let problem = format!("cannot {verb}: these workers do not support rollouts: {names}");
    let details = Some(json!({ "refusal": "mixed_versions", "workers": without }));
    Err(ControlError { details, ..ControlError::field("rollout", &problem) })
}

pub(super) async fn approve(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["rollout", "expected_seq"])?;
    change(worker, &body, controller::Verb::Approve).await
}

pub(super) async fn promote(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["rollout", "expected_seq", "override"])?;
    let words: Vec<&str> = Criterion::ALL.iter().map(|criterion| criterion.as_str()).collect();
    let kind = format!("one of {}", words.join(", "));
    let criterion: Criterion =
        body.get("override", &kind)?.ok_or_else(|| ControlError::field("override", "is required"))?;
    if body.by().reason.is_none() {
        return Err(ControlError::field(
            "reason",
            "is required: the log says why a criterion was passed over",
        ));
    }
    change(worker, &body, controller::Verb::Promote { criterion }).await
}

pub(super) async fn extend(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["rollout", "expected_seq", "by"])?;
    change(worker, &body, controller::Verb::Extend { by_ms: body.duration("by")? }).await
}

pub(super) async fn pause(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["rollout", "expected_seq"])?;
    change(worker, &body, controller::Verb::Pause).await
}

pub(super) async fn resume(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["rollout", "expected_seq"])?;
    check_versions(worker, "resume").await?;
    change(worker, &body, controller::Verb::Resume).await
}

pub(super) async fn rollback(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["rollout", "expected_seq", "tenant_id"])?;
    change(worker, &body, controller::Verb::Rollback { tenant: body.optional_tenant_id()? }).await
}

pub(super) async fn abort(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["rollout", "expected_seq"])?;
    change(worker, &body, controller::Verb::Abort).await
}

pub(super) async fn delete(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["rollout", "expected_seq"])?;
    change(worker, &body, controller::Verb::Delete).await
}

pub(super) async fn issue(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["rollout", "expected_seq", "change", "text"])?;
    let change_kind: IssueChange = body
        .get("change", "open or close")?
        .ok_or_else(|| ControlError::field("change", "must be open or close"))?;
    let text: String =
        body.get("text", "a text")?.ok_or_else(|| ControlError::field("text", "is required"))?;
    change(worker, &body, controller::Verb::Issue { change: change_kind, text }).await
}

/// The document of a request, and what it means.
fn plan_of(body: &Body) -> Result<(Value, Checked), ControlError> {
    let text = body.raw("plan")?;
    let faults = |faults: Vec<_>| ControlError::faults_of("plan", &faults);
    Ok((read_text(text).map_err(faults)?, plan::parse_text(text).map_err(faults)?))
}

/// What the log knows of the tenants up to now.
async fn count(worker: &Worker, plan: &plan::Plan) -> Result<History, ControlError> {
    let to = worker.clock.stamp();
    let wanted =
        HistoryWanted { rollout: plan.id().clone(), phase: 0, from: to.minus(plan.history_ms()), to };
    let counting = history_of(worker, &wanted, plan.analysis().settle_ms);
    let unavailable = |why: String| ControlError::new(ErrorCode::Unavailable, why);
    match tokio::time::timeout(COUNT_PATIENCE, counting).await {
        Ok(Ok(history)) => Ok(history),
        Ok(Err(error)) => Err(unavailable(format!("the log could not be counted: {error}"))),
        Err(_) => Err(unavailable("counting the log took too long; try a shorter history".to_owned())),
    }
}

/// The name of a message, who sends it, and why.
struct Origin {
    id: String,
    actor: String,
    authenticated: Option<Authenticated>,
    reason: String,
}

/// Sends a command, and answers with how the rollout stands then.
async fn change(worker: &Arc<Worker>, body: &Body, verb: controller::Verb) -> Result<Value, ControlError> {
    let rollout = body.rollout()?;
    check_known(worker, &rollout)?;
    send(worker, body, &rollout, |origin, expected_seq| {
        let Origin { id, actor, authenticated, reason } = origin;
        let (rollout, verb) = (rollout.clone(), verb.clone());
        Message::Command(Command { rollout, id, expected_seq, actor, authenticated, reason, verb })
    })
    .await?;
    let decided = |controllers: &controller::Controllers| controllers.pending(&rollout).is_none();
    worker.rollouts.settled(DECISION_PATIENCE, decided).await;
    standing(worker, &rollout)
}

/// Puts a message into the stream and waits for the verdict on it. Only what was accepted is no error.
async fn send(
    worker: &Arc<Worker>,
    body: &Body,
    rollout: &RolloutId,
    message: impl Fn(Origin, u64) -> Message,
) -> Result<(), ControlError> {
    let unavailable = |why: &str| Err(ControlError::new(ErrorCode::Unavailable, why));
    check_read(worker)?;
    let named: Option<u64> = body.get("expected_seq", "a whole number from 0")?;
    let by = body.by();
    let mut tries = 0;
    loop {
        tries += 1;
        let seq = worker.rollouts.read(|c| c.seq(rollout)).unwrap_or(0);
        let id = uuid::Uuid::new_v4().to_string();
        let origin = Origin {
            id: id.clone(),
            actor: by.actor.filter(|actor| !actor.is_empty()).unwrap_or("unknown").to_owned(),
            authenticated: by.authenticated.cloned(),
            reason: by.reason.filter(|reason| !reason.is_empty()).unwrap_or("none given").to_owned(),
        };
        let sent = record(worker, rollout, message(origin, named.unwrap_or(seq)), &id).await;
        let place = match sent {
            Ok(place) => place,
            Err(error) => {
                note_unrecorded(worker, &error.to_string());
                return unavailable("the stream of rollouts did not take it; try again");
            }
        };
        let Some(verdict) = worker.rollouts.verdict(place, APPLY_PATIENCE).await else {
            return unavailable("it is recorded and was not judged within 5 s; see rollout.history");
        };
        let again = tries < TRIES;
        match &verdict.outcome {
            Outcome::Accepted => return Ok(()),
            Outcome::Conflict { .. } if named.is_none() && again => {}
            Outcome::Conflict { expected } => {
                let message = format!(
                    "rollout {rollout} is at {}, not at {expected}: something came between",
                    verdict.seq
                );
                let details = Some(json!({ "field": "expected_seq", "seq": verdict.seq }));
                return Err(ControlError { details, ..ControlError::new(ErrorCode::Conflict, message) });
            }
            // A decision is on its way, which moves the number on.
            Outcome::Refused { code, .. } if code == "deciding" && again => {}
            Outcome::Refused { code, .. } if code == "unknown_rollout" => return Err(unknown(rollout)),
            Outcome::Refused { code, text } => {
                let details = Some(json!({ "refusal": code, "seq": verdict.seq }));
                let error = ControlError::new(ErrorCode::InvalidRequest, text.clone());
                return Err(ControlError { details, ..error });
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// How a rollout stands, in short.
fn standing(worker: &Worker, rollout: &RolloutId) -> Result<Value, ControlError> {
    let status = read::status_of(worker, rollout)?;
    Ok(json!({
        "ok": true,
        "rollout": status.rollout,
        "seq": status.seq,
        "state": status.state,
        "phase": status.phase,
        "step": status.step,
        "percent": status.percent,
    }))
}

/// What this worker knows of rollouts is whole. One that has just started reads their stream first.
fn check_read(worker: &Worker) -> Result<(), ControlError> {
    if worker.rollouts.progress().borrow().caught_up {
        Ok(())
    } else {
        Err(ControlError::new(ErrorCode::Unavailable, "the stream of rollouts is not read yet; try again"))
    }
}

fn check_known(worker: &Worker, rollout: &RolloutId) -> Result<(), ControlError> {
    check_read(worker)?;
    let is_known = worker.rollouts.read(|controllers| controllers.plan(rollout).is_some());
    if is_known { Ok(()) } else { Err(unknown(rollout)) }
}

fn unknown(rollout: &RolloutId) -> ControlError {
    ControlError::new(ErrorCode::NotFound, format!("there is no rollout {rollout}"))
}
