//! The only place that reads a clock.
//!
//! Three times are told apart. *Stamps* ([`Stamp`]) are the log's: milliseconds since the Unix epoch
//! by the broker's clock, and the only time that breakers judge by. *Ticks* ([`Tick`]) are
//! milliseconds of this process's monotonic clock; gates on the decide path hold ticks. The *wall
//! clock* is read for log lines and for fields that people read, and decides nothing.
//!
//! [`Clock`] ties the first two: it keeps the offset between the broker's clock and the monotonic
//! one, measured by requests to the broker ([`Clock::observe`]). The offset only says when claiming a
//! probe is worth a try; whether it is granted is judged by the log's stamp.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::domain::{Offset, Stamp, Tick};

/// How much worse than the best round trip a later measurement may be and still replace the offset.
/// The best one ages by this much a minute, so that a drifting clock is followed.
const AGEING_MS: u64 = 1;

/// Reads the monotonic and the wall clock, and translates between ticks and the broker's stamps.
/// Cheap to clone; all clones share one offset.
#[derive(Clone, Debug)]
pub struct Clock {
    epoch: tokio::time::Instant,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Stamp minus tick, in milliseconds.
    offset_ms: AtomicI64,
    /// The round trip of the measurement in use; `u64::MAX` before the first.
    round_trip_ms: AtomicU64,
    measured_at: AtomicU64,
}

impl Clock {
    /// A clock whose tick 0 is one hour ago, so that ticks in the recent past can be told, and whose
    /// offset is the wall clock's until the broker's has been measured.
    #[expect(clippy::disallowed_methods, reason = "this module is the one that reads the clocks")]
    #[must_use]
    pub fn start() -> Self {
        let epoch = tokio::time::Instant::now();
        let clock = Self {
            epoch,
            shared: Arc::new(Shared {
                offset_ms: AtomicI64::new(0),
                round_trip_ms: AtomicU64::new(u64::MAX),
                measured_at: AtomicU64::new(0),
            }),
        };
        let offset = signed(clock.wall_ms()) - signed(clock.tick().0);
        clock.shared.offset_ms.store(offset, Ordering::Relaxed);
        clock
    }

    /// Milliseconds of the monotonic clock.
    #[expect(clippy::disallowed_methods, reason = "this module is the one that reads the clocks")]
    #[must_use]
    pub fn tick(&self) -> Tick {
        let since = tokio::time::Instant::now().saturating_duration_since(self.epoch);
        Tick(START_TICK + u64::try_from(since.as_millis()).unwrap_or(u64::MAX - START_TICK))
    }

    /// Nanoseconds of the monotonic clock, for durations.
    #[expect(clippy::disallowed_methods, reason = "this module is the one that reads the clocks")]
    #[must_use]
    pub fn nanos(&self) -> u64 {
        let since = tokio::time::Instant::now().saturating_duration_since(self.epoch);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The tick at a reading of [`Self::nanos`].
    #[must_use]
    pub const fn tick_at(nanos: u64) -> Tick {
        Tick(START_TICK + nanos / 1_000_000)
    }

    /// The wall clock in milliseconds since the Unix epoch: for what people read, never for judging.
    #[expect(clippy::disallowed_methods, reason = "this module is the one that reads the clocks")]
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    /// The wall clock as the system gives it: for spans.
    #[expect(clippy::disallowed_methods, reason = "this module is the one that reads the clocks")]
    #[must_use]
    pub fn wall(&self) -> std::time::SystemTime {
        std::time::SystemTime::now()
    }

    /// Takes a measurement of the broker's clock: it read `stamp` at some moment between the ticks
    /// `sent` and `received`. The measurement with the least round trip wins, since its error is at
    /// most half of that; old ones lose their weight slowly. One that shows the offset in use to be wrong
    /// replaces it: the process was suspended, or another broker with another clock answers.
    pub fn observe(&self, stamp: Stamp, sent: Tick, received: Tick) {
        let round_trip = received.0.saturating_sub(sent.0);
        let best = self.shared.round_trip_ms.load(Ordering::Relaxed);
        let age_minutes = received.0.saturating_sub(self.shared.measured_at.load(Ordering::Relaxed)) / 60_000;
        let better = round_trip <= best.saturating_add(age_minutes.saturating_mul(AGEING_MS));
        if !better && is_possible(self.offset(), stamp, sent, received) {
            return;
        }
        let middle = sent.0 + round_trip / 2;
        self.shared.offset_ms.store(signed(stamp.0) - signed(middle), Ordering::Relaxed);
        self.shared.round_trip_ms.store(round_trip, Ordering::Relaxed);
        self.shared.measured_at.store(received.0, Ordering::Relaxed);
    }

    /// The offset in use.
    #[must_use]
    pub fn offset(&self) -> Offset {
        Offset(self.shared.offset_ms.load(Ordering::Relaxed))
    }

    /// The broker's time now, as far as it is known.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.offset().to_stamp(self.tick())
    }
}

/// Whether the broker's clock can have read `stamp` between two ticks, if this is the offset. All three are
/// cut to whole milliseconds.
fn is_possible(offset: Offset, stamp: Stamp, sent: Tick, received: Tick) -> bool {
    (offset.to_stamp(sent).minus(1)..=offset.to_stamp(received).plus(1)).contains(&stamp)
}

/// Ticks begin at one hour, so that a stamp from before the start still has a tick above 0.
const START_TICK: u64 = 3_600_000;

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_that_the_offset_contradicts_replaces_it_however_long_it_took() {
        let clock = Clock::start();
        clock.observe(Stamp(1_000_000), Tick(5_000), Tick(5_000));
        let good = clock.offset();
        assert_eq!(good.to_stamp(Tick(5_000)), Stamp(1_000_000));
        // It took longer and says nothing against it.
        clock.observe(Stamp(1_000_100), Tick(5_090), Tick(5_130));
        assert_eq!(clock.offset(), good);
        // The process was suspended for a minute, in which its ticks stood still.
        clock.observe(Stamp(1_060_220), Tick(5_200), Tick(5_240));
        assert_eq!(clock.offset().to_stamp(Tick(5_220)), Stamp(1_060_220));
    }
}
