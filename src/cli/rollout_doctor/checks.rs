//! What each check decides, by facts alone.

use std::collections::BTreeSet;
use std::fmt::Display;

use serde_json::{Value, json};

use super::prometheus::{Rule, Unasked};
use super::results::{Lacking, ResultCount};
use crate::nats::log_reader::{Stream, Unread};
use crate::nats::workers::WorkerInfo;

pub(super) const REQUEST_ID: &str = "request_id";
pub(super) const LATENCY: &str = "latency_ms";
pub(super) const FALLBACK: &str = "fallback";

/// So many percent of results must have what evidence needs.
const ENOUGH_PERCENT: u64 = 99;
/// Names that a line shows.
const SHOWN: usize = 5;

/// The alerts of `deploy/prometheus/rules.yml`; a test compares.
pub(super) const ALERTS: [&str; 22] = [
    "RouterAbsent",
    "RouterAvailabilityBudgetBurn",
    "RouterCircuitBreakerFlapping",
    "RouterCircuitBreakerHalfOpenProbesFailed",
    "RouterCircuitBreakerHighFailureRate",
    "RouterCircuitBreakerMultipleProvidersOpen",
    "RouterCircuitBreakerOpenTooLong",
    "RouterCircuitBreakerOpened",
    "RouterFailFastRatioHigh",
    "RouterLatencyBudgetBurn",
    "RouterLogLag",
    "RouterNatsConnectionLost",
    "RouterNatsTrouble",
    "RouterNoExecutor",
    "RouterRolloutAwaitsApproval",
    "RouterRolloutEvidenceStale",
    "RouterRolloutPaused",
    "RouterRolloutRolledBack",
    "RouterSlowConsumer",
    "RouterTraceSpansDropped",
    "RouterUsageRetentionLow",
    "RouterWorkersDisagree",
];

/// How a check ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    /// A rollout can go on, with less to see.
    Warn,
    Fail,
    Skipped,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skipped => "skipped",
        }
    }
}

/// A line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) verdict: Verdict,
    pub(super) found: String,
    /// What to do, unless it passes.
    pub(super) advice: Option<String>,
}

impl Check {
    pub(super) fn passed(name: &'static str, found: &str) -> Self {
        Self { name, verdict: Verdict::Pass, found: found.to_owned(), advice: None }
    }

    pub(super) fn warned(name: &'static str, found: &str, advice: &str) -> Self {
        Self { verdict: Verdict::Warn, advice: Some(advice.to_owned()), ..Self::passed(name, found) }
    }

    pub(super) fn failed(name: &'static str, found: &str, advice: &str) -> Self {
        Self { verdict: Verdict::Fail, ..Self::warned(name, found, advice) }
    }

    pub(super) fn skipped(name: &'static str, found: &str, advice: &str) -> Self {
        Self { verdict: Verdict::Skipped, ..Self::warned(name, found, advice) }
    }

    /// For machines.
    pub(super) fn body(&self) -> Value {
        let Self { name, verdict, found, advice } = self;
        json!({"name": name, "verdict": verdict.as_str(), "found": found, "advice": advice})
    }
}

/// A policy as far as the doctor looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PolicyFacts {
    /// Tenant and policy.
    pub(super) name: String,
    pub(super) survives_refusal: bool,
}

/// What to do about a stream that was not read.
fn about(stream: &str, unread: &Unread) -> String {
    match unread {
        Unread::Missing(_) => "start a worker of this version: it makes the stream".to_owned(),
        Unread::Denied(_) | Unread::Silent { .. } => {
            format!("grant the rights on {stream} that docs/rollout-recommend.md lists")
        }
        Unread::Refused(_) | Unread::Cut(_) => "see what the broker logs, and try again".to_owned(),
    }
}

pub(super) fn log(stream: &str, read: &Result<u64, Unread>) -> Check {
    match read {
        Ok(entries) => Check::passed("log", &format!("{stream} can be read: {entries} entries")),
        Err(unread) => Check::failed("log", &unread.to_string(), &about(stream, unread)),
    }
}

/// The stream must be there, and a worker must have read it; without the right to look at it, the worker's word counts.
pub(super) fn rollouts(
    stream: &str,
    info: &Result<Stream, Unread>,
    listed: Result<usize, &impl Display>,
) -> Check {
    let name = "rollouts";
    match (info, listed) {
        (Err(missing @ Unread::Missing(_)), _) => {
            Check::failed(name, &missing.to_string(), &about(stream, missing))
        }
        (_, Err(error)) => Check::failed(
            name,
            &format!("rollout.list: {error}"),
            "start workers that support rollouts, and see that they read the stream",
        ),
        (Ok(info), Ok(count)) => {
            Check::passed(name, &format!("{stream} holds {} messages of {count} rollouts", info.messages))
        }
        (Err(unread), Ok(count)) => Check::warned(
            name,
            &format!("a worker knows {count} rollouts; {stream} was not looked at: {unread}"),
            &about(stream, unread),
        ),
    }
}

