//! Receiving messages.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::batch::{Batch, Message};
use crate::error::PublishError;
use crate::queue::Queue;
use crate::shared::Shared;

/// Messages of one or more subscriptions, in the order of the connection. Dropping it ends them.
#[derive(Debug)]
pub struct Subscriber {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    receiver: mpsc::UnboundedReceiver<Option<Batch>>,
    sids: Vec<u64>,
    /// Of a batch from which single messages are taken: those that are left.
    rest: std::vec::IntoIter<Message>,
    ended: bool,
}

impl Subscriber {
    pub(crate) fn new(shared: Arc<Shared>, capacity: usize) -> Self {
        let (queue, receiver) = Queue::new(capacity);
        Self { shared, queue, receiver, sids: Vec::new(), rest: Vec::new().into_iter(), ended: false }
    }

    /// Adds a subscription, as one of a queue group if one is named. Its id is on each of its messages.
    /// The broker has it when a [flush](crate::Client::flush) after it has ended.
    ///
    /// # Errors
    /// A subject or group that cannot be written, or a closed connection.
    pub fn subscribe(&mut self, subject: &str, queue_group: Option<&str>) -> Result<u64, PublishError> {
        let sid = self.shared.subscribe(subject, queue_group, &self.queue)?;
        self.sids.push(sid);
        Ok(sid)
    }

    /// The messages that came together; `None` once the stream has ended.
    pub async fn next_batch(&mut self) -> Option<Batch> {
        if self.ended {
            return None;
        }
        let received = self.receiver.recv().await.flatten();
        self.received(received)
    }

    /// The same without waiting: `None` too where nothing has come.
    pub fn try_next_batch(&mut self) -> Option<Batch> {
        let received = self.receiver.try_recv().ok()?;
        self.received(received)
    }

    fn received(&mut self, batch: Option<Batch>) -> Option<Batch> {
        match &batch {
            Some(batch) => self.queue.taken(batch),
            None => self.ended = true,
        }
        batch
    }

    /// The next message; `None` once the stream has ended.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.rest.next() {
                return Some(message);
            }
            self.rest = self.next_batch().await?.messages().collect::<Vec<_>>().into_iter();
        }
    }

    /// Whether the stream has ended.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Ends the subscriptions. The stream ends behind the last message that the broker had sent by then;
    /// without a connection, behind what waits here.
    pub fn drain(&mut self) {
        self.shared.drain(std::mem::take(&mut self.sids), &self.queue);
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.shared.unsubscribe(&self.sids);
    }
}
