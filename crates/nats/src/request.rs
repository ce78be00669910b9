use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::batch::Message;
use crate::batch::MessageRef;
use crate::error::PublishError;

/// Requests that wait for their answers. Each has a token of its own at the end of its reply subject.
#[derive(Debug)]
pub(crate) struct Requests {
    /// What reply subjects begin with, a dot at the end.
    prefix: String,
    last: AtomicU64,
    subscribed: Mutex<bool>,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Message>>>,
}

/// One request. Dropped, it is forgotten.
pub(crate) struct Waiting<'r> {
    requests: &'r Requests,
    token: u64,
    answer: oneshot::Receiver<Message>,
}

impl Requests {
    pub(crate) fn new(prefix: String) -> Self {
        Self { prefix, last: AtomicU64::new(0), subscribed: Mutex::default(), waiting: Mutex::default() }
    }

    /// Subscribes to the answers by `subscribe`, unless that was done before.
    pub(crate) fn subscribe_once(
        &self,
        subscribe: impl FnOnce(&str) -> Result<(), PublishError>,
    ) -> Result<(), PublishError> {
        let mut subscribed = self.subscribed.lock().unwrap_or_else(PoisonError::into_inner);
        if !*subscribed {
            subscribe(&format!("{}*", self.prefix))?;
            *subscribed = true;
        }
        Ok(())
    }

    pub(crate) fn begin(&self) -> (String, Waiting<'_>) {
        let token = self.last.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting().insert(token, sender);
        (format!("{}{token}", self.prefix), Waiting { requests: self, token, answer })
    }

    /// Gives an answer to whoever waits for it.
    pub(crate) fn answer(&self, message: MessageRef<'_>) {
        let token = message.subject_bytes().strip_prefix(self.prefix.as_bytes());
        let token = token.and_then(|token| std::str::from_utf8(token).ok()?.parse().ok());
        if let Some(sender) = token.and_then(|token: u64| self.waiting().remove(&token)) {
            let _ = sender.send(message.to_message());
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Message>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting<'_> {
    pub(crate) async fn answer(&mut self) -> Option<Message> {
        (&mut self.answer).await.ok()
    }

    /// The answer, where it has come.
    pub(crate) fn answered(&mut self) -> Option<Message> {
        self.answer.try_recv().ok()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.requests.waiting().remove(&self.token);
    }
}
