//! Receiving messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use crate::batch::{Batch, Message};
use crate::client::Shared;
use crate::error::PublishError;

/// How many bytes may wait in one subscriber.
pub const MAX_WAITING_BYTES: usize = 128 << 20;

/// The way into a subscriber. It holds what waits within its bounds, so its channel needs none.
#[derive(Debug)]
pub(crate) struct Queue {
    /// `None` ends the stream.
    sender: mpsc::UnboundedSender<Option<Batch>>,
    capacity: usize,
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

impl Queue {
    /// Adds messages. Gives how many had no room: all of them, or none.
    pub(crate) fn offer(&self, batch: Batch) -> usize {
        let (messages, bytes) = (batch.len(), batch.bytes());
        let waiting = self.messages.load(Ordering::Relaxed);
        let waiting_bytes = self.bytes.load(Ordering::Relaxed);
        if waiting > 0 && (waiting + messages > self.capacity || waiting_bytes + bytes > MAX_WAITING_BYTES) {
            return messages;
        }
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // Without a receiver nobody misses it.
        let _ = self.sender.send(Some(batch));
        0
    }

    /// Ends the stream behind what waits.
    pub(crate) fn end(&self) {
        let _ = self.sender.send(None);
    }
}

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
        let (sender, receiver) = mpsc::unbounded_channel();
        let (messages, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let queue = Arc::new(Queue { sender, capacity, messages, bytes });
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
            Some(batch) => {
                self.queue.messages.fetch_sub(batch.len(), Ordering::Relaxed);
                self.queue.bytes.fetch_sub(batch.bytes(), Ordering::Relaxed);
            }
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
