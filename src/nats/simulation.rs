//! The programs around the router, for those who play them: a client that asks, an executor that
//! reports, a listener to events. The side of the wire that
//! the demo and the load scenarios have, as the contract gives it to any client.
//!
//! A request that is never answered leaves an entry in the client library (nats.rs#1617): fit for a
//! program that ends.

use std::time::Duration;

use async_nats::jetstream::context::Context;
use async_nats::jetstream::message::PublishMessage;
use async_nats::{Client, RequestErrorKind, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::Value;

use super::connect::{ConnectFailed, connect_once};
use crate::config::{ClientSettings, Names};

/// One connection of a program beside the router. Clones share it.
#[derive(Clone, Debug)]
pub struct Simulation {
    client: Client,
    pub(super) jetstream: Context,
    pub(super) names: Names,
    timeout: Duration,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// No router listens.
    #[error("no router listens")]
    NoResponders,
    /// None answered in time.
    #[error("no answer in time")]
    TimedOut,
    /// What answered is no router, or the client library failed.
    #[error("{0}")]
    Failed(String),
}

/// The broker did not take a message or a subscription.
#[derive(Debug, thiserror::Error)]
#[error("{subject}: {reason}")]
pub struct NotTaken {
    /// The subject.
    pub subject: String,
    /// What the client library says.
    pub reason: String,
}

/// A message heard.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Its `Nats-Msg-Id`.
    pub id: Option<String>,
    /// Its JSON; null if it is none.
    pub body: Value,
}

/// A message heard, as it came.
#[derive(Clone, Debug)]
pub struct Raw {
    /// Where it was published.
    pub subject: String,
    /// Its bytes.
    pub body: Bytes,
}

/// What arrives on a subject.
#[derive(Debug)]
pub struct Inbox(Subscriber);

impl Inbox {
    /// The next message; none once the connection is closed.
    pub async fn next(&mut self) -> Option<Heard> {
        let message = self.0.next().await?;
        let id =
            message.headers.as_ref().and_then(|headers| headers.get(async_nats::header::NATS_MESSAGE_ID));
        Some(Heard {
            id: id.map(|id| id.as_str().to_owned()),
            body: serde_json::from_slice(&message.payload).unwrap_or(Value::Null),
        })
    }

    /// The next message as it came; none once the connection is closed.
    pub async fn next_raw(&mut self) -> Option<Raw> {
        let message = self.0.next().await?;
        Some(Raw { subject: message.subject.into_string(), body: message.payload })
    }
}

impl Simulation {
    /// Connects; the settings' timeout is also how long an answer is waited for.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connect(settings: &ClientSettings) -> Result<Self, ConnectFailed> {
        let client = connect_once(&settings.nats, settings.timeout, |_| {}).await?;
        let jetstream = async_nats::jetstream::new(client.clone());
        Ok(Self { client, jetstream, names: settings.names.clone(), timeout: settings.timeout })
    }

    /// Asks for a decision; the answer is the whole body, an error's too.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn decide(&self, request: &Value) -> Result<Value, Unanswered> {
        let answer = self.ask(request.to_string().into()).await?;
        serde_json::from_slice(&answer)
            .map_err(|error| Unanswered::Failed(format!("the answer is not JSON: {error}")))
    }

    /// Asks for a decision with these bytes; the answer is what came.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask(&self, request: Bytes) -> Result<Bytes, Unanswered> {
        let request = async_nats::Request::new().payload(request).timeout(Some(self.timeout));
        let answer = self.client.send_request(self.names.decide.clone(), request).await;
        answer.map(|message| message.payload).map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => Unanswered::NoResponders,
            RequestErrorKind::TimedOut => Unanswered::TimedOut,
            _ => Unanswered::Failed(error.to_string()),
        })
    }

    /// Asks for a decision and does not wait; the answer, if there is one, goes to `reply`.
    ///
    /// # Errors
    /// What the client library said instead.
    pub async fn ask_at(&self, reply: String, request: Bytes) -> Result<(), NotTaken> {
        let subject = &self.names.decide;
        let asked = self.client.publish_with_reply(subject.clone(), reply, request).await;
        asked.map_err(|error| not_taken(subject, &error))
    }

    /// Tells how a provider call of a tenant went, through JetStream: done when the broker has it.
    ///
    /// # Errors
    /// What the broker said instead.
    pub async fn report(&self, tenant: &str, assignment_id: &str, result: &Value) -> Result<(), NotTaken> {
        self.report_bytes(tenant, assignment_id, result.to_string().into()).await.map(|_| ())
    }

    /// The same with these bytes; gives the result's position in the log.
    ///
    /// # Errors
    /// What the broker said instead.
    pub async fn report_bytes(
        &self,
        tenant: &str,
        assignment_id: &str,
        result: Bytes,
    ) -> Result<u64, NotTaken> {
        let subject = &self.names.exec_result;
        // The stream knows copies by this id alone, whoever publishes them: tenants must not meet in one.
        let message_id = format!("{tenant}:{assignment_id}");
        let message = PublishMessage::build().payload(result).message_id(message_id);
        let publish = async { self.jetstream.send_publish(subject.clone(), message).await?.await };
        match tokio::time::timeout(self.timeout, publish).await {
            Ok(Ok(ack)) => Ok(ack.sequence),
            Ok(Err(error)) => Err(not_taken(subject, &error)),
            Err(elapsed) => Err(not_taken(subject, &elapsed)),
        }
    }

    /// Accepts an assignment.
    ///
    /// # Errors
    /// What the client library said instead.
    pub async fn acknowledge(&self, ack: &Value) -> Result<(), NotTaken> {
        self.acknowledge_bytes(ack.to_string().into()).await
    }

    /// The same with these bytes.
    ///
    /// # Errors
    /// What the client library said instead.
    pub async fn acknowledge_bytes(&self, ack: Bytes) -> Result<(), NotTaken> {
        let subject = &self.names.exec_ack;
        let publish = self.client.publish(subject.clone(), ack);
        publish.await.map_err(|error| not_taken(subject, &error))
    }

    /// Listens to a subject of the caller's choice.
    ///
    /// # Errors
    /// What the client library said instead.
    pub async fn listen(&self, subject: &str) -> Result<Inbox, NotTaken> {
        let inbox = self.client.subscribe(subject.to_owned()).await;
        inbox.map(Inbox).map_err(|error| not_taken(subject, &error))
    }

    /// Listens to assignments, as one executor of many.
    ///
    /// # Errors
    /// What the client library said instead.
    pub async fn assignments(&self) -> Result<Inbox, NotTaken> {
        let subject = &self.names.exec_assign;
        let inbox = self.client.queue_subscribe(subject.clone(), "executors".to_owned()).await;
        inbox.map(Inbox).map_err(|error| not_taken(subject, &error))
    }

    /// Listens to the transitions of all breakers. An event may come once from every worker; its id
    /// tells.
    ///
    /// # Errors
    /// What the client library said instead.
    pub async fn breaker_events(&self) -> Result<Inbox, NotTaken> {
        self.listen(&format!("{}breaker.>", self.names.events_prefix)).await
    }

    /// Done when the broker has all that was sent before, subscriptions too.
    ///
    /// # Errors
    /// What the client library said instead.
    pub async fn flush(&self) -> Result<(), NotTaken> {
        self.client.flush().await.map_err(|error| not_taken("flush", &error))
    }
}

pub(super) fn not_taken(subject: &str, error: &dyn std::error::Error) -> NotTaken {
    NotTaken { subject: subject.to_owned(), reason: error.to_string() }
}
