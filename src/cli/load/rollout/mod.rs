//! Scenario 5: breakers are switched on by a rollout, while an outage hits everybody and one tenant is harmed.
//!
//! What happens is what `demo --rollout` shows ([`rollout_scenario`](crate::cli::rollout_scenario)). Here it is judged
//! ([`judge`]) by what the tenants' programs saw, by the stream of rollouts, and by the steps in the log. While the
//! harmed tenant is out and its circuit still open, each worker is asked by itself, too ([`each_worker`]).

mod each_worker;
mod judge;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;

use super::Length;
use super::failed::LoadFailed;
use super::ground::{Ground, Scene};
use super::moves::Move;
use super::report::Section;
use crate::breaker::State;
use crate::cli::rollout::page_files;
use crate::cli::rollout_scenario::{Form, Notice, PRIMARY, Providers, Seen, Users, begin, follow, policy};
use crate::cli::stand::Page;
use crate::domain::{RolloutId, Stamp};
use crate::log::StepEntry;
use crate::nats::control_client::ControlError;
use crate::nats::rollouts::Recorded;
use crate::rollout::controller::{Decision, Message, Status};
use crate::rollout::pages::pages;
use each_worker::EachWorker;

const ACTOR: &str = "load";
/// The history of the first phase.
const BEFORE: Duration = Duration::from_secs(3);
/// Of this family and these log lines there is one for each disagreement of a worker.
const BLOCKS_DIFFER: &str = "router_rollout_blocks_differ_total";
const DIFFER: [&str; 2] = ["rollout_decision_differs", "rollout_block_differs"];

/// What one run showed.
#[derive(Debug)]
struct Ran {
    form: Form,
    /// How the rollout stands at its end.
    status: Status,
    /// What the programs saw, by tenant.
    seen: BTreeMap<&'static str, Seen>,
    /// What each worker answered the harmed tenant after its rollback.
    each_worker: Vec<Seen>,
    began: Stamp,
    moments: Moments,
    /// The decisions of the rollout by number, each once, with their stamps.
    decisions: BTreeMap<u64, (Stamp, Decision)>,
    /// Records that say otherwise than the first one of the same number.
    records_differ: u64,
    /// The steps in the log by the number of their decision, with their places.
    steps: BTreeMap<u64, (u64, StepEntry)>,
    /// Tenants whose circuit at the primary provider opened in the outage.
    opened: BTreeSet<String>,
    /// The pages by path, and how many of them are not made again the same.
    pages: BTreeMap<String, String>,
    pages_differ: u64,
    agreement: Agreement,
}

/// When something was done: places of the log that decisions rested on then, and a time.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    outage_position: u64,
    harm_position: u64,
    harm_at: Stamp,
}

/// What the workers say of each other.
#[derive(Clone, Copy, Debug, Default)]
struct Agreement {
    /// Blocks and decisions that one made otherwise than another.
    differ: u64,
    workers: u64,
    /// Workers with the first one's state at the log's end.
    equal: u64,
}

pub(super) async fn run(ground: &mut Ground, scene: &Scene) -> Result<Section, LoadFailed> {
    let form = if scene.length == Length::Short { Form::Short } else { Form::Long };
    let ran = perform(form, ground, scene).await?;
    let mut section = Section::new(5);
    judge::judge(&mut section, &ran);
    Ok(section)
}

