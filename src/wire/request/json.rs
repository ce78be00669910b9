use std::borrow::Cow;

use super::draft::{Draft, missing};
use super::field::{Fault, Field, keys};
use super::quick;
use crate::domain::{Attributes, Payload};
use crate::wire::json::{MAX_DEPTH, Members, boolean, is_number, is_object, number, text, too_deep};

/// The version of the JSON form.
pub(super) const VERSION: &str = "1";

pub(super) const TOP: [Field; 13] = [
    Field::Ok,
    Field::Version,
    Field::RequestId,
    Field::TenantId,
    Field::Task,
    Field::PolicyId,
    Field::TraceId,
    Field::Constraints,
    Field::Metadata,
    Field::Context,
    Field::PushAssignment,
    Field::AssignmentSubject,
    Field::Explain,
];
const TASK: [Field; 3] = [Field::TaskType, Field::PayloadRef, Field::Payload];
const CONSTRAINTS: [Field; 2] = [Field::MaxLatency, Field::MaxCost];
const CONTEXT: [Field; 2] = [Field::Status, Field::Attempt];

const TOP_KEYS: [&str; 13] = keys(TOP);
const TASK_KEYS: [&str; 3] = keys(TASK);
const CONSTRAINTS_KEYS: [&str; 2] = keys(CONSTRAINTS);
const CONTEXT_KEYS: [&str; 2] = keys(CONTEXT);

/// Reads a body into an empty draft.
pub(super) fn read<'a>(body: &'a [u8], draft: &mut Draft<'a>) -> Result<(), Fault> {
    let body = std::str::from_utf8(body).map_err(|_| Fault::body("the body is not UTF-8"))?;
    if quick::read(body, draft).is_none() {
        *draft = read_carefully(body)?;
    }
    Ok(())
}

/// Reads a body field by field, so that each fault is told. `null` is as good as absent everywhere.
#[cold]
pub(super) fn read_carefully(body: &str) -> Result<Draft<'_>, Fault> {
    if !body.trim_ascii_start().starts_with('{') {
        return Err(Fault::body("the body is not a JSON object"));
    }
    if too_deep(body) {
        return Err(Fault::body(format!("the body nests deeper than {MAX_DEPTH} levels")));
    }
    let [
        ok,
        version,
        request_id,
        tenant_id,
        task,
        policy_id,
        trace_id,
        constraints,
        metadata,
        context,
        push_assignment,
        assignment_subject,
        explain,
    ] = members(&TOP, &TOP_KEYS, body, |error| Fault::body(format!("the body is not JSON: {error}")))?;

    if ok.is_some() {
        return Err(Fault::body("the body is itself an answer: it has ok"));
    }
    if string(Field::Version, version)?.ok_or_else(|| missing(Field::Version))? != VERSION {
        return Err(Field::Version.fault("must be \"1\""));
    }
    let mut draft = Draft {
        request_id: string(Field::RequestId, request_id)?,
        tenant_id: string(Field::TenantId, tenant_id)?,
        policy_id: string(Field::PolicyId, policy_id)?,
        trace_id: string(Field::TraceId, trace_id)?,
        metadata: object(Field::Metadata, metadata)?.map_or(Attributes::Absent, Attributes::Json),
        context: object(Field::Context, context)?.map_or(Attributes::Absent, Attributes::Json),
        push_assignment: flag(Field::PushAssignment, push_assignment)?,
        assignment_subject: string(Field::AssignmentSubject, assignment_subject)?,
        explain: flag(Field::Explain, explain)?,
        ..Draft::default()
    };
    if let Some(task) = object(Field::Task, task)? {
        let [kind, payload_ref, payload] = inner(Field::Task, &TASK, &TASK_KEYS, task)?;
        draft.task_type = string(Field::TaskType, kind)?;
        draft.payload_ref = string(Field::PayloadRef, payload_ref)?;
        draft.payload = payload.map(Payload::Json);
    }
    if let Some(constraints) = object(Field::Constraints, constraints)? {
        let [latency, cost] = inner(Field::Constraints, &CONSTRAINTS, &CONSTRAINTS_KEYS, constraints)?;
        draft.max_latency_ms = float(Field::MaxLatency, latency)?;
        draft.max_cost = float(Field::MaxCost, cost)?;
    }
    if let Attributes::Json(context) = draft.context {
        let [status, attempt] = inner(Field::Context, &CONTEXT, &CONTEXT_KEYS, context)?;
        draft.status = status_text(status)?;
        draft.attempt = attempt.map(ordinal).transpose()?;
    }
    Ok(draft)
}

fn members<'a, const N: usize>(
    fields: &[Field; N],
    keys: &[&'static str; N],
    text: &'a str,
    broken: impl FnOnce(serde_json::Error) -> Fault,
) -> Result<[Option<&'a str>; N], Fault> {
    let (members, error) = Members::read(keys, text);
    if let Some(error) = error {
        return Err(broken(error));
    }
    match members.doubled {
        Some(at) => Err(fields[at].fault("is given twice")),
        None => Ok(members.values),
    }
}

/// The members of an object inside the body, which was read once, so that only a key with an escape
/// that is no character can be wrong.
fn inner<'a, const N: usize>(
    parent: Field,
    fields: &[Field; N],
    keys: &[&'static str; N],
    text: &'a str,
) -> Result<[Option<&'a str>; N], Fault> {
    members(fields, keys, text, |_| parent.fault("has a key that is no text"))
}

fn string<'a>(field: Field, raw: Option<&'a str>) -> Result<Option<Cow<'a, str>>, Fault> {
    raw.map(|raw| text(raw).ok_or_else(|| field.fault("must be a string"))).transpose()
}

fn object(field: Field, raw: Option<&str>) -> Result<Option<&str>, Fault> {
    match raw {
        Some(raw) if !is_object(raw) => Err(field.fault("must be an object")),
        raw => Ok(raw),
    }
}

fn flag(field: Field, raw: Option<&str>) -> Result<bool, Fault> {
    raw.map_or(Ok(false), |raw| boolean(raw).ok_or_else(|| field.fault("must be true or false")))
}

fn float(field: Field, raw: Option<&str>) -> Result<Option<f64>, Fault> {
    raw.map(|raw| number(raw).ok_or_else(|| field.fault("must be a number"))).transpose()
}

/// An HTTP status may come as a number.
fn status_text(raw: Option<&str>) -> Result<Option<Cow<'_, str>>, Fault> {
    match raw {
        Some(raw) if is_number(raw) => Ok(Some(Cow::Borrowed(raw))),
        Some(raw) => text(raw).map(Some).ok_or_else(|| Field::Status.fault("must be a string or a number")),
        None => Ok(None),
    }
}

/// The ordinal of an attempt.
pub(super) fn ordinal(text: &str) -> Result<u32, Fault> {
    let ordinal = if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None };
    ordinal
        .filter(|n| *n >= 1)
        .ok_or_else(|| Field::Attempt.fault("must be a whole number from 1 to 4294967295"))
}
