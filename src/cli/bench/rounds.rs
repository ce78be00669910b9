//! Round by round, each case once: what else the machine does meets all of them alike.

use std::time::Duration;

use super::figures::{Followed, Run};
use super::process::{Used, resident_bytes};
use super::site::{Deployment, Site, echo_subject};
use super::{BenchFailed, Effort};
use crate::clock::Clock;
use crate::nats::measuring::{Asked, EchoOver, Load, Questions, Reports, ask};

/// Between measurements: what the broker still cleans up is none of the next one's.
const REST: Duration = Duration::from_millis(30);

/// How long metering may lag behind before it counts as lost.
const METERED: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(5);

/// Who is asked how.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) target: Target,
    pub(super) load: Load,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    Echo(EchoOver),
    Router {
        /// Which deployment.
        at: usize,
        policy: &'static str,
        /// Whether a result follows each decision.
        results: bool,
        /// Whether they come from another account.
        imported: bool,
        /// Whether their assignments are pushed.
        pushed: bool,
    },
}

/// Measures all cases in each round, every other round in reverse. The runs of each case.
pub(super) async fn run_rounds(
    site: &mut Site,
    deployments: &mut [Deployment],
    cases: &[Case],
    effort: Effort,
) -> Result<Vec<Vec<Run>>, BenchFailed> {
    let mut runs: Vec<Vec<Run>> = cases.iter().map(|_| Vec::new()).collect();
    for round in 0..effort.rounds {
        let mut order: Vec<usize> = (0..cases.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let (Some(case), Some(runs)) = (cases.get(at), runs.get_mut(at)) else { continue };
            runs.push(one(site, deployments, case, effort).await?);
            tokio::time::sleep(REST).await;
        }
        site.check()?;
        deployments.iter_mut().try_for_each(Deployment::check)?;
    }
    Ok(runs)
}

async fn one(
    site: &Site,
    deployments: &[Deployment],
    case: &Case,
    effort: Effort,
) -> Result<Run, BenchFailed> {
    let (questions, responders, deployment, results, settings) = match case.target {
        Target::Echo(over) => {
            let questions = questions(echo_subject(over), "on", 1_000, b"{\"version\"");
            (questions, vec![site.echo_id(over)], None, false, site.settings())
        }
        Target::Router { at, policy, results, imported, pushed } => {
            let Some(deployment) = deployments.get(at) else {
                return Err(BenchFailed::Never {
                    name: case.name.clone(),
                    seconds: 0,
                    what: "no deployment",
                });
            };
            let tenants = deployment.plan.tenants;
            let mut questions = questions(&deployment.names.decide, policy, tenants, b"{\"ok\":true");
            if pushed {
                questions.push_assignments();
            }
            let subject = deployment.names.exec_result.clone();
            questions.results = results.then_some(Reports { subject, down: None });
            let settings = if imported { site.importer() } else { site.settings() };
            (questions, deployment.ids(), Some(deployment), results, settings)
        }
    };
    let broker = site.broker_id();
    let sampled = responders.clone();
    let sample = move || Used::by(&sampled, broker);
    let clock = Clock::start();
    let stock = match deployment.filter(|_| results) {
        Some(deployment) => Some(deployment.stock(site.settings()).await?),
        None => None,
    };
    let began = clock.nanos();
    let settings = settings.clone();
    let asked: Asked<Used> =
        ask(settings, questions, case.load, effort.warm_up, effort.lasting, sample).await?;
    let asked_at = clock.nanos();
    let mut followed = None;
    if let (Some(deployment), Some(before)) = (deployment, stock) {
        let resets = deployment.all_applied().await?;
        let entries = deployment.stock(site.settings()).await?.last - before.last;
        let entries = entries.saturating_sub(resets);
        let metered = async {
            loop {
                let usage = deployment.stock(site.settings()).await?.usage - before.usage;
                if !deployment.plan.usage || usage >= entries {
                    return Ok::<u64, BenchFailed>(usage);
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let usage_events =
            tokio::time::timeout(METERED, metered).await.map_err(|_| BenchFailed::Never {
                name: case.name.clone(),
                seconds: METERED.as_secs(),
                what: "not every result was metered",
            })??;
        let now = clock.nanos();
        followed = Some(Followed {
            published: asked.results,
            entries,
            usage_events,
            nanos: now - began,
            behind_nanos: now - asked_at,
        });
    }
    let resident = responders.iter().map(|id| resident_bytes(*id)).sum();
    Ok(Run::of(asked, resident, followed))
}

/// A request as a client would send it, of a usual size.
pub(super) fn questions(subject: &str, policy: &str, tenants: u32, good: &'static [u8]) -> Questions {
    const RUN: &str = "6e1f0a52-7c4d-4b8e-9f30-";
    let before = format!("{{\"version\":\"1\",\"request_id\":\"{RUN}");
    let number_at = before.len()..before.len() + 12;
    let middle = format!("{before}000000000000\",\"tenant_id\":\"tenant-");
    let tenant_at = middle.len()..middle.len() + 6;
    let body = format!(
        "{middle}000000\",\"task\":{{\"type\":\"text.generate\",\"payload_ref\":\"s3://prompts/4711\"}},\
         \"policy_id\":\"{policy}\"}}"
    );
    Questions {
        subject: subject.to_owned(),
        body: body.into_bytes(),
        tenant_at,
        number_at,
        tenants,
        good,
        results: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_one_that_the_router_reads() {
        let questions = questions("s", "on", 7, b"");
        let body: serde_json::Value = serde_json::from_slice(&questions.body).unwrap();
        assert_eq!(body["tenant_id"], crate::nats::measuring::tenant_id(0));
        assert_eq!(body["request_id"].as_str().map(str::len), Some(36));
        let zeros = |at: std::ops::Range<usize>| questions.body[at].iter().all(|b| *b == b'0');
        assert!(zeros(questions.tenant_at.clone()) && zeros(questions.number_at.clone()));
    }
}
