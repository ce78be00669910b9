use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::latency::Latency;
use super::opens::Opens;
use crate::domain::{Stamp, TenantId};
use crate::rollout::evidence::{OpenRecord, TenantRow};
use crate::rollout::judge::{
    Alpha, BetConfig, Block, Counts, Look, LookError, Outcomes, PhaseHarm, PhaseJudge, ShareTest,
    TreatedPercent,
};
use crate::rollout::plan;

/// Windows to an hour of the judge.
const HOUR_WINDOWS: u64 = 12;

/// One phase on its ladder: what was judged of the tenants that came in with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PhaseRun {
    config: BetConfig,
    histories: BTreeMap<TenantId, Outcomes>,
    /// The share of the last step.
    judged: TreatedPercent,
    /// The share of this step.
    percent: u8,
    /// Of all steps with a share above 0, once there is one.
    judge: Option<PhaseJudge<TenantId>>,
    /// Of a step at 0: both arms are treated alike, so what it finds is a fault of the evidence.
    alike: Option<PhaseJudge<TenantId>>,
    /// Units without an outcome in this step, by arm.
    loss: ShareTest,
    latency: Latency,
    opens: Opens,
    /// Requests of this step, by arm, and units of it with an outcome.
    asked: [u64; 2],
    ended: [u64; 2],
    /// The first window of the phase, and its beginning.
    first: Option<(u64, Stamp)>,
    elapsed_ms: u64,
    qualified_ms: u64,
    step_qualified_ms: u64,
}

/// One window, as far as it counts for some tenants.
#[derive(Clone, Debug)]
pub(super) struct Window<'b> {
    pub(super) number: u64,
    pub(super) start: Stamp,
    pub(super) end: Stamp,
    /// Whether its time counts towards the least time.
    pub(super) qualified: bool,
    pub(super) rows: Vec<&'b TenantRow>,
}

impl Window<'_> {
    /// The rows as a judge takes them, by tenant. `hour` counts from the window `first`.
    pub(super) fn blocks(&self, first: u64) -> BTreeMap<TenantId, Block> {
        let mut blocks: BTreeMap<TenantId, Block> = BTreeMap::new();
        for row in &self.rows {
            let Some(block) = row.judge_block(self.number.saturating_sub(first)) else { continue };
            blocks
                .entry(row.tenant.clone())
                .and_modify(|sum| {
                    sum.plain = sum.plain.plus(block.plain);
                    sum.met = sum.met.plus(block.met);
                })
                .or_insert(block);
        }
        blocks
    }

    fn length_ms(&self) -> u64 {
        self.end.since(self.start)
    }
}

impl PhaseRun {
    pub(super) fn new(
        config: BetConfig,
        histories: BTreeMap<TenantId, Outcomes>,
        judged: TreatedPercent,
        latency: &plan::Latency,
    ) -> Self {
        Self {
            config,
            histories,
            judged,
            percent: 0,
            judge: None,
            alike: None,
            loss: ShareTest::new(judged, config.max_hours),
            latency: Latency::new(latency),
            opens: Opens::default(),
            asked: [0; 2],
            ended: [0; 2],
            first: None,
            elapsed_ms: 0,
            qualified_ms: 0,
            step_qualified_ms: 0,
        }
    }

    /// A step begins, or begins anew.
    pub(super) fn begin_step(&mut self, percent: u8) {
        let histories = || self.histories.clone();
        let split = match TreatedPercent::try_new(percent) {
            Ok(share) => {
                self.alike = None;
                match &mut self.judge {
                    Some(judge) => judge.begin_step(share),
                    none => *none = Some(PhaseJudge::new(self.config, share, histories())),
                }
                share
            }
            // Nothing is refused, so nothing may be lost either.
            Err(_) => {
                let config = BetConfig { harm_budget: 0, ..self.config };
                self.alike = Some(PhaseJudge::new(config, self.judged, histories()));
                self.judged
            }
        };
        self.percent = percent;
        self.loss = ShareTest::new(split, self.config.max_hours);
        self.latency.begin_step();
        (self.asked, self.ended, self.step_qualified_ms) = ([0; 2], [0; 2], 0);
    }

    /// Evidence was lost: what SAFE knew may lack the harm of it.
    pub(super) fn begin_safe_anew(&mut self) {
        if let (Some(judge), Ok(share)) = (&mut self.judge, TreatedPercent::try_new(self.percent)) {
            judge.begin_step(share);
        }
    }

    /// Time passes, whether its evidence counts or not.
    pub(super) fn pass(&mut self, number: u64, start: Stamp, end: Stamp) {
        let (_, began) = *self.first.get_or_insert((number, start));
        self.elapsed_ms = self.elapsed_ms.max(end.since(began));
    }

