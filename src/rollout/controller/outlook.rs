use std::collections::BTreeSet;

use serde::Serialize;

use super::message::{History, TenantHistory};
use super::{latency, terms};
use crate::domain::{PhaseName, TenantId};
use crate::rollout::judge::{TreatedPercent, units_needed};
use crate::rollout::plan::{Phase, Plan, Tenant, UnmetPhase, choose};

const MINUTE_MS: u64 = 60_000;

/// What a phase of a plan needs, by the tenants' traffic as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PhaseOutlook {
    /// The phase.
    pub phase: PhaseName,
    /// The tenants that come in with it.
    pub tenants: Vec<TenantId>,
    /// Their units a minute, in thousandths.
    pub milli_per_minute: u64,
    /// Units of both arms after which SAFE has passed in four of five rollouts, and latency may.
    pub units_needed: u64,
    /// The log time that they take, the steps before the judged one included; none without traffic.
    pub needed_ms: Option<u64>,
    /// Whether that is within the phase's `max`.
    pub fits: bool,
}

/// Which tenants each phase takes in, and what it needs.
///
/// # Errors
/// The phases that find too few tenants.
pub fn outlook(plan: &Plan, history: &History) -> Result<Vec<PhaseOutlook>, Vec<UnmetPhase>> {
    let members = choose(plan, &candidates(history))?;
    let of_phase = |(index, phase): (usize, &Phase)| {
        let tenants = members.new_in(index);
        let named: BTreeSet<&TenantId> = tenants.iter().collect();
        let known: Vec<&TenantHistory> =
            history.tenants.iter().filter(|tenant| named.contains(&tenant.tenant)).collect();
        need(plan, phase, tenants.to_vec(), &known)
    };
    Ok(plan.phases().iter().enumerate().map(of_phase).collect())
}

fn need(plan: &Plan, phase: &Phase, tenants: Vec<TenantId>, known: &[&TenantHistory]) -> PhaseOutlook {
    let milli = known.iter().fold(0_u64, |sum, tenant| sum.saturating_add(tenant.milli_per_minute));
    let sample = terms::sample_ppm(known.iter().copied());
    let needed = TreatedPercent::try_new(phase.ladder.judged()).map_or(u64::MAX, |percent| {
        let safe = units_needed(&terms::bet_config(plan.analysis(), phase, known, percent, sample), percent);
        safe.max(latency::fewest_units(&plan.analysis().latency, percent))
    });
    let counted = u128::from(milli) * u128::from(sample);
    let ms = (u128::from(needed) * u128::from(MINUTE_MS) * 1_000 * 1_000_000).checked_div(counted);
    let steps_before = u64::try_from(phase.ladder.bakes().len()).unwrap_or(u64::MAX);
    let before = phase.bake_ms.saturating_mul(steps_before);
    let windows_ms = latency::fewest_windows(&plan.analysis().latency).saturating_mul(phase.block_ms);
    let needed_ms = ms.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX).max(windows_ms).saturating_add(before));
    PhaseOutlook {
        phase: phase.name.clone(),
        // A phase without tenants of its own is passed over.
        fits: tenants.is_empty() || needed_ms.is_some_and(|ms| ms <= phase.max_ms),
        tenants,
        milli_per_minute: milli,
        units_needed: needed,
        needed_ms,
    }
}

/// The tenants of a history, as the choice looks at them.
pub(super) fn candidates(history: &History) -> Vec<Tenant> {
    let candidate = |tenant: &TenantHistory| Tenant {
        id: tenant.tenant.clone(),
        milli_per_minute: tenant.milli_per_minute,
        already_enforced: tenant.already_enforced,
    };
    history.tenants.iter().map(candidate).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::{RolloutId, Stamp};
    use crate::rollout::controller::Span;
    use crate::rollout::plan;

    fn of(per_minute: u64, latency: &serde_json::Value) -> PhaseOutlook {
        let document = json!({
            "kind": "PolicyRollout", "id": "cb", "analysis": {"latency": latency},
            "phases": [{"name": "canary", "tenants": {"count": 1}, "ladder": [50], "bake": "12h", "min": "3d",
                "max": "7d"}],
        });
        let plan = plan::parse(&document).unwrap().plan;
        let week = 7 * 24 * 60;
        let tenant = TenantHistory {
            tenant: TenantId::try_new("acme").unwrap(),
            units: per_minute * week,
            failures: per_minute * week / 100,
            milli_per_minute: per_minute * 1_000,
            already_enforced: false,
            fallback: true,
            timeout_ms: 30_000,
        };
        let span = Span { from: Stamp(0), to: Stamp(week * MINUTE_MS) };
        let rollout = RolloutId::try_new("cb").unwrap();
        let history = History { rollout, phase: 0, span, tenants: vec![tenant] };
        outlook(&plan, &history).unwrap().remove(0)
    }

    #[test]
    fn a_phase_fits_where_its_traffic_suffices() {
        let (slow, fast) = (of(1, &json!({"quantiles": []})), of(10, &json!({"quantiles": []})));
        // Simulations of the judge: four of five rollouts have passed after 15,200 units, which are 25 hours.
        assert!((13_000..18_000).contains(&fast.units_needed), "{fast:?}");
        let hours = fast.needed_ms.unwrap() / 3_600_000;
        assert!((22..30).contains(&hours), "{hours}");
        assert!(fast.fits && !slow.fits, "ten times as long is more than a week");
        assert_eq!(of(0, &json!({})).needed_ms, None);
        assert!(!of(0, &json!({})).fits);
    }

    #[test]
    fn latency_takes_units_of_its_own() {
        let p95 = of(100, &json!({"quantiles": [0.95]}));
        let none = of(100, &json!({"quantiles": []}));
        assert_eq!(p95.units_needed, none.units_needed.max(12_000));
        // Thirty windows of five minutes, however fast requests come.
        assert!(of(100_000, &json!({"quantiles": [0.5]})).needed_ms >= Some(30 * 5 * MINUTE_MS));
        assert!(of(100_000, &json!({"quantiles": []})).needed_ms < Some(30 * 5 * MINUTE_MS));
    }
}
