//! What is measured together: which deployments stand, and who is asked how.

use std::time::Duration;

use super::accounts;
use super::bars;
use super::figures::{Figure, Run, Spread};
use super::pushed;
use super::rollout::Rollout;
use super::rounds::{Case, Target, run_rounds};
use super::site::{Deployment, Plan, PolicyKind, Site};
use super::{BenchArgs, BenchFailed, Effort};
use crate::cli::output::Output;
use crate::cli::stand::Machine;
use crate::nats::measuring::{EchoOver, Load, Tap};

/// What can be measured.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// 1, 64, 512 and 4096 requests in flight, floor, router and raw echo
    Closed,
    /// Breakers on and off, at 64 in flight
    Breakers,
    /// 1k, 10k, 50k and 100k requests a second, floor and router
    Open,
    /// A result for each decision, usage metering off and on
    Results,
    /// Traces off, at 1 % and of every decision
    Tracing,
    /// Decisions and results from the router's account, and through an import from another one
    Accounts,
    /// Decisions whose assignment is pushed, and others
    Pushed,
    /// 100k results a second, and how far a worker is behind
    Following,
    /// 1, 1k and 100k tenants
    Tenants,
    /// Policies of 3, 30 and 200 providers; 20 policies for each tenant
    Policies,
    /// Windows of 10 s, 60 s and an hour, results flowing
    Windows,
    /// 1, 2 and 4 workers
    Workers,
    /// Resident memory with a million breakers
    Memory,
    /// A rollout of all tenants: decisions beside those without it, and its blocks
    Rollout,
}

impl Group {
    /// What is measured where nothing else is said.
    pub(super) fn usual(quick: bool) -> Vec<Self> {
        let all = [
            Self::Closed,
            Self::Breakers,
            Self::Results,
            Self::Open,
            Self::Tracing,
            Self::Accounts,
            Self::Pushed,
        ];
        all.into_iter().take(if quick { 3 } else { all.len() }).collect()
    }

    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Breakers => "breakers",
            Self::Open => "open",
            Self::Results => "results",
            Self::Tracing => "tracing",
            Self::Accounts => accounts::KEY,
            Self::Pushed => pushed::KEY,
            Self::Following => "following",
            Self::Tenants => "tenants",
            Self::Policies => "policies",
            Self::Windows => "windows",
            Self::Workers => "workers",
            Self::Memory => "memory",
            Self::Rollout => "rollout",
        }
    }
}

/// One case, over all rounds.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) group: Group,
    /// What is asked: `512 in flight`.
    pub(super) load: String,
    /// Who answers: `floor`, `router`, or what sets it apart.
    pub(super) target: String,
    pub(super) runs: Vec<Run>,
}

impl Series {
    pub(super) fn spread(&self, figure: Figure) -> Spread {
        Spread::of(self.runs.iter().map(|run| run.figure(figure)))
    }
}

/// How a worker followed results that came at a fixed rate.
#[derive(Clone, Debug)]
pub(super) struct Following {
    pub(super) per_second: u32,
    pub(super) published: u64,
    pub(super) nanos: u64,
    pub(super) entries: u64,
    /// How far behind it was, in milliseconds, at moments evenly spread.
    pub(super) behind_ms: Vec<f64>,
    /// Microseconds of CPU for each result.
    pub(super) worker_cpu_us: f64,
}

/// What a worker resides in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) breakers: u64,
    pub(super) empty_bytes: u64,
    pub(super) full_bytes: u64,
    pub(super) setup: Duration,
}

/// All that was measured.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) machine: Machine,
    pub(super) broker: String,
    pub(super) serve: Vec<String>,
    pub(super) effort: Effort,
    pub(super) series: Vec<Series>,
    pub(super) following: Option<Following>,
    pub(super) memory: Option<Memory>,
    pub(super) rollout: Option<Rollout>,
    /// Bytes of traces that the collector took.
    pub(super) trace_bytes: Option<u64>,
    /// Resident memory of a worker without policies, in bytes.
    pub(super) idle_bytes: Option<u64>,
}

impl Measured {
    /// Why it is worth nothing, if it is.
    pub(super) fn void(&self) -> Option<String> {
        bars::void(self)
    }

