//! Answering requests for decisions.
//!
//! Each decide connection has a thread of its own, on whose runtime the client library's task for it and
//! the two of ours take turns: a request that is on its way passes no other thread, and wakes none. The
//! *intake* takes messages off the subscription as they
//! come, stamps them and queues them in batches; what a full queue refuses is answered `overloaded`
//! at once, so that the library's own buffer never drops in silence. The *decider* takes batches and
//! answers each request inline: no task, no lock and no wait on the network for one that needs no
//! probe. Where a breaker is half-open and a slot may be free, the request goes on in a task of its
//! own that claims it; there are never more of these than free slots.

mod explain;
mod incoming;
mod intake;
mod pulse;
mod push;
mod serve;
mod tally;
mod thread;

pub use thread::on_a_thread;

use std::sync::Arc;

use async_nats::{HeaderMap, Message};
use bytes::BytesMut;

use super::Worker;
use super::headers::Seen;
use crate::domain::{Decision, ErrorCode, RouteRequest, Tick};
use crate::routing::{self, Choice, Excluded, Refused, Routed, Trail};
use crate::state::{Answer, Asking, Reader, Reservation, Routable};
use crate::telemetry::{Facts, Incoming, Message as Told, SpanGuard};
use crate::wire::subjects::token_at_star;
use crate::wire::{
    self, CONTENT_TYPE, CircuitOpen, Content, DecisionReply, Details, ErrorReply, Refusal, RefusedProvider,
    Rules, SERVICE_ERROR, SERVICE_ERROR_CODE, Scratch,
};

/// A reply, ready to be published.
pub(super) struct Reply {
    pub(super) headers: Option<HeaderMap>,
    pub(super) body: bytes::Bytes,
    pub(super) outcome: Result<crate::domain::Reason, ErrorCode>,
    /// The candidate that the request probes.
    pub(super) probe: Option<usize>,
    pub(super) span: Option<SpanGuard>,
}

/// How far a request came without waiting.
pub(super) enum Handled {
    /// It is answered.
    Reply(Reply),
    /// It is dropped: there is nobody to answer, or it is an answer itself.
    Dropped,
    /// A claim has to be made first.
    Claim(MustClaim),
}

/// Reused from request to request.
#[derive(Default)]
pub(super) struct Buffers {
    scratch: Scratch,
    out: BytesMut,
    policies: Reader,
}

/// A claim that a request has to make, or that is made for it in the background.
pub(super) struct MustClaim {
    /// What the candidate is one of: the request goes on by the revision that it began by, for another
    /// may name its candidates in another order.
    pub(super) routable: Arc<Routable>,
    pub(super) candidate: usize,
    pub(super) reservation: Reservation,
    pub(super) request_id: String,
    pub(super) lease_ms: u64,
}

/// One request on its way through.
pub(super) struct Request<'m> {
    pub(super) worker: &'m Arc<Worker>,
    pub(super) message: &'m Message,
    pub(super) arrived: Tick,
    pub(super) now: Tick,
    /// Whether the part that asks breakers is timed.
    pub(super) timed: bool,
    /// Whether it may have waited for longer than since then.
    pub(super) stale: bool,
    /// What an earlier run began by.
    pub(super) begun: Option<&'m Arc<Routable>>,
}

