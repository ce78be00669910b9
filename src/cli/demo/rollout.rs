//! `demo --rollout`: breakers are switched on for eight tenants by a rollout whose plan is in seconds.
//!
//! [`rollout_scenario`](crate::cli::rollout_scenario) says what happens; here it is shown.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::DemoArgs;
use super::failed::DemoFailed;
use super::stage::{Stage, put_policy};
use crate::cli::exit::Exit;
use crate::cli::output::Output;
use crate::cli::rollout::page_files;
use crate::cli::rollout_scenario::{Form, HARMED, Notice, ROLLOUT, Users, begin, follow, policy};
use crate::domain::RolloutId;
use crate::nats::control_client::ControlClient;
use crate::rollout::controller::{Status, TenantState};
use crate::rollout::pages::pages;

const FORM: Form = Form::Short;
const ACTOR: &str = "demo";
/// The history of the first phase.
const BEFORE: Duration = Duration::from_secs(3);

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
    let tenants = FORM.tenants();
    for tenant in tenants {
        put_policy(&control, tenant, &policy(tenant), out).await?;
    }
    stage.policies_in_force(tenants.len() as u64).await?;
    let users = Users::start(&settings, tenants).await?;
    out.line("> Eight tenants ask. None of their policies enables breakers");
    tokio::time::sleep(BEFORE).await;
    begin(&control, FORM, ACTOR).await?;
    let check = || stage.check();
    let notice = |notice: Notice<'_>| {
        if let Notice::Line(line) = notice {
            out.line(line);
        }
    };
    let status = follow(&control, &users, FORM, ACTOR, check, notice).await?;
    users.stop().await;
    let folder = write(&control, args.out.as_deref()).await?;
    Ok((status, folder))
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
