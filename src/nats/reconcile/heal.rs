//! Writing the last valid value over one that is no document: the rules are in [`super::damage`].

use bytes::Bytes;
use serde_json::json;

use super::back::Seen;
use super::damage::{Damages, Known, Remedy};
use super::scan::{Scan, flag_entry, flag_unseen, policy_entry, policy_of, policy_unseen, scope_of};
use super::{APPLY_PATIENCE, append};
use crate::domain::{PolicyId, Stamp, TenantId};
use crate::log::{Entry, Revision, Scope};
use crate::nats::Worker;
use crate::nats::buckets::{Bucket, BucketError, By, Holds, Stored, flag_key};
use crate::telemetry::labels::Damage as Outcome;
use crate::wire::subjects::encode_key;

/// Who puts it back, for the history.
const BY: By<'static> = By {
    actor: Some("router"),
    reason: Some("the value before was no valid document; this is the last valid one"),
    authenticated: None,
};

/// What one bucket holds.
pub(super) struct Kind {
    pub(super) holds: Holds,
    pub(super) entry: fn(&str, &Stored, i64) -> Option<Entry<'static>>,
    pub(super) unseen: fn(&Worker, &Entry<'_>) -> bool,
    pub(super) known: fn(&Worker, &str, Revision) -> Known,
    /// The keys of a bucket that was made then, as the log holds them.
    pub(super) seen: fn(&Worker, i64) -> Seen,
    /// Whose a key is, for the log.
    of: fn(&str) -> (Option<TenantId>, Option<PolicyId>),
}

pub(super) const POLICIES: Kind = Kind {
    holds: Holds::Policies,
    entry: policy_entry,
    unseen: policy_unseen,
    known: policy_known,
    seen: policies_seen,
    of: whose_policy,
};
pub(super) const FLAGS: Kind = Kind {
    holds: Holds::Flags,
    entry: flag_entry,
    unseen: flag_unseen,
    known: flag_known,
    seen: flags_seen,
    of: whose_flag,
};

/// Reports the damage that a comparison met.
pub(super) fn report(worker: &Worker, scan: &Scan, damages: &mut Damages, kind: &Kind) {
    for (key, revision) in damages.note(scan.keys.keys(), &scan.damaged, scan.whole, worker.clock.tick()) {
        worker.metrics.bucket_damage.inc(Outcome::Found);
        let due = worker.line_due("bucket_value_refused", &format!("{key} {revision}"));
        let Some(stands_for) = due else { continue };
        let (tenant_id, policy_id) = (kind.of)(&key);
        tracing::error!(
            event = "bucket_value_refused",
            key,
            revision,
            tenant_id = tenant_id.as_ref().map(TenantId::as_str),
            policy_id = policy_id.as_ref().map(PolicyId::as_str),
            stands_for,
        );
    }
}

/// Does what is due about the damage that is known. What fails is tried again at the next comparison.
pub(super) async fn heal(worker: &Worker, bucket: &Bucket, damages: &mut Damages, kind: &Kind) {
    // Every other worker has compared by then.
    let patience = 2 * worker.settings.reconcile_interval;
    for (key, damage) in damages.all() {
        let created = bucket.created();
        let damaged = Revision { created, revision: damage.revision };
        let known = (kind.known)(worker, &key, damaged);
        match damage.remedy(known, worker.clock.tick(), patience) {
            Remedy::Wait => {}
            Remedy::Forget => damages.forget(&key),
            Remedy::Leave(why) => {
                if !damage.reported {
                    worker.metrics.bucket_damage.inc(Outcome::Left);
                    let revision = damage.revision;
                    tracing::warn!(event = "bucket_value_left", key, revision, why = why.as_str());
                    damages.note_reported(&key);
                }
                if !why.passes() {
                    damages.forget(&key);
                }
            }
            Remedy::PutBack(value) => {
                if put_back(worker, bucket, (&key, damage.revision), value, kind).await {
                    damages.forget(&key);
                }
            }
        }
    }
}

/// Writes a value over the damaged revision and enters it in the log. `false`: worth another try.
async fn put_back(
    worker: &Worker,
    bucket: &Bucket,
    (key, damaged): (&str, u64),
    value: Option<Bytes>,
    kind: &Kind,
) -> bool {
    let entry = |revision| {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let stored = Stored {
            revision,
            value: value.clone(),
            purged: false,
            at: String::new(),
            stamp: Stamp(0),
            actor: text(BY.actor),
            reason: text(BY.reason),
            authenticated: None,
            malformed: None,
        };
        (kind.entry)(key, &stored, bucket.created())
    };
    if entry(damaged).is_none() {
        // What is in force here was valid when it came; were it no longer, it would be damage itself.
        return true;
    }
    let put = bucket.replace(worker, key, damaged, BY, value.clone());
    let revision = match put.await {
        Ok(revision) => revision,
        Err(BucketError::Conflict { present }) => {
            worker.metrics.bucket_damage.inc(Outcome::Overtaken);
            tracing::info!(event = "bucket_value_overtaken", key, revision = damaged, present);
            return true;
        }
        Err(error) => {
            tracing::warn!(event = "bucket_value_not_put_back", key, revision = damaged, error = %error);
            return false;
        }
    };
    worker.metrics.bucket_damage.inc(Outcome::PutBack);
    let (tenant_id, policy_id) = (kind.of)(key);
    tracing::warn!(
        event = "bucket_value_put_back",
        key,
        revision,
        damaged,
        tenant_id = tenant_id.as_ref().map(TenantId::as_str),
        policy_id = policy_id.as_ref().map(PolicyId::as_str),
    );
    if let Some(entry) = entry(revision)
        && (kind.unseen)(worker, &entry)
    {
        // If the log does not take it, the next comparison finds the revision.
        match append(worker, &entry, key, bucket.created(), revision, kind.unseen).await {
            Ok(position) => _ = worker.ledger.wait_applied(position, APPLY_PATIENCE).await,
            Err(error) => tracing::warn!(event = "change_not_appended", error = %error),
        }
    }
    true
}

fn policy_known(worker: &Worker, key: &str, damaged: Revision) -> Known {
    let Some((tenant_id, policy_id)) = policy_of(key) else { return Known::Nothing };
    {
        let fold = worker.ledger.fold();
        if let Some(record) = fold.register().get(&tenant_id, &policy_id) {
            if record.seen >= damaged {
                return Known::Entered;
            }
            let value = record.live.as_ref().map(|live| Bytes::from(live.document.to_string()));
            return Known::Last { value, repeated: fold.repeated(&tenant_id, &policy_id) };
        }
    }
    // Of a log that was lost this worker may remember it.
    let held = worker.ledger.in_force();
    let held = held.iter().find(|held| held.tenant_id == tenant_id && held.policy_id == policy_id);
    held.map_or(Known::Nothing, |held| Known::Last {
        value: Some(Bytes::from(held.document.to_string())),
        repeated: None,
    })
}

fn flag_known(worker: &Worker, key: &str, damaged: Revision) -> Known {
    let Some(scope) = scope_of(key) else { return Known::Nothing };
    let set = worker.ledger.flags_set();
    let Some((_, record)) = set.iter().find(|(known, _)| *known == scope) else { return Known::Nothing };
    if record.revision >= damaged {
        return Known::Entered;
    }
    let value = json!({ "circuit_breaker_enabled": record.enabled }).to_string();
    Known::Last { value: Some(Bytes::from(value)), repeated: None }
}

fn policies_seen(worker: &Worker, created: i64) -> Seen {
    let key = |tenant_id: &TenantId, policy_id: &PolicyId| encode_key(tenant_id.as_str(), policy_id.as_str());
    // What is lost with the log first: what the fold knows is newer.
    let held = worker.ledger.in_force().into_iter().filter(|held| held.revision.created == created);
    let mut seen: Seen =
        held.map(|held| (key(&held.tenant_id, &held.policy_id), held.revision.revision)).collect();
    let fold = worker.ledger.fold();
    let of_bucket = fold.register().iter().filter(|(_, record)| record.seen.created == created);
    seen.extend(of_bucket.map(|((tenant, policy), record)| (key(tenant, policy), record.seen.revision)));
    seen
}

fn flags_seen(worker: &Worker, created: i64) -> Seen {
    let mut seen = Seen::new();
    let set = worker.ledger.flags_set().into_iter().filter(|(_, flag)| flag.revision.created == created);
    for (scope, flag) in set {
        seen.entry(flag_key(&scope)).or_insert(flag.revision.revision);
    }
    seen
}

fn whose_policy(key: &str) -> (Option<TenantId>, Option<PolicyId>) {
    policy_of(key).unzip()
}

fn whose_flag(key: &str) -> (Option<TenantId>, Option<PolicyId>) {
    match scope_of(key) {
        Some(Scope::Tenant { tenant_id }) => (Some(tenant_id), None),
        _ => (None, None),
    }
}
