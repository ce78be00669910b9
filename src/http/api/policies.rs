use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde_json::{Value, json};

use super::Api;
use super::answer::{Fault, told, without_ok};
use super::diff::changes;
use super::params::{MAX_WHOLE, Pair, Params, policy_of};
use crate::telemetry::labels::Verb;

/// Pages are this long unless asked otherwise, and never longer than [`MAX_LIMIT`].
const LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 1_000;
/// The most revisions that the bucket keeps of a policy.
const REVISIONS: u64 = 64;

pub(super) async fn list(State(api): State<Api>, uri: Uri) -> Result<Response, Fault> {
    let params = Params::read(&uri, &["tenant_id", "limit", "cursor"])?;
    let limit = params.number("limit", LIMIT, 1..=MAX_LIMIT)?;
    params.cursor_of_pair()?;
    let asked = json!({ "tenant_id": params.tenant_id()?, "limit": limit, "cursor": params.text("cursor") });
    let _turn = api.turn().await;
    let answer = api.desk.control(Verb::PolicyList, asked).await?;
    Ok(told(without_ok(answer)))
}

pub(super) async fn one(State(api): State<Api>, path: Pair) -> Result<Response, Fault> {
    let (tenant_id, policy_id) = policy_of(path)?;
    let _turn = api.turn().await;
    let asked = json!({ "tenant_id": tenant_id, "policy_id": policy_id });
    let answer = api.desk.control(Verb::PolicyGet, asked).await?;
    Ok(told(without_ok(answer)))
}

pub(super) async fn revisions(State(api): State<Api>, path: Pair) -> Result<Response, Fault> {
    let _turn = api.turn().await;
    let mut revisions = history(&api, path).await?;
    revisions.reverse();
    Ok(told(json!({ "revisions": revisions })))
}

pub(super) async fn diff(State(api): State<Api>, path: Pair, uri: Uri) -> Result<Response, Fault> {
    let params = Params::read(&uri, &["from", "to"])?;
    let revision = |name: &'static str| match params.number(name, 0, 1..=MAX_WHOLE)? {
        0 => Err(Fault::Parameter(name, "is required: a revision".to_owned())),
        revision => Ok(revision),
    };
    let (from, to) = (revision("from")?, revision("to")?);
    let _turn = api.turn().await;
    let revisions = history(&api, path).await?;
    let document = |revision: u64| {
        let found = revisions.iter().find(|r| r.get("revision").and_then(Value::as_u64) == Some(revision));
        let found = found.ok_or_else(|| Fault::not_found("the policy has no such revision"))?;
        // A delete left nothing.
        Ok::<_, Fault>(found.get("policy").cloned().unwrap_or(Value::Null))
    };
    let changes = changes(&document(from)?, &document(to)?);
    Ok(told(json!({ "from": from, "to": to, "changes": changes })))
}

/// All revisions that are kept, oldest first.
async fn history(api: &Api, path: Pair) -> Result<Vec<Value>, Fault> {
    let (tenant_id, policy_id) = policy_of(path)?;
    let mut revisions = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let asked =
            json!({ "tenant_id": tenant_id, "policy_id": policy_id, "limit": REVISIONS, "cursor": cursor });
        let mut answer = api.desk.control(Verb::PolicyHistory, asked).await?;
        if let Some(Value::Array(page)) = answer.get_mut("revisions").map(Value::take) {
            revisions.extend(page);
        }
        match answer.get_mut("cursor").map(Value::take) {
            Some(next @ Value::String(_)) => cursor = next,
            _ => return Ok(revisions),
        }
    }
}
