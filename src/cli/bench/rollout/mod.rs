//! What a rollout costs: all tenants in its one phase, at half of their requests.
//!
//! Two deployments stand on one broker, with the same tenants, whose policies say nothing of breakers. One of them has a
//! rollout. Both are asked in turn, as in all groups; then both have the same steady load with a result for each
//! decision, first with all providers well, then with one of them down. The rollout's blocks of that time are read from
//! its stream.

mod blocks;
mod report;
mod steady;

use std::time::Duration;

use serde_json::{Value, json};

pub(super) use blocks::Blocks;
pub(super) use report::{bars, json, tell, void};
pub(super) use steady::Steady;

use super::groups::{Group, Series, told};
use super::rounds::{Case, Target, run_rounds};
use super::site::{Deployment, Plan, PolicyKind, Site};
use super::{BenchArgs, BenchFailed, Effort};
use crate::cli::output::Output;
use crate::clock::Clock;
use crate::domain::RolloutId;
use crate::nats::control_client::ControlError;
use crate::nats::measuring::Load;

const ID: &str = "bench";
/// Requests of one tenant a second under the steady load.
const PER_TENANT: u32 = 2;
/// How long the rollout may take until it enforces refusals on all workers.
const IN_FORCE_SECONDS: u64 = 60;
const POLL: Duration = Duration::from_millis(50);

/// How long blocks and the steady load last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) block: Duration,
    settle: Duration,
    lasting: Duration,
}

impl Pace {
    /// At a second for each measurement, blocks of ten seconds: workers write tallies as often as with longer blocks.
    fn of(effort: Effort) -> Self {
        let block = (effort.lasting * 10).clamp(Duration::from_secs(1), Duration::from_secs(10));
        Self { block, settle: block * 2 / 5, lasting: block * 4 }
    }

    fn plan(self) -> Value {
        let millis = |duration: Duration| format!("{}ms", duration.as_millis());
        let phase = json!({
            "name": "all", "tenants": {"percent": 100}, "ladder": [50], "bake": "1h", "min": "1d", "max": "2d",
        });
        json!({
            "kind": "PolicyRollout", "id": ID, "history": "1m",
            "circuit_breaker": {"failure_threshold": 5, "timeout_ms": 30_000},
            "cohort": {"order": "hash"},
            "analysis": {"block": millis(self.block), "settle": millis(self.settle), "max_stale": "10m",
                "exercise": "no"},
            "phases": [phase],
        })
    }
}

/// What was measured of a rollout, beside the series of the closed loops.
#[derive(Clone, Debug)]
pub(super) struct Rollout {
    pub(super) pace: Pace,
    pub(super) tenants: u32,
    pub(super) per_second: u32,
    /// Each load without and with the rollout.
    pub(super) steady: Vec<[Steady; 2]>,
    /// The blocks of each load.
    pub(super) blocks: Vec<Blocks>,
    /// Windows that a worker counted otherwise than the first one.
    pub(super) differ: u64,
}

