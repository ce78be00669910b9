use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::body::Body;
use super::reply::ControlError;
use super::settle::settle;
use super::{ANSWER_PATIENCE, opened, page};
use crate::config::Names;
use crate::document::{Fault, read_text};
use crate::domain::{ErrorCode, PolicyId, TenantId, Tick};
use crate::ledger::{Fold, LaidOver, version_for};
use crate::log::{Entry, PolicyEntry, Revision};
use crate::nats::Worker;
use crate::nats::buckets::{Bucket, By, Holds, Stored, patience};
use crate::nats::reconcile;
use crate::policy::{self, Checked};
use crate::wire::subjects::encode_key;

/// A history is read a revision at a time, and has 64 of them at most.
const HISTORY_PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn put(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["tenant_id", "policy_id", "policy", "expected_revision"])?;
    let tenant_id = body.tenant_id()?;
    let text = body.raw("policy")?;
    let checked = policy::parse_text(text).map_err(|faults| ControlError::faults(&faults))?;
    if body.optional_policy_id()?.is_some_and(|id| id != *checked.policy.id()) {
        return Err(ControlError::field("policy_id", "differs from the document's"));
    }
    let document = Arc::new(read_text(text).map_err(|faults| ControlError::faults(&faults))?);
    let change = Change::of(worker, &tenant_id, checked.policy.id(), &body);
    change.write(body.expected_revision()?, |_| Ok((Arc::clone(&document), checked.clone()))).await
}

pub(super) async fn patch(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["tenant_id", "policy_id", "patch", "expected_revision"])?;
    let (tenant_id, policy_id) = (body.tenant_id()?, body.policy_id()?);
    let patch = read_text(body.raw("patch")?).map_err(|faults| ControlError::faults(&faults))?;
    if !patch.is_object() {
        return Err(ControlError::field("patch", "must be an object (RFC 7396)"));
    }
    let change = Change::of(worker, &tenant_id, &policy_id, &body);
    change
        .write(body.expected_revision()?, |present| {
            let mut document = present.ok_or_else(not_found)??;
            // A patch in the present form cannot be merged into the older one.
            if (document.get("weights").is_some() || document.get("fallback").is_some())
                && let Ok(checked) = policy::parse(&document)
            {
                document = checked.policy.effective();
            }
            policy::merge_patch(&mut document, &patch);
            let checked = policy::parse(&document).map_err(|faults| ControlError::faults(&faults))?;
            if *checked.policy.id() != policy_id {
                return Err(ControlError::field("patch", "must not change the policy's id"));
            }
            Ok((Arc::new(document), checked))
        })
        .await
}

pub(super) async fn rollback(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["tenant_id", "policy_id", "revision", "expected_revision"])?;
    let (tenant_id, policy_id) = (body.tenant_id()?, body.policy_id()?);
    let revision: u64 = body
        .get("revision", "a whole number")?
        .ok_or_else(|| ControlError::field("revision", "is required"))?;
    let bucket = open(worker).await?;
    let key = encode_key(tenant_id.as_str(), policy_id.as_str());
    let history = bucket.history(&key).await?;
    if history.is_empty() {
        return Err(not_found());
    }
    let old = history.iter().find(|s| s.revision == revision).and_then(document_of);
    let Some(document) = old.transpose()? else {
        return Err(ControlError::new(
            ErrorCode::NotFound,
            "the policy has no such revision with a document",
        ));
    };
    let checked = policy::parse(&document).map_err(|faults| ControlError::faults(&faults))?;
    let document = Arc::new(document);
    let change = Change::of(worker, &tenant_id, &policy_id, &body);
    change.write(body.expected_revision()?, |_| Ok((Arc::clone(&document), checked.clone()))).await
}

