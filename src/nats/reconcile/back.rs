//! A bucket that went back: put back alone from a backup, it is as old as it was made, and ends before
//! revisions that the log has seen. What is in force is newer than the backup, and the fold takes no
//! revision that is not newer than what it has seen of a key. So
//!
//! - the bucket's revisions are moved on, past those that the log has seen (`buckets/advance`);
//! - what the bucket holds in an older state, or does not hold at all, is written back as it is in force;
//! - what somebody wrote past the verbs after the bucket went back is written again, and holds.
//!
//! It shows by the bucket's last revision, by a key whose last revision is older than what was seen of it
//! (in a comparison of the whole bucket, as at each start), or by the mark that a worker leaves which puts
//! the bucket right and may die over it. Several workers may put it right at the same time: each writes
//! over the revision that it has read and no other.
//!
//! What was written after the bucket went back is later than what the log had seen of the bucket by then. While
//! the bucket is put right the log sees more, what is written back included. So all workers compare with what
//! the first one had seen, which the mark states; where no mark does, with what they have seen before they
//! read that there is none.

use std::collections::BTreeMap;

use super::damage::Known;
use super::heal::Kind;
use super::scan::{Holding, Last, Scan};
use super::{ReconcileError, append};
use crate::domain::Stamp;
use crate::ledger::Newest;
use crate::log::Revision;
use crate::nats::Worker;
use crate::nats::buckets::{Bucket, BucketError, By, Stored};

/// The keys of one bucket that the log holds, and the last revision of each that it has seen.
pub(super) type Seen = BTreeMap<String, u64>;

const PUT_BACK: By<'static> = By {
    actor: Some("router"),
    reason: Some("the bucket went back to an older state; this is what is in force"),
    authenticated: None,
};

/// What is to be done about a key of a bucket that went back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// Nothing.
    None,
    /// Write what is in force.
    PutBack,
    /// Write what it holds once more.
    PutAgain,
}

/// What the log had seen of a bucket before any worker began to put it right: `marked` is what the mark states,
/// `newest` what this worker knew before it read the mark. The lesser stamp is taken: each is at or after
/// whatever a backup holds, one that comes from a snapshot included, which is later than what it holds.
pub(super) fn before(marked: Option<Newest>, newest: Newest, last: u64) -> Newest {
    let (seen, is_short) = (newest.revision.revision, last < newest.revision.revision);
    match marked {
        // It came with a backup that was made while the bucket was put right: nothing was written back yet.
        Some(marked) if is_short && marked.revision.revision < seen => newest,
        Some(marked) if marked.at < newest.at => marked,
        _ => newest,
    }
}

/// `seen` is the last revision of the key that the log has seen; `before` is the greatest one of the bucket that
/// it had seen when a worker began to put the bucket right. A backup holds nothing that is later.
fn remedy(last: Last, seen: u64, before: Newest) -> Remedy {
    let written_after = last.at > before.at && last.holds != Holding::Damage;
    // Numbers past those that the log had seen are not used twice.
    let is_fresh = last.revision > before.revision.revision;
    match last.revision.cmp(&seen) {
        std::cmp::Ordering::Greater => Remedy::None,
        std::cmp::Ordering::Equal if is_fresh => Remedy::None,
        _ if written_after => Remedy::PutAgain,
        std::cmp::Ordering::Equal => Remedy::None,
        std::cmp::Ordering::Less => Remedy::PutBack,
    }
}

/// Whether a key stands in an older state than was seen of it.
pub(super) fn holds_older(scan: &Scan, seen: &Seen) -> bool {
    scan.keys.iter().any(|(key, last)| seen.get(key).is_some_and(|seen| last.revision < *seen))
}

/// Writes what is due for the keys that the bucket knows, and enters it in the log. Gives the place of the
/// last entry.
pub(super) async fn put_right(
    worker: &Worker,
    bucket: &Bucket,
    scan: &Scan,
    (seen, before): (&Seen, Newest),
    kind: &Kind,
) -> Result<Option<u64>, ReconcileError> {
    let due = scan.keys.iter().filter_map(|(key, last)| {
        let seen = *seen.get(key)?;
        Some((seen, key, *last, remedy(*last, seen, before)))
    });
    let mut due: Vec<_> = due.filter(|(.., remedy)| *remedy != Remedy::None).collect();
    // Of the policies that name a provider the newest one's settings hold: it stays the newest.
    due.sort_unstable_by_key(|(seen, ..)| *seen);
    let mut appended = None;
    for (seen, key, last, remedy) in due {
        let stored = match remedy {
            Remedy::None => None,
            Remedy::PutBack => in_force(worker, bucket, key, kind),
            Remedy::PutAgain => bucket.get(key).await?.filter(|stored| stored.revision == last.revision),
        };
        let Some(stored) = stored else { continue };
        tracing::warn!(
            event = "bucket_key_put_right",
            key,
            revision = last.revision,
            seen,
            holds = if remedy == Remedy::PutAgain { "bucket" } else { "log" }
        );
        if let Some(position) = write(worker, bucket, key, last.revision, stored, kind).await? {
            appended = Some(position);
        }
    }
    Ok(appended)
}

