use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::run::Window;
use crate::domain::TenantId;
use crate::rollout::judge::{
    Alpha, BetConfig, Counts, Look, LookError, Outcomes, PhaseHarm, PhaseJudge, TreatedPercent,
};

/// Those who have passed, at the share of `after_phase`: the rest goes on being compared, for HARM alone. The
/// judge begins anew after as many windows as the last phase may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holdout {
    config: BetConfig,
    percent: TreatedPercent,
    histories: BTreeMap<TenantId, Outcomes>,
    max_windows: u64,
    judge: PhaseJudge<TenantId>,
    first: Option<u64>,
    /// Of windows since its tenants were the same.
    qualified_ms: u64,
}

impl Holdout {
    /// `config` has the α of one such judge.
    pub(super) fn new(
        config: BetConfig,
        percent: TreatedPercent,
        histories: BTreeMap<TenantId, Outcomes>,
        max_windows: u64,
    ) -> Self {
        let judge = PhaseJudge::new(config, percent, histories.clone());
        Self { config, percent, histories, max_windows, judge, first: None, qualified_ms: 0 }
    }

    pub(super) fn take(&mut self, window: &Window<'_>) -> Result<(), LookError> {
        let age = window.number.saturating_sub(self.first.unwrap_or(window.number));
        if age >= self.max_windows {
            self.judge = PhaseJudge::new(self.config, self.percent, self.histories.clone());
            self.first = None;
        }
        let first = *self.first.get_or_insert(window.number);
        self.judge.look(&window.blocks(first))?;
        if window.qualified {
            self.qualified_ms = self.qualified_ms.saturating_add(window.end.since(window.start));
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, tenant: &TenantId) {
        self.judge.remove(tenant);
        self.histories.remove(tenant);
    }

    pub(super) fn harm(&self, alpha: Alpha) -> PhaseHarm<TenantId> {
        self.judge.harm(alpha)
    }

    pub(super) fn look(&self) -> Look {
        self.judge.current()
    }

    pub(super) const fn units(&self) -> Counts {
        self.judge.units()
    }

    pub(super) fn tenants(&self) -> impl Iterator<Item = (&TenantId, Look)> {
        self.judge.tenants()
    }

    pub(super) const fn qualified_ms(&self) -> u64 {
        self.qualified_ms
    }
}
