use xxhash_rust::xxh3::Xxh3;

use super::Breaker;
use super::machine::Phase;

impl Breaker {
    /// Feeds all that later inputs depend on to a hash: equal states, equal digests.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(&self.settings.digest.to_le_bytes());
        let (tag, a, b) = match &self.phase {
            Phase::Closed => (0u64, 0, 0),
            Phase::Open { opened_at, hold_until } => (1, opened_at.0, hold_until.0),
            Phase::HalfOpen { successes, leases } => (2, u64::from(*successes), leases.len() as u64),
        };
        let force = self.forced.as_ref();
        for n in [
            self.seed,
            tag,
            a,
            b,
            force.map_or(0, |f| 1 + f.to as u64),
            force.map_or(0, |f| f.since.0),
            u64::from(force.is_some_and(|f| f.ttl_ms.is_some())),
            force.and_then(|f| f.ttl_ms).unwrap_or(0),
            u64::from(self.suspended),
            u64::from(self.row),
            self.row_at.0,
            self.since.0,
            self.last_transition.0,
            u64::from(self.trips),
            u64::from(self.reopenings),
            u64::from(self.failure_share.ppm()),
        ] {
            hash.update(&n.to_le_bytes());
        }
        if let Phase::HalfOpen { leases, .. } = &self.phase {
            for lease in leases {
                hash.update(lease.request_id.as_bytes());
                hash.update(&lease.claim.0.to_le_bytes());
                hash.update(&lease.length_ms.to_le_bytes());
                hash.update(&lease.deadline.0.to_le_bytes());
            }
        }
        self.window.digest(&mut hash);
        hash.digest()
    }
}
