use serde::{Deserialize, Serialize};

use crate::rollout::judge::{Facts, LatencyVerdict, LogE, Open, Reason, Recovery, Verdict};

/// What must hold for a step to end. Each passes, fails, or is inconclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Criterion {
    /// It is not proven that treated requests fail more.
    Harm,
    /// It is proven that they do not fail more than the margin.
    Safe,
    /// They are not slower.
    Latency,
    /// No circuit opened while its provider was well.
    UnexpectedOpens,
    /// Every circuit closed in time.
    Recovery,
    /// A circuit opened and closed.
    Exercise,
    /// Requests have an outcome.
    Coverage,
    /// Both arms have their sizes.
    SampleRatio,
    /// Neither arm loses more units than the other.
    LossRatio,
    /// The evidence is whole and fresh.
    Telemetry,
    /// No customer reports an issue.
    Issues,
}

impl Criterion {
    /// All of them, in the order of a status.
    pub const ALL: [Self; 11] = [
        Self::Harm,
        Self::Safe,
        Self::Latency,
        Self::UnexpectedOpens,
        Self::Recovery,
        Self::Exercise,
        Self::Coverage,
        Self::SampleRatio,
        Self::LossRatio,
        Self::Telemetry,
        Self::Issues,
    ];

    /// The word on the wire and in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Harm => "harm",
            Self::Safe => "safe",
            Self::Latency => "latency",
            Self::UnexpectedOpens => "unexpected_opens",
            Self::Recovery => "recovery",
            Self::Exercise => "exercise",
            Self::Coverage => "coverage",
            Self::SampleRatio => "sample_ratio",
            Self::LossRatio => "loss_ratio",
            Self::Telemetry => "telemetry",
            Self::Issues => "issues",
        }
    }
}

/// What a decision looks at, with what [`Facts`] borrows.
#[derive(Clone, Debug)]
pub(super) struct Findings {
    /// Without opens and recoveries.
    pub(super) facts: Facts<'static>,
    pub(super) opens: Vec<Open>,
    pub(super) recoveries: Vec<Recovery>,
}

impl Findings {
    pub(super) fn facts(&self) -> Facts<'_> {
        Facts { opens: &self.opens, recoveries: &self.recoveries, ..self.facts }
    }

    /// The findings as if a criterion were met. Harm stays, and so does a lack of all data.
    pub(super) fn passing_over(mut self, criterion: Criterion) -> Self {
        let facts = &mut self.facts;
        match criterion {
            Criterion::Harm => {}
            Criterion::Safe => match facts.look.verdict {
                Verdict::Inconclusive(Reason::InsufficientSample | Reason::Undecided) => {
                    facts.look.verdict = Verdict::Pass;
                }
                Verdict::Inconclusive(Reason::NoData | Reason::SampleRatio)
                | Verdict::Pass
                | Verdict::Fail => {}
            },
            Criterion::Latency => facts.latency = LatencyVerdict::Pass,
            Criterion::UnexpectedOpens => {
                self.opens.retain(|open| !matches!(open, Open::Unexpected | Open::Unexplained));
            }
            Criterion::Recovery => self.recoveries.retain(|recovery| {
                !matches!(recovery, Recovery::Pending | Recovery::Late | Recovery::Overdue)
            }),
            Criterion::Exercise => facts.needs_exercise = false,
            Criterion::Coverage => facts.coverage_permille = 1_000,
            Criterion::SampleRatio => facts.look.share = LogE::ZERO,
            Criterion::LossRatio => facts.loss = LogE::ZERO,
            Criterion::Telemetry => {
                facts.gap = false;
                facts.stale_ms = 0;
            }
            Criterion::Issues => facts.issues_open = 0,
        }
        self
    }

    /// The findings of a step before the last: what takes longer than such a step is not asked for. A lack of
    /// all data still stands.
    pub(super) fn of_bake(mut self) -> Self {
        let facts = &mut self.facts;
        facts.needs_exercise = false;
        if facts.latency == LatencyVerdict::Inconclusive {
            facts.latency = LatencyVerdict::Pass;
        }
        self.opens.retain(|open| *open != Open::Unexplained);
        self.recoveries.retain(|recovery| *recovery != Recovery::Pending);
        self.passing_over(Criterion::Safe)
    }
}
