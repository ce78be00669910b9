use serde::{Deserialize, Serialize};

use super::bets::{Bet, Side, Stake, harm_stakes, safe_stakes, units_needed};
use super::config::{BetConfig, TreatedPercent};
use super::counts::{Counts, float};
use super::log_e::LogE;
use super::look::{Look, Reason, Verdict};
use super::path::{Hours, Path};
use super::share::ShareTest;
use crate::domain::logarithm::ln;

/// SAFE's evidence is kept below its threshold plus 2 nats. A cap only lowers the capital, so the test stays
/// valid; without one, old evidence of safety would outweigh harm that begins later.
const SAFE_CAP_ABOVE: f64 = 2.0;

/// The evidence of one block, of one tenant or added up over several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    /// For HARM by view (all units; only those that met a breaker) and stake.
    pub(super) harm: [[LogE; 3]; 2],
    /// For SAFE by stake.
    pub(super) safe: [LogE; 2],
    /// The units.
    pub(super) units: Counts,
}

impl Evidence {
    /// Both together. All are integers, so the order does not matter.
    pub(super) fn plus(mut self, other: &Self) -> Self {
        for (sum, log) in self.harm.iter_mut().flatten().zip(other.harm.iter().flatten()) {
            *sum = sum.plus(*log);
        }
        for (sum, log) in self.safe.iter_mut().zip(&other.safe) {
            *sum = sum.plus(*log);
        }
        self.units = self.units.plus(other.units);
        self
    }

    /// This sum without one of its summands.
    pub(super) fn minus(mut self, part: &Self) -> Self {
        for (sum, log) in self.harm.iter_mut().flatten().zip(part.harm.iter().flatten()) {
            *sum = LogE(sum.0.saturating_sub(log.0));
        }
        for (sum, log) in self.safe.iter_mut().zip(&part.safe) {
            *sum = LogE(sum.0.saturating_sub(log.0));
        }
        self.units = self.units.minus(part.units);
        self
    }
}

/// The capital of all bets in a phase, and the verdict that follows from it.
///
/// HARM is bet on in two views, half of the capital each: all units, and only those that met a breaker, where
/// all others are taken as untouched by the treatment. Each view has three stakes. Each of these bets is played
/// from the beginning of the phase and from each hour since. SAFE has two stakes and no later starts. The
/// capital of a test is the weighted sum of its bets; what is compared with the threshold is the greatest
/// summand, which is never more than the sum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Paths {
    config: BetConfig,
    percent: TreatedPercent,
    hours: Hours,
    harm: [[Path; 3]; 2],
    /// Harm was proven in this phase.
    harmed: bool,
    safe: [LogE; 2],
    share: ShareTest,
    /// Units of this step.
    units: Counts,
}

impl Paths {
    /// A phase that begins at this share.
    pub(super) fn new(config: BetConfig, percent: TreatedPercent) -> Self {
        let path = |stake| {
            let entries = Entries::of(&config, percent, stake);
            Path::new(entries.beginning, entries.restart)
        };
        Self {
            config,
            percent,
            hours: Hours::default(),
            harm: [harm_stakes(percent.probability()).map(path); 2],
            harmed: false,
            safe: fresh_safe(&config, percent),
            share: ShareTest::new(percent, config.max_hours),
            units: Counts::default(),
        }
    }

    /// The next step of the phase. HARM goes on, so its α is the phase's. SAFE begins anew, since its stakes
    /// must be constant, and so do the share test and the count of units.
    pub(super) fn begin_step(&mut self, percent: TreatedPercent) {
        self.percent = percent;
        let stakes = harm_stakes(percent.probability());
        for view in &mut self.harm {
            for (path, stake) in view.iter_mut().zip(stakes) {
                path.set_restart(Entries::of(&self.config, percent, stake).restart);
            }
        }
        self.safe = fresh_safe(&self.config, percent);
        self.share.begin_step(percent);
        self.units = Counts::default();
    }

