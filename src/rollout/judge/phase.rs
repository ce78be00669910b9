use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::config::{BetConfig, TreatedPercent};
use super::counts::{Block, Counts, Outcomes};
use super::look::{Look, LookError};
use super::paths::{Evidence, Paths};
use super::tenant::BetJudge;

/// Judges several tenants that go up the ladder together.
///
/// The phase's evidence is the sum of its tenants'. The stakes are the phase's, from its pooled history, and
/// the predictions are each tenant's own: the claim is about the average over all their requests. Each
/// tenant's own HARM goes on beside it; [`e_bh`](super::e_bh) says which tenants are harmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseJudge<K: Ord> {
    tenants: BTreeMap<K, BetJudge>,
    paths: Paths,
}

impl<K: Ord> PhaseJudge<K> {
    /// A phase that begins at this share. `config` has the pooled history, `histories` each tenant's own.
    #[must_use]
    pub fn new(
        config: BetConfig,
        percent: TreatedPercent,
        histories: impl IntoIterator<Item = (K, Outcomes)>,
    ) -> Self {
        let tenants = histories
            .into_iter()
            .map(|(tenant, history)| (tenant, BetJudge::in_phase(config, percent, history)))
            .collect();
        Self { tenants, paths: Paths::new(config, percent) }
    }

    /// The next step of the phase. HARM goes on, so its α is the phase's. SAFE and the share test begin anew.
    pub fn begin_step(&mut self, percent: TreatedPercent) {
        self.paths.begin_step(percent);
        for judge in self.tenants.values_mut() {
            judge.begin_step(percent);
        }
    }

    /// Judges the blocks of one window, from the tenants that have one. A window without blocks changes
    /// nothing. Windows come in order.
    ///
    /// # Errors
    /// [`LookError`] where one of the blocks is not of this phase and step. None is judged then.
    pub fn look(&mut self, blocks: &BTreeMap<K, Block>) -> Result<Look, LookError> {
        for (tenant, block) in blocks {
            self.tenants.get(tenant).ok_or(LookError::UnknownTenant)?.check(block)?;
        }
        let Some(hour) = blocks.values().map(|block| block.hour).max() else {
            return Ok(self.current());
        };
        let mut sum = Evidence::default();
        for (tenant, block) in blocks {
            let Some(judge) = self.tenants.get_mut(tenant) else { continue };
            let evidence = judge.evidence(block);
            judge.take(block, &evidence);
            sum = sum.plus(&evidence);
        }
        Ok(self.paths.take(hour, &sum))
    }

    /// What is known of the phase so far.
    #[must_use]
    pub fn current(&self) -> Look {
        self.paths.look()
    }

    /// The units of the step.
    #[must_use]
    pub const fn units(&self) -> Counts {
        self.paths.units()
    }

    /// The tenants and what is known of each, in the order of their ids.
    pub fn tenants(&self) -> impl ExactSizeIterator<Item = (&K, Look)> {
        self.tenants.iter().map(|(tenant, judge)| (tenant, judge.current()))
    }
}
