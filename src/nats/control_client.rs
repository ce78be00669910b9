//! The asking side of the control subject: what `policy`, `breaker` and `flag` speak through.
//!
//! A refusal by the router, by the broker and by silence are told apart, since a script needs to know
//! whether asking again can help. A verb that was refused as overloaded has done nothing: it is sent again, for as
//! long as an answer is waited for.

mod retries;

use std::time::Duration;

use beamline_nats::{Client, Event, PublishError, RequestError};
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::connect::{ConnectFailed, connect_traffic};
use super::rollouts::{NotRead, Recorded, read_all};
use crate::clock::Clock;
use crate::config::{ClientSettings, Names};
use crate::domain::{ErrorCode, RolloutId};
use retries::Retries;

/// Pages followed before a list counts as endless: at a hundred entries a page, a million.
const MAX_PAGES: usize = 10_000;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is no connection to ask on.
    #[error(transparent)]
    Connect(#[from] ConnectFailed),
    /// The router answered with an error.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// Nobody listens on the subject.
    #[error("no responders on {subject}: is a worker running, on this broker and under this prefix?")]
    NoResponders {
        /// Where it was asked.
        subject: String,
    },
    /// Nobody answered in time. A change may have happened nevertheless.
    #[error("no answer on {subject} within {after:?}: a change may or may not have happened")]
    TimedOut {
        /// Where it was asked.
        subject: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The broker does not let us ask.
    #[error("the broker does not permit it: {0}")]
    NotPermitted(String),
    /// The connection went, and did not come back in time.
    #[error("the connection to NATS is lost: a change may or may not have happened")]
    Disconnected,
    /// The request is longer than the broker takes.
    #[error("the request is longer than the broker's limit of {limit} bytes")]
    TooLong {
        /// The broker's `max_payload`.
        limit: usize,
    },
    /// What answered speaks another language.
    #[error("what answered on {subject} is no router: {what}")]
    NotARouter {
        /// Where it was asked.
        subject: String,
        /// What was wrong with the answer.
        what: &'static str,
    },
    /// The client library failed otherwise.
    #[error("the request failed: {0}")]
    Failed(String),
}

/// The router's own words: `{"ok": false, "error": …}`.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The code of the contract, such as `conflict`.
    pub code: String,
    /// For people.
    pub message: String,
    /// `details.faults`: pointer and message.
    pub faults: Vec<(String, String)>,
    /// How often the request was sent.
    pub tries: u32,
    /// The whole body.
    pub body: Value,
}

impl Refusal {
    /// When to ask again, where the router refused to work on the request at all.
    fn retry_after(&self) -> Option<Duration> {
        let after = self.body.pointer("/error/details/retry_after_ms").and_then(Value::as_u64);
        (self.code == ErrorCode::Overloaded.as_str()).then(|| Duration::from_millis(after.unwrap_or(1_000)))
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        match self.tries {
            0 | 1 => Ok(()),
            tries => write!(f, " (sent {tries} times)"),
        }
    }
}

impl std::error::Error for Refusal {}

/// Asks control verbs of whichever worker answers.
#[derive(Debug)]
pub struct ControlClient {
    client: Client,
    names: Names,
    timeout: Duration,
    clock: Clock,
    /// The last thing that the broker refused us; it tells of that apart from any request.
    denied: watch::Receiver<Option<String>>,
}

