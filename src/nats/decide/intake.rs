use std::sync::Arc;
use std::time::Duration;

use beamline_nats::{Batch as Messages, Client, Subscriber};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::pulse::Pulse;
use super::serve;
use crate::domain::{ErrorCode, Tick};
use crate::nats::headers::Received;
use crate::nats::{Worker, connect};
use crate::telemetry::labels::Queue;

/// How many batches wait for the decider: each what one read returned, 32 KiB at most, so 32 MiB together.
const QUEUE: usize = 1_024;

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
        let Some(mut requests) = subscribe(worker, client) else { return };
        // The broker holds the subscriptions before this worker says that it is ready.
        tokio::select! {
            () = stop.cancelled() => return,
            () = connect::subscribed(client) => {}
        }
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
                messages = requests.next_batch() => match messages {
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
                    while let Some(messages) = requests.try_next_batch() {
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
        drain(worker, client, batches, requests).await;
        if !go_on {
            return;
        }
        tracing::warn!(event = "serving_paused");
    }
}

/// What the intake woke up for.
enum Woke {
    Some(Messages),
    /// Whatever was on its way when the intake began to run again.
    All,
    Nothing,
}

/// Takes the subscriptions back and passes on what the broker had sent by then.
async fn drain(worker: &Worker, client: &Client, batches: &mpsc::Sender<Batch>, mut requests: Subscriber) {
    requests.drain();
    let all = async {
        while let Some(messages) = requests.next_batch().await {
            offer(worker, client, batches, messages, false);
        }
    };
    let _ = tokio::time::timeout(DRAIN, all).await;
}

/// Queues a batch, or answers it as overloaded.
fn offer(worker: &Worker, client: &Client, batches: &mpsc::Sender<Batch>, messages: Messages, stale: bool) {
    let batch = Batch { came: Came { arrived: worker.clock.tick(), stale }, messages };
    if let Err(refused) = batches.try_send(batch) {
        for message in refused.into_inner().messages.iter() {
            let message = Received::of(message);
            worker.metrics.queue_refused.inc(Queue::Decide);
            worker.metrics.refused(ErrorCode::Overloaded);
            worker.asked_of(&message).record(0, Some(ErrorCode::Overloaded.as_str()));
            serve::answer_overloaded(worker, client, &message);
        }
    }
}
