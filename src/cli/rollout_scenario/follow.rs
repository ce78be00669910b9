use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::course::{Action, Course, Providers};
use super::plan::{Form, ROLLOUT};
use super::users::Users;
use crate::clock::Clock;
use crate::nats::control_client::{ControlClient, ControlError};
use crate::rollout::controller::{Status, TenantState};

/// Between questions.
const EVERY: Duration = Duration::from_millis(250);
/// A rollout that has not ended by then will not.
const LONGEST: Duration = Duration::from_secs(300);

/// What happens.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) enum Notice<'l> {
    /// In words.
    Line(&'l str),
    /// Providers are so from now on.
    Set(Providers),
    /// A tenant is rolled back.
    RolledBack,
}

/// Puts the plan and starts it.
pub(in crate::cli) async fn begin(
    control: &ControlClient,
    form: Form,
    actor: &str,
) -> Result<(), ControlError> {
    let put = json!({"plan": form.plan(), "actor": actor, "reason": "breakers for all"});
    control.request("rollout.put", &put).await?;
    order(control, "start", actor, "it begins").await
}

/// Follows the rollout to its end, does what the course says, and reports it. How the rollout stands at its end, or
/// when it took too long.
pub(in crate::cli) async fn follow<E: From<ControlError>>(
    control: &ControlClient,
    users: &Users,
    form: Form,
    actor: &str,
    mut check: impl FnMut() -> Result<(), E>,
    mut notice: impl FnMut(Notice<'_>),
) -> Result<Status, E> {
    let clock = Clock::start();
    let began = clock.tick();
    let mut course = Course::new(form);
    let mut shown = String::new();
    let mut back = BTreeSet::new();
    loop {
        check()?;
        let answer = control.request("rollout.status", &json!({"rollout": ROLLOUT})).await?;
        let Ok(status) = serde_json::from_value::<Status>(answer) else { continue };
        let line = line(&status);
        if line != shown {
            notice(Notice::Line(&line));
            shown = line;
        }
        for tenant in status.tenants.iter().filter(|tenant| tenant.state == TenantState::RolledBack) {
            if back.insert(tenant.tenant_id.clone()) {
                notice(Notice::RolledBack);
                notice(Notice::Line(&format!(
                    "  {} is rolled back: evidence of harm {} nats. Its refusals are enforced no more",
                    tenant.tenant_id, tenant.log_e
                )));
            }
        }
        let now = clock.tick();
        for action in course.next(&status, now) {
            match action {
                Action::Say(text) => notice(Notice::Line(&format!("> {text}"))),
                Action::Set(providers) => {
                    notice(Notice::Set(providers));
                    users.set(providers);
                }
                Action::Approve => {
                    notice(Notice::Line(&format!(
                        "$ beamline-router rollout approve {ROLLOUT} --reason 'looks good'"
                    )));
                    match order(control, "approve", actor, "looks good").await {
                        Ok(()) => {}
                        // Something came between the question and the command: the next look decides again.
                        Err(ControlError::Refused(why)) => notice(Notice::Line(&format!("  {why}"))),
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        if status.has_ended() || Duration::from_millis(now.since(began)) > LONGEST {
            return Ok(status);
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn order(control: &ControlClient, verb: &str, actor: &str, reason: &str) -> Result<(), ControlError> {
    let body = json!({"rollout": ROLLOUT, "actor": actor, "reason": reason});
    control.request(&format!("rollout.{verb}"), &body).await.map(|_| ())
}

/// Where it stands, in one line that changes when something happens.
fn line(status: &Status) -> String {
    let mut line = format!("{ROLLOUT}: {}", status.state);
    if let Some(phase) = &status.phase {
        line.push_str(&format!(", phase {phase}"));
    }
    if let Some(step) = status.step {
        line.push_str(&format!(", step {}, {} % enforced", step + 1, status.percent));
    }
    if !status.reasons.is_empty() {
        line.push_str(&format!(" ({})", status.reasons.join(", ")));
    }
    line
}
