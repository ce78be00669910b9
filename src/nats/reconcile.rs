//! Keeping the log complete: what stands in a bucket and not in the fold is appended.
//!
//! The worker that changes a bucket appends the change before it answers. It may die in between, and an
//! operator may edit the bucket with the nats command line. So every worker compares: each time, it
//! reads the revisions that it has not compared yet, and those that the fold has not seen are
//! appended, under an id that makes a second worker's copy vanish; of several revisions of a key only
//! the newest. A bucket that was made anew is compared whole, and the policies or switches that it lost
//! are put back. So is the last valid value of a key that ends with no valid document (`damage`), and what
//! is in force where a bucket was put back to an older state (`back`).

mod appended;
mod back;
mod damage;
mod heal;
mod occurrence;
mod pace;
mod scan;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::append::AppendError;
use super::buckets::{Bucket, BucketError, By, Holds, flag_key};
use super::fold_version::{agreed_to, waits_for};
use super::ledger::Held;
use crate::domain::Tick;
use crate::ledger::{FlagRecord, Newest};
use crate::log::{Entry, FlagEntry, FoldVersion, PolicyEntry, Revision};
use crate::wire::subjects;
use appended::Appended;
use back::{Seen, before, holds_older, put_right};
use damage::Damages;
use heal::{FLAGS, Kind, POLICIES, heal, report};
use occurrence::Occurrence;
use pace::wait;
use scan::{Scan, flag_unseen, policy_unseen, scan};
pub(super) use scan::{policy_of, scope_of};

/// How long a version of the fold is waited for, before all that does not need it is served. Where all workers agree it
/// takes two looks at them, ten seconds apart by default; where an older one runs it does not come.
const VERSION_PATIENCE_MS: u64 = 60_000;
/// How long an appended entry may take to come back through the reader.
const APPLY_PATIENCE: Duration = Duration::from_secs(5);

/// Why something stands in a bucket that nobody put there.
const MADE_ANEW: &str = "the bucket was made anew";
const PURGED: &str = "the bucket did not hold it";
const WENT_BACK: &str = "the bucket went back to an older state and did not hold it";

/// Why a comparison was not finished; the next one begins where it stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// A bucket could not be read.
    #[error("reading a bucket: {0}")]
    Bucket(#[from] BucketError),
    /// The log did not take an entry.
    #[error("appending: {0}")]
    Append(#[from] AppendError),
    /// A policy needs a version of the fold that is not raised yet.
    #[error("a policy waits for version {0} of the fold")]
    Version(FoldVersion),
    /// The reader did not come to what was appended.
    #[error("the log's reader is behind")]
    Behind,
}

/// How far each bucket has been compared, and what is wrong in it.
#[derive(Debug, Default)]
pub struct Compared {
    policies: OfBucket,
    flags: OfBucket,
    rebuilds: u64,
    /// Since when a policy waits for a version of the fold.
    version_awaited: Option<Tick>,
}

#[derive(Debug, Default)]
struct OfBucket {
    done: Option<Revision>,
    damages: Damages,
    older: Occurrence,
    back: Occurrence,
}

/// Compares after each interval, after each reconnect, after each rebuild and where a change is known to
/// be lacking, until stopped.
pub async fn run(worker: Arc<Worker>, mut compared: Compared, stop: CancellationToken) {
    let mut connection = worker.link.watch();
    connection.mark_unchanged();
    let mut progress = worker.ledger.progress();
    let mut failed = false;
    loop {
        let (pause, at_once) = wait(failed, worker.ledger.is_complete(), worker.settings.reconcile_interval);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            changed = connection.changed(), if at_once => if changed.is_err() { return },
            rebuilt = progress.wait_for(|p| p.caught_up && p.rebuilds != compared.rebuilds), if at_once => {
                if rebuilt.is_err() { return }
            }
            () = worker.ledger.may_lack(), if at_once => {}
        }
        if !worker.link.is_up() || !worker.ledger.progress().borrow().caught_up {
            continue;
        }
        let result = once(&worker, &mut compared).await;
        failed = result.is_err();
        if let Err(error) = result {
            tracing::warn!(event = "policies_not_compared", error = %error);
        }
        super::snapshots::mark_if_quiet(&worker).await;
    }
}

