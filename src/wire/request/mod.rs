//! Requests for a decision, decoded and checked.

mod draft;
mod echo;
mod field;
mod json;
mod protobuf;
mod quick;

use std::borrow::Cow;

use self::draft::Draft;
pub use self::echo::is_answer;
use self::field::Fault;
use super::Content;
use super::proto;
use crate::domain::{ErrorCode, RouteRequest};

/// What a request is checked against besides itself.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'s> {
    /// Below which an assignment subject must lie, ending with a dot: `caf.exec.assign.`
    pub assign_prefix: &'s str,
    /// At and below which acknowledgements come in, where no assignment may be sent: `caf.exec.assign.v1.ack`
    pub ack_subject: &'s str,
}

/// Where a protobuf request is unpacked; the checked request borrows from it. May be used again.
#[derive(Debug, Default)]
pub struct Scratch(proto::RouteRequest);

/// Why a request was refused, as its sender may read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code of the reply.
    pub code: ErrorCode,
    /// One sentence for people. Holds nothing of the body but, where it is no JSON, the place.
    pub message: Cow<'static, str>,
    /// What is wrong, as the sender wrote it: `task.type` in JSON, `message.message_type` in protobuf,
    /// or a header; none where the body could not be read at all.
    pub field: Option<&'static str>,
    /// The request's id, whenever it could be read.
    pub request_id: Option<String>,
    /// The caller's trace id, likewise.
    pub trace_id: Option<String>,
}

impl Refusal {
    /// A refusal that carries the ids that can be read from the body, however broken the rest is; also
    /// for requests that are refused before they are decoded.
    #[must_use]
    pub fn echoing(
        code: ErrorCode,
        field: Option<&'static str>,
        message: impl Into<Cow<'static, str>>,
        content: Content,
        body: &[u8],
    ) -> Self {
        let (request_id, trace_id) = echo::readable_ids(content, body);
        Self { code, message: message.into(), field, request_id, trace_id }
    }

    fn of(fault: Fault, content: Content, body: &[u8]) -> Self {
        let field = fault.field.map(|field| field.path(content));
        let message = match field {
            Some(path) => Cow::Owned(format!("{path} {}", fault.problem)),
            None => fault.problem,
        };
        Self::echoing(fault.code, field, message, content, body)
    }
}

/// How a request in this form names the subject of its assignment.
#[must_use]
pub fn assignment_subject_field(content: Content) -> &'static str {
    field::Field::AssignmentSubject.path(content)
}

/// Decodes and checks a request. `subject_tenant` is the tenant that the subject names, if it does.
///
/// # Errors
/// [`Refusal`] with [`ErrorCode::InvalidRequest`], or [`ErrorCode::Unauthorized`] where the body names
/// another tenant than the subject.
pub fn decode_request<'a>(
    content: Content,
    body: &'a [u8],
    subject_tenant: Option<&'a str>,
    rules: &Rules<'_>,
    scratch: &'a mut Scratch,
) -> Result<RouteRequest<'a>, Refusal> {
    let mut draft = Draft::default();
    let read = match content {
        Content::Json => json::read(body, &mut draft),
        Content::Protobuf => protobuf::read(body, &mut scratch.0, &mut draft),
    };
    match read.and_then(|()| draft.check(subject_tenant, rules)) {
        Ok(()) => Ok(draft.into_request()),
        Err(fault) => Err(Refusal::of(fault, content, body)),
    }
}
