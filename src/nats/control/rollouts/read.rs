use std::sync::Arc;
use std::time::Duration;

use beamline_nats::jetstream::Select;
use serde_json::{Value, json};

use super::unknown;
use crate::domain::{ErrorCode, RolloutId};
use crate::nats::Worker;
use crate::nats::control::body::Body;
use crate::nats::control::page;
use crate::nats::control::reply::ControlError;
use crate::nats::ledger::stamp_of;
use crate::nats::rollouts::read_all;
use crate::nats::stored::{StreamReader, Unread};
use crate::rollout::controller::{Message, Outcome, Status};
use crate::rollout::pages::pages;
use crate::rollout::stream::Piece;
use crate::wire;

/// How long the broker may take over one page of a history.
const PATIENCE: Duration = Duration::from_secs(4);
/// The messages of a history. Evidence is not among them: there is some for each window.
const KINDS: [&str; 4] = ["plan", "command", "history", "decision"];

pub(in crate::nats::control) fn get(worker: &Arc<Worker>, body: &Body) -> Result<Value, ControlError> {
    body.only(&["rollout"])?;
    let rollout = body.rollout()?;
    let status = status_of(worker, &rollout)?;
    let plan = worker.rollouts.read(|controllers| controllers.plan(&rollout).cloned());
    Ok(json!({ "ok": true, "rollout": rollout, "seq": status.seq, "state": status.state, "plan": plan }))
}

pub(in crate::nats::control) fn list(worker: &Arc<Worker>, body: &Body) -> Result<Value, ControlError> {
    body.only(&["limit", "cursor"])?;
    let after: Option<String> = body.get("cursor", "a text")?;
    let all = worker.rollouts.statuses(worker.clock.stamp());
    let items = all
        .iter()
        .filter(|status| after.as_ref().is_none_or(|after| status.rollout.as_str() > after.as_str()))
        .map(|status| {
            let item = json!({
                "rollout": status.rollout,
                "seq": status.seq,
                "state": status.state,
                "phase": status.phase,
                "step": status.step,
                "percent": status.percent,
                "tenants": status.tenants.len(),
            });
            (status.rollout.to_string(), item)
        });
    Ok(page(worker, "rollouts", body.limit()?, items))
}

pub(in crate::nats::control) fn status(worker: &Arc<Worker>, body: &Body) -> Result<Value, ControlError> {
    body.only(&["rollout"])?;
    let mut answer = json!(status_of(worker, &body.rollout()?)?);
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("ok".to_owned(), Value::Bool(true));
    }
    Ok(answer)
}

pub(super) fn status_of(worker: &Worker, rollout: &RolloutId) -> Result<Status, ControlError> {
    let now = worker.clock.stamp();
    worker.rollouts.read(|controllers| controllers.status(rollout, now)).ok_or_else(|| unknown(rollout))
}

pub(in crate::nats::control) async fn history(
    worker: &Arc<Worker>,
    body: &Body,
) -> Result<Value, ControlError> {
    body.only(&["rollout", "limit", "cursor"])?;
    let rollout = body.rollout()?;
    if worker.rollouts.read(|controllers| controllers.plan(&rollout).is_none()) {
        return Err(unknown(&rollout));
    }
    let after = match body.get::<String>("cursor", "a text")? {
        None => 0,
        Some(text) => text
            .parse()
            .map_err(|_| ControlError::field("cursor", "must be the cursor of the page before"))?,
    };
    let limit = body.limit()?;
    let entries = worker.link.answers(PATIENCE, entries(worker, &rollout, after, limit)).await?;
    let entries = entries.map_err(|error| {
        ControlError::new(ErrorCode::Unavailable, format!("the stream of rollouts was not read: {error}"))
    })?;
    Ok(page(worker, "entries", limit, entries.into_iter().map(|(at, entry)| (at.to_string(), entry))))
}