pub(super) async fn delete(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["tenant_id", "policy_id", "expected_revision"])?;
    let (tenant_id, policy_id) = (body.tenant_id()?, body.policy_id()?);
    let bucket = open(worker).await?;
    let key = encode_key(tenant_id.as_str(), policy_id.as_str());
    let expected = body.expected_revision()?;
    let revision = bucket
        .change(worker, &key, expected, body.until(), body.by(), |present| match present {
            None => Err(not_found()),
            Some(_) => Ok(None),
        })
        .await?;
    let change = Change::of(worker, &tenant_id, &policy_id, &body);
    let mut warnings = Vec::new();
    let in_force = change.enter(&bucket, &key, revision, None, &mut warnings).await;
    Ok(json!({ "ok": true, "revision": revision, "warnings": warnings, "in_force": in_force }))
}

pub(super) async fn get(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["tenant_id", "policy_id"])?;
    let (tenant_id, policy_id) = (body.tenant_id()?, body.policy_id()?);
    let key = encode_key(tenant_id.as_str(), policy_id.as_str());
    let bucket = open(worker).await?;
    let stored = worker.link.answers(ANSWER_PATIENCE, bucket.get(&key)).await??.ok_or_else(not_found)?;
    let document = document_of(&stored).ok_or_else(not_found)??;
    let over = worker.ledger.fold().overlays().over(&tenant_id, &policy_id);
    let effective = effective(&document, over.as_ref());
    Ok(json!({
        "ok": true,
        "tenant_id": tenant_id,
        "policy_id": policy_id,
        "revision": stored.revision,
        "policy": document,
        "effective": effective,
        "rollout": over.as_ref().map(|over| &over.step),
    }))
}

/// A document with every default filled in, under what a rollout lays over it.
fn effective(document: &Value, over: Option<&LaidOver>) -> Option<Value> {
    let checked = match over {
        None => policy::parse(document),
        Some(over) => policy::parse_under(document, &over.overlay()).map(|overlaid| overlaid.checked),
    };
    checked.ok().map(|checked| checked.policy.effective())
}

pub(super) fn list(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["tenant_id", "limit", "cursor"])?;
    let wanted = body.optional_tenant_id()?;
    let limit = body.limit()?;
    let after = match body.cursor()? {
        None => wanted.clone().map(|tenant_id| (tenant_id, PolicyId::least())),
        Some((tenant_id, policy_id)) => {
            let bad = |_| ControlError::field("cursor", "must be the cursor of the page before");
            Some((TenantId::try_new(tenant_id).map_err(bad)?, PolicyId::try_new(policy_id).map_err(bad)?))
        }
    };
    let fold = worker.ledger.fold();
    let items = fold
        .register()
        .after(after.as_ref())
        .take_while(|((tenant_id, _), _)| wanted.as_ref().is_none_or(|w| w == tenant_id))
        .filter_map(|((tenant_id, policy_id), record)| {
            let live = record.live.as_ref()?;
            let providers: Vec<_> = live.policy.candidates().iter().map(|c| c.provider.as_str()).collect();
            let item = json!({
                "tenant_id": tenant_id,
                "policy_id": policy_id,
                "revision": live.revision.revision,
                "version": live.policy.version(),
                "providers": providers,
                "circuit_breaker_enabled": live.policy.breaker().enabled(),
            });
            Some((format!("{tenant_id}/{policy_id}"), item))
        });
    Ok(page(worker, "policies", limit, items))
}

pub(super) async fn history(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["tenant_id", "policy_id", "limit", "cursor"])?;
    let (tenant_id, policy_id) = (body.tenant_id()?, body.policy_id()?);
    let limit = body.limit()?;
    let after = match body.cursor()? {
        None => 0,
        Some((_, revision)) => revision
            .parse()
            .map_err(|_| ControlError::field("cursor", "must be the cursor of the page before"))?,
    };
    let key = encode_key(tenant_id.as_str(), policy_id.as_str());
    let bucket = open(worker).await?;
    let history = worker.link.answers(HISTORY_PATIENCE, bucket.history(&key)).await??;
    if history.is_empty() {
        return Err(not_found());
    }
    let items = history.iter().filter(|s| s.revision > after).map(|stored| {
        let mut item = json!({
            "revision": stored.revision,
            "operation": if stored.value.is_some() { "put" } else { "delete" },
            "at": stored.at,
            "actor": stored.actor,
            "reason": stored.reason,
        });
        if let (Some(who), Some(map)) = (&stored.authenticated, item.as_object_mut()) {
            map.insert("authenticated".to_owned(), json!(who));
        }
        if let (Some(Ok(document)), Some(map)) = (document_of(stored), item.as_object_mut()) {
            map.insert("policy".to_owned(), document);
        }
        (format!("revision/{}", stored.revision), item)
    });
    Ok(page(worker, "revisions", limit, items))
}

