//! Answering requests for decisions.
//!
//! Each decide connection has a thread of its own, on whose runtime the connection's task and the two of
//! this module take turns: a request that is on its way passes no other thread, and wakes none. The
//! *intake* takes batches off the subscriber as they were read from the socket, stamps and queues them.
//! Long requests, and what comes while too much waits, go to a second thread, where tenants have their turns
//! (`in_turn`); what that queue refuses is answered `overloaded` at once, so that the subscriber never drops
//! in silence. The *decider* takes batches and answers each request inline: no task, no lock and no wait on
//! the network for one that needs no probe. A request is read where it lies in its batch, and a reply is
//! written into the connection's buffer. It reads a few requests, then looks up all their policies, then
//! decides them: what has to be fetched from memory for one does not wait for what another needs. Where a
//! breaker is half-open and a slot may be free, the request goes on in a task of its own that claims it;
//! there are never more of these than free slots.

mod explain;
mod in_turn;
mod intake;
mod push;
mod reading;
mod refusals;
mod serve;
mod standing;
mod tally;
mod thread;
mod waiting;

pub(in crate::nats) use standing::is_fresh_for_others;
pub use thread::on_a_thread;

use std::sync::Arc;

use bytes::BytesMut;

use self::push::{Assigned, Pushing};
use self::reading::{Asked, Question};
use self::refusals::{ReplyHeaders, refuse};
use super::Worker;
use super::claims::{Slot, Wanted};
use super::headers::{Received, incoming};
use crate::domain::{Decision, ErrorCode, RouteRequest, Tick};
use crate::routing::{self, Choice, Excluded, Refused, Routed, Trail};
use crate::state::{Answer, Asking, Reading, Routable};
use crate::telemetry::{Facts, Incoming, Message as Told, SpanGuard};
use crate::wire::{self, Content, DecisionReply, Details};

const WAITED: &str = "the request waited too long in this worker";

/// A reply, ready to be published; its body stands in the buffer that it was written into.
pub(super) struct Reply {
    headers: ReplyHeaders,
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
    /// It is answered once its assignment is published.
    Push(Box<Pushing>),
}

/// A claim that a request has to make, or that is made for it in the background.
pub(super) struct MustClaim {
    /// What the candidate is one of: the request goes on by the revision that it began by, for another
    /// may name its candidates in another order.
    pub(super) routable: Arc<Routable>,
    pub(super) candidate: usize,
    pub(super) slot: Slot,
    pub(super) request_id: String,
    pub(super) lease_ms: u64,
}

impl MustClaim {
    /// Makes a claim that no answer waits for.
    async fn make(self, worker: &Worker) {
        let Self { slot, request_id, lease_ms, .. } = self;
        worker.claim_unwaited(slot, Wanted { request_id: &request_id, lease_ms }).await;
    }
}

/// One request on its way through.
pub(super) struct Request<'m> {
    pub(super) worker: &'m Arc<Worker>,
    pub(super) message: Received<'m>,
    pub(super) arrived: Tick,
    /// Whether it may have waited for longer than since then.
    pub(super) stale: bool,
    /// The last entry of the log that its policy and its breakers hold, at least.
    pub(super) position: u64,
    /// Whether all policies were known before its own was looked up.
    pub(super) complete: bool,
    /// The policy that decides, once it was looked up.
    pub(super) found: Option<&'m Arc<Routable>>,
    /// When it is decided.
    pub(super) now: Tick,
    /// Whether the part that asks breakers is timed.
    pub(super) timed: bool,
}

