use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use crate::batch::Batch;

/// How many bytes may wait in one subscriber.
pub(crate) const MAX_WAITING_BYTES: usize = 128 << 20;

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
    /// A queue of so many messages, and its other end.
    pub(crate) fn new(capacity: usize) -> (Arc<Self>, mpsc::UnboundedReceiver<Option<Batch>>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (messages, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        (Arc::new(Self { sender, capacity, messages, bytes }), receiver)
    }

    /// These messages wait no more.
    pub(crate) fn taken(&self, batch: &Batch) {
        self.messages.fetch_sub(batch.len(), Ordering::Relaxed);
        self.bytes.fetch_sub(batch.bytes(), Ordering::Relaxed);
    }

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
