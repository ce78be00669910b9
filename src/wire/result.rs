//! Results of provider calls, decoded and checked.

mod protobuf;

use std::borrow::Cow;

use super::Content;
use super::json::{Members, Met, Scan, is_number, is_object, number, object, text};
use crate::domain::{
    MAX_ID, MAX_LATENCY_MS, Outcome, Status, check_assignment_id, check_id, check_request_id, identity_of,
};
use crate::log::FoldVersion;

pub(super) use protobuf::present;

/// The longest body that is looked at.
pub const MAX_RESULT: usize = 64 << 10;

/// The highest cost that makes sense; its nano-units stay well within 64 bits.
const MAX_COST: f64 = 1e9;

/// Why a message of an executor was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// Longer than [`MAX_RESULT`].
    #[error("longer than {MAX_RESULT} bytes")]
    TooLong,
    /// Neither JSON nor protobuf of the right shape.
    #[error("not decodable")]
    Undecodable,
    /// The subject names another tenant than the body.
    #[error("the tenants of subject and body differ")]
    TenantMismatch,
    /// No status, or none that is known.
    #[error("the status is none of those that are known")]
    Status,
    /// A latency that makes no sense.
    #[error("the latency is not within a day")]
    Latency,
    /// Another field is missing, of a wrong type, out of bounds or given twice.
    #[error("the field {0} is missing or wrong")]
    Field(&'static str),
}

/// A result as it was sent: of the right types, and not checked further. Both forms become this.
#[derive(Debug, Default)]
struct Draft<'a> {
    assignment_id: Option<Cow<'a, str>>,
    request_id: Option<Cow<'a, str>>,
    tenant_id: Option<Cow<'a, str>>,
    provider_id: Option<Cow<'a, str>>,
    status: Option<Cow<'a, str>>,
    job_type: Option<Cow<'a, str>>,
    trace_id: Option<Cow<'a, str>>,
    error_code: Option<Cow<'a, str>>,
    latency_ms: Option<f64>,
    cost: Option<f64>,
    timestamp: Option<f64>,
    retry_after_ms: Option<f64>,
}

/// Decodes and checks a result by the newest rules. `subject_tenant` is the tenant that the subject names, if it
/// does.
///
/// # Errors
/// The first reason to reject it.
pub fn decode_result<'a>(
    content: Content,
    body: &'a [u8],
    subject_tenant: Option<&'a str>,
) -> Result<Outcome<'a>, Reject> {
    decode_result_under(FoldVersion::NEWEST, content, body, subject_tenant)
}

/// The same by the rules of a version of the fold.
///
/// # Errors
/// The first reason to reject it.
pub fn decode_result_under<'a>(
    version: FoldVersion,
    content: Content,
    body: &'a [u8],
    subject_tenant: Option<&'a str>,
) -> Result<Outcome<'a>, Reject> {
    let bounded = version >= FoldVersion::BOUNDED_RESULTS;
    if bounded && body.len() > MAX_RESULT {
        return Err(Reject::TooLong);
    }
    let mut draft = Draft::default();
    match content {
        Content::Json => from_json(body, &mut draft)?,
        Content::Protobuf if bounded => draft = protobuf::read_used(body)?,
        Content::Protobuf => draft = protobuf::read_whole(body)?,
    }
    check(draft, body, subject_tenant)
}

fn check<'a>(draft: Draft<'a>, body: &[u8], subject_tenant: Option<&'a str>) -> Result<Outcome<'a>, Reject> {
    let tenant_id = match (draft.tenant_id, subject_tenant) {
        (Some(body), Some(subject)) if body != subject => return Err(Reject::TenantMismatch),
        (Some(body), _) => body,
        (None, Some(subject)) => Cow::Borrowed(subject),
        (None, None) => return Err(Reject::Field("tenant_id")),
    };
    let provider_id = draft.provider_id.ok_or(Reject::Field("provider_id"))?;
    check_id(&tenant_id).map_err(|_| Reject::Field("tenant_id"))?;
    check_id(&provider_id).map_err(|_| Reject::Field("provider_id"))?;
    let status = draft.status.as_deref().and_then(Status::parse).ok_or(Reject::Status)?;
    let assignment_id = passing("assignment_id", draft.assignment_id, |id| check_assignment_id(id).is_ok())?;
    let identity = identity_of(&tenant_id, assignment_id.as_deref(), body);
    Ok(Outcome {
        tenant_id,
        provider_id,
        request_id: passing("request_id", draft.request_id, |id| check_request_id(id).is_ok())?,
        assignment_id,
        status,
        latency_ms: whole(draft.latency_ms, MAX_LATENCY_MS).ok_or(Reject::Latency)?,
        cost_nanos: nanos(draft.cost).ok_or(Reject::Field("cost"))?,
        error_code: passing("error_code", draft.error_code, bounded)?,
        retry_after_ms: hint(draft.retry_after_ms).ok_or(Reject::Field("retry_after_ms"))?,
        timestamp_ms: hint(draft.timestamp).ok_or(Reject::Field("timestamp"))?,
        job_type: passing("job.type", draft.job_type, bounded)?,
        trace_id: passing("trace_id", draft.trace_id, bounded)?,
        identity,
    })
}

