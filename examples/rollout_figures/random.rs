/// `SplitMix64` (Steele, Lea and Flood 2014): one word of state, so that each run has a generator of its own.
pub(crate) struct Random(u64);

/// A probability in units of 2⁻³².
#[derive(Clone, Copy)]
pub(crate) struct Chance(u64);

const ONE: u64 = 1 << 32;

impl Chance {
    pub(crate) const fn ppm(ppm: u64) -> Self {
        Self(ppm * ONE / 1_000_000)
    }

    pub(crate) const fn percent(percent: u64) -> Self {
        Self::ppm(percent * 10_000)
    }
}

impl Random {
    /// The generator of one run. Neither the order of runs nor the number of threads changes it.
    pub(crate) fn of_run(seed: u64, run: u64) -> Self {
        Self(finalized(finalized(seed) ^ run))
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        finalized(self.0)
    }

    /// From 0 inclusive to 1 exclusive.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// How many of so many trials succeed.
    pub(crate) fn binomial(&mut self, trials: u64, chance: Chance) -> u64 {
        let mut successes = 0;
        for first in (0..trials).step_by(64) {
            let lanes = (trials - first).min(64);
            successes += u64::from(self.successes(u64::MAX >> (64 - lanes), chance).count_ones());
        }
        successes
    }

    /// 64 trials at once, one in each bit of `lanes`. A trial draws a number below 1, one binary digit after the
    /// other, and succeeds where it is below the chance. It is decided at the first digit that differs.
    fn successes(&mut self, lanes: u64, Chance(chance): Chance) -> u64 {
        if chance >= ONE {
            return lanes;
        }
        let (mut successes, mut open) = (0, lanes);
        for digit in (0..32).rev() {
            // Without a further digit 1, nothing that is open falls below the chance.
            if open == 0 || chance & ((2 << digit) - 1) == 0 {
                break;
            }
            let word = self.word();
            if chance >> digit & 1 == 1 {
                successes |= open & !word;
                open &= word;
            } else {
                open &= !word;
            }
        }
        successes
    }
}

fn finalized(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::{Chance, Random};

    /// The mean and the variance of so many draws.
    fn moments(trials: u64, chance: Chance, draws: u64) -> (f64, f64) {
        let mut random = Random::of_run(1, 0);
        let list: Vec<f64> = (0..draws).map(|_| random.binomial(trials, chance) as f64).collect();
        let mean = list.iter().sum::<f64>() / draws as f64;
        (mean, list.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws as f64)
    }

    #[test]
    fn draws_have_the_moments_of_a_binomial_distribution() {
        for (trials, ppm) in [(5, 500_000), (50, 10_000), (500, 300_000), (64, 999_000), (3, 333_333)] {
            let (mean, variance) = moments(trials, Chance::ppm(ppm), 100_000);
            let p = ppm as f64 / 1e6;
            let (wanted_mean, wanted) = (trials as f64 * p, trials as f64 * p * (1.0 - p));
            // Five standard errors: of the mean, and of the variance of a distribution with few extremes.
            assert!((mean - wanted_mean).abs() < 5.0 * (wanted / 1e5).sqrt(), "{trials} {ppm} {mean}");
            assert!((variance / wanted - 1.0).abs() < 0.05, "{trials} {ppm} {variance}");
        }
    }

    #[test]
    fn what_is_certain_always_comes_and_what_is_impossible_never() {
        let mut random = Random::of_run(2, 0);
        for trials in [0, 1, 63, 64, 65, 1_000] {
            assert_eq!(random.binomial(trials, Chance::percent(100)), trials);
            assert_eq!(random.binomial(trials, Chance::ppm(0)), 0);
        }
    }

    #[test]
    fn each_run_has_its_own_words() {
        let words = |seed, run| {
            let mut random = Random::of_run(seed, run);
            [random.word(), random.word()]
        };
        assert_eq!(words(1, 2), words(1, 2));
        assert_ne!(words(1, 2), words(1, 3));
        assert_ne!(words(1, 2), words(2, 2));
    }
}
