//! A bucket that is older by its making.
//!
//! One that was deleted and made anew, and then put back from a backup of the first one: revisions are ordered by the
//! bucket's making first, so the fold takes no change of it, whatever its number. It cannot be put right by writing to
//! it, and no verb changes it.

use super::{Bucket, Holds};
use crate::domain::Stamp;
use crate::log::Revision;
use crate::nats::Worker;

impl Holds {
    /// Whether one that was made at this time is older by its making than one that the log has seen. What a worker
    /// remembers of a log that was lost does not count: the log that is there takes it.
    pub(in crate::nats) fn is_older_by_making(self, worker: &Worker, made: Stamp) -> bool {
        let fold = worker.ledger.fold();
        let newest = match self {
            Self::Policies => fold.register().newest(),
            Self::Flags => fold.flags().newest(),
        };
        is_made_before(made, newest.revision)
    }
}

impl Bucket {
    /// Whether it was made before one that the log has seen.
    #[must_use]
    pub fn is_older_by_making(&self, worker: &Worker) -> bool {
        self.holds.is_older_by_making(worker, Stamp(to_ms(self.created())))
    }
}

/// Whether what was made at a time is older by its making than a bucket with that revision. To the millisecond: the
/// broker's answers are read as precisely, and nobody makes and deletes a bucket within one.
fn is_made_before(made: Stamp, seen: Revision) -> bool {
    made.0 < to_ms(seen.created)
}

fn to_ms(nanos: i64) -> u64 {
    u64::try_from(nanos / 1_000_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::is_past;
    use super::*;

    #[test]
    fn a_bucket_is_older_by_its_making_whatever_its_revision() {
        let seen = Revision { created: 2_000_700_000, revision: 3 };
        assert!(is_made_before(Stamp(1_999), seen));
        assert!(!is_made_before(Stamp(2_000), seen), "the same one");
        assert!(!is_made_before(Stamp(2_001), seen), "made anew");
        assert!(!is_made_before(Stamp(0), Revision::default()), "the log has seen none");
        let last = Revision { created: 1_000_000_000, revision: 9 };
        assert!(!is_past(seen, last), "which is not the same as to end before it");
    }
}