/// How many in a hundred have it, to the tenth, rounded down.
fn percent(part: u64, whole: u64) -> String {
    let tenths = (u128::from(part) * 1_000).checked_div(u128::from(whole)).unwrap_or(0);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

fn share(name: &'static str, count: &ResultCount, lacking: &Lacking) -> (bool, String) {
    let with = count.results - lacking.results;
    let enough = u128::from(with) * 100 >= u128::from(count.results) * u128::from(ENOUGH_PERCENT);
    let mut found = format!("{} of {} results have {name}", percent(with, count.results), count.results);
    if let Some((source, results)) = lacking.worst() {
        found.push_str(&format!("; {results} of {source} lack it"));
    }
    (enough, found)
}

fn no_results(name: &'static str) -> Check {
    let advice = "wait for traffic, or look further back with --since";
    Check::warned(name, "there are no results in the log", advice)
}

/// Evidence counts requests: a result without its request is of no unit.
pub(super) fn request_ids(count: &ResultCount) -> Check {
    if count.results == 0 {
        return no_results(REQUEST_ID);
    }
    match share(REQUEST_ID, count, &count.without_request) {
        (true, found) => Check::passed(REQUEST_ID, &found),
        (false, found) => {
            let advice = "let executors copy request_id into each result (docs/protocol.md)";
            Check::failed(REQUEST_ID, &found, advice)
        }
    }
}

/// The criterion of latency has nothing to compare without it.
pub(super) fn latencies(count: &ResultCount) -> Check {
    if count.results == 0 {
        return no_results(LATENCY);
    }
    let advice = "let executors report latency_ms, or set analysis.latency.quantiles to []";
    match share(LATENCY, count, &count.without_latency) {
        (true, found) => Check::passed(LATENCY, &found),
        (false, found) if count.without_latency.results == count.results => {
            Check::failed(LATENCY, &found, advice)
        }
        (false, found) => Check::warned(LATENCY, &found, advice),
    }
}

/// A few of these names, and how many more there are.
fn listed<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

pub(super) fn fallbacks(policies: &[PolicyFacts]) -> Check {
    if policies.is_empty() {
        return Check::failed(FALLBACK, "there are no policies", "put the policies of the tenants first");
    }
    let without: Vec<&str> = policies
        .iter()
        .filter(|policy| !policy.survives_refusal)
        .map(|policy| policy.name.as_str())
        .collect();
    if without.is_empty() {
        return Check::passed(FALLBACK, &format!("all {} policies have another way", policies.len()));
    }
    Check::failed(
        FALLBACK,
        &format!("{} of {} policies have none: {}", without.len(), policies.len(), listed(without)),
        "add a fallback for the status circuit_breaker_open, or a second provider with weight (docs/policies.md)",
    )
}

pub(super) fn alerts(rules: &Result<Vec<Rule>, Unasked>) -> Check {
    let name = "alerts";
    let rules = match rules {
        Ok(rules) => rules,
        Err(error) => {
            return Check::failed(name, &error.to_string(), "see that the address is that of Prometheus");
        }
    };
    let loaded: BTreeSet<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
    let missing: Vec<&str> = ALERTS.into_iter().filter(|alert| !loaded.contains(alert)).collect();
    if !missing.is_empty() {
        let found = format!("{} of {} are not loaded: {}", missing.len(), ALERTS.len(), listed(missing));
        return Check::failed(name, &found, "load deploy/prometheus/rules.yml (docs/operations.md)");
    }
    // Prometheus has not evaluated a rule that it has just loaded: `unknown`.
    let broken: BTreeSet<&str> = rules
        .iter()
        .filter(|rule| rule.health == "err" && ALERTS.contains(&rule.name.as_str()))
        .map(|rule| rule.name.as_str())
        .collect();
    if broken.is_empty() {
        return Check::passed(name, &format!("all {} are loaded", ALERTS.len()));
    }
    let found = format!("Prometheus cannot evaluate {}", listed(broken));
    Check::failed(name, &found, "see its page of rules for the error")
}

pub(super) fn workers(workers: &[WorkerInfo]) -> Check {
    let name = "workers";
    if workers.is_empty() {
        let advice = "start workers; grant the right to publish $SRV.INFO.beamline-router";
        return Check::failed(name, "none answers service discovery", advice);
    }
    let without: Vec<&str> = workers
        .iter()
        .filter(|worker| worker.rollouts.is_none())
        .map(|worker| worker.name.as_str())
        .collect();
    if !without.is_empty() {
        let found =
            format!("{} of {} do not support rollouts: {}", without.len(), workers.len(), listed(without));
        return Check::failed(
            name,
            &found,
            "upgrade them: a rollout sets its shares to 0 while they are there",
        );
    }
    let versions: BTreeSet<&str> = workers.iter().map(|worker| worker.version.as_str()).collect();
    let judges: BTreeSet<&str> = workers.iter().filter_map(|worker| worker.rollouts.as_deref()).collect();
    if versions.len() > 1 || judges.len() > 1 {
        let found = format!("{} run versions {}", workers.len(), listed(versions));
        return Check::failed(name, &found, "let all run one version before a rollout starts");
    }
    let found = format!("{} of version {}, all support rollouts", workers.len(), listed(versions));
    Check::passed(name, &found)
}