impl Request<'_> {
    /// The request's span, if it is recorded.
    pub(super) fn span(&self) -> Option<SpanGuard> {
        let headers = Seen(self.message.headers.as_ref());
        let told = Told {
            subject: self.message.subject.as_str(),
            body_size: self.message.payload.len(),
            id: headers.value("Nats-Msg-Id"),
        };
        self.worker.tracing.decide(&incoming(headers), &told)
    }

    /// Answers it as far as that goes without waiting. `answers` are the claims made so far; a claim
    /// that is to be made in the background is put into `unwaited`. The reply takes the span.
    pub(super) fn handle(
        &self,
        answers: &mut Vec<(usize, Answer)>,
        buffers: &mut Buffers,
        unwaited: &mut Option<MustClaim>,
        span: &mut Option<SpanGuard>,
    ) -> Handled {
        let settings = &self.worker.settings;
        if !is_answerable(self.worker, self.message) {
            return Handled::Dropped;
        }
        let headers = Seen(self.message.headers.as_ref());
        let incoming = incoming(headers);
        let Buffers { scratch, out, policies } = buffers;
        let body = &self.message.payload;
        let tenant = token_at_star(&settings.names.decide_tenants, self.message.subject.as_str());

        let content = match Content::of(&headers, body) {
            Ok(content) => content,
            Err(_) if wire::is_answer(body) => return Handled::Dropped,
            Err(refusal) => return refuse(Content::sniff(body), &refusal, span, out),
        };
        if body.len() > settings.decide.max_request_bytes {
            if wire::is_answer(body) {
                return Handled::Dropped;
            }
            let message = format!("the body has more than {} bytes", settings.decide.max_request_bytes);
            let refusal = Refusal::echoing(ErrorCode::InvalidRequest, None, message, content, body);
            return refuse(content, &refusal, span, out);
        }
        let rules = Rules {
            assign_prefix: &settings.names.exec_assign_prefix,
            ack_subject: &settings.names.exec_ack,
        };
        let request = match wire::decode_request(content, body, tenant, &rules, scratch) {
            Ok(request) => request,
            Err(_) if content == Content::Json && wire::is_answer(body) => return Handled::Dropped,
            Err(refusal) => return refuse(content, &refusal, span, out),
        };
        if let Some(span) = span.as_mut() {
            span.record(&Facts {
                request_id: Some(&request.request_id),
                tenant_id: Some(&request.tenant_id),
                policy_id: Some(&request.policy_id),
                ..Facts::default()
            });
        }
        let named = headers.value(CONTENT_TYPE).is_some();
        let to = To { content, named, request: &request };
        if tenant.is_none() && settings.decide.require_tenant_subject {
            let message = "this router decides only on the tenant's own subject";
            return to.with(ErrorCode::Unauthorized, message, Details::None, span, out);
        }
        let now = self.now;
        if u128::from(now.since(self.arrived)) > settings.decide.max_queue.as_millis() {
            let message = "the request waited too long in this worker";
            return to.with(ErrorCode::Overloaded, message, Details::None, span, out);
        }
        if self.stale {
            let message = "this worker stood still, and the request may have waited too long";
            return to.with(ErrorCode::Overloaded, message, Details::None, span, out);
        }
        if !self.worker.ledger.is_complete() {
            let message = "this worker is rebuilding its state";
            return to.with(ErrorCode::Overloaded, message, Details::None, span, out);
        }
        let found = match self.begun {
            Some(begun) => Some(begun),
            None => policies.find(self.worker.state.catalog(), &request.tenant_id, &request.policy_id),
        };
        let Some(routable) = found else {
            let message = "the tenant has no such policy";
            let details = Details::Value(&serde_json::json!({
                "tenant_id": request.tenant_id, "policy_id": request.policy_id
            }));
            return to.with(ErrorCode::PolicyNotFound, message, details, span, out);
        };
        let (choice, trail) = loop {
            let mut asking = Asking::new(&self.worker.state, routable, &request.request_id, now, answers);
            let mut trail = Trail::new(request.explain || span.is_some());
            let checked = self.timed.then(|| self.worker.clock.nanos());
            let routed = routing::decide(&routable.policy, &request, &mut asking, &mut trail);
            if let Some(checked) = checked {
                let took = self.worker.clock.nanos() - checked;
                self.worker.metrics.breaker_check_duration.observe_nanos(took);
            }
            match routed {
                Routed::Claim(candidate) => match self.reserve(routable, candidate, now) {
                    Ok(reservation) => {
                        return Handled::Claim(self.must_claim(
                            &request,
                            routable,
                            candidate,
                            reservation,
                            now,
                        ));
                    }
                    Err(answer) => answers.push((candidate, answer)),
                },
                Routed::To(choice) => {
                    let claim = asking.settle(|cell, n| self.warn(cell, n, routable, &request, &incoming));
                    *unwaited = claim.map(|r| self.must_claim(&request, routable, choice.candidate, r, now));
                    break (Ok(choice), trail);
                }
                Routed::CircuitOpen(refused) => {
                    asking.settle(|cell, n| self.warn(cell, n, routable, &request, &incoming));
                    break (Err(Failed::Open(refused)), trail);
                }
                Routed::Constrained(excluded) => break (Err(Failed::Constrained(excluded)), trail),
            }
        };
        if let Some(span) = span.as_mut() {
            explain::tell(span, routable, &trail, now);
        }
        match choice {
            Ok(choice) => self.decided(&to, routable, &choice, &trail, now, span, &incoming, out),
            Err(Failed::Open(refused)) => to.circuit_open(routable, &refused, span, out),
            Err(Failed::Constrained(excluded)) => to.constrained(routable, &excluded, span, out),
        }
    }

    fn reserve(&self, routable: &Routable, candidate: usize, now: Tick) -> Result<Reservation, Answer> {
        let full = |state, retry_after_ms| Answer::Refused { state, retry_after_ms };
        let Some(cell) = routable.cells.get(candidate) else {
            return Err(full(crate::breaker::State::Open, explain::RETRY_MS));
        };
        match cell.read(now) {
            crate::state::Reading::Claim { free, state, .. } => {
                cell.reserve_claim(free).ok_or_else(|| full(state, explain::RETRY_MS))
            }
            // It moved since it was asked; the next run sees what it is now.
            crate::state::Reading::Refuse { state, retry_after_ms, .. } => Err(full(state, retry_after_ms)),
            crate::state::Reading::Pass => Err(Answer::NotNeeded),
        }
    }

    fn must_claim(
        &self,
        request: &RouteRequest<'_>,
        routable: &Arc<Routable>,
        candidate: usize,
        reservation: Reservation,
        now: Tick,
    ) -> MustClaim {
        let latency = reservation.cell().observed(now).latency_ms;
        let lease_ms =
            if request.push.is_some() { push::lease_ms(&self.worker.settings, latency) } else { 0 };
        let (routable, request_id) = (Arc::clone(routable), request.request_id.clone().into_owned());
        MustClaim { routable, candidate, reservation, request_id, lease_ms }
    }

    #[expect(clippy::too_many_arguments, reason = "all that a reply tells, from one place")]
    fn decided(
        &self,
        to: &To<'_>,
        routable: &Routable,
        choice: &Choice<'_>,
        trail: &Trail,
        now: Tick,
        span: &mut Option<SpanGuard>,
        incoming: &Incoming<'_>,
        out: &mut BytesMut,
    ) -> Handled {
        let (Some(candidate), Some(cell)) =
            (routable.policy.candidates().get(choice.candidate), routable.cells.get(choice.candidate))
        else {
            return to.with(ErrorCode::Internal, "internal error", Details::None, span, out);
        };
        let observed = cell.observed(now);
        #[expect(clippy::cast_precision_loss, reason = "means lie far below 2^53")]
        let expected_cost = observed.cost_nanos as f64 / 1e9;
        let mut decision = Decision {
            provider_id: candidate.provider.as_str(),
            reason: choice.reason,
            expected_latency_ms: observed.latency_ms,
            expected_cost,
            policy_id: routable.policy.id().as_str(),
            policy_revision: routable.revision,
            sticky_key: choice.sticky_key.as_deref(),
            assignment_id: None,
            probe: choice.probe,
            backoff_ms: choice.backoff_ms,
        };
        let mut id_text = uuid::Uuid::encode_buffer();
        if let Some(push) = &to.request.push {
            let id: &str = uuid::Uuid::new_v4().hyphenated().encode_lower(&mut id_text);
            decision.assignment_id = Some(id);
            let pushed = self.push(to.request, push, &decision, id, now, span.as_ref(), incoming);
            if let Err(code) = pushed {
                let message = match code {
                    ErrorCode::Overloaded => "as many assignments as this worker tracks are in flight",
                    _ => "the assignment could not be published",
                };
                return to.with(code, message, Details::None, span, out);
            }
        }
        let explanation = if to.request.explain {
            explain::explanation(routable, &decision, trail, &to.request.request_id, self.worker)
        } else {
            None
        };
        if let Some(span) = span.as_mut() {
            span.record(&Facts {
                provider_id: Some(decision.provider_id),
                policy_revision: Some(decision.policy_revision),
                reason: Some(decision.reason),
                probe: Some(decision.probe),
                assignment_id: decision.assignment_id,
                breaker_state: Some(explain::state_of(cell, now).as_str()),
                ..Facts::default()
            });
        }
        let reply = DecisionReply {
            decision: &decision,
            explanation: explanation.as_deref(),
            request_id: &to.request.request_id,
            trace_id: to.request.trace_id.as_deref(),
        };
        wire::encode_decision(to.content, &reply, out);
        Handled::Reply(Reply {
            // JSON is what a reply is taken for; protobuf could not be told from garbage.
            headers: (to.named || to.content == Content::Protobuf).then(|| typed(to.content)),
            body: out.split().freeze(),
            outcome: Ok(decision.reason),
            probe: choice.probe.then_some(choice.candidate),
            span: span.take(),
        })
    }

    fn warn(
        &self,
        cell: &crate::state::Cell,
        stands_for: u32,
        routable: &Routable,
        request: &RouteRequest<'_>,
        incoming: &Incoming<'_>,
    ) {
        let of_headers = || incoming.parent().map(|p| p.trace_id_hex().into());
        let trace_id = request.trace_id.clone().or_else(of_headers);
        let (failure_count, error_rate, state) = {
            let guarded = cell.lock();
            let view = guarded.breaker.view(self.worker.clock.stamp());
            (view.failures_in_a_row, view.window.error_rate().as_f64(), view.state)
        };
        tracing::warn!(
            event = "circuit_breaker_fail_fast",
            tenant_id = cell.tenant_id.as_str(),
            provider_id = cell.provider_id.as_str(),
            policy_id = routable.policy.id().as_str(),
            reason = state.as_str(),
            failure_count,
            error_rate,
            stands_for,
            trace_id = trace_id.as_deref(),
        );
    }
}