/// What was put, commanded, counted and decided behind a place of the stream, in its order: one more than asked for,
/// where there are more.
async fn entries(
    worker: &Worker,
    rollout: &RolloutId,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, Value)>, Unread> {
    let names = &worker.settings.names;
    let messages = StreamReader::of(worker, &names.rollouts_stream);
    let mut entries = Vec::new();
    for kind in KINDS {
        let subject = format!("{}{rollout}.{kind}", names.rollout_prefix);
        let mut next = after.saturating_add(1);
        let mut found = 0;
        while found <= limit
            && let Some(stored) = messages.find(Select::NextOf(&subject, next)).await?
        {
            next = stored.sequence.saturating_add(1);
            let short = stored.subject.strip_prefix(names.rollout_prefix.as_str()).unwrap_or_default();
            let Some(Piece::Whole(message)) = wire::decode_rollout(short, &stored.payload) else { continue };
            found += 1;
            let stamp = stamp_of(&stored.time).unwrap_or_default();
            entries.push((stored.sequence, entry(worker, rollout, &message, stored.sequence, stamp.0)));
        }
    }
    entries.sort_by_key(|(place, _)| *place);
    entries.truncate(limit.saturating_add(1));
    Ok(entries)
}

/// The pages of one kind, made from the stream.
pub(in crate::nats::control) async fn report(
    worker: &Arc<Worker>,
    body: &Body,
) -> Result<Value, ControlError> {
    body.only(&["rollout", "kind", "day", "limit", "cursor"])?;
    let rollout = body.rollout()?;
    status_of(worker, &rollout)?;
    let wanted = match body.get::<String>("kind", "log, daily, weekly or tickets")?.as_deref() {
        Some("log") => "EXECUTION_LOG.md",
        Some("daily") => "daily/",
        Some("weekly") => "weekly/",
        Some("tickets") => "tickets/",
        _ => return Err(ControlError::field("kind", "must be log, daily, weekly or tickets")),
    };
    let day: Option<String> = body.get("day", "a date such as 2026-11-27")?;
    if day.is_some() && wanted != "daily/" {
        return Err(ControlError::field("day", "goes with the kind daily"));
    }
    let after: Option<String> = body.get("cursor", "a text")?;
    let reading = read_all(&worker.traffic, &worker.settings.names, &rollout);
    let recorded = worker
        .link
        .answers(PATIENCE, reading)
        .await?
        .map_err(|error| ControlError::new(ErrorCode::Unavailable, error.to_string()))?;
    let path = day.map(|day| format!("daily/{day}.md"));
    let pages = pages(recorded.made, &rollout, recorded.messages);
    let items = pages
        .into_iter()
        .filter(|(at, _)| at.starts_with(wanted) && path.as_ref().is_none_or(|path| path == at))
        .filter(|(at, _)| after.as_ref().is_none_or(|after| at > after))
        .map(|(path, text)| (path.clone(), json!({ "path": path, "text": text })));
    Ok(page(worker, "pages", body.limit()?, items))
}

fn entry(worker: &Worker, rollout: &RolloutId, message: &Message, position: u64, stamp: u64) -> Value {
    let mut entry = json!(message);
    let id = match message {
        Message::Plan(plan) => Some(&plan.id),
        Message::Command(command) => Some(&command.id),
        Message::History(_) | Message::Block(_) | Message::Decision(_) => None,
    };
    let verdict =
        id.and_then(|id| worker.rollouts.read(|controllers| controllers.verdict(rollout, id).cloned()));
    if let Some(fields) = entry.as_object_mut() {
        fields.insert("position".to_owned(), position.into());
        fields.insert("stamp".to_owned(), stamp.into());
        match verdict.map(|verdict| verdict.outcome) {
            Some(Outcome::Accepted) => fields.insert("effect".to_owned(), "accepted".into()),
            Some(Outcome::Conflict { .. }) => fields.insert("effect".to_owned(), "conflict".into()),
            Some(Outcome::Refused { text, .. }) => {
                fields.insert("refusal".to_owned(), text.into());
                fields.insert("effect".to_owned(), "refused".into())
            }
            None => None,
        };
        // Thousands of tenants: who wants them reads the stream.
        if let Message::History(history) = message {
            fields.insert("tenants".to_owned(), history.tenants.len().into());
        }
    }
    entry
}