fn passing<'a>(
    name: &'static str,
    value: Option<Cow<'a, str>>,
    fits: impl FnOnce(&str) -> bool,
) -> Result<Option<Cow<'a, str>>, Reject> {
    match value {
        Some(text) if !fits(&text) => Err(Reject::Field(name)),
        value => Ok(value),
    }
}

fn bounded(text: &str) -> bool {
    text.len() <= MAX_ID && !text.chars().any(char::is_control)
}

/// Rounded to the nearest whole number; `None` where it is negative, above `most` or no number.
fn whole(value: Option<f64>, most: u64) -> Option<Option<u64>> {
    let Some(value) = value else { return Some(None) };
    if !value.is_finite() || value < 0.0 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above; saturates")]
    let whole = value.round() as u64;
    (whole <= most).then_some(Some(whole))
}

fn nanos(cost: Option<f64>) -> Option<Option<u64>> {
    if cost.is_some_and(|cost| cost > MAX_COST) { None } else { whole(cost.map(|cost| cost * 1e9), u64::MAX) }
}

/// As [`whole`], where 0 says no more than absence.
fn hint(value: Option<f64>) -> Option<Option<u64>> {
    whole(value, u64::MAX).map(|value| value.filter(|ms| *ms > 0))
}

const KEYS: [&str; 12] = [
    "assignment_id",
    "request_id",
    "status",
    "provider_id",
    "job",
    "latency_ms",
    "cost",
    "trace_id",
    "tenant_id",
    "timestamp",
    "error_code",
    "retry_after_ms",
];

fn from_json<'a>(body: &'a [u8], draft: &mut Draft<'a>) -> Result<(), Reject> {
    let body = std::str::from_utf8(body).map_err(|_| Reject::Undecodable)?;
    if quickly(body, draft).is_none() {
        *draft = carefully(body)?;
    }
    Ok(())
}

/// Reads a result as it should be, in one pass, into an empty draft. None for what is wrong, or odd enough
/// to be doubted.
fn quickly<'a>(body: &'a str, draft: &mut Draft<'a>) -> Option<()> {
    let mut met = Met::default();
    object(body, |scan, name| {
        match name {
            _ if name == b"assignment_id" => {
                draft.assignment_id = met.once(0, scan)?.text()?.and_then(some_text)
            }
            _ if name == b"request_id" => draft.request_id = met.once(1, scan)?.text()?.and_then(some_text),
            _ if name == b"tenant_id" => draft.tenant_id = met.once(2, scan)?.text()?.and_then(some_text),
            _ if name == b"provider_id" => draft.provider_id = met.once(3, scan)?.text()?.and_then(some_text),
            _ if name == b"status" => draft.status = met.once(4, scan)?.text()?.and_then(some_text),
            _ if name == b"trace_id" => draft.trace_id = met.once(5, scan)?.text()?.and_then(some_text),
            _ if name == b"job" => draft.job_type = job_type(met.once(6, scan)?)?,
            _ if name == b"error_code" => {
                draft.error_code = met.once(7, scan)?.text_or_number()?.and_then(some_text)
            }
            _ if name == b"latency_ms" => draft.latency_ms = met.once(8, scan)?.number()?,
            _ if name == b"cost" => draft.cost = met.once(9, scan)?.number()?,
            _ if name == b"timestamp" => draft.timestamp = met.once(10, scan)?.number()?,
            _ if name == b"retry_after_ms" => draft.retry_after_ms = met.once(11, scan)?.number()?,
            _ => scan.skip()?,
        }
        Some(())
    })
}

fn job_type<'a>(scan: &mut Scan<'a>) -> Option<Option<Cow<'a, str>>> {
    let (mut kind, mut met) = (None, Met::default());
    if !scan.null()? {
        scan.object(|scan, name| {
            if name != b"type" {
                return scan.skip();
            }
            kind = met.once(0, scan)?.text()?.and_then(some_text);
            Some(())
        })?;
    }
    Some(kind)
}

