use std::sync::Arc;
use std::time::Duration;

use beamline_nats::Delivery;
use beamline_nats::encode::Outgoing;
use bytes::BytesMut;
use smallvec::SmallVec;

use super::reading::Question;
use super::refusals::error_reply;
use super::{Handled, Reply, Request};
use crate::config::Settings;
use crate::domain::{Decision, ErrorCode, Push, RouteRequest, Tick};
use crate::nats::Worker;
use crate::nats::assignments::{Tracked, Unreceived};
use crate::nats::headers::trace;
use crate::policy::Policy;
use crate::routing;
use crate::telemetry::labels::{Assignment as Counted, Publish, Queue};
use crate::telemetry::{Facts, Incoming, Message as Told, SpanGuard};
use crate::wire::{self, Assignment, CONTENT_TYPE, Content, Details, ErrorReply, Retry, encode_assignment};

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

/// How long the broker may take to report whether an assignment has a receiver.
const REPORT_PATIENCE: Duration = Duration::from_secs(1);

/// An assignment that is tracked.
pub(super) struct Assigned<'a> {
    pub(super) assignment_id: &'a str,
    /// Where it goes.
    pub(super) subject: String,
    pub(super) tracked: Tracked,
}

/// A pushed decision: its assignment is tracked and not published yet.
pub(in crate::nats) struct Pushing {
    assignment_id: String,
    subject: String,
    body: BytesMut,
    trace: Vec<(&'static str, String)>,
    sending: Option<SpanGuard>,
    policy_id: String,
    tracked: Tracked,
    content: Content,
    trace_id: Option<String>,
    /// The answer once it is published, and its body.
    decided: (Reply, BytesMut),
}

impl Question<'_> {
    /// Where the assignment goes.
    pub(super) fn assignment_subject(
        &self,
        push: &Push<'_>,
        policy: &Policy,
        settings: &Settings,
    ) -> Option<String> {
        let names = &settings.names;
        let standard = names.standard_assign(&self.request.tenant_id, settings.assignments.require_tenant);
        let asked = push.subject.as_deref();
        let subject = routing::assignment_subject(policy.assignment_subjects(), &standard, asked)?;
        // A list may be older than the executors' prefix.
        names.is_assignable(subject).then(|| subject.to_owned())
    }

    /// The answer where [`Self::assignment_subject`] finds none.
    pub(super) fn no_subject(
        &self,
        push: &Push<'_>,
        policy: &Policy,
        span: &mut Option<SpanGuard>,
        out: &mut BytesMut,
    ) -> Handled {
        let field = wire::assignment_subject_field(self.content);
        let message = match &push.subject {
            Some(_) => format!("{field} is none of those that the policy lets assignments go to"),
            None => "the tenant has no assignment subject of its own, and its policy lists none".to_owned(),
        };
        let details = serde_json::json!({
            "field": field, "tenant_id": self.request.tenant_id, "policy_id": policy.id(),
        });
        self.with(ErrorCode::InvalidRequest, &message, Details::Value(&details), span, out)
    }
}

impl Request<'_> {
    /// Begins to track the assignment of a decision. Gives what is tracked; `None` if the tenant has no place left in
    /// the table.
    pub(super) fn track(
        &self,
        request: &RouteRequest<'_>,
        decision: &Decision<'_>,
        assignment_id: &str,
        span: Option<&SpanGuard>,
    ) -> Option<Tracked> {
        let deadline_ms = deadline_ms(&self.worker.settings, decision.expected_latency_ms);
        let tracked = Tracked {
            tenant_id: Arc::from(request.tenant_id.as_ref()),
            provider_id: Arc::from(decision.provider_id),
            request_id: Arc::from(request.request_id.as_ref()),
            issued: self.now,
            deadline: Tick(self.now.0.saturating_add(deadline_ms)),
            trace: span.map(SpanGuard::context),
        };
        if self.worker.assignments.track(assignment_id, tracked.clone()) {
            return Some(tracked);
        }
        self.worker.metrics.queue_refused.inc(Queue::Assignments);
        None
    }

    /// The assignment of a decision that is tracked, ready to be published.
    pub(super) fn pushing(
        &self,
        to: &Question<'_>,
        decision: &Decision<'_>,
        Assigned { assignment_id, subject, tracked }: Assigned<'_>,
        incoming: &Incoming<'_>,
        decided: (Reply, BytesMut),
    ) -> Pushing {
        let settings = &self.worker.settings;
        let retry = Retry {
            max_attempts: settings.assignments.retry_max_attempts,
            backoff_ms: u64::try_from(settings.assignments.retry_backoff.as_millis()).unwrap_or(u64::MAX),
        };
        let mut body = BytesMut::with_capacity(self.message.payload.len() + 512);
        let deadline_ms = tracked.deadline.since(tracked.issued);
        let assignment = Assignment { assignment_id, request: &to.request, decision, deadline_ms, retry };
        encode_assignment(&assignment, &mut body);
        let span = decided.0.span.as_ref();
        let told = Told { subject: &subject, body_size: body.len(), id: Some(assignment_id) };
        let sending = self.worker.tracing.assign(span, &told);
        let outgoing = self.worker.tracing.outgoing(sending.as_ref().or(span), incoming);
        let trace = trace(&outgoing).map(|(name, value)| (name, value.to_owned())).collect();
        Pushing {
            assignment_id: assignment_id.to_owned(),
            subject,
            body,
            trace,
            sending,
            policy_id: decision.policy_id.to_owned(),
            tracked,
            content: to.content,
            trace_id: to.request.trace_id.as_deref().map(str::to_owned),
            decided,
        }
    }
}

