use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::sync::Semaphore;

use super::api::{self, Api, HEADERS};
use super::{Desk, console};

/// OpenMetrics 1.0; Prometheus has read it since 2.5 and asks for it by itself.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Pages of metrics made at once: one for the scraper, one for the person who looks.
const SCRAPES: usize = 2;

#[derive(Clone)]
struct Shared {
    desk: Arc<dyn Desk>,
    scrapes: Arc<Semaphore>,
}

/// All routes.
pub(super) fn router(desk: Arc<dyn Desk>, api: Api) -> Router {
    let shared = Shared { desk, scrapes: Arc::new(Semaphore::new(SCRAPES)) };
    Router::new()
        .route("/", get(console::page))
        .route("/console/{file}", get(console::file))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(shared)
        .merge(api.router())
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let page = match shared.scrapes.acquire_owned().await {
        Ok(turn) => tokio::task::spawn_blocking(move || {
            let page = shared.desk.metrics();
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
    (HEADERS, [(CONTENT_TYPE, OPENMETRICS)], page).into_response()
}

async fn healthz(State(shared): State<Shared>) -> Response {
    let alive = shared.desk.alive();
    let status = if alive { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, HEADERS, Json(json!({ "alive": alive }))).into_response()
}

async fn readyz(State(shared): State<Shared>) -> Response {
    let reasons = shared.desk.not_ready();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, HEADERS, Json(reasons)).into_response()
}

pub(super) async fn not_found(uri: Uri) -> Response {
    error(StatusCode::NOT_FOUND, "not_found", &format!("there is nothing at {}", uri.path()))
}

pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    let message = format!("{} does not take {method}", uri.path());
    error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message)
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    api::error(status, code, message, None)
}