/// Reads a result member by member, so that its fault is known.
#[cold]
fn carefully(body: &str) -> Result<Draft<'_>, Reject> {
    let [
        assignment_id,
        request_id,
        status,
        provider_id,
        job,
        latency_ms,
        cost,
        trace_id,
        tenant_id,
        timestamp,
        error_code,
        retry_after_ms,
    ] = members(&KEYS, body)?;
    let job_type = match job {
        Some(job) if !is_object(job) => return Err(Reject::Field("job")),
        Some(job) => {
            let [kind] = members(&["type"], job)?;
            string("job.type", kind)?
        }
        None => None,
    };
    Ok(Draft {
        assignment_id: string("assignment_id", assignment_id)?,
        request_id: string("request_id", request_id)?,
        tenant_id: string("tenant_id", tenant_id)?,
        provider_id: string("provider_id", provider_id)?,
        status: string("status", status).map_err(|_| Reject::Status)?,
        job_type,
        trace_id: string("trace_id", trace_id)?,
        error_code: match error_code {
            Some(raw) if is_number(raw) => Some(Cow::Borrowed(raw)),
            raw => string("error_code", raw)?,
        },
        latency_ms: float(latency_ms, Reject::Latency)?,
        cost: float(cost, Reject::Field("cost"))?,
        timestamp: float(timestamp, Reject::Field("timestamp"))?,
        retry_after_ms: float(retry_after_ms, Reject::Field("retry_after_ms"))?,
    })
}

pub(super) fn members<'a, const N: usize>(
    keys: &[&'static str; N],
    text: &'a str,
) -> Result<[Option<&'a str>; N], Reject> {
    let (members, error) = Members::read(keys, text);
    match (error, members.doubled) {
        (Some(_), _) => Err(Reject::Undecodable),
        (None, Some(at)) => Err(Reject::Field(keys[at])),
        (None, None) => Ok(members.values),
    }
}

/// An empty string is as good as absent: were it an assignment id, all such results would be copies of
/// the first.
fn some_text(text: Cow<'_, str>) -> Option<Cow<'_, str>> {
    (!text.is_empty()).then_some(text)
}

pub(super) fn string<'a>(name: &'static str, raw: Option<&'a str>) -> Result<Option<Cow<'a, str>>, Reject> {
    match raw {
        Some(raw) => text(raw).map(some_text).ok_or(Reject::Field(name)),
        None => Ok(None),
    }
}

fn float(raw: Option<&str>, otherwise: Reject) -> Result<Option<f64>, Reject> {
    raw.map(|raw| number(raw).ok_or(otherwise)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::{self, nearly};

    /// All that can stand in a result, in usual and in odd forms.
    const BODIES: [&str; 3] = [
        r#"{"assignment_id":"6dc8a721-db88-4e75-a1bb-a1a0d8f0773a","request_id":"r-1","tenant_id":"acme","provider_id":"openai","status":"success","job":{"type":"text.generate"},"latency_ms":850,"cost":0.012,"timestamp":1795316364705}"#,
        r#" { "retry_after_ms" : 2e3 , "error_code" : 429 , "job" : { "metadata" : {"a":[1]} , "type" : "t\n\u00e9" } ,
            "error_message":"slow \"down\"","trace_id":"","cost":-0.0,"status":"error","latency_ms":12345678901} "#,
        r#"{"assignment_id":null,"job":null,"cost":null,"error_code":"\/","job2":{},"timestamp":null}"#,
    ];

    fn agree(body: &str) -> bool {
        let mut draft = Draft::default();
        let quick = quickly(body, &mut draft).map(|()| draft);
        tests::agree(body, quick, || carefully(body))
    }

    #[test]
    fn results_as_they_should_be_are_read_quickly() {
        for body in BODIES {
            assert!(agree(body), "{body}");
        }
        for name in KEYS {
            let (once, twice) =
                (format!("{{\"{name}\":null}}"), format!("{{\"{name}\":null,\"{name}\":null}}"));
            assert!(agree(&once) && !agree(&twice), "{name}");
        }
        for body in
            [r#"{"job":{"type":"a","type":"a"}}"#, r#"{"job":[]}"#, r#"{"status":true}"#, r#"{"cost":"1"}"#]
        {
            assert!(!agree(body), "{body}");
        }
    }

    #[test]
    fn no_change_of_a_byte_and_no_cut_tells_the_readings_apart() {
        BODIES.iter().for_each(|body| nearly(body, agree));
    }
}
