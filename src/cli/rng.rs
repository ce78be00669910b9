//! Randomness of those who are played: programs and providers.

/// A small generator (SplitMix64): playing needs no more, and a seed makes a run repeat itself.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// One of `0..n`; 0 if there is none.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// From half of a number to one and a half of it.
    pub(super) fn around(&mut self, middle: u64) -> u64 {
        middle / 2 + self.below(middle + 1)
    }

    /// An id in the form of a UUID.
    pub(super) fn uuid(&mut self) -> String {
        let bytes = (u128::from(self.next()) << 64 | u128::from(self.next())).to_be_bytes();
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    /// A generator of its own for work that goes on beside this one.
    pub(super) fn split(&mut self) -> Self {
        Self(self.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself_and_spreads_stay_within_bounds() {
        let ids = |seed| {
            let mut rng = Rng::seeded(seed);
            [rng.uuid(), rng.split().uuid()]
        };
        assert_eq!(ids(7), ids(7));
        assert_ne!(ids(7), ids(8));
        let mut rng = Rng::seeded(3);
        assert!((0..1_000).map(|_| rng.around(40)).all(|n| (20..=60).contains(&n)));
    }
}