/// Compares both buckets with the fold and appends what is lacking.
///
/// # Errors
/// [`ReconcileError`]; worth another try.
pub async fn once(worker: &Worker, compared: &mut Compared) -> Result<(), ReconcileError> {
    let rebuilds = worker.ledger.progress().borrow().rebuilds;
    let found_older = worker.ledger.take_older();
    if found_older || rebuilds != compared.rebuilds {
        // The fold began anew and may lack anything, or a bucket may hold anything.
        (compared.policies.done, compared.flags.done, compared.rebuilds) = (None, None, rebuilds);
        compared.version_awaited = None;
    }
    // Switches first: they are few, and an emergency does not wait for many policies.
    compare(worker, &mut compared.flags, &FLAGS).await?;
    if let Err(error) = compare(worker, &mut compared.policies, &POLICIES).await {
        let ReconcileError::Version(_) = error else { return Err(error) };
        let now = worker.clock.tick();
        let since = *compared.version_awaited.get_or_insert(now);
        if now.since(since) < VERSION_PATIENCE_MS {
            return Err(error);
        }
        // All other tenants are served from here on. The bucket is compared again after each interval.
    }
    worker.ledger.note_compared(rebuilds);
    Ok(())
}

/// Compares one bucket, and puts it right if it went back.
async fn compare(worker: &Worker, of: &mut OfBucket, kind: &Kind) -> Result<(), ReconcileError> {
    let bucket = Bucket::open(worker, kind.holds).await?;
    if bucket.is_older_by_making(worker) {
        // The fold takes nothing of it, so nothing written to it would be in force.
        if of.older.begins() {
            tracing::error!(event = "bucket_older", bucket = bucket.name());
        }
        return Ok(());
    }
    of.older.ends();
    let mut done = of.done;
    let (mut went_back, mut before) = (bucket.ends_before(done), bucket.newest());
    if went_back {
        before = begin_putting_right(worker, &bucket, &mut of.back).await?;
        done = None;
    }
    loop {
        // Before the bucket is read: what was seen stands in it.
        let seen = if done.is_none() { (kind.seen)(worker, bucket.created()) } else { Seen::new() };
        let Some(scan) = scan(worker, &bucket, done, kind).await? else { break };
        if !went_back && (scan.unfinished || (scan.whole && holds_older(&scan, &seen))) {
            went_back = true;
            before = begin_putting_right(worker, &bucket, &mut of.back).await?;
            done = None;
            continue;
        }
        let mut appended = append_all(worker, &scan, kind.unseen).await?;
        if went_back {
            appended = put_right(worker, &bucket, &scan, (&seen, before), kind).await?.or(appended);
        }
        if scan.whole {
            let restored = match kind.holds {
                Holds::Policies => restore_or_delete(worker, &bucket, &scan, went_back).await?,
                Holds::Flags => restore_flags(worker, &bucket, &scan, went_back).await?,
            };
            appended = restored.or(appended);
        }
        of.done = Some(finish(worker, &scan, appended).await?);
        if went_back {
            bucket.end_advance(worker).await?;
        }
        report(worker, &scan, &mut of.damages, kind);
        break;
    }
    of.back.ends();
    heal(worker, &bucket, &mut of.damages, kind).await;
    Ok(())
}

/// Reports a bucket that went back, and makes room for what is to be written. Gives what the log had seen of
/// the bucket before any worker wrote to it.
async fn begin_putting_right(
    worker: &Worker,
    bucket: &Bucket,
    back: &mut Occurrence,
) -> Result<Newest, ReconcileError> {
    let (last, seen) = (bucket.last().await?.revision, bucket.newest().revision.revision);
    let before = before(bucket.marked().await?, bucket.newest(), last);
    if back.begins() {
        worker.metrics.bucket_went_back.inc();
        tracing::error!(event = "bucket_went_back", bucket = bucket.name(), revision = last, seen);
    }
    bucket.advance(worker, seen, before).await?;
    Ok(before)
}

