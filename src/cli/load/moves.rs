use std::collections::HashSet;
use std::time::Duration;

use serde::Deserialize;

use super::failed::LoadFailed;
use super::ground::{SOON, Scene};
use crate::breaker::State;
use crate::nats::simulation::{Heard, Inbox};

/// A transition, as its event tells it. Times are the broker's, in milliseconds.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Move {
    pub(super) tenant_id: String,
    pub(super) provider_id: String,
    pub(super) from: State,
    pub(super) to: State,
    pub(super) reason: String,
    pub(super) failure_count: u64,
    /// The position of the entry that caused it.
    pub(super) position: u64,
    pub(super) timestamp: u64,
    #[serde(default)]
    pub(super) open_until: Option<u64>,
}

/// Hears transitions, each once, though every worker tells of each.
#[derive(Debug)]
pub(super) struct Moves {
    inbox: Inbox,
    known: HashSet<String>,
}

impl Moves {
    /// Hears from now on.
    pub(super) async fn hear(scene: &Scene) -> Result<Self, LoadFailed> {
        let inbox = scene.client.breaker_events().await?;
        scene.client.flush().await?;
        Ok(Self { inbox, known: HashSet::new() })
    }

    /// The next transition of a tenant's breaker; those of others are passed over.
    pub(super) async fn next(&mut self, tenant: &str) -> Result<Move, LoadFailed> {
        self.next_within(tenant, SOON).await
    }

    /// The same, where it takes some time.
    pub(super) async fn next_within(&mut self, tenant: &str, bound: Duration) -> Result<Move, LoadFailed> {
        let heard = async {
            loop {
                let Heard { id, body } = self.inbox.next().await?;
                let Ok(told) = serde_json::from_value::<Move>(body) else { continue };
                if self.known.insert(id.unwrap_or_default()) && told.tenant_id == tenant {
                    return Some(told);
                }
            }
        };
        match tokio::time::timeout(bound, heard).await {
            Ok(Some(told)) => Ok(told),
            _ => Err(LoadFailed::Awaited {
                what: format!("a breaker of {tenant} moves, and an event tells it"),
                seconds: bound.as_secs(),
            }),
        }
    }
}