/// Whether there is somebody to answer; else the request is dropped, counted.
fn is_answerable(worker: &Worker, message: &Message) -> bool {
    message.reply.as_ref().is_none_or(|reply| worker.may_answer_at(reply))
}

/// Where the answer goes, taken out of the message: a copy would cost an allocation.
fn reply_subject(worker: &Worker, message: &mut Message) -> async_nats::Subject {
    let default = || async_nats::Subject::from(worker.settings.names.decide_reply.as_str());
    message.reply.take().unwrap_or_else(default)
}

fn incoming<'m>(headers: Seen<'m>) -> Incoming<'m> {
    Incoming::read(headers.value("traceparent"), headers.value("tracestate"))
}

fn refuse(content: Content, refusal: &Refusal, span: &mut Option<SpanGuard>, out: &mut BytesMut) -> Handled {
    Handled::Reply(error_reply(content, &refusal.reply(), span, out))
}

enum Failed {
    Open(Vec<Refused>),
    Constrained(Vec<Excluded>),
}

/// All that a reply needs of its request.
struct To<'r> {
    content: Content,
    /// Whether the request named its content type, so that the reply does too.
    named: bool,
    request: &'r RouteRequest<'r>,
}

impl To<'_> {
    fn with(
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

    fn circuit_open(
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

    fn constrained(
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

/// An error's reply with the headers that NATS ADR-32 wants.
fn error_reply(
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
    let mut headers = typed(content);
    headers.insert(SERVICE_ERROR, wire::service_error(reply.message).as_ref());
    headers.insert(SERVICE_ERROR_CODE, reply.code.number().to_string().as_str());
    Reply {
        headers: Some(headers),
        body: out.split().freeze(),
        outcome: Err(reply.code),
        probe: None,
        span: span.take(),
    }
}

fn typed(content: Content) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, content.mime());
    headers
}
