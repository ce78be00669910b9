//! Many runs at once, and what is said of them together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::random::Random;

/// How much is run.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) quick: bool,
    pub(crate) threads: usize,
}

impl Effort {
    /// So many runs, or a part of them where it is to be quick.
    pub(crate) const fn runs(self, full: u64, quick: u64) -> u64 {
        if self.quick { quick } else { full }
    }

    /// Runs them on all threads. Each has a generator of its own, and results stand in the order of the runs.
    pub(crate) fn run<T: Send>(self, seed: u64, runs: u64, one: impl Fn(&mut Random) -> T + Sync) -> Vec<T> {
        let next = AtomicU64::new(0);
        let work = || {
            let mut done = Vec::new();
            loop {
                let run = next.fetch_add(1, Ordering::Relaxed);
                if run >= runs {
                    return done;
                }
                done.push((run, one(&mut Random::of_run(seed, run))));
            }
        };
        let mut all: Vec<(u64, T)> = thread::scope(|scope| {
            let workers: Vec<_> = (0..self.threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        all.sort_unstable_by_key(|(run, _)| *run);
        all.into_iter().map(|(_, result)| result).collect()
    }
}

/// The share of runs in which it happened, in percent.
pub(crate) fn share<T>(runs: &[T], happened: impl Fn(&T) -> bool) -> f64 {
    100.0 * runs.iter().filter(|run| happened(run)).count() as f64 / runs.len() as f64
}

/// A quantile by nearest rank. A run in which it never happened ranks above all others, so that the quantile may
/// have no value.
pub(crate) fn quantile(runs: &[Option<u64>], percent: usize) -> Option<u64> {
    let mut ordered: Vec<u64> = runs.iter().map(|run| run.unwrap_or(u64::MAX)).collect();
    ordered.sort_unstable();
    let rank = (ordered.len() * percent).div_ceil(100).max(1);
    ordered.get(rank - 1).copied().filter(|value| *value != u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Effort, quantile, share};

    #[test]
    fn the_number_of_threads_changes_no_result() {
        let run = |threads| Effort { quick: true, threads }.run(7, 50, |random| random.word());
        assert_eq!(run(1), run(3));
        assert_eq!(run(1).len(), 50);
    }

    #[test]
    fn a_run_in_which_it_never_happened_ranks_last() {
        let runs = [Some(3), None, Some(1), Some(2)];
        assert_eq!(
            [25, 50, 75, 90].map(|percent| quantile(&runs, percent)),
            [Some(1), Some(2), Some(3), None]
        );
        assert!((share(&runs, Option::is_some) - 75.0).abs() < 1e-9);
    }
}
