use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::lanes::LONGEST_WAIT_MS;
use super::latest_of;
use super::reply::ControlError;
use crate::document::duration_ms;
use crate::domain::{
    Authenticated, ErrorCode, IdError, PolicyId, ProviderId, RolloutId, Stamp, TenantId, Tick,
};
use crate::nats::Worker;
use crate::nats::buckets::{By, CHANGE_PATIENCE_MS};

/// The longest `actor` or `reason`.
const MAX_TEXT: usize = 1_024;
/// Pages are this long unless asked otherwise, and never longer than [`MAX_LIMIT`].
const LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 1_000;

/// A verb's body: an object whose members are read by name and type. `null` is as good as absent.
#[derive(Debug)]
pub(super) struct Body {
    fields: BTreeMap<String, Box<RawValue>>,
    actor: Option<String>,
    reason: Option<String>,
    authenticated: Option<Authenticated>,
    arrived: Tick,
}

impl Body {
    /// Reads a body that came at `arrived`; an empty one is an empty object. `authenticated` is who sent it, where the
    /// broker says so.
    pub(super) fn parse(
        bytes: &[u8],
        authenticated: Option<Authenticated>,
        arrived: Tick,
    ) -> Result<Self, ControlError> {
        let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
        let fields = serde_json::from_slice::<BTreeMap<String, Box<RawValue>>>(bytes).map_err(|error| {
            ControlError::new(ErrorCode::InvalidRequest, format!("the body is no JSON object: {error}"))
        })?;
        let mut body = Self { fields, actor: None, reason: None, authenticated, arrived };
        body.fields.retain(|_, raw| raw.get() != "null");
        body.actor = body.text("actor")?;
        body.reason = body.text("reason")?;
        Ok(body)
    }

    /// Refuses members that the verb does not know: a misspelt `expected_revision` protects nobody.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), ControlError> {
        const EVERYWHERE: [&str; 5] = ["actor", "reason", "version", "request_id", "trace_id"];
        match self.fields.keys().find(|k| !known.contains(&k.as_str()) && !EVERYWHERE.contains(&k.as_str())) {
            None => Ok(()),
            Some(field) => Err(ControlError::field(field, "is not a field of this verb")),
        }
    }

    /// A text member, if it is there and is one; for telling whose message it is.
    pub(super) fn peek(&self, field: &str) -> Option<String> {
        self.fields.get(field).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }

    /// A member of any type, if it is there.
    pub(super) fn get<T: for<'de> Deserialize<'de>>(
        &self,
        field: &str,
        kind: &str,
    ) -> Result<Option<T>, ControlError> {
        let Some(raw) = self.fields.get(field) else { return Ok(None) };
        serde_json::from_str(raw.get())
            .map(Some)
            .map_err(|_| ControlError::field(field, &format!("must be {kind}")))
    }

    /// A member as it came.
    pub(super) fn raw(&self, field: &str) -> Result<&str, ControlError> {
        self.fields.get(field).map(|raw| raw.get()).ok_or_else(|| ControlError::field(field, "is required"))
    }

    pub(super) fn tenant_id(&self) -> Result<TenantId, ControlError> {
        required("tenant_id", self.optional_tenant_id()?)
    }

    pub(super) fn optional_tenant_id(&self) -> Result<Option<TenantId>, ControlError> {
        self.id("tenant_id", |text| TenantId::try_new(text))
    }

    pub(super) fn policy_id(&self) -> Result<PolicyId, ControlError> {
        required("policy_id", self.id("policy_id", |text| PolicyId::try_new(text))?)
    }

    pub(super) fn optional_policy_id(&self) -> Result<Option<PolicyId>, ControlError> {
        self.id("policy_id", |text| PolicyId::try_new(text))
    }

    pub(super) fn provider_id(&self) -> Result<ProviderId, ControlError> {
        required("provider_id", self.optional_provider_id()?)
    }

    pub(super) fn optional_provider_id(&self) -> Result<Option<ProviderId>, ControlError> {
        self.id("provider_id", |text| ProviderId::try_new(text))
    }

    pub(super) fn rollout(&self) -> Result<RolloutId, ControlError> {
        required("rollout", self.id("rollout", |text| RolloutId::try_new(text))?)
    }

    /// A time as people write it, in milliseconds.
    pub(super) fn duration(&self, field: &str) -> Result<u64, ControlError> {
        let text = self.get::<String>(field, "a time such as 30s or 2d")?;
        let text = required(field, text)?;
        duration_ms(&Value::String(text))
            .ok_or_else(|| ControlError::field(field, "must be a time such as 30s or 2d"))
    }

    pub(super) fn expected_revision(&self) -> Result<Option<u64>, ControlError> {
        self.get("expected_revision", "a whole number from 0")
    }

    pub(super) fn limit(&self) -> Result<usize, ControlError> {
        let limit = self.get::<u64>("limit", "a whole number from 1 to 1000")?.unwrap_or(LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(ControlError::field("limit", "must be a whole number from 1 to 1000"));
        }
        Ok(usize::try_from(limit).unwrap_or(100))
    }

    /// The two ids of a cursor that [`super::page`] gave.
    pub(super) fn cursor(&self) -> Result<Option<(String, String)>, ControlError> {
        let Some(text) = self.get::<String>("cursor", "a text")? else { return Ok(None) };
        match text.split_once('/') {
            Some((first, second)) => Ok(Some((first.to_owned(), second.to_owned()))),
            None => Err(ControlError::field("cursor", "must be the cursor of the page before")),
        }
    }

    /// Until when a change of a bucket is tried.
    pub(super) const fn until(&self) -> Tick {
        Tick(self.arrived.0.saturating_add(LONGEST_WAIT_MS + CHANGE_PATIENCE_MS))
    }

    /// The latest stamp at which a command of this request is valid.
    pub(super) fn latest(&self, worker: &Worker) -> Stamp {
        latest_of(worker, self.arrived)
    }

    /// Who acts, and why.
    pub(super) fn by(&self) -> By<'_> {
        By {
            actor: self.actor.as_deref(),
            reason: self.reason.as_deref(),
            authenticated: self.authenticated.as_ref(),
        }
    }

    fn text(&self, field: &str) -> Result<Option<String>, ControlError> {
        let text = self.get::<String>(field, "a text")?;
        if text.as_ref().is_some_and(|t| t.len() > MAX_TEXT) {
            return Err(ControlError::field(field, "must have at most 1024 bytes"));
        }
        Ok(text)
    }

    fn id<T>(
        &self,
        field: &str,
        check: impl FnOnce(&str) -> Result<T, IdError>,
    ) -> Result<Option<T>, ControlError> {
        let Some(text) = self.get::<String>(field, "a text")? else { return Ok(None) };
        check(&text).map(Some).map_err(|error| ControlError::field(field, &error.to_string()))
    }
}

fn required<T>(field: &str, value: Option<T>) -> Result<T, ControlError> {
    value.ok_or_else(|| ControlError::field(field, "is required"))
}
