//! A sliding window of counts.
//!
//! The window is cut into ten buckets that lie on fixed multiples of a tenth of its length, so what is
//! counted is between nine tenths and the whole of the window's length old at most: a result is gone
//! one window after it came, never later. Sums over the buckets are kept as the buckets change, in
//! integers, so reading them is one load and no worker drifts from another. Moving on over any idle
//! time costs at most ten steps.
//!
//! The present bucket stands beside the sums, and those before it elsewhere: most results look at nothing
//! but what lies together, and what has been idle for a window keeps nothing else.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::domain::{Ratio, Stamp};

/// Ten: a tenth of a window is as fine as a rate over it is meant to be, and keeps a window at half a
/// kilobyte.
pub const BUCKETS: u64 = 10;
const LEN: usize = BUCKETS as usize;

/// What was counted over some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Results.
    pub requests: u32,
    /// Those that were failures.
    pub failures: u32,
    /// Those that were slow.
    pub slow: u32,
    /// Those that told their latency.
    pub timed: u32,
    /// Those that told their cost.
    pub priced: u32,
    /// Sum of the latencies told.
    pub latency_ms: u64,
    /// Sum of the costs told, in billionths.
    pub cost_nanos: u64,
}

impl Counts {
    /// The failures' share.
    #[must_use]
    pub fn error_rate(&self) -> Ratio {
        Ratio::of(self.failures, self.requests)
    }

    /// Mean of the latencies told, rounded to the nearest millisecond; 0 where none was.
    #[must_use]
    pub fn mean_latency_ms(&self) -> u64 {
        rounded_mean(self.latency_ms, self.timed)
    }

    /// Mean of the costs told, in billionths; 0 where none was.
    #[must_use]
    pub fn mean_cost_nanos(&self) -> u64 {
        rounded_mean(self.cost_nanos, self.priced)
    }

    fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
        self.slow = self.slow.saturating_add(other.slow);
        self.timed = self.timed.saturating_add(other.timed);
        self.priced = self.priced.saturating_add(other.priced);
        self.latency_ms = self.latency_ms.saturating_add(other.latency_ms);
        self.cost_nanos = self.cost_nanos.saturating_add(other.cost_nanos);
    }

    /// Takes off what was added before; exact unless this [may have saturated](Self::may_have_saturated).
    fn take_off(&mut self, other: &Self) {
        self.requests = self.requests.saturating_sub(other.requests);
        self.failures = self.failures.saturating_sub(other.failures);
        self.slow = self.slow.saturating_sub(other.slow);
        self.timed = self.timed.saturating_sub(other.timed);
        self.priced = self.priced.saturating_sub(other.priced);
        self.latency_ms = self.latency_ms.saturating_sub(other.latency_ms);
        self.cost_nanos = self.cost_nanos.saturating_sub(other.cost_nanos);
    }

    /// Whether one of the sums is at its bound: what it would be without some of its parts is then unknown.
    fn may_have_saturated(&self) -> bool {
        let counts = [self.requests, self.failures, self.slow, self.timed, self.priced];
        counts.contains(&u32::MAX) || self.latency_ms == u64::MAX || self.cost_nanos == u64::MAX
    }

    fn is_empty(&self) -> bool {
        self.requests == 0
    }
}

fn rounded_mean(sum: u64, n: u32) -> u64 {
    let n = u64::from(n);
    sum.saturating_add(n / 2).checked_div(n).unwrap_or(0)
}

/// One result, as the window counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Whether it was a failure.
    pub failure: bool,
    /// Whether it was slow.
    pub slow: bool,
    /// Its latency, if told.
    pub latency_ms: Option<u64>,
    /// Its cost in billionths, if told.
    pub cost_nanos: Option<u64>,
}

impl From<Sample> for Counts {
    fn from(s: Sample) -> Self {
        Self {
            requests: 1,
            failures: u32::from(s.failure),
            slow: u32::from(s.slow),
            timed: u32::from(s.latency_ms.is_some()),
            priced: u32::from(s.cost_nanos.is_some()),
            latency_ms: s.latency_ms.unwrap_or(0),
            cost_nanos: s.cost_nanos.unwrap_or(0),
        }
    }
}

