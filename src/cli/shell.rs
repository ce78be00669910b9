//! What all control verbs share: their common flags, the connection, and how an answer is told.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use super::exit::{Exit, Failure};
use super::output::Output;
use crate::config::{ClientArgs, ClientSettings, ProcessEnv};
use crate::domain::RolloutId;
use crate::nats::control_client::{ControlClient, ControlError};
use crate::nats::rollouts::Recorded;

/// The flags that every control verb takes.
#[derive(Args, Clone, Debug)]
pub struct ShellArgs {
    /// Print the router's answer as one line of JSON
    #[arg(long, global = true)]
    pub json: bool,

    /// How to reach the broker and the routers on it.
    #[command(flatten)]
    pub client: ClientArgs,
}

impl ShellArgs {
    /// Settings, connection, command; and the exit code, whatever came of them.
    pub(super) async fn run(&self, command: impl AsyncFnOnce(&Session) -> Result<(), Failure>) -> ExitCode {
        let out = Output::new(self.json);
        let outcome = async {
            let session = Session::new(self, out)?;
            command(&session).await
        };
        let outcome = outcome.await;
        if let Some(error) = out.unwritten() {
            out.error(&format!("the output was not written: {error}"));
            return Exit::Refused.into();
        }
        match outcome {
            Ok(()) => Exit::Done.into(),
            Err(failure) => {
                failure.tell(out);
                failure.exit().into()
            }
        }
    }
}

/// Who asks, and where the answers go. The connection is made by the first request, so that a file
/// that cannot be used is told of without a broker.
pub(super) struct Session {
    settings: ClientSettings,
    client: OnceCell<ControlClient>,
    /// Where the answers go.
    pub(super) out: Output,
}

impl Session {
    fn new(args: &ShellArgs, out: Output) -> Result<Self, Failure> {
        let settings = ClientSettings::resolve(&args.client, &ProcessEnv).map_err(Failure::Settings)?;
        Ok(Self { settings, client: OnceCell::new(), out })
    }

    /// How the broker is reached, and under which names.
    pub(super) fn settings(&self) -> &ClientSettings {
        &self.settings
    }

    async fn client(&self) -> Result<&ControlClient, ControlError> {
        Ok(self.client.get_or_try_init(|| ControlClient::connect(&self.settings)).await?)
    }

    /// Asks a verb that changes nothing.
    pub(super) async fn ask(&self, verb: &str, body: Body) -> Result<Value, ControlError> {
        self.client().await?.request(verb, &body.into()).await
    }

    /// Asks a verb that changes something: says who acts.
    pub(super) async fn change(&self, verb: &str, body: Body) -> Result<Value, ControlError> {
        let body = body.with("actor", self.settings.actor.as_deref());
        self.client().await?.request(verb, &body.into()).await
    }

    /// Asks a verb that lists, all pages of it, and gives what stands under `field` beside the whole.
    pub(super) async fn list(
        &self,
        verb: &str,
        body: Body,
        field: &str,
    ) -> Result<(Value, Vec<Value>), ControlError> {
        let answer = self.client().await?.request_all(verb, &body.into(), field).await?;
        let entries = entries(&answer, field);
        Ok((answer, entries))
    }

    /// All that the stream of rollouts holds of one.
    pub(super) async fn rollout_messages(&self, rollout: &RolloutId) -> Result<Recorded, Failure> {
        let read = self.client().await?.rollout_messages(rollout).await;
        read.map_err(|error| ControlError::Failed(error.to_string()).into())
    }

    /// Says the answer's warnings, and if it is not in force yet without one that says so.
    pub(super) fn warn(&self, answer: &Value) {
        let warnings = entries(answer, "warnings");
        for warning in warnings.iter().filter_map(Value::as_str) {
            self.out.note(&format!("warning: {warning}"));
        }
        if answer.get("in_force") == Some(&Value::Bool(false)) && warnings.is_empty() {
            self.out.note("warning: durable, but not seen in the log yet; it comes into force when it is");
        }
    }
}

/// The entries under a field of an answer; none if it has none.
pub(super) fn entries(answer: &Value, field: &str) -> Vec<Value> {
    answer.get(field).and_then(Value::as_array).cloned().unwrap_or_default()
}

/// The body of a request: fields that are not given are left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Body(Map<String, Value>);

impl Body {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn with(mut self, name: &str, value: Option<impl Into<Value>>) -> Self {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value.into());
        }
        self
    }
}

impl From<Body> for Value {
    fn from(body: Body) -> Self {
        Self::Object(body.0)
    }
}
