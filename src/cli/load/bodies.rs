//! What goes over the wire, as text and back: written by hand where a million are written.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;

/// A decide request that is good as it stands.
pub(super) fn request(tenant: &str, request_id: &str, push: bool) -> Bytes {
    format!(
        r#"{{"version":"1","request_id":"{request_id}","tenant_id":"{tenant}","task":{{"type":"text.generate","payload_ref":"load://prompt"}},"push_assignment":{push}}}"#
    )
    .into()
}

/// One call's end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) tenant: &'a str,
    pub(super) provider: &'a str,
    pub(super) request_id: &'a str,
    /// What makes a second copy a second copy.
    pub(super) assignment_id: &'a str,
    pub(super) failed: bool,
}

impl Call<'_> {
    /// The result as an executor publishes it. The call is said to have taken no time, so that none
    /// began before a transition that was just made.
    pub(super) fn result(&self) -> Bytes {
        let Self { tenant, provider, request_id, assignment_id, failed } = self;
        let (status, code) = if *failed { ("error", r#","error_code":"503""#) } else { ("success", "") };
        format!(
            r#"{{"assignment_id":"{assignment_id}","request_id":"{request_id}","tenant_id":"{tenant}","provider_id":"{provider}","status":"{status}"{code},"latency_ms":0,"cost":0.01,"job":{{"type":"text.generate"}}}}"#
        )
        .into()
    }
}

/// An executor's word that it has an assignment.
pub(super) fn ack(assignment_id: &str) -> Bytes {
    format!(r#"{{"assignment_id":"{assignment_id}","status":"accepted"}}"#).into()
}

/// A reply, as far as it is looked at.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Reply<'a> {
    #[serde(borrow, default)]
    pub(super) decision: Option<Decision<'a>>,
    #[serde(borrow, default)]
    pub(super) error: Option<Refusal<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Decision<'a> {
    #[serde(borrow)]
    pub(super) provider_id: Cow<'a, str>,
    #[serde(default)]
    pub(super) probe: bool,
    #[serde(borrow, default)]
    pub(super) assignment_id: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Refusal<'a> {
    #[serde(borrow)]
    pub(super) code: Cow<'a, str>,
    #[serde(default)]
    pub(super) details: Option<Details>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Details {
    #[serde(default)]
    pub(super) retry_after_ms: Option<u64>,
}

/// An assignment, as far as an executor looks at it.
#[derive(Debug, Deserialize)]
pub(super) struct Assignment<'a> {
    #[serde(borrow)]
    pub(super) assignment_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) request_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) tenant_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) executor: Executor<'a>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Executor<'a> {
    #[serde(borrow)]
    pub(super) provider_id: Cow<'a, str>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Status;
    use crate::wire::{Content, Rules, Scratch, decode_request, decode_result};

    #[test]
    fn what_is_written_is_what_the_router_reads() {
        let body = request("acme", "r-1", true);
        let rules = Rules { assign_prefix: "caf.exec.assign.", ack_subject: "caf.exec.assign.v1.ack" };
        let mut scratch = Scratch::default();
        let read = decode_request(Content::Json, &body, None, &rules, &mut scratch).unwrap();
        assert_eq!((read.tenant_id.as_ref(), read.request_id.as_ref()), ("acme", "r-1"));
        for failed in [false, true] {
            let call = Call { tenant: "acme", provider: "p", request_id: "r-1", assignment_id: "a", failed };
            let body = call.result();
            let read = decode_result(Content::Json, &body, None).unwrap();
            assert_eq!(read.status, if failed { Status::Error } else { Status::Success });
            assert_eq!(read.request_id.as_deref(), Some("r-1"));
        }
    }
}
