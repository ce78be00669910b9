//! `rollout recommend`: which breaker settings suit a tenant, by what the log holds of its calls.
//!
//! The policy comes from the router, the entries from the log itself: see [`crate::nats::log_reader`] for the rights
//! that this needs. What is compared and how is [`crate::rollout::recommend`]'s; [`shown`] says how it looks.

mod reading;
mod shown;

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::exit::{Exit, Failure};
use super::shell::{Body, Session};
use crate::clock::Clock;
use crate::config::parse_duration;
use crate::domain::{PolicyId, TenantId};
use crate::nats::control_client::ControlError;
use crate::nats::log_reader::LogReader;
use crate::policy::{self, Policy};
use crate::rollout::recommend::{Calls, recommend};
use reading::Reading;

/// The newest entries of the log that are read: some gigabytes.
const MOST_ENTRIES: u64 = 20_000_000;
/// The newest calls of the tenant that are replayed, and as many of other tenants: a minute or two for the whole grid.
const MOST_CALLS: usize = 500_000;

/// The command line of `rollout recommend`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  beamline-router rollout recommend --tenant acme
  beamline-router rollout recommend --tenant acme --policy canary --since 14d --json

Reads the log itself: docs/rollout-recommend.md says which rights that needs, and what the figures mean.")]
pub(super) struct RecommendArgs {
    /// The tenant
    #[arg(long, value_name = "ID", value_parser = tenant)]
    tenant: TenantId,
    /// Its policy, whose providers are looked at
    #[arg(long, value_name = "ID", default_value = "default", value_parser = policy_id)]
    policy: PolicyId,
    /// How far back the log is read
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = parse_duration)]
    since: Duration,
}

fn tenant(text: &str) -> Result<TenantId, String> {
    TenantId::try_new(text).map_err(|error| error.to_string())
}

fn policy_id(text: &str) -> Result<PolicyId, String> {
    PolicyId::try_new(text).map_err(|error| error.to_string())
}

impl RecommendArgs {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let (policy, share) = self.policy(session).await?;
        let providers = policy.candidates().iter().map(|candidate| candidate.provider.as_str());
        let calls = Calls::new(self.tenant.as_str(), providers, policy.breaker().clone(), share, MOST_CALLS);
        let reader = LogReader::connect(session.settings()).await.map_err(ControlError::Connect)?;
        let since = u64::try_from(self.since.as_millis()).unwrap_or(u64::MAX);
        let mut reading = Reading::new(self.tenant, self.policy, calls);
        let read = reader
            .read(Clock::start().stamp().minus(since), MOST_ENTRIES, |entry, at| reading.take(entry, at));
        if let Err(error) = read.await {
            session.out.error(&format!("the log was not read: {error}"));
            return Err(Failure::Told(Exit::Unreachable));
        }
        let calls = reading.finish();
        // It computes for a while; what this thread serves besides must go on.
        let found = tokio::task::spawn_blocking(move || recommend(&calls)).await.map_err(|error| {
            session.out.error(&format!("the replay failed: {error}"));
            Failure::Told(Exit::Refused)
        })?;
        session.out.body(&shown::body(&found));
        shown::tell(session.out, &found);
        Ok(())
    }

    /// The policy as it is in force, and the share that a rollout lays over it.
    async fn policy(&self, session: &Session) -> Result<(Policy, u8), Failure> {
        let body = Body::new()
            .with("tenant_id", Some(self.tenant.as_str()))
            .with("policy_id", Some(self.policy.as_str()));
        let answer = session.ask("policy.get", body).await?;
        let percent = answer.pointer("/rollout/percent").and_then(Value::as_u64).unwrap_or(0);
        let effective = answer.get("effective").unwrap_or(&Value::Null);
        match policy::parse(effective) {
            Ok(checked) => Ok((checked.policy, u8::try_from(percent).unwrap_or(0))),
            Err(_) => {
                session.out.error("the policy that is stored is not valid");
                Err(Failure::Told(Exit::Refused))
            }
        }
    }
}