pub(super) fn validate(worker: &Worker, body: Body) -> Result<Value, ControlError> {
    body.only(&["policy", "tenant_id"])?;
    let parsed = policy::parse_text(body.raw("policy")?)
        .and_then(|checked| check_subjects(&worker.settings.names, &checked).map(|()| checked));
    Ok(match parsed {
        Ok(checked) => {
            json!({ "ok": true, "faults": [], "warnings": checked.warnings, "effective": checked.policy.effective() })
        }
        Err(faults) => json!({ "ok": true, "faults": faults, "warnings": [] }),
    })
}

/// Puts a document if the bucket lacks the policy; `true` if it did. For `--policy-dir`.
pub async fn put_if_absent(
    worker: &Worker,
    tenant_id: &TenantId,
    document: Value,
) -> Result<bool, ControlError> {
    let checked = policy::parse(&document).map_err(|faults| ControlError::faults(&faults))?;
    let document = Arc::new(document);
    let actor = Some(worker.settings.worker_name.as_str());
    let by = By { actor, reason: Some("policy directory"), authenticated: None };
    let change = Change { worker, tenant_id, policy_id: checked.policy.id(), by, until: patience(worker) };
    match change.write(Some(0), |_| Ok((Arc::clone(&document), checked.clone()))).await {
        Ok(_) => Ok(true),
        Err(error) if error.code == ErrorCode::Conflict => Ok(false),
        Err(error) => {
            error.note(worker);
            Err(error)
        }
    }
}

/// Writes what a rollout lays over a policy into the policy's document.
pub(super) async fn graduate(
    worker: &Worker,
    tenant_id: &TenantId,
    policy_id: &PolicyId,
    over: &LaidOver,
    by: By<'_>,
) -> Result<(), ControlError> {
    let change = Change { worker, tenant_id, policy_id, by, until: patience(worker) };
    let make = |present: Option<Result<Value, ControlError>>| {
        let document = present.ok_or_else(not_found)??;
        let written = policy::written_into(&document, &over.overlay());
        let checked = policy::parse(&written).map_err(|faults| ControlError::faults(&faults))?;
        Ok((Arc::new(written), checked))
    };
    change.write(None, make).await.map(drop)
}

/// A change of one policy.
pub(super) struct Change<'c> {
    pub(super) worker: &'c Worker,
    pub(super) tenant_id: &'c TenantId,
    pub(super) policy_id: &'c PolicyId,
    pub(super) by: By<'c>,
    /// Until when it is tried.
    pub(super) until: Tick,
}

type Made = (Arc<Value>, Checked);

impl<'c> Change<'c> {
    /// The change that a request asks for.
    fn of(worker: &'c Worker, tenant_id: &'c TenantId, policy_id: &'c PolicyId, body: &'c Body) -> Self {
        Self { worker, tenant_id, policy_id, by: body.by(), until: body.until() }
    }

