//! One tenant of a rollout, as the controller has it judged.

use std::num::NonZeroU32;

use beamline_router::rollout::judge::{
    Alpha, BetConfig, BetJudge, Block, Counts, HarmMargin, Look, Outcomes, TreatedPercent, auto_budget,
    auto_safe_margin,
};

use crate::random::{Chance, Random};

pub(crate) const WEEK_MINUTES: u64 = 7 * 24 * 60;
/// Windows to an hour of the judge, as the controller counts them.
const HOUR_WINDOWS: u64 = 12;
/// The open time of a breaker by default. It sets the budget where there is no fallback.
pub(crate) const TIMEOUT_MS: u64 = 30_000;

/// A tenant's traffic, and how it is split and counted.
#[derive(Clone, Copy)]
pub(crate) struct Tenant {
    pub(crate) per_minute: u64,
    /// How many of a million units fail without the treatment.
    pub(crate) base_ppm: u64,
    /// The share of the treated arm, in percent.
    pub(crate) share: u8,
    /// The length of a block.
    pub(crate) block_minutes: u64,
}

impl Tenant {
    /// Half treated, in blocks of five minutes: the defaults of a plan.
    pub(crate) const fn new(per_minute: u64, base_ppm: u64) -> Self {
        Self { per_minute, base_ppm, share: 50, block_minutes: 5 }
    }

    /// A week before the phase, in which as many units failed as are expected.
    pub(crate) fn history(self) -> Outcomes {
        let units = self.per_minute * WEEK_MINUTES;
        Outcomes::of(units, units * self.base_ppm / 1_000_000).unwrap()
    }

    /// What the controller tells a judge where a plan leaves `analysis` as it is, the phase lasts at most a
    /// week, and there is a fallback for a refused request.
    pub(crate) fn config(self) -> BetConfig {
        let history = self.history();
        let safe_margin = auto_safe_margin(history);
        let treated = (self.per_minute * u64::from(self.share)).div_ceil(100);
        let max_hours = WEEK_MINUTES.div_ceil(HOUR_WINDOWS * self.block_minutes);
        BetConfig {
            history,
            safe_margin,
            harm_margin: HarmMargin::try_new(safe_margin.get() / 10).unwrap(),
            harm_budget: auto_budget(treated, TIMEOUT_MS, true),
            harm_alpha: Alpha::HARM,
            safe_alpha: Alpha::SAFE,
            max_hours: u32::try_from(max_hours).ok().and_then(NonZeroU32::new).unwrap(),
        }
    }

    pub(crate) fn percent(self) -> TreatedPercent {
        TreatedPercent::try_new(self.share).unwrap()
    }

    /// Units of a block.
    pub(crate) const fn units(self) -> u64 {
        self.per_minute * self.block_minutes
    }

    /// Windows of so many hours.
    pub(crate) const fn windows(self, hours: u64) -> u64 {
        hours * 60 / self.block_minutes
    }

    pub(crate) fn hours(self, windows: u64) -> f64 {
        (windows * self.block_minutes) as f64 / 60.0
    }

    /// Units of one kind, split into arms: treated, failed of these, control, failed of these.
    pub(crate) fn row(self, random: &mut Random, units: u64, [treated, control]: [Chance; 2]) -> [u64; 4] {
        let share = Chance::percent(u64::from(self.share));
        let in_treated = random.binomial(units, share);
        let in_control = units - in_treated;
        [in_treated, random.binomial(in_treated, treated), in_control, random.binomial(in_control, control)]
    }

    pub(crate) fn block(self, window: u64, plain: [u64; 4], met: [u64; 4]) -> Block {
        Block {
            hour: window / HOUR_WINDOWS,
            percent: self.percent(),
            plain: Counts::from_row(plain).unwrap(),
            met: Counts::from_row(met).unwrap(),
        }
    }
}

/// A judge and the windows that it has seen.
pub(crate) struct Course {
    tenant: Tenant,
    judge: BetJudge,
    pub(crate) window: u64,
}

impl Course {
    pub(crate) fn new(tenant: Tenant) -> Self {
        Self::with(tenant, tenant.config())
    }

    pub(crate) fn with(tenant: Tenant, config: BetConfig) -> Self {
        Self { tenant, judge: BetJudge::new(config, tenant.percent()), window: 0 }
    }

    /// Judges a window: units that met no breaker, and units that met one.
    pub(crate) fn look(&mut self, plain: [u64; 4], met: [u64; 4]) -> Look {
        let block = self.tenant.block(self.window, plain, met);
        self.window += 1;
        self.judge.look(&block).unwrap()
    }

    /// Goes on for so many windows, with these chances of failing by arm. Where a look is found that is sought,
    /// it stops and returns how many windows it took.
    pub(crate) fn seek(
        &mut self,
        random: &mut Random,
        windows: u64,
        failing: [Chance; 2],
        sought: impl Fn(&Look) -> bool,
    ) -> Option<u64> {
        let tenant = self.tenant;
        self.seek_rows(windows, |_| (tenant.row(random, tenant.units(), failing), [0; 4]), sought)
    }

    /// As [`Self::seek`], over any rows: plain and met, by the number of the window from here.
    pub(crate) fn seek_rows(
        &mut self,
        windows: u64,
        mut rows: impl FnMut(u64) -> ([u64; 4], [u64; 4]),
        sought: impl Fn(&Look) -> bool,
    ) -> Option<u64> {
        (0..windows)
            .find(|window| {
                let (plain, met) = rows(*window);
                sought(&self.look(plain, met))
            })
            .map(|window| window + 1)
    }
}
