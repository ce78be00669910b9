//! A histogram that costs two relaxed additions to record into.
//!
//! The library's own histogram takes a lock for each observation; decisions are counted in
//! microseconds and come from many threads, so this one keeps an atomic for each bucket and one for
//! the sum. A scrape that runs beside an observation may see it in the bucket and not yet in the
//! sum; the count is made from the buckets, so that `_count` and `le="+Inf"` always agree.

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Upper bounds in nanoseconds, 1-2-5 a decade from 10 µs to 1 s. A decision takes some 10 µs; the
/// longest that the router waits for anything on the decide path is tens of milliseconds.
pub const BOUNDS_NANOS: [u64; 16] = [
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
];

const BUCKETS: usize = BOUNDS_NANOS.len() + 1;

/// A handle to a histogram of durations; clones share it.
#[derive(Clone, Debug)]
pub struct Histogram {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The last one holds what is above all bounds.
    buckets: [AtomicU64; BUCKETS],
    /// Wraps after 584 years of observed time.
    sum_nanos: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        let buckets = array::from_fn(|_| AtomicU64::new(0));
        Self { shared: Arc::new(Shared { buckets, sum_nanos: AtomicU64::new(0) }) }
    }
}

/// Durations that one task has gathered and not recorded yet: additions to memory of its own.
#[derive(Debug, Default)]
pub struct Gathered {
    buckets: [u32; BUCKETS],
    sum_nanos: u64,
}

impl Gathered {
    /// Gathers one duration in nanoseconds.
    pub fn observe_nanos(&mut self, nanos: u64) {
        if let Some(bucket) = self.buckets.get_mut(place(nanos)) {
            *bucket += 1;
        }
        self.sum_nanos += nanos;
    }
}

/// A bound belongs to the bucket below it.
fn place(nanos: u64) -> usize {
    BOUNDS_NANOS.partition_point(|bound| *bound < nanos)
}

impl Histogram {
    /// Records one duration in nanoseconds.
    pub fn observe_nanos(&self, nanos: u64) {
        let at = place(nanos);
        if let Some(bucket) = self.shared.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Records all that was gathered, and empties it.
    pub fn add(&self, gathered: &mut Gathered) {
        for (shared, n) in self.shared.buckets.iter().zip(&mut gathered.buckets) {
            if *n > 0 {
                shared.fetch_add(u64::from(std::mem::take(n)), Ordering::Relaxed);
            }
        }
        self.shared.sum_nanos.fetch_add(std::mem::take(&mut gathered.sum_nanos), Ordering::Relaxed);
    }

    /// Records one duration.
    pub fn observe(&self, duration: Duration) {
        self.observe_nanos(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.shared.buckets.iter().map(|b| b.load(Ordering::Relaxed)).sum()
    }

    /// The sum of what was recorded, in nanoseconds.
    #[must_use]
    pub fn sum_nanos(&self) -> u64 {
        self.shared.sum_nanos.load(Ordering::Relaxed)
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        let sum = seconds(self.sum_nanos());
        let counts: [u64; BUCKETS] =
            array::from_fn(|i| self.shared.buckets.get(i).map_or(0, |b| b.load(Ordering::Relaxed)));
        let bounds = BOUNDS_NANOS.into_iter().map(seconds).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact to 104 days; a sum beyond that loses nanoseconds")]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use prometheus_client::encoding::text;
    use prometheus_client::registry::{Registry, Unit};

    use super::{BOUNDS_NANOS, Gathered, Histogram};

    fn scrape(histogram: &Histogram) -> String {
        let mut registry = Registry::default();
        registry.register_with_unit("wait", "How long", Unit::Seconds, histogram.clone());
        let mut page = String::new();
        text::encode(&mut page, &registry).unwrap();
        page
    }

    #[test]
    fn an_observation_on_a_bound_counts_below_it_and_one_above_all_counts_in_inf() {
        let h = Histogram::default();
        h.observe_nanos(0);
        h.observe_nanos(10_000);
        h.observe_nanos(10_001);
        h.observe(Duration::from_secs(1));
        h.observe(Duration::from_secs(3));
        let page = scrape(&h);
        assert!(page.contains("# TYPE wait_seconds histogram\n# UNIT wait_seconds seconds\n"), "{page}");
        assert!(page.contains("wait_seconds_sum 4.000020001\n"), "{page}");
        assert!(page.contains("wait_seconds_count 5\n"), "{page}");
        let cumulative: Vec<(f64, u64)> = page
            .lines()
            .filter_map(|l| l.strip_prefix("wait_seconds_bucket{le=\""))
            .filter_map(|l| l.split_once("\"} "))
            .map(|(le, n)| (le.replace("+Inf", "inf").parse().unwrap(), n.parse().unwrap()))
            .collect();
        assert_eq!(cumulative.len(), BOUNDS_NANOS.len() + 1);
        assert_eq!(cumulative.first(), Some(&(0.000_01, 2)));
        assert_eq!(cumulative.get(1), Some(&(0.000_02, 3)));
        assert_eq!(cumulative.get(15), Some(&(1.0, 4)));
        assert_eq!(cumulative.get(16), Some(&(f64::INFINITY, 5)));
        assert!(cumulative.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1));
    }

    #[test]
    fn what_is_gathered_counts_as_what_is_observed() {
        let (one_by_one, together) = (Histogram::default(), Histogram::default());
        let mut gathered = Gathered::default();
        for nanos in [0, 9_999, 10_000, 10_001, 1_000_000, 3_000_000_000] {
            one_by_one.observe_nanos(nanos);
            gathered.observe_nanos(nanos);
        }
        together.add(&mut gathered);
        assert_eq!(scrape(&one_by_one), scrape(&together));
        together.add(&mut gathered);
        assert_eq!(together.count(), 6, "it was emptied");
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let h = Histogram::default();
        thread::scope(|s| {
            for t in 0..4_u64 {
                let h = h.clone();
                s.spawn(move || (0..10_000_u64).for_each(|i| h.observe_nanos(i * 1_000 + t)));
            }
        });
        assert_eq!(h.count(), 40_000);
        assert_eq!(h.sum_nanos(), 4 * (9_999 * 10_000 / 2) * 1_000 + 10_000 * (1 + 2 + 3));
    }
}
