//! Requests that wait for the broker, each in a task of its own.

use std::sync::Arc;
use std::time::Duration;

use beamline_nats::{Client, Message};
use bytes::BytesMut;
use futures_util::future::join_all;

use super::push::Pushing;
use super::serve::{is_plain, publish};
use super::tally::Tally;
use super::{Handled, MustClaim, Reply, Request, answer_at, explain};
use crate::domain::Tick;
use crate::nats::Worker;
use crate::nats::claims::{Claimed, Wanted};
use crate::nats::headers::Received;
use crate::state::Answer;
use crate::telemetry::{RoutingStep, SpanGuard};
use crate::wire::Scratch;

/// A request that waits for its claim.
pub(super) struct Claiming {
    pub(super) message: Message,
    pub(super) arrived: Tick,
    pub(super) began: u64,
    pub(super) answers: Vec<(usize, Answer)>,
    pub(super) span: Option<SpanGuard>,
    /// That of the policy which it began by.
    pub(super) position: u64,
}

impl Claiming {
    pub(super) async fn run(mut self, worker: Arc<Worker>, client: Client, mut claim: MustClaim) {
        let mut claims: Vec<(usize, Claimed)> = Vec::new();
        let message = Received::of(self.message.as_ref());
        let mut out = BytesMut::new();
        let (request_id, begun) = (claim.request_id.clone(), Arc::clone(&claim.routable));
        let handled = loop {
            let cell = Arc::clone(claim.slot.cell());
            let asked = worker.clock.nanos();
            let wanted = Wanted { request_id: &claim.request_id, lease_ms: claim.lease_ms };
            let waited = Duration::from_millis(worker.clock.tick().since(self.arrived));
            let left = worker.settings.decide.max_queue.saturating_sub(waited);
            let claimed = worker.claim(claim.slot, wanted, left).await;
            if let Some(span) = self.span.as_mut() {
                span.tell(RoutingStep::Claim {
                    provider_id: cell.provider_id.as_str(),
                    outcome: explain::claimed(claimed.answer),
                    waited: Duration::from_nanos(worker.clock.nanos() - asked),
                });
            }
            self.answers.push((claim.candidate, claimed.answer));
            claims.push((claim.candidate, claimed));
            let request = Request {
                worker: &worker,
                message,
                arrived: self.arrived,
                stale: false,
                position: self.position,
                complete: true,
                found: Some(&begun),
                now: worker.clock.tick(),
                timed: true,
            };
            let (mut scratch, mut unwaited) = (Scratch::default(), None);
            let asked = request.read(&mut scratch);
            match request.answer(&asked, &mut self.answers, &mut out, &mut unwaited, &mut self.span) {
                Handled::Claim(next) => claim = next,
                handled => break (handled, unwaited),
            }
        };
        let (mut handled, unwaited) = handled;
        if let Handled::Push(pushing) = handled {
            let reply;
            (reply, out) = pushing.publish(&worker).await;
            handled = Handled::Reply(reply);
        }
        let probed = match &handled {
            Handled::Reply(Reply { probe, .. }) => *probe,
            _ => None,
        };
        // A slot that the decision does not use is given back at once: a later rule chose another, or
        // the assignment could not be published.
        for (candidate, claimed) in &claims {
            if probed != Some(*candidate) {
                worker.release_unused(claimed, &request_id);
            }
        }
        if let Handled::Reply(reply) = handled {
            let to = answer_at(&worker, &message);
            let late = Late { plain: is_plain(&worker, &message), began: self.began, unwaited };
            late.answer(&worker, &client, to, reply, out).await;
        }
        join_all(claims.into_iter().map(|(_, claimed)| worker.settle_claim(claimed, &request_id))).await;
    }
}

/// A request that waits for its assignment to be published.
pub(super) struct Pushed {
    pub(super) to: String,
    pub(super) pushing: Box<Pushing>,
    pub(super) late: Late,
}

impl Pushed {
    pub(super) async fn run(self, worker: Arc<Worker>, client: Client) {
        let (reply, out) = self.pushing.publish(&worker).await;
        self.late.answer(&worker, &client, &self.to, reply, out).await;
    }
}

/// What an answer that had to wait still needs.
pub(super) struct Late {
    /// Whether the request came on the subject of all tenants.
    pub(super) plain: bool,
    /// When it was taken, in nanoseconds of the clock.
    pub(super) began: u64,
    /// The claim that it makes if it gets a provider.
    pub(super) unwaited: Option<MustClaim>,
}

impl Late {
    async fn answer(self, worker: &Worker, client: &Client, to: &str, reply: Reply, mut body: BytesMut) {
        let Self { plain, began, unwaited } = self;
        let mut tally = Tally::default();
        tally.note(worker, reply.outcome, plain, worker.clock.nanos() - began);
        tally.tell(worker);
        let unwaited = unwaited.filter(|_| reply.outcome.is_ok());
        publish(worker, client, to, reply, &mut body).await;
        if let Some(unwaited) = unwaited {
            unwaited.make(worker).await;
        }
    }
}
