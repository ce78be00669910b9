use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use beamline_nats::{Batch as Messages, Client, MessageRef, Subscriber};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::in_turn::{InTurn, is_long};
use super::{serve, thread};
use crate::domain::{ErrorCode, Tick};
use crate::nats::Worker;
use crate::nats::headers::Received;
use crate::nats::pulse::Pulse;
use crate::telemetry::labels::Queue;
use crate::wire::subjects::token_at_star;

/// How much waits for the decider in the order of its arrival: so many batches, each what one read returned,
const QUEUE: usize = 1_024;
/// and so many bytes, which usual requests fill with what is decided in some 20 ms. What comes beyond waits in turn,
const QUEUE_BYTES: usize = 4 << 20;
/// and so does what comes while the decider is so far behind: some requests take far longer than others.
const BEHIND_MS: u64 = 20;

/// How long the broker may take to say that it sends nothing more.
const DRAIN: Duration = Duration::from_secs(3);

/// Messages that came together.
pub(super) struct Batch {
    pub(super) came: Came,
    pub(super) messages: Messages,
}

/// How messages came.
#[derive(Clone, Copy)]
pub(super) struct Came {
    pub(super) arrived: Tick,
    /// Whether they may have waited for longer than is known: see [`Pulse`].
    pub(super) stale: bool,
}

/// Serves one decide connection while the worker is ready, until stopped; then answers what it has.
pub(super) async fn run(
    worker: Arc<Worker>,
    client: Client,
    number: usize,
    ready: tokio::sync::watch::Receiver<bool>,
    stop: CancellationToken,
    claims: Handle,
) {
    let (batches, received) = mpsc::channel(QUEUE);
    let waiting = Arc::new(Backlog::default());
    let queue = Waiting { received, backlog: Arc::clone(&waiting) };
    let in_turn = Arc::new(InTurn::new());
    let second = {
        let (worker, client) = (Arc::clone(&worker), client.clone());
        let (queue, claims) = (Arc::clone(&in_turn), claims.clone());
        thread::run(format!("decide-{number}-in-turn"), move || {
            serve::run_in_turn(worker, client, queue, claims)
        })
    };
    let decider = tokio::spawn(serve::run(Arc::clone(&worker), client.clone(), queue, claims));
    let intake = Intake { worker: &worker, client: &client, batches, backlog: waiting, in_turn: &in_turn };
    intake.take_in(ready, &stop).await;
    drop(intake);
    in_turn.close();
    let second_ended = second.await;
    if decider.await.is_err() || !second_ended {
        tracing::error!(event = "decider_died");
        stop.cancel();
    }
    // What was answered must be on the wire before the connection closes.
    let _ = tokio::time::timeout(Duration::from_secs(2), client.flush()).await;
}

/// The subscriptions for requests: on the subject of all tenants, and on each tenant's own.
fn subscribe(worker: &Worker, client: &Client) -> Option<Subscriber> {
    let names = &worker.settings.names;
    let mut requests = client.subscriber();
    for subject in [&names.decide, &names.decide_tenants] {
        requests.subscribe(subject, Some(&names.queue_group)).ok()?;
    }
    Some(requests)
}

/// How much waits for the decider.
#[derive(Default)]
struct Backlog {
    bytes: AtomicUsize,
    /// When the batch came that the decider took last, as a tick.
    serving: AtomicU64,
}

impl Backlog {
    /// Adds a batch; `false` if it should wait in turn instead.
    fn add(&self, bytes: usize, now: Tick) -> bool {
        let waiting = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let behind = now.since(Tick(self.serving.load(Ordering::Relaxed)));
        let fits = waiting == 0 || (waiting + bytes <= QUEUE_BYTES && behind <= BEHIND_MS);
        if !fits {
            self.remove(bytes);
        }
        fits
    }

