//! The metrics of rollouts, read off their status when a scrape comes. All of a rollout is the same on every worker, and
//! one that was deleted is not shown.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::names::{Family, metric as m};
use super::page::{Kind, Page, own, owner_of};
use crate::rollout::controller::{STATES, Stage, Status, TenantState};

const DELETED: &str = Stage::Deleted.as_str();

/// Gives the status of every rollout.
pub type Statuses = Arc<dyn Fn() -> Vec<Status> + Send + Sync>;

/// See the module.
pub struct Rollouts {
    statuses: Statuses,
}

impl fmt::Debug for Rollouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rollouts").finish_non_exhaustive()
    }
}

impl Rollouts {
    /// Reads these statuses at each scrape.
    #[must_use]
    pub const fn new(statuses: Statuses) -> Self {
        Self { statuses }
    }

    /// Writes all families of rollouts.
    pub(super) fn write(&self, text: &mut String) {
        let shown: Vec<(String, Status)> = (self.statuses)()
            .into_iter()
            .filter(|status| status.state != DELETED)
            .map(|status| (owner_of("rollout", status.rollout.as_str()), status))
            .collect();
        let mut page = Page::new(text);
        let mut gauges = |family: Family, series: &dyn Fn(&str, &Status, &mut Page<'_>)| {
            page.family(family, Kind::Gauge);
            for (owner, status) in &shown {
                series(owner, status, &mut page);
            }
        };
        gauges(m::ROLLOUT_STATE, &|owner, status, page| {
            for state in STATES.into_iter().filter(|state| *state != DELETED) {
                page.whole(owner, &own(&[("state", state)]), u64::from(status.state == state));
            }
        });
        gauges(m::ROLLOUT_STEP, &|owner, status, page| {
            if let (Some(phase), Some(step)) = (&status.phase, status.step) {
                page.whole(owner, &own(&[("phase", phase.as_str())]), step as u64);
            }
        });
        gauges(m::ROLLOUT_PERCENT, &|owner, status, page| {
            page.whole(owner, "", u64::from(status.percent));
        });
        gauges(m::ROLLOUT_TENANTS, &|owner, status, page| {
            let mut counts: BTreeMap<TenantState, u64> = BTreeMap::new();
            for tenant in &status.tenants {
                *counts.entry(tenant.state).or_default() += 1;
            }
            for state in TenantState::ALL {
                let count = counts.get(&state).copied().unwrap_or(0);
                page.whole(owner, &own(&[("state", state.as_str())]), count);
            }
        });
        gauges(m::ROLLOUT_EVIDENCE, &|owner, status, page| {
            for (of, evidence) in [("harm", status.evidence.harm_e), ("safe", status.evidence.safe_e)] {
                page.real(owner, &own(&[("of", of)]), evidence.nats());
            }
        });
        gauges(m::ROLLOUT_UNITS, &|owner, status, page| page.whole(owner, "", status.evidence.units));
        gauges(m::ROLLOUT_UNITS_NEEDED, &|owner, status, page| {
            page.whole(owner, "", status.evidence.needed);
        });
        gauges(m::ROLLOUT_CRITERION, &|owner, status, page| {
            for criterion in &status.criteria {
                let value = match criterion.verdict.as_str() {
                    "pass" => 1.0,
                    "fail" => -1.0,
                    _ => 0.0,
                };
                page.real(owner, &own(&[("criterion", criterion.name.as_str())]), value);
            }
        });
        gauges(m::ROLLOUT_ISSUES, &|owner, status, page| {
            page.whole(owner, "", status.issues.len() as u64);
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(state: &str) -> Status {
        serde_json::from_value(json!({
            "rollout": "cb", "seq": 4, "state": state, "reasons": [], "phase": "canary", "step": 1, "percent": 10,
            "tenants": [{"tenant_id": "acme", "state": "on_ladder", "percent": 10, "units": 7, "log_e": 0}],
            "already_enforced": [],
            "criteria": [
                {"name": "harm", "verdict": "pass", "reason": "", "figures": {}},
                {"name": "safe", "verdict": "inconclusive", "reason": "no_data", "figures": {}},
                {"name": "telemetry", "verdict": "fail", "reason": "metric_discontinuity", "figures": {}},
            ],
            "qualified_ms": 0, "min_ms": 0, "max_ms": 0, "next": {"when": null, "needs": []},
            "evidence": {"harm_e": -1_500_000_000_i64, "safe_e": 0, "units": 12, "needed": 9000},
            "pending": null, "issues": ["slow"], "graduating": false,
        }))
        .unwrap()
    }

    #[test]
    fn a_rollout_shows_where_it_stands() {
        let statuses = || {
            vec![
                status("running"),
                Status { rollout: crate::domain::RolloutId::try_new("gone").unwrap(), ..status("deleted") },
            ]
        };
        let mut text = String::new();
        Rollouts::new(Arc::new(statuses)).write(&mut text);
        for line in [
            "router_rollout_state{rollout=\"cb\",state=\"running\"} 1",
            "router_rollout_state{rollout=\"cb\",state=\"paused\"} 0",
            "router_rollout_step{rollout=\"cb\",phase=\"canary\"} 1",
            "router_rollout_percent{rollout=\"cb\"} 10",
            "router_rollout_tenants{rollout=\"cb\",state=\"on_ladder\"} 1",
            "router_rollout_tenants{rollout=\"cb\",state=\"rolled_back\"} 0",
            "router_rollout_evidence_nats{rollout=\"cb\",of=\"harm\"} -1.5",
            "router_rollout_evidence_nats{rollout=\"cb\",of=\"safe\"} 0.0",
            "router_rollout_units{rollout=\"cb\"} 12",
            "router_rollout_units_needed{rollout=\"cb\"} 9000",
            "router_rollout_criterion{rollout=\"cb\",criterion=\"harm\"} 1.0",
            "router_rollout_criterion{rollout=\"cb\",criterion=\"safe\"} 0.0",
            "router_rollout_criterion{rollout=\"cb\",criterion=\"telemetry\"} -1.0",
            "router_rollout_open_issues{rollout=\"cb\"} 1",
        ] {
            assert_eq!(text.lines().filter(|l| *l == line).count(), 1, "{line}\n{text}");
        }
        assert!(!text.contains("gone"), "{text}");
        let families = text.lines().filter(|l| l.starts_with("# HELP router_rollout_")).count();
        assert_eq!(families, m::ALL.iter().filter(|f| f.is_per_rollout()).count());
    }
}