async fn perform(form: Form, ground: &mut Ground, scene: &Scene) -> Result<Ran, LoadFailed> {
    let tenants = form.tenants();
    for tenant in tenants {
        let body = json!({"tenant_id": tenant, "policy": policy(tenant), "actor": ACTOR});
        scene.ask("policy.put", &body).await?;
    }
    ground.applied(scene.client.log_counts().await?.last).await?;
    let users = Users::start(&scene.settings, tenants).await?;
    let each_worker = EachWorker::ready(scene, ground.workers(), users.calls()).await?;
    tokio::time::sleep(BEFORE).await;
    let began = Stamp(scene.clock.wall_ms());
    begin(&scene.control, form, ACTOR).await?;
    let mut moments = Moments::default();
    let notice = |notice: Notice<'_>| match notice {
        Notice::Line(line) => scene.out.line(&format!("5. {line}")),
        Notice::Set(Providers::Outage) => moments.outage_position = users.position(),
        Notice::Set(Providers::BrokenFallback) => {
            moments.harm_position = users.position();
            moments.harm_at = Stamp(scene.clock.wall_ms());
        }
        Notice::Set(Providers::Well) => each_worker.end(),
        Notice::RolledBack => each_worker.begin(),
    };
    let status = follow(&scene.control, &users, form, ACTOR, || ground.check(), notice).await?;
    let seen = users.stop().await;
    let each_worker = each_worker.seen().await;
    let agreement = agreement(ground, scene).await?;
    let rollout = status.rollout.clone();
    let steps = steps(scene, &rollout).await?;
    let opened = opened(scene, moments).await?;
    let read = async || scene.control.rollout_messages(&rollout).await.map_err(LoadFailed::NotRead);
    let (recorded, again) = (read().await?, read().await?);
    let (decisions, records_differ) = decisions(&recorded);
    let (pages, pages_differ) = made_twice(ground, &rollout, recorded, again)?;
    Ok(Ran {
        form,
        status,
        seen,
        each_worker,
        began,
        moments,
        decisions,
        records_differ,
        steps,
        opened,
        pages,
        pages_differ,
        agreement,
    })
}

async fn agreement(ground: &mut Ground, scene: &Scene) -> Result<Agreement, LoadFailed> {
    let told = ground.applied(scene.client.log_counts().await?.last).await?;
    let state = |page: &Page| (page.position.clone(), page.digest.clone());
    let first = told.first().map(state);
    Ok(Agreement {
        differ: told.iter().map(|page| page.sum(BLOCKS_DIFFER, &[])).sum::<u64>() + ground.logged(&DIFFER),
        workers: told.len() as u64,
        equal: told.iter().filter(|page| Some(state(page)) == first).count() as u64,
    })
}

/// Reads the rollout's steps in the log.
async fn steps(scene: &Scene, rollout: &RolloutId) -> Result<BTreeMap<u64, (u64, StepEntry)>, LoadFailed> {
    let mut steps = BTreeMap::new();
    for (position, mut body) in scene.client.kept_steps().await? {
        let Ok(step) = serde_json::from_value::<StepEntry>(body["entry"].take()) else { continue };
        if step.rollout == *rollout {
            steps.entry(step.number.n).or_insert((position, step));
        }
    }
    Ok(steps)
}

/// Whose circuit at the primary provider opened in the outage.
async fn opened(scene: &Scene, moments: Moments) -> Result<BTreeSet<String>, LoadFailed> {
    let outage = moments.outage_position..moments.harm_position;
    let kept = scene.client.kept_transitions().await?;
    let moves = kept.into_iter().filter_map(|event| serde_json::from_value::<Move>(event).ok());
    let opened = moves.filter(|it| it.provider_id == PRIMARY && it.to == State::Open);
    Ok(opened.filter(|it| outage.contains(&it.position)).map(|it| it.tenant_id).collect())
}

/// The first record of each decision, and how many records say otherwise than the first.
fn decisions(recorded: &Recorded) -> (BTreeMap<u64, (Stamp, Decision)>, u64) {
    let mut decisions: BTreeMap<u64, (Stamp, Decision)> = BTreeMap::new();
    let mut differ = 0;
    for (_, stamp, message) in &recorded.messages {
        let Message::Decision(decision) = message else { continue };
        let (_, first) = decisions.entry(decision.n).or_insert_with(|| (*stamp, (**decision).clone()));
        differ += u64::from(first != &**decision);
    }
    (decisions, differ)
}

/// Writes the pages as `rollout report` does, and compares them with those of another reading as `rollout rebuild` does.
fn made_twice(
    ground: &Ground,
    rollout: &RolloutId,
    recorded: Recorded,
    again: Recorded,
) -> Result<(BTreeMap<String, String>, u64), LoadFailed> {
    let folder = ground.folder().join("pages");
    let written = pages(recorded.made, rollout, recorded.messages);
    page_files::write(&written, &folder).map_err(|(path, source)| LoadFailed::Report { path, source })?;
    let again = pages(again.made, rollout, again.messages);
    let differing = page_files::differing(&again, &folder).len() as u64;
    Ok((written, differing))
}

impl From<ControlError> for LoadFailed {
    fn from(source: ControlError) -> Self {
        Self::Control { verb: "rollout", source: Box::new(source) }
    }
}
