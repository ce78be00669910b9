use std::num::NonZeroU32;

use super::message::TenantHistory;
use crate::domain::Ratio;
use crate::rollout::judge::{
    Alpha, BetConfig, HarmMargin, Outcomes, SafeMargin, TreatedPercent, auto_budget, auto_safe_margin,
};
use crate::rollout::plan::{Analysis, OrAuto, Phase};

/// Windows to an hour of the judge.
const HOUR_WINDOWS: u64 = 12;
/// Units a second that one rollout takes evidence of: what a fold counts in a small part of a second.
const MAX_UNITS_PER_SECOND: u64 = 1_000;

/// A tenant's units before the phase.
pub(super) fn outcomes(history: &TenantHistory) -> Outcomes {
    let failed = history.failures.min(history.units);
    Outcomes { failed, succeeded: history.units.saturating_sub(failed) }
}

/// What a judge is told of these tenants in a phase.
pub(super) fn bet_config(
    analysis: &Analysis,
    phase: &Phase,
    tenants: &[&TenantHistory],
    percent: TreatedPercent,
    sample_ppm: u32,
) -> BetConfig {
    let history = tenants.iter().map(|t| outcomes(t)).fold(Outcomes::default(), Outcomes::plus);
    let safe_margin = match analysis.safe.margin {
        OrAuto::Auto => auto_safe_margin(history),
        OrAuto::Fixed(margin) => {
            SafeMargin::try_new(margin.ppm()).unwrap_or_else(|_| auto_safe_margin(history))
        }
    };
    let harm_ppm = match analysis.harm.margin {
        OrAuto::Auto => safe_margin.get() / 10,
        OrAuto::Fixed(margin) => margin.ppm(),
    };
    let harm_budget = match analysis.harm.budget {
        OrAuto::Auto => budget(tenants, percent, sample_ppm),
        OrAuto::Fixed(count) => u64::from(count),
    };
    BetConfig {
        history,
        safe_margin,
        // A plan's margins lie within the judge's bounds; a tenth of the other one does, too.
        harm_margin: HarmMargin::try_new(harm_ppm.min(50_000)).unwrap_or(HarmMargin::NONE),
        harm_budget,
        harm_alpha: alpha(analysis.harm.alpha),
        safe_alpha: alpha(analysis.safe.alpha),
        max_hours: max_hours(phase),
    }
}

/// A plan allows 50 %, the judge a little less.
pub(super) fn alpha(ratio: Ratio) -> Alpha {
    Alpha::try_new(ratio.ppm().clamp(1, 499_999)).unwrap_or(Alpha::HARM)
}

/// A quarter of HARM's, for those who have passed.
pub(super) fn quarter(of: Ratio) -> Alpha {
    alpha(Ratio::from_ppm(of.ppm() / 4))
}

/// Windows that a phase may last.
pub(super) fn max_windows(phase: &Phase) -> u64 {
    phase.max_ms.div_ceil(phase.block_ms.max(1)).max(1)
}

fn max_hours(phase: &Phase) -> NonZeroU32 {
    let hours = phase.max_ms.div_ceil(phase.block_ms.saturating_mul(HOUR_WINDOWS).max(1));
    u32::try_from(hours).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}

/// Refused requests of all tenants together, as far as they are in the sample.
fn budget(tenants: &[&TenantHistory], percent: TreatedPercent, sample_ppm: u32) -> u64 {
    let milli = tenants.iter().fold(0_u64, |sum, t| sum.saturating_add(t.milli_per_minute));
    let treated = u128::from(milli) * u128::from(percent.get()) * u128::from(sample_ppm);
    let treated = u64::try_from(treated.div_ceil(1_000 * 100 * 1_000_000)).unwrap_or(u64::MAX);
    let timeout_ms = tenants.iter().map(|t| t.timeout_ms).max().unwrap_or(0);
    auto_budget(treated, timeout_ms, tenants.iter().all(|t| t.fallback))
}

/// The share of requests that evidence is taken of, so that at most [`MAX_UNITS_PER_SECOND`] are.
pub(super) fn sample_ppm<'t>(tenants: impl Iterator<Item = &'t TenantHistory>) -> u32 {
    const ALL: u32 = 1_000_000;
    let milli = tenants.fold(0_u64, |sum, t| sum.saturating_add(t.milli_per_minute));
    let most = u128::from(MAX_UNITS_PER_SECOND) * 60 * 1_000 * u128::from(ALL);
    most.checked_div(u128::from(milli)).and_then(|ppm| u32::try_from(ppm).ok()).unwrap_or(ALL).clamp(1, ALL)
}
