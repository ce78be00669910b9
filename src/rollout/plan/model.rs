use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::{RolloutId, TenantId};

use super::analysis::Analysis;
use super::breaker::BreakerBlock;
use super::facts::Facts;
use super::pattern::Pattern;
use super::phases::Phase;
use super::words::{Approval, OnExhausted, Order};
use super::written;

/// A checked plan. Built by [`super::parse`] alone; what the module's theory promises holds of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename = "PolicyRollout")]
pub struct Plan {
    pub(super) id: RolloutId,
    pub(super) circuit_breaker: BreakerBlock,
    pub(super) cohort: Cohort,
    pub(super) facts: BTreeMap<TenantId, Facts>,
    #[serde(rename = "history", serialize_with = "written::duration")]
    pub(super) history_ms: u64,
    pub(super) analysis: Analysis,
    pub(super) phases: Vec<Phase>,
    pub(super) after_phase: u8,
    #[serde(rename = "final_bake", serialize_with = "written::duration")]
    pub(super) final_bake_ms: u64,
    pub(super) approval: Approval,
    pub(super) on_exhausted: OnExhausted,
}

/// Which tenants take part, and in which order they come in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cohort {
    /// For the order by hash.
    pub seed: u32,
    /// Who comes in first.
    pub order: Order,
    /// Who takes part: whoever one of these matches; at least one.
    pub include: Vec<Pattern>,
    /// Except whoever one of these matches.
    pub exclude: Vec<Pattern>,
}

impl Default for Cohort {
    fn default() -> Self {
        Self { seed: 1, order: Order::Traffic, include: vec![Pattern::everyone()], exclude: Vec::new() }
    }
}

impl Plan {
    /// Its id, unique among rollouts.
    #[must_use]
    pub const fn id(&self) -> &RolloutId {
        &self.id
    }

    /// The breaker settings that the rollout lays under those of each tenant's documents.
    #[must_use]
    pub const fn circuit_breaker(&self) -> &BreakerBlock {
        &self.circuit_breaker
    }

    /// Who takes part.
    #[must_use]
    pub const fn cohort(&self) -> &Cohort {
        &self.cohort
    }

    /// What people know of tenants, whether these take part or not.
    #[must_use]
    pub const fn facts(&self) -> &BTreeMap<TenantId, Facts> {
        &self.facts
    }

    /// Whether facts call a tenant critical; one without facts is not.
    #[must_use]
    pub fn is_critical(&self, tenant: &TenantId) -> bool {
        self.facts.get(tenant).is_some_and(|facts| facts.critical)
    }

    /// How far back the history of each phase looks.
    #[must_use]
    pub const fn history_ms(&self) -> u64 {
        self.history_ms
    }

    /// How evidence is gathered and judged.
    #[must_use]
    pub const fn analysis(&self) -> &Analysis {
        &self.analysis
    }

    /// The phases in order; at least one.
    #[must_use]
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// The share of a tenant whose phase has passed, in percent; from 1 to 99.
    #[must_use]
    pub const fn after_phase(&self) -> u8 {
        self.after_phase
    }

    /// How long all stay at [`Self::after_phase`] before the rollout is complete.
    #[must_use]
    pub const fn final_bake_ms(&self) -> u64 {
        self.final_bake_ms
    }

    /// Who lets it go on after a phase.
    #[must_use]
    pub const fn approval(&self) -> Approval {
        self.approval
    }

    /// What happens when a phase reaches its longest time.
    #[must_use]
    pub const fn on_exhausted(&self) -> OnExhausted {
        self.on_exhausted
    }
}
