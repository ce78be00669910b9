use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::intake;
use crate::nats::{Worker, connect};

/// Serves one decide connection on a thread of its own while the worker is ready, until stopped; then
/// answers what it has. Ends before that only by a fault, which is logged.
///
/// Requests that claim a slot wait on the runtime from which this is called: how long they wait must not
/// depend on how busy the thread is.
pub async fn on_a_thread(
    worker: Arc<Worker>,
    number: usize,
    ready: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let (done, ended) = oneshot::channel::<()>();
    let claims = Handle::current();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            // As a task it takes turns with the connection's. What a runtime blocks on has its turn only
            // when no task is ready, or after 61 turns of theirs.
            Ok(runtime) => {
                match runtime.block_on(runtime.spawn(serve(worker, number, ready, stop, claims))) {
                    Ok(()) => {}
                    Err(error) => tracing::error!(event = "decider_failed", error = %error),
                }
            }
            Err(error) => tracing::error!(event = "decider_failed", error = %error),
        }
        let _gone = done.send(());
    };
    let thread = std::thread::Builder::new().name(format!("decide-{number}")).spawn(run);
    if let Err(error) = thread {
        tracing::error!(event = "decider_failed", error = %error);
        return;
    }
    // A thread that dies drops its end, which is as good as an answer.
    let _ = ended.await;
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
    match connect::start_traffic(&settings.nats, &identity, capacity, on_event) {
        Ok(client) => intake::run(Arc::clone(&worker), client, ready, stop, claims).await,
        Err(error) => tracing::error!(event = "decider_failed", error = %error),
    }
}
