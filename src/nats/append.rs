//! Adding to the log.
//!
//! Commands of operators and ended assignments are appended with an acknowledgement: who waits for it
//! knows the entry's position. Claims and releases are not, since their place in the log is told by
//! the reader and a lost one only costs a slot's wait.

use std::time::Duration;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::{self, ErrorCode};

use beamline_nats::encode::Outgoing;

use super::Worker;
use crate::log::Entry;
use crate::telemetry::labels::Publish;
use crate::wire;

/// How long an acknowledged append may take.
const APPEND_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a message is tried again whose copy is on its way through the cluster, and how long after:
/// a quorum takes milliseconds, an election seconds.
const COPY_TRIES: usize = 200;
const COPY_WAIT: Duration = Duration::from_millis(10);

/// Between tries while the log has no leader.
const ELECTION_WAIT: Duration = Duration::from_millis(100);

/// Why an entry may not be in the log.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// It is of a kind that the router does not write, or cannot be written.
    #[error("not an entry of ours")]
    Kind,
    /// The broker did not acknowledge it in time, or refused it.
    #[error("the log did not take it: {0}")]
    Broker(String),
}

/// An entry that the log has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Where it stands; for a copy, where the first stands or stood.
    pub position: u64,
    /// Whether the stream knew its id already and dropped it.
    pub duplicate: bool,
}

impl Worker {
    /// Appends an entry and waits until the broker has it. `unique` names the
    /// entry, so that a second copy within the stream's window is dropped.
    ///
    /// # Errors
    /// [`AppendError`]. After [`AppendError::Broker`] the entry may be in the log all the same.
    pub async fn append(&self, entry: &Entry<'_>, unique: Option<&str>) -> Result<Appended, AppendError> {
        let (kind, body) = wire::encode_entry(entry).ok_or(AppendError::Kind)?;
        let subject = format!("{}{}", self.settings.names.log_prefix, kind.as_str());
        let mut message = PublishMessage::build().payload(body.into());
        if let Some(unique) = unique {
            message = message.message_id(unique);
        }
        let publish = async {
            loop {
                match self.publish(&subject, message.clone()).await {
                    // Nobody leads the stream just now, so nobody has taken it either.
                    Err(error) if error.kind() == PublishErrorKind::StreamNotFound => {
                        tokio::time::sleep(ELECTION_WAIT).await;
                    }
                    done => return done,
                }
            }
        };
        let result = match tokio::time::timeout(APPEND_TIMEOUT, publish).await {
            Ok(Ok(ack)) => Ok(Appended { position: ack.sequence, duplicate: ack.duplicate }),
            Ok(Err(error)) => Err(AppendError::Broker(error.to_string())),
            Err(_) => Err(AppendError::Broker("no acknowledgement in time".to_owned())),
        };
        if result.is_err() {
            self.metrics.nats_publish_failures.inc(Publish::Log);
        }
        result
    }

    /// Publishes to a stream and waits until it has the message. Where another worker's copy of the same
    /// id is just on its way through the cluster, tries again: the stream then knows whether it has it.
    pub(super) async fn publish(
        &self,
        subject: &str,
        message: PublishMessage,
    ) -> Result<PublishAck, PublishError> {
        let _publishing = self.publishing.read().await;
        let mut tries = 0;
        loop {
            let publish = self.jetstream.send_publish(subject.to_owned(), message.clone());
            let done = match publish.await {
                Ok(ack) => ack.await,
                Err(error) => Err(error),
            };
            match done {
                Err(error) if is_on_its_way(&error) && tries < COPY_TRIES => {
                    tries += 1;
                    tokio::time::sleep(COPY_WAIT).await;
                }
                done => return done,
            }
        }
    }

    /// Appends an entry without waiting. `false` if it could not even be queued, which happens while
    /// the broker is away.
    pub fn append_now(&self, entry: &Entry<'_>) -> bool {
        let Some((kind, body)) = wire::encode_entry(entry) else { return false };
        let subject = format!("{}{}", self.settings.names.log_prefix, kind.as_str());
        let message = Outgoing::new(&subject, &body);
        let queued = self.link.is_up() && self.traffic.publish(&message).is_ok();
        if !queued {
            self.metrics.nats_publish_failures.inc(Publish::Log);
        }
        queued
    }
}

/// Whether the broker says that a copy of the same id is being stored, and cannot say yet whether it will.
fn is_on_its_way(error: &PublishError) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<jetstream::Error>())
        .is_some_and(|error| error.error_code() == ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT)
}
