use std::borrow::Cow;

use crate::domain::ErrorCode;
use crate::wire::Content;

/// What is wrong with a request.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) code: ErrorCode,
    /// None where the body as a whole is wrong.
    pub(super) field: Option<Field>,
    /// What follows the field's name in the message; the whole message where there is no field.
    pub(super) problem: Cow<'static, str>,
}

impl Fault {
    pub(super) fn body(problem: impl Into<Cow<'static, str>>) -> Self {
        Self { code: ErrorCode::InvalidRequest, field: None, problem: problem.into() }
    }
}

/// The fields that the router reads of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// No field of a request: what marks an answer.
    Ok,
    Version,
    RequestId,
    TenantId,
    PolicyId,
    TraceId,
    Task,
    TaskType,
    Payload,
    PayloadRef,
    Constraints,
    MaxLatency,
    MaxCost,
    Metadata,
    Context,
    Status,
    Attempt,
    PushAssignment,
    AssignmentSubject,
    Explain,
}

impl Field {
    pub(super) fn fault(self, problem: impl Into<Cow<'static, str>>) -> Fault {
        Fault { code: ErrorCode::InvalidRequest, field: Some(self), problem: problem.into() }
    }

    /// The name of the member in its JSON object.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Version => "version",
            Self::RequestId => "request_id",
            Self::TenantId => "tenant_id",
            Self::PolicyId => "policy_id",
            Self::TraceId => "trace_id",
            Self::Task => "task",
            Self::TaskType => "type",
            Self::Payload => "payload",
            Self::PayloadRef => "payload_ref",
            Self::Constraints => "constraints",
            Self::MaxLatency => "max_latency_ms",
            Self::MaxCost => "max_cost",
            Self::Metadata => "metadata",
            Self::Context => "context",
            Self::Status => "status",
            Self::Attempt => "attempt",
            Self::PushAssignment => "push_assignment",
            Self::AssignmentSubject => "assignment_subject",
            Self::Explain => "explain",
        }
    }

    /// The way to it from the top of the body, as the sender wrote it.
    pub(super) const fn path(self, content: Content) -> &'static str {
        match content {
            Content::Json => match self {
                Self::TaskType => "task.type",
                Self::Payload => "task.payload",
                Self::PayloadRef => "task.payload_ref",
                Self::MaxLatency => "constraints.max_latency_ms",
                Self::MaxCost => "constraints.max_cost",
                Self::Status => "context.status",
                Self::Attempt => "context.attempt",
                other => other.key(),
            },
            Content::Protobuf => match self {
                Self::RequestId => "message.message_id",
                Self::TenantId => "message.tenant_id",
                Self::TraceId => "message.trace_id",
                Self::Task => "message",
                Self::TaskType => "message.message_type",
                Self::Payload => "message.payload",
                Self::Metadata => "message.metadata",
                Self::PayloadRef => "context.payload_ref",
                Self::MaxLatency => "context.constraints.max_latency_ms",
                Self::MaxCost => "context.constraints.max_cost",
                Self::Status => "context.status",
                Self::Attempt => "context.attempt",
                Self::PushAssignment => "context.push_assignment",
                Self::AssignmentSubject => "context.assignment_subject",
                Self::Explain => "context.explain",
                Self::Ok | Self::Version | Self::PolicyId | Self::Constraints | Self::Context => self.key(),
            },
        }
    }
}

/// The JSON names of some fields of one object.
pub(super) const fn keys<const N: usize>(fields: [Field; N]) -> [&'static str; N] {
    let mut keys = [""; N];
    let mut at = 0;
    while at < N {
        keys[at] = fields[at].key();
        at += 1;
    }
    keys
}
