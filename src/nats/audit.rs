//! What the streams hold, for a program that compares it with its own counts.

use std::collections::BTreeMap;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;

use super::simulation::{NotTaken, Simulation, not_taken};

/// Messages that are fetched at once.
const BATCH: usize = 500;

/// How much a stream holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamCounts {
    /// All messages.
    pub messages: u64,
    /// The position of the last one.
    pub last: u64,
    /// Messages by subject.
    pub by_subject: BTreeMap<String, u64>,
}

impl StreamCounts {
    /// The messages of one subject.
    #[must_use]
    pub fn of(&self, subject: &str) -> u64 {
        self.by_subject.get(subject).copied().unwrap_or(0)
    }
}

impl Simulation {
    /// Counts the log.
    ///
    /// # Errors
    /// What the broker said instead.
    pub async fn log_counts(&self) -> Result<StreamCounts, NotTaken> {
        self.counts(&self.names.log_stream).await
    }

    /// Counts the stream of usage events.
    ///
    /// # Errors
    /// What the broker said instead.
    pub async fn usage_counts(&self) -> Result<StreamCounts, NotTaken> {
        self.counts(&self.names.usage_stream).await
    }

    async fn counts(&self, name: &str) -> Result<StreamCounts, NotTaken> {
        let failed = |error: &dyn std::error::Error| not_taken(name, error);
        let stream = self.jetstream.get_stream(name).await.map_err(|e| failed(&e))?;
        let mut subjects = stream.info_with_subjects(">").await.map_err(|e| failed(&e))?;
        let state = subjects.info.state.clone();
        let mut by_subject = BTreeMap::new();
        while let Some((subject, count)) = subjects.try_next().await.map_err(|e| failed(&e))? {
            by_subject.insert(subject, count as u64);
        }
        Ok(StreamCounts { messages: state.messages, last: state.last_sequence, by_subject })
    }

    /// The transitions of all breakers that the stream of events holds, each once, in order.
    ///
    /// # Errors
    /// What the broker said instead.
    pub async fn kept_transitions(&self) -> Result<Vec<Value>, NotTaken> {
        let subjects = format!("{}breaker.>", self.names.events_prefix);
        let kept = self.kept(&self.names.events_stream, subjects).await?;
        Ok(kept.into_iter().map(|(_, body)| body).collect())
    }

    /// The steps of all rollouts that the log holds, in order, each with its position.
    ///
    /// # Errors
    /// What the broker said instead.
    pub async fn kept_steps(&self) -> Result<Vec<(u64, Value)>, NotTaken> {
        self.kept(&self.names.log_stream, format!("{}step", self.names.log_prefix)).await
    }

    /// The messages of these subjects that a stream holds, each with its sequence.
    async fn kept(&self, name: &str, filter_subject: String) -> Result<Vec<(u64, Value)>, NotTaken> {
        let failed = |error: &dyn std::error::Error| not_taken(name, error);
        let stream = self.jetstream.get_stream(name).await.map_err(|e| failed(&e))?;
        let config = pull::Config { ack_policy: AckPolicy::None, filter_subject, ..pull::Config::default() };
        let consumer = stream.create_consumer(config).await.map_err(|e| failed(&e))?;
        let mut kept = Vec::new();
        loop {
            let mut batch = consumer.fetch().max_messages(BATCH).messages().await.map_err(|e| failed(&e))?;
            let before = kept.len();
            while let Some(message) = batch.next().await {
                let message = message.map_err(|error| not_taken(name, error.as_ref()))?;
                let sequence =
                    message.info().map_err(|error| not_taken(name, error.as_ref()))?.stream_sequence;
                kept.push((sequence, serde_json::from_slice(&message.payload).unwrap_or(Value::Null)));
            }
            if kept.len() == before {
                return Ok(kept);
            }
        }
    }
}
