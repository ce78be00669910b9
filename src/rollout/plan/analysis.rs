use std::ops::RangeInclusive;

use serde::Serialize;
use serde_json::Value;

use crate::document::{Block, Faults, Shape, described, distinct, number_in, ratio, whole_number};
use crate::domain::Ratio;

use super::words::Exercise;
use super::written::{self, AUTO};

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Each worker publishes every block: a shorter one costs more than it tells.
pub(super) const BLOCK_MS: RangeInclusive<u64> = SECOND_MS..=HOUR_MS;
const SETTLE_MS: RangeInclusive<u64> = 100..=15 * MINUTE_MS;
/// A day: what was not judged for so long is not watched.
const MAX_STALE_MS: RangeInclusive<u64> = 1..=DAY_MS;
/// Above a half a verdict would be wrong more often than a coin.
const ALPHA: RangeInclusive<Ratio> = Ratio::from_ppm(1)..=Ratio::from_ppm(500_000);
/// The bets on harm can bear no more: with a share of 1 % and the greatest stake, 0.9 × 0.99, a unit may
/// lose 19/20 of the capital only as long as the margin is at most 0.95 ÷ 0.891 − 1, which is 0.066.
const HARM_MARGIN: RangeInclusive<Ratio> = Ratio::ZERO..=Ratio::from_ppm(50_000);
/// A margin of nothing cannot be proven. Ten times the most that `auto` takes; above that, who wrote the
/// plan meant percentage points.
const SAFE_MARGIN: RangeInclusive<Ratio> = Ratio::from_ppm(1)..=Ratio::from_ppm(100_000);
/// Lost requests that are tolerated; more is a plan that judges no harm.
const BUDGET: RangeInclusive<u64> = 0..=1_000_000;
const LATENCY_LIMIT: RangeInclusive<Ratio> = Ratio::from_ppm(1_000)..=Ratio::ONE;
const COVERAGE: RangeInclusive<Ratio> = Ratio::ZERO..=Ratio::ONE;

const ANALYSIS: Shape<'_> = Shape {
    known: &["block", "settle", "harm", "safe", "latency", "exercise", "coverage", "max_stale"],
    refused: &[],
};
const HARM: Shape<'_> = Shape { known: &["alpha", "margin", "budget"], refused: &[] };
const SAFE: Shape<'_> = Shape { known: &["alpha", "margin"], refused: &[] };
const LATENCY: Shape<'_> = Shape { known: &["limit", "quantiles"], refused: &[] };

/// How evidence is gathered and judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Analysis {
    /// The length of a block of evidence, for phases that state none of their own.
    #[serde(rename = "block", serialize_with = "written::duration")]
    pub block_ms: u64,
    /// How long after its first entry a request's outcome is decided.
    #[serde(rename = "settle", serialize_with = "written::duration")]
    pub settle_ms: u64,
    /// What proves harm.
    pub harm: Harm,
    /// What proves that there is none.
    pub safe: Safe,
    /// How much slower the treated requests may be.
    pub latency: Latency,
    /// Whether a circuit must have opened and closed.
    pub exercise: Exercise,
    /// The least share of requests with an outcome, in permille.
    #[serde(rename = "coverage", serialize_with = "written::permille")]
    pub coverage_permille: u16,
    /// How old the newest judged block may be.
    #[serde(rename = "max_stale", serialize_with = "written::duration")]
    pub max_stale_ms: u64,
}

/// The question whether treated requests fail more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Harm {
    /// The chance of a false alarm in a phase.
    #[serde(serialize_with = "written::ratio")]
    pub alpha: Ratio,
    /// A rise of the failure rate that is no harm yet; `auto` is a tenth of the safe margin.
    #[serde(serialize_with = "written::ratio_or_auto")]
    pub margin: OrAuto<Ratio>,
    /// Lost requests that are tolerated; `auto` follows from traffic, open time and fallbacks.
    #[serde(serialize_with = "written::count_or_auto")]
    pub budget: OrAuto<u32>,
}

/// The question whether treated requests fail no more than a margin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Safe {
    /// The chance of a promotion that is wrong.
    #[serde(serialize_with = "written::ratio")]
    pub alpha: Ratio,
    /// The rise of the failure rate that must be excluded; `auto` is half of the history's rate, from 0.1
    /// to 1 percentage points.
    #[serde(serialize_with = "written::ratio_or_auto")]
    pub margin: OrAuto<Ratio>,
}

/// The comparison of latency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// By how much treated requests may be slower, as a share of the others' latency.
    #[serde(serialize_with = "written::ratio")]
    pub limit: Ratio,
    /// What is compared, each once, lowest first; empty where latency is not judged.
    pub quantiles: Vec<Quantile>,
}

/// A quantile of latency that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantile {
    /// 0.5
    Median,
    /// 0.95
    P95,
}

/// A setting that is given, or that follows from the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrAuto<T> {
    /// From the history.
    Auto,
    /// As given.
    Fixed(T),
}

