//! Whether a log is the one that was read, and what of it is gone.
//!
//! A position alone names no entry: a log that is put back to an older state gives the same positions to other entries
//! afterwards. A position and the broker's stamp name one. What was read, or is held by a snapshot, goes on in a log
//! that bears the same stamp at the same position. Where the log no longer holds the entry, by its age or a purge,
//! nothing contradicts, unless its first entry is older.

use crate::domain::Stamp;
use crate::log::At;

/// The log as the broker describes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log<'a> {
    /// When it was made.
    pub(super) created: &'a str,
    /// The first entry that it holds.
    pub(super) first: u64,
    /// The last one.
    pub(super) last: u64,
    /// How many it holds.
    pub(super) held: u64,
}

/// How far the clocks of two of the broker's leaders may be apart, in milliseconds: as for the fold, which takes what
/// is further apart for a clock that was set back.
const CLOCKS_MS: u64 = 300_000;

impl Log<'_> {
    /// Whether it holds every entry that it ever had.
    pub(super) const fn is_whole(self) -> bool {
        self.first <= 1 && self.held == self.last
    }

    /// The entry that shows whether a snapshot behind `at` is of this log: that very one, or the first one that is
    /// held. `None` where nothing can show it.
    pub(super) fn witness(self, at: At) -> Option<u64> {
        let witness = at.position.max(self.first);
        (at.stamp > Stamp(0) && witness <= self.last).then_some(witness)
    }

    /// Whether a snapshot behind `at` is of this log, by the stamp of its witness, if that entry is there.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) fn bears(self, at: At, witness: Option<Stamp>) -> Result<(), &'static str> {
        if at.position > self.last {
            return Err("it stands beyond the log's end");
        }
        let Some(stamp) = witness else { return Ok(()) };
        let same = if at.position >= self.first {
            stamp == at.stamp
        } else {
            stamp.0.saturating_add(CLOCKS_MS) >= at.stamp.0
        };
        if same { Ok(()) } else { Err("of another history: the log bears another stamp there") }
    }
}

/// Whether the log may still be the one that was made at `created` and read up to `last`. Gives the position whose
/// stamp must be that of `last`, if the log holds it.
///
/// # Errors
/// Why it is another one.
pub(super) fn goes_on(created: &str, last: At, log: Log<'_>) -> Result<Option<u64>, &'static str> {
    if created != log.created {
        return Err("the stream was made anew");
    }
    if log.first > last.position + 1 {
        return Err("entries were purged that had not been read");
    }
    if log.last < last.position {
        return Err("the stream is shorter than what was read");
    }
    // The stamp of an entry that was passed unread is not known.
    let held = last.stamp != Stamp(0) && log.first <= last.position;
    Ok(held.then_some(last.position))
}

/// The entries that are gone before the first one that the log holds: behind `last`, which is 0 without a snapshot.
pub(super) fn gone(last: u64, first: u64) -> Option<(u64, u64)> {
    (first > last.saturating_add(1)).then(|| (last + 1, first - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(first: u64, last: u64) -> Log<'static> {
        Log { created: "monday", first, last, held: (last + 1).saturating_sub(first) }
    }

    #[test]
    fn a_log_goes_on_where_it_holds_the_last_entry_read_or_follows_it() {
        let last = At { position: 50, stamp: Stamp(7) };
        assert_eq!(goes_on("monday", last, log(1, 60)), Ok(Some(50)));
        assert_eq!(goes_on("monday", last, log(51, 60)), Ok(None), "aged out behind the reader");
        assert_eq!(goes_on("monday", last, log(51, 50)), Ok(None), "purged, and all of it was read");
        let passed = At { stamp: Stamp(0), ..last };
        assert_eq!(goes_on("monday", passed, log(1, 60)), Ok(None));
        for (created, log) in [("sunday", log(1, 60)), ("monday", log(52, 60)), ("monday", log(1, 49))] {
            assert!(goes_on(created, last, log).is_err(), "{log:?}");
        }
    }

    #[test]
    fn a_log_is_whole_that_lost_none_of_its_entries() {
        assert!(log(1, 60).is_whole());
        assert!(log(1, 0).is_whole(), "a fresh one");
        assert!(!log(2, 60).is_whole());
        assert!(!log(61, 60).is_whole());
        assert!(!Log { held: 59, ..log(1, 60) }.is_whole(), "one was deleted");
    }

    #[test]
    fn a_snapshot_is_of_the_log_that_bears_its_stamp() {
        let at = At { position: 50, stamp: Stamp(900_000) };
        let held = log(1, 60);
        assert_eq!(held.witness(at), Some(50));
        assert_eq!(held.bears(at, Some(Stamp(900_000))), Ok(()));
        assert!(held.bears(at, Some(Stamp(900_001))).is_err());
        assert_eq!(held.bears(at, None), Ok(()), "that entry was deleted");
        assert!(log(1, 49).bears(at, None).is_err(), "the log is shorter");
        assert_eq!(log(1, 49).witness(at), None);
    }

    #[test]
    fn a_snapshot_of_entries_that_are_gone_is_older_than_the_first_one_held() {
        let at = At { position: 50, stamp: Stamp(900_000) };
        let purged = log(55, 60);
        assert_eq!(purged.witness(at), Some(55));
        assert_eq!(purged.bears(at, Some(Stamp(950_000))), Ok(()));
        assert_eq!(purged.bears(at, Some(Stamp(600_000))), Ok(()), "leaders' clocks differ");
        assert!(purged.bears(at, Some(Stamp(599_999))).is_err(), "the log went on from an older state");
        assert_eq!(log(61, 60).witness(at), None, "it holds nothing");
        assert_eq!(log(61, 60).bears(at, None), Ok(()));
    }

    #[test]
    fn entries_are_gone_that_neither_a_snapshot_nor_the_log_holds() {
        assert_eq!(gone(0, 1), None);
        assert_eq!(gone(0, 0), None, "a fresh stream");
        assert_eq!(gone(0, 101), Some((1, 100)), "purged, without a snapshot");
        assert_eq!(gone(100, 101), None);
        assert_eq!(gone(200, 101), None);
        assert_eq!(gone(60, 101), Some((61, 100)));
    }
}
