//! What a bucket holds that the fold has not seen, and what of it is no valid document.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::ReconcileError;
use super::heal::Kind;
use crate::document::read_text;
use crate::domain::{PolicyId, Stamp, TenantId};
use crate::log::{Entry, FlagEntry, PolicyEntry, Revision, Scope};
use crate::nats::Worker;
use crate::nats::buckets::{ADVANCED, Bucket, BucketError, Start, Stored, flag_key};
use crate::policy;
use crate::telemetry::labels::Source;
use crate::wire::subjects;

/// What a bucket holds that had not been compared.
pub(super) struct Scan {
    /// The bucket, and how far it was read.
    pub(super) last: Revision,
    /// Whether it was read from its beginning.
    pub(super) whole: bool,
    /// Every key that was met, deleted ones included, with its last revision.
    pub(super) keys: BTreeMap<String, Last>,
    /// Whether a worker puts the bucket right, or died over it.
    pub(super) unfinished: bool,
    /// The newest entry of each key that the fold has not seen, by revision.
    pub(super) lacking: BTreeMap<u64, (String, Entry<'static>)>,
    /// Keys that end with a value that is no valid document, and its revision.
    pub(super) damaged: BTreeMap<String, u64>,
}

/// So many revisions are read one by one, with less effort for the broker than a consumer.
const FEW: u64 = 16;

/// The last revision of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Last {
    /// Its number.
    pub(super) revision: u64,
    /// When it was stored.
    pub(super) at: Stamp,
    /// What it is.
    pub(super) holds: Holding,
}

/// What a revision is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holding {
    /// A valid document.
    Value,
    /// A delete.
    Nothing,
    /// No valid document.
    Damage,
}

/// Reads what was not compared yet; `None` if there is nothing.
pub(super) async fn scan(
    worker: &Worker,
    bucket: &Bucket,
    done: Option<Revision>,
    kind: &Kind,
) -> Result<Option<Scan>, ReconcileError> {
    let last = bucket.last().await?;
    // A bucket that ends before what was compared is another one, too.
    let begun = done.filter(|d| d.created == last.created && d.revision <= last.revision);
    if begun.is_some_and(|d| d.revision >= last.revision) {
        return Ok(None);
    }
    let scan = Scan {
        last,
        whole: begun.is_none(),
        keys: BTreeMap::new(),
        unfinished: false,
        lacking: BTreeMap::new(),
        damaged: BTreeMap::new(),
    };
    let end = last.revision;
    let mut taking = Taking { worker, kind, scan, newest: BTreeMap::new() };
    match begun.map_or(Start::LastOfEach, |done| Start::At(done.revision + 1)) {
        Start::At(mut from) if end - from < FEW => {
            while from <= end
                && let Some((key, stored)) = bucket.next(">", from).await?
            {
                from = stored.revision + 1;
                taking.take(key, stored);
            }
        }
        start => bucket.read(worker, start, end, |key, stored| taking.take(key, stored)).await?,
    }
    if taking.scan.whole {
        taking.look_behind_damage(bucket).await?;
    }
    Ok(Some(taking.scan))
}

/// What takes the revisions of a bucket, older ones of a key first.
struct Taking<'t> {
    worker: &'t Worker,
    kind: &'t Kind,
    scan: Scan,
    /// The newest entry of each key that the fold has not seen.
    newest: BTreeMap<String, u64>,
}

impl Taking<'_> {
    /// Of a key that ends with damage the last valid value counts, which stands before it.
    async fn look_behind_damage(&mut self, bucket: &Bucket) -> Result<(), BucketError> {
        for (key, damaged) in self.scan.damaged.clone() {
            let last = self.scan.keys.get(&key).copied();
            let history = bucket.history(&key).await?;
            for stored in history.into_iter().filter(|stored| stored.revision < damaged) {
                self.take(key.clone(), stored);
            }
            if let Some(last) = last.filter(|last| last.revision == damaged) {
                self.scan.keys.insert(key.clone(), last);
                self.scan.damaged.insert(key, damaged);
            }
        }
        Ok(())
    }

    fn take(&mut self, key: String, stored: Stored) {
        let Self { worker, kind, scan, newest } = self;
        if let Some(malformed) = stored.malformed {
            worker.link.note_malformed(Source::Bucket, malformed, &worker.metrics);
        }
        scan.last.revision = scan.last.revision.max(stored.revision);
        if key == ADVANCED {
            scan.unfinished = is_mark(&stored);
            return;
        }
        // What the log holds needs no reading: it was valid when it came.
        let at = Revision { created: scan.last.created, revision: stored.revision };
        let is_seen = kind.holds.seen(worker, &key) == Some(at);
        let entry = if is_seen { None } else { (kind.entry)(&key, &stored, at.created) };
        let holds = match (&stored.value, is_seen || entry.is_some()) {
            // A key that is deleted holds nothing that could be wrong, whatever its name.
            (None, _) => Holding::Nothing,
            (Some(_), true) => Holding::Value,
            (Some(_), false) => Holding::Damage,
        };
        if holds == Holding::Damage {
            scan.damaged.insert(key.clone(), stored.revision);
        } else {
            scan.damaged.remove(&key);
        }
        if let Some(entry) = entry.filter(|entry| (kind.unseen)(worker, entry)) {
            if let Some(older) = newest.insert(key.clone(), stored.revision) {
                scan.lacking.remove(&older);
            }
            scan.lacking.insert(stored.revision, (key.clone(), entry));
        }
        let last = Last { revision: stored.revision, at: stored.stamp, holds };
        scan.keys.insert(key, last);
    }
}

