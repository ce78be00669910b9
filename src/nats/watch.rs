//! Watching the breakers of a deployment from outside, as `top` does.
//!
//! Nothing is asked of the workers that any client could not ask: all breakers by `breaker.list`, page by
//! page, at an interval; transitions as they are published; and who is there, with how many decisions, by
//! service discovery. One task does all of it, asks one page after the other, and waits for no publish.
//! Answers come to one inbox that lasts.
//!
//! What is seen goes to one bounded channel. A reader that is slow slows the asking down; transitions that
//! are lost meanwhile are in the next list.

use std::sync::Arc;
use std::time::Duration;

use beamline_nats::encode::Outgoing;
use beamline_nats::{Client, Event, Readable};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, watch};

use super::connect::{ConnectFailed, connect_traffic};
use super::control_client::{ControlError, answered};
use crate::clock::Clock;
use crate::config::{ClientSettings, Names};
use crate::domain::Tick;
use crate::telemetry::names::SERVICE;

/// Breakers on a page: about half a megabyte, half of the broker's usual limit.
const PAGE: usize = 500;
/// How often it is looked whether something is due.
const LOOK: Duration = Duration::from_millis(50);
/// Notes of the client library that wait to be read.
const NOTES: usize = 64;
/// Behind the inbox: where answers of discovery come.
const DISCOVERY: &str = "srv";

/// What is watched.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Of this tenant only.
    pub tenant_id: Option<String>,
    /// Of this provider only.
    pub provider_id: Option<String>,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// A list begins.
    Began,
    /// A page of it: breakers as `breaker.list` tells them.
    Page {
        /// The worker that answered; empty if it did not say.
        worker: String,
        /// Its breakers.
        breakers: Vec<Value>,
    },
    /// The list is whole.
    Listed,
    /// The list came to nothing, and why.
    Failed(String),
    /// A breaker moved: the event's body.
    Moved(Value),
    /// A worker told what it did.
    Worker(WorkerSeen),
    /// The connection is there again.
    Connected,
    /// The connection is lost. It is tried again for ever.
    Disconnected,
    /// The broker did not permit something.
    Denied(String),
}

/// A worker, as discovery tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSeen {
    /// Of the instance, for as long as it lives.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it runs.
    pub version: String,
    /// Requests for decisions since its start.
    pub requests: u64,
    /// Those of them that were refused.
    pub refused: u64,
}

enum Note {
    Connected,
    Disconnected,
    Denied(String),
}

/// A connection that watches.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    names: Names,
    patience: Duration,
    scope: Scope,
    clock: Clock,
    notes: mpsc::Receiver<Note>,
}

/// The page that is asked for.
struct Asked {
    number: u64,
    since: Tick,
}