impl ControlClient {
    /// Connects.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connect(settings: &ClientSettings) -> Result<Self, ConnectFailed> {
        let (deny, denied) = watch::channel(None);
        let on_event = move |event| match event {
            Event::Denied(text) | Event::ServerError(text) => {
                deny.send_replace(Some(text));
            }
            _ => {}
        };
        let client = connect_traffic(&settings.nats, settings.timeout, on_event).await?;
        let (names, timeout) = (settings.names.clone(), settings.timeout);
        Ok(Self { client, names, timeout, clock: Clock::start(), denied })
    }

    /// All that the stream of rollouts holds of one.
    ///
    /// # Errors
    /// [`NotRead`].
    pub async fn rollout_messages(&self, rollout: &RolloutId) -> Result<Recorded, NotRead> {
        read_all(&self.client, &self.names, rollout).await
    }

    /// Asks one verb; the answer is the whole body, `ok` included. Where the router is overloaded it asks again.
    ///
    /// # Errors
    /// Why it came to nothing, a refusal by the router included.
    pub async fn request(&self, verb: &str, body: &Value) -> Result<Value, ControlError> {
        let (subject, body) = (self.names.control(verb), body.to_string());
        let began = self.clock.tick();
        let mut retries = Retries::within(self.timeout);
        loop {
            let elapsed = Duration::from_millis(self.clock.tick().since(began));
            let answer = self.ask(&subject, body.as_bytes(), self.timeout.saturating_sub(elapsed)).await;
            let Err(ControlError::Refused(mut refusal)) = answer else { return answer };
            let elapsed = Duration::from_millis(self.clock.tick().since(began));
            let delay = refusal.retry_after().and_then(|after| retries.next(after, elapsed));
            let Some(delay) = delay else {
                refusal.tries = retries.tries();
                return Err(ControlError::Refused(refusal));
            };
            tokio::time::sleep(delay).await;
        }
    }

    /// Asks once.
    async fn ask(&self, subject: &str, body: &[u8], timeout: Duration) -> Result<Value, ControlError> {
        let mut denied = self.denied.clone();
        let message = tokio::select! {
            answer = self.client.request(subject, &[], body, timeout) => {
                answer.map_err(|error| self.no_answer(subject, error))?
            }
            Ok(reason) = denied.wait_for(Option::is_some) => {
                return Err(ControlError::NotPermitted(reason.clone().unwrap_or_default()));
            }
        };
        answered(subject.to_owned(), message.payload())
    }

    /// Asks a verb that lists, and follows its cursor to the end: the answer is the first body with the
    /// entries of all pages under `field`, and without a cursor.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn request_all(&self, verb: &str, body: &Value, field: &str) -> Result<Value, ControlError> {
        let mut page = body.clone();
        let mut whole: Option<Map<String, Value>> = None;
        let mut entries: Vec<Value> = Vec::new();
        for _ in 0..MAX_PAGES {
            let Value::Object(mut answer) = self.request(verb, &page).await? else { break };
            let cursor = answer.remove("cursor").filter(|cursor| !cursor.is_null());
            if let Some(Value::Array(more)) = answer.remove(field) {
                entries.extend(more);
            }
            let whole = whole.get_or_insert(answer);
            match cursor {
                None => {
                    let mut whole = std::mem::take(whole);
                    whole.insert(field.to_owned(), Value::Array(entries));
                    return Ok(Value::Object(whole));
                }
                Some(cursor) if page.get("cursor") == Some(&cursor) => break,
                Some(cursor) => {
                    if let Value::Object(page) = &mut page {
                        page.insert("cursor".to_owned(), cursor);
                    }
                }
            }
        }
        Err(ControlError::NotARouter { subject: self.names.control(verb), what: "its list has no end" })
    }

    fn no_answer(&self, subject: &str, error: RequestError) -> ControlError {
        let subject = subject.to_owned();
        match error {
            RequestError::NoResponders => ControlError::NoResponders { subject },
            RequestError::TimedOut if !self.client.is_connected() => ControlError::Disconnected,
            RequestError::TimedOut => ControlError::TimedOut { subject, after: self.timeout },
            RequestError::Publish(PublishError::TooLong { limit }) => ControlError::TooLong { limit },
            RequestError::Publish(error) => ControlError::Failed(error.to_string()),
        }
    }
}

/// An answer's bytes to its body, or to the refusal that it tells of.
pub(super) fn answered(subject: String, payload: &[u8]) -> Result<Value, ControlError> {
    let body: Value = match serde_json::from_slice(payload) {
        Ok(body) => body,
        Err(_) => return Err(ControlError::NotARouter { subject, what: "the answer is not JSON" }),
    };
    match body.get("ok").and_then(Value::as_bool) {
        Some(true) => Ok(body),
        Some(false) => Err(ControlError::Refused(Box::new(refusal(body)))),
        None => Err(ControlError::NotARouter { subject, what: "the answer has no ok" }),
    }
}

fn refusal(body: Value) -> Refusal {
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (code, message) = (text("/error/code"), text("/error/message"));
    let faults = match body.pointer("/error/details/faults") {
        Some(Value::Array(faults)) => faults.iter().map(fault).collect(),
        _ => Vec::new(),
    };
    Refusal { code, message, faults, tries: 1, body }
}

/// One of `faults`: its pointer and message.
pub(crate) fn fault(value: &Value) -> (String, String) {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    (text("path"), text("message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(payload: &str) -> Result<Value, ControlError> {
        answered("s".to_owned(), payload.as_bytes())
    }

    #[test]
    fn a_refusal_keeps_code_faults_and_body() {
        let body = r#"{"ok":false,"error":{"code":"invalid_request","message":"2 faults",
            "details":{"faults":[{"path":"/providers","message":"empty"},{"path":"","message":"x"}]}}}"#;
        match told(body) {
            Err(ControlError::Refused(refusal)) => {
                assert_eq!(refusal.to_string(), "invalid_request: 2 faults");
                assert_eq!(refusal.faults[0], ("/providers".to_owned(), "empty".to_owned()));
                assert_eq!(refusal.body["ok"], false);
                assert_eq!(refusal.retry_after(), None, "asking again would not help");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_overloaded_router_says_when_to_ask_again() {
        let body =
            r#"{"ok":false,"error":{"code":"overloaded","message":"m","details":{"retry_after_ms":700}}}"#;
        let Err(ControlError::Refused(mut refusal)) = told(body) else { panic!("{body}") };
        assert_eq!(refusal.retry_after(), Some(Duration::from_millis(700)));
        refusal.tries = 3;
        assert_eq!(refusal.to_string(), "overloaded: m (sent 3 times)");
    }

    #[test]
    fn what_is_no_answer_of_a_router_is_told_so() {
        for payload in ["", "x", "[]", "{}", r#"{"ok":"yes"}"#, "null"] {
            assert!(matches!(told(payload), Err(ControlError::NotARouter { .. })), "{payload}");
        }
    }
}
