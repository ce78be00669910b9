use std::collections::HashMap;
use std::ops::RangeInclusive;

use serde::Serialize;
use serde_json::{Value, json};

use crate::document::{self, Block, Faults, Shape, described, item};
use crate::domain::PhaseName;

use super::analysis::{Analysis, BLOCK_MS};
use super::ladder::Ladder;
use super::selection::TenantSelection;
use super::written;

/// Each is days long; nobody plans more of them.
const MAX_PHASES: usize = 20;
/// No verdict comes before a block closes, and none is shorter than a second; 90 days are four times the
/// longest default.
const PHASE_MS: RangeInclusive<u64> = 1_000..=90 * 86_400_000;
/// The block of the third and later default phases. They have most tenants and last for weeks: in blocks
/// of five minutes they would be most of what a rollout stores.
const LATE_BLOCK_MS: u64 = 3_600_000;
/// How many default phases come before those.
const EARLY_PHASES: usize = 2;

const PHASE: Shape<'_> =
    Shape { known: &["name", "tenants", "ladder", "bake", "min", "max", "block"], refused: &[] };

/// A part of a rollout: which tenants, and how their share rises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Phase {
    /// Its name, unique within the plan.
    pub name: PhaseName,
    /// Who is treated.
    pub tenants: TenantSelection,
    /// In which steps.
    pub ladder: Ladder,
    /// How long each step before the last goes on without harm.
    #[serde(rename = "bake", serialize_with = "written::duration")]
    pub bake_ms: u64,
    /// The phase passes no earlier than this.
    #[serde(rename = "min", serialize_with = "written::duration")]
    pub min_ms: u64,
    /// Without a verdict by then, the plan's `on_exhausted` says what happens. Longer than all steps before
    /// the last together.
    #[serde(rename = "max", serialize_with = "written::duration")]
    pub max_ms: u64,
    /// The length of a block of evidence. Where the document states none, it is that of `analysis`. Where
    /// it states neither phases nor `analysis.block`, it is an hour from the third default phase on.
    #[serde(rename = "block", serialize_with = "written::duration")]
    pub block_ms: u64,
}

/// The phases of a plan that states none.
fn default_phases() -> Value {
    json!([
        {
            "name": "canary", "tenants": {"count": 1, "max_per_minute": 100, "critical": false},
            "ladder": [0, 10, 50], "bake": "12h", "min": "3d", "max": "7d",
        },
        {
            "name": "limited", "tenants": {"min": 5, "max": 10},
            "ladder": [0, 10, 50], "bake": "12h", "min": "7d", "max": "14d",
        },
        {
            "name": "half", "tenants": {"percent": 50},
            "ladder": [10, 50], "bake": "12h", "min": "14d", "max": "21d",
        },
        {
            "name": "all", "tenants": {"percent": 100},
            "ladder": [10, 50], "bake": "12h", "min": "7d", "max": "14d",
        },
    ])
}

/// The `phases` of a plan.
pub(super) fn read(plan: &Block<'_>, analysis: &Analysis, faults: &mut Faults) -> Vec<Phase> {
    let path = plan.at("phases");
    let default = default_phases();
    let value = plan.get("phases").unwrap_or(&default);
    let Value::Array(list) = value else {
        faults.add(path, format!("must be an array of phases, not {}", described(value)));
        return Vec::new();
    };
    if !(1..=MAX_PHASES).contains(&list.len()) {
        faults.add(path, format!("must hold 1 to {MAX_PHASES} phases, not {}", list.len()));
        return Vec::new();
    }
    let block_is_stated = plan.get("analysis").is_some_and(|analysis| analysis.get("block").is_some());
    let hourly_late = !plan.has("phases") && !block_is_stated;
    let mut before = Before::default();
    let mut phases = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        let Some(block) = plan.open(item(&path, index), value, &PHASE, faults) else { continue };
        let late = hourly_late && index >= EARLY_PHASES;
        let block_ms = if late { LATE_BLOCK_MS } else { analysis.block_ms };
        phases.extend(phase(&block, block_ms, &mut before, faults));
    }
    phases
}