/// Measures it. Adds the series of the closed loops to `series`.
pub(super) async fn measure(
    args: &BenchArgs,
    site: &mut Site,
    effort: Effort,
    out: Output,
    series: &mut Vec<Series>,
) -> Result<Rollout, BenchFailed> {
    let pace = Pace::of(effort);
    let per_second = args.tenants.saturating_mul(PER_TENANT);
    out.note(&format!("rollout: setting up {} tenants, with a rollout and without", args.tenants));
    let plan =
        |key: &str| Plan { workers: 2, policies: vec![PolicyKind::OFF], ..Plan::usual(key, args.tenants) };
    let mut deployments = vec![site.deploy(plan("without")).await?, site.deploy(plan("rollout")).await?];
    // What the rollout's history counts: its sample of requests follows from their rate.
    let (site_now, lasting) = (&*site, pace.block * 6);
    let histories = deployments.iter().map(|d| steady::results(site_now, d, per_second, lasting));
    futures_util::future::try_join_all(histories).await?;
    if let [_, with] = &deployments[..] {
        start(with, &pace.plan()).await?;
    }
    let mut cases = Vec::new();
    for in_flight in [64, 512] {
        for (at, name) in [(1, "rollout"), (0, "without")] {
            let target = Target::Router {
                at,
                policy: PolicyKind::OFF.id,
                results: false,
                imported: false,
                pushed: false,
            };
            cases.push(Case { name: name.to_owned(), target, load: Load::Closed { in_flight } });
        }
    }
    out.note(&format!("rollout: {} rounds of {} measurements", effort.rounds, cases.len()));
    let runs = run_rounds(site, &mut deployments, &cases, effort).await?;
    for (case, runs) in cases.into_iter().zip(runs) {
        series.push(Series { group: Group::Rollout, load: told(case.load), target: case.name, runs });
    }
    let (mut steady, mut spans) = (Vec::new(), Vec::new());
    if let [without, with] = &deployments[..] {
        for load in steady::Providers::ALL {
            let seconds = 2.0 * (pace.block + pace.lasting).as_secs_f64();
            out.note(&format!("rollout: {per_second} requests a second, {}, {seconds:.0} s", load.words()));
            let (base, _) = steady::measure(site, without, per_second, load, pace).await?;
            let (with, span) = steady::measure(site, with, per_second, load, pace).await?;
            steady.push([base, with]);
            spans.push(span);
        }
    }
    let (mut blocks, mut differ) = (Vec::new(), 0);
    if let [_, with] = &deployments[..] {
        blocks = blocks::read(with, &spans, pace).await?;
        let pages = with.pages().await;
        differ = pages.iter().map(|page| page.sum("router_rollout_blocks_differ_total", &[])).sum();
        if !enforces(with).await? {
            return Err(never(with, "the rollout did not go on as it began"));
        }
    }
    site.check()?;
    deployments.iter_mut().try_for_each(Deployment::check)?;
    for deployment in deployments {
        deployment.close().await;
    }
    Ok(Rollout { pace, tenants: args.tenants, per_second, steady, blocks, differ })
}

fn id() -> Result<RolloutId, BenchFailed> {
    RolloutId::try_new(ID).map_err(|error| BenchFailed::Rollout(error.to_string()))
}

fn never(deployment: &Deployment, what: &'static str) -> BenchFailed {
    BenchFailed::Never { name: deployment.plan.key.clone(), seconds: IN_FORCE_SECONDS, what }
}

/// Puts and starts the rollout, and waits until all workers enforce refusals.
async fn start(deployment: &Deployment, plan: &Value) -> Result<(), BenchFailed> {
    let control = deployment.control();
    let started = async {
        // A worker that has not read the stream yet refuses it.
        while let Err(refused) = control.request("rollout.put", &json!({"plan": plan})).await {
            match refused {
                ControlError::Refused(refusal) if refusal.code == "unavailable" => {
                    tokio::time::sleep(POLL).await;
                }
                other => return Err(other.into()),
            }
        }
        control.request("rollout.start", &json!({"rollout": ID})).await?;
        while !enforces(deployment).await? {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    };
    let started = tokio::time::timeout(Duration::from_secs(IN_FORCE_SECONDS), started).await;
    started.unwrap_or_else(|_| Err(never(deployment, "its rollout does not enforce refusals")))
}

/// Whether every worker has the rollout's step, and half of the requests of all tenants are treated.
async fn enforces(deployment: &Deployment) -> Result<bool, BenchFailed> {
    let pages = deployment.pages().await;
    let percent = pages.iter().all(|page| page.sum("router_rollout_percent", &[]) == 50);
    let status = deployment.control().request("rollout.status", &json!({"rollout": ID})).await?;
    let all = status["tenants"].as_array().is_some_and(|tenants| {
        tenants.len() as u64 == u64::from(deployment.plan.tenants)
            && tenants.iter().all(|tenant| tenant["percent"] == 50)
    });
    Ok(pages.len() == usize::from(deployment.plan.workers) && percent && all && status["state"] == "running")
}

/// Moments of the wall clock, in milliseconds since the Unix epoch.
fn wall_ms() -> u64 {
    Clock::start().wall_ms()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_is_one_that_the_router_takes() {
        for lasting in [100, 1_000, 60_000].map(Duration::from_millis) {
            let pace = Pace::of(Effort { rounds: 1, warm_up: lasting / 5, lasting });
            let plan = crate::rollout::plan::parse(&pace.plan()).unwrap().plan;
            assert_eq!(plan.phases().len(), 1);
            assert!(u128::from(plan.analysis().settle_ms) == pace.settle.as_millis());
        }
    }
}
