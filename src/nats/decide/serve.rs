use std::sync::Arc;

use beamline_nats::encode::Outgoing;
use beamline_nats::{Client, MessageRef, PublishError};
use bytes::BytesMut;
use smallvec::SmallVec;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::in_turn::{InTurn, is_long};
use super::intake::{Came, Waiting};
use super::reading::{Asked, Question, head};
use super::refusals::ReplyHeaders;
use super::tally::Tally;
use super::waiting::{Claiming, Late, Pushed};
use super::{Handled, Reply, Request, answer_at, is_answerable};
use crate::clock::Clock;
use crate::domain::{ErrorCode, Reason, Tick};
use crate::nats::Worker;
use crate::nats::discovery::EndpointStats;
use crate::nats::headers::Received;
use crate::state::{Answer, Reader};
use crate::telemetry::labels::{Publish, Source};
use crate::telemetry::{Facts, SpanGuard};
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
        now: Tick,
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
            now,
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

/// Answers batches until there are no more, then waits for requests that still wait for the broker. Long requests are
/// left to [`run_in_turn`].
pub(super) async fn run(worker: Arc<Worker>, client: Client, mut queue: Waiting, claims: Handle) {
    let mut decider = Decider::new(worker, client, claims);
    let mut scratches: Vec<Scratch> = (0..TOGETHER).map(|_| Scratch::default()).collect();
    while let Some(batch) = queue.next().await {
        // Of a batch the first is timed in its parts.
        let mut timed = true;
        for messages in batch.messages.chunks(TOGETHER) {
            let messages = messages.filter(|message| !is_long(message));
            decider.answer(messages, &mut scratches, batch.came, std::mem::take(&mut timed)).await;
        }
        decider.tally.tell(&decider.worker);
    }
    decider.end().await;
}

/// Answers what waits in turn, as [`run`] does the others.
pub(super) async fn run_in_turn(worker: Arc<Worker>, client: Client, queue: Arc<InTurn>, claims: Handle) {
    let mut decider = Decider::new(worker, client, claims);
    let mut scratch = [Scratch::default()];
    while let Some((message, came)) = queue.next().await {
        decider.answer(std::iter::once(message.as_ref()), &mut scratch, came, true).await;
        decider.tally.tell(&decider.worker);
    }
    decider.end().await;
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
    fn new(worker: Arc<Worker>, client: Client, claims: Handle) -> Self {
        Self {
            worker,
            client,
            claims,
            claiming: TaskTracker::new(),
            policies: Reader::default(),
            tally: Tally::default(),
            answers: Vec::new(),
            out: BytesMut::new(),
        }
    }

    async fn end(self) {
        self.worker.claims.close();
        self.claiming.close();
        self.claiming.wait().await;
    }

    /// Answers a few requests. The clock is read for all of them together, since their replies leave together,
    /// and the time is shared out. Spans begin when their request is read, and so hold the answers before
    /// theirs.
    async fn answer<'m>(
        &mut self,
        messages: impl Iterator<Item = MessageRef<'m>>,
        scratches: &mut [Scratch],
        came: Came,
        mut timed: bool,
    ) {
        let Self { worker, client, claims, claiming, policies, tally, answers, out } = self;
        let opening = worker.clock.nanos();
        let known = Known::of(worker);
        let now = Clock::tick_at(opening);
        policies.refresh(worker.state.catalog());
        let each = messages.zip(scratches);
        let mut opened: SmallVec<[Opened<'_>; TOGETHER]> =
            each.map(|(message, scratch)| Opened::of(worker, message, scratch, came, known, now)).collect();
        opened.iter_mut().for_each(|opened| opened.look_up(policies));
        opened.iter().filter_map(|opened| opened.request.found).for_each(|found| found.touch());
        let mut now = Clock::tick_at(worker.clock.nanos());
        let mut waited = 0;
        let mut answered: SmallVec<[(Result<Reason, ErrorCode>, bool); TOGETHER]> = SmallVec::new();
        for Opened { request, message, span, asked } in &mut opened {
            (request.now, request.timed) = (now, std::mem::take(&mut timed));
            let mut unwaited = None;
            let handled = request.answer(asked, answers, out, &mut unwaited, span);
            match handled {
                Handled::Reply(reply) => {
                    // What has no provider probes none.
                    if let Some(unwaited) = unwaited.filter(|_| reply.outcome.is_ok()) {
                        let worker = Arc::clone(worker);
                        claiming.spawn_on(async move { unwaited.make(&worker).await }, claims);
                    }
                    answered.push((reply.outcome, is_plain(worker, &request.message)));
                    let to = answer_at(worker, &request.message);
                    let nanos = publish(worker, client, to, reply, out).await;
                    if nanos > 0 {
                        waited += nanos;
                        now = worker.clock.tick();
                    }
                }
                Handled::Dropped => {}
                Handled::Push(pushing) => {
                    let task = Pushed {
                        to: answer_at(worker, &request.message).to_owned(),
                        pushing,
                        late: Late {
                            plain: is_plain(worker, &request.message),
                            began: opening + waited,
                            unwaited,
                        },
                    };
                    claiming.spawn_on(task.run(Arc::clone(worker), client.clone()), claims);
                }
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
pub(super) fn is_plain(worker: &Worker, message: &Received<'_>) -> bool {
    *message.subject == *worker.settings.names.decide
}

/// Publishes a reply whose body stands in `out`, and clears that. Gives the nanoseconds that it waited for
/// room.
pub(super) async fn publish(
    worker: &Worker,
    client: &Client,
    to: &str,
    reply: Reply,
    out: &mut BytesMut,
) -> u64 {
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

/// Answers a request that a full queue refused, undecoded but for its ids. What the connection does not
/// take at once is not sent.
pub(super) fn answer_overloaded(worker: &Worker, client: &Client, message: &Received<'_>) {
    let head = head(message.payload);
    if is_answer(head) || !is_answerable(worker, message) {
        return;
    }
    let content = Content::sniff(message.payload);
    let message_text = "this worker's queue is full";
    let refusal = Refusal::echoing(ErrorCode::Overloaded, None, message_text, content, head);
    let reply = refusal.reply();
    let mut out = BytesMut::new();
    encode_error(content, &reply, &mut out);
    let headers = ReplyHeaders::of_error(content, &reply);
    if send(client, answer_at(worker, message), &headers, &out).is_err() {
        worker.metrics.nats_publish_failures.inc(Publish::Reply);
    }
}
