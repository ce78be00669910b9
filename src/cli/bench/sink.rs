use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use tokio::net::TcpListener;

use super::BenchFailed;
use crate::cli::stand::StandFailed;

/// A collector that takes traces and looks at none: the cost of traces is the router's to show.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) url: String,
    bytes: Arc<AtomicU64>,
    serving: tokio::task::JoinHandle<()>,
}

impl Sink {
    /// Bytes that came.
    pub(super) fn taken(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Opens one on a port that the system chooses.
pub(super) async fn open() -> Result<Sink, BenchFailed> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(StandFailed::Folder)?;
    let address = listener.local_addr().map_err(StandFailed::Folder)?;
    let bytes = Arc::new(AtomicU64::new(0));
    let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&bytes));
    let serving = tokio::spawn(async move {
        let _ended = axum::serve(listener, router).await;
    });
    Ok(Sink { url: format!("http://{address}"), bytes, serving })
}

async fn take(State(bytes): State<Arc<AtomicU64>>, body: Bytes) {
    bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
}
