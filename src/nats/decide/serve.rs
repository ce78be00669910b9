use std::sync::Arc;
use std::time::Duration;

use beamline_nats::encode::Outgoing;
use beamline_nats::{Client, Message, MessageRef, PublishError};
use bytes::BytesMut;
use smallvec::SmallVec;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::intake::{Came, Waiting};
use super::reading::{Asked, Question};
use super::refusals::ReplyHeaders;
use super::tally::Tally;
use super::{Handled, MustClaim, Reply, Request, answer_at, explain, is_answerable};
use crate::clock::Clock;
use crate::domain::{ErrorCode, Reason, Tick};
use crate::nats::Worker;
use crate::nats::claims::Claimed;
use crate::nats::discovery::EndpointStats;
use crate::nats::headers::Received;
use crate::state::{Answer, Reader};
use crate::telemetry::labels::{Publish, Source};
use crate::telemetry::{Facts, RoutingStep, SpanGuard};
use crate::wire::{Content, Refusal, Scratch, encode_error, is_answer};

/// So many requests are read before the first of them is decided: enough for what they need of memory to
/// be fetched at one time, and few enough to stay in the fastest cache.
const TOGETHER: usize = 16;

/// A request that was read.
struct Opened<'m> {
    request: Request<'m>,
    message: MessageRef<'m>,
    span: Option<SpanGuard>,
    asked: Asked<'m>,
}

/// What is asked before policies are looked up: what is missing from them then may be missing for good, and what
/// was applied by then they hold.
#[derive(Clone, Copy)]
struct Known {
    complete: bool,
    position: u64,
}

impl Known {
    fn of(worker: &Worker) -> Self {
        Self { complete: worker.ledger.is_complete(), position: worker.verdicts.position() }
    }
}

impl<'m> Opened<'m> {
    fn of(
        worker: &'m Arc<Worker>,
        message: MessageRef<'m>,
        scratch: &'m mut Scratch,
        came: Came,
        known: Known,
    ) -> Self {
        let Came { arrived, stale } = came;
        let received = Received::of(message);
        if let Some(malformed) = received.malformed {
            worker.link.note_malformed(Source::Decide, malformed, &worker.metrics);
        }
        let request = Request {
            worker,
            message: received,
            arrived,
            stale,
            position: known.position,
            complete: known.complete,
            found: None,
            now: arrived,
            timed: false,
        };
        let span = request.span();
        let asked = if is_answerable(worker, &received) { request.read(scratch) } else { Asked::Nothing };
        Self { request, message, span, asked }
    }

    fn look_up(&mut self, policies: &'m Reader) {
        if let Asked::Decision(Question { request, .. }) = &self.asked {
            self.request.found = policies.find(&request.tenant_id, &request.policy_id);
        }
    }
}

/// Answers batches until there are no more, then waits for requests that still claim.
pub(super) async fn run(worker: Arc<Worker>, client: Client, mut queue: Waiting, claims: Handle) {
    let mut decider = Decider {
        worker,
        client,
        claims,
        claiming: TaskTracker::new(),
        policies: Reader::default(),
        tally: Tally::default(),
        answers: Vec::new(),
        out: BytesMut::new(),
    };
    let mut scratches: Vec<Scratch> = (0..TOGETHER).map(|_| Scratch::default()).collect();
    while let Some(batch) = queue.next().await {
        // Of a batch the first is timed in its parts.
        let mut timed = true;
        for messages in batch.messages.chunks(TOGETHER) {
            decider.answer(messages, &mut scratches, batch.came, std::mem::take(&mut timed)).await;
        }
        decider.tally.tell(&decider.worker);
    }
    decider.claiming.close();
    decider.claiming.wait().await;
}

/// What a decider keeps from request to request.
struct Decider {
    worker: Arc<Worker>,
    client: Client,
    /// Where requests wait for their claims, and which do.
    claims: Handle,
    claiming: TaskTracker,
    policies: Reader,
    tally: Tally,
    answers: Vec<(usize, Answer)>,
    out: BytesMut,
}

