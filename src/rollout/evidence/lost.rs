use super::fold::Evidence;
use super::watch::Losses;

/// What the bounds of the evidence of all rollouts made it lose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Of the rollouts that are running.
    pub of_rollouts: Losses,
    /// Steps that were not taken since too many rollouts are running.
    pub steps: u64,
    /// Runs of workers that were forgotten though they had not ended.
    pub workers: u64,
}

impl Lost {
    /// What was lost since. A rollout that ended meanwhile takes its part away.
    #[must_use]
    pub const fn since(&self, before: &Self) -> Self {
        let (now, then) = (&self.of_rollouts, &before.of_rollouts);
        Self {
            of_rollouts: Losses {
                windows: now.windows.saturating_sub(then.windows),
                units: now.units.saturating_sub(then.units),
                settled: now.settled.saturating_sub(then.settled),
                opens: now.opens.saturating_sub(then.opens),
            },
            steps: self.steps.saturating_sub(before.steps),
            workers: self.workers.saturating_sub(before.workers),
        }
    }
}

impl Evidence {
    /// What was lost so far.
    #[must_use]
    pub fn lost(&self) -> Lost {
        let mut of_rollouts = Losses::default();
        for losses in self.all_losses() {
            let Losses { windows, units, settled, opens } = &mut of_rollouts;
            *windows = windows.saturating_add(losses.windows);
            *units = units.saturating_add(losses.units);
            *settled = settled.saturating_add(losses.settled);
            *opens = opens.saturating_add(losses.opens);
        }
        Lost { of_rollouts, steps: self.refused_steps(), workers: self.forgotten_workers() }
    }
}