    /// Takes what counts of a window.
    pub(super) fn take(&mut self, window: &Window<'_>) -> Result<(), LookError> {
        let (first, _) = *self.first.get_or_insert((window.number, window.start));
        let blocks = window.blocks(first);
        if let Some(judge) = self.alike.as_mut().or(self.judge.as_mut()) {
            judge.look(&blocks)?;
        }
        if window.qualified {
            self.qualified_ms = self.qualified_ms.saturating_add(window.length_ms());
            self.step_qualified_ms = self.step_qualified_ms.saturating_add(window.length_ms());
        }
        let mut lost = [0_u64; 2];
        for row in &window.rows {
            let [plain_t, _, plain_c, _] = row.plain;
            let [met_t, _, met_c, _] = row.met;
            add(&mut self.ended, [plain_t, plain_c]);
            add(&mut self.ended, [met_t, met_c]);
            add(&mut self.asked, row.asked);
            add(&mut lost, row.no_outcome);
        }
        let [treated, control] = lost;
        self.loss.take(window.number.saturating_sub(first) / HOUR_WINDOWS, treated, control);
        // Arms that are treated alike say nothing of what a treatment costs.
        if self.percent > 0 {
            self.latency.take(window.rows.iter().copied());
        }
        Ok(())
    }

    pub(super) fn open(&mut self, record: &OpenRecord, window: u64) {
        self.opens.take(record, self.percent > 0, window);
    }

    /// A tenant is no longer part of the phase.
    pub(super) fn remove(&mut self, tenant: &TenantId) {
        for judge in self.judge.iter_mut().chain(&mut self.alike) {
            judge.remove(tenant);
        }
        self.histories.remove(tenant);
        self.opens.remove(tenant);
    }

    /// Who is harmed.
    pub(super) fn harm(&self, alpha: Alpha) -> PhaseHarm<TenantId> {
        self.judge.as_ref().map_or(PhaseHarm::Nobody, |judge| judge.harm(alpha))
    }

    /// Whether a step at 0 finds a difference between arms that are treated alike.
    pub(super) fn is_suspect(&self, alpha: Alpha) -> bool {
        self.alike.as_ref().is_some_and(|judge| {
            judge.harm(alpha) != PhaseHarm::Nobody
                || judge.current().share >= ShareTest::THRESHOLD
                || self.loss.log_e() >= ShareTest::THRESHOLD
        })
    }

    /// What the judge of this step says; `None` before a step began.
    pub(super) fn look(&self) -> Option<Look> {
        self.alike.as_ref().or(self.judge.as_ref()).map(PhaseJudge::current)
    }

    pub(super) fn units(&self) -> Counts {
        self.alike.as_ref().or(self.judge.as_ref()).map(PhaseJudge::units).unwrap_or_default()
    }

    /// What is known of each tenant in this step.
    pub(super) fn tenants(&self) -> impl Iterator<Item = (&TenantId, Look)> {
        self.alike.as_ref().or(self.judge.as_ref()).into_iter().flat_map(PhaseJudge::tenants)
    }

    pub(super) const fn config(&self) -> &BetConfig {
        &self.config
    }

    /// The share by which the step's units are split.
    pub(super) fn split(&self) -> TreatedPercent {
        TreatedPercent::try_new(self.percent).unwrap_or(self.judged)
    }

    pub(super) const fn times(&self) -> Times {
        Times {
            elapsed_ms: self.elapsed_ms,
            qualified_ms: self.qualified_ms,
            step_qualified_ms: self.step_qualified_ms,
        }
    }

    pub(super) const fn latency(&self) -> &Latency {
        &self.latency
    }

    pub(super) const fn opens(&self) -> &Opens {
        &self.opens
    }

    pub(super) const fn loss(&self) -> &ShareTest {
        &self.loss
    }

    /// Units with an outcome to requests, the lesser of the arms, in permille.
    pub(super) fn coverage_permille(&self) -> u32 {
        let of = |(ended, asked): (u64, u64)| {
            let permille = (u128::from(ended) * 1_000).checked_div(u128::from(asked)).unwrap_or(1_000);
            u32::try_from(permille.min(1_000)).unwrap_or(1_000)
        };
        self.ended.into_iter().zip(self.asked).map(of).min().unwrap_or(1_000)
    }
}

/// Log time of a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) elapsed_ms: u64,
    pub(super) qualified_ms: u64,
    pub(super) step_qualified_ms: u64,
}

fn add(sum: &mut [u64; 2], more: [u64; 2]) {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum = sum.saturating_add(more);
    }
}
