//! Adding to the log.
//!
//! Commands of operators and ended assignments are appended with an acknowledgement: who waits for it
//! knows the entry's position. Claims and releases are not, since their place in the log is told by
//! the reader and a lost one only costs a slot's wait.

use std::time::Duration;

use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;

use beamline_nats::encode::Outgoing;

use super::Worker;
use super::refused::Refused;
use crate::log::Entry;
use crate::telemetry::labels::Publish;
use crate::wire;

/// How long an acknowledged append may take.
const APPEND_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a message is tried again that the stream cannot judge yet, and how long after: a quorum takes
/// milliseconds, an election seconds.
const UNJUDGED_TRIES: usize = 200;
const UNJUDGED_WAIT: Duration = Duration::from_millis(10);

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
                    Err(error) if Refused::of(&error) == Refused::NoLeader => {
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

    /// Publishes to a stream and waits until it has the message. Where the stream cannot judge yet, tries
    /// again: another worker's copy of the same id is on its way through the cluster, or the leader has just
    /// come.
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
                Err(error)
                    if matches!(Refused::of(&error), Refused::CopyInFlight | Refused::NotReady)
                        && tries < UNJUDGED_TRIES =>
                {
                    tries += 1;
                    tokio::time::sleep(UNJUDGED_WAIT).await;
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