    pub(super) fn find(&self, group: Group, load: &str, target: &str) -> Option<&Series> {
        self.series.iter().find(|s| s.group == group && s.load == load && s.target == target)
    }
}

/// Measures some groups, one after the other.
pub(super) async fn measure(
    args: &BenchArgs,
    groups: &[Group],
    effort: Effort,
    out: Output,
) -> Result<Measured, BenchFailed> {
    let mut site = Site::open(args).await?;
    let mut measured = Measured {
        machine: Machine::this(),
        broker: site.broker_version().to_owned(),
        serve: args.serve.clone(),
        effort,
        series: Vec::new(),
        following: None,
        memory: None,
        rollout: None,
        trace_bytes: None,
        idle_bytes: None,
    };
    for group in groups {
        match group {
            Group::Following => {
                out.note("following: 100k results a second for 10 s");
                measured.following = Some(super::growth::following(&site).await?);
            }
            Group::Memory => {
                out.note("memory: a million breakers, which takes minutes to set up");
                measured.memory = Some(super::growth::memory(&site).await?);
            }
            Group::Rollout => {
                let rollout =
                    super::rollout::measure(args, &mut site, effort, out, &mut measured.series).await?;
                measured.rollout = Some(rollout);
            }
            group => one(args, &mut site, *group, effort, out, &mut measured).await?,
        }
    }
    site.close().await;
    Ok(measured)
}

async fn one(
    args: &BenchArgs,
    site: &mut Site,
    group: Group,
    effort: Effort,
    out: Output,
    measured: &mut Measured,
) -> Result<(), BenchFailed> {
    out.note(&format!("{}: setting up", group.key()));
    let sink = if group == Group::Tracing { Some(super::sink::open().await?) } else { None };
    let mut deployments = Vec::new();
    let against = args.against.as_ref().filter(|_| group == Group::Closed);
    let before = against.map(|program| Plan {
        policies: vec![PolicyKind::ON],
        program: Some(program.clone()),
        ..Plan::usual("before", args.tenants)
    });
    let usual = plans(group, args.tenants, sink.as_ref().map(|sink| sink.url.as_str()));
    for plan in usual.into_iter().chain(before) {
        deployments.push(site.deploy(plan).await?);
    }
    if let Some(first) = deployments.first().filter(|_| measured.idle_bytes.is_none()) {
        measured.idle_bytes = Some(first.empty_bytes);
    }
    let cases = cases(group, &deployments);
    let each = (effort.warm_up + effort.lasting).as_secs_f64();
    let count = u32::try_from(cases.len()).unwrap_or(u32::MAX);
    let seconds = each * f64::from(count) * f64::from(effort.rounds);
    out.note(&format!(
        "{}: {} rounds of {} measurements, {seconds:.0} s",
        group.key(),
        effort.rounds,
        cases.len()
    ));
    let _executor = match deployments.first().filter(|_| group == Group::Pushed) {
        Some(deployment) => {
            Some(Tap::open(site.settings(), std::slice::from_ref(&deployment.names.exec_assign)).await?)
        }
        None => None,
    };
    let runs = run_rounds(site, &mut deployments, &cases, effort).await?;
    for (case, runs) in cases.into_iter().zip(runs) {
        measured.series.push(Series { group, load: told(case.load), target: case.name, runs });
    }
    // They flush their last spans as they end.
    for deployment in deployments {
        deployment.close().await;
    }
    if let Some(sink) = sink {
        measured.trace_bytes = Some(sink.taken());
    }
    Ok(())
}

/// A load in words.
pub(super) fn told(load: Load) -> String {
    match load {
        Load::Closed { in_flight } => format!("{in_flight} in flight"),
        Load::Open { per_second } => format!("{per_second} a second"),
    }
}

