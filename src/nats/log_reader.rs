//! Reading the log from the outside, as `rollout recommend` and `rollout doctor` do: all entries from some moment on,
//! once, in order.
//!
//! It reads by a consumer that exists for one reading, over the connection that survives whatever an executor writes
//! into a message; see [`super`]. The rights that it needs, for the log `BEAMLINE_LOG`, are to publish
//! `$JS.API.STREAM.INFO.BEAMLINE_LOG`, `$JS.API.CONSUMER.CREATE.BEAMLINE_LOG.>`,
//! `$JS.API.CONSUMER.MSG.NEXT.BEAMLINE_LOG.*` and `$JS.API.CONSUMER.DELETE.BEAMLINE_LOG.*`, and to subscribe to its inbox.

use std::time::Duration;

use beamline_nats::encode::Outgoing;
use beamline_nats::jetstream::{Delivery, next_subject};
use beamline_nats::{Client, Event, MessageRef, PublishError, RequestError, Subscriber};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;

use super::connect::{ConnectFailed, connect_traffic};
use super::ledger::read_entry_under;
use super::workers::{WorkerInfo, answering};
use crate::config::{ClientSettings, Names};
use crate::domain::Stamp;
use crate::log::{At, Entry, FoldVersion};

/// Entries asked for at a time.
const BATCH: u64 = 5_000;
/// How long the broker may take over them.
const BATCH_PATIENCE: Duration = Duration::from_secs(10);
/// A consumer whose reader died is gone after this.
const INACTIVE: Duration = Duration::from_secs(30);
/// The broker's code for a stream that does not exist.
const STREAM_NOT_FOUND: u64 = 10_059;

/// Why a stream was not read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// There is no such stream.
    #[error("there is no stream {0}")]
    Missing(String),
    /// The broker does not permit it.
    #[error("the broker does not permit it: {0}")]
    Denied(String),
    /// Nobody answered in time: without JetStream, or without the right to ask.
    #[error("no answer on {subject}")]
    Silent {
        /// Where it was asked.
        subject: String,
    },
    /// The broker refused it otherwise.
    #[error("the broker refuses: {0}")]
    Refused(String),
    /// Less came than the stream holds.
    #[error("the stream delivers less than it holds: {0}")]
    Cut(&'static str),
}

/// How a stream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// How many messages it holds.
    pub messages: u64,
    /// The first position that it holds.
    pub first: u64,
    /// The last position.
    pub last: u64,
    /// What it captures.
    subjects: Vec<String>,
}

/// A connection that reads streams.
#[derive(Debug)]
pub struct LogReader {
    client: Client,
    names: Names,
    patience: Duration,
    denied: watch::Receiver<Option<String>>,
}

