use std::borrow::Cow;

use super::Rules;
use super::field::{Fault, Field};
use crate::domain::{
    Attributes, Constraints, ErrorCode, IdError, MAX_ID, Payload, Previous, Push, RouteRequest,
    check_assignment_id, check_id, check_request_id, is_graphic,
};
use crate::wire::subjects::is_literal;

/// The policy of requests that name none.
const DEFAULT_POLICY: &str = "default";

/// A request as it was sent: of the right types, and not checked further. Both forms become this.
#[derive(Debug, Default)]
pub(super) struct Draft<'a> {
    pub(super) request_id: Option<Cow<'a, str>>,
    pub(super) tenant_id: Option<Cow<'a, str>>,
    pub(super) policy_id: Option<Cow<'a, str>>,
    pub(super) trace_id: Option<Cow<'a, str>>,
    pub(super) task_type: Option<Cow<'a, str>>,
    pub(super) payload_ref: Option<Cow<'a, str>>,
    pub(super) payload: Option<Payload<'a>>,
    pub(super) max_latency_ms: Option<f64>,
    pub(super) max_cost: Option<f64>,
    pub(super) metadata: Attributes<'a>,
    pub(super) context: Attributes<'a>,
    pub(super) status: Option<Cow<'a, str>>,
    pub(super) attempt: Option<u32>,
    pub(super) push_assignment: bool,
    pub(super) assignment_subject: Option<Cow<'a, str>>,
    pub(super) explain: bool,
}

/// The request that a draft makes, if all of it is right.
#[inline]
pub(super) fn check<'a>(
    draft: Draft<'a>,
    subject_tenant: Option<&'a str>,
    rules: &Rules<'_>,
) -> Result<RouteRequest<'a>, Fault> {
    let tenant_id = tenant(draft.tenant_id, subject_tenant)?;
    let request_id = draft.request_id.ok_or_else(|| missing(Field::RequestId))?;
    check_request_id(&request_id).map_err(|e| bad_id(Field::RequestId, e))?;
    let policy_id = match draft.policy_id {
        Some(id) => {
            check_id(&id).map_err(|e| bad_id(Field::PolicyId, e))?;
            id
        }
        None => Cow::Borrowed(DEFAULT_POLICY),
    };
    // Callers that have no trace id send an empty one as often as none.
    let trace_id = draft.trace_id.filter(|id| !id.is_empty());
    if let Some(id) = &trace_id {
        check_assignment_id(id).map_err(|e| bad_id(Field::TraceId, e))?;
    }
    let task_type = draft.task_type.ok_or_else(|| missing(Field::TaskType))?;
    word(Field::TaskType, &task_type)?;
    if let Some(status) = &draft.status {
        word(Field::Status, status)?;
    }
    if let Some(subject) = &draft.assignment_subject {
        assignment_subject(subject, rules)?;
    }
    Ok(RouteRequest {
        request_id,
        tenant_id,
        policy_id,
        task_type,
        payload: payload(draft.payload, draft.payload_ref)?,
        trace_id,
        constraints: Constraints {
            max_latency_ms: bound(Field::MaxLatency, draft.max_latency_ms)?,
            max_cost: bound(Field::MaxCost, draft.max_cost)?,
        },
        context: draft.context,
        metadata: draft.metadata,
        // A status says that there was an attempt before this one, so this is the second at least.
        previous: draft.status.map(|status| Previous { status, attempt: draft.attempt.unwrap_or(2).max(2) }),
        push: draft.push_assignment.then_some(Push { subject: draft.assignment_subject }),
        explain: draft.explain,
    })
}

pub(super) fn missing(field: Field) -> Fault {
    field.fault("is required")
}

fn bad_id(field: Field, error: IdError) -> Fault {
    field.fault(error.to_string())
}

#[inline]
fn tenant<'a>(body: Option<Cow<'a, str>>, subject: Option<&'a str>) -> Result<Cow<'a, str>, Fault> {
    let tenant = match (body, subject) {
        (Some(body), Some(subject)) if body != subject => {
            return Err(Fault {
                code: ErrorCode::Unauthorized,
                field: Some(Field::TenantId),
                problem: Cow::Borrowed("is not the tenant that the subject names"),
            });
        }
        (Some(body), _) => body,
        (None, Some(subject)) => Cow::Borrowed(subject),
        (None, None) => return Err(missing(Field::TenantId)),
    };
    check_id(&tenant).map_err(|e| bad_id(Field::TenantId, e))?;
    Ok(tenant)
}

/// A text that people choose: not empty, bounded, without control characters.
fn word(field: Field, text: &str) -> Result<(), Fault> {
    if text.is_empty() || text.len() > MAX_ID {
        return Err(field.fault(format!("must have 1 to {MAX_ID} bytes")));
    }
    if !is_graphic(text) && text.chars().any(char::is_control) {
        return Err(field.fault("may hold no control characters"));
    }
    Ok(())
}

fn payload<'a>(inline: Option<Payload<'a>>, reference: Option<Cow<'a, str>>) -> Result<Payload<'a>, Fault> {
    match (inline, reference) {
        (Some(_), Some(_)) => Err(Field::Payload.fault("and a payload_ref exclude each other")),
        (None, None) => Err(Field::Payload.fault("or a payload_ref is required")),
        (None, Some(reference)) if reference.is_empty() => Err(Field::PayloadRef.fault("must not be empty")),
        (None, Some(reference)) => Ok(Payload::Reference(reference)),
        (Some(inline), None) => Ok(inline),
    }
}

fn bound(field: Field, value: Option<f64>) -> Result<Option<f64>, Fault> {
    match value {
        Some(value) if !value.is_finite() || value < 0.0 => {
            Err(field.fault("must be a finite number from 0"))
        }
        value => Ok(value),
    }
}

fn assignment_subject(subject: &str, rules: &Rules<'_>) -> Result<(), Fault> {
    let problem = if subject.len() > MAX_ID {
        format!("must have 1 to {MAX_ID} bytes")
    } else if !is_literal(subject) {
        "must be a subject without wildcards, spaces or empty tokens".to_owned()
    } else if !subject.starts_with(rules.assign_prefix) {
        format!("must lie under {}", rules.assign_prefix)
    } else if subject == rules.ack_subject {
        "must not be where acknowledgements come in".to_owned()
    } else {
        return Ok(());
    };
    Err(Field::AssignmentSubject.fault(problem))
}
