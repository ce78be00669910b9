//! Moving a bucket's revisions on, past those that the log has seen.
//!
//! A stream counts its messages, so revisions that were lost with a backup are passed by as many messages:
//! deletes of a key that nothing is stored under. They stand for moments: the bucket keeps 64 of a key, and
//! when all is put right a purge takes their place. Until then the last of them is a mark that there is
//! something left to put right, which other workers see, too. It states what the log had seen of the bucket
//! when a worker began to put it right: what the log sees later is partly what that worker wrote.

use async_nats::HeaderMap;
use async_nats::jetstream::message::PublishMessage;
use futures_util::future::try_join_all;

use beamline_nats::Headers;
use beamline_nats::jetstream::Select;

use super::{Bucket, BucketError, DELETED, OPERATION, PURGED, REASON, ROLLUP, broker};
use crate::domain::Stamp;
use crate::ledger::Newest;
use crate::log::Revision;
use crate::nats::Worker;

/// The key; no policy and no switch has such a one.
pub const ADVANCED: &str = "_advanced";
/// What the log had seen: the greatest revision, and when in milliseconds since the Unix epoch.
const SEEN: &str = "Beamline-Seen";
const WHY: &str = "the bucket went back behind revisions that the log has seen";
/// So many messages are on their way at once.
const AT_ONCE: u64 = 256;

impl Bucket {
    /// What the mark states that is there; `None` without one, or if it states nothing.
    ///
    /// # Errors
    /// [`BucketError::Broker`].
    pub async fn marked(&self) -> Result<Option<Newest>, BucketError> {
        let message = self.messages.find(Select::LastOf(&self.subject(ADVANCED))).await.map_err(broker)?;
        let stated = message.as_ref().and_then(|message| stated(&message.headers().ok()?));
        Ok(stated
            .map(|(revision, at)| Newest { revision: Revision { created: self.created(), revision }, at }))
    }

    /// Moves the next revision past `past`, and leaves the mark, which states `seen`.
    ///
    /// # Errors
    /// [`BucketError`]; worth another try, which goes on.
    pub async fn advance(&self, worker: &Worker, past: u64, seen: Newest) -> Result<(), BucketError> {
        let mut last = self.last().await?.revision;
        loop {
            // At least one, which is the mark.
            let missing = past.saturating_sub(last).clamp(1, AT_ONCE);
            let sent = (0..missing).map(|_| self.mark(worker, DELETED, Some(seen)));
            last = try_join_all(sent).await?.into_iter().max().unwrap_or(last);
            if last > past {
                return Ok(());
            }
        }
    }

    /// Takes the mark away.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn end_advance(&self, worker: &Worker) -> Result<(), BucketError> {
        self.mark(worker, PURGED, None).await.map(drop)
    }

    async fn mark(&self, worker: &Worker, operation: &str, seen: Option<Newest>) -> Result<u64, BucketError> {
        let mut headers = HeaderMap::new();
        headers.insert(OPERATION, operation);
        headers.insert(REASON, WHY);
        if let Some(seen) = seen {
            headers.insert(SEEN, state(seen).as_str());
        }
        if operation == PURGED {
            headers.insert(ROLLUP.0, ROLLUP.1);
        }
        let message = PublishMessage::build().headers(headers);
        worker.publish(&self.subject(ADVANCED), message).await.map(|ack| ack.sequence).map_err(broker)
    }
}

fn state(seen: Newest) -> String {
    format!("{} {}", seen.revision.revision, seen.at.0)
}

/// What the headers of a mark state; nothing once it is taken away.
fn stated(headers: &Headers<'_>) -> Option<(u64, Stamp)> {
    if headers.get(OPERATION) != Some(DELETED) {
        return None;
    }
    let (revision, at) = headers.get(SEEN)?.split_once(' ')?;
    Some((revision.parse().ok()?, Stamp(at.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_states_what_the_log_had_seen_until_it_is_taken_away() {
        let seen = Newest { revision: Revision { created: 7, revision: 25 }, at: Stamp(1_000) };
        let of = |operation: &str, seen: &str| {
            let text = format!("NATS/1.0\r\nKV-Operation: {operation}\r\nBeamline-Seen: {seen}\r\n\r\n");
            stated(&Headers::parse(text.as_bytes()).unwrap())
        };
        assert_eq!(of("DEL", &state(seen)), Some((25, Stamp(1_000))));
        assert_eq!(of("PURGE", &state(seen)), None);
        assert_eq!(of("DEL", "25"), None);
        let without = Headers::parse(b"NATS/1.0\r\nKV-Operation: DEL\r\n\r\n").unwrap();
        assert_eq!(stated(&without), None, "of an older version of the router");
    }
}
