//! Which results are counted in `router_results_total`.
//!
//! Each worker counts each result once while it runs. What stood in the log before the worker was there is history:
//! counted again at each start, it would look like a burst. What came since is news, also where the worker reads it
//! while catching up: behind a slow start, or after a rebuild over a log that was made anew. A result is named by its
//! stamp here, for positions begin again with each log. Results of one millisecond with the last one applied before a
//! rebuild are taken for counted.

use crate::domain::Stamp;

/// What a worker has counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counting {
    /// Entries up to here are history.
    counted_to: Stamp,
    /// The greatest stamp applied.
    newest: Stamp,
    /// Results rejected since reading began.
    rejected: u64,
}

impl Counting {
    /// Of a worker that starts now.
    pub(super) const fn from(start: Stamp) -> Self {
        Self { counted_to: start, newest: start, rejected: 0 }
    }

    /// Of the same worker after a rebuild.
    pub(super) const fn rebuilt(self) -> Self {
        Self { counted_to: self.newest, rejected: 0, ..self }
    }

    /// An entry was applied. Gives whether it is counted, if it is a result.
    pub(super) fn note(&mut self, stamp: Stamp, live: bool, rejected: bool) -> bool {
        self.newest = self.newest.max(stamp);
        self.rejected += u64::from(rejected);
        live || stamp > self.counted_to
    }

    /// How many of the results read since reading began were rejected.
    pub(super) const fn rejected(&self) -> u64 {
        self.rejected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_counts_what_came_since_and_not_what_stood_before() {
        let mut counting = Counting::from(Stamp(1_000));
        assert!(!counting.note(Stamp(900), false, true), "it stood before");
        assert!(counting.note(Stamp(1_100), false, true), "it came while the worker caught up");
        assert!(counting.note(Stamp(1_050), true, false), "live, whatever its stamp");
        assert_eq!(counting.rejected(), 2, "all that were read");
    }

    #[test]
    fn a_rebuild_counts_a_new_logs_results_and_none_twice() {
        let mut counting = Counting::from(Stamp(1_000));
        assert!(counting.note(Stamp(2_000), true, false));
        let mut counting = counting.rebuilt();
        assert!(!counting.note(Stamp(1_500), false, true), "read again");
        assert!(!counting.note(Stamp(2_000), false, true), "read again");
        assert!(counting.note(Stamp(2_001), false, true), "of the log that was made anew");
        assert_eq!(counting.rejected(), 3);
        assert!(!counting.rebuilt().note(Stamp(2_001), false, true));
    }
}