/// What is in force under a key, as it is to be written.
fn in_force(worker: &Worker, bucket: &Bucket, key: &str, kind: &Kind) -> Option<Stored> {
    // Whatever revision was seen of it.
    let any = Revision { created: bucket.created(), revision: u64::MAX };
    let Known::Last { value, .. } = (kind.known)(worker, key, any) else { return None };
    let text = |text: Option<&str>| text.map(str::to_owned);
    Some(Stored {
        revision: 0,
        value,
        purged: false,
        at: String::new(),
        stamp: Stamp(0),
        actor: text(PUT_BACK.actor),
        reason: text(PUT_BACK.reason),
        authenticated: None,
        malformed: None,
    })
}

/// Writes over a revision, if it still stands, and enters it in the log.
async fn write(
    worker: &Worker,
    bucket: &Bucket,
    key: &str,
    after: u64,
    mut stored: Stored,
    kind: &Kind,
) -> Result<Option<u64>, ReconcileError> {
    let by = By {
        actor: stored.actor.as_deref(),
        reason: stored.reason.as_deref(),
        authenticated: stored.authenticated.as_ref(),
    };
    stored.revision = match bucket.replace(worker, key, after, by, stored.value.clone()).await {
        Ok(revision) => revision,
        // Another worker or an operator was first.
        Err(BucketError::Conflict { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match (kind.entry)(key, &stored, bucket.created()) {
        Some(entry) if (kind.unseen)(worker, &entry) => {
            append(worker, &entry, key, bucket.created(), stored.revision, kind.unseen).await.map(Some)
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Newest = newest(30, 1_000);

    const fn newest(revision: u64, at: u64) -> Newest {
        Newest { revision: Revision { created: 7, revision }, at: Stamp(at) }
    }

    fn last(revision: u64, at: u64, holds: Holding) -> Last {
        Last { revision, at: Stamp(at), holds }
    }

    #[test]
    fn what_the_backup_holds_in_an_older_state_is_put_back_and_what_was_written_since_holds() {
        let of = |revision, at, holds| remedy(last(revision, at, holds), 25, BEFORE);
        for holds in [Holding::Value, Holding::Nothing] {
            assert_eq!(of(5, 400, holds), Remedy::PutBack, "of the backup");
            assert_eq!(of(5, 1_000, holds), Remedy::PutBack);
            assert_eq!(of(21, 1_001, holds), Remedy::PutAgain, "somebody wrote it since");
            assert_eq!(of(25, 900, holds), Remedy::None, "as it was seen");
            assert_eq!(of(25, 1_001, holds), Remedy::PutAgain, "another one under the same number");
            assert_eq!(of(26, 1_001, holds), Remedy::None, "the fold takes it as it is");
        }
    }

    #[test]
    fn what_was_written_since_holds_also_for_a_worker_that_comes_when_another_has_begun() {
        // The log had seen revision 30 at 1000; somebody wrote at 1500; a worker wrote 31 and more at 2000.
        let written = last(21, 1_500, Holding::Value);
        let first = before(None, newest(30, 1_000), 21);
        assert_eq!(remedy(written, 25, first), Remedy::PutAgain);
        let second = before(Some(first), newest(33, 2_000), 35);
        assert_eq!(remedy(written, 25, second), Remedy::PutAgain);
        let of_a_snapshot = before(Some(first), newest(33, 9_000), 35);
        assert_eq!(remedy(written, 25, of_a_snapshot), Remedy::PutAgain);
        assert_eq!(remedy(last(5, 400, Holding::Value), 25, second), Remedy::PutBack, "of the backup");
        assert_eq!(remedy(last(33, 2_000, Holding::Value), 33, second), Remedy::None, "written back");
        assert_eq!(before(Some(newest(30, u64::MAX)), newest(30, 1_000), 35).at, Stamp(1_000));
    }

    #[test]
    fn a_mark_that_came_with_the_backup_says_nothing() {
        let stale = newest(12, 300);
        assert_eq!(before(Some(stale), newest(30, 1_000), 14), newest(30, 1_000));
        assert_eq!(
            before(Some(newest(30, 1_000)), newest(30, 1_100), 14),
            newest(30, 1_000),
            "half advanced"
        );
    }

    #[test]
    fn where_only_a_later_moment_is_known_what_may_be_of_the_backup_is_put_back() {
        let of_a_snapshot = before(None, newest(30, 9_000), 21);
        assert_eq!(remedy(last(21, 1_500, Holding::Value), 25, of_a_snapshot), Remedy::PutBack);
        assert_eq!(remedy(last(21, 9_001, Holding::Value), 25, of_a_snapshot), Remedy::PutAgain);
    }

    #[test]
    fn damage_does_not_hold_whenever_it_was_written() {
        assert_eq!(remedy(last(21, 2_000, Holding::Damage), 25, BEFORE), Remedy::PutBack);
        assert_eq!(remedy(last(26, 2_000, Holding::Damage), 25, BEFORE), Remedy::None, "healed as any");
    }
}
