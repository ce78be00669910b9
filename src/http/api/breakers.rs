use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde_json::{Value, json};

use super::Api;
use super::act::{self, ACTOR};
use super::answer::{Fault, told};
use super::params::{Pair, Params, breaker_of};
use super::recent::SPAN_MS;
use crate::http::{Asked, Row, Transitions};
use crate::telemetry::labels::{Label as _, Verb};

/// Pages are this long unless asked otherwise, and never longer than [`MAX_LIMIT`].
const LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 1_000;
/// The transitions told of one breaker.
const HISTORY: usize = 100;
/// A week: what the events stream keeps.
const MAX_WITHIN_S: u64 = 604_800;

pub(super) async fn list(State(api): State<Api>, uri: Uri) -> Result<Response, Fault> {
    let params = Params::read(&uri, &["tenant_id", "provider_id", "state", "limit", "cursor"])?;
    let (tenant, provider, state) = (params.tenant_id()?, params.provider_id()?, params.state()?);
    let limit = usize::try_from(params.number("limit", LIMIT, 1..=MAX_LIMIT)?).unwrap_or(1);
    let after = params.cursor_of_pair()?;
    let now = api.desk.overview().now;
    let mut rows = rows(&api).await?.into_iter().filter(|row| {
        tenant.as_ref().is_none_or(|t| *t == row.tenant_id)
            && provider.as_ref().is_none_or(|p| *p == row.provider_id)
            && state.is_none_or(|s| s == row.state)
    });
    let total = rows.clone().count();
    let mut rest = rows.by_ref().skip_while(|row| after.is_some_and(|after| row.key() <= after));
    let page: Vec<Row> = rest.by_ref().take(limit).collect();
    let cursor = page.last().filter(|_| rest.next().is_some()).map(|row| {
        let (tenant, provider) = row.key();
        format!("{tenant}/{provider}")
    });
    let breakers: Vec<Value> = page.iter().map(|row| shown(row, now)).collect();
    let mut body = json!({ "now": now, "total": total, "breakers": breakers });
    if let (Some(cursor), Some(map)) = (cursor, body.as_object_mut()) {
        map.insert("cursor".to_owned(), cursor.into());
    }
    Ok(told(body))
}

/// A row with what follows from the time.
fn shown(row: &Row, now: u64) -> Value {
    let mut told = serde_json::to_value(row).unwrap_or_default();
    if let Some(map) = told.as_object_mut() {
        map.insert("timeout_remaining_ms".to_owned(), row.remaining_ms(now).into());
    }
    told
}

async fn rows(api: &Api) -> Result<Vec<Row>, Fault> {
    let turn = api.turn().await;
    let desk = Arc::clone(&api.desk);
    let rows = tokio::task::spawn_blocking(move || desk.breakers()).await;
    drop(turn);
    rows.map_err(|_| Fault::Unavailable("the breakers could not be read".to_owned()))
}

pub(super) async fn one(State(api): State<Api>, path: Pair) -> Result<Response, Fault> {
    let (tenant_id, provider_id) = breaker_of(path)?;
    let _turn = api.turn().await;
    let asked = json!({ "tenant_id": tenant_id, "provider_id": provider_id });
    let answer = api.desk.control(Verb::BreakerGet, asked).await?;
    let key = (tenant_id.as_str(), provider_id.as_str());
    let gone = || Fault::not_found("no policy of this tenant names this provider");
    let row = api.desk.breaker(key.0, key.1).ok_or_else(gone)?;
    let now = api.desk.overview().now;
    let mut breaker = shown(&row, now);
    if let (Some(map), Some(settings)) =
        (breaker.as_object_mut(), answer.get("breaker").and_then(|b| b.get("settings")))
    {
        map.insert("settings".to_owned(), settings.clone());
    }
    let buckets = api.desk.buckets(key.0, key.1).ok_or_else(gone)?;
    let asked =
        Asked { tenant_id: Some(tenant_id), provider_id: Some(provider_id), within_ms: None, limit: HISTORY };
    // What stands here is worth telling even where the broker does not answer.
    let (history, problem) = match api.desk.transitions(asked).await {
        Ok(history) => (history, None),
        Err(refusal) => (Transitions::default(), Some(refusal.message)),
    };
    Ok(told(json!({
        "now": now,
        "breaker": breaker,
        "buckets": buckets,
        "transitions": history.transitions,
        "transitions_complete": history.complete,
        "transitions_problem": problem,
    })))
}

pub(super) async fn transitions(State(api): State<Api>, uri: Uri) -> Result<Response, Fault> {
    let params = Params::read(&uri, &["tenant_id", "provider_id", "within_seconds", "limit"])?;
    let within = params.number("within_seconds", SPAN_MS / 1_000, 1..=MAX_WITHIN_S)?;
    let limit = params.number("limit", LIMIT, 1..=MAX_LIMIT)?;
    let asked = Asked {
        tenant_id: params.tenant_id()?,
        provider_id: params.provider_id()?,
        within_ms: Some(within * 1_000),
        limit: usize::try_from(limit).unwrap_or(1),
    };
    let _turn = api.turn().await;
    Ok(told(api.desk.transitions(asked).await?))
}

pub(super) async fn force(State(api): State<Api>, path: Pair, body: Bytes) -> Result<Response, Fault> {
    act(&api, Verb::BreakerForce, path, &body, &["state", "ttl_seconds", "reason"]).await
}

pub(super) async fn reset(State(api): State<Api>, path: Pair, body: Bytes) -> Result<Response, Fault> {
    act(&api, Verb::BreakerReset, path, &body, &["reason"]).await
}

/// Does what the control verb of the same name does.
async fn act(
    api: &Api,
    verb: Verb,
    path: Pair,
    body: &Bytes,
    known: &[&'static str],
) -> Result<Response, Fault> {
    let mut asked = act::asked(body, known)?;
    let (tenant_id, provider_id) = breaker_of(path)?;
    asked.insert("tenant_id".to_owned(), tenant_id.as_str().into());
    asked.insert("provider_id".to_owned(), provider_id.as_str().into());
    let (state, reason) = (act::text(&asked, "state"), act::text(&asked, "reason"));
    let answer = api.desk.control(verb, Value::Object(asked)).await?;
    tracing::info!(
        event = "console_action",
        verb = verb.text(),
        tenant_id = tenant_id.as_str(),
        provider_id = provider_id.as_str(),
        state,
        reason,
        actor = ACTOR,
    );
    let part = |name: &str| answer.get(name).cloned().unwrap_or_default();
    Ok(told(
        json!({ "in_force": part("in_force"), "warnings": part("warnings"), "state": part("breaker").get("state") }),
    ))
}
