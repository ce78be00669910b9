use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt as _;

use super::AskerFailed;
use crate::config::ClientSettings;
use crate::nats::connect::connect_once;

/// Messages and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// How many.
    pub messages: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

impl Volume {
    /// What came since.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        let messages = self.messages.saturating_sub(before.messages);
        Self { messages, bytes: self.bytes.saturating_sub(before.bytes) }
    }
}

/// Counts what is published under some subjects, copies that a stream drops included.
#[derive(Debug)]
pub struct Tap {
    counted: Vec<Arc<Counted>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counted {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Tap {
    /// Counts from now on, each subject by itself, until it is dropped.
    ///
    /// # Errors
    /// Why nothing can be counted.
    pub async fn open(settings: &ClientSettings, subjects: &[String]) -> Result<Self, AskerFailed> {
        let failed = |error: &dyn std::error::Error| AskerFailed::Client(error.to_string());
        let client = connect_once(&settings.nats, settings.timeout, |_| {}).await?;
        let mut tap = Self { counted: Vec::new(), tasks: Vec::new() };
        for subject in subjects {
            let mut messages = client.subscribe(subject.clone()).await.map_err(|error| failed(&error))?;
            let counted = Arc::new(Counted::default());
            tap.counted.push(Arc::clone(&counted));
            tap.tasks.push(tokio::spawn(async move {
                while let Some(message) = messages.next().await {
                    counted.messages.fetch_add(1, Ordering::Relaxed);
                    counted.bytes.fetch_add(message.payload.len() as u64, Ordering::Relaxed);
                }
            }));
        }
        client.flush().await.map_err(|error| failed(&error))?;
        Ok(tap)
    }

    /// What was counted so far, in the order of the subjects.
    #[must_use]
    pub fn volumes(&self) -> Vec<Volume> {
        let load = |counted: &Arc<Counted>| Volume {
            messages: counted.messages.load(Ordering::Relaxed),
            bytes: counted.bytes.load(Ordering::Relaxed),
        };
        self.counted.iter().map(load).collect()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
