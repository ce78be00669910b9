use std::sync::Arc;

use serde_json::{Value, json};

use super::body::Body;
use super::reply::ControlError;
use super::{command, page};
use crate::breaker::State;
use crate::domain::{ErrorCode, Stamp, TenantId};
use crate::log::{Entry, ForceEntry, ForceTo};
use crate::nats::Worker;
use crate::policy;
use crate::state::Cell;

/// A year: a force that should last longer has no ttl.
const MAX_TTL_SECONDS: u64 = 31_536_000;

pub(super) fn list(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["tenant_id", "provider_id", "state", "limit", "cursor"])?;
    let provider = body.optional_provider_id()?;
    let state = match body.get::<String>("state", "closed, open or half_open")? {
        None => None,
        Some(text) => Some(
            State::ALL
                .into_iter()
                .find(|s| s.as_str() == text)
                .ok_or_else(|| ControlError::field("state", "must be closed, open or half_open"))?,
        ),
    };
    let tenants: Vec<TenantId> = match body.optional_tenant_id()? {
        Some(tenant) => vec![tenant],
        None => worker.state.tenants(),
    };
    let after = body.cursor()?;
    let now = worker.clock.stamp();
    let items = tenants
        .iter()
        .filter(|tenant| after.as_ref().is_none_or(|(t, _)| tenant.as_str() >= t.as_str()))
        .flat_map(|tenant| worker.state.breakers_of(tenant.as_str()))
        .filter(|cell| {
            after.as_ref().is_none_or(|(t, p)| {
                (cell.tenant_id.as_str(), cell.provider_id.as_str()) > (t.as_str(), p.as_str())
            })
        })
        .filter(|cell| provider.as_ref().is_none_or(|p| *p == cell.provider_id))
        .filter(|cell| state.is_none_or(|s| cell.lock().breaker.state() == s))
        .map(|cell| (format!("{}/{}", cell.tenant_id, cell.provider_id), describe(&cell, now)));
    let mut answer = page(worker, "breakers", body.limit()?, items);
    // Refusals are each worker's own: who adds them up needs to know whose these are.
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("worker".to_owned(), worker.settings.worker_name.as_str().into());
    }
    Ok(answer)
}

pub(super) fn get(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["tenant_id", "provider_id"])?;
    let (tenant_id, provider_id) = (body.tenant_id()?, body.provider_id()?);
    let cell = worker.state.breaker(tenant_id.as_str(), provider_id.as_str()).ok_or_else(not_found)?;
    Ok(json!({ "ok": true, "breaker": describe(&cell, worker.clock.stamp()) }))
}

pub(super) async fn force(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["tenant_id", "provider_id", "state", "ttl_seconds"])?;
    let to = match body.get::<String>("state", "open, closed or auto")?.as_deref() {
        Some("open") => ForceTo::Open,
        Some("closed") => ForceTo::Closed,
        Some("auto") => ForceTo::Auto,
        Some(_) => return Err(ControlError::field("state", "must be open, closed or auto")),
        None => return Err(ControlError::field("state", "is required")),
    };
    let ttl = body.get::<u64>("ttl_seconds", "a whole number from 1 to 31536000")?;
    if ttl.is_some_and(|s| !(1..=MAX_TTL_SECONDS).contains(&s)) {
        return Err(ControlError::field("ttl_seconds", "must be a whole number from 1 to 31536000"));
    }
    if ttl.is_some() && to == ForceTo::Auto {
        return Err(ControlError::field("ttl_seconds", "goes with open and closed only"));
    }
    act(worker, &body, Some(to), ttl.map(|s| s * 1_000)).await
}

pub(super) async fn reset(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["tenant_id", "provider_id"])?;
    act(worker, &body, None, None).await
}

/// Forces, or resets where `to` is absent.
async fn act(
    worker: &Arc<Worker>,
    body: &Body,
    to: Option<ForceTo>,
    ttl_ms: Option<u64>,
) -> Result<Value, ControlError> {
    let (tenant_id, provider_id) = (body.tenant_id()?, body.provider_id()?);
    if worker.state.breaker(tenant_id.as_str(), provider_id.as_str()).is_none() {
        return Err(not_found());
    }
    let by = body.by();
    let entry = ForceEntry {
        tenant_id: tenant_id.clone(),
        provider_id: provider_id.clone(),
        to,
        ttl_ms,
        latest: Some(body.latest(worker)),
        actor: by.actor.map(str::to_owned),
        reason: by.reason.map(str::to_owned),
        authenticated: by.authenticated.cloned(),
    };
    let entry = if to.is_some() { Entry::Force(entry) } else { Entry::Reset(entry) };
    let in_force = command(worker, &entry).await?;
    let cell = worker.state.breaker(tenant_id.as_str(), provider_id.as_str()).ok_or_else(not_found)?;
    let mut warnings = Vec::new();
    if !in_force {
        warnings.push("the command is durable but was not seen in the log within 5 s".to_owned());
    }
    let (forced, percent) = {
        let guarded = cell.lock();
        (guarded.breaker.is_forced(), guarded.breaker.settings().enforce_percent())
    };
    if to.is_none() && forced {
        warnings.push("the breaker is forced: a reset changes nothing until the force ends".to_owned());
    }
    if to == Some(ForceTo::Open) && percent < 100 {
        warnings.push(format!("enforce_percent is {percent}: only that share of requests is refused"));
    }
    Ok(json!({
        "ok": true,
        "breaker": describe(&cell, worker.clock.stamp()),
        "warnings": warnings,
        "in_force": in_force,
    }))
}

/// A breaker as the contract's table has it.
fn describe(cell: &Cell, now: Stamp) -> Value {
    let (view, settings, policy_id, step) = {
        let guarded = cell.lock();
        let settings = policy::breaker_block(guarded.breaker.settings());
        (guarded.breaker.view(now), settings, guarded.policy_id.clone(), guarded.step.clone())
    };
    let (fail_fast, would_reject, saved) = cell.refusals();
    json!({
        "tenant_id": cell.tenant_id,
        "provider_id": cell.provider_id,
        "policy_id": policy_id,
        "state": view.state.as_str(),
        "since": view.since.0,
        "failure_count": view.failures_in_a_row,
        "success_count": view.successes_in_a_row,
        "error_rate": view.window.error_rate().as_f64(),
        "window_requests": view.window.requests,
        "window_failures": view.window.failures,
        "window_slow": view.window.slow,
        "mean_latency_ms": view.window.mean_latency_ms(),
        "half_open_in_flight": view.half_open_in_flight,
        "timeout_remaining_ms": view.remaining_ms.unwrap_or(0),
        "trips": view.trips,
        "forced": view.forced.map(|(state, until)| json!({
            "state": state.as_str(), "until": until.map(|u| u.0)
        })),
        "flag_off": view.suspended,
        "last_transition": view.last_transition.map(|s| s.0),
        "fail_fast": fail_fast,
        "would_reject": would_reject,
        "requests_saved": saved,
        "rollout": step.as_deref(),
        "settings": settings,
    })
}

fn not_found() -> ControlError {
    ControlError::new(ErrorCode::NotFound, "no policy of this tenant names this provider")
}
