//! Replies that hold no decision.

use bytes::BytesMut;
use smallvec::SmallVec;

use super::reading::Question;
use super::{Handled, Reply};
use crate::domain::ErrorCode;
use crate::routing::{Excluded, Refused};
use crate::state::Routable;
use crate::telemetry::{Facts, SpanGuard};
use crate::wire::{
    self, CONTENT_TYPE, CircuitOpen, Content, Details, ErrorReply, Refusal, RefusedProvider, SERVICE_ERROR,
    SERVICE_ERROR_CODE,
};

/// A request that could not be read.
pub(super) fn refuse(
    content: Content,
    refusal: &Refusal,
    span: &mut Option<SpanGuard>,
    out: &mut BytesMut,
) -> Handled {
    Handled::Reply(error_reply(content, &refusal.reply(), span, out))
}

impl Question<'_> {
    /// An error's reply.
    pub(super) fn with(
        &self,
        code: ErrorCode,
        message: &str,
        details: Details<'_>,
        span: &mut Option<SpanGuard>,
        out: &mut BytesMut,
    ) -> Handled {
        let reply = ErrorReply {
            code,
            message,
            details,
            request_id: Some(&self.request.request_id),
            trace_id: self.request.trace_id.as_deref(),
        };
        Handled::Reply(error_reply(self.content, &reply, span, out))
    }

    /// Every provider left is refused by its breaker.
    pub(super) fn circuit_open(
        &self,
        routable: &Routable,
        refused: &[Refused],
        span: &mut Option<SpanGuard>,
        out: &mut BytesMut,
    ) -> Handled {
        let name = |candidate: usize| {
            routable.policy.candidates().get(candidate).map_or("", |c| c.provider.as_str())
        };
        let providers: Vec<_> = refused
            .iter()
            .map(|r| RefusedProvider {
                provider_id: name(r.candidate),
                state: r.state.as_str(),
                retry_after_ms: r.retry_after_ms,
            })
            .collect();
        let retry_after_ms = refused.iter().map(|r| r.retry_after_ms).min().unwrap_or(0);
        if let Some(span) = span.as_mut() {
            span.record(&Facts {
                policy_revision: Some(routable.revision),
                retry_after_ms: Some(retry_after_ms),
                ..Facts::default()
            });
        }
        let details = Details::CircuitOpen(CircuitOpen { retry_after_ms, providers: &providers });
        self.with(
            ErrorCode::CircuitOpen,
            "every provider left is refused by its circuit breaker",
            details,
            span,
            out,
        )
    }

    /// The request's constraints leave no provider.
    pub(super) fn constrained(
        &self,
        routable: &Routable,
        excluded: &[Excluded],
        span: &mut Option<SpanGuard>,
        out: &mut BytesMut,
    ) -> Handled {
        let name =
            |candidate: usize| routable.policy.candidates().get(candidate).map(|c| c.provider.as_str());
        #[expect(clippy::cast_precision_loss, reason = "means lie far below 2^53")]
        let excluded: Vec<_> = excluded
            .iter()
            .map(|e| {
                serde_json::json!({
                    "provider_id": name(e.candidate),
                    "constraint": e.constraint,
                    "observed_latency_ms": e.observed.latency_ms,
                    "observed_cost": e.observed.cost_nanos as f64 / 1e9,
                })
            })
            .collect();
        let details = serde_json::json!({ "excluded": excluded });
        let message = "the request's constraints exclude every provider";
        self.with(ErrorCode::DecisionFailed, message, Details::Value(&details), span, out)
    }
}

/// An error's reply, appended to `out`.
pub(super) fn error_reply(
    content: Content,
    reply: &ErrorReply<'_>,
    span: &mut Option<SpanGuard>,
    out: &mut BytesMut,
) -> Reply {
    wire::encode_error(content, reply, out);
    if let Some(span) = span.as_mut() {
        span.record(&Facts {
            error: Some(reply.code.as_str()),
            message: Some(reply.message),
            request_id: reply.request_id,
            ..Facts::default()
        });
    }
    Reply {
        headers: ReplyHeaders::of_error(content, reply),
        outcome: Err(reply.code),
        probe: None,
        span: span.take(),
    }
}

/// Headers of a reply.
#[derive(Clone, Debug)]
pub(super) enum ReplyHeaders {
    /// None.
    None,
    /// The form of the body.
    Typed(Content),
    /// Those of an error too, as NATS ADR-32 wants them.
    Error {
        /// The form of the body.
        content: Content,
        /// The message, fit for a header.
        message: String,
        /// The number of its code.
        code: String,
    },
}

impl ReplyHeaders {
    /// Those of an error.
    pub(super) fn of_error(content: Content, reply: &ErrorReply<'_>) -> Self {
        let message = wire::service_error(reply.message).into_owned();
        Self::Error { content, message, code: reply.code.number().to_string() }
    }

    /// As they are published.
    pub(super) fn pairs(&self) -> SmallVec<[(&str, &str); 3]> {
        match self {
            Self::None => SmallVec::new(),
            Self::Typed(content) => [(CONTENT_TYPE, content.mime())].into_iter().collect(),
            Self::Error { content, message, code } => SmallVec::from([
                (CONTENT_TYPE, content.mime()),
                (SERVICE_ERROR, message),
                (SERVICE_ERROR_CODE, code),
            ]),
        }
    }
}
