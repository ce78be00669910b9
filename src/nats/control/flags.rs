use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::body::Body;
use super::opened;
use super::reply::ControlError;
use super::settle::settle;
use crate::domain::{Stamp, TenantId};
use crate::log::{Entry, FlagEntry, Revision, Scope};
use crate::nats::Worker;
use crate::nats::buckets::{By, Holds, flag_key};
use crate::nats::reconcile;

pub(super) async fn set(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["scope", "tenant_id", "circuit_breaker_enabled", "expected_revision"])?;
    let scope = required_scope(&body)?;
    let enabled: bool = body
        .get("circuit_breaker_enabled", "true or false")?
        .ok_or_else(|| ControlError::field("circuit_breaker_enabled", "is required"))?;
    let bucket = opened(worker, Holds::Flags).await?;
    let key = flag_key(&scope);
    let value = Bytes::from(json!({ "circuit_breaker_enabled": enabled }).to_string());
    let revision = bucket
        .change(worker, &key, body.expected_revision()?, body.until(), body.by(), |_| {
            Ok::<_, ControlError>(Some(value.clone()))
        })
        .await?;
    let mut warnings = Vec::new();
    let revised = Revision { created: bucket.created(), revision };
    let set = Set { revision: revised, enabled, latest: Some(body.latest(worker)) };
    let in_force = enter(worker, &scope, set, body.by(), &mut warnings).await;
    Ok(json!({
        "ok": true,
        "revision": revision,
        "flags": [describe(&scope, enabled, revision)],
        "warnings": warnings,
        "in_force": in_force,
    }))
}

/// A revision of a switch.
pub(super) struct Set {
    pub(super) revision: Revision,
    pub(super) enabled: bool,
    /// The latest stamp at which it is valid.
    pub(super) latest: Option<Stamp>,
}

/// Enters a revision of the bucket in the log; whether it is in force.
pub(super) async fn enter(
    worker: &Worker,
    scope: &Scope,
    set: Set,
    by: By<'_>,
    warnings: &mut Vec<String>,
) -> bool {
    let Set { revision, enabled, latest } = set;
    let entry = Entry::Flag(FlagEntry {
        scope: scope.clone(),
        revision,
        circuit_breaker_enabled: enabled,
        latest,
        actor: by.actor.map(str::to_owned),
        reason: by.reason.map(str::to_owned),
        authenticated: by.authenticated.cloned(),
    });
    let unique = reconcile::unique(&flag_key(scope), revision.created, revision.revision);
    let appended = worker.append(&entry, Some(&unique)).await;
    settle(worker, appended, revision, |fold| Some(fold.flags().get(scope)?.revision), warnings).await
}

pub(super) fn get(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["scope", "tenant_id"])?;
    let wanted = optional_scope(&body)?;
    let fold = worker.ledger.fold();
    let told = |scope: &Scope| {
        let flag = fold.flags().get(scope);
        describe(scope, flag.is_none_or(|f| f.enabled), flag.map_or(0, |f| f.revision.revision))
    };
    let flags: Vec<Value> = match wanted {
        Some(scope) => vec![told(&scope)],
        None => {
            let others = fold.flags().iter().map(|(scope, _)| scope).filter(|s| **s != Scope::Global);
            std::iter::once(&Scope::Global).chain(others).map(told).collect()
        }
    };
    // This worker's own switch, from its environment.
    Ok(json!({ "ok": true, "flags": flags, "worker_enabled": worker.state.enforcing() }))
}

/// A switch as it is told. Revision 0: it was never set.
fn describe(scope: &Scope, enabled: bool, revision: u64) -> Value {
    match scope {
        Scope::Global => {
            json!({ "scope": "global", "circuit_breaker_enabled": enabled, "revision": revision })
        }
        Scope::Tenant { tenant_id } => json!({
            "scope": "tenant", "tenant_id": tenant_id, "circuit_breaker_enabled": enabled, "revision": revision
        }),
    }
}

fn required_scope(body: &Body) -> Result<Scope, ControlError> {
    optional_scope(body)?.ok_or_else(|| ControlError::field("scope", "must be global or tenant"))
}

fn optional_scope(body: &Body) -> Result<Option<Scope>, ControlError> {
    let tenant_id: Option<TenantId> = body.optional_tenant_id()?;
    match (body.get::<String>("scope", "global or tenant")?.as_deref(), tenant_id) {
        (Some("global"), None) => Ok(Some(Scope::Global)),
        (Some("global"), Some(_)) => {
            Err(ControlError::field("tenant_id", "does not go with the scope global"))
        }
        (Some("tenant") | None, Some(tenant_id)) => Ok(Some(Scope::Tenant { tenant_id })),
        (Some("tenant"), None) => Err(ControlError::field("tenant_id", "is required with the scope tenant")),
        (Some(_), _) => Err(ControlError::field("scope", "must be global or tenant")),
        (None, None) => Ok(None),
    }
}
