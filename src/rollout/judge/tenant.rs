use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::bets::Bet;
use super::config::{BetConfig, TreatedPercent};
use super::counts::{Block, Counts, Outcomes, float};
use super::log_e::LogE;
use super::look::{Look, LookError};
use super::paths::{Evidence, Paths};

/// Units of history that the recent failure rate is mixed with, so that a few units do not move it far.
const STEADY: f64 = 50.0;
/// Blocks that the recent failure rate looks back: an hour at the default block.
const RECENT: usize = 12;

/// Judges one tenant over one phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BetJudge {
    /// The tenant's own units before the phase.
    history: Outcomes,
    /// Plain units of the last [`RECENT`] blocks, oldest first.
    recent: VecDeque<Outcomes>,
    /// Units of the phase that met a breaker.
    met: Outcomes,
    paths: Paths,
}

impl BetJudge {
    /// Judges a tenant alone.
    #[must_use]
    pub fn new(config: BetConfig, percent: TreatedPercent) -> Self {
        Self::in_phase(config, percent, config.history)
    }

    /// Judges a tenant that goes up the ladder with others: stakes follow from the phase's history in
    /// `config`, predictions from the tenant's own.
    #[must_use]
    pub fn in_phase(config: BetConfig, percent: TreatedPercent, own_history: Outcomes) -> Self {
        Self {
            history: own_history,
            recent: VecDeque::new(),
            met: Outcomes::default(),
            paths: Paths::new(config, percent),
        }
    }

    /// The next step of the phase. HARM goes on, so its α is the phase's. SAFE and the share test begin anew.
    pub fn begin_step(&mut self, percent: TreatedPercent) {
        self.paths.begin_step(percent);
    }

    /// Judges a block. Blocks come in the order of their windows.
    ///
    /// # Errors
    /// [`LookError::OtherPercent`] where the block is not of this step.
    pub fn look(&mut self, block: &Block) -> Result<Look, LookError> {
        self.check(block)?;
        Ok(self.take(block, &self.evidence(block)))
    }

    /// What is known so far.
    #[must_use]
    pub fn current(&self) -> Look {
        self.paths.look()
    }

    /// The units of the step.
    #[must_use]
    pub const fn units(&self) -> Counts {
        self.paths.units()
    }

    /// The evidence of the next block, not yet taken.
    pub(super) fn evidence(&self, block: &Block) -> Evidence {
        self.log_growth(block).rounded(block)
    }

    /// Whether a block is of this step.
    pub(super) fn check(&self, block: &Block) -> Result<(), LookError> {
        let step = self.paths.percent();
        if block.percent == step {
            Ok(())
        } else {
            Err(LookError::OtherPercent { block: block.percent, step })
        }
    }

    /// Takes a block and its evidence.
    pub(super) fn take(&mut self, block: &Block, evidence: &Evidence) -> Look {
        self.recent.push_back(block.plain.pooled());
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        self.met = self.met.plus(block.met.pooled());
        self.paths.take(block.hour, evidence)
    }

    /// What is predicted of the next block's units, from earlier blocks alone.
    pub(super) fn predictions(&self) -> Predictions {
        let recent = self.recent.iter().copied().fold(Outcomes::default(), Outcomes::plus);
        Predictions {
            plain: (float(recent.failed) + STEADY * self.history.smoothed_rate())
                / (float(recent.units()) + STEADY),
            met: (float(self.met.failed) + 1.0) / (float(self.met.units()) + 2.0),
        }
    }

    /// The evidence of the next block before it is rounded.
    pub(super) fn log_growth(&self, block: &Block) -> LogGrowth {
        let predicted = self.predictions();
        let harm = self.paths.harm_bets();
        let met = |bet: Bet| bet.log_growth(&block.met, predicted.met);
        LogGrowth {
            every: harm.map(|bet| bet.log_growth(&block.plain, predicted.plain) + met(bet)),
            met_only: harm.map(|bet| bet.log_growth_unchanged(block.plain.pooled().units()) + met(bet)),
            safe: self.paths.safe_bets().map(|bet| bet.log_growth(&block.plain, predicted.plain) + met(bet)),
        }
    }
}

/// Predicted failure rates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Predictions {
    /// Of units that did not meet a breaker.
    pub(super) plain: f64,
    /// Of units that met one: Laplace's rule of succession over the phase.
    pub(super) met: f64,
}

/// What a block multiplies the bets' capital by, as logarithms in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LogGrowth {
    /// HARM over all units, by stake.
    pub(super) every: [f64; 3],
    /// HARM over units that met a breaker, by stake.
    pub(super) met_only: [f64; 3],
    /// SAFE, by stake.
    pub(super) safe: [f64; 2],
}

impl LogGrowth {
    fn rounded(&self, block: &Block) -> Evidence {
        let Self { every, met_only, safe } = *self;
        Evidence {
            harm: [every, met_only].map(|view| view.map(LogE::from_nats)),
            safe: safe.map(LogE::from_nats),
            units: block.plain.plus(block.met),
        }
    }
}
