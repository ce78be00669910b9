/// How a wait grows from retry to retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// Twice as long each time.
    Exponential,
    /// Longer by the base each time.
    Linear,
    /// The same each time.
    Fixed,
}

impl Growth {
    /// All of them, the default first.
    pub const ALL: [Self; 3] = [Self::Exponential, Self::Linear, Self::Fixed];

    /// The word in a document.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exponential => "exponential",
            Self::Linear => "linear",
            Self::Fixed => "fixed",
        }
    }
}

/// How long a caller is asked to wait before each retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// How the wait grows.
    pub strategy: Growth,
    /// The first wait.
    pub base_ms: u64,
    /// The longest wait, jitter included; not below `base_ms`.
    pub max_ms: u64,
    /// Whether up to a tenth is added, so that callers that failed together do not return together.
    pub jitter: bool,
}

impl Backoff {
    /// The wait before the `retry`-th retry, counted from 1. `draw` decides the jitter.
    #[must_use]
    pub fn delay_ms(&self, retry: u32, draw: u64) -> u64 {
        let doublings = retry.saturating_sub(1);
        let delay = match self.strategy {
            Growth::Exponential => {
                self.base_ms.saturating_mul(1_u64.checked_shl(doublings).unwrap_or(u64::MAX))
            }
            Growth::Linear => self.base_ms.saturating_mul(u64::from(retry.max(1))),
            Growth::Fixed => self.base_ms,
        }
        .min(self.max_ms);
        if !self.jitter {
            return delay;
        }
        // A tenth of any u64, and one more, is within range.
        delay.saturating_add(draw % (delay / 10 + 1)).min(self.max_ms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn waits(strategy: Growth) -> Vec<u64> {
        let backoff = Backoff { strategy, base_ms: 100, max_ms: 450, jitter: false };
        (1..=5).map(|retry| backoff.delay_ms(retry, 9)).collect()
    }

    #[test]
    fn each_strategy_grows_in_its_own_way_up_to_the_longest_wait() {
        assert_eq!(waits(Growth::Exponential), [100, 200, 400, 450, 450]);
        assert_eq!(waits(Growth::Linear), [100, 200, 300, 400, 450]);
        assert_eq!(waits(Growth::Fixed), [100; 5]);
    }

    #[test]
    fn jitter_adds_up_to_a_tenth_and_the_draw_decides() {
        let backoff = Backoff { strategy: Growth::Fixed, base_ms: 1_000, max_ms: 5_000, jitter: true };
        let delays: Vec<_> = (0..=100).map(|draw| backoff.delay_ms(1, draw)).collect();
        assert_eq!(delays.first(), Some(&1_000));
        assert_eq!(delays.last(), Some(&1_100));
        assert_eq!(backoff.delay_ms(1, 101), 1_000);
    }

    proptest! {
        #[test]
        fn a_wait_is_never_above_the_longest_nor_below_the_base(
            strategy in prop::sample::select(Growth::ALL.to_vec()),
            base_ms: u64,
            more: u64,
            jitter: bool,
            retry: u32,
            draw: u64,
        ) {
            let max_ms = base_ms.saturating_add(more);
            let delay = Backoff { strategy, base_ms, max_ms, jitter }.delay_ms(retry, draw);
            prop_assert!((base_ms..=max_ms).contains(&delay));
        }

        #[test]
        fn a_later_retry_never_waits_less(
            strategy in prop::sample::select(Growth::ALL.to_vec()),
            base_ms in 0_u64..=3_600_000,
            retry in 0_u32..200,
        ) {
            let backoff = Backoff { strategy, base_ms, max_ms: 3_600_000, jitter: false };
            prop_assert!(backoff.delay_ms(retry, 0) <= backoff.delay_ms(retry + 1, 0));
        }
    }
}
