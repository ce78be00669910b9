use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::criterion::{Criterion, Findings};
use crate::rollout::judge::{Hold, Lack, LatencyLook, LatencyVerdict, Open, Recovery, ShareTest, Verdict};

/// One criterion of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CriterionStatus {
    /// Which.
    pub name: Criterion,
    /// `pass`, `fail` or `inconclusive`.
    pub verdict: String,
    /// Why it does not pass, in a word of the judge; `overridden` where it is passed over.
    pub reason: String,
    /// What it follows from, by name. Logarithms are in nano-nats, latencies in millionths of a logarithm.
    pub figures: BTreeMap<String, i64>,
}

const PASS: (&str, &str) = ("pass", "");

const fn fail(hold: Hold) -> (&'static str, &'static str) {
    ("fail", hold.as_str())
}

const fn lacks(lack: Lack) -> (&'static str, &'static str) {
    ("inconclusive", lack.as_str())
}

impl CriterionStatus {
    pub(super) fn of(
        name: Criterion,
        findings: &Findings,
        overridden: Option<Criterion>,
        latency: &[(u16, LatencyLook)],
    ) -> Self {
        let (verdict, reason) = verdict(name, findings);
        let passed_over = overridden == Some(name) && verdict != "pass";
        Self {
            name,
            verdict: verdict.to_owned(),
            reason: if passed_over { "overridden" } else { reason }.to_owned(),
            figures: figures(name, findings, latency),
        }
    }
}

fn verdict(name: Criterion, findings: &Findings) -> (&'static str, &'static str) {
    let Findings { facts, opens, recoveries } = findings;
    let has = |recovery| recoveries.contains(&recovery);
    match name {
        Criterion::Harm if facts.look.verdict == Verdict::Fail => ("fail", "harm"),
        Criterion::Harm => PASS,
        Criterion::Safe => (facts.look.verdict.as_str(), facts.look.verdict.reason()),
        Criterion::Latency => match facts.latency {
            LatencyVerdict::Pass => PASS,
            LatencyVerdict::Fail => fail(Hold::Slower),
            LatencyVerdict::Inconclusive => lacks(Lack::LatencyUndecided),
        },
        Criterion::UnexpectedOpens if opens.contains(&Open::Unexpected) => fail(Hold::UnexpectedOpen),
        Criterion::UnexpectedOpens if opens.contains(&Open::Unexplained) => lacks(Lack::OpenUnexplained),
        Criterion::Recovery if has(Recovery::Overdue) || has(Recovery::Late) => fail(Hold::RecoveryOverdue),
        Criterion::Recovery if has(Recovery::Pending) => lacks(Lack::RecoveryPending),
        Criterion::Exercise if facts.needs_exercise && !has(Recovery::Closed) => lacks(Lack::NotExercised),
        Criterion::Coverage if facts.coverage_permille < facts.min_coverage_permille => {
            lacks(Lack::LowCoverage)
        }
        Criterion::SampleRatio if facts.look.share >= ShareTest::THRESHOLD => fail(Hold::SampleRatio),
        Criterion::LossRatio if facts.loss >= ShareTest::THRESHOLD => fail(Hold::LossRatio),
        Criterion::Telemetry if facts.gap => fail(Hold::MetricDiscontinuity),
        Criterion::Telemetry if facts.stale_ms > facts.max_stale_ms => lacks(Lack::StaleTelemetry),
        Criterion::Issues if facts.issues_open > 0 => fail(Hold::IssueOpen),
        Criterion::UnexpectedOpens
        | Criterion::Recovery
        | Criterion::Exercise
        | Criterion::Coverage
        | Criterion::SampleRatio
        | Criterion::LossRatio
        | Criterion::Telemetry
        | Criterion::Issues => PASS,
    }
}

fn figures(name: Criterion, findings: &Findings, latency: &[(u16, LatencyLook)]) -> BTreeMap<String, i64> {
    let Findings { facts, opens, recoveries } = findings;
    let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let size = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let list: Vec<(String, i64)> = match name {
        Criterion::Harm => vec![("log_e".to_owned(), facts.look.harm.0)],
        Criterion::Safe => vec![("log_e".to_owned(), facts.look.safe.0)],
        Criterion::SampleRatio => vec![("log_e".to_owned(), facts.look.share.0)],
        Criterion::LossRatio => vec![("log_e".to_owned(), facts.loss.0)],
        Criterion::Latency => latency
            .iter()
            .flat_map(|(permille, look)| {
                [("low", look.low_ppm()), ("high", look.high_ppm())]
                    .map(|(bound, ppm)| (format!("p{}_{bound}", permille / 10), ppm))
            })
            .collect(),
        Criterion::UnexpectedOpens => {
            let count = |kind: Open| size(opens.iter().filter(|open| **open == kind).count());
            [Open::Expected, Open::Unexpected, Open::Unexplained, Open::Drill]
                .map(|kind| (kind.as_str().to_owned(), count(kind)))
                .to_vec()
        }
        Criterion::Recovery | Criterion::Exercise => {
            let count = |kind: Recovery| size(recoveries.iter().filter(|r| **r == kind).count());
            Recovery::ALL.map(|kind| (kind.as_str().to_owned(), count(kind))).to_vec()
        }
        Criterion::Coverage => vec![("permille".to_owned(), i64::from(facts.coverage_permille))],
        Criterion::Telemetry => vec![("stale_ms".to_owned(), whole(facts.stale_ms))],
        Criterion::Issues => vec![("open".to_owned(), whole(facts.issues_open))],
    };
    list.into_iter().collect()
}