impl Watch {
    /// Connects.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connect(
        settings: &ClientSettings,
        scope: Scope,
        clock: Clock,
    ) -> Result<Self, ConnectFailed> {
        let (tell, notes) = mpsc::channel(NOTES);
        let on_event = move |event| {
            let note = match event {
                Event::Connected => Note::Connected,
                Event::Disconnected(_) => Note::Disconnected,
                Event::Denied(text) | Event::ServerError(text) => Note::Denied(text),
                _ => return,
            };
            // A crowd of refusals says the same; the state of the connection is asked before each list.
            let _full = tell.try_send(note);
        };
        let client = connect_traffic(&settings.nats, settings.timeout, on_event).await?;
        Ok(Self { client, names: settings.names.clone(), patience: settings.timeout, scope, clock, notes })
    }

    /// Watches until nobody reads any more. Lists are `every` apart; `now` asks for one at once.
    pub async fn run(mut self, every: watch::Receiver<Duration>, now: Arc<Notify>, to: mpsc::Sender<Seen>) {
        let inbox = self.client.new_inbox();
        let subscribed = self.client.subscribe(&format!("{inbox}.*"), None).and_then(|answers| {
            Ok((answers, self.client.subscribe(&format!("{}>", self.names.events_prefix), None)?))
        });
        let (mut answers, mut events) = match subscribed {
            Ok(both) => both,
            Err(error) => {
                let _gone = to.send(Seen::Failed(error.to_string())).await;
                return;
            }
        };
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut due = self.clock.tick();
        let mut asked: Option<Asked> = None;
        let mut number = 0;
        loop {
            let seen = tokio::select! {
                () = to.closed() => return,
                Some(note) = self.notes.recv() => match note {
                    Note::Connected => {
                        due = self.clock.tick();
                        Some(Seen::Connected)
                    }
                    Note::Disconnected => {
                        asked = None;
                        Some(Seen::Disconnected)
                    }
                    Note::Denied(text) => Some(Seen::Denied(text)),
                },
                Some(answer) = answers.next() => {
                    // What cannot be read is no answer of a worker's.
                    let Ok(answer) = answer.as_ref().read() else { continue };
                    let of = answer.subject.rsplit_once('.').map_or("", |(_, last)| last);
                    if of == DISCOVERY {
                        worker_seen(&self.names, &answer).map(Seen::Worker)
                    } else if asked.as_ref().is_some_and(|a| a.number.to_string() == of) {
                        let (page, cursor) = self.page(&answer);
                        let whole = matches!(page, Seen::Page { .. }) && cursor.is_none();
                        asked = cursor.map(|cursor| self.ask(&inbox, &mut number, Some(cursor)));
                        if asked.is_none() {
                            due = later(self.clock.tick(), *every.borrow());
                        }
                        if to.send(page).await.is_err() {
                            return;
                        }
                        whole.then_some(Seen::Listed)
                    } else {
                        None
                    }
                }
                Some(event) = events.next() => {
                    let Ok(event) = event.as_ref().read() else { continue };
                    let moved = self.moved(&event);
                    if moved.is_none() {
                        // Policies and switches change which breakers there are.
                        due = self.clock.tick();
                    }
                    moved.filter(|event| self.watches(event)).map(Seen::Moved)
                }
                () = now.notified() => {
                    due = self.clock.tick();
                    None
                }
                _ = looks.tick() => {
                    let at = self.clock.tick();
                    if asked.as_ref().is_some_and(|a| at >= later(a.since, self.patience)) {
                        asked = None;
                        due = later(at, *every.borrow());
                        Some(Seen::Failed(format!("no answer within {:?}", self.patience)))
                    } else if asked.is_none() && at >= due && self.is_up() {
                        self.ask_who(&inbox);
                        asked = Some(self.ask(&inbox, &mut number, None));
                        Some(Seen::Began)
                    } else {
                        None
                    }
                }
            };
            if let Some(seen) = seen
                && to.send(seen).await.is_err()
            {
                return;
            }
        }
    }

    fn is_up(&self) -> bool {
        self.client.is_connected()
    }

    /// Asks for a page. One that cannot be sent stays unanswered, and is told so.
    fn ask(&self, inbox: &str, number: &mut u64, cursor: Option<Value>) -> Asked {
        *number += 1;
        let mut body = json!({ "limit": PAGE });
        let text = |text: &Option<String>| text.as_deref().map(Value::from);
        let optional = [
            ("tenant_id", text(&self.scope.tenant_id)),
            ("provider_id", text(&self.scope.provider_id)),
            ("cursor", cursor),
        ];
        for (field, value) in optional {
            if let Some(value) = value {
                body[field] = value;
            }
        }
        let reply = format!("{inbox}.{number}");
        self.publish(&self.names.control("breaker.list"), &reply, body.to_string().as_bytes());
        Asked { number: *number, since: self.clock.tick() }
    }

    /// Asks all workers what they did. Each answers for itself, and who does not is away.
    fn ask_who(&self, inbox: &str) {
        let (subject, reply) = (format!("$SRV.STATS.{SERVICE}"), format!("{inbox}.{DISCOVERY}"));
        self.publish(&subject, &reply, b"");
    }

    fn publish(&self, subject: &str, reply: &str, payload: &[u8]) {
        let request = Outgoing { reply: reply.as_bytes(), ..Outgoing::new(subject, payload) };
        let _unsent = self.client.publish(&request);
    }

    /// An answer to [`Self::ask`], and where the next page begins.
    fn page(&self, answer: &Readable<'_>) -> (Seen, Option<Value>) {
        let subject = self.names.control("breaker.list");
        if answer.is_no_responders() {
            return (Seen::Failed(ControlError::NoResponders { subject }.to_string()), None);
        }
        match answered(subject, answer.payload) {
            Ok(mut body) => {
                let breakers = match body.get_mut("breakers").map(Value::take) {
                    Some(Value::Array(breakers)) => breakers,
                    _ => Vec::new(),
                };
                let worker = body.get("worker").and_then(Value::as_str).unwrap_or_default().to_owned();
                let cursor = body.get_mut("cursor").map(Value::take).filter(|cursor| !cursor.is_null());
                (Seen::Page { worker, breakers }, cursor)
            }
            Err(error) => (Seen::Failed(error.to_string()), None),
        }
    }

    /// A breaker's transition; `None` for an event of another kind.
    fn moved(&self, event: &Readable<'_>) -> Option<Value> {
        event.subject.strip_prefix(self.names.events_prefix.as_str())?.strip_prefix("breaker.")?;
        serde_json::from_slice(event.payload).ok()
    }

    fn watches(&self, event: &Value) -> bool {
        let is = |field: &str, wanted: &Option<String>| {
            wanted.as_deref().is_none_or(|wanted| event.get(field).and_then(Value::as_str) == Some(wanted))
        };
        is("tenant_id", &self.scope.tenant_id) && is("provider_id", &self.scope.provider_id)
    }
}

fn later(at: Tick, by: Duration) -> Tick {
    Tick(at.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
}

/// An answer of discovery, if it is one of a worker of this deployment: another one may share the broker.
fn worker_seen(names: &Names, answer: &Readable<'_>) -> Option<WorkerSeen> {
    let told: Value = serde_json::from_slice(answer.payload).ok()?;
    let endpoints = told.get("endpoints")?.as_array()?;
    let figures = |subject: &str| {
        let endpoint =
            endpoints.iter().find(|e| e.get("subject").and_then(Value::as_str) == Some(subject))?;
        Some((endpoint.get("num_requests")?.as_u64()?, endpoint.get("num_errors")?.as_u64()?))
    };
    let (plain, own) = (figures(&names.decide)?, figures(&names.decide_tenants).unwrap_or_default());
    let text = |pointer: &str| told.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(WorkerSeen {
        id: text("/id"),
        name: text("/metadata/worker"),
        version: text("/version"),
        requests: plain.0.saturating_add(own.0),
        refused: plain.1.saturating_add(own.1),
    })
}