impl Decider {
    /// Answers a few requests. The clock is read for all of them together, since their replies leave together,
    /// and the time is shared out. Spans begin when their request is read, and so hold the answers before
    /// theirs.
    async fn answer(
        &mut self,
        messages: impl ExactSizeIterator<Item = MessageRef<'_>>,
        scratches: &mut [Scratch],
        came: Came,
        mut timed: bool,
    ) {
        let Self { worker, client, claims, claiming, policies, tally, answers, out } = self;
        let opening = worker.clock.nanos();
        let known = Known::of(worker);
        policies.refresh(worker.state.catalog());
        let each = messages.zip(scratches);
        let mut opened: SmallVec<[Opened<'_>; TOGETHER]> =
            each.map(|(message, scratch)| Opened::of(worker, message, scratch, came, known)).collect();
        opened.iter_mut().for_each(|opened| opened.look_up(policies));
        opened.iter().filter_map(|opened| opened.request.found).for_each(|found| found.touch());
        let mut now = Clock::tick_at(worker.clock.nanos());
        let mut waited = 0;
        let mut answered: SmallVec<[(Result<Reason, ErrorCode>, bool); TOGETHER]> = SmallVec::new();
        for Opened { request, message, span, asked } in &mut opened {
            (request.now, request.timed) = (now, std::mem::take(&mut timed));
            let mut unwaited = None;
            let handled = request.answer(asked, answers, out, &mut unwaited, span);
            if let Some(unwaited) = unwaited {
                let worker = Arc::clone(worker);
                let claim = async move {
                    worker
                        .claim_unwaited(unwaited.reservation, &unwaited.request_id, unwaited.lease_ms)
                        .await;
                };
                claiming.spawn_on(claim, claims);
            }
            match handled {
                Handled::Reply(reply) => {
                    answered.push((reply.outcome, is_plain(worker, &request.message)));
                    let to = answer_at(worker, &request.message);
                    let nanos = publish(worker, client, to, reply, out).await;
                    if nanos > 0 {
                        waited += nanos;
                        now = worker.clock.tick();
                    }
                }
                Handled::Dropped => {}
                Handled::Claim(claim) => {
                    let task = Claiming {
                        message: message.to_message(),
                        arrived: came.arrived,
                        began: opening + waited,
                        answers: std::mem::take(answers),
                        span: span.take(),
                        position: known.position,
                    };
                    claiming.spawn_on(task.run(Arc::clone(worker), client.clone(), claim), claims);
                }
            }
            answers.clear();
        }
        // The wait for room is none of a decision's.
        let took = (worker.clock.nanos() - opening).saturating_sub(waited);
        let each = took / answered.len().max(1) as u64;
        for (outcome, plain) in answered {
            tally.note(worker, outcome, plain, each);
        }
    }
}

/// Whether a request came on the subject of all tenants.
fn is_plain(worker: &Worker, message: &Received<'_>) -> bool {
    *message.subject == *worker.settings.names.decide
}

/// Publishes a reply whose body stands in `out`, and clears that. Gives the nanoseconds that it waited for
/// room.
async fn publish(worker: &Worker, client: &Client, to: &str, reply: Reply, out: &mut BytesMut) -> u64 {
    let Reply { headers, span, .. } = reply;
    let mut waited = 0;
    let mut sent = send(client, to, &headers, out);
    if sent == Err(PublishError::Full) {
        let began = worker.clock.nanos();
        client.room().await;
        waited = worker.clock.nanos() - began;
        sent = send(client, to, &headers, out);
    }
    out.clear();
    if sent.is_err() {
        worker.metrics.nats_publish_failures.inc(Publish::Reply);
    }
    if let Some(span) = span {
        span.end(&Facts::default());
    }
    waited
}

fn send(client: &Client, to: &str, headers: &ReplyHeaders, body: &[u8]) -> Result<(), PublishError> {
    let headers = headers.pairs();
    client.publish(&Outgoing { headers: &headers, ..Outgoing::new(to, body) })
}

impl Worker {
    /// The endpoint that a request for a decision came to.
    pub(super) fn asked_of(&self, message: &Received<'_>) -> &EndpointStats {
        if is_plain(self, message) { &self.discovery.decide } else { &self.discovery.tenant_decide }
    }
}

/// A request that waits for its claim.
struct Claiming {
    message: Message,
    arrived: Tick,
    began: u64,
    answers: Vec<(usize, Answer)>,
    span: Option<SpanGuard>,
    /// That of the policy which it began by.
    position: u64,
}

impl Claiming {
    async fn run(mut self, worker: Arc<Worker>, client: Client, mut claim: MustClaim) {
        let mut claims: Vec<(usize, Claimed)> = Vec::new();
        let message = Received::of(self.message.as_ref());
        let mut out = BytesMut::new();
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
            tally.note(&worker, reply.outcome, is_plain(&worker, &message), took);
            tally.tell(&worker);
            publish(&worker, &client, answer_at(&worker, &message), reply, &mut out).await;
        }
        if let Some(unwaited) = unwaited {
            worker.claim_unwaited(unwaited.reservation, &unwaited.request_id, unwaited.lease_ms).await;
        }
    }
}

/// Answers a request that a full queue refused, undecoded but for its ids. What the connection does not
/// take at once is not sent.
pub(super) fn answer_overloaded(worker: &Worker, client: &Client, message: &Received<'_>) {
    if is_answer(message.payload) || !is_answerable(worker, message) {
        return;
    }
    let content = Content::sniff(message.payload);
    let message_text = "this worker's queue is full";
    let refusal = Refusal::echoing(ErrorCode::Overloaded, None, message_text, content, message.payload);
    let reply = refusal.reply();
    let mut out = BytesMut::new();
    encode_error(content, &reply, &mut out);
    let headers = ReplyHeaders::of_error(content, &reply);
    if send(client, answer_at(worker, message), &headers, &out).is_err() {
        worker.metrics.nats_publish_failures.inc(Publish::Reply);
    }
}