/// A sliding window; see the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    span_ms: u64,
    /// When the present bucket ends: the first multiple of a bucket's width after the newest result. 0 if
    /// there was none.
    ends: u64,
    total: Counts,
    present: Counts,
    /// The buckets before the present one. Bucket n, its time divided by a bucket's width, stands at n modulo
    /// the length; the present one's place is empty. Absent while there are none.
    past: Option<Box<[Counts; LEN]>>,
}

impl Window {
    /// An empty window. `span_ms` is at least 1000 (settings hold that).
    #[must_use]
    pub const fn new(span_ms: u64) -> Self {
        Self { span_ms, ends: 0, total: EMPTY, present: EMPTY, past: None }
    }

    /// Counts one result at `now`. A `now` before the present bucket counts in the present one.
    pub fn record(&mut self, now: Stamp, sample: Sample) {
        if now.0 >= self.ends {
            self.advance(now);
        }
        let one = Counts::from(sample);
        self.total.add(&one);
        self.present.add(&one);
    }

    /// The sums at `now`, what has slid out left out.
    #[must_use]
    pub fn counts(&self, now: Stamp) -> Counts {
        if now.0 < self.ends || self.ends == 0 {
            return self.total;
        }
        let number = now.0 / self.width();
        self.sum(|n| n.saturating_add(BUCKETS) > number)
    }

    /// The buckets at `now`, oldest first, each with when it began: what [`Window::counts`] adds up.
    #[must_use]
    pub fn buckets(&self, now: Stamp) -> Vec<(Stamp, Counts)> {
        let present = self.number();
        let head = present.max(now.0 / self.width());
        let numbers = head.saturating_sub(BUCKETS - 1)..=head;
        let held = |number: u64| {
            let kept = number <= present && number.saturating_add(BUCKETS) > present;
            if kept { self.bucket(number) } else { EMPTY }
        };
        numbers.map(|n| (Stamp(n.saturating_mul(self.width())), held(n))).collect()
    }

    /// Forgets everything, its time included: after a clock was set back, what comes next lies before
    /// what was there.
    pub fn clear(&mut self) {
        *self = Self::new(self.span_ms);
    }

    /// Changes the length and keeps what fits: each old bucket's counts go to the new bucket that
    /// holds its beginning, if that is within the new length.
    pub fn resize(&mut self, span_ms: u64, now: Stamp) {
        if span_ms == self.span_ms {
            return;
        }
        self.advance(now);
        let (width, head) = (self.width(), self.number());
        let old = std::mem::replace(self, Self::new(span_ms));
        let new_width = self.width();
        let new_head = now.0.max(head * width) / new_width;
        for number in head.saturating_sub(BUCKETS - 1)..=head {
            let counts = old.bucket(number);
            let target = (number * width / new_width).min(new_head);
            if counts.is_empty() || target.saturating_add(BUCKETS) <= new_head {
                continue;
            }
            self.ends = end_of(new_head, new_width);
            self.total.add(&counts);
            if target == new_head {
                self.present.add(&counts);
            } else if let Some(bucket) = past(&mut self.past).get_mut(slot(target)) {
                bucket.add(&counts);
            }
        }
    }

    /// Moves on to the bucket that `now` lies in, if that is a later one.
    fn advance(&mut self, now: Stamp) {
        let (number, head) = (now.0 / self.width(), self.number());
        if self.ends > 0 && number <= head {
            return;
        }
        if self.ends > 0 && number - head < BUCKETS {
            let past = past(&mut self.past);
            if let Some(place) = past.get_mut(slot(head)) {
                *place = self.present;
            }
            let recount = self.total.may_have_saturated();
            for passed in head + 1..=number {
                if let Some(place) = past.get_mut(slot(passed)) {
                    self.total.take_off(place);
                    *place = EMPTY;
                }
            }
            self.present = EMPTY;
            self.ends = end_of(number, self.width());
            if recount {
                self.total = self.sum(|_| true);
            }
        } else {
            *self = Self { ends: end_of(number, self.width()), ..Self::new(self.span_ms) };
        }
    }

    /// The sum over the buckets of those numbers that `keep` keeps.
    fn sum(&self, keep: impl Fn(u64) -> bool) -> Counts {
        let head = self.number();
        let mut total = if keep(head) { self.present } else { EMPTY };
        let Some(past) = &self.past else { return total };
        for number in (head.saturating_sub(BUCKETS - 1)..head).filter(|n| keep(*n)) {
            if let Some(bucket) = past.get(slot(number)) {
                total.add(bucket);
            }
        }
        total
    }

