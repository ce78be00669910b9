use crate::document::written;
use crate::rollout::evidence::TALLY_MS;

use super::analysis::OrAuto;
use super::model::Plan;
use super::phases::Phase;
use super::selection::TenantSelection;

const DAY_MS: u64 = 86_400_000;
/// With half of the requests treated a verdict comes soonest. In simulations of the judge it took three
/// times as long with a share of 10 %, and five times with 95 %.
const BEST_SHARE: u8 = 50;
/// A block is judged `settle` after its end. Up to this many blocks later that is no delay worth a word.
const SETTLE_BLOCKS: u64 = 10;
/// A window closes with one tally and is reported as judged by the next one. One more lets a worker be late.
const STALE_TALLIES: u64 = 3;

/// What is legal in a plan and probably not meant.
pub(super) fn of(plan: &Plan) -> Vec<String> {
    let mut list = Vec::new();
    analysis(plan, &mut list);
    for (index, each) in plan.phases.iter().enumerate() {
        phase(plan, each, &format!("phases[{index}]"), &mut list);
    }
    let all = plan.phases.iter().any(|p| p.tenants == TenantSelection::Percent { percent: 100 });
    if !all {
        list.push(
            "phases: none has percent 100: the tenants that none has stay without the rollout".to_owned(),
        );
    }
    list
}

fn analysis(plan: &Plan, list: &mut Vec<String>) {
    let analysis = &plan.analysis;
    if analysis.latency.quantiles.is_empty() {
        list.push("analysis.latency.quantiles is empty: latency is not judged".to_owned());
    }
    if let (OrAuto::Fixed(harm), OrAuto::Fixed(safe)) = (analysis.harm.margin, analysis.safe.margin)
        && harm >= safe
    {
        list.push(format!(
            "analysis.harm.margin is {}, not below safe.margin, which is {}: a rise between them neither \
             rolls back nor passes",
            harm.as_f64(),
            safe.as_f64()
        ));
    }
}

fn phase(plan: &Plan, phase: &Phase, path: &str, list: &mut Vec<String>) {
    if phase.min_ms < DAY_MS {
        let min = written(phase.min_ms);
        list.push(format!("{path}.min is {min}, less than a day: no day's course of traffic is seen"));
    }
    let judged = phase.ladder.judged();
    if judged != BEST_SHARE {
        list.push(format!(
            "{path}.ladder ends at {judged}, not {BEST_SHARE}: a verdict needs more requests there"
        ));
    }
    if judged > plan.after_phase {
        list.push(format!(
            "{path}.ladder ends at {judged}, above after_phase, which is {}: the share falls when the phase \
             has passed",
            plan.after_phase
        ));
    }
    let settle = plan.analysis.settle_ms;
    if settle > phase.block_ms.saturating_mul(SETTLE_BLOCKS) {
        list.push(format!(
            "{path}.block is {}, short beside analysis.settle, which is {}: a block is judged that long \
             after its end",
            written(phase.block_ms),
            written(settle)
        ));
    }
    let (stale, tally) = (plan.analysis.max_stale_ms, phase.block_ms.min(TALLY_MS));
    if stale < tally.saturating_mul(STALE_TALLIES) {
        list.push(format!(
            "analysis.max_stale is {}: in {path} workers report each {} what is judged, and shares fall to 0 \
             where that comes late",
            written(stale),
            written(tally)
        ));
    }
    if matches!(phase.tenants, TenantSelection::Count { critical: false, .. }) && plan.facts.is_empty() {
        list.push(format!("{path}.tenants.critical is false, which leaves nobody out: facts is empty"));
    }
}
