use std::time::Duration;

use beamline_nats::backoff::scatter;

/// When a request that was refused as overloaded is sent again: after the time that the router named, and up to half
/// of it later, so that those who were refused together do not come together.
#[derive(Debug)]
pub(super) struct Retries {
    timeout: Duration,
    random: u64,
    tries: u32,
}

impl Retries {
    /// For a request that is given up after `timeout`.
    pub(super) fn within(timeout: Duration) -> Self {
        Self::seeded(timeout, uuid::Uuid::new_v4().as_u64_pair().0)
    }

    fn seeded(timeout: Duration, random: u64) -> Self {
        Self { timeout, random, tries: 1 }
    }

    /// How long to wait before the next try, `elapsed` after the first one. None if no time would be left for it.
    pub(super) fn next(&mut self, retry_after: Duration, elapsed: Duration) -> Option<Duration> {
        self.random = scatter(self.random);
        let after = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        let delay = Duration::from_millis(after.saturating_add(self.random % (after / 2 + 1)));
        let fits = elapsed.saturating_add(delay) < self.timeout;
        self.tries += u32::from(fits);
        fits.then_some(delay)
    }

    /// How often the request was sent.
    pub(super) const fn tries(&self) -> u32 {
        self.tries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_waits_as_long_as_the_router_says_and_up_to_half_of_it_more() {
        let delays: Vec<_> =
            (1..100).map(|seed| Retries::seeded(ms(10_000), seed).next(ms(1_000), ms(0)).unwrap()).collect();
        assert!(delays.iter().all(|delay| (ms(1_000)..=ms(1_500)).contains(delay)), "{delays:?}");
        assert!(
            delays.iter().any(|delay| *delay < ms(1_200)) && delays.iter().any(|delay| *delay > ms(1_300))
        );
    }

    #[test]
    fn it_ends_with_the_timeout() {
        let mut retries = Retries::seeded(ms(5_000), 7);
        assert!(retries.next(ms(1_000), ms(1_000)).is_some());
        assert!(retries.next(ms(1_000), ms(3_000)).is_some());
        assert_eq!(retries.next(ms(1_000), ms(4_000)), None);
        assert_eq!(retries.next(Duration::MAX, ms(0)), None);
        assert_eq!(retries.tries(), 3);
    }
}