    /// One of the present bucket and the nine before it.
    fn bucket(&self, number: u64) -> Counts {
        if number == self.number() {
            return self.present;
        }
        self.past.as_ref().and_then(|past| past.get(slot(number))).copied().unwrap_or(EMPTY)
    }

    /// The present bucket's number.
    const fn number(&self) -> u64 {
        (self.ends / self.width()).saturating_sub(1)
    }

    const fn width(&self) -> u64 {
        self.span_ms / BUCKETS
    }

    pub(super) fn glance(&self) -> u64 {
        self.ends ^ self.present.cost_nanos
    }

    pub(super) fn glance_past(&self, until: Stamp) -> u64 {
        let past = self.past.as_deref().filter(|_| until.0 >= self.ends);
        past.map_or(0, |past| past.iter().step_by(2).fold(0, |met, bucket| met ^ bucket.cost_nanos))
    }

    /// Feeds all that later counts depend on to a hash.
    pub(super) fn digest(&self, hash: &mut Xxh3) {
        hash.update(&self.span_ms.to_le_bytes());
        if self.ends == 0 {
            return;
        }
        let head = self.number();
        hash.update(&head.to_le_bytes());
        let mut buckets = self.past.as_deref().copied().unwrap_or([EMPTY; LEN]);
        if let Some(place) = buckets.get_mut(slot(head)) {
            *place = self.present;
        }
        for (i, c) in buckets.iter().enumerate() {
            if !c.is_empty() {
                hash.update(&[u8::try_from(i).unwrap_or(u8::MAX)]);
                for n in [c.requests, c.failures, c.slow, c.timed, c.priced] {
                    hash.update(&n.to_le_bytes());
                }
                hash.update(&c.latency_ms.to_le_bytes());
                hash.update(&c.cost_nanos.to_le_bytes());
            }
        }
    }
}

const EMPTY: Counts =
    Counts { requests: 0, failures: 0, slow: 0, timed: 0, priced: 0, latency_ms: 0, cost_nanos: 0 };

fn slot(number: u64) -> usize {
    usize::try_from(number % BUCKETS).unwrap_or(0)
}

fn end_of(number: u64, width: u64) -> u64 {
    number.saturating_add(1).saturating_mul(width)
}

