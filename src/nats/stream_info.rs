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
    pub(super) config: StreamConfig,
    /// Not there where a server is none of a cluster.
    #[serde(default)]
    cluster: Option<Cluster>,
}

/// The servers that hold a stream, as the one that answers sees them.
#[derive(Debug, Default, Deserialize)]
struct Cluster {
    #[serde(default)]
    leader: String,
    /// All but the leader, or all where nobody leads.
    #[serde(default)]
    replicas: Vec<Replica>,
}

#[derive(Debug, Deserialize)]
struct Replica {
    #[serde(default)]
    current: bool,
    #[serde(default)]
    offline: bool,
    /// Nanoseconds since it was last heard; 0 if never.
    #[serde(default)]
    active: u64,
}

/// A leader that has not heard a replica for so many nanoseconds takes it for gone: nats-server's lost quorum interval.
const GONE_NANOS: u64 = 10_000_000_000;

impl Replica {
    fn is_present(&self) -> bool {
        // One that catches up is not current, and votes.
        !self.offline && (self.current || (1..GONE_NANOS).contains(&self.active))
    }
}

/// How many servers hold a stream, and how many of them are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replicas {
    /// Whether one of them leads.
    pub(super) leads: bool,
    /// The others; all where nobody leads.
    pub(super) others: usize,
    /// How many of the others are there.
    pub(super) present: usize,
}

impl Replicas {
    /// Whether there is more than one.
    pub(super) const fn are_several(self) -> bool {
        self.others > 0
    }

    /// Whether one leads and more than half of all are there.
    pub(super) const fn have_quorum(self) -> bool {
        self.leads && self.present + 1 > self.others.div_ceil(2)
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct StreamState {
    #[serde(default)]
    pub(super) messages: u64,
    #[serde(default)]
    pub(super) bytes: u64,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    /// Told where it was asked for.
    #[serde(default)]
    pub(super) deleted: Vec<u64>,
}

/// What bounds a stream; `None` is without bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) max_age: Option<Duration>,
    pub(super) max_bytes: Option<u64>,
    pub(super) max_messages: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct StreamConfig {
    #[serde(default)]
    pub(super) subjects: Vec<String>,
    /// In nanoseconds.
    #[serde(default)]
    pub(super) duplicate_window: u64,
    #[serde(default)]
    discard: String,
    #[serde(default)]
    max_bytes: i64,
    #[serde(default)]
    max_msgs: i64,
    /// In nanoseconds; 0 is for ever.
    #[serde(default)]
    max_age: u64,
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

    /// The servers that hold it.
    pub(super) fn replicas(&self) -> Replicas {
        let Some(Cluster { leader, replicas }) = &self.cluster else {
            return Replicas { leads: true, others: 0, present: 0 };
        };
        let present = replicas.iter().filter(|replica| replica.is_present()).count();
        Replicas { leads: !leader.is_empty(), others: replicas.len(), present }
    }

    /// What bounds it.
    pub(super) fn limits(&self) -> Limits {
        let StreamConfig { max_bytes, max_msgs, max_age, .. } = self.config;
        Limits {
            max_age: Some(max_age).filter(|age| *age > 0).map(Duration::from_nanos),
            max_bytes: u64::try_from(max_bytes).ok().filter(|bytes| *bytes > 0),
            max_messages: u64::try_from(max_msgs).ok().filter(|messages| *messages > 0),
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

    fn replicas(cluster: serde_json::Value) -> Replicas {
        let info = serde_json::json!({
            "created": "2026-01-01T00:00:00Z", "config": {}, "cluster": cluster,
            "state": {"first_seq": 1, "last_seq": 0}
        });
        serde_json::from_value::<StreamInfo>(info).unwrap().replicas()
    }

    #[test]
    fn a_quorum_is_a_leader_and_more_than_half() {
        use serde_json::json;
        let peer = |current: bool, offline: bool, active: u64| json!({"name": "n", "current": current, "offline": offline, "active": active});
        let quorum = |leader: &str, peers: &[serde_json::Value]| {
            let replicas = replicas(json!({"name": "c", "leader": leader, "replicas": peers}));
            (replicas.are_several(), replicas.have_quorum())
        };
        let (well, off) = (peer(true, false, 1_000), peer(true, true, 1_000));
        let (behind, silent) = (peer(false, false, 900_000_000), peer(false, false, 12_000_000_000));
        assert_eq!(replicas(serde_json::Value::Null), Replicas { leads: true, others: 0, present: 0 });
        assert_eq!(quorum("n1", &[]), (false, true), "one replica");
        assert_eq!(quorum("n1", &[well.clone(), silent.clone()]), (true, true));
        assert_eq!(quorum("n1", &[behind, off.clone()]), (true, true));
        assert_eq!(quorum("n1", &[silent, off.clone()]), (true, false), "isolated");
        assert_eq!(quorum("n1", &[peer(false, false, 0), off.clone()]), (true, false), "never heard");
        assert_eq!(quorum("", &[well.clone(), well.clone(), well.clone()]), (true, false), "nobody leads");
        let five = [well.clone(), well.clone(), off.clone(), off.clone()];
        assert_eq!(quorum("n1", &five), (true, true));
        assert_eq!(quorum("n1", &[well, off.clone(), off.clone(), off]), (true, false));
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
