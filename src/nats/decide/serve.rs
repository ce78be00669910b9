use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, Subject};
use bytes::{Bytes, BytesMut};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::intake::Batch;
use super::tally::Tally;
use super::{Buffers, Handled, MustClaim, Reply, Request, explain, is_answerable, reply_subject};
use crate::clock::Clock;
use crate::domain::{ErrorCode, Tick};
use crate::nats::Worker;
use crate::nats::claims::Claimed;
use crate::nats::discovery::EndpointStats;
use crate::state::Answer;
use crate::telemetry::labels::Publish;
use crate::telemetry::{Facts, RoutingStep, SpanGuard};
use crate::wire::{
    Content, Refusal, SERVICE_ERROR, SERVICE_ERROR_CODE, encode_error, is_answer, service_error,
};

/// Answers batches until there are no more, then waits for requests that still claim.
///
/// The clock is read once for each answer: where one ends the next begins.
pub(super) async fn run(
    worker: Arc<Worker>,
    client: Client,
    mut queue: mpsc::Receiver<Batch>,
    claims: Handle,
) {
    let mut buffers = Buffers::default();
    let mut tally = Tally::default();
    let mut answers = Vec::new();
    let claiming = TaskTracker::new();
    while let Some(mut batch) = queue.recv().await {
        let mut began = worker.clock.nanos();
        // Of a batch the first is timed in its parts.
        let mut timed = true;
        for message in &mut batch.messages {
            let mut unwaited = None;
            let request = Request {
                worker: &worker,
                message,
                arrived: batch.arrived,
                now: Clock::tick_at(began),
                timed: std::mem::take(&mut timed),
                stale: batch.stale,
                begun: None,
            };
            let mut span = request.span();
            let handled = request.handle(&mut answers, &mut buffers, &mut unwaited, &mut span);
            if let Some(unwaited) = unwaited {
                let worker = Arc::clone(&worker);
                let claim = async move {
                    worker
                        .claim_unwaited(unwaited.reservation, &unwaited.request_id, unwaited.lease_ms)
                        .await;
                };
                claiming.spawn_on(claim, &claims);
            }
            match handled {
                Handled::Reply(reply) => {
                    let ended = worker.clock.nanos();
                    let plain = is_plain(&worker, message);
                    tally.note(&worker, reply.outcome, plain, ended - began);
                    began = ended;
                    let subject = reply_subject(&worker, message);
                    let mut sent = std::pin::pin!(publish(&worker, &client, subject, reply));
                    if futures_util::poll!(&mut sent).is_pending() {
                        // The connection takes no more for now: nothing that the next request is late by.
                        sent.await;
                        began = worker.clock.nanos();
                    }
                }
                Handled::Dropped => {}
                Handled::Claim(claim) => {
                    let answers = std::mem::take(&mut answers);
                    let message = message.clone();
                    let task = Claiming { message, arrived: batch.arrived, began, answers, span };
                    claiming.spawn_on(task.run(Arc::clone(&worker), client.clone(), claim), &claims);
                }
            }
            answers.clear();
        }
        tally.tell(&worker);
    }
    claiming.close();
    claiming.wait().await;
}

/// Whether a request came on the subject of all tenants.
fn is_plain(worker: &Worker, message: &Message) -> bool {
    *message.subject.as_str() == *worker.settings.names.decide
}

async fn publish(worker: &Worker, client: &Client, subject: Subject, reply: Reply) {
    let Reply { headers, body, span, .. } = reply;
    let sent = match headers {
        Some(headers) => client.publish_with_headers(subject, headers, body).await,
        None => client.publish(subject, body).await,
    };
    if sent.is_err() {
        worker.metrics.nats_publish_failures.inc(Publish::Reply);
    }
    if let Some(span) = span {
        span.end(&Facts::default());
    }
}

impl Worker {
    /// The endpoint that a request for a decision came to.
    pub(super) fn asked_of(&self, message: &Message) -> &EndpointStats {
        let plain = *message.subject.as_str() == *self.settings.names.decide;
        if plain { &self.discovery.decide } else { &self.discovery.tenant_decide }
    }
}

/// A request that waits for its claim.
struct Claiming {
    message: Message,
    arrived: Tick,
    began: u64,
    answers: Vec<(usize, Answer)>,
    span: Option<SpanGuard>,
}

impl Claiming {
    async fn run(mut self, worker: Arc<Worker>, client: Client, mut claim: MustClaim) {
        let mut claims: Vec<(usize, Claimed)> = Vec::new();
        let (request_id, begun) = (claim.request_id.clone(), Arc::clone(&claim.routable));
        let handled = loop {
            let cell = Arc::clone(claim.reservation.cell());
            let asked = worker.clock.nanos();
            let claimed = worker.claim(claim.reservation, &claim.request_id, claim.lease_ms).await;
            if let Some(span) = self.span.as_mut() {
                span.tell(RoutingStep::Claim {
                    provider_id: cell.provider_id.as_str(),
                    outcome: explain::claimed(claimed.answer),
                    waited: Duration::from_nanos(worker.clock.nanos() - asked),
                });
            }
            self.answers.push((claim.candidate, claimed.answer));
            claims.push((claim.candidate, claimed));
            let mut buffers = Buffers::default();
            let request = Request {
                worker: &worker,
                message: &self.message,
                arrived: self.arrived,
                now: worker.clock.tick(),
                timed: true,
                stale: false,
                begun: Some(&begun),
            };
            let mut unwaited = None;
            match request.handle(&mut self.answers, &mut buffers, &mut unwaited, &mut self.span) {
                Handled::Claim(next) => claim = next,
                handled => break (handled, unwaited),
            }
        };
        let (handled, unwaited) = handled;
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
            let mut tally = Tally::default();
            let took = worker.clock.nanos() - self.began;
            tally.note(&worker, reply.outcome, is_plain(&worker, &self.message), took);
            tally.tell(&worker);
            let subject = reply_subject(&worker, &mut self.message);
            publish(&worker, &client, subject, reply).await;
        }
        if let Some(unwaited) = unwaited {
            worker.claim_unwaited(unwaited.reservation, &unwaited.request_id, unwaited.lease_ms).await;
        }
    }
}

/// The answer to a request that a full queue refused, undecoded but for its ids.
pub(super) fn overloaded(worker: &Worker, message: &mut Message) -> Option<(Subject, HeaderMap, Bytes)> {
    if is_answer(&message.payload) || !is_answerable(worker, message) {
        return None;
    }
    let subject = reply_subject(worker, message);
    let content = Content::sniff(&message.payload);
    let message_text = "this worker's queue is full";
    let refusal = Refusal::echoing(ErrorCode::Overloaded, None, message_text, content, &message.payload);
    let reply = refusal.reply();
    let mut out = BytesMut::new();
    encode_error(content, &reply, &mut out);
    let mut headers = super::typed(content);
    headers.insert(SERVICE_ERROR, service_error(reply.message).as_ref());
    headers.insert(SERVICE_ERROR_CODE, reply.code.number().to_string().as_str());
    Some((subject, headers, out.freeze()))
}
