use serde::Serialize;

use crate::document::{Block, Faults, Shape};

/// More tenants than a rollout is made for.
const MAX_TENANTS: u64 = 1_000_000;
const MAX_PER_MINUTE: u64 = 1_000_000_000;

const ONE_FORM: &str = "stands beside another form; give count, or min and max, or percent";
const WITH_COUNT: &str = "goes with count only";

const COUNT: Shape<'_> = Shape {
    known: &["count", "max_per_minute", "critical"],
    refused: &[("min", ONE_FORM), ("max", ONE_FORM), ("percent", ONE_FORM)],
};
const RANGE: Shape<'_> = Shape {
    known: &["min", "max"],
    refused: &[("max_per_minute", WITH_COUNT), ("critical", WITH_COUNT), ("percent", ONE_FORM)],
};
const PERCENT: Shape<'_> =
    Shape { known: &["percent"], refused: &[("max_per_minute", WITH_COUNT), ("critical", WITH_COUNT)] };
const ANY: Shape<'_> =
    Shape { known: &["count", "max_per_minute", "critical", "min", "max", "percent"], refused: &[] };

/// Which tenants of the cohort a phase has: those of the earlier phases, and the next ones in the order
/// of the cohort. All numbers count both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum TenantSelection {
    /// A number of tenants, of which those that come in with this phase meet conditions.
    Count {
        /// How many; at least 1.
        count: u32,
        /// The most units a minute that one may have in the history.
        #[serde(skip_serializing_if = "Option::is_none")]
        max_per_minute: Option<u32>,
        /// Whether it may be one that facts call critical.
        critical: bool,
    },
    /// As many as there are, within bounds.
    Range {
        /// Fewer are too few to go on with; at least 1.
        min: u32,
        /// The most; not below `min`.
        max: u32,
    },
    /// A share of the cohort as it is at the rollout's start, rounded up.
    Percent {
        /// From 1 to 100.
        percent: u8,
    },
}

impl TenantSelection {
    /// The `tenants` of a phase; `None`, with a fault, if they are none.
    pub(super) fn read(phase: &Block<'_>, faults: &mut Faults) -> Option<Self> {
        let value = phase.required("tenants", faults)?;
        let given = |name| value.get(name).is_some();
        let before = faults.count();
        let selection = if given("count") {
            let block = phase.block("tenants", &COUNT, faults)?;
            let limit = |value| u32::try_from(value).unwrap_or(u32::MAX);
            Self::Count {
                count: tenants(&block, "count", faults),
                max_per_minute: given("max_per_minute")
                    .then(|| limit(block.whole("max_per_minute", 1..=MAX_PER_MINUTE, 1, faults))),
                critical: block.flag("critical", true, faults),
            }
        } else if given("min") || given("max") {
            let block = phase.block("tenants", &RANGE, faults)?;
            Self::range(&block, faults)
        } else if given("percent") {
            let block = phase.block("tenants", &PERCENT, faults)?;
            let percent = block.whole("percent", 1..=100, 100, faults);
            Self::Percent { percent: u8::try_from(percent).unwrap_or(100) }
        } else {
            phase.block("tenants", &ANY, faults)?;
            faults.add(phase.at("tenants"), "must have count, or min and max, or percent");
            return None;
        };
        (faults.count() == before).then_some(selection)
    }

    fn range(block: &Block<'_>, faults: &mut Faults) -> Self {
        let before = faults.count();
        block.required("min", faults);
        block.required("max", faults);
        let (min, max) = (tenants(block, "min", faults), tenants(block, "max", faults));
        if max < min && faults.count() == before {
            faults.add(block.at("max"), format!("must not be below min, which is {min}"));
        }
        Self::Range { min, max }
    }
}

fn tenants(block: &Block<'_>, name: &str, faults: &mut Faults) -> u32 {
    u32::try_from(block.whole(name, 1..=MAX_TENANTS, 1, faults)).unwrap_or(u32::MAX)
}
