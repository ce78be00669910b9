//! How long a request waits for its claim.
//!
//! A claim comes back one round trip to the broker after it was appended, and what the broker needs to store it. A
//! wait below that gets no verdict in time, however often it is tried. So the wait is measured: from this worker's own
//! claims (append to applied), and from the watchdog's requests, which come each second and so know the path before the
//! first claim. Each is smoothed with its deviation, as RFC 6298 computes the timeout of TCP: `srtt + 4 × rttvar`. The
//! wait is the greater of the two, but at least the setting, at most [`MOST`], and never so long that the request's own
//! time ends first.
//!
//! An estimate that is older than [`FRESH_MS`] is not used: of claims there may be none for hours, and what one met in
//! an outage says nothing of the time after it.

use std::time::Duration;

use crate::domain::Tick;

/// However long the round trip is: a caller waits for an answer, and there is a fallback.
pub(super) const MOST: Duration = Duration::from_secs(1);

/// How long an estimate holds without another sample.
const FRESH_MS: u64 = 60_000;

/// The granularity of the clock that RFC 6298 calls G: below a millisecond the path does not matter.
const GRANULARITY_US: u64 = 1_000;

/// Of the time that a request has left, a claim may take all but one part in so many: the answer needs the rest.
const KEPT_BACK: u32 = 8;

/// What was measured of the path to the log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundTrips {
    claims: Option<Estimate>,
    broker: Option<Estimate>,
}

impl RoundTrips {
    /// A claim of this worker was applied.
    pub(super) fn claim(&mut self, took: Duration, now: Tick) {
        Estimate::note(&mut self.claims, took, now);
    }

    /// The broker answered a request.
    pub(super) fn request(&mut self, took: Duration, now: Tick) {
        Estimate::note(&mut self.broker, took, now);
    }

    /// How long a claim is waited for at `now`, if the request has `left` and the setting asks for at `least` so long.
    pub(super) fn wait(&self, least: Duration, left: Duration, now: Tick) -> Duration {
        let fresh = [self.claims, self.broker].into_iter().flatten().filter(|e| now.since(e.at) <= FRESH_MS);
        let needed = fresh.map(|e| e.bound()).max().unwrap_or_default().min(MOST);
        least.max(needed).min(left - left / KEPT_BACK)
    }
}

/// A smoothed time and its deviation, in microseconds.
#[derive(Clone, Copy, Debug)]
struct Estimate {
    smoothed: u64,
    deviation: u64,
    at: Tick,
}

impl Estimate {
    /// RFC 6298, section 2, with its gains of 1/8 and 1/4. A sample above [`MOST`] counts as that: it changes no wait,
    /// and the estimate comes down from it sooner.
    fn note(estimate: &mut Option<Self>, took: Duration, now: Tick) {
        let sample = u64::try_from(took.min(MOST).as_micros()).unwrap_or(u64::MAX);
        let fresh = estimate.filter(|e| now.since(e.at) <= FRESH_MS);
        let (smoothed, deviation) = match fresh {
            None => (sample, sample / 2),
            Some(Self { smoothed, deviation, .. }) => {
                ((smoothed * 7 + sample) / 8, (deviation * 3 + smoothed.abs_diff(sample)) / 4)
            }
        };
        *estimate = Some(Self { smoothed, deviation, at: now });
    }

    fn bound(self) -> Duration {
        Duration::from_micros(self.smoothed + GRANULARITY_US.max(4 * self.deviation))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTING: Duration = ms(50);
    const LEFT: Duration = ms(1_000);

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn after(claims: &[u64]) -> RoundTrips {
        let mut trips = RoundTrips::default();
        claims.iter().for_each(|took| trips.claim(ms(*took), Tick(0)));
        trips
    }

    #[test]
    fn without_a_measurement_the_setting_holds() {
        assert_eq!(RoundTrips::default().wait(SETTING, LEFT, Tick(0)), SETTING);
        assert_eq!(after(&[1, 1, 1]).wait(SETTING, LEFT, Tick(0)), SETTING, "and where the path is short");
    }

    #[test]
    fn the_first_sample_is_taken_three_times_as_rfc_6298_says_and_steady_ones_come_close() {
        assert_eq!(after(&[200]).wait(SETTING, LEFT, Tick(0)), ms(600));
        let steady = after(&[200; 30]).wait(SETTING, LEFT, Tick(0));
        assert!((ms(201)..ms(205)).contains(&steady), "{steady:?}");
    }

    #[test]
    fn the_watchdogs_requests_count_before_the_first_claim_and_the_slower_path_counts_after_it() {
        let mut trips = RoundTrips::default();
        trips.request(ms(200), Tick(0));
        assert_eq!(trips.wait(SETTING, LEFT, Tick(0)), ms(600));
        for _ in 0..30 {
            trips.request(ms(1), Tick(0));
            trips.claim(ms(120), Tick(0));
        }
        let wait = trips.wait(SETTING, LEFT, Tick(0));
        assert!((ms(121)..ms(125)).contains(&wait), "a slow disk shows to claims alone: {wait:?}");
    }

    #[test]
    fn a_request_that_has_waited_keeps_time_for_its_answer() {
        let slow = after(&[200; 30]);
        assert_eq!(slow.wait(SETTING, ms(160), Tick(0)), ms(140));
        assert_eq!(slow.wait(SETTING, Duration::ZERO, Tick(0)), Duration::ZERO);
        assert_eq!(after(&[]).wait(ms(5_000), LEFT, Tick(0)), ms(875), "whatever the setting says");
    }

    #[test]
    fn what_an_outage_made_of_the_estimate_is_forgotten() {
        let mut trips = after(&[5_000; 5]);
        assert!(trips.wait(SETTING, ms(10_000), Tick(FRESH_MS)) >= MOST);
        assert_eq!(trips.wait(SETTING, LEFT, Tick(FRESH_MS + 1)), SETTING);
        trips.claim(ms(10), Tick(FRESH_MS + 1));
        assert_eq!(trips.wait(ms(1), LEFT, Tick(FRESH_MS + 1)), ms(30), "as if it were the first");
    }

    proptest! {
        /// Within its bounds for any samples, and enough for a path that has been steady for a while.
        #[test]
        fn the_wait_is_bounded_and_covers_a_steady_path(
            before in prop::collection::vec(0_u64..10_000, 0..20),
            steady in 0_u64..900,
            jitter in prop::collection::vec(0_u64..10, 60),
            least in 1_u64..5_000,
            left in 0_u64..60_000,
        ) {
            let mut trips = after(&before);
            let wait = trips.wait(ms(least), ms(left), Tick(0));
            prop_assert!(wait <= ms(least).max(MOST) && wait <= ms(left));
            prop_assert!(wait >= ms(least).min(ms(left) * 7 / 8));
            jitter.iter().for_each(|more| trips.claim(ms(steady + more), Tick(0)));
            prop_assert!(trips.wait(ms(1), ms(60_000), Tick(0)) >= ms(steady));
        }
    }
}
