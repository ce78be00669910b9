use std::sync::Arc;
use std::time::Duration;

use beamline_nats::jetstream::Select;
use serde_json::{Value, json};

use super::numbered::Numbered;
use super::{check_known, check_read, unknown};
use crate::domain::{ErrorCode, RolloutId};
use crate::log::At;
use crate::nats::Worker;
use crate::nats::control::body::Body;
use crate::nats::control::page;
use crate::nats::control::reply::ControlError;
use crate::nats::ledger::stamp_of;
use crate::nats::rollouts::read_all;
use crate::nats::stored::{StreamReader, Unread};
use crate::rollout::controller::{Decision, Message, Outcome, Status};
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
    check_read(worker)?;
    let all = worker.rollout_statuses();
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
    check_read(worker)?;
    worker.rollout_status(rollout).ok_or_else(|| unknown(rollout))
}

pub(in crate::nats::control) async fn history(
    worker: &Arc<Worker>,
    body: &Body,
) -> Result<Value, ControlError> {
    body.only(&["rollout", "limit", "cursor"])?;
    let rollout = body.rollout()?;
    check_known(worker, &rollout)?;
    let after = match body.get::<String>("cursor", "a text")? {
        None => Cursor::default(),
        Some(text) => Cursor::parse(&text)
            .ok_or_else(|| ControlError::field("cursor", "must be the cursor of the page before"))?,
    };
    let limit = body.limit()?;
    let entries = worker.link.answers(PATIENCE, entries(worker, &rollout, after, limit)).await?;
    let entries = entries.map_err(|error| {
        ControlError::new(ErrorCode::Unavailable, format!("the stream of rollouts was not read: {error}"))
    })?;
    Ok(page(worker, "entries", limit, entries.into_iter().map(|(at, entry)| (at.text(), entry))))
}

/// How far a history is listed.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    /// The place of the last entry.
    place: u64,
    /// The number of the last decision.
    decided: u64,
}

impl Cursor {
    fn parse(text: &str) -> Option<Self> {
        let (place, decided) = text.split_once('.')?;
        Some(Self { place: place.parse().ok()?, decided: decided.parse().ok()? })
    }

    fn text(self) -> String {
        format!("{}.{}", self.place, self.decided)
    }
}

/// What was put, commanded, counted and decided behind a place of the stream, in its order: one more than asked for,
/// where there are more.
async fn entries(
    worker: &Worker,
    rollout: &RolloutId,
    after: Cursor,
    limit: usize,
) -> Result<Vec<(Cursor, Value)>, Unread> {
    let names = &worker.settings.names;
    let messages = StreamReader::of(worker, &names.rollouts_stream);
    // First: what took effect stands in the stream.
    let in_effect = worker.rollouts.read(|controllers| controllers.decided(rollout)).unwrap_or(0);
    let mut found: Vec<(At, Message)> = Vec::new();
    for kind in KINDS {
        let subject = format!("{}{rollout}.{kind}", names.rollout_prefix);
        let mut next = after.place.saturating_add(1);
        let mut numbered = Numbered::after(after.decided);
        let before = found.len();
        let mut is_whole = false;
        while found.len().saturating_sub(before) <= limit {
            let Some(stored) = messages.find(Select::NextOf(&subject, next)).await? else {
                is_whole = true;
                break;
            };
            next = stored.sequence.saturating_add(1);
            let short = stored.subject.strip_prefix(names.rollout_prefix.as_str()).unwrap_or_default();
            let Some(Piece::Whole(message)) = wire::decode_rollout(short, &stored.payload) else { continue };
            let at = At { position: stored.sequence, stamp: stamp_of(&stored.time).unwrap_or_default() };
            found.extend(match *message {
                Message::Decision(decision) => numbered.take(at, decision).map(decided),
                message => Some((at, message)),
            });
        }
        // Until it took effect, or where not all were read, another record of its number may follow.
        found.extend(numbered.finish().filter(|(_, last)| is_whole && last.n <= in_effect).map(decided));
    }
    found.sort_by_key(|(at, _)| at.position);
    found.truncate(limit.saturating_add(1));
    let mut cursor = after;
    let listed = found.into_iter().map(|(at, message)| {
        cursor.place = at.position;
        if let Message::Decision(decision) = &message {
            cursor.decided = decision.n;
        }
        (cursor, entry(worker, rollout, &message, at))
    });
    Ok(listed.collect())
}

fn decided((at, decision): (At, Box<Decision>)) -> (At, Message) {
    (at, Message::Decision(decision))
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

fn entry(worker: &Worker, rollout: &RolloutId, message: &Message, at: At) -> Value {
    let mut entry = json!(message);
    let id = match message {
        Message::Plan(plan) => Some(&plan.id),
        Message::Command(command) => Some(&command.id),
        Message::History(_) | Message::Block(_) | Message::Decision(_) => None,
    };
    let verdict =
        id.and_then(|id| worker.rollouts.read(|controllers| controllers.verdict(rollout, id).cloned()));
    if let Some(fields) = entry.as_object_mut() {
        fields.insert("position".to_owned(), at.position.into());
        fields.insert("stamp".to_owned(), at.stamp.0.into());
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
