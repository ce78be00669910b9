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

use std::collections::BTreeMap;

use super::damage::Known;
use super::heal::Kind;
use super::scan::{Holding, Last, Scan};
use super::{ReconcileError, append};
use crate::domain::Stamp;
use crate::log::Revision;
use crate::nats::Worker;
use crate::nats::buckets::{Bucket, BucketError, By, Stored};

/// The keys of one bucket that the log tells of, and the last revision of each that it has seen.
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

/// `seen` is the last revision of the key that the log has seen; `newest_at` is when the log saw the greatest
/// revision of the bucket. A backup holds nothing that is later.
fn remedy(last: Last, seen: u64, newest_at: Stamp) -> Remedy {
    let written_after = last.at > newest_at && last.holds != Holding::Damage;
    match last.revision.cmp(&seen) {
        std::cmp::Ordering::Greater => Remedy::None,
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
    seen: &Seen,
    kind: &Kind,
) -> Result<Option<u64>, ReconcileError> {
    let newest_at = bucket.newest().at;
    let due = scan.keys.iter().filter_map(|(key, last)| {
        let seen = *seen.get(key)?;
        Some((seen, key, *last, remedy(*last, seen, newest_at)))
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

    const NEWEST_AT: Stamp = Stamp(1_000);

    fn last(revision: u64, at: u64, holds: Holding) -> Last {
        Last { revision, at: Stamp(at), holds }
    }

    #[test]
    fn what_the_backup_holds_in_an_older_state_is_put_back_and_what_was_written_since_holds() {
        let of = |revision, at, holds| remedy(last(revision, at, holds), 25, NEWEST_AT);
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
    fn damage_does_not_hold_whenever_it_was_written() {
        assert_eq!(remedy(last(21, 2_000, Holding::Damage), 25, NEWEST_AT), Remedy::PutBack);
        assert_eq!(remedy(last(26, 2_000, Holding::Damage), 25, NEWEST_AT), Remedy::None, "healed as any");
    }
}
