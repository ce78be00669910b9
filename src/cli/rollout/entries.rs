//! `rollout entries`: what the log holds, as a file that `simulate` reads.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::exit::{Exit, Failure};
use crate::cli::shell::{Body, Session};
use crate::clock::Clock;
use crate::config::parse_duration;
use crate::domain::Stamp;
use crate::log::Entry;
use crate::nats::control_client::ControlError;
use crate::nats::log_reader::{LogReader, Unread};
use crate::rollout_simulation::written;

/// The newest entries of the log that are written: some gigabytes.
const MOST_ENTRIES: u64 = 20_000_000;

/// The command line of `entries`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Example:
  beamline-router rollout entries --since 14d > entries.jsonl

Reads the log itself: docs/rollout-recommend.md says which rights that needs.")]
pub(super) struct EntriesArgs {
    /// How far back the log is read
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = parse_duration)]
    since: Duration,
}

impl EntriesArgs {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let reader = LogReader::connect(session.settings()).await.map_err(ControlError::Connect)?;
        let from = Clock::start().stamp().minus(u64::try_from(self.since.as_millis()).unwrap_or(u64::MAX));
        let unread = |error: Unread| {
            session.out.error(&format!("the log was not read: {error}"));
            Failure::Told(Exit::Unreachable)
        };
        let (mut first, mut changed) = (None, BTreeSet::new());
        let read = reader.read(from, MOST_ENTRIES, |entry, at| {
            first.get_or_insert(at.stamp);
            if let Entry::Policy(entry) = entry {
                changed.insert((entry.tenant_id.to_string(), entry.policy_id.to_string()));
            }
        });
        read.await.map_err(unread)?;
        for line in unchanged_policies(session, first.unwrap_or(from), &changed).await? {
            session.out.text(&line);
        }
        let read = reader.read(from, MOST_ENTRIES, |entry, at| {
            if let Some(line) = written(entry, at.stamp) {
                session.out.text(&line);
            }
        });
        read.await.map_err(unread).map(drop)
    }
}

/// Policies in force that the entries do not put, as lines before them.
async fn unchanged_policies(
    session: &Session,
    at: Stamp,
    changed: &BTreeSet<(String, String)>,
) -> Result<Vec<Value>, Failure> {
    let (_, policies) = session.list("policy.list", Body::new(), "policies").await?;
    let mut lines = Vec::new();
    for policy in policies {
        let text = |field: &str| policy.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (tenant_id, policy_id) = (text("tenant_id"), text("policy_id"));
        if changed.contains(&(tenant_id.clone(), policy_id.clone())) {
            continue;
        }
        let body = Body::new().with("tenant_id", Some(tenant_id.as_str()));
        let answer = session.ask("policy.get", body.with("policy_id", Some(policy_id.as_str()))).await?;
        let document = answer.get("policy").unwrap_or(&Value::Null);
        // Older than each revision of the log.
        let entry = json!({
            "tenant_id": tenant_id, "policy_id": policy_id, "created": 0, "revision": 0, "document": document,
        });
        lines.push(json!({"at": at, "kind": "policy", "entry": entry}));
    }
    Ok(lines)
}
