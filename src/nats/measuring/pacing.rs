use std::time::Duration;

use crate::clock::Clock;

/// Moments at a fixed rate, whatever the one who keeps to them is late by: what was missed is due at
/// once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    began: u64,
    per_second: u64,
}

impl Pace {
    pub(super) const fn from(began: u64, per_second: u32) -> Self {
        Self { began, per_second: if per_second == 0 { 1 } else { per_second as u64 } }
    }

    /// When number `n` is meant to happen, in nanoseconds of the clock.
    pub(super) const fn moment(&self, n: u64) -> u64 {
        let (seconds, rest) = (n / self.per_second, n % self.per_second);
        self.began + seconds * 1_000_000_000 + rest * 1_000_000_000 / self.per_second
    }

    /// Blocks the thread until number `n` is due.
    pub(super) fn wait(&self, n: u64, clock: &Clock) {
        let now = clock.nanos();
        let moment = self.moment(n);
        if moment > now {
            std::thread::sleep(Duration::from_nanos(moment - now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_drift_by_nothing() {
        let pace = Pace::from(7, 30_000);
        assert_eq!(pace.moment(0), 7);
        assert_eq!(pace.moment(1), 7 + 33_333);
        assert_eq!(pace.moment(90_000), 7 + 3_000_000_000);
        assert_eq!(Pace::from(0, 0).moment(2), 2_000_000_000);
    }
}