    /// Writes what `make` makes of the present document, enters it in the log and answers.
    async fn write(
        &self,
        expected: Option<u64>,
        make: impl Fn(Option<Result<Value, ControlError>>) -> Result<Made, ControlError>,
    ) -> Result<Value, ControlError> {
        let bucket = open(self.worker).await?;
        let key = encode_key(self.tenant_id.as_str(), self.policy_id.as_str());
        let mut made = None;
        let revision = bucket
            .change(self.worker, &key, expected, self.until, self.by, |present| {
                let (document, checked) = make(present.and_then(document_of))?;
                self.check(&document, &checked)?;
                let bytes = serde_json::to_vec(&*document).unwrap_or_default();
                made = Some((document, checked));
                Ok::<_, ControlError>(Some(Bytes::from(bytes)))
            })
            .await?;
        let Some((document, checked)) = made else {
            return Err(ControlError::new(ErrorCode::Internal, "internal error"));
        };
        let mut warnings = checked.warnings;
        for (provider, other) in self.worker.ledger.fold().register().rivals(self.tenant_id, &checked.policy)
        {
            warnings.push(format!(
                "policy {other} gives the breaker of {provider} other settings; those of this revision hold, being the newest"
            ));
        }
        let in_force = self.enter(&bucket, &key, revision, Some(Arc::clone(&document)), &mut warnings).await;
        // The revision may have taken its tenant out of a rollout.
        let over = self.worker.ledger.fold().overlays().over(self.tenant_id, self.policy_id);
        Ok(json!({
            "ok": true,
            "tenant_id": self.tenant_id,
            "policy_id": self.policy_id,
            "revision": revision,
            "effective": effective(&document, over.as_ref()),
            "warnings": warnings,
            "in_force": in_force,
        }))
    }

    /// Whether the fold takes the document, and this deployment's executors can be reached by it.
    fn check(&self, document: &Value, checked: &Checked) -> Result<(), ControlError> {
        let names = &self.worker.settings.names;
        check_subjects(names, checked).map_err(|faults| ControlError::faults(&faults))?;
        let (needed, holds) = (version_for(document), self.worker.ledger.fold_version());
        if needed <= holds {
            return Ok(());
        }
        let message = format!(
            "{} in policy {} of tenant {} needs version {needed} of the fold, and version {holds} holds until all \
             workers have the newer program",
            policy::ASSIGNMENT_SUBJECTS,
            self.policy_id,
            self.tenant_id
        );
        Err(ControlError::new(ErrorCode::Unavailable, message))
    }

    /// Enters a revision of the bucket in the log; whether it is in force.
    pub(super) async fn enter(
        &self,
        bucket: &Bucket,
        key: &str,
        revision: u64,
        document: Option<Arc<Value>>,
        warnings: &mut Vec<String>,
    ) -> bool {
        let created = bucket.created();
        let entry = Entry::Policy(PolicyEntry {
            tenant_id: self.tenant_id.clone(),
            policy_id: self.policy_id.clone(),
            revision: Revision { created, revision },
            document,
            actor: self.by.actor.map(str::to_owned),
            reason: self.by.reason.map(str::to_owned),
            authenticated: self.by.authenticated.cloned(),
        });
        let unique = reconcile::unique(key, created, revision);
        let appended = self.worker.append(&entry, Some(&unique)).await;
        let seen = |fold: &Fold| Some(fold.register().get(self.tenant_id, self.policy_id)?.seen);
        settle(self.worker, appended, Revision { created, revision }, seen, warnings).await
    }
}

/// Whether assignments may be sent to all subjects that a policy lists.
fn check_subjects(names: &Names, checked: &Checked) -> Result<(), Vec<Fault>> {
    let listed = checked.policy.assignment_subjects().iter().enumerate();
    let wrong = listed.filter(|(_, subject)| !names.is_assignable(subject)).map(|(place, _)| Fault {
        path: format!("/{}/{place}", policy::ASSIGNMENT_SUBJECTS),
        message: format!(
            "must lie under {}, and not at or below {}",
            names.exec_assign_prefix, names.exec_ack
        ),
    });
    let wrong: Vec<_> = wrong.collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

pub(super) async fn open(worker: &Worker) -> Result<Bucket, ControlError> {
    opened(worker, Holds::Policies).await
}

fn document_of(stored: &Stored) -> Option<Result<Value, ControlError>> {
    let value = stored.value.as_ref()?;
    Some(serde_json::from_slice(value).map_err(|_| {
        ControlError::new(ErrorCode::Internal, "the bucket holds something that is no JSON for this policy")
    }))
}

fn not_found() -> ControlError {
    ControlError::new(ErrorCode::PolicyNotFound, "the tenant has no such policy")
}
