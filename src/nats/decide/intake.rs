use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Message};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::incoming::Incoming;
use super::pulse::Pulse;
use super::serve;
use crate::domain::{ErrorCode, Tick};
use crate::nats::{Worker, at_once};
use crate::telemetry::labels::Queue;

/// How many batches wait for the decider: of 64 requests at most, 65,536 together, as many as the library
/// buffers itself.
const QUEUE: usize = 1_024;
/// How often it is looked whether this worker should still serve.
const LOOK: Duration = Duration::from_millis(250);

/// How far ahead a subscription's end is set when it is taken back, and how long it may take to come.
const AHEAD: [u64; 3] = [1_024, 64, 8];
const REACH: Duration = Duration::from_millis(100);

/// Messages that came together.
pub(super) struct Batch {
    pub(super) came: Came,
    pub(super) messages: Vec<Message>,
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
    ready: tokio::sync::watch::Receiver<bool>,
    stop: CancellationToken,
    claims: Handle,
) {
    let (batches, queue) = mpsc::channel(QUEUE);
    let decider = tokio::spawn(serve::run(Arc::clone(&worker), client.clone(), queue, claims));
    take_in(&worker, &client, ready, &batches, &stop).await;
    drop(batches);
    if decider.await.is_err() {
        tracing::error!(event = "decider_died");
        stop.cancel();
    }
    // What was answered must be on the wire before the connection closes.
    if is_up(&client) {
        let _ = tokio::time::timeout(Duration::from_secs(2), client.flush()).await;
    }
}

/// Without a broker there is nobody to ask for what is left, and nobody to send it to.
fn is_up(client: &Client) -> bool {
    client.connection_state() == async_nats::connection::State::Connected
}

async fn take_in(
    worker: &Worker,
    client: &Client,
    mut ready: tokio::sync::watch::Receiver<bool>,
    batches: &mpsc::Sender<Batch>,
    stop: &CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            is_ready = ready.wait_for(|r| *r) => if is_ready.is_err() { return },
        }
        let Some(mut incoming) = Incoming::subscribe(worker, client).await else {
            tokio::time::sleep(LOOK).await;
            continue;
        };
        // The broker knows of the subscriptions before this worker says that it is ready.
        let _ = tokio::time::timeout(LOOK, client.flush()).await;
        let key = worker.link.begin_taking(client);
        tracing::info!(event = "serving_decisions");
        let mut pulse = Pulse::begin(worker);
        let mut stopped = std::pin::pin!(stop.cancelled());
        let mut not_ready = std::pin::pin!(ready.wait_for(|r| !*r));
        let go_on = loop {
            let woke = tokio::select! {
                biased;
                () = &mut stopped => break false,
                not_ready = &mut not_ready => break not_ready.is_ok(),
                all = pulse.beat() => if all { Woke::All } else { Woke::Nothing },
                messages = incoming.next() => match messages {
                    Some(messages) => Woke::Some(messages),
                    None => break true,
                },
            };
            let stood_still = pulse.feel(worker, client);
            match woke {
                Woke::Some(messages) => {
                    offer(worker, client, batches, messages, pulse.is_stale());
                }
                Woke::All => {
                    // They may have been put between the two looks.
                    let most = 2 * worker.settings.subscription_capacity;
                    let before = incoming.count();
                    while incoming.count() - before < most as u64
                        && let Some(Some(messages)) = at_once(incoming.next())
                    {
                        offer(worker, client, batches, messages, true);
                    }
                    if !stood_still {
                        pulse.end_stale();
                    }
                }
                Woke::Nothing => {}
            }
        };
        worker.link.end_taking(key);
        drain(worker, client, batches, incoming).await;
        if !go_on {
            return;
        }
        tracing::warn!(event = "serving_paused");
    }
}

/// What the intake woke up for.
enum Woke {
    Some(Vec<Message>),
    /// Whatever was on its way when the intake began to run again.
    All,
    Nothing,
}

/// Takes the subscriptions back and passes on what had already come.
///
/// The library's drain forgets a subscription before the broker has heard of it, and loses what is on
/// the way. An end after so many messages is one that both sides count to, and loses nothing; so each
/// subscription is first given an end a little ahead, and less and less far where too few messages come
/// to reach it. What is drained in the end has next to no traffic.
async fn drain(worker: &Worker, client: &Client, batches: &mpsc::Sender<Batch>, mut incoming: Incoming) {
    if !is_up(client) {
        return;
    }
    for ahead in AHEAD {
        incoming.end_ahead(ahead);
        let reached = async {
            while let Some(messages) = incoming.next().await {
                offer(worker, client, batches, messages, false);
            }
        };
        if tokio::time::timeout(REACH, reached).await.is_ok() {
            return;
        }
    }
    incoming.drain();
    let all = async {
        while let Some(messages) = incoming.next().await {
            offer(worker, client, batches, messages, false);
        }
    };
    // While the broker is away nothing ends the stream.
    let _ = tokio::time::timeout(Duration::from_secs(3), all).await;
}

/// Queues a batch, or answers it as overloaded.
fn offer(
    worker: &Worker,
    client: &Client,
    batches: &mpsc::Sender<Batch>,
    messages: Vec<Message>,
    stale: bool,
) {
    let batch = Batch { came: Came { arrived: worker.clock.tick(), stale }, messages };
    if let Err(refused) = batches.try_send(batch) {
        for mut message in refused.into_inner().messages {
            worker.metrics.queue_refused.inc(Queue::Decide);
            worker.metrics.refused(ErrorCode::Overloaded);
            worker.asked_of(&message).record(0, Some(ErrorCode::Overloaded.as_str()));
            if let Some((subject, headers, body)) = serve::overloaded(worker, &mut message) {
                let _ = at_once(client.publish_with_headers(subject, headers, body));
            }
        }
    }
}
