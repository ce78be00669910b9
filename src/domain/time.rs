use serde::{Deserialize, Serialize};

/// A moment by the broker's clock: milliseconds since the Unix epoch. All that breakers judge by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stamp(pub u64);

impl Stamp {
    /// This moment and `ms` later; saturates.
    #[must_use]
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// This moment and `ms` earlier; saturates at the epoch.
    #[must_use]
    pub const fn minus(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms))
    }

    /// Milliseconds from `earlier` to this moment, 0 if it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A moment by this process's monotonic clock, in milliseconds. Gates on the decide path hold ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// Milliseconds from `earlier` to this moment, 0 if it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Stamps minus ticks: ties the broker's clock to this process's monotonic one. Says when something
/// is worth a try, and judges nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset(pub i64);

impl Offset {
    /// The tick at which the broker's clock reads `stamp`; saturates.
    #[must_use]
    pub fn to_tick(self, stamp: Stamp) -> Tick {
        Tick(u64::try_from(signed(stamp.0).saturating_sub(self.0)).unwrap_or(0))
    }

    /// What the broker's clock reads at `tick`; saturates.
    #[must_use]
    pub fn to_stamp(self, tick: Tick) -> Stamp {
        Stamp(u64::try_from(signed(tick.0).saturating_add(self.0)).unwrap_or(0))
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
