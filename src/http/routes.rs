use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::sync::Semaphore;

use super::{Probe, console};

/// OpenMetrics 1.0; Prometheus has read it since 2.5 and asks for it by itself.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Pages of metrics made at once: one for the scraper, one for the person who looks.
const SCRAPES: usize = 2;

#[derive(Clone)]
struct Shared {
    probe: Arc<dyn Probe>,
    scrapes: Arc<Semaphore>,
}

/// All routes.
pub fn router(probe: Arc<dyn Probe>) -> Router {
    let shared = Shared { probe, scrapes: Arc::new(Semaphore::new(SCRAPES)) };
    Router::new()
        .route("/", get(console::page))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(shared)
}

/// Neither stored nor guessed at by whoever reads them.
const PLAIN: [(HeaderName, &str); 2] = [(CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];

async fn metrics(State(shared): State<Shared>) -> Response {
    let page = match shared.scrapes.acquire_owned().await {
        Ok(turn) => tokio::task::spawn_blocking(move || {
            let page = shared.probe.metrics();
            drop(turn);
            page
        })
        .await
        .unwrap_or_default(),
        Err(_) => String::new(),
    };
    if page.is_empty() {
        let message = "the metrics could not be written";
        return error(StatusCode::INTERNAL_SERVER_ERROR, "internal", message);
    }
    (PLAIN, [(CONTENT_TYPE, OPENMETRICS)], page).into_response()
}

async fn healthz(State(shared): State<Shared>) -> Response {
    let alive = shared.probe.alive();
    let status = if alive { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, PLAIN, Json(json!({ "alive": alive }))).into_response()
}

async fn readyz(State(shared): State<Shared>) -> Response {
    let reasons = shared.probe.not_ready();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, PLAIN, Json(reasons)).into_response()
}

async fn not_found(uri: Uri) -> Response {
    error(StatusCode::NOT_FOUND, "not_found", &format!("there is nothing at {}", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    let message = format!("{} does not take {method}", uri.path());
    error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message)
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    (status, PLAIN, Json(json!({ "ok": false, "error": { "code": code, "message": message } })))
        .into_response()
}
