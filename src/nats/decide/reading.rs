//! What a message asks, before anything is looked up.

use std::borrow::Cow;

use super::{Request, WAITED};
use crate::domain::{ErrorCode, RouteRequest};
use crate::nats::headers::field_of;
use crate::wire::subjects::token_at_star;
use crate::wire::{CONTENT_TYPE, Content, Refusal, Rules, Scratch, decode_request, is_answer};

/// Enough for the ids where they stand before the rest: to refuse must cost less than to decide.
const HEAD: usize = 8 << 10;

/// What is searched for ids to echo of a body that is refused unread.
pub(super) fn head(body: &[u8]) -> &[u8] {
    body.get(..HEAD).unwrap_or(body)
}

/// See the module.
pub(super) enum Asked<'m> {
    /// A decision.
    Decision(Question<'m>),
    /// Something that cannot be read: why, and the form in which to say so.
    Refused(Content, Refusal),
    /// Nothing: it is an answer itself, or there is nobody to answer.
    Nothing,
}

/// A request, and what its reply must know of how it came.
pub(super) struct Question<'m> {
    pub(super) content: Content,
    /// Whether the request named its content type, so that the reply does too.
    pub(super) named: bool,
    /// Whether it came on the tenant's own subject.
    pub(super) of_tenant: bool,
    pub(super) request: RouteRequest<'m>,
}

impl<'m> Request<'m> {
    /// Why a body is not worth reading.
    fn unread(&self, body: &[u8]) -> Option<(ErrorCode, Cow<'static, str>)> {
        let most = self.worker.settings.decide.max_request_bytes;
        if body.len() > most {
            let problem = format!("the body has more than {most} bytes");
            return Some((ErrorCode::InvalidRequest, problem.into()));
        }
        self.waited_too_long().then_some((ErrorCode::Overloaded, WAITED.into()))
    }

    /// Reads the body. What is read borrows from the message and, in protobuf, from `scratch`.
    pub(super) fn read(&self, scratch: &'m mut Scratch) -> Asked<'m> {
        let (settings, message) = (&self.worker.settings, &self.message);
        let (headers, body) = (&message.headers, message.payload);
        if let Some(malformed) = message.malformed {
            let head = head(body);
            if is_answer(head) {
                return Asked::Nothing;
            }
            let (content, field) = (Content::sniff(body), Some(field_of(malformed)));
            let problem = format!("the message cannot be read: {malformed}");
            let refusal = Refusal::echoing(ErrorCode::InvalidRequest, field, problem, content, head);
            return Asked::Refused(content, refusal);
        }
        let content = match Content::of(headers, head(body)) {
            Ok(content) => content,
            Err(_) if is_answer(head(body)) => return Asked::Nothing,
            Err(refusal) => return Asked::Refused(Content::sniff(body), refusal),
        };
        if let Some((code, problem)) = self.unread(body) {
            let head = head(body);
            if is_answer(head) {
                return Asked::Nothing;
            }
            return Asked::Refused(content, Refusal::echoing(code, None, problem, content, head));
        }
        let rules = Rules {
            assign_prefix: &settings.names.exec_assign_prefix,
            ack_subject: &settings.names.exec_ack,
        };
        let tenant = token_at_star(&settings.names.decide_tenants, message.subject);
        match decode_request(content, body, tenant, &rules, scratch) {
            Ok(request) => {
                let named = headers.get(CONTENT_TYPE).is_some();
                Asked::Decision(Question { content, named, of_tenant: tenant.is_some(), request })
            }
            Err(_) if content == Content::Json && is_answer(body) => Asked::Nothing,
            Err(refusal) => Asked::Refused(content, refusal),
        }
    }
}
