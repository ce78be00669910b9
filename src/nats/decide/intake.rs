use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use futures_util::StreamExt as _;
use futures_util::stream::{ReadyChunks, Select, select};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::serve;
use crate::domain::{ErrorCode, Tick};
use crate::nats::{Worker, at_once};
use crate::telemetry::labels::Queue;

/// How many messages are taken at once.
const BATCH: usize = 64;
/// How many batches wait for the decider: 65,536 requests, as many as the library buffers itself.
const QUEUE: usize = 1_024;
/// How often it is looked whether this worker should still serve.
const LOOK: Duration = Duration::from_millis(250);

/// Messages that came together.
pub struct Batch {
    pub(super) arrived: Tick,
    pub(super) messages: Vec<Message>,
}

type Incoming = ReadyChunks<Select<Subscriber, Subscriber>>;

/// Serves one decide connection while the worker is ready, until stopped; then answers what it has.
pub async fn run(
    worker: Arc<Worker>,
    client: Client,
    ready: tokio::sync::watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let (batches, queue) = mpsc::channel(QUEUE);
    let decider = tokio::spawn(serve::run(Arc::clone(&worker), client.clone(), queue));
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
        let Some(mut incoming) = subscribe(worker, client).await else {
            tokio::time::sleep(LOOK).await;
            continue;
        };
        // The broker knows of the subscriptions before this worker says that it is ready.
        let _ = tokio::time::timeout(LOOK, client.flush()).await;
        let key = worker.link.begin_taking(client);
        tracing::info!(event = "serving_decisions");
        let go_on = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break false,
                not_ready = ready.wait_for(|r| !*r) => break not_ready.is_ok(),
                messages = incoming.next() => match messages {
                    Some(messages) => offer(worker, client, batches, messages),
                    None => break true,
                },
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

async fn subscribe(worker: &Worker, client: &Client) -> Option<Incoming> {
    let names = &worker.settings.names;
    let plain = client.queue_subscribe(names.decide.clone(), names.queue_group.clone()).await.ok()?;
    let tenants =
        client.queue_subscribe(names.decide_tenants.clone(), names.queue_group.clone()).await.ok()?;
    Some(select(plain, tenants).ready_chunks(BATCH))
}

/// Takes the subscriptions back and passes on what had already come.
async fn drain(worker: &Worker, client: &Client, batches: &mpsc::Sender<Batch>, incoming: Incoming) {
    if !is_up(client) {
        return;
    }
    let mut both = incoming.into_inner();
    let (plain, tenants) = both.get_mut();
    for subscription in [plain, tenants] {
        // Drain asks the broker to stop and ends the stream behind the last message.
        if let Some(Err(error)) = at_once(subscription.drain()) {
            tracing::warn!(event = "drain_failed", error = %error);
        }
    }
    let mut rest = both.ready_chunks(BATCH);
    let all = async {
        while let Some(messages) = rest.next().await {
            offer(worker, client, batches, messages);
        }
    };
    // While the broker is away nothing ends the stream.
    let _ = tokio::time::timeout(Duration::from_secs(3), all).await;
}

/// Queues a batch, or answers it as overloaded.
fn offer(worker: &Worker, client: &Client, batches: &mpsc::Sender<Batch>, messages: Vec<Message>) {
    let batch = Batch { arrived: worker.clock.tick(), messages };
    if let Err(refused) = batches.try_send(batch) {
        for message in refused.into_inner().messages {
            worker.metrics.queue_refused.inc(Queue::Decide);
            worker.metrics.refused(ErrorCode::Overloaded);
            if let Some((subject, headers, body)) = serve::overloaded(worker, &message) {
                let _ = at_once(client.publish_with_headers(subject, headers, body));
            }
        }
    }
}
