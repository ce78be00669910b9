//! `demo --rollout`: breakers are switched on for eight tenants by a rollout whose plan is in seconds.
//!
//! Broker, workers, verbs, evidence and decisions are real; only the calls to providers are played. Meanwhile a provider
//! fails for everybody, which hits both arms and rolls nobody back, and then one tenant's fallback turns out to be
//! broken, which harms the treated arm alone. [`course`] says when what happens, [`users`] play the tenants.

mod course;
mod users;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::DemoArgs;
use super::failed::DemoFailed;
use super::stage::{Stage, put_policy};
use crate::cli::exit::Exit;
use crate::cli::output::Output;
use crate::cli::rollout::page_files;
use crate::clock::Clock;
use crate::domain::RolloutId;
use crate::nats::control_client::{ControlClient, ControlError};
use crate::rollout::controller::{Status, TenantState};
use crate::rollout::pages::pages;
use course::{Action, Course, HARMED, ROLLOUT, TENANTS, plan, policy};
use users::Users;

/// Between questions.
const EVERY: Duration = Duration::from_millis(250);
/// A rollout that has not ended by then will not.
const LONGEST: Duration = Duration::from_secs(240);

/// Runs the demo until the rollout ends, or a signal.
pub(super) async fn perform(
    args: &DemoArgs,
    stop: &CancellationToken,
    out: Output,
) -> Result<Exit, DemoFailed> {
    let mut stage = Stage::new()?;
    let shown = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        shown = show(&mut stage, args, out) => Some(shown),
    };
    stage.strike().await;
    out.line("nothing is left running");
    let Some(shown) = shown else { return Ok(Exit::Done) };
    let (status, pages) = shown?;
    out.line(&format!("the pages of the rollout are in {}", pages.display()));
    let missing = missing(&status);
    missing.iter().for_each(|what| out.error(&format!("this did not happen: {what}")));
    Ok(if missing.is_empty() { Exit::Done } else { Exit::Refused })
}

async fn show(stage: &mut Stage, args: &DemoArgs, out: Output) -> Result<(Status, PathBuf), DemoFailed> {
    let settings = stage.raise(args, out).await?;
    let control = ControlClient::connect(&settings).await?;
    for tenant in TENANTS {
        put_policy(&control, tenant, &policy(), out).await?;
    }
    stage.policies_in_force(TENANTS.len() as u64).await?;
    let users = Users::start(&settings).await?;
    out.line("> Eight tenants ask. None of their policies says anything of breakers");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let put = json!({"plan": plan(), "actor": "demo", "reason": "breakers for all"});
    control.request("rollout.put", &put).await?;
    order(&control, "start", "the demo begins").await?;
    let status = follow(stage, &control, &users, out).await?;
    users.stop().await;
    let folder = write(&control, args.out.as_deref()).await?;
    Ok((status, folder))
}

/// Follows the rollout to its end, plays the operator, and says what happens.
async fn follow(
    stage: &mut Stage,
    control: &ControlClient,
    users: &Users,
    out: Output,
) -> Result<Status, DemoFailed> {
    let clock = Clock::start();
    let began = clock.tick();
    let mut course = Course::default();
    let mut shown = String::new();
    let mut back = BTreeSet::new();
    loop {
        stage.check()?;
        let answer = control.request("rollout.status", &json!({"rollout": ROLLOUT})).await?;
        let Ok(status) = serde_json::from_value::<Status>(answer) else { continue };
        let line = line(&status);
        if line != shown {
            out.line(&line);
            shown = line;
        }
        for tenant in status.tenants.iter().filter(|tenant| tenant.state == TenantState::RolledBack) {
            if back.insert(tenant.tenant_id.clone()) {
                out.line(&format!(
                    "  {} is rolled back: evidence of harm {} nats. Its refusals are enforced no more",
                    tenant.tenant_id, tenant.log_e
                ));
            }
        }
        let now = clock.tick();
        for action in course.next(&status, now) {
            match action {
                Action::Say(text) => out.line(&format!("> {text}")),
                Action::Set(providers) => users.set(providers),
                Action::Approve => {
                    out.line(&format!("$ beamline-router rollout approve {ROLLOUT} --reason 'looks good'"));
                    match order(control, "approve", "looks good").await {
                        Ok(_) => {}
                        // Something came between the question and the command: the next look decides again.
                        Err(DemoFailed::Rollout(ControlError::Refused(why))) => out.line(&format!("  {why}")),
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        let has_ended = matches!(status.state.as_str(), "completed" | "rolled_back" | "aborted");
        if has_ended || Duration::from_millis(now.since(began)) > LONGEST {
            return Ok(status);
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn order(control: &ControlClient, verb: &str, reason: &str) -> Result<Value, DemoFailed> {
    let body = json!({"rollout": ROLLOUT, "actor": "demo", "reason": reason});
    Ok(control.request(&format!("rollout.{verb}"), &body).await?)
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

/// Writes the pages from the stream.
async fn write(control: &ControlClient, out: Option<&Path>) -> Result<PathBuf, DemoFailed> {
    let folder = match out {
        Some(folder) => folder.to_owned(),
        None => std::env::temp_dir().join(format!("beamline-rollout-{}", std::process::id())),
    };
    if let Ok(rollout) = RolloutId::try_new(ROLLOUT) {
        let recorded = control.rollout_messages(&rollout).await?;
        let pages = pages(recorded.made, &rollout, recorded.messages);
        page_files::write(&pages, &folder).map_err(|(_, error)| error)?;
    }
    Ok(folder)
}

/// What should have happened and did not.
fn missing(status: &Status) -> Vec<String> {
    let mut missing = Vec::new();
    if status.state != "completed" {
        missing.push(format!("the rollout completes (it is {})", status.state));
    }
    for tenant in &status.tenants {
        let is_back = tenant.state == TenantState::RolledBack;
        if is_back != (tenant.tenant_id.as_str() == HARMED) {
            let what = if is_back { "stays in" } else { "is rolled back" };
            missing.push(format!("{} {what}", tenant.tenant_id));
        }
    }
    missing
}