async fn append_all(
    worker: &Worker,
    scan: &Scan,
    unseen: fn(&Worker, &Entry<'_>) -> bool,
) -> Result<Option<u64>, ReconcileError> {
    let mut appended = Appended::default();
    for (revision, (key, entry)) in &scan.lacking {
        appended.note(append(worker, entry, key, scan.last.created, *revision, unseen).await)?;
    }
    appended.all()
}

/// What the fold has in force and a bucket does not even know. Of the same bucket it was purged, key
/// and all: it is deleted, under a revision of its own. Where the bucket was made anew, or went back, it was
/// lost with the old one, and is put back: losing a bucket must not take every tenant's policy with it.
async fn restore_or_delete(
    worker: &Worker,
    bucket: &Bucket,
    scan: &Scan,
    went_back: bool,
) -> Result<Option<u64>, ReconcileError> {
    let mut appended = Appended::default();
    for Held { tenant_id, policy_id, revision, document } in worker.ledger.in_force() {
        let key = subjects::encode_key(tenant_id.as_str(), policy_id.as_str());
        if scan.keys.contains_key(&key) {
            continue;
        }
        let same = revision.created == scan.last.created;
        let purged = same && !went_back;
        let document = (!purged).then_some(document);
        let (value, reason) = match &document {
            None => (None, PURGED),
            Some(document) => (Some(Bytes::from(document.to_string())), lost_by(same)),
        };
        let Some(revision) = write_back(worker, bucket, &key, value, reason).await? else { continue };
        tracing::warn!(event = "policy_not_in_bucket", key, put_back = !purged);
        let entry = Entry::Policy(PolicyEntry {
            tenant_id,
            policy_id,
            revision: Revision { created: scan.last.created, revision },
            document,
            actor: None,
            reason: Some(reason.to_owned()),
            authenticated: None,
        });
        if policy_unseen(worker, &entry) {
            let created = scan.last.created;
            appended.note(append(worker, &entry, &key, created, revision, policy_unseen).await)?;
        }
    }
    appended.all()
}

/// The same for switches: one that was set and that the bucket does not know.
async fn restore_flags(
    worker: &Worker,
    bucket: &Bucket,
    scan: &Scan,
    went_back: bool,
) -> Result<Option<u64>, ReconcileError> {
    let mut appended = None;
    for (scope, FlagRecord { revision, enabled }) in worker.ledger.flags_set() {
        let key = flag_key(&scope);
        if scan.keys.contains_key(&key) {
            continue;
        }
        let same = revision.created == scan.last.created;
        let purged = same && !went_back;
        if same && enabled {
            // As one that is not there.
            continue;
        }
        let (circuit_breaker_enabled, value, reason) = if purged {
            (true, None, PURGED)
        } else {
            let value = serde_json::json!({ "circuit_breaker_enabled": enabled }).to_string();
            (enabled, Some(Bytes::from(value)), lost_by(same))
        };
        let Some(revision) = write_back(worker, bucket, &key, value, reason).await? else { continue };
        tracing::warn!(event = "flag_not_in_bucket", key, put_back = !purged);
        let created = scan.last.created;
        let entry = Entry::Flag(FlagEntry {
            scope,
            revision: Revision { created, revision },
            circuit_breaker_enabled,
            latest: None,
            actor: None,
            reason: Some(reason.to_owned()),
            authenticated: None,
        });
        if flag_unseen(worker, &entry) {
            appended = Some(append(worker, &entry, &key, created, revision, flag_unseen).await?);
        }
    }
    Ok(appended)
}

/// Why a bucket does not hold what is in force; `same` says that it is the one that held it.
const fn lost_by(same: bool) -> &'static str {
    if same { WENT_BACK } else { MADE_ANEW }
}

/// Writes what a bucket has lost, or the mark of its delete. `None` if another worker was first, which
/// then appends it.
async fn write_back(
    worker: &Worker,
    bucket: &Bucket,
    key: &str,
    value: Option<Bytes>,
    reason: &str,
) -> Result<Option<u64>, BucketError> {
    let by = By { actor: Some(&worker.settings.worker_name), reason: Some(reason), authenticated: None };
    let put = bucket.replace(worker, key, 0, by, value);
    match put.await {
        Ok(revision) => Ok(Some(revision)),
        Err(BucketError::Conflict { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits until what was appended is in force. Tells how far the bucket is compared.
async fn finish(worker: &Worker, scan: &Scan, appended: Option<u64>) -> Result<Revision, ReconcileError> {
    if let Some(position) = appended
        && !worker.ledger.wait_applied(position, APPLY_PATIENCE).await
    {
        return Err(ReconcileError::Behind);
    }
    Ok(scan.last)
}

async fn append(
    worker: &Worker,
    entry: &Entry<'_>,
    key: &str,
    created: i64,
    revision: u64,
    unseen: fn(&Worker, &Entry<'_>) -> bool,
) -> Result<u64, ReconcileError> {
    let holds = worker.ledger.fold().version();
    if let Some(version) = waits_for(entry, holds, agreed_to(worker)) {
        return Err(ReconcileError::Version(version));
    }
    tracing::info!(event = "bucket_change_appended", key, revision);
    let appended = worker.append(entry, Some(&unique(key, created, revision))).await?;
    if !appended.duplicate {
        return Ok(appended.position);
    }
    if !worker.ledger.wait_applied(appended.position, APPLY_PATIENCE).await {
        return Err(ReconcileError::Behind);
    }
    if unseen(worker, entry) {
        // The first copy was purged from the log while the stream still knows its id.
        return Ok(worker.append(entry, None).await?.position);
    }
    Ok(appended.position)
}

/// The id under which a bucket's revision enters the log.
#[must_use]
pub fn unique(key: &str, created: i64, revision: u64) -> String {
    format!("bucket.{created}.{revision}.{key}")
}
