//! What executors say of assignments.

use std::borrow::Cow;

use prost::Message as _;

use super::result::{Reject, members, present, string};
use super::{Content, proto};
use crate::domain::check_assignment_id;

/// What an executor says of an assignment that it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// Which.
    pub assignment_id: Cow<'a, str>,
    /// What.
    pub status: AckStatus,
    /// Whose it is, where the executor tells. Not checked; compare it.
    pub tenant_id: Option<Cow<'a, str>>,
    /// For people.
    pub message: Option<Cow<'a, str>>,
}

/// Whether an executor takes an assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AckStatus {
    /// It does.
    Accepted,
    /// It doesn't.
    Rejected,
    /// It can't.
    Error,
}

impl AckStatus {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Error => "error",
        }
    }

    /// Whether it counts as a failed call.
    #[must_use]
    pub const fn is_refusal(self) -> bool {
        matches!(self, Self::Rejected | Self::Error)
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Accepted, Self::Rejected, Self::Error].into_iter().find(|status| status.as_str() == text)
    }
}

/// Decodes and checks an acknowledgement.
///
/// # Errors
/// The first reason to reject it.
pub fn decode_ack(content: Content, body: &[u8]) -> Result<Ack<'_>, Reject> {
    let [assignment_id, status, tenant_id, message] = match content {
        Content::Json => from_json(body)?,
        Content::Protobuf => from_protobuf(body)?,
    };
    let assignment_id = assignment_id.ok_or(Reject::Field("assignment_id"))?;
    check_assignment_id(&assignment_id).map_err(|_| Reject::Field("assignment_id"))?;
    let status = status.as_deref().and_then(AckStatus::parse).ok_or(Reject::Status)?;
    Ok(Ack { assignment_id, status, tenant_id, message })
}

type Parts<'a> = [Option<Cow<'a, str>>; 4];

fn from_json(body: &[u8]) -> Result<Parts<'_>, Reject> {
    let body = std::str::from_utf8(body).map_err(|_| Reject::Undecodable)?;
    let [assignment_id, status, tenant_id, message] =
        members(&["assignment_id", "status", "tenant_id", "message"], body)?;
    Ok([
        string("assignment_id", assignment_id)?,
        string("status", status).map_err(|_| Reject::Status)?,
        string("tenant_id", tenant_id)?,
        string("message", message)?,
    ])
}

fn from_protobuf(body: &[u8]) -> Result<Parts<'static>, Reject> {
    let ack = proto::ExecAssignmentAck::decode(body).map_err(|_| Reject::Undecodable)?;
    Ok([present(ack.assignment_id), present(ack.status), present(ack.tenant_id), present(ack.message)])
}
