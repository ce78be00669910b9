//! How long to wait before a try to connect.
//!
//! Delays carry jitter, since a restarted broker would otherwise meet all clients at one moment. After a
//! refusal for who we are they are longer: trying again helps only once somebody has changed something.

use std::time::Duration;

/// The first try comes within this: long enough to spread the clients of a restarted broker, short enough
/// that nobody sees it at start.
const FIRST_MS: u64 = 100;
/// Later delays double from here
const BASE_MS: u64 = 100;
/// up to this: a broker that is back is found again within 2 s.
const MAX_MS: u64 = 2_000;
/// The same after a refusal.
const BASE_REFUSED_MS: u64 = 1_000;
const MAX_REFUSED_MS: u64 = 10_000;

/// The delay before a try; tries count from 1, over all servers, since the last settled connection. Chance
/// decides on the second half of a delay.
#[must_use]
pub fn delay(tries: u32, refused: bool, random: u64) -> Duration {
    let (base, most) = if refused { (BASE_REFUSED_MS, MAX_REFUSED_MS) } else { (BASE_MS, MAX_MS) };
    let (fixed, spread) = if tries <= 1 && !refused {
        (0, FIRST_MS)
    } else {
        let full = base.saturating_mul(1 << tries.saturating_sub(2).min(16)).min(most);
        (full / 2, full / 2)
    };
    Duration::from_millis(fixed + random % (spread + 1))
}

/// The next of a row of numbers that look random (xorshift64): jitter needs no more.
#[must_use]
pub const fn scatter(seed: u64) -> u64 {
    // Zero is the one number that xorshift never leaves.
    let mut x = if seed == 0 { 1 } else { seed };
    x ^= x << 13;
    x ^= x >> 7;
    x ^ (x << 17)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_their_bound_and_never_fall_below_half() {
        let mut random = 7;
        let mut within = |tries, refused, least, most| {
            random = scatter(random);
            let delay = delay(tries, refused, random);
            let bounds = Duration::from_millis(least)..=Duration::from_millis(most);
            assert!(bounds.contains(&delay), "{tries}: {delay:?} is not in {bounds:?}");
        };
        within(0, false, 0, FIRST_MS);
        within(1, false, 0, FIRST_MS);
        for tries in 2..200 {
            let doubled = |base: u64, most: u64| (base << (tries - 2).min(16)).min(most);
            let (full, refused) = (doubled(BASE_MS, MAX_MS), doubled(BASE_REFUSED_MS, MAX_REFUSED_MS));
            within(tries, false, full / 2, full);
            within(tries, true, refused / 2, refused);
        }
        within(1, true, BASE_REFUSED_MS / 2, BASE_REFUSED_MS);
        within(u32::MAX, false, MAX_MS / 2, MAX_MS);
    }

    #[test]
    fn numbers_go_on_from_any_seed() {
        for seed in [0, 1, u64::MAX] {
            assert_ne!(scatter(seed), seed);
            assert_ne!(scatter(seed), 0);
        }
    }
}
