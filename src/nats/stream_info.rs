//! What the broker tells of a stream, as far as this program looks at it.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::Context;
use async_nats::jetstream::response::Response;
use serde::{Deserialize, Serialize};

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(2);

/// A stream that refuses what exceeds its limit is full where less room is left than this many messages
/// of its mean size: it may take a short one and refuse the next.
const ROOM: u64 = 2;

/// A stream.
#[derive(Debug, Deserialize)]
pub(super) struct StreamInfo {
    /// When it was made, as the broker writes it.
    pub(super) created: String,
    /// How it stands.
    pub(super) state: StreamState,
    /// The broker's time.
    #[serde(default)]
    pub(super) ts: Option<String>,
    config: StreamConfig,
}

#[derive(Debug, Deserialize)]
pub(super) struct StreamState {
    #[serde(default)]
    messages: u64,
    #[serde(default)]
    bytes: u64,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    /// Told where it was asked for.
    #[serde(default)]
    pub(super) deleted: Vec<u64>,
}

#[derive(Debug, Deserialize)]
struct StreamConfig {
    #[serde(default)]
    discard: String,
    #[serde(default)]
    max_bytes: i64,
    #[serde(default)]
    max_msgs: i64,
}

/// Why a stream was not described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undescribed {
    /// There is no such stream.
    Missing,
    /// Nobody answered in time, or without saying how it is.
    Silent,
}

impl StreamInfo {
    /// Asks for it; `request` is empty (`()`) or asks for details.
    pub(super) async fn ask(
        jetstream: &Context,
        stream: &str,
        request: &(impl Serialize + Sync),
    ) -> Result<Self, Undescribed> {
        let answer = jetstream.request(format!("STREAM.INFO.{stream}"), request);
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(Response::Ok(info))) => Ok(info),
            Ok(Ok(Response::Err { error })) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                Err(Undescribed::Missing)
            }
            _ => Err(Undescribed::Silent),
        }
    }

    /// Why it refuses what comes, if it does. The router's own streams drop their oldest messages
    /// instead, until an operator sets them otherwise.
    pub(super) fn full(&self) -> Option<String> {
        if self.config.discard != "new" {
            return None;
        }
        let StreamState { messages, bytes, .. } = self.state;
        let mean = bytes / messages.max(1);
        match (u64::try_from(self.config.max_bytes), u64::try_from(self.config.max_msgs)) {
            (Ok(most), _) if bytes.saturating_add(ROOM * mean) > most => {
                Some(format!("{bytes} of {most} bytes, and it refuses new messages"))
            }
            (_, Ok(most)) if messages >= most => {
                Some(format!("{messages} of {most} messages, and it refuses new ones"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(discard: &str, max_bytes: i64, max_msgs: i64, messages: u64, bytes: u64) -> bool {
        let info = serde_json::json!({
            "created": "2026-01-01T00:00:00Z",
            "config": {"discard": discard, "max_bytes": max_bytes, "max_msgs": max_msgs},
            "state": {"messages": messages, "bytes": bytes, "first_seq": 1, "last_seq": messages}
        });
        serde_json::from_value::<StreamInfo>(info).unwrap().full().is_some()
    }

    #[test]
    fn a_stream_is_full_where_it_refuses_the_next_message() {
        assert!(!full("new", -1, -1, 1_000_000, 1 << 40), "no limit");
        assert!(!full("old", 1_000, 10, 10, 1_000), "the oldest go");
        assert!(full("new", 1_000, -1, 9, 900), "100 each, and no room for two");
        assert!(!full("new", 1_000, -1, 8, 800));
        assert!(full("new", -1, 10, 10, 100));
        assert!(!full("new", -1, 10, 9, 100));
        assert!(!full("new", 1_000, 10, 0, 0));
    }
}
