use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Api;
use super::answer::{Fault, HEADERS, told};

/// A comment that keeps idle connections open through what stands between, and lets both ends notice
/// that the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a browser waits before it connects anew.
const FIRST: &[u8] = b"retry: 1000\n\n";

pub(super) async fn overview(State(api): State<Api>) -> Response {
    told(api.hub.look().await.0)
}

pub(super) async fn alerts(State(api): State<Api>) -> Response {
    told(json!({ "alerts": api.hub.look().await.1 }))
}

pub(super) async fn stream(State(api): State<Api>) -> Result<Response, Fault> {
    let Some(place) = api.hub.place() else {
        return Err(Fault::Unavailable("as many viewers follow this worker as it bears".to_owned()));
    };
    let (whole, frames) = api.hub.join().await;
    let viewer = Viewer { api, frames, next: vec![whole, Bytes::from_static(FIRST)], _place: place };
    let body = Body::from_stream(stream::unfold(viewer, next));
    Ok((HEADERS, [(CONTENT_TYPE, "text/event-stream")], body).into_response())
}

/// One who follows.
struct Viewer {
    api: Api,
    frames: Receiver<Bytes>,
    /// What is to be sent before what comes, the last one first.
    next: Vec<Bytes>,
    _place: OwnedSemaphorePermit,
}

async fn next(mut viewer: Viewer) -> Option<(Result<Bytes, Infallible>, Viewer)> {
    if let Some(frame) = viewer.next.pop() {
        return Some((Ok(frame), viewer));
    }
    let stop = viewer.api.hub.stop();
    let frame = tokio::select! {
        biased;
        () = stop.cancelled() => return None,
        frame = viewer.frames.recv() => match frame {
            Ok(frame) => frame,
            Err(RecvError::Lagged(missed)) => {
                viewer.api.hub.missed(missed);
                let (whole, frames) = viewer.api.hub.join().await;
                viewer.frames = frames;
                whole
            }
            Err(RecvError::Closed) => return None,
        },
        () = tokio::time::sleep(KEEP_ALIVE) => Bytes::from_static(b": still here\n\n"),
    };
    Some((Ok(frame), viewer))
}