    /// Takes the evidence of a window.
    pub(super) fn take(&mut self, hour: u64, evidence: &Evidence) -> Look {
        let Evidence { harm, safe, units } = evidence;
        let starts = self.hours.starts(hour, self.config.max_hours.get());
        for (path, log) in self.harm.iter_mut().flatten().zip(harm.iter().flatten()) {
            path.take(*log, starts);
        }
        let cap = safe_cap(&self.config);
        for (path, log) in self.safe.iter_mut().zip(safe) {
            *path = path.plus(*log).min(cap);
        }
        self.units = self.units.plus(*units);
        self.share.take(hour, units.treated.units(), units.control.units());
        let proven = self.harm_log() >= self.config.harm_alpha.log_threshold();
        self.harmed |= proven && self.share.log_e() < ShareTest::THRESHOLD;
        self.look()
    }

    /// What is known so far.
    pub(super) fn look(&self) -> Look {
        let safe = self.safe.iter().fold(LogE(i64::MIN), |best, path| best.max(*path));
        let share = self.share.log_e();
        Look { harm: self.harm_log(), safe, share, verdict: self.verdict(safe, share) }
    }

    /// The same test at the same share, without evidence.
    pub(super) fn begun_anew(&self) -> Self {
        Self::new(self.config, self.percent)
    }

    /// The share of the step.
    pub(super) const fn percent(&self) -> TreatedPercent {
        self.percent
    }

    /// The units of the step.
    pub(super) const fn units(&self) -> Counts {
        self.units
    }

    /// The bets on harm of this step, by stake.
    pub(super) fn harm_bets(&self) -> [Bet; 3] {
        let (pi, tolerance) = (self.percent.probability(), self.config.harm_margin.fraction());
        harm_stakes(pi).map(|Stake { size, .. }| Bet { side: Side::Harm, pi, stake: size, tolerance })
    }

    /// The bets on safety of this step, by stake.
    pub(super) fn safe_bets(&self) -> [Bet; 2] {
        let (pi, tolerance) = (self.percent.probability(), self.config.safe_margin.fraction());
        safe_stakes(pi, self.config.history.smoothed_rate(), tolerance).map(|Stake { size, .. }| Bet {
            side: Side::Safety,
            pi,
            stake: size,
            tolerance,
        })
    }

    fn harm_log(&self) -> LogE {
        self.harm.iter().flatten().fold(LogE(i64::MIN), |best, path| best.max(path.best()))
    }

    fn verdict(&self, safe: LogE, share: LogE) -> Verdict {
        let Counts { treated, control } = self.units;
        if self.harmed {
            Verdict::Fail
        } else if treated.units() == 0 || control.units() == 0 {
            Verdict::Inconclusive(Reason::NoData)
        } else if share >= ShareTest::THRESHOLD {
            Verdict::Inconclusive(Reason::SampleRatio)
        } else if safe >= self.config.safe_alpha.log_threshold() {
            Verdict::Pass
        } else if self.units.pooled().units() < units_needed(&self.config, self.percent) {
            Verdict::Inconclusive(Reason::InsufficientSample)
        } else {
            Verdict::Inconclusive(Reason::Undecided)
        }
    }
}

/// What a bet on harm begins with.
struct Entries {
    beginning: LogE,
    restart: LogE,
}

impl Entries {
    /// Its share of the capital (half for each view), and as much less as the budget of lost requests could
    /// win: to reach the threshold, it must prove more than these.
    fn of(config: &BetConfig, percent: TreatedPercent, Stake { weight, size }: Stake) -> Self {
        let entry = |share: f64| {
            let budget = size * float(config.harm_budget) / percent.probability();
            LogE::from_nats(ln(0.5 * weight * share) - budget)
        };
        Self { beginning: entry(0.5), restart: entry(0.5 / f64::from(config.max_hours.get())) }
    }
}

fn fresh_safe(config: &BetConfig, percent: TreatedPercent) -> [LogE; 2] {
    let rate = config.history.smoothed_rate();
    safe_stakes(percent.probability(), rate, config.safe_margin.fraction())
        .map(|Stake { weight, .. }| LogE::from_nats(ln(weight)))
}

/// The most that a bet on safety may hold.
pub(super) fn safe_cap(config: &BetConfig) -> LogE {
    LogE::from_nats(ln(config.safe_alpha.threshold()) + SAFE_CAP_ABOVE)
}
