use super::latency::LatencyVerdict;
use super::log_e::LogE;
use super::look::{Look, Reason, Verdict};
use super::opens::Open;
use super::recovery::Recovery;
use super::share::ShareTest;

/// All that a decision at the end of a step looks at. Times are log time in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Facts<'f> {
    /// What the bets say.
    pub look: Look,
    /// Time of closed blocks whose telemetry was whole. Only this counts towards `min_ms`.
    pub qualified_ms: u64,
    /// The least time of the phase.
    pub min_ms: u64,
    /// The longest time of the phase.
    pub max_ms: u64,
    /// Time since the phase began.
    pub elapsed_ms: u64,
    /// Whether the treated arm is slower.
    pub latency: LatencyVerdict,
    /// All opens of the phase.
    pub opens: &'f [Open],
    /// All recoveries of the phase.
    pub recoveries: &'f [Recovery],
    /// The plan wants at least one open and close, real or drilled.
    pub needs_exercise: bool,
    /// Units with an outcome ÷ requests that were decided or refused, the lesser of the arms.
    pub coverage_permille: u32,
    /// The least coverage.
    pub min_coverage_permille: u32,
    /// Age of the newest closed block.
    pub stale_ms: u64,
    /// The greatest age.
    pub max_stale_ms: u64,
    /// The share test of requests without an outcome.
    pub loss: LogE,
    /// Part of the log is missing: it was purged or made anew, or a worker's tallies are missing.
    pub gap: bool,
    /// Transitions, tallies and replies do not add up.
    pub accounts_differ: bool,
    /// Open reports of customers.
    pub issues_open: u64,
}

/// What is wrong with the evidence or with the breaker. It pauses the rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hold {
    /// The arms do not have their sizes. The share goes to 0: what cannot be watched is not treated.
    SampleRatio,
    /// One arm loses more units than the other. The share goes to 0.
    LossRatio,
    /// Part of the log is missing.
    MetricDiscontinuity,
    /// Transitions, tallies and replies do not add up.
    AccountsDiffer,
    /// A circuit opened though its provider was well.
    UnexpectedOpen,
    /// A circuit closed late or is overdue.
    RecoveryOverdue,
    /// The treated arm is slower.
    Slower,
    /// A customer reports an issue.
    IssueOpen,
}

impl Hold {
    /// The word on the wire and in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SampleRatio => "sample_ratio",
            Self::LossRatio => "loss_ratio",
            Self::MetricDiscontinuity => "metric_discontinuity",
            Self::AccountsDiffer => "accounts_differ",
            Self::UnexpectedOpen => "unexpected_open",
            Self::RecoveryOverdue => "recovery_overdue",
            Self::Slower => "slower",
            Self::IssueOpen => "issue_open",
        }
    }
}

/// What is lacking for a promotion. It extends the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lack {
    /// The newest closed block is too old.
    StaleTelemetry,
    /// Too many requests have no outcome.
    LowCoverage,
    /// Safety is not proven.
    Safety(Reason),
    /// Latency is not decided.
    LatencyUndecided,
    /// An open has too few calls to be judged.
    OpenUnexplained,
    /// A circuit is still open, and not yet due to close.
    RecoveryPending,
    /// No circuit opened and closed.
    NotExercised,
    /// The least time of the phase is not over.
    TooEarly,
}

impl Lack {
    /// The word on the wire and in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StaleTelemetry => "stale_telemetry",
            Self::LowCoverage => "low_coverage",
            Self::Safety(reason) => reason.as_str(),
            Self::LatencyUndecided => "latency_undecided",
            Self::OpenUnexplained => "open_unexplained",
            Self::RecoveryPending => "recovery_pending",
            Self::NotExercised => "not_exercised",
            Self::TooEarly => "too_early",
        }
    }
}

/// What happens at the end of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Harm is proven: the share goes to 0.
    Rollback,
    /// Go on to the next step.
    Promote,
    /// Stay for now.
    Extend(Vec<Lack>),
    /// Stay until somebody decides, or until the holds clear. Without holds, the phase's longest time is over.
    Pause {
        /// What is wrong.
        holds: Vec<Hold>,
        /// What is lacking besides.
        lacks: Vec<Lack>,
    },
}