fn phase(block: &Block<'_>, block_ms: u64, before: &mut Before, faults: &mut Faults) -> Option<Phase> {
    let name = block.id("name", |text| PhaseName::try_new(text), faults);
    if let Some(name) = &name {
        before.name(name, block, faults);
    }
    let tenants = TenantSelection::read(block, faults);
    if let Some(tenants) = &tenants {
        before.tenants(tenants, block, faults);
    }
    let ladder = block.required("ladder", faults).and_then(|v| Ladder::read(&block.at("ladder"), v, faults));
    let (bake, min) = (length(block, "bake", faults), length(block, "min", faults));
    let max = length(block, "max", faults);
    if let (Some(min), Some(max)) = (min, max)
        && max < min
    {
        faults.add(block.at("max"), format!("must not be below min, which is {}", document::written(min)));
    }
    if let (Some(ladder), Some(bake), Some(max)) = (&ladder, bake, max) {
        room_for_all_steps(block, ladder, bake, max, faults);
    }
    let block_ms = block.duration("block", BLOCK_MS, block_ms, faults);
    Some(Phase {
        name: name?,
        tenants: tenants?,
        ladder: ladder?,
        bake_ms: bake?,
        min_ms: min?,
        max_ms: max?,
        block_ms,
    })
}

/// A duration that must be there.
fn length(phase: &Block<'_>, name: &str, faults: &mut Faults) -> Option<u64> {
    phase.required(name, faults)?;
    let before = faults.count();
    let ms = phase.duration(name, PHASE_MS, *PHASE_MS.start(), faults);
    (faults.count() == before).then_some(ms)
}

fn room_for_all_steps(phase: &Block<'_>, ladder: &Ladder, bake: u64, max: u64, faults: &mut Faults) {
    let bakes = u64::try_from(ladder.bakes().len()).unwrap_or(u64::MAX);
    let baking = bake.saturating_mul(bakes);
    if max <= baking {
        let baking = document::written(baking);
        faults.add(
            phase.at("max"),
            format!("must be longer than the steps before the last, which take {baking}"),
        );
    }
}

/// What the phases before one have, whether there was a fault in them or not.
#[derive(Default)]
struct Before {
    path_by_name: HashMap<PhaseName, String>,
    /// The most tenants that one of them counts.
    count: u32,
    /// The greatest share of the cohort.
    percent: u8,
}

impl Before {
    fn name(&mut self, name: &PhaseName, block: &Block<'_>, faults: &mut Faults) {
        let path = self.path_by_name.entry(name.clone()).or_insert_with(|| block.path().to_owned());
        if path != block.path() {
            faults.add(block.at("name"), format!("is the name of {path} too"));
        }
    }

    /// A phase asks for more tenants than those before it. Numbers cannot be compared with shares, since
    /// the cohort is not known here, so shares come last: no number is then exceeded before its phase.
    fn tenants(&mut self, tenants: &TenantSelection, block: &Block<'_>, faults: &mut Faults) {
        let at = |name| document::below(&block.at("tenants"), name);
        let (name, count) = match *tenants {
            TenantSelection::Percent { percent } => {
                if percent <= self.percent {
                    let message = format!("must be above {}, that of an earlier phase", self.percent);
                    faults.add(at("percent"), message);
                }
                self.percent = self.percent.max(percent);
                return;
            }
            TenantSelection::Count { count, .. } => ("count", count),
            TenantSelection::Range { max, .. } => ("max", max),
        };
        if self.percent > 0 {
            faults.add(block.at("tenants"), "must be percent: so it is in an earlier phase");
        } else if count <= self.count {
            let message = format!(
                "must be above {}, that of an earlier phase: a phase has the tenants of earlier ones too",
                self.count
            );
            faults.add(at(name), message);
        }
        self.count = self.count.max(count);
    }
}