fn past(buckets: &mut Option<Box<[Counts; LEN]>>) -> &mut [Counts; LEN] {
    buckets.get_or_insert_with(|| Box::new([EMPTY; LEN]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(failure: bool) -> Sample {
        Sample { failure, slow: false, latency_ms: Some(10), cost_nanos: None }
    }

    #[test]
    fn a_result_is_gone_one_window_after_it_came_and_not_before_nine_tenths() {
        let mut window = Window::new(10_000);
        window.record(Stamp(1_000_500), sample(true));
        assert_eq!(window.counts(Stamp(1_009_500)).failures, 1);
        assert_eq!(window.counts(Stamp(1_010_500)).failures, 0);
        window.record(Stamp(1_010_500), sample(false));
        assert_eq!(
            window.counts(Stamp(1_010_500)),
            Counts { requests: 1, timed: 1, latency_ms: 10, ..EMPTY }
        );
    }

    #[test]
    fn idle_gaps_of_a_bucket_a_window_and_a_hundred_days_leave_what_is_left() {
        let mut window = Window::new(60_000);
        window.record(Stamp(0), sample(true));
        window.record(Stamp(6_000), sample(true));
        assert_eq!(window.counts(Stamp(6_000)).failures, 2);
        assert_eq!(window.counts(Stamp(60_000)).failures, 1);
        assert_eq!(window.counts(Stamp(66_000)).failures, 0);
        window.record(Stamp(8_640_000_000), sample(true));
        assert_eq!(window.counts(Stamp(8_640_000_000)).failures, 1);
    }

    /// What a resize keeps: buckets whose beginning lies in the new window.
    #[test]
    fn a_resized_window_keeps_what_fits() {
        let mut window = Window::new(60_000);
        for s in 0..60 {
            window.record(Stamp(600_000 + s * 1_000), sample(true));
        }
        let now = Stamp(659_000);
        let mut longer = window.clone();
        longer.resize(120_000, now);
        assert_eq!(longer.counts(now).failures, 60);
        let mut shorter = window.clone();
        shorter.resize(30_000, now);
        let kept = shorter.counts(now).failures;
        assert!((24..=30).contains(&kept), "{kept}");
        assert_eq!(shorter.counts(now.plus(30_000)).failures, 0);
    }

    /// A sum at its bound has lost what it is made of, and is counted anew when a part of it slides out.
    #[test]
    fn what_saturated_a_sum_spoils_it_no_longer_than_it_is_in_the_window() {
        let mut window = Window::new(10_000);
        let cost = |nanos| Sample { cost_nanos: Some(nanos), ..Sample::default() };
        window.record(Stamp(1_000_500), cost(u64::MAX - 3));
        window.record(Stamp(1_001_500), cost(5));
        assert_eq!(window.counts(Stamp(1_001_500)).cost_nanos, u64::MAX);
        window.record(Stamp(1_010_500), cost(2));
        assert_eq!(window.counts(Stamp(1_010_500)).cost_nanos, 7);
    }

    #[test]
    fn a_window_that_was_idle_for_its_length_keeps_one_bucket() {
        let mut window = Window::new(10_000);
        window.record(Stamp(1_000_500), sample(true));
        window.record(Stamp(1_003_500), sample(true));
        assert!(window.past.is_some());
        window.record(Stamp(1_013_500), sample(true));
        assert!(window.past.is_none());
        assert_eq!(window.counts(Stamp(1_013_500)).failures, 1);
    }

    proptest! {
        /// The sums equal a recount of all results by bucket, over any schedule and any resizing.
        #[test]
        fn sums_equal_a_recount(
            span in 1u64..120,
            steps in prop::collection::vec((0u64..20_000, any::<bool>(), 0u64..500), 1..200),
        ) {
            let span_ms = span * 1_000;
            let width = span_ms / BUCKETS;
            let mut window = Window::new(span_ms);
            let mut now = 1_700_000_000_000;
            let mut all = Vec::new();
            for (gap, failure, latency) in steps {
                now += gap;
                window.record(Stamp(now), Sample { failure, slow: latency > 250, latency_ms: Some(latency), cost_nanos: None });
                all.push((now, failure, latency));
                let later = now + gap / 2;
                let kept: Vec<_> = all.iter().filter(|(at, ..)| at / width + BUCKETS > later / width).collect();
                let counts = window.counts(Stamp(later));
                prop_assert_eq!(counts.requests as usize, kept.len());
                prop_assert_eq!(counts.failures as usize, kept.iter().filter(|(_, f, _)| *f).count());
                prop_assert_eq!(counts.slow as usize, kept.iter().filter(|(_, _, l)| *l > 250).count());
                prop_assert_eq!(counts.latency_ms, kept.iter().map(|(_, _, l)| *l).sum::<u64>());
                let buckets = window.buckets(Stamp(later));
                prop_assert_eq!(buckets.len() as u64, BUCKETS);
                for (from, told) in buckets {
                    let inside: Vec<_> = kept.iter().filter(|(at, ..)| at / width == from.0 / width).collect();
                    prop_assert_eq!(told.requests as usize, inside.len());
                    prop_assert_eq!(told.failures as usize, inside.iter().filter(|(_, f, _)| *f).count());
                }
            }
        }

        #[test]
        fn a_resize_never_invents_results(
            a in 1u64..300, b in 1u64..300, gaps in prop::collection::vec(0u64..5_000, 1..60), wait in 0u64..400_000,
        ) {
            let mut window = Window::new(a * 1_000);
            let mut now = 1_700_000_000_000;
            for gap in gaps {
                now += gap;
                window.record(Stamp(now), sample(true));
            }
            now += wait;
            let before = window.counts(Stamp(now));
            window.resize(b * 1_000, Stamp(now));
            let after = window.counts(Stamp(now));
            prop_assert!(after.requests <= before.requests);
            // By more than a bucket on either side longer: nothing falls off.
            if 9 * b >= 10 * a { prop_assert_eq!(after, before); }
            prop_assert_eq!(window.counts(Stamp(now + b * 1_000)).requests, 0);
        }
    }
}
