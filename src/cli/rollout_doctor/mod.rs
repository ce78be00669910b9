//! `rollout doctor`: whether all is ready for a rollout.
//!
//! Each check is a line: what was found and, unless it passes, what to do. [`checks`] decides by facts alone; the facts
//! come from the log ([`results`]), the router's verbs, service discovery and Prometheus ([`prometheus`]). The last
//! check changes something: [`trial`] starts a rollout for a tenant of its own, rolls it back and removes all of it.

mod checks;
mod prometheus;
mod results;
#[cfg(test)]
mod tests;
mod trial;

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::exit::{Exit, Failure};
use super::output::Table;
use super::shell::{Body, Session};
use crate::clock::Clock;
use crate::config::parse_duration;
use crate::nats::control_client::ControlError;
use crate::nats::log_reader::LogReader;
use crate::policy;
use checks::{Check, PolicyFacts, Verdict};
use results::ResultCount;

/// The newest entries of the log that are read.
const MOST_ENTRIES: u64 = 200_000;

/// The command line of `rollout doctor`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  beamline-router rollout doctor
  beamline-router rollout doctor --prometheus http://prometheus:9090 --json
  beamline-router rollout doctor --no-trial --since 7d

The trial puts a policy and a rollout for the tenant rollout-doctor and removes both.
docs/rollout-recommend.md describes each check.")]
pub(super) struct DoctorArgs {
    /// Where Prometheus is, to see whether it has the alerts; plain HTTP
    #[arg(long, value_name = "URL")]
    prometheus: Option<String>,
    /// How far back results are looked at, at most 200,000 entries of the log
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = parse_duration)]
    since: Duration,
    /// Try no rollback
    #[arg(long)]
    no_trial: bool,
}

impl DoctorArgs {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let reader = LogReader::connect(session.settings()).await.map_err(ControlError::Connect)?;
        let mut checks = self.log(session, &reader).await;
        checks.push(fallbacks(session).await);
        checks.push(match &self.prometheus {
            Some(address) => checks::alerts(&prometheus::rules(address).await),
            None => Check::skipped("alerts", "not asked", "give the address of Prometheus with --prometheus"),
        });
        let workers = reader.workers().await;
        checks.push(checks::workers(workers.as_deref().unwrap_or_default()));
        checks.push(if self.no_trial {
            Check::skipped("rollback", "not tried", "run without --no-trial before the first rollout")
        } else {
            trial::check(session).await
        });
        tell(session, &checks);
        let is_ready = checks.iter().all(|check| check.verdict != Verdict::Fail);
        if is_ready { Ok(()) } else { Err(Failure::Told(Exit::Refused)) }
    }

    /// What concerns the streams, and the results in the log.
    async fn log(&self, session: &Session, reader: &LogReader) -> Vec<Check> {
        let names = &session.settings().names;
        let since = u64::try_from(self.since.as_millis()).unwrap_or(u64::MAX);
        let mut count = ResultCount::default();
        let from = Clock::start().stamp().minus(since);
        let read = reader.read(from, MOST_ENTRIES, |entry, _| count.take(entry)).await;
        let is_read = read.is_ok();
        let mut found = vec![checks::log(&names.log_stream, &read)];
        let listed = session.list("rollout.list", Body::new(), "rollouts").await;
        let stream = reader.stream(&names.rollouts_stream).await;
        found.push(checks::rollouts(
            &names.rollouts_stream,
            &stream,
            listed.as_ref().map(|(_, all)| present(all)),
        ));
        if is_read {
            found.extend([checks::request_ids(&count), checks::latencies(&count)]);
        } else {
            let advice = "make the log readable first";
            let unknown = |name| Check::failed(name, "not known: the log was not read", advice);
            found.extend([unknown(checks::REQUEST_ID), unknown(checks::LATENCY)]);
        }
        found
    }
}

/// How many rollouts there are: of a deleted one only its numbers are kept.
fn present(rollouts: &[Value]) -> usize {
    rollouts.iter().filter(|rollout| rollout.get("state").and_then(Value::as_str) != Some("deleted")).count()
}

/// Whether each policy has somewhere to go where a breaker refuses.
async fn fallbacks(session: &Session) -> Check {
    match policies(session).await {
        Ok(policies) => checks::fallbacks(&policies),
        Err(error) => Check::failed(
            checks::FALLBACK,
            &format!("the policies were not read: {error}"),
            "see that a worker runs and answers control verbs",
        ),
    }
}

async fn policies(session: &Session) -> Result<Vec<PolicyFacts>, ControlError> {
    let (_, listed) = session.list("policy.list", Body::new(), "policies").await?;
    let mut policies = Vec::new();
    for entry in &listed {
        let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (tenant, id) = (text("tenant_id"), text("policy_id"));
        if tenant == trial::TENANT {
            continue;
        }
        let body = Body::new().with("tenant_id", Some(tenant.as_str())).with("policy_id", Some(id.as_str()));
        let answer = match session.ask("policy.get", body).await {
            // Deleted since it was listed.
            Err(ControlError::Refused(refusal)) if refusal.code == "policy_not_found" => continue,
            answer => answer?,
        };
        let checked = policy::parse(answer.get("effective").unwrap_or(&Value::Null));
        let survives_refusal = checked.is_ok_and(|checked| checked.policy.survives_refusal());
        policies.push(PolicyFacts { name: format!("{tenant}/{id}"), survives_refusal });
    }
    Ok(policies)
}

fn tell(session: &Session, checks: &[Check]) {
    let is_ready = checks.iter().all(|check| check.verdict != Verdict::Fail);
    let listed: Vec<Value> = checks.iter().map(Check::body).collect();
    session.out.body(&json!({"ok": is_ready, "checks": listed}));
    let mut table = Table::new(&["CHECK", "VERDICT", "FOUND", "WHAT TO DO"]);
    table.rows(&listed, &["name", "verdict", "found", "advice"]);
    session.out.table(&table);
}