impl LogReader {
    /// Connects.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connect(settings: &ClientSettings) -> Result<Self, ConnectFailed> {
        let (deny, denied) = watch::channel(None);
        let on_event = move |event| {
            if let Event::Denied(text) = event {
                deny.send_replace(Some(text));
            }
        };
        let client = connect_traffic(&settings.nats, settings.timeout, on_event).await?;
        Ok(Self { client, names: settings.names.clone(), patience: settings.timeout, denied })
    }

    /// The workers that answer discovery, by name.
    ///
    /// # Errors
    /// [`Unread::Cut`] without a connection. Without the right to ask nobody answers.
    pub async fn workers(&self) -> Result<Vec<WorkerInfo>, Unread> {
        answering(&self.client, &self.names).await.map_err(|_| Unread::Cut("there is no connection"))
    }

    /// How a stream stands.
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn stream(&self, name: &str) -> Result<Stream, Unread> {
        #[derive(Deserialize)]
        struct Info {
            config: Config,
            state: State,
        }
        #[derive(Deserialize)]
        struct Config {
            #[serde(default)]
            subjects: Vec<String>,
        }
        #[derive(Deserialize)]
        struct State {
            messages: u64,
            first_seq: u64,
            last_seq: u64,
        }
        let answer = self.ask(&format!("STREAM.INFO.{name}"), name, &Value::Null).await?;
        let Ok(Info { config, state }) = serde_json::from_value(answer) else {
            return Err(Unread::Refused("its answer cannot be read".to_owned()));
        };
        let State { messages, first_seq, last_seq } = state;
        Ok(Stream { messages, first: first_seq, last: last_seq, subjects: config.subjects })
    }

    /// Gives every entry of the log from a moment on to `take`, in order, up to the last one that was there when it
    /// began; of more than `most` entries the newest. Gives how many there were. Entries that cannot be read are
    /// [`Entry::Rejected`].
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn read(
        &self,
        from: Stamp,
        most: u64,
        mut take: impl FnMut(&Entry<'_>, At),
    ) -> Result<u64, Unread> {
        let stream = self.names.log_stream.as_str();
        let info = self.stream(stream).await?;
        let names = named_after(&self.names, &info.subjects);
        let nanos = i128::from(from.0).saturating_mul(1_000_000);
        let start = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
        let start = start.and_then(|start| start.format(&Rfc3339).ok()).unwrap_or_default();
        let by_time = json!({"deliver_policy": "by_start_time", "opt_start_time": start});
        let (mut consumer, mut pending) = self.consumer(stream, by_time).await?;
        if pending > most {
            self.delete(stream, &consumer).await;
            let first = info.last.saturating_sub(most.saturating_sub(1)).max(1);
            let by_place = json!({"deliver_policy": "by_start_sequence", "opt_start_seq": first});
            (consumer, pending) = self.consumer(stream, by_place).await?;
        }
        let all = pending;
        let pulled = Pulled { client: &self.client, stream, consumer: &consumer };
        let mut outcome = Ok(all);
        while pending > 0 {
            let batch = pending.min(BATCH);
            let came = pulled.take_batch(batch, BATCH_PATIENCE, |message, at| {
                let entry = read_entry_under(&names, FoldVersion::NEWEST, message);
                take(&entry.unwrap_or(Entry::Rejected), at);
                true
            });
            if let Err(error) = came.await {
                outcome = Err(self.denied().unwrap_or(error));
                break;
            }
            pending -= batch;
        }
        self.delete(stream, &consumer).await;
        outcome
    }

    async fn consumer(&self, stream: &str, start: Value) -> Result<(String, u64), Unread> {
        let name = format!("reading-{}", uuid::Uuid::new_v4().simple());
        let mut config = json!({
            "name": name,
            "ack_policy": "none",
            "inactive_threshold": u64::try_from(INACTIVE.as_nanos()).unwrap_or(u64::MAX),
            "mem_storage": true,
            "num_replicas": 1,
        });
        if let (Some(config), Value::Object(start)) = (config.as_object_mut(), start) {
            config.extend(start);
        }
        let request = json!({"stream_name": stream, "config": config, "action": "create"});
        let answer = self.ask(&format!("CONSUMER.CREATE.{stream}.{name}"), stream, &request).await?;
        let pending = answer.get("num_pending").and_then(Value::as_u64).unwrap_or(0);
        Ok((name, pending))
    }

    /// The broker deletes it by itself where this fails.
    async fn delete(&self, stream: &str, consumer: &str) {
        let _ = self.ask(&format!("CONSUMER.DELETE.{stream}.{consumer}"), stream, &Value::Null).await;
    }

    async fn ask(&self, verb: &str, stream: &str, body: &Value) -> Result<Value, Unread> {
        let subject = format!("$JS.API.{verb}");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        // Refusals before this question are of other questions.
        let mut denied = self.denied.clone();
        denied.mark_unchanged();
        let message = tokio::select! {
            answer = self.client.request(&subject, &[], body.as_bytes(), self.patience) => match answer {
                Ok(message) => message,
                Err(RequestError::Publish(error)) => return Err(Unread::Refused(error.to_string())),
                Err(RequestError::NoResponders | RequestError::TimedOut) => return Err(Unread::Silent { subject }),
            },
            Ok(()) = denied.changed() => return Err(self.denied().unwrap_or(Unread::Silent { subject })),
        };
        let answer: Value = serde_json::from_slice(message.payload()).unwrap_or_default();
        let Some(error) = answer.get("error") else { return Ok(answer) };
        if error.get("err_code").and_then(Value::as_u64) == Some(STREAM_NOT_FOUND) {
            return Err(Unread::Missing(stream.to_owned()));
        }
        let text = error.get("description").and_then(Value::as_str).unwrap_or("without a reason");
        Err(Unread::Refused(text.to_owned()))
    }

    fn denied(&self) -> Option<Unread> {
        self.denied.borrow().clone().map(Unread::Denied)
    }
}

