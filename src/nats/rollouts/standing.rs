use crate::domain::RolloutId;
use crate::nats::Worker;
use crate::rollout::controller::Status;

/// How rollouts stand now, with the shares that the log has in force.
impl Worker {
    /// How every rollout stands.
    #[must_use]
    pub fn rollout_statuses(&self) -> Vec<Status> {
        let now = self.clock.stamp();
        let statuses = self.rollouts.read(|controllers| {
            let statuses = controllers.ids().filter_map(|id| controllers.status(id, now));
            statuses.collect::<Vec<_>>()
        });
        statuses.into_iter().map(|status| self.in_force(status)).collect()
    }

    /// How one stands; `None` if there is none with this id.
    #[must_use]
    pub fn rollout_status(&self, rollout: &RolloutId) -> Option<Status> {
        let now = self.clock.stamp();
        let status = self.rollouts.read(|controllers| controllers.status(rollout, now))?;
        Some(self.in_force(status))
    }

    fn in_force(&self, mut status: Status) -> Status {
        if self.ledger.fold().overlays().is_stale(&status.rollout) {
            status.lapse();
        }
        status
    }
}