/// Whether what stands under the key of the mark is one: a delete. Anything else is none of ours, as what the broker
/// stores of a message that somebody else sent to the subject.
const fn is_mark(stored: &Stored) -> bool {
    stored.value.is_none() && !stored.purged && stored.malformed.is_none()
}

pub(super) fn policy_entry(key: &str, stored: &Stored, created: i64) -> Option<Entry<'static>> {
    let (tenant_id, policy_id) = policy_of(key)?;
    let document = match &stored.value {
        None => None,
        Some(value) => {
            let document = read_text(std::str::from_utf8(value).ok()?).ok()?;
            // What cannot run changes nothing: what is running stays.
            let checked = policy::parse(&document).ok()?;
            if *checked.policy.id() != policy_id {
                return None;
            }
            Some(Arc::new(document))
        }
    };
    Some(Entry::Policy(PolicyEntry {
        tenant_id,
        policy_id,
        revision: Revision { created, revision: stored.revision },
        document,
        actor: stored.actor.clone(),
        reason: stored.reason.clone(),
        authenticated: stored.authenticated.clone(),
    }))
}

pub(super) fn policy_unseen(worker: &Worker, entry: &Entry<'_>) -> bool {
    let Entry::Policy(entry) = entry else { return false };
    let fold = worker.ledger.fold();
    let known = fold.register().get(&entry.tenant_id, &entry.policy_id);
    match known {
        Some(known) => entry.revision > known.seen && (entry.document.is_some() || known.live.is_some()),
        // The delete of what was never put.
        None => entry.document.is_some(),
    }
}

/// The policy that a key is of.
pub(in crate::nats) fn policy_of(key: &str) -> Option<(TenantId, PolicyId)> {
    let (tenant_id, policy_id) = subjects::decode_key(key)?;
    Some((TenantId::try_new(tenant_id).ok()?, PolicyId::try_new(policy_id).ok()?))
}

/// The switch that a key is of.
pub(in crate::nats) fn scope_of(key: &str) -> Option<Scope> {
    let scope = match key.strip_prefix("tenant.") {
        Some(token) => {
            Scope::Tenant { tenant_id: TenantId::try_new(subjects::decode_key_token(token)?).ok()? }
        }
        None => Scope::Global,
    };
    (flag_key(&scope) == key).then_some(scope)
}

/// What stands in the bucket of switches under a key: `{"circuit_breaker_enabled": false}`.
pub(super) fn flag_entry(key: &str, stored: &Stored, created: i64) -> Option<Entry<'static>> {
    let scope = scope_of(key)?;
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
        latest: None,
        actor: stored.actor.clone(),
        reason: stored.reason.clone(),
        authenticated: stored.authenticated.clone(),
    }))
}

pub(super) fn flag_unseen(worker: &Worker, entry: &Entry<'_>) -> bool {
    let Entry::Flag(entry) = entry else { return false };
    worker.ledger.fold().flags().get(&entry.scope).is_none_or(|known| entry.revision > known.revision)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn only_a_delete_is_the_mark_of_a_bucket_that_is_not_put_right_yet() {
        let delete = Stored {
            revision: 9,
            value: None,
            purged: false,
            at: String::new(),
            stamp: Stamp(1),
            actor: None,
            reason: None,
            authenticated: None,
            malformed: None,
        };
        assert!(is_mark(&delete));
        assert!(!is_mark(&Stored { purged: true, ..delete.clone() }), "taken away");
        let ack = Bytes::from_static(br#"{"stream":"KV_BEAMLINE_POLICIES","seq":9}"#);
        assert!(!is_mark(&Stored { value: Some(ack), ..delete.clone() }));
        let malformed = Some(beamline_nats::Headers::parse(b"no headers").unwrap_err());
        assert!(!is_mark(&Stored { malformed, ..delete }));
    }
}
