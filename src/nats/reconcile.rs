//! Keeping the log complete: what stands in a bucket and not in the fold is appended.
//!
//! The worker that changes a bucket appends the change before it answers. It may die in between, and an
//! operator may edit the bucket with the nats command line. So every worker compares: each time, it
//! reads the revisions that it has not compared yet, and those that the fold has not seen are
//! appended, under an id that makes a second worker's copy vanish. A bucket that was made anew is
//! compared whole, and what it lacks is told as deleted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::append::AppendError;
use super::buckets::{Bucket, BucketError, Stored, flag_key};
use crate::domain::{PolicyId, TenantId};
use crate::ledger::{Entry, FlagEntry, PolicyEntry, Revision, Scope};
use crate::policy;
use crate::wire::subjects;

/// How long an appended entry may take to come back through the reader.
const APPLY_PATIENCE: Duration = Duration::from_secs(5);
/// Between tries, while the fold may lack what is in force.
const RETRY: Duration = Duration::from_millis(500);

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

/// How far each bucket has been compared.
#[derive(Debug, Default)]
pub struct Compared {
    policies: Option<Revision>,
    flags: Option<Revision>,
    rebuilds: u64,
}

/// Compares after each interval, after each reconnect and after each rebuild, until stopped.
pub async fn run(worker: Arc<Worker>, mut compared: Compared, stop: CancellationToken) {
    let mut connection = worker.link.watch();
    connection.mark_unchanged();
    let mut progress = worker.ledger.progress();
    loop {
        let interval = worker.settings.reconcile_interval;
        let interval = if worker.ledger.is_complete() { interval } else { interval.min(RETRY) };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
            changed = connection.changed() => if changed.is_err() { return },
            rebuilt = progress.wait_for(|p| p.caught_up && p.rebuilds != compared.rebuilds) => {
                if rebuilt.is_err() { return }
            }
        }
        if !worker.link.is_up() || !worker.ledger.progress().borrow().caught_up {
            continue;
        }
        if let Err(error) = once(&worker, &mut compared).await {
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
        *compared = Compared { rebuilds, ..Compared::default() };
    }
    let bucket = Bucket::open(worker, &worker.settings.names.policies_bucket).await?;
    compare(worker, &bucket, &mut compared.policies, &policies_known(worker), policy_entry, policy_unseen)
        .await?;
    let bucket = Bucket::open(worker, &worker.settings.names.flags_bucket).await?;
    compare(worker, &bucket, &mut compared.flags, &[], flag_entry, flag_unseen).await?;
    worker.ledger.note_compared(rebuilds);
    Ok(())
}

async fn compare(
    worker: &Worker,
    bucket: &Bucket,
    done: &mut Option<Revision>,
    known: &[(TenantId, PolicyId)],
    entry: fn(&str, &Stored, i64) -> Option<Entry<'static>>,
    unseen: fn(&Worker, &Entry<'_>) -> bool,
) -> Result<(), ReconcileError> {
    let last = bucket.last().await?;
    let begun = done.filter(|d| d.created == last.created);
    if begun.is_some_and(|d| d.revision >= last.revision) {
        return Ok(());
    }
    let made_anew = begun.is_none();
    let mut present = BTreeSet::new();
    let mut appended = None;
    let mut from = begun.map_or(1, |d| d.revision + 1);
    while let Some((key, stored)) = bucket.next(from).await? {
        from = stored.revision + 1;
        match entry(&key, &stored, last.created) {
            Some(entry) => {
                if unseen(worker, &entry) {
                    appended =
                        Some(append(worker, &entry, &key, last.created, stored.revision, unseen).await?);
                }
            }
            None => tracing::error!(event = "bucket_value_refused", key, revision = stored.revision),
        }
        if stored.value.is_some() {
            present.insert(key);
        } else {
            present.remove(&key);
        }
        if from > last.revision {
            break;
        }
    }
    if made_anew {
        for (tenant_id, policy_id) in known {
            let key = subjects::encode_key(tenant_id.as_str(), policy_id.as_str());
            if !present.contains(&key) {
                let revision = Revision { created: last.created, revision: last.revision };
                let entry = Entry::Policy(PolicyEntry {
                    tenant_id: tenant_id.clone(),
                    policy_id: policy_id.clone(),
                    revision,
                    document: None,
                    actor: None,
                    reason: Some("the bucket does not hold it".to_owned()),
                });
                if unseen(worker, &entry) {
                    appended = Some(append(worker, &entry, &key, last.created, last.revision, unseen).await?);
                }
            }
        }
    }
    if let Some(position) = appended
        && !worker.ledger.wait_applied(position, APPLY_PATIENCE).await
    {
        return Err(ReconcileError::Behind);
    }
    *done = Some(Revision { created: last.created, revision: from.saturating_sub(1).max(last.revision) });
    Ok(())
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

fn policies_known(worker: &Worker) -> Vec<(TenantId, PolicyId)> {
    let fold = worker.ledger.fold();
    fold.register().iter().filter(|(_, record)| record.live.is_some()).map(|(key, _)| key.clone()).collect()
}

fn policy_entry(key: &str, stored: &Stored, created: i64) -> Option<Entry<'static>> {
    let (tenant_id, policy_id) = subjects::decode_key(key)?;
    let document = match &stored.value {
        None => None,
        Some(value) => {
            let document = policy::read_text(std::str::from_utf8(value).ok()?).ok()?;
            // What cannot run changes nothing: what is running stays.
            let checked = policy::parse(&document).ok()?;
            if checked.policy.id().as_str() != policy_id {
                return None;
            }
            Some(Arc::new(document))
        }
    };
    Some(Entry::Policy(PolicyEntry {
        tenant_id: TenantId::try_new(tenant_id).ok()?,
        policy_id: PolicyId::try_new(policy_id).ok()?,
        revision: Revision { created, revision: stored.revision },
        document,
        actor: stored.actor.clone(),
        reason: stored.reason.clone(),
    }))
}

fn policy_unseen(worker: &Worker, entry: &Entry<'_>) -> bool {
    let Entry::Policy(entry) = entry else { return false };
    let fold = worker.ledger.fold();
    let known = fold.register().get(&entry.tenant_id, &entry.policy_id);
    match known {
        Some(known) => entry.revision > known.seen && (entry.document.is_some() || known.live.is_some()),
        // The delete of what was never put.
        None => entry.document.is_some(),
    }
}

/// What stands in the bucket of switches under a key: `{"circuit_breaker_enabled": false}`.
fn flag_entry(key: &str, stored: &Stored, created: i64) -> Option<Entry<'static>> {
    let scope = match key.strip_prefix("tenant.") {
        Some(token) => {
            Scope::Tenant { tenant_id: TenantId::try_new(subjects::decode_key_token(token)?).ok()? }
        }
        None => Scope::Global,
    };
    if flag_key(&scope) != key {
        return None;
    }
    let circuit_breaker_enabled = match &stored.value {
        // A switch that is deleted is on, as one that was never set.
        None => true,
        Some(value) => {
            let document: Value = serde_json::from_slice(value).ok()?;
            document.get("circuit_breaker_enabled")?.as_bool()?
        }
    };
    Some(Entry::Flag(FlagEntry {
        scope,
        revision: Revision { created, revision: stored.revision },
        circuit_breaker_enabled,
        actor: stored.actor.clone(),
        reason: stored.reason.clone(),
    }))
}

fn flag_unseen(worker: &Worker, entry: &Entry<'_>) -> bool {
    let Entry::Flag(entry) = entry else { return false };
    worker.ledger.fold().flags().get(&entry.scope).is_none_or(|known| entry.revision > known.revision)
}
