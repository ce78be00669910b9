//! A histogram of durations, exact to less than half a percent.

/// Sub-buckets of each power of two.
const GRAIN_BITS: u32 = 8;
const GRAIN: u64 = 1 << GRAIN_BITS;
/// What is longer than 2^40 ns, some 18 minutes, counts as that.
const LONGEST: u64 = (1 << 40) - 1;

/// Durations in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latencies {
    buckets: Vec<u32>,
    count: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: vec![0; place(LONGEST) + 1], count: 0 }
    }
}

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, nanos: u64) {
        if let Some(bucket) = self.buckets.get_mut(place(nanos.min(LONGEST))) {
            *bucket = bucket.saturating_add(1);
            self.count += 1;
        }
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine = mine.saturating_add(*theirs);
        }
        self.count += other.count;
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// What so many of ten thousand did not exceed, in nanoseconds; 0 if there are none.
    #[must_use]
    pub fn quantile(&self, of_ten_thousand: u64) -> u64 {
        let rank = (self.count * of_ten_thousand).div_ceil(10_000).max(1);
        let mut below = 0;
        let at = self.buckets.iter().position(|n| {
            below += u64::from(*n);
            below >= rank
        });
        at.map_or(0, middle)
    }
}

/// Values below the grain have a bucket each; above, each power of two has as many as the grain.
fn place(nanos: u64) -> usize {
    let power = nanos.max(1).ilog2();
    let place = if power < GRAIN_BITS {
        nanos
    } else {
        let shift = power - GRAIN_BITS;
        GRAIN * u64::from(shift) + (nanos >> shift)
    };
    usize::try_from(place).unwrap_or(usize::MAX)
}

/// The middle of a bucket.
fn middle(at: usize) -> u64 {
    let at = at as u64;
    if at < 2 * GRAIN {
        return at;
    }
    let shift = at / GRAIN - 1;
    ((at - GRAIN * shift) << shift) + (1 << shift) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_told_to_half_a_percent() {
        for nanos in [0, 1, 255, 256, 257, 511, 512, 1_000, 134_217, 999_999_999, LONGEST] {
            let mut one = Latencies::default();
            one.add(nanos);
            let told = one.quantile(5_000);
            assert!(told.abs_diff(nanos) * 200 <= nanos, "{nanos} is told as {told}");
        }
    }

    #[test]
    fn quantiles_are_those_of_all_that_was_added() {
        let (mut a, mut b) = (Latencies::default(), Latencies::default());
        (1..=500).for_each(|n| a.add(n * 1_000));
        (501..=1_000).for_each(|n| b.add(n * 1_000));
        a.merge(&b);
        assert_eq!(a.count(), 1_000);
        for (of_ten_thousand, micros) in [(1, 1), (5_000, 500), (9_900, 990), (10_000, 1_000)] {
            let told = a.quantile(of_ten_thousand);
            assert!(told.abs_diff(micros * 1_000) <= micros * 5, "{of_ten_thousand}: {told}");
        }
        assert_eq!(Latencies::default().quantile(9_900), 0);
    }

    #[test]
    fn buckets_lie_next_to_each_other() {
        let mut last = 0;
        for nanos in 0..100_000 {
            let at = place(nanos);
            assert!(at == last || at == last + 1, "{nanos}");
            last = at;
        }
    }
}
