use std::sync::Arc;

use beamline_nats::encode::Outgoing;
use bytes::BytesMut;
use smallvec::SmallVec;

use super::Request;
use crate::config::Settings;
use crate::domain::{Decision, ErrorCode, Push, RouteRequest, Tick};
use crate::nats::assignments::Tracked;
use crate::nats::headers::trace;
use crate::telemetry::labels::{Publish, Queue};
use crate::telemetry::{Facts, Incoming, Message as Told, SpanGuard};
use crate::wire::{Assignment, CONTENT_TYPE, Content, Retry, encode_assignment};

/// A probe's slot is held for this long past its assignment's deadline: the timeout has to be told.
const LEASE_PAST_DEADLINE_MS: u64 = 1_000;

/// How long an executor has.
fn deadline_ms(settings: &Settings, expected_latency_ms: u64) -> u64 {
    let a = &settings.assignments;
    let millis = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let (least, most) = (millis(a.deadline_min), millis(a.deadline_max));
    expected_latency_ms.saturating_mul(u64::from(a.deadline_factor)).clamp(least, most.max(least))
}

/// How long a pushed probe must hold its slot at least.
pub(super) fn lease_ms(settings: &Settings, expected_latency_ms: u64) -> u64 {
    deadline_ms(settings, expected_latency_ms).saturating_add(LEASE_PAST_DEADLINE_MS)
}

impl Request<'_> {
    /// Publishes the assignment of a decision and begins to follow it.
    #[expect(clippy::too_many_arguments, reason = "all that an assignment tells, from one place")]
    pub(super) fn push(
        &self,
        request: &RouteRequest<'_>,
        push: &Push<'_>,
        decision: &Decision<'_>,
        assignment_id: &str,
        now: Tick,
        span: Option<&SpanGuard>,
        incoming: &Incoming<'_>,
    ) -> Result<(), ErrorCode> {
        let settings = &self.worker.settings;
        let deadline_ms = deadline_ms(settings, decision.expected_latency_ms);
        let tracked = Tracked {
            tenant_id: Arc::from(request.tenant_id.as_ref()),
            provider_id: Arc::from(decision.provider_id),
            request_id: Arc::from(request.request_id.as_ref()),
            issued: now,
            deadline: Tick(now.0.saturating_add(deadline_ms)),
            trace: span.map(SpanGuard::context),
        };
        if !self.worker.assignments.track(assignment_id, tracked) {
            self.worker.metrics.queue_refused.inc(Queue::Assignments);
            return Err(ErrorCode::Overloaded);
        }
        let retry = Retry {
            max_attempts: settings.assignments.retry_max_attempts,
            backoff_ms: u64::try_from(settings.assignments.retry_backoff.as_millis()).unwrap_or(u64::MAX),
        };
        let mut body = BytesMut::with_capacity(self.message.payload.len() + 512);
        encode_assignment(&Assignment { assignment_id, request, decision, deadline_ms, retry }, &mut body);
        let subject = push.subject.as_deref().unwrap_or(&settings.names.exec_assign);
        let told = Told { subject, body_size: body.len(), id: Some(assignment_id) };
        let sending = self.worker.tracing.assign(span, &told);
        // While the broker is away nobody would get it.
        let sent = self.worker.link.is_up() && {
            let outgoing = self.worker.tracing.outgoing(sending.as_ref().or(span), incoming);
            let mut headers: SmallVec<[(&str, &str); 4]> = SmallVec::new();
            headers.push((CONTENT_TYPE, Content::Json.mime()));
            headers.push(("Nats-Msg-Id", assignment_id));
            headers.extend(trace(&outgoing));
            let message = Outgoing { headers: &headers, ..Outgoing::new(subject, &body) };
            self.worker.traffic.publish(&message).is_ok()
        };
        if let Some(sending) = sending {
            let error = (!sent).then_some("publish_failed");
            sending.end(&Facts {
                request_id: Some(&request.request_id),
                tenant_id: Some(&request.tenant_id),
                provider_id: Some(decision.provider_id),
                assignment_id: Some(assignment_id),
                error,
                message: error.map(|_| "the connection to the broker took no more"),
                ..Facts::default()
            });
        }
        if sent {
            return Ok(());
        }
        self.worker.assignments.ended(assignment_id);
        self.worker.metrics.nats_publish_failures.inc(Publish::Assignment);
        Err(ErrorCode::Internal)
    }
}
