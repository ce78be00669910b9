use std::time::Duration;

use beamline_nats::Client;
use beamline_nats::jetstream::Select;
use serde::Deserialize;

use crate::config::Names;
use crate::domain::{RolloutId, Stamp};
use crate::nats::ledger::{nanos_of, stamp_of};
use crate::nats::stored::{StreamReader, Unread};
use crate::rollout::controller::Message;
use crate::rollout::stream::Following;
use crate::wire;

/// How long the broker may take to describe the stream.
const PATIENCE: Duration = Duration::from_secs(5);

/// All that the stream holds of one rollout.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// When the stream was made, in nanoseconds since the Unix epoch.
    pub made: i64,
    /// The messages in order, each with its place and stamp. One that came in parts stands where the last part does.
    pub messages: Vec<(u64, Stamp, Message)>,
}

/// Why a rollout was not read.
#[derive(Debug, thiserror::Error)]
pub enum NotRead {
    /// A message could not be read.
    #[error("the stream of rollouts could not be read: {0}")]
    Message(String),
    /// There is no such stream, or this user may not read it.
    #[error("the stream {0} does not answer: is it there, and may this user read it?")]
    NoAnswer(String),
}

/// Reads all messages of a rollout, evidence included.
///
/// # Errors
/// [`NotRead`].
pub async fn read_all(traffic: &Client, names: &Names, rollout: &RolloutId) -> Result<Recorded, NotRead> {
    let made = made(traffic, &names.rollouts_stream)
        .await
        .ok_or_else(|| NotRead::NoAnswer(names.rollouts_stream.clone()))?;
    let stored = StreamReader::over(traffic.clone(), &names.rollouts_stream);
    let subject = format!("{}{rollout}.>", names.rollout_prefix);
    let unread = |error: Unread| NotRead::Message(error.to_string());
    let mut following = Following::new(made);
    let mut messages = Vec::new();
    let mut next = 1;
    while let Some(stored) = stored.find(Select::NextOf(&subject, next)).await.map_err(unread)? {
        next = stored.sequence.saturating_add(1);
        let short = stored.subject.strip_prefix(names.rollout_prefix.as_str()).unwrap_or_default();
        let piece = wire::decode_rollout(short, &stored.payload);
        let stamp = stamp_of(&stored.time).unwrap_or_default();
        if let Some((message, _)) = following.apply(stored.sequence, stamp, piece) {
            messages.push((stored.sequence, stamp, message));
        }
    }
    Ok(Recorded { made, messages })
}

/// When a stream was made.
async fn made(traffic: &Client, stream: &str) -> Option<i64> {
    #[derive(Deserialize)]
    struct Info {
        created: String,
    }
    let answer = traffic.request(&format!("$JS.API.STREAM.INFO.{stream}"), &[], b"", PATIENCE).await.ok()?;
    let info: Info = serde_json::from_slice(answer.payload()).ok()?;
    i64::try_from(nanos_of(&info.created)?).ok()
}
