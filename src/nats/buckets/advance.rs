//! Moving a bucket's revisions on, past those that the log has seen.
//!
//! A stream counts its messages, so revisions that were lost with a backup are passed by as many messages:
//! deletes of a key that nothing is stored under. They stand for moments: the bucket keeps 64 of a key, and
//! when all is put right a purge takes their place. Until then the last of them is a mark that there is
//! something left to put right, which other workers see, too.

use async_nats::HeaderMap;
use async_nats::jetstream::message::PublishMessage;
use futures_util::future::try_join_all;

use super::{Bucket, BucketError, DELETED, OPERATION, PURGED, REASON, ROLLUP, broker};
use crate::nats::Worker;

/// The key; no policy and no switch has such a one.
pub const ADVANCED: &str = "_advanced";
const WHY: &str = "the bucket went back behind revisions that the log has seen";
/// So many messages are on their way at once.
const AT_ONCE: u64 = 256;

impl Bucket {
    /// Moves the next revision past `past`, and leaves the mark.
    ///
    /// # Errors
    /// [`BucketError`]; worth another try, which goes on.
    pub async fn advance(&self, worker: &Worker, past: u64) -> Result<(), BucketError> {
        let mut last = self.last().await?.revision;
        loop {
            // At least one, which is the mark.
            let missing = past.saturating_sub(last).clamp(1, AT_ONCE);
            let sent = (0..missing).map(|_| self.mark(worker, DELETED));
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
        self.mark(worker, PURGED).await.map(drop)
    }

    async fn mark(&self, worker: &Worker, operation: &str) -> Result<u64, BucketError> {
        let mut headers = HeaderMap::new();
        headers.insert(OPERATION, operation);
        headers.insert(REASON, WHY);
        if operation == PURGED {
            headers.insert(ROLLUP.0, ROLLUP.1);
        }
        let message = PublishMessage::build().headers(headers);
        worker.publish(&self.subject(ADVANCED), message).await.map(|ack| ack.sequence).map_err(broker)
    }
}
