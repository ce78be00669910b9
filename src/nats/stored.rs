//! Single messages of streams that others can write to, read over the connection that survives them.

use std::time::Duration;

use beamline_nats::jetstream::{GetError, Select, Stored};
use beamline_nats::{Client, RequestError};

use super::Worker;

/// How long the broker may take over one message.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a message was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    /// The broker gave no answer.
    #[error("{0}")]
    Request(#[from] RequestError),
    /// The broker's answer holds no message.
    #[error("{0}")]
    Answer(#[from] GetError),
}

/// JetStream's code of a stream that is not there.
const NO_STREAM: u64 = 10_059;

impl Unread {
    /// Whether the broker says that there is no such message. All else may be otherwise at the next try.
    pub(super) const fn is_absent(&self) -> bool {
        matches!(self, Self::Answer(GetError::NotFound | GetError::Refused { code: NO_STREAM, .. }))
    }
}

/// Reads messages of one stream, from its leader.
#[derive(Clone, Debug)]
pub(super) struct StreamReader {
    traffic: Client,
    subject: String,
}

impl StreamReader {
    pub(super) fn of(worker: &Worker, stream: &str) -> Self {
        Self::over(worker.traffic.clone(), stream)
    }

    /// Over a connection of a program beside the router.
    pub(super) fn over(traffic: Client, stream: &str) -> Self {
        Self { traffic, subject: format!("$JS.API.STREAM.MSG.GET.{stream}") }
    }

    /// A message; `None` if the stream holds none such.
    pub(super) async fn find(&self, select: Select<'_>) -> Result<Option<Stored>, Unread> {
        match self.get(select).await {
            Ok(stored) => Ok(Some(stored)),
            Err(Unread::Answer(GetError::NotFound)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A message that must be there.
    pub(super) async fn get(&self, select: Select<'_>) -> Result<Stored, Unread> {
        let answer = self.traffic.request(&self.subject, &[], &select.body(), PATIENCE).await?;
        Ok(Stored::parse(answer.payload())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_brokers_word_says_that_a_message_is_absent() {
        let refused = |code| Unread::Answer(GetError::Refused { code, description: String::new() });
        assert!(Unread::Answer(GetError::NotFound).is_absent());
        assert!(refused(NO_STREAM).is_absent());
        assert!(!refused(10_008).is_absent(), "JetStream is temporarily unavailable");
        assert!(!Unread::Answer(GetError::Unreadable(String::new())).is_absent());
        assert!(!Unread::Request(RequestError::NoResponders).is_absent());
    }
}
