use std::borrow::Cow;

use super::Rules;
use super::field::{Fault, Field};
use crate::domain::{
    Attributes, Constraints, ErrorCode, IdError, MAX_ID, Payload, Previous, Push, RouteRequest,
    check_assignment_id, check_id, check_request_id, is_graphic, is_literal,
};
use crate::wire::subjects::lies_at;

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

impl<'a> Draft<'a> {
    /// Whether all of it is right, so that it makes a request. Tenant and policy are filled in where the body
    /// names none.
    #[inline]
    pub(super) fn check(&mut self, subject_tenant: Option<&'a str>, rules: &Rules<'_>) -> Result<(), Fault> {
        check_id(self.tenant(subject_tenant)?).map_err(|e| bad_id(Field::TenantId, e))?;
        let request_id = self.request_id.as_deref().ok_or_else(|| missing(Field::RequestId))?;
        check_request_id(request_id).map_err(|e| bad_id(Field::RequestId, e))?;
        match &self.policy_id {
            Some(id) => check_id(id).map_err(|e| bad_id(Field::PolicyId, e))?,
            None => self.policy_id = Some(Cow::Borrowed(DEFAULT_POLICY)),
        }
        // Callers that have no trace id send an empty one as often as none.
        self.trace_id.take_if(|id| id.is_empty());
        if let Some(id) = &self.trace_id {
            check_assignment_id(id).map_err(|e| bad_id(Field::TraceId, e))?;
        }
        word(Field::TaskType, self.task_type.as_deref().ok_or_else(|| missing(Field::TaskType))?)?;
        if let Some(status) = &self.status {
            word(Field::Status, status)?;
        }
        if let Some(subject) = &self.assignment_subject {
            assignment_subject(subject, rules)?;
        }
        self.check_payload()?;
        bound(Field::MaxLatency, self.max_latency_ms)?;
        bound(Field::MaxCost, self.max_cost)
    }

    /// The request that it makes; for one that was checked.
    #[inline]
    pub(super) fn into_request(self) -> RouteRequest<'a> {
        RouteRequest {
            request_id: self.request_id.unwrap_or_default(),
            tenant_id: self.tenant_id.unwrap_or_default(),
            policy_id: self.policy_id.unwrap_or_default(),
            task_type: self.task_type.unwrap_or_default(),
            payload: match self.payload {
                Some(inline) => inline,
                None => Payload::Reference(self.payload_ref.unwrap_or_default()),
            },
            trace_id: self.trace_id,
            constraints: Constraints { max_latency_ms: self.max_latency_ms, max_cost: self.max_cost },
            context: self.context,
            metadata: self.metadata,
            // A status says that there was an attempt before this one, so this is the second at least.
            previous: self
                .status
                .map(|status| Previous { status, attempt: self.attempt.unwrap_or(2).max(2) }),
            push: self.push_assignment.then_some(Push { subject: self.assignment_subject }),
            explain: self.explain,
        }
    }

    #[inline]
    fn tenant(&mut self, subject: Option<&'a str>) -> Result<&str, Fault> {
        match (&self.tenant_id, subject) {
            (Some(body), Some(subject)) if body != subject => {
                return Err(Fault {
                    code: ErrorCode::Unauthorized,
                    field: Some(Field::TenantId),
                    problem: Cow::Borrowed("is not the tenant that the subject names"),
                });
            }
            (None, None) => return Err(missing(Field::TenantId)),
            (Some(_), _) => {}
            (None, Some(subject)) => self.tenant_id = Some(Cow::Borrowed(subject)),
        }
        Ok(self.tenant_id.as_deref().unwrap_or_default())
    }

    fn check_payload(&self) -> Result<(), Fault> {
        match (&self.payload, &self.payload_ref) {
            (Some(_), Some(_)) => Err(Field::Payload.fault("and a payload_ref exclude each other")),
            (None, None) => Err(Field::Payload.fault("or a payload_ref is required")),
            (None, Some(reference)) if reference.is_empty() => {
                Err(Field::PayloadRef.fault("must not be empty"))
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn missing(field: Field) -> Fault {
    field.fault("is required")
}

fn bad_id(field: Field, error: IdError) -> Fault {
    field.fault(error.to_string())
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

fn bound(field: Field, value: Option<f64>) -> Result<(), Fault> {
    match value {
        Some(value) if !value.is_finite() || value < 0.0 => {
            Err(field.fault("must be a finite number from 0"))
        }
        _ => Ok(()),
    }
}

fn assignment_subject(subject: &str, rules: &Rules<'_>) -> Result<(), Fault> {
    let problem = if subject.len() > MAX_ID {
        format!("must have 1 to {MAX_ID} bytes")
    } else if !is_literal(subject) {
        "must be a subject without wildcards, spaces or empty tokens".to_owned()
    } else if !subject.starts_with(rules.assign_prefix) {
        format!("must lie under {}", rules.assign_prefix)
    } else if lies_at(subject, rules.ack_subject) {
        "must not be where acknowledgements come in".to_owned()
    } else {
        return Ok(());
    };
    Err(Field::AssignmentSubject.fault(problem))
}
