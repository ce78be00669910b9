use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::config::{Alpha, BetConfig, TreatedPercent};
use super::counts::{Block, Counts, Outcomes};
use super::e_bh::e_bh;
use super::log_e::LogE;
use super::look::{Look, LookError, Verdict};
use super::paths::{Evidence, Paths};
use super::share::ShareTest;
use super::tenant::BetJudge;

/// Judges several tenants that go up the ladder together.
///
/// The phase's evidence is the sum of its tenants'. The stakes are the phase's, from its pooled history, and
/// the predictions are each tenant's own: the claim is about the average over all their requests. Each
/// tenant's own HARM goes on beside it; [`e_bh`](fn@super::e_bh) says which tenants are harmed.
///
/// One tenant's harm is not the phase's. So with two or more tenants the sum is also kept without each one of
/// them, and the phase is harmed only if all of these sums say so ([`Self::harm`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseJudge<K: Ord> {
    tenants: BTreeMap<K, BetJudge>,
    paths: Paths,
    /// The sum without one tenant, for each that is judged; empty for fewer than two.
    without: BTreeMap<K, Paths>,
    /// Tenants that left the sum. Their own evidence stays as it was.
    removed: BTreeSet<K>,
}

/// Who is harmed by what is treated in a phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PhaseHarm<K> {
    /// Harm is not proven.
    Nobody,
    /// These tenants, each by itself; or the one that adds most to a sum which proves harm only with it.
    Tenants(Vec<K>),
    /// The phase, whichever tenant is left out.
    Phase,
}

impl<K: Ord + Clone> PhaseJudge<K> {
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
            .collect::<BTreeMap<K, BetJudge>>();
        let paths = Paths::new(config, percent);
        let without = if tenants.len() < 2 {
            BTreeMap::new()
        } else {
            tenants.keys().map(|tenant| (tenant.clone(), paths.clone())).collect()
        };
        Self { tenants, paths, without, removed: BTreeSet::new() }
    }

    /// The next step of the phase. HARM goes on, so its α is the phase's. SAFE and the share test begin anew.
    pub fn begin_step(&mut self, percent: TreatedPercent) {
        self.paths.begin_step(percent);
        for paths in self.without.values_mut() {
            paths.begin_step(percent);
        }
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
            let judge = self.tenants.get(tenant).filter(|_| !self.removed.contains(tenant));
            judge.ok_or(LookError::UnknownTenant)?.check(block)?;
        }
        let Some(hour) = blocks.values().map(|block| block.hour).max() else {
            return Ok(self.current());
        };
        let mut sum = Evidence::default();
        let mut own = BTreeMap::new();
        for (tenant, block) in blocks {
            let Some(judge) = self.tenants.get_mut(tenant) else { continue };
            let evidence = judge.evidence(block);
            judge.take(block, &evidence);
            sum = sum.plus(&evidence);
            own.insert(tenant, evidence);
        }
        for (tenant, paths) in &mut self.without {
            let rest = own.get(tenant).map_or(sum, |evidence| sum.minus(evidence));
            paths.take(hour, &rest);
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

    /// Whether the tenant is in the sum.
    pub fn judges(&self, tenant: &K) -> bool {
        self.tenants.contains_key(tenant) && !self.removed.contains(tenant)
    }

    /// Who is harmed. `alpha` bounds the false discoveries among single tenants, of all that the phase began
    /// with.
    #[must_use]
    pub fn harm(&self, alpha: Alpha) -> PhaseHarm<K> {
        let sum = self.paths.look().verdict == Verdict::Fail;
        if sum && self.without.values().all(|paths| paths.look().verdict == Verdict::Fail) {
            return PhaseHarm::Phase;
        }
        let logs: Vec<(&K, LogE)> = self.tenants().map(|(tenant, look)| (tenant, proven(&look))).collect();
        let values: Vec<LogE> = logs.iter().map(|(_, log)| *log).collect();
        let found = e_bh(&values, alpha);
        let left = |tenant: &&K| !self.removed.contains(*tenant);
        let harmed: Vec<K> =
            found.iter().filter_map(|at| logs.get(*at)).map(|(k, _)| *k).filter(left).cloned().collect();
        if !harmed.is_empty() {
            return PhaseHarm::Tenants(harmed);
        }
        // Of equal ones the last by id.
        let most = logs.into_iter().filter(|(tenant, _)| left(tenant)).max_by_key(|(_, log)| *log);
        match most {
            Some((tenant, _)) if sum => PhaseHarm::Tenants(vec![tenant.clone()]),
            _ => PhaseHarm::Nobody,
        }
    }

    /// A tenant is no longer treated: the sum goes on as it would have been without it. What is known without
    /// it *and* another one was not kept, so those sums begin anew, which only makes them slower.
    pub fn remove(&mut self, tenant: &K) {
        if !self.judges(tenant) {
            return;
        }
        self.removed.insert(tenant.clone());
        if let Some(rest) = self.without.remove(tenant) {
            self.paths = rest;
        }
        if self.without.len() < 2 {
            self.without.clear();
        }
        let fresh = self.paths.begun_anew();
        if self.removed.len() == self.tenants.len() {
            self.paths.clone_from(&fresh);
        }
        for paths in self.without.values_mut() {
            paths.clone_from(&fresh);
        }
    }
}

/// A tenant's harm as e-BH takes it: none where its arms do not have their sizes, since bets rely on these.
fn proven(look: &Look) -> LogE {
    if look.share >= ShareTest::THRESHOLD { look.harm.min(LogE::ZERO) } else { look.harm }
}
