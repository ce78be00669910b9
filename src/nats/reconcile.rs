//! Keeping the log complete: what stands in a bucket and not in the fold is appended.
//!
//! The worker that changes a bucket appends the change before it answers. It may die in between, and an
//! operator may edit the bucket with the nats command line. So every worker compares: each time, it
//! reads the revisions that it has not compared yet, and those that the fold has not seen are
//! appended, under an id that makes a second worker's copy vanish; of several revisions of a key only
//! the newest. A bucket that was made anew is compared whole, and the policies or switches that it lost
//! are put back. So is the last valid value of a key that ends with no valid document (`damage`).

mod damage;
mod heal;
mod scan;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::append::AppendError;
use super::buckets::{Bucket, BucketError, By, flag_key, patience};
use super::ledger::Held;
use crate::ledger::FlagRecord;
use crate::log::{Entry, FlagEntry, PolicyEntry, Revision};
use crate::wire::subjects;
use damage::Damages;
use heal::{FLAGS, POLICIES, heal, report};
use scan::{Scan, flag_unseen, policy_unseen, scan};

/// How long an appended entry may take to come back through the reader.
const APPLY_PATIENCE: Duration = Duration::from_secs(5);
/// Between tries, while the fold is known to lack what is in force.
const RETRY: Duration = Duration::from_millis(500);

/// Why something stands in a bucket that nobody put there.
const MADE_ANEW: &str = "the bucket was made anew";
const PURGED: &str = "the bucket did not hold it";

/// Why a comparison was not finished; the next one begins where it stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// A bucket could not be read.
    #[error("reading a bucket: {0}")]
    Bucket(#[from] BucketError),
    /// The log did not take an entry.
    #[error("appending: {0}")]
    Append(#[from] AppendError),
    /// The reader did not come to what was appended.
    #[error("the log's reader is behind")]
    Behind,
}

/// How far each bucket has been compared, and what is wrong in it.
#[derive(Debug, Default)]
pub struct Compared {
    policies: Option<Revision>,
    flags: Option<Revision>,
    damaged_policies: Damages,
    damaged_flags: Damages,
    rebuilds: u64,
}

/// Compares after each interval, after each reconnect, after each rebuild and where a change is known to
/// be lacking, until stopped.
pub async fn run(worker: Arc<Worker>, mut compared: Compared, stop: CancellationToken) {
    let mut connection = worker.link.watch();
    connection.mark_unchanged();
    let mut progress = worker.ledger.progress();
    let mut done = true;
    loop {
        let interval = worker.settings.reconcile_interval;
        let interval = if done && worker.ledger.is_complete() { interval } else { interval.min(RETRY) };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
            changed = connection.changed() => if changed.is_err() { return },
            rebuilt = progress.wait_for(|p| p.caught_up && p.rebuilds != compared.rebuilds) => {
                if rebuilt.is_err() { return }
            }
            () = worker.ledger.may_lack() => {}
        }
        if !worker.link.is_up() || !worker.ledger.progress().borrow().caught_up {
            continue;
        }
        let result = once(&worker, &mut compared).await;
        done = result.is_ok();
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
    if rebuilds != compared.rebuilds {
        // The fold began anew and may lack anything.
        (compared.policies, compared.flags, compared.rebuilds) = (None, None, rebuilds);
    }
    let bucket = Bucket::open(worker, &worker.settings.names.policies_bucket).await?;
    if let Some(scan) = scan(worker, &bucket, compared.policies, &POLICIES).await? {
        let mut appended = append_all(worker, &scan, policy_unseen).await?;
        if scan.whole {
            appended = restore_or_delete(worker, &bucket, &scan).await?.or(appended);
        }
        compared.policies = Some(finish(worker, &scan, appended).await?);
        report(worker, &scan, &mut compared.damaged_policies, &POLICIES);
    }
    heal(worker, &bucket, &mut compared.damaged_policies, &POLICIES).await;
    let bucket = Bucket::open(worker, &worker.settings.names.flags_bucket).await?;
    if let Some(scan) = scan(worker, &bucket, compared.flags, &FLAGS).await? {
        let mut appended = append_all(worker, &scan, flag_unseen).await?;
        if scan.whole {
            appended = restore_flags(worker, &bucket, &scan).await?.or(appended);
        }
        compared.flags = Some(finish(worker, &scan, appended).await?);
        report(worker, &scan, &mut compared.damaged_flags, &FLAGS);
    }
    heal(worker, &bucket, &mut compared.damaged_flags, &FLAGS).await;
    worker.ledger.note_compared(rebuilds);
    Ok(())
}

async fn append_all(
    worker: &Worker,
    scan: &Scan,
    unseen: fn(&Worker, &Entry<'_>) -> bool,
) -> Result<Option<u64>, ReconcileError> {
    let mut appended = None;
    for (revision, (key, entry)) in &scan.lacking {
        appended = Some(append(worker, entry, key, scan.last.created, *revision, unseen).await?);
    }
    Ok(appended)
}

/// What the fold has in force and a bucket does not even know. Of the same bucket it was purged, key
/// and all: it is deleted, under a revision of its own. Where the bucket was made anew it was lost with
/// the old one, and is put back: losing a bucket must not take every tenant's policy with it.
async fn restore_or_delete(
    worker: &Worker,
    bucket: &Bucket,
    scan: &Scan,
) -> Result<Option<u64>, ReconcileError> {
    let mut appended = None;
    for Held { tenant_id, policy_id, revision, document } in worker.ledger.in_force() {
        let key = subjects::encode_key(tenant_id.as_str(), policy_id.as_str());
        if scan.keys.contains(&key) {
            continue;
        }
        let purged = revision.created == scan.last.created;
        let document = (!purged).then_some(document);
        let (value, reason) = match &document {
            None => (None, PURGED),
            Some(document) => (Some(Bytes::from(document.to_string())), MADE_ANEW),
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
            appended = Some(append(worker, &entry, &key, created, revision, policy_unseen).await?);
        }
    }
    Ok(appended)
}

/// The same for switches: one that was set and that the bucket does not know.
async fn restore_flags(worker: &Worker, bucket: &Bucket, scan: &Scan) -> Result<Option<u64>, ReconcileError> {
    let mut appended = None;
    for (scope, FlagRecord { revision, enabled }) in worker.ledger.flags_set() {
        let key = flag_key(&scope);
        if scan.keys.contains(&key) {
            continue;
        }
        let purged = revision.created == scan.last.created;
        if purged && enabled {
            // As one that is not there.
            continue;
        }
        let (circuit_breaker_enabled, value, reason) = if purged {
            (true, None, PURGED)
        } else {
            let value = serde_json::json!({ "circuit_breaker_enabled": enabled }).to_string();
            (enabled, Some(Bytes::from(value)), MADE_ANEW)
        };
        let Some(revision) = write_back(worker, bucket, &key, value, reason).await? else { continue };
        tracing::warn!(event = "flag_not_in_bucket", key, put_back = !purged);
        let created = scan.last.created;
        let entry = Entry::Flag(FlagEntry {
            scope,
            revision: Revision { created, revision },
            circuit_breaker_enabled,
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
    let put =
        bucket.change(worker, key, Some(0), patience(worker), by, |_| Ok::<_, BucketError>(value.clone()));
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