fn plans(group: Group, tenants: u32, collector: Option<&str>) -> Vec<Plan> {
    let usual = |key: &str| Plan::usual(key, tenants);
    match group {
        Group::Closed | Group::Breakers | Group::Open | Group::Following | Group::Memory | Group::Rollout => {
            vec![Plan { policies: vec![PolicyKind::ON, PolicyKind::OFF], ..usual(group.key()) }]
        }
        Group::Accounts => vec![usual(accounts::KEY)],
        Group::Pushed => vec![pushed::plan(tenants)],
        Group::Results => vec![usual("usageoff"), Plan { usage: true, ..usual("usageon") }],
        Group::Tracing => {
            let traced = |key: &str, share: &str| Plan {
                env: vec![
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.unwrap_or_default().to_owned()),
                    ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio".to_owned()),
                    ("OTEL_TRACES_SAMPLER_ARG", share.to_owned()),
                ],
                ..usual(key)
            };
            vec![usual("untraced"), traced("someTraced", "0.01"), traced("allTraced", "1")]
        }
        Group::Tenants => [1, 1_000, 100_000]
            .into_iter()
            .map(|tenants| Plan { tenants, ..usual(&format!("tenants{tenants}")) })
            .collect(),
        Group::Policies => {
            let mut plans: Vec<Plan> = [0, 27, 197]
                .into_iter()
                .map(|more_providers| Plan {
                    policies: vec![PolicyKind { more_providers, ..PolicyKind::ON }],
                    ..usual(&format!("providers{}", more_providers + 3))
                })
                .collect();
            let many = ["p01", "p02", "p03", "p04", "p05", "p06", "p07", "p08", "p09", "p10"];
            let policies = many.iter().map(|id| PolicyKind { id, ..PolicyKind::ON });
            plans.push(Plan { policies: policies.chain([PolicyKind::ON]).collect(), ..usual("policies11") });
            plans
        }
        Group::Windows => [10, 60, 3_600]
            .into_iter()
            .map(|window_seconds| Plan {
                policies: vec![PolicyKind { window_seconds, ..PolicyKind::ON }],
                ..usual(&format!("window{window_seconds}"))
            })
            .collect(),
        Group::Workers => [1, 2, 4]
            .into_iter()
            .map(|workers| Plan { workers, ..usual(&format!("workers{workers}")) })
            .collect(),
    }
}

fn cases(group: Group, deployments: &[Deployment]) -> Vec<Case> {
    let closed = |in_flight| Load::Closed { in_flight };
    let floor = |load| Case { name: "floor".to_owned(), target: Target::Echo(EchoOver::Library), load };
    let raw_echo =
        |load| Case { name: "raw echo".to_owned(), target: Target::Echo(EchoOver::Connection), load };
    let router = |name: &str, at, policy, load, results| Case {
        name: name.to_owned(),
        target: Target::Router { at, policy, results, imported: false, pushed: false },
        load,
    };
    // Each deployment under its key.
    let each = |load, results| {
        let keys = deployments.iter().enumerate();
        keys.map(move |(at, d)| router(&d.plan.key, at, "on", load, results)).collect::<Vec<_>>()
    };
    match group {
        Group::Closed => {
            let mut cases = Vec::new();
            for in_flight in [1, 64, 512, 4_096] {
                let load = closed(in_flight);
                cases.extend([floor(load), router("router", 0, "on", load, false)]);
                cases.extend(deployments.get(1).map(|_| router("before", 1, "on", load, false)));
                cases.extend([raw_echo(load), Case { name: "floor again".to_owned(), ..floor(load) }]);
            }
            cases
        }
        Group::Breakers => {
            let load = closed(64);
            vec![
                router("breakers on", 0, "on", load, false),
                router("breakers off", 0, "off", load, false),
                router("breakers off again", 0, "off", load, false),
            ]
        }
        Group::Open => [1_000, 10_000, 50_000, 100_000]
            .into_iter()
            .map(|per_second| Load::Open { per_second })
            .flat_map(|load| [floor(load), router("router", 0, "on", load, false)])
            .collect(),
        Group::Accounts => accounts::cases(),
        Group::Pushed => pushed::cases(),
        Group::Results | Group::Windows => each(closed(512), true),
        Group::Tracing | Group::Tenants | Group::Policies | Group::Workers => {
            let mut cases = each(closed(512), false);
            cases.push(floor(closed(512)));
            cases
        }
        Group::Following | Group::Memory | Group::Rollout => Vec::new(),
    }
}
