//! Reading credentials and TLS files again, on SIGHUP, and making the connections anew with them.
//!
//! See [`Access`](super::connect::Access) for the order. Until the broker has accepted the connections for what others
//! send, the management connection stays. It is then cut: while that lasts nothing is published over it, and what was
//! published is waited for.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::connect::Identity;

/// How long publishes that are under way may take before the management connection is cut.
const QUIET: Duration = Duration::from_secs(2);
/// How long the management connection may be away before that counts as an outage.
const AWAY: Duration = Duration::from_secs(5);

/// Renews whenever it is asked to, until stopped.
pub async fn run(worker: Arc<Worker>, mut asked: Signal, stop: CancellationToken) {
    // What connections are to be made with and not all are yet.
    let mut pending: Option<Identity> = None;
    loop {
        let renewing = async {
            match &pending {
                Some(identity) => renew(&worker, identity.clone()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = renewing => pending = None,
            // Asked again while connections wait to be accepted: the files may be others now.
            _ = asked.recv() => pending = read(&worker).await.or(pending),
        }
    }
}

/// The files, if all of them can be used and there are any.
async fn read(worker: &Worker) -> Option<Identity> {
    let files = worker.access.files().join(", ");
    let settings = worker.access.settings().clone();
    // A file may be on a slow disk.
    match tokio::task::spawn_blocking(move || Identity::read(&settings)).await {
        Ok(Ok(identity)) => {
            tracing::info!(event = "credentials_read", files);
            (!files.is_empty()).then_some(identity)
        }
        Ok(Err(fault)) => {
            tracing::error!(event = "credentials_unusable", file = fault.file, error = fault.reason);
            None
        }
        Err(error) => {
            tracing::error!(event = "credentials_unusable", file = files, error = %error);
            None
        }
    }
}

async fn renew(worker: &Worker, identity: Identity) {
    worker.access.renew(identity).await;
    if remake_management(worker).await {
        tracing::info!(event = "credentials_in_use");
    }
}

/// Cuts the management connection; whether another one was made in time.
pub(super) async fn remake_management(worker: &Worker) -> bool {
    let _quiet = tokio::time::timeout(QUIET, worker.publishing.write()).await;
    let moving = worker.link.begin_move(&worker.metrics);
    worker.client.force_reconnect().await.is_ok() && moving.done(AWAY).await
}