/// The names of a deployment whose log captures these subjects. A client is not told the executors' prefix, and the
/// stream knows it.
fn named_after(names: &Names, subjects: &[String]) -> Names {
    let by_tenant = subjects.iter().find(|subject| subject.ends_with(".result.v1.*"));
    let mut names = names.clone();
    if let Some(by_tenant) = by_tenant {
        names.exec_result_tenants.clone_from(by_tenant);
    }
    names
}

/// A pull consumer, and the connection that it delivers to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulled<'p> {
    pub(super) client: &'p Client,
    pub(super) stream: &'p str,
    pub(super) consumer: &'p str,
}

impl Pulled<'_> {
    /// Asks for so many messages, and gives the subscription that they come to. The request ends after `patience`.
    pub(super) fn ask_for(&self, batch: u64, patience: Duration) -> Result<Subscriber, PublishError> {
        let inbox = self.client.new_inbox();
        let deliveries = self.client.subscribe(&inbox, None)?;
        let subject = next_subject(self.stream, self.consumer);
        let body = format!("{{\"batch\":{batch},\"expires\":{}}}", patience.as_nanos());
        self.client
            .publish(&Outgoing { reply: inbox.as_bytes(), ..Outgoing::new(&subject, body.as_bytes()) })?;
        Ok(deliveries)
    }

    /// Takes so many messages, in order, each with where it stands, while `take` wants more. Gives whether it still
    /// does.
    pub(super) async fn take_batch(
        &self,
        batch: u64,
        patience: Duration,
        mut take: impl FnMut(&MessageRef<'_>, At) -> bool,
    ) -> Result<bool, Unread> {
        let asked = self.ask_for(batch, patience);
        let mut deliveries = asked.map_err(|_| Unread::Cut("there is no connection"))?;
        let mut came = 0;
        while came < batch {
            let next = tokio::time::timeout(patience, deliveries.next()).await;
            let Some(message) = next.map_err(|_| Unread::Cut("no message in time"))? else {
                return Err(Unread::Cut("the connection is closed"));
            };
            let message = message.as_ref();
            match Delivery::of(&message) {
                Delivery::Message(place) => {
                    came += 1;
                    let at = At { position: place.stream, stamp: Stamp(place.nanos / 1_000_000) };
                    if !take(&message, at) {
                        return Ok(false);
                    }
                }
                Delivery::Status { .. } => return Err(Unread::Cut("the request ended early")),
                Delivery::FlowControl(_) | Delivery::Heartbeat(_) | Delivery::Foreign => {}
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SubjectPrefix;

    #[test]
    fn tenants_of_results_are_found_under_the_executors_prefix_of_the_stream() {
        let prefix = |text| SubjectPrefix::try_new(text).unwrap();
        let names = Names::new(&prefix("beamline.router"), &prefix("caf.exec"), &prefix("beamline.usage"));
        let subjects = ["jobs.result.v1", "jobs.result.v1.*", "beamline.router.v1.log.>"].map(str::to_owned);
        assert_eq!(named_after(&names, &subjects).exec_result_tenants, "jobs.result.v1.*");
        assert_eq!(named_after(&names, &[]), names);
    }
}