impl Pushing {
    /// Publishes the assignment. Gives the answer and its body.
    pub(super) async fn publish(mut self, worker: &Worker) -> (Reply, BytesMut) {
        let published = self.try_publish(worker).await;
        let code = published.as_ref().err().map(|(code, _)| *code);
        if let Some(sending) = self.sending.take() {
            sending.end(&Facts {
                request_id: Some(&self.tracked.request_id),
                tenant_id: Some(&self.tracked.tenant_id),
                provider_id: Some(&self.tracked.provider_id),
                assignment_id: Some(&self.assignment_id),
                error: code
                    .map(|code| if code == ErrorCode::NoExecutor { code.as_str() } else { "publish_failed" }),
                ..Facts::default()
            });
        }
        match published {
            Ok(()) => self.decided,
            Err((code, message)) => self.refused(worker, code, message),
        }
    }

    async fn try_publish(&self, worker: &Worker) -> Result<(), (ErrorCode, &'static str)> {
        const FAILED: (ErrorCode, &str) = (ErrorCode::Internal, "the assignment could not be published");
        // While the broker is away nobody would get it.
        if !worker.link.is_up() {
            return Err(FAILED);
        }
        let mut headers: SmallVec<[(&str, &str); 4]> = SmallVec::new();
        headers.push((CONTENT_TYPE, Content::Json.mime()));
        headers.push(("Nats-Msg-Id", &self.assignment_id));
        headers.extend(self.trace.iter().map(|(name, value)| (*name, value.as_str())));
        let message = Outgoing { headers: &headers, ..Outgoing::new(&self.subject, &self.body) };
        match worker.traffic.deliver(&message, REPORT_PATIENCE).await {
            // One that may be on its way is awaited as any other: it ends by its result or its deadline.
            Ok(Delivery::Received | Delivery::Unknown) => Ok(()),
            Ok(Delivery::NoReceiver) => {
                Err((ErrorCode::NoExecutor, "nobody is subscribed to the assignment's subject"))
            }
            Err(_) => Err(FAILED),
        }
    }

    fn refused(self, worker: &Worker, code: ErrorCode, message: &str) -> (Reply, BytesMut) {
        let (Reply { span, .. }, mut body) = self.decided;
        body.clear();
        let mut span = span;
        // One whose deadline has passed meanwhile has ended by that.
        let ends_here = worker.assignments.ended(&self.assignment_id).is_some();
        let details = serde_json::json!({
            "subject": self.subject,
            "assignment_id": self.assignment_id,
            "provider_id": &*self.tracked.provider_id,
        });
        if code == ErrorCode::NoExecutor {
            if ends_here {
                worker.metrics.assignments.inc(Counted::NoExecutor);
                worker.report_no_executor(&Unreceived {
                    tracked: &self.tracked,
                    assignment_id: &self.assignment_id,
                    policy_id: &self.policy_id,
                    subject: &self.subject,
                });
            }
        } else {
            worker.metrics.nats_publish_failures.inc(Publish::Assignment);
        }
        let reply = ErrorReply {
            code,
            message,
            details: Details::Value(&details),
            request_id: Some(&self.tracked.request_id),
            trace_id: self.trace_id.as_deref(),
        };
        (error_reply(self.content, &reply, &mut span, &mut body), body)
    }
}
