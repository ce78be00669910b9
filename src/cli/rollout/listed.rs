//! How the other answers look: where a rollout stands, `list`, `history`. Steps and phases count from 1 for
//! people, and from 0 on the wire.

use std::num::NonZeroUsize;

use clap::Args;
use serde_json::Value;

use super::args::Which;
use crate::cli::exit::Failure;
use crate::cli::output::{Table, moment, shown};
use crate::cli::shell::Session;

/// What `history` takes.
#[derive(Args, Clone, Debug)]
pub(super) struct HistoryArgs {
    #[command(flatten)]
    which: Which,
    /// Show only the newest so many
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroUsize>,
}

impl HistoryArgs {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let (mut answer, mut entries) = session.list("rollout.history", self.which.body(), "entries").await?;
        if let Some(limit) = self.limit {
            entries.drain(..entries.len().saturating_sub(limit.get()));
            if let Some(fields) = answer.as_object_mut() {
                fields.insert("entries".to_owned(), Value::Array(entries.clone()));
            }
        }
        session.out.body(&answer);
        session.out.table(&history(&entries));
        Ok(())
    }
}

/// Where a rollout stands, in one line.
pub(super) fn standing(answer: &Value) -> String {
    let mut line = format!("{} is {}", shown(answer.get("rollout")), shown(answer.get("state")));
    if let Some(phase) = answer.get("phase").and_then(Value::as_str) {
        line.push_str(&format!(", phase {phase}"));
    }
    if let Some(percent) = answer.get("percent").and_then(Value::as_u64) {
        line.push_str(&format!(", at {percent} %"));
    }
    format!("{line}, seq {}", shown(answer.get("seq")))
}

pub(super) fn rollouts(rollouts: &[Value]) -> Table {
    let mut table = Table::new(&["ROLLOUT", "STATE", "PHASE", "STEP", "PERCENT", "TENANTS", "SEQ"]);
    for rollout in rollouts {
        let text = |field| shown(rollout.get(field));
        let step = rollout.get("step").and_then(from_one).unwrap_or_else(|| "-".to_owned());
        let row = [
            text("rollout"),
            text("state"),
            text("phase"),
            step,
            text("percent"),
            text("tenants"),
            text("seq"),
        ];
        table.row(row);
    }
    table
}

pub(super) fn history(entries: &[Value]) -> Table {
    let mut table = Table::new(&["POSITION", "AT", "WHAT", "EFFECT", "WHO", "WHY"]);
    for entry in entries {
        let at = entry.get("stamp").and_then(moment).unwrap_or_else(|| "-".to_owned());
        let text = |field| shown(entry.get(field));
        table.row([text("position"), at, what(entry), text("effect"), text("actor"), why(entry)]);
    }
    table
}

/// What an entry of the history is.
fn what(entry: &Value) -> String {
    let text = |field: &str| shown(entry.get(field));
    let phase = || entry.get("phase").and_then(from_one).unwrap_or_default();
    match entry.get("type").and_then(Value::as_str) {
        Some("plan") => "put".to_owned(),
        Some("command") => command(entry),
        Some("history") => {
            format!("history for phase {}: tenants {}", phase(), shown(entry.get("tenants")))
        }
        Some("decision") => format!("decision {}: {}", text("n"), decision(entry)),
        _ => text("type"),
    }
}

fn command(entry: &Value) -> String {
    let text = |field: &str| shown(entry.get(field));
    let ms = |field: &str| {
        entry.get(field).and_then(Value::as_u64).map_or_else(String::new, crate::document::written)
    };
    match entry.get("verb").and_then(Value::as_str) {
        Some("promote") => format!("promote over {}", text("override")),
        Some("extend") => format!("extend by {}", ms("by_ms")),
        Some("rollback") if entry.get("tenant").is_some_and(|tenant| !tenant.is_null()) => {
            format!("rollback of {}", text("tenant"))
        }
        Some("drill") => format!("drill of {}/{} for {}", text("tenant"), text("provider"), ms("for_ms")),
        Some("issue") => format!("issue {}: {}", text("change"), text("text")),
        _ => text("verb"),
    }
}

pub(super) fn decision(entry: &Value) -> String {
    let is = |field: &str| entry.get(field) == Some(&Value::Bool(true));
    let phase = || entry.get("phase").and_then(from_one).unwrap_or_default();
    match entry.get("kind").and_then(Value::as_str) {
        Some("step") => {
            let step = entry.get("rung").and_then(from_one).unwrap_or_default();
            format!("phase {}, step {step}", phase())
        }
        Some("await_approval") => format!("phase {} awaits approval", phase()),
        Some("promote") => format!("phase {} has passed", phase()),
        Some("final_bake") => format!("phase {} has passed, final bake", phase()),
        Some("pause") => {
            let by = if is("by_hand") { " by hand" } else { "" };
            let share = if is("to_zero") { ", nothing enforced" } else { "" };
            format!("pause{by}{share}")
        }
        Some("roll_back") => "roll back all".to_owned(),
        Some("tenant_back") => format!("roll back {}", shown(entry.get("tenants"))),
        Some("renew") => "the same step again".to_owned(),
        other => other.unwrap_or("-").to_owned(),
    }
}

/// What people said, or the words of the judge.
fn why(entry: &Value) -> String {
    match entry.get("reasons") {
        Some(Value::Array(reasons)) if !reasons.is_empty() => {
            reasons.iter().map(|reason| shown(Some(reason))).collect::<Vec<_>>().join("; ")
        }
        _ => shown(entry.get("reason")),
    }
}

fn from_one(index: &Value) -> Option<String> {
    index.as_u64().map(|index| index.saturating_add(1).to_string())
}
