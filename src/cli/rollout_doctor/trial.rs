//! A rollback, tried: a rollout of a tenant that nobody else has is started, rolled back and removed.

use std::time::Duration;

use serde_json::{Value, json};

use super::checks::Check;
use crate::cli::shell::{Body, Session};
use crate::nats::control_client::ControlError;

/// The tenant of the trial.
pub(super) const TENANT: &str = "rollout-doctor";
const ROLLOUT: &str = "rollout-doctor";
const POLICY: &str = "default";
/// The share that is enforced, and then is not.
const PERCENT: u64 = 50;
/// How long a rollout may take to reach a state.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between looks.
const LOOK: Duration = Duration::from_millis(100);

/// Why the trial failed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{verb}: {error}")]
    Verb { verb: &'static str, error: ControlError },
    #[error("not within {PATIENCE:?}: {what}; it stays at: {seen}")]
    Late { what: &'static str, seen: String },
}

/// The policy of the trial.
fn policy() -> Value {
    json!({"policy_id": POLICY, "providers": [{"name": "rollout-doctor", "weight": 1}]})
}

/// The plan of the trial: one tenant, one step.
pub(super) fn plan() -> Value {
    json!({
        "kind": "PolicyRollout", "id": ROLLOUT, "history": "1m",
        "cohort": {"order": "listed", "include": [TENANT]},
        "analysis": {"block": "1s", "settle": "100ms", "exercise": "no", "latency": {"quantiles": []}},
        "phases": [
            {"name": "trial", "tenants": {"count": 1}, "ladder": [PERCENT], "bake": "1m", "min": "10m", "max": "1d"}
        ],
    })
}

/// Tries a rollback, and removes what it made, whatever came of it.
pub(super) async fn check(session: &Session) -> Check {
    let name = "rollback";
    let begun = match remove(session).await {
        Ok(()) => rehearse(session).await,
        Err(left_over) => Err(left_over),
    };
    let removed = remove(session).await;
    match (begun, removed) {
        (Ok(()), Ok(())) => {
            Check::passed(name, &format!("tried on tenant {TENANT}: {PERCENT} % enforced, then none"))
        }
        (Err(failed), _) => Check::failed(
            name,
            &failed.to_string(),
            "see the logs of the workers, and rollout history rollout-doctor, then run this again",
        ),
        (Ok(()), Err(failed)) => Check::failed(
            name,
            &format!("tried, but not removed: {failed}"),
            "delete the rollout and the policy of the tenant rollout-doctor",
        ),
    }
}

async fn rehearse(session: &Session) -> Result<(), Failed> {
    let reason = |body: Body| body.with("reason", Some("trial of a rollback by rollout doctor"));
    let document = Body::new().with("tenant_id", Some(TENANT)).with("policy", Some(policy()));
    change(session, "policy.put", reason(document)).await?;
    change(session, "rollout.put", reason(Body::new().with("plan", Some(plan())))).await?;
    change(session, "rollout.start", reason(rollout())).await?;
    until(session, "half of the requests are enforced", "rollout.status", rollout, |status| {
        status.get("state") == Some(&json!("running")) && status.get("percent") == Some(&json!(PERCENT))
    })
    .await?;
    let enforces = |percent: u64| {
        move |answer: &Value| {
            answer.pointer("/effective/circuit_breaker/enforce_percent") == Some(&json!(percent))
        }
    };
    until(session, "the policy enforces half", "policy.get", of_policy, enforces(PERCENT)).await?;
    change(session, "rollout.rollback", reason(rollout())).await?;
    until(session, "the rollout is rolled back", "rollout.status", rollout, |status| {
        status.get("state") == Some(&json!("rolled_back"))
    })
    .await?;
    until(session, "the policy enforces nothing", "policy.get", of_policy, enforces(0)).await
}

fn rollout() -> Body {
    Body::new().with("rollout", Some(ROLLOUT))
}

fn of_policy() -> Body {
    Body::new().with("tenant_id", Some(TENANT)).with("policy_id", Some(POLICY))
}

async fn change(session: &Session, verb: &'static str, body: Body) -> Result<(), Failed> {
    session.change(verb, body).await.map(drop).map_err(|error| Failed::Verb { verb, error })
}

/// Asks again and again until the answer is as wanted.
async fn until(
    session: &Session,
    what: &'static str,
    verb: &'static str,
    body: impl Fn() -> Body,
    is_so: impl Fn(&Value) -> bool,
) -> Result<(), Failed> {
    let mut seen = String::new();
    let asking = async {
        loop {
            let answer = session.ask(verb, body()).await.map_err(|error| Failed::Verb { verb, error })?;
            if is_so(&answer) {
                return Ok(());
            }
            seen = brief(&answer);
            tokio::time::sleep(LOOK).await;
        }
    };
    let asked = tokio::time::timeout(PATIENCE, asking).await;
    asked.unwrap_or(Err(Failed::Late { what, seen }))
}

/// What of an answer says how far it is.
fn brief(answer: &Value) -> String {
    let enforced = answer.pointer("/effective/circuit_breaker/enforce_percent");
    let fields = [answer.get("state"), answer.get("reasons"), answer.get("percent"), enforced];
    fields.into_iter().flatten().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Removes what the trial makes: that of this one, and that of one which was interrupted.
async fn remove(session: &Session) -> Result<(), Failed> {
    let state = match session.ask("rollout.status", rollout()).await {
        Ok(status) => status.get("state").and_then(Value::as_str).map(str::to_owned),
        Err(error) if is_absent(&error) => None,
        Err(error) => return Err(Failed::Verb { verb: "rollout.status", error }),
    };
    // Of a deleted one only its numbers are kept.
    if let Some(state) = state.filter(|state| state != "deleted") {
        if !matches!(state.as_str(), "draft" | "completed" | "rolled_back" | "aborted") {
            change(session, "rollout.abort", rollout()).await?;
        }
        absent(change(session, "rollout.delete", rollout()).await)?;
    }
    absent(change(session, "policy.delete", of_policy()).await)
}

fn is_absent(error: &ControlError) -> bool {
    matches!(error, ControlError::Refused(refusal) if matches!(refusal.code.as_str(), "not_found" | "policy_not_found"))
}

/// What is gone already need not be removed.
fn absent(done: Result<(), Failed>) -> Result<(), Failed> {
    match done {
        Err(Failed::Verb { error, .. }) if is_absent(&error) => Ok(()),
        done => done,
    }
}
