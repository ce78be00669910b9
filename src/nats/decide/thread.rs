use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{intake, standing};
use crate::nats::{Worker, connect};

/// Serves one decide connection on a thread of its own while the worker is ready, until stopped; then
/// answers what it has. Ends before that only by a fault, which is logged.
///
/// Requests that wait for the broker do so on the runtime from which this is called: how long they wait must not
/// depend on how busy the thread is.
pub async fn on_a_thread(
    worker: Arc<Worker>,
    number: usize,
    ready: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let claims = Handle::current();
    run(format!("decide-{number}"), move || serve(worker, number, ready, stop, claims)).await;
}

/// Runs a task on a thread of its own. Gives whether it ended without a fault; a fault is logged.
pub(super) fn run<F>(name: String, task: impl FnOnce() -> F + Send + 'static) -> impl Future<Output = bool>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (done, ended) = oneshot::channel();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let outcome = match runtime {
            // As a task it takes turns with the connection's. What a runtime blocks on has its turn only
            // when no task is ready, or after 61 turns of theirs.
            Ok(runtime) => runtime.block_on(async { tokio::spawn(task()).await }).map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = &outcome {
            tracing::error!(event = "decider_failed", error);
        }
        let _gone = done.send(outcome.is_ok());
    };
    let thread = std::thread::Builder::new().name(name).spawn(run);
    if let Err(error) = thread {
        tracing::error!(event = "decider_failed", error = %error);
    }
    // A thread that could not be started, or that died, has dropped its end.
    async move { ended.await.unwrap_or(false) }
}

async fn serve(
    worker: Arc<Worker>,
    number: usize,
    ready: watch::Receiver<bool>,
    stop: CancellationToken,
    claims: Handle,
) {
    let settings = &worker.settings;
    let (link, metrics) = (Arc::clone(&worker.link), Arc::clone(&worker.metrics));
    let identity = format!("{}-decide-{number}", settings.worker_name);
    let on_event = move |event| link.on_decide_event(&event, &metrics);
    let capacity = settings.subscription_capacity;
    let client = connect::start_traffic(&worker.access, &identity, capacity, on_event);
    let (takes, own_ready) = watch::channel(false);
    let standing = standing::follow(Arc::clone(&worker), client.clone(), ready, takes);
    let intake = intake::run(Arc::clone(&worker), client, number, own_ready, stop, claims);
    // As tasks they take turns with the connection's.
    let standing = tokio::spawn(standing);
    intake.await;
    standing.abort();
}