    fn remove(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What waits for the decider.
pub(super) struct Waiting {
    received: mpsc::Receiver<Batch>,
    backlog: Arc<Backlog>,
}

impl Waiting {
    pub(super) async fn next(&mut self) -> Option<Batch> {
        let batch = self.received.recv().await?;
        self.backlog.remove(batch.messages.bytes());
        self.backlog.serving.store(batch.came.arrived.0, Ordering::Relaxed);
        Some(batch)
    }
}

struct Intake<'w> {
    worker: &'w Worker,
    client: &'w Client,
    batches: mpsc::Sender<Batch>,
    backlog: Arc<Backlog>,
    in_turn: &'w InTurn,
}

impl Intake<'_> {
    async fn take_in(&self, mut ready: tokio::sync::watch::Receiver<bool>, stop: &CancellationToken) {
        let Self { worker, client, .. } = *self;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                is_ready = ready.wait_for(|r| *r) => if is_ready.is_err() { return },
            }
            let Some(mut requests) = subscribe(worker, client) else { return };
            // The broker holds the subscriptions before this worker says that it is ready.
            let mut subscribed = std::pin::pin!(client.subscribed());
            let mut taking = None;
            let mut pulse = Pulse::begin(worker, worker.settings.decide.max_queue, "decide");
            let mut stopped = std::pin::pin!(stop.cancelled());
            let mut not_ready = std::pin::pin!(ready.wait_for(|r| !*r));
            let go_on = loop {
                let woke = tokio::select! {
                    biased;
                    () = &mut stopped => break false,
                    not_ready = &mut not_ready => break not_ready.is_ok(),
                    () = &mut subscribed, if taking.is_none() => {
                        taking = Some(worker.link.begin_taking(client));
                        tracing::info!(event = "serving_decisions");
                        Woke::Nothing
                    }
                    all = pulse.beat() => if all { Woke::All } else { Woke::Nothing },
                    messages = requests.next_batch() => match messages {
                        Some(messages) => Woke::Some(messages),
                        None => break true,
                    },
                };
                let stood_still = pulse.feel(worker, client);
                match woke {
                    Woke::Some(messages) => {
                        self.offer(messages, pulse.is_stale());
                    }
                    Woke::All => {
                        // They may have been put between the two looks.
                        while let Some(messages) = requests.try_next_batch() {
                            self.offer(messages, true);
                        }
                        if !stood_still {
                            pulse.end_stale();
                        }
                    }
                    Woke::Nothing => {}
                }
            };
            if let Some(key) = taking {
                worker.link.end_taking(key);
            }
            self.drain(requests).await;
            if !go_on {
                return;
            }
            tracing::warn!(event = "serving_paused");
        }
    }

    /// Takes the subscriptions back and passes on what the broker had sent by then.
    async fn drain(&self, mut requests: Subscriber) {
        requests.drain();
        let all = async {
            while let Some(messages) = requests.next_batch().await {
                self.offer(messages, false);
            }
        };
        let _ = tokio::time::timeout(DRAIN, all).await;
    }

    /// Queues a batch. Long requests are queued in turn, and so are all where too much waits.
    fn offer(&self, messages: Messages, stale: bool) {
        let bytes = messages.bytes();
        let came = Came { arrived: self.worker.clock.tick(), stale };
        messages.iter().filter(is_long).for_each(|message| self.offer_in_turn(message, came));
        let batch = Batch { came, messages };
        let beyond = if self.backlog.add(bytes, came.arrived) {
            let refused = self.batches.try_send(batch).err().map(mpsc::error::TrySendError::into_inner);
            refused.inspect(|_| self.backlog.remove(bytes))
        } else {
            Some(batch)
        };
        if let Some(Batch { messages, .. }) = beyond {
            let short = messages.iter().filter(|message| !is_long(message));
            short.for_each(|message| self.offer_in_turn(message, came));
        }
    }

    /// Queues a request behind those of its tenant, or answers it as overloaded.
    fn offer_in_turn(&self, message: MessageRef<'_>, came: Came) {
        let subject = message.subject().unwrap_or_default();
        let tenant = token_at_star(&self.worker.settings.names.decide_tenants, subject);
        if !self.in_turn.offer(tenant.unwrap_or_default(), message, came) {
            self.refuse(message);
        }
    }

    fn refuse(&self, message: MessageRef<'_>) {
        let Self { worker, client, .. } = *self;
        let message = Received::of(message);
        worker.metrics.queue_refused.inc(Queue::Decide);
        worker.metrics.refused(ErrorCode::Overloaded);
        worker.asked_of(&message).record(0, Some(ErrorCode::Overloaded.as_str()));
        serve::answer_overloaded(worker, client, &message);
    }
}

/// What the intake woke up for.
enum Woke {
    Some(Messages),
    /// Whatever was on its way when the intake began to run again.
    All,
    Nothing,
}
