use std::time::Duration;

/// The grain.
const GRAIN_MICROS: u128 = 10;

/// Up to 100 ms; what is longer counts as that.
const BUCKETS: usize = 10_000;

/// How long answers took, in steps of 10 µs: exact enough for percentiles, and bounded.
#[derive(Clone, Debug)]
pub(super) struct Latencies {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS + 1], count: 0 }
    }
}

impl Latencies {
    pub(super) fn add(&mut self, took: Duration) {
        let index = usize::try_from(took.as_micros() / GRAIN_MICROS).unwrap_or(BUCKETS).min(BUCKETS);
        if let Some(bucket) = self.buckets.get_mut(index) {
            *bucket += 1;
            self.count += 1;
        }
    }

    /// What so many of a hundred did not exceed; none if nothing was added.
    pub(super) fn percentile(&self, percent: u64) -> Option<Duration> {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut below = 0;
        let index = self.buckets.iter().position(|n| {
            below += n;
            below >= rank
        })?;
        let micros = (index as u128 + 1) * GRAIN_MICROS;
        Some(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }

    /// `0.41 ms`, `over 100 ms`, or a dash.
    pub(super) fn shown(&self, percent: u64) -> String {
        match self.percentile(percent) {
            None => "-".to_owned(),
            Some(d) if d > Duration::from_millis(100) => "over 100 ms".to_owned(),
            Some(d) => format!("{:.2} ms", d.as_secs_f64() * 1e3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_upper_bounds_of_their_step() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.shown(50), "-");
        (1..=99).for_each(|n| latencies.add(Duration::from_micros(n * 100)));
        latencies.add(Duration::from_secs(2));
        assert_eq!(latencies.shown(50), "5.01 ms");
        assert_eq!(latencies.shown(99), "9.91 ms");
        assert_eq!(latencies.shown(100), "over 100 ms");
    }
}
