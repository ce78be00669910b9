//! Rollouts: the verbs that read them, and the four actions of the console.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde_json::{Value, json};

use super::Api;
use super::act::{self, ACTOR};
use super::answer::{Fault, told, without_ok};
use super::params::{Params, Single, rollout_of};
use crate::domain::RolloutId;
use crate::telemetry::labels::{Label as _, Verb};

/// Pages are this long unless asked otherwise, and never longer than [`MAX_LIMIT`].
const LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 1_000;

pub(super) async fn list(State(api): State<Api>, uri: Uri) -> Result<Response, Fault> {
    let (params, asked) = page_of(&uri)?;
    params.cursor(|text| RolloutId::try_new(text).ok())?;
    read(&api, Verb::RolloutList, asked).await
}

pub(super) async fn one(State(api): State<Api>, path: Single) -> Result<Response, Fault> {
    read(&api, Verb::RolloutGet, json!({ "rollout": rollout_of(path)? })).await
}

pub(super) async fn status(State(api): State<Api>, path: Single) -> Result<Response, Fault> {
    read(&api, Verb::RolloutStatus, json!({ "rollout": rollout_of(path)? })).await
}

pub(super) async fn history(State(api): State<Api>, path: Single, uri: Uri) -> Result<Response, Fault> {
    let (params, mut asked) = page_of(&uri)?;
    params.cursor(place)?;
    if let Some(fields) = asked.as_object_mut() {
        fields.insert("rollout".to_owned(), rollout_of(path)?.as_str().into());
    }
    read(&api, Verb::RolloutHistory, asked).await
}

/// A position and the number of a decision. Nineteen digits hold what 64 bits do, nearly.
fn place(text: &str) -> Option<()> {
    let number = |text: &str| (1..=19).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let (position, decided) = text.split_once('.')?;
    (number(position) && number(decided)).then_some(())
}

fn page_of(uri: &Uri) -> Result<(Params, Value), Fault> {
    let params = Params::read(uri, &["limit", "cursor"])?;
    let limit = params.number("limit", LIMIT, 1..=MAX_LIMIT)?;
    let asked = json!({ "limit": limit, "cursor": params.text("cursor") });
    Ok((params, asked))
}

async fn read(api: &Api, verb: Verb, asked: Value) -> Result<Response, Fault> {
    let _turn = api.turn().await;
    Ok(told(without_ok(api.desk.control(verb, asked).await?)))
}

pub(super) async fn approve(State(api): State<Api>, path: Single, body: Bytes) -> Result<Response, Fault> {
    change(&api, Verb::RolloutApprove, path, &body, &["expected_seq", "reason"]).await
}

pub(super) async fn pause(State(api): State<Api>, path: Single, body: Bytes) -> Result<Response, Fault> {
    change(&api, Verb::RolloutPause, path, &body, &["expected_seq", "reason"]).await
}

pub(super) async fn resume(State(api): State<Api>, path: Single, body: Bytes) -> Result<Response, Fault> {
    change(&api, Verb::RolloutResume, path, &body, &["expected_seq", "reason"]).await
}

pub(super) async fn rollback(State(api): State<Api>, path: Single, body: Bytes) -> Result<Response, Fault> {
    let known = ["expected_seq", "reason", "tenant_id"];
    change(&api, Verb::RolloutRollback, path, &body, &known).await
}

/// Does what the control verb of the same name does.
async fn change(
    api: &Api,
    verb: Verb,
    path: Single,
    body: &Bytes,
    known: &[&'static str],
) -> Result<Response, Fault> {
    let mut asked = act::asked(body, known)?;
    let rollout = rollout_of(path)?;
    asked.insert("rollout".to_owned(), rollout.as_str().into());
    let (tenant_id, reason) = (act::text(&asked, "tenant_id"), act::text(&asked, "reason"));
    let answer = api.desk.control(verb, Value::Object(asked)).await?;
    tracing::info!(
        event = "console_action",
        verb = verb.text(),
        rollout = rollout.as_str(),
        tenant_id,
        reason,
        actor = ACTOR,
    );
    Ok(told(without_ok(answer)))
}
