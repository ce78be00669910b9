//! What each verb asks the router for, and what it says then.

use std::path::Path;

use serde_json::Value;

use super::args::{Change, RolloutVerb, Started, Which};
use super::{checks, listed, page_files, plan_file, watch};
use crate::cli::exit::{Failure, exit_of, tell_control};
use crate::cli::output::{Output, shown};
use crate::cli::shell::{Body, Session};
use crate::nats::control_client::ControlError;

impl Which {
    pub(super) fn body(&self) -> Body {
        Body::new().with("rollout", Some(self.id.as_str()))
    }
}

impl Change {
    fn onto(self, body: Body) -> Body {
        body.with("expected_seq", self.expected_seq).with("reason", self.reason)
    }
}

impl RolloutVerb {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Put { plan, change } => put(session, &plan.file, change).await.map(|_answer| ()),
            Self::Lint { plan } => {
                let answer = ask_of_plan(session, "lint", &plan.file).await?;
                checks::lint(session, &plan.file, &answer)
            }
            Self::Plan { plan } => {
                let answer = ask_of_plan(session, "plan", &plan.file).await?;
                checks::tenants(session.out, &answer)
            }
            Self::Start { started, watch, change } => {
                let id = start(session, started, change).await?;
                if watch { watch::live(session, &id).await } else { Ok(()) }
            }
            Self::Approve { which, change } => change_one(session, "approve", which.body(), change).await,
            Self::Promote { which, criterion, reason, expected_seq } => {
                let body = which.body().with("override", Some(criterion));
                change_one(session, "promote", body, Change { expected_seq, reason: Some(reason) }).await
            }
            Self::Extend { which, by, change } => {
                change_one(session, "extend", which.body().with("by", Some(by)), change).await
            }
            Self::Pause { which, change } => change_one(session, "pause", which.body(), change).await,
            Self::Resume { which, change } => change_one(session, "resume", which.body(), change).await,
            Self::Rollback { which, tenant, change } => {
                change_one(session, "rollback", which.body().with("tenant_id", tenant), change).await
            }
            Self::Abort { which, change } => change_one(session, "abort", which.body(), change).await,
            Self::Drill { which, tenant, provider, period, change } => {
                let body = which.body().with("tenant_id", Some(tenant)).with("provider_id", Some(provider));
                change_one(session, "drill", body.with("for", Some(period)), change).await
            }
            Self::Issue { which, change_to, text, change } => {
                let body = which.body().with("change", Some(change_to.as_str())).with("text", Some(text));
                change_one(session, "issue", body, change).await
            }
            Self::Graduate { which, change } => change_one(session, "graduate", which.body(), change).await,
            Self::Delete { which, change } => change_one(session, "delete", which.body(), change).await,
            Self::Get { which } => {
                let answer = session.ask("rollout.get", which.body()).await?;
                session.out.body(&answer);
                session.out.document(answer.get("plan").unwrap_or(&Value::Null));
                if !session.out.is_json() {
                    session.out.note(&listed::standing(&answer));
                }
                Ok(())
            }
            Self::List => {
                let (answer, rollouts) = session.list("rollout.list", Body::new(), "rollouts").await?;
                session.out.body(&answer);
                session.out.table(&listed::rollouts(&rollouts));
                Ok(())
            }
            Self::Status { which, watch: true } => watch::live(session, &which.id).await,
            Self::Status { which, watch: false } => watch::once(session, &which.id).await,
            Self::Recommend(args) => args.run(session).await,
            Self::Doctor(args) => args.run(session).await,
            Self::Entries(args) => args.run(session).await,
            Self::Simulate(args) => args.run(session),
            Self::Report { which, out } => page_files::report(session, &which.id, &out).await,
            Self::Rebuild { which, check } => page_files::rebuild(session, &which.id, &check).await,
            Self::History(args) => args.run(session).await,
        }
    }
}

/// A verb that changes a rollout, and how it stands then.
async fn change_one(session: &Session, verb: &str, body: Body, change: Change) -> Result<(), Failure> {
    let answer = session.change(&format!("rollout.{verb}"), change.onto(body)).await?;
    changed(session, &answer);
    Ok(())
}

fn changed(session: &Session, answer: &Value) {
    session.out.body(answer);
    session.out.line(&listed::standing(answer));
    session.warn(answer);
}

async fn put(session: &Session, file: &Path, change: Change) -> Result<Value, Failure> {
    let body = plan_of(file)?;
    let answer = session.change("rollout.put", change.onto(body)).await;
    let answer = answer.map_err(|error| in_file(session.out, file, &error))?;
    changed(session, &answer);
    Ok(answer)
}

/// Starts a rollout, whose plan is put before where a file has it. Gives its id.
async fn start(session: &Session, started: Started, change: Change) -> Result<String, Failure> {
    let (id, change) = match (started.id, started.file) {
        (_, Some(file)) => {
            let answer = put(session, &file, change.clone()).await?;
            // What is started is the plan that was put, and no other.
            let expected_seq = answer.get("seq").and_then(Value::as_u64);
            (shown(answer.get("rollout")), Change { expected_seq, ..change })
        }
        (id, None) => (id.unwrap_or_default(), change),
    };
    let which = Which { id };
    change_one(session, "start", which.body(), change).await?;
    Ok(which.id)
}

async fn ask_of_plan(session: &Session, verb: &str, file: &Path) -> Result<Value, Failure> {
    let body = plan_of(file)?;
    let answer = session.ask(&format!("rollout.{verb}"), body).await;
    answer.map_err(|error| in_file(session.out, file, &error))
}

fn plan_of(file: &Path) -> Result<Body, Failure> {
    let plan = plan_file::read(file).map_err(|fault| vec![fault])?;
    Ok(Body::new().with("plan", Some(plan)))
}

/// Says why a request with the plan of a file came to nothing.
fn in_file(out: Output, file: &Path, error: &ControlError) -> Failure {
    if let ControlError::Refused(refusal) = error {
        out.body(&refusal.body);
    }
    tell_control(out, Some(&file.display().to_string()), error);
    Failure::Told(exit_of(error))
}
