use std::ops::RangeInclusive;

use serde_json::Value;

use crate::document::{Block, Fault, Faults, Shape, check_text, described, distinct};
use crate::domain::RolloutId;

use super::breaker::BreakerBlock;
use super::ladder::MAX_SHARE;
use super::model::{Cohort, Plan};
use super::pattern::Pattern;
use super::words::{Approval, OnExhausted, Order};
use super::{analysis, facts, phases, warnings};

/// What messages call it.
const KIND: &str = "plan";
/// What its `kind` says.
const POLICY_ROLLOUT: &str = "PolicyRollout";

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 86_400_000;
const HISTORY_MS: RangeInclusive<u64> = MINUTE_MS..=28 * DAY_MS;
const DEFAULT_HISTORY_MS: u64 = 7 * DAY_MS;
const FINAL_BAKE_MS: RangeInclusive<u64> = 1_000..=90 * DAY_MS;
const DEFAULT_FINAL_BAKE_MS: u64 = 2 * DAY_MS;
/// 100 is for a rollout that is complete: before, there is always a rest to compare with.
const AFTER_PHASE: RangeInclusive<u64> = 1..=MAX_SHARE as u64;
const DEFAULT_AFTER_PHASE: u8 = 95;
/// Each tenant is held against each of them.
const MAX_PATTERNS: usize = 4_096;

const DOCUMENT: Shape<'_> = Shape {
    known: &[
        "kind",
        "id",
        "circuit_breaker",
        "cohort",
        "facts",
        "history",
        "analysis",
        "phases",
        "after_phase",
        "final_bake",
        "approval",
        "on_exhausted",
    ],
    refused: &[],
};
const COHORT: Shape<'_> = Shape { known: &["seed", "order", "include", "exclude"], refused: &[] };

/// A document without faults.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// What it means.
    pub plan: Plan,
    /// What is legal and probably not meant.
    pub warnings: Vec<String>,
}

/// Checks a whole document.
///
/// # Errors
/// All faults at once, at most [`crate::document::MAX_FAULTS`] and one that counts the rest.
pub fn parse(document: &Value) -> Result<Checked, Vec<Fault>> {
    let mut faults = Faults::default();
    let plan = read(document, &mut faults);
    match plan {
        Some(plan) if faults.is_empty() => Ok(Checked { warnings: warnings::of(&plan), plan }),
        _ => Err(faults.into_vec()),
    }
}

/// Parses the text of a document: as [`parse`] does, and names that occur twice in an object are faults
/// too.
///
/// # Errors
/// All faults at once; text that is no JSON is one fault of the whole document.
pub fn parse_text(text: &str) -> Result<Checked, Vec<Fault>> {
    check_text(text, parse)
}

fn read(document: &Value, faults: &mut Faults) -> Option<Plan> {
    let top = Block::document(KIND, document, &DOCUMENT, faults)?;
    if top.required("kind", faults).is_some_and(|kind| kind.as_str() != Some(POLICY_ROLLOUT)) {
        faults.add(top.at("kind"), format!("must be \"{POLICY_ROLLOUT}\""));
    }
    let id = top.id("id", |text| RolloutId::try_new(text), faults);
    let circuit_breaker = BreakerBlock::read(&top, faults);
    let cohort = cohort(&top, faults);
    let facts = facts::read(&top, faults);
    let history_ms = top.duration("history", HISTORY_MS, DEFAULT_HISTORY_MS, faults);
    let analysis = analysis::read(&top, faults);
    let phases = phases::read(&top, &analysis, faults);
    let after_phase = top.whole("after_phase", AFTER_PHASE, u64::from(DEFAULT_AFTER_PHASE), faults);
    let final_bake_ms = top.duration("final_bake", FINAL_BAKE_MS, DEFAULT_FINAL_BAKE_MS, faults);
    let approval = top.one_of("approval", Approval::ALL, Approval::as_str, Approval::EachPhase, faults);
    let on_exhausted =
        top.one_of("on_exhausted", OnExhausted::ALL, OnExhausted::as_str, OnExhausted::Pause, faults);
    Some(Plan {
        id: id?,
        circuit_breaker,
        cohort,
        facts,
        history_ms,
        analysis,
        phases,
        after_phase: u8::try_from(after_phase).unwrap_or(DEFAULT_AFTER_PHASE),
        final_bake_ms,
        approval,
        on_exhausted,
    })
}

fn cohort(plan: &Block<'_>, faults: &mut Faults) -> Cohort {
    let default = Cohort::default();
    let Some(block) = plan.block("cohort", &COHORT, faults) else { return default };
    let seed = block.whole("seed", 0..=u64::from(u32::MAX), u64::from(default.seed), faults);
    Cohort {
        seed: u32::try_from(seed).unwrap_or(default.seed),
        order: block.one_of("order", Order::ALL, Order::as_str, default.order, faults),
        include: patterns(&block, "include", 1, faults).unwrap_or(default.include),
        exclude: patterns(&block, "exclude", 0, faults).unwrap_or_default(),
    }
}

/// A list of patterns; `None` if it is absent.
fn patterns(cohort: &Block<'_>, name: &str, least: usize, faults: &mut Faults) -> Option<Vec<Pattern>> {
    let (path, value) = (cohort.at(name), cohort.get(name)?);
    let list = match value {
        Value::Array(list) if (least..=MAX_PATTERNS).contains(&list.len()) => list,
        Value::Array(_) => {
            faults.add(path, format!("must hold {least} to {MAX_PATTERNS} patterns of tenant ids"));
            return None;
        }
        other => {
            faults.add(path, format!("must be an array of patterns of tenant ids, not {}", described(other)));
            return None;
        }
    };
    Some(distinct(&path, list, faults, |path, value, faults| match value {
        Value::String(text) => {
            Pattern::try_new(text).map_err(|error| faults.add(path, error.to_string())).ok()
        }
        other => {
            faults.add(path, format!("must be a string, not {}", described(other)));
            None
        }
    }))
}
