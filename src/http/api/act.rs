//! What every action does before and after it is done: who may act, what the body may hold, and the answer.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use super::Api;
use super::answer::Fault;
use super::guard;

/// The body of an action, as it came.
pub(super) type Body = Result<Bytes, BytesRejection>;

/// Who acts, for the history: there is no login, so nobody else is known.
pub(super) const ACTOR: &str = "console";

/// What an action asks for: an object with no other fields than `known`, and the actor. Refused where actions are
/// off, where the request comes from elsewhere than this worker's own page, and while the worker is not ready.
pub(super) fn asked(
    api: &Api,
    headers: &HeaderMap,
    body: Body,
    known: &[&str],
) -> Result<Map<String, Value>, Fault> {
    guard::may_act(&api.access, headers)?;
    let wrong = |problem: &str| Fault::Parameter("body", problem.to_owned());
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Fault::TooLong,
        _ => wrong("did not come"),
    })?;
    let mut asked: Map<String, Value> =
        serde_json::from_slice(&body).map_err(|_| wrong("must be a JSON object"))?;
    if !asked.keys().all(|field| known.contains(&field.as_str())) {
        return Err(wrong(&format!("may have only {}", known.join(", "))));
    }
    if let Some(lacking) = api.desk.not_ready().first() {
        return Err(Fault::Unavailable(format!("this worker is not ready: {lacking}")));
    }
    asked.insert("actor".to_owned(), ACTOR.into());
    Ok(asked)
}

/// A text of what is asked for, for the log.
pub(super) fn text(asked: &Map<String, Value>, field: &str) -> Option<String> {
    asked.get(field).and_then(Value::as_str).map(str::to_owned)
}