impl Request<'_> {
    /// The request's span, if it is recorded.
    pub(super) fn span(&self) -> Option<SpanGuard> {
        let Received { subject, headers, payload, .. } = self.message;
        let told = Told { subject, body_size: payload.len(), id: headers.get("Nats-Msg-Id") };
        self.worker.tracing.decide(&incoming(&headers), &told)
    }

    /// Answers it as far as that goes without waiting. `answers` are the claims made so far; a claim
    /// that is to be made in the background is put into `unwaited`. The reply takes the span, and its body
    /// is appended to `out`.
    fn answer(
        &self,
        asked: &Asked<'_>,
        answers: &mut Vec<(usize, Answer)>,
        out: &mut BytesMut,
        unwaited: &mut Option<MustClaim>,
        span: &mut Option<SpanGuard>,
    ) -> Handled {
        let to = match asked {
            Asked::Decision(question) => question,
            Asked::Refused(content, refusal) => return refuse(*content, refusal, span, out),
            Asked::Nothing => return Handled::Dropped,
        };
        let request = &to.request;
        if let Some(span) = span.as_mut() {
            span.record(&Facts {
                request_id: Some(&request.request_id),
                tenant_id: Some(&request.tenant_id),
                policy_id: Some(&request.policy_id),
                ..Facts::default()
            });
        }
        if let Some((code, message)) = self.cannot(to) {
            return to.with(code, message, Details::None, span, out);
        }
        let Some(routable) = self.found else {
            let message = "the tenant has no such policy";
            let details = Details::Value(&serde_json::json!({
                "tenant_id": request.tenant_id, "policy_id": request.policy_id
            }));
            return to.with(ErrorCode::PolicyNotFound, message, details, span, out);
        };
        let now = self.now;
        let incoming = incoming(&self.message.headers);
        let (choice, trail) = loop {
            let mut asking = Asking::new(&self.worker.state, routable, &request.request_id, now, answers);
            let mut trail = Trail::new(request.explain || span.is_some());
            let checked = self.timed.then(|| self.worker.clock.nanos());
            let routed = routing::decide(&routable.policy, request, &mut asking, &mut trail);
            if let Some(checked) = checked {
                let took = self.worker.clock.nanos() - checked;
                self.worker.metrics.breaker_check_duration.observe_nanos(took);
            }
            if let (Some(step), false) = (&routable.step, matches!(routed, Routed::Claim(_))) {
                let fate = asking.fate(&routed);
                self.worker.note_watched(step, routable.policy.id(), request, fate);
            }
            match routed {
                Routed::Claim(candidate) => match self.reserve(routable, candidate, now) {
                    Ok(slot) => {
                        return Handled::Claim(self.must_claim(request, routable, candidate, slot, now));
                    }
                    Err(answer) => answers.push((candidate, answer)),
                },
                Routed::To(choice) => {
                    let claim = asking.settle(|cell, n| self.warn(cell, n, routable, request, &incoming));
                    *unwaited = claim
                        .map(|r| self.must_claim(request, routable, choice.candidate, Slot::Ask(r), now));
                    break (Ok(choice), trail);
                }
                Routed::CircuitOpen(refused) => {
                    asking.settle(|cell, n| self.warn(cell, n, routable, request, &incoming));
                    break (Err(Failed::Open(refused)), trail);
                }
                Routed::Constrained(excluded) => break (Err(Failed::Constrained(excluded)), trail),
            }
        };
        if let Some(span) = span.as_mut() {
            explain::tell(span, routable, &trail, now);
        }
        match choice {
            Ok(choice) => self.decided(to, routable, &choice, &trail, now, span, &incoming, out),
            Err(Failed::Open(refused)) => to.circuit_open(routable, &refused, span, out),
            Err(Failed::Constrained(excluded)) => to.constrained(routable, &excluded, span, out),
        }
    }

    fn waited_too_long(&self) -> bool {
        let waited = u128::from(self.now.since(self.arrived));
        waited > self.worker.settings.decide.max_queue.as_millis()
    }

    /// Why nothing is decided just now, whatever is asked.
    fn cannot(&self, to: &Question<'_>) -> Option<(ErrorCode, &'static str)> {
        let decide = &self.worker.settings.decide;
        if !to.of_tenant && decide.require_tenant_subject {
            return Some((ErrorCode::Unauthorized, "this router decides only on the tenant's own subject"));
        }
        let overloaded = if self.waited_too_long() {
            WAITED
        } else if self.stale {
            "this worker stood still, and the request may have waited too long"
        } else if !self.complete || !self.worker.ledger.is_complete() {
            "this worker is rebuilding its state"
        } else {
            return None;
        };
        Some((ErrorCode::Overloaded, overloaded))
    }

    fn reserve(&self, routable: &Routable, candidate: usize, now: Tick) -> Result<Slot, Answer> {
        let full = |state, retry_after_ms| Answer::Refused { state, retry_after_ms };
        let Some(cell) = routable.cells.get(candidate) else {
            return Err(full(crate::breaker::State::Open, explain::RETRY_MS));
        };
        let (free, refused) = match cell.read(now) {
            Reading::Claim { free, state, .. } => (free, full(state, explain::RETRY_MS)),
            // All slots are taken, maybe one of them by this worker. Or it moved since it was asked, and the next
            // run sees what it is now.
            Reading::Refuse { state, retry_after_ms, .. } => (0, full(state, retry_after_ms)),
            Reading::Pass => return Err(Answer::NotNeeded),
        };
        self.worker.claims.reserve(cell, free, now).ok_or(refused)
    }

    fn must_claim(
        &self,
        request: &RouteRequest<'_>,
        routable: &Arc<Routable>,
        candidate: usize,
        slot: Slot,
        now: Tick,
    ) -> MustClaim {
        let latency = slot.cell().observed(now).latency_ms;
        let lease_ms =
            if request.push.is_some() { push::lease_ms(&self.worker.settings, latency) } else { 0 };
        let (routable, request_id) = (Arc::clone(routable), request.request_id.clone().into_owned());
        MustClaim { routable, candidate, slot, request_id, lease_ms }
    }

    #[expect(clippy::too_many_arguments, reason = "all that a reply tells, from one place")]
    fn decided(
        &self,
        to: &Question<'_>,
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
            stale: self.worker.is_stale(now),
        };
        if decision.stale {
            self.worker.metrics.stale_decisions.inc();
        }
        let mut id_text = uuid::Uuid::encode_buffer();
        let mut assigned = None;
        if let Some(push) = &to.request.push {
            let Some(subject) = to.assignment_subject(push, &routable.policy, &self.worker.settings) else {
                return to.no_subject(push, &routable.policy, span, out);
            };
            let id: &str = uuid::Uuid::new_v4().hyphenated().encode_lower(&mut id_text);
            let Some(tracked) = self.track(&to.request, &decision, id, span.as_ref()) else {
                let message = "the tenant's share of the assignments that this worker tracks is in flight";
                return to.with(ErrorCode::Overloaded, message, Details::None, span, out);
            };
            decision.assignment_id = Some(id);
            assigned = Some(Assigned { assignment_id: id, subject, tracked });
        }
        let explanation = if to.request.explain {
            explain::explanation(routable, &decision, trail, self, &to.request.request_id)
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
        let decided = Reply {
            // JSON is what a reply is taken for; protobuf could not be told from garbage.
            headers: if to.named || to.content == Content::Protobuf {
                ReplyHeaders::Typed(to.content)
            } else {
                ReplyHeaders::None
            },
            outcome: Ok(decision.reason),
            probe: choice.probe.then_some(choice.candidate),
            span: span.take(),
        };
        let Some(assigned) = assigned else {
            wire::encode_decision(to.content, &reply, out);
            return Handled::Reply(decided);
        };
        let mut body = BytesMut::new();
        wire::encode_decision(to.content, &reply, &mut body);
        let pushing = self.pushing(to, &decision, assigned, incoming, (decided, body));
        Handled::Push(Box::new(pushing))
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
fn is_answerable(worker: &Worker, message: &Received<'_>) -> bool {
    !message.is_unanswerable() && message.reply.is_none_or(|reply| worker.may_answer_at(reply))
}

/// Where the answer goes.
fn answer_at<'a>(worker: &'a Worker, message: &Received<'a>) -> &'a str {
    message.reply.unwrap_or(&worker.settings.names.decide_reply)
}

enum Failed {
    Open(Vec<Refused>),
    Constrained(Vec<Excluded>),
}