impl Default for Analysis {
    fn default() -> Self {
        Self {
            block_ms: 5 * MINUTE_MS,
            settle_ms: 2 * MINUTE_MS,
            harm: Harm { alpha: Ratio::from_ppm(10_000), margin: OrAuto::Auto, budget: OrAuto::Auto },
            safe: Safe { alpha: Ratio::from_ppm(50_000), margin: OrAuto::Auto },
            latency: Latency { limit: Ratio::from_ppm(50_000), quantiles: Quantile::ALL.to_vec() },
            exercise: Exercise::Required,
            coverage_permille: 950,
            max_stale_ms: 10 * MINUTE_MS,
        }
    }
}

impl Quantile {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Median, Self::P95];

    /// The quantile in permille.
    #[must_use]
    pub const fn permille(self) -> u16 {
        match self {
            Self::Median => 500,
            Self::P95 => 950,
        }
    }

    fn read(value: &Value) -> Option<Self> {
        let given = ratio(value, &(Ratio::ZERO..=Ratio::ONE))?;
        Self::ALL.into_iter().find(|q| Ratio::of(u32::from(q.permille()), 1_000) == given)
    }
}

impl Serialize for Quantile {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        written::permille(&self.permille(), serializer)
    }
}

/// The `analysis` block of a plan.
pub(super) fn read(plan: &Block<'_>, faults: &mut Faults) -> Analysis {
    let default = Analysis::default();
    let Some(block) = plan.block("analysis", &ANALYSIS, faults) else { return default };
    let coverage = Ratio::of(u32::from(default.coverage_permille), 1_000);
    Analysis {
        block_ms: block.duration("block", BLOCK_MS, default.block_ms, faults),
        settle_ms: block.duration("settle", SETTLE_MS, default.settle_ms, faults),
        harm: harm(&block, default.harm, faults),
        safe: safe(&block, default.safe, faults),
        latency: latency(&block, default.latency, faults),
        exercise: block.one_of("exercise", Exercise::ALL, Exercise::as_str, default.exercise, faults),
        coverage_permille: permille(block.ratio("coverage", COVERAGE, coverage, faults)),
        max_stale_ms: block.duration("max_stale", MAX_STALE_MS, default.max_stale_ms, faults),
    }
}

fn harm(analysis: &Block<'_>, default: Harm, faults: &mut Faults) -> Harm {
    let Some(block) = analysis.block("harm", &HARM, faults) else { return default };
    let (least, most) = BUDGET.into_inner();
    let wanted = || format!("a whole number from {least} to {most}, or \"{AUTO}\"");
    Harm {
        alpha: block.ratio("alpha", ALPHA, default.alpha, faults),
        margin: margin(&block, HARM_MARGIN, default.margin, faults),
        budget: block.member("budget", default.budget, wanted, faults, |value| {
            or_auto(value, |value| {
                whole_number(value).filter(|n| BUDGET.contains(n)).and_then(|n| u32::try_from(n).ok())
            })
        }),
    }
}

fn safe(analysis: &Block<'_>, default: Safe, faults: &mut Faults) -> Safe {
    let Some(block) = analysis.block("safe", &SAFE, faults) else { return default };
    Safe {
        alpha: block.ratio("alpha", ALPHA, default.alpha, faults),
        margin: margin(&block, SAFE_MARGIN, default.margin, faults),
    }
}

fn latency(analysis: &Block<'_>, default: Latency, faults: &mut Faults) -> Latency {
    let Some(block) = analysis.block("latency", &LATENCY, faults) else { return default };
    Latency {
        limit: block.ratio("limit", LATENCY_LIMIT, default.limit, faults),
        quantiles: match block.get("quantiles") {
            Some(value) => quantiles(&block.at("quantiles"), value, faults),
            None => default.quantiles,
        },
    }
}

fn quantiles(path: &str, value: &Value, faults: &mut Faults) -> Vec<Quantile> {
    let Value::Array(list) = value else {
        faults.add(path, format!("must be an array of quantiles, not {}", described(value)));
        return Vec::new();
    };
    let mut quantiles = distinct(path, list, faults, |path, value, faults| {
        let quantile = Quantile::read(value);
        if quantile.is_none() {
            faults.add(path, format!("must be 0.5 or 0.95, not {}", described(value)));
        }
        quantile
    });
    quantiles.sort_unstable();
    quantiles
}

fn margin(
    block: &Block<'_>,
    range: RangeInclusive<Ratio>,
    default: OrAuto<Ratio>,
    faults: &mut Faults,
) -> OrAuto<Ratio> {
    let wanted = || format!("{}, where 0.01 is one percentage point, or \"{AUTO}\"", number_in(&range));
    block.member("margin", default, wanted, faults, |value| or_auto(value, |value| ratio(value, &range)))
}

fn or_auto<T>(value: &Value, take: impl FnOnce(&Value) -> Option<T>) -> Option<OrAuto<T>> {
    match value {
        Value::String(word) if word == AUTO => Some(OrAuto::Auto),
        _ => take(value).map(OrAuto::Fixed),
    }
}

/// To the nearest thousandth.
fn permille(ratio: Ratio) -> u16 {
    u16::try_from(ratio.ppm().saturating_add(500) / 1_000).unwrap_or(u16::MAX)
}