impl Decision {
    /// The word on the wire and in reports.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::Promote => "promote",
            Self::Extend(_) => "extend",
            Self::Pause { .. } => "pause",
        }
    }

    /// The words for why, in order of precedence.
    #[must_use]
    pub fn reasons(&self) -> Vec<&'static str> {
        match self {
            Self::Rollback => vec![Verdict::Fail.reason()],
            Self::Promote => Vec::new(),
            Self::Extend(lacks) => lacks.iter().map(|lack| lack.as_str()).collect(),
            Self::Pause { holds, lacks } => {
                let holds = holds.iter().map(|hold| hold.as_str());
                holds.chain(lacks.iter().map(|lack| lack.as_str())).collect()
            }
        }
    }
}

/// Decides, in this order: proven harm rolls back. What is wrong with the evidence or with the breaker pauses.
/// What is lacking extends, and pauses after the phase's longest time. It promotes only where nothing is
/// lacking.
#[must_use]
pub fn decide(facts: &Facts<'_>) -> Decision {
    if facts.look.verdict == Verdict::Fail {
        return Decision::Rollback;
    }
    let (holds, lacks) = (holds(facts), lacks(facts));
    if !holds.is_empty() {
        Decision::Pause { holds, lacks }
    } else if lacks.is_empty() {
        Decision::Promote
    } else if facts.elapsed_ms >= facts.max_ms {
        Decision::Pause { holds, lacks }
    } else {
        Decision::Extend(lacks)
    }
}

fn holds(facts: &Facts<'_>) -> Vec<Hold> {
    let slow_recovery = |recovery: &Recovery| matches!(recovery, Recovery::Overdue | Recovery::Late);
    chosen([
        (sizes_wrong(&facts.look), Hold::SampleRatio),
        (facts.loss >= ShareTest::THRESHOLD, Hold::LossRatio),
        (facts.gap, Hold::MetricDiscontinuity),
        (facts.accounts_differ, Hold::AccountsDiffer),
        (facts.opens.contains(&Open::Unexpected), Hold::UnexpectedOpen),
        (facts.recoveries.iter().any(slow_recovery), Hold::RecoveryOverdue),
        (facts.latency == LatencyVerdict::Fail, Hold::Slower),
        (facts.issues_open > 0, Hold::IssueOpen),
    ])
}

fn lacks(facts: &Facts<'_>) -> Vec<Lack> {
    let exercised = facts.recoveries.contains(&Recovery::Closed);
    let unproven = match facts.look.verdict {
        // A hold says so already.
        Verdict::Inconclusive(Reason::SampleRatio) if sizes_wrong(&facts.look) => None,
        Verdict::Inconclusive(reason) => Some(reason),
        Verdict::Pass | Verdict::Fail => None,
    };
    let mut lacks = chosen([
        (facts.stale_ms > facts.max_stale_ms, Lack::StaleTelemetry),
        (facts.coverage_permille < facts.min_coverage_permille, Lack::LowCoverage),
    ]);
    lacks.extend(unproven.map(Lack::Safety));
    lacks.extend(chosen([
        (facts.latency == LatencyVerdict::Inconclusive, Lack::LatencyUndecided),
        (facts.opens.contains(&Open::Unexplained), Lack::OpenUnexplained),
        (facts.recoveries.contains(&Recovery::Pending), Lack::RecoveryPending),
        (facts.needs_exercise && !exercised, Lack::NotExercised),
        (facts.qualified_ms < facts.min_ms, Lack::TooEarly),
    ]));
    lacks
}

fn sizes_wrong(look: &Look) -> bool {
    look.share >= ShareTest::THRESHOLD
}

fn chosen<T, const N: usize>(conditions: [(bool, T); N]) -> Vec<T> {
    conditions.into_iter().filter_map(|(holds, item)| holds.then_some(item)).collect()
}
