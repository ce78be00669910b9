//! `/api/v1`: what the console shows, for programs too.
//!
//! Everything is read from this worker's own state; what outlives it (transitions, revisions, the history of rollouts) is
//! read from the broker when asked for. Figures are copied on a timer while somebody follows them
//! ([`hub`]), and not at all otherwise, so the decide path pays nothing for viewers. Some
//! actions change something, and only where the setting allows them ([`act`]); they are the control
//! verbs of the same name. Who may ask is judged in [`guard`].
//!
//! [`ROUTES`] names every route; `openapi.json` describes them, and a test holds one against the other.

mod act;
mod alerts;
mod answer;
mod breakers;
mod diff;
mod guard;
mod hub;
mod live;
mod params;
mod policies;
mod recent;
mod rollouts;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Access, Desk};
pub(super) use answer::{HEADERS, error};
use hub::Hub;

/// Answers that read the whole state or ask the broker, at once; more wait.
const READS: usize = 8;

/// Requests that are being answered at once: half of the connections, so that health and metrics find a
/// place while the broker is slow. Viewers have places of their own ([`hub`]).
const REQUESTS: usize = 128;

/// The longest body: a reason has at most 1024 bytes.
const BODY: usize = 16 * 1024;

/// What the handlers share.
#[derive(Clone)]
pub(super) struct Api {
    desk: Arc<dyn Desk>,
    hub: Arc<Hub>,
    reads: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    access: Arc<Access>,
}

macro_rules! routes {
    ($($method:ident $path:literal => $handler:path,)+) => {
        /// Every route, with its method.
        #[cfg(test)]
        const ROUTES: &[(&str, &str)] = &[$((stringify!($method), $path)),+];

        fn routes() -> impl IntoIterator<Item = (&'static str, &'static str, MethodRouter<Api>)> {
            [$((stringify!($method), $path, $method($handler))),+]
        }
    };
}

routes! {
    get "/api/v1/overview" => live::overview,
    get "/api/v1/alerts" => live::alerts,
    get "/api/v1/stream" => live::stream,
    get "/api/v1/breakers" => breakers::list,
    get "/api/v1/breakers/{tenant_id}/{provider_id}" => breakers::one,
    post "/api/v1/breakers/{tenant_id}/{provider_id}/force" => breakers::force,
    post "/api/v1/breakers/{tenant_id}/{provider_id}/reset" => breakers::reset,
    get "/api/v1/transitions" => breakers::transitions,
    get "/api/v1/policies" => policies::list,
    get "/api/v1/policies/{tenant_id}/{policy_id}" => policies::one,
    get "/api/v1/policies/{tenant_id}/{policy_id}/revisions" => policies::revisions,
    get "/api/v1/policies/{tenant_id}/{policy_id}/diff" => policies::diff,
    get "/api/v1/rollouts" => rollouts::list,
    get "/api/v1/rollouts/{rollout}" => rollouts::one,
    get "/api/v1/rollouts/{rollout}/status" => rollouts::status,
    get "/api/v1/rollouts/{rollout}/history" => rollouts::history,
    post "/api/v1/rollouts/{rollout}/approve" => rollouts::approve,
    post "/api/v1/rollouts/{rollout}/pause" => rollouts::pause,
    post "/api/v1/rollouts/{rollout}/resume" => rollouts::resume,
    post "/api/v1/rollouts/{rollout}/rollback" => rollouts::rollback,
    get "/api/v1/openapi.json" => openapi,
}

/// The document that describes all of it.
const OPENAPI: &str = include_str!("openapi.json");

async fn openapi() -> Response {
    (HEADERS, [(CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

impl Api {
    /// Over a worker; `stop` ends what follows it.
    pub(super) fn new(desk: Arc<dyn Desk>, access: Access, stop: CancellationToken) -> Self {
        let hub = Arc::new(Hub::new(Arc::clone(&desk), stop));
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        let (reads, requests) = (semaphore(READS), semaphore(REQUESTS));
        Self { desk, hub, reads, requests, access: Arc::new(access) }
    }

    /// Copies figures while somebody follows them, until stopped.
    pub(super) async fn run(self) {
        self.hub.run().await;
    }

    /// The routes, guarded.
    pub(super) fn router(self) -> Router {
        let mut router = Router::new();
        let counted = from_fn_with_state(self.clone(), guard::count);
        let received = from_fn_with_state(self.clone(), act::receive);
        for (method, path, methods) in routes() {
            let methods = methods.route_layer(counted.clone());
            // Outside of the count: what has not arrived is not being answered.
            let methods = if method == "post" { methods.route_layer(received.clone()) } else { methods };
            router = router.route(path, methods);
        }
        let guarded = from_fn_with_state(self.clone(), guard::check);
        let router = router.layer(DefaultBodyLimit::max(BODY));
        router.method_not_allowed_fallback(super::routes::method_not_allowed).layer(guarded).with_state(self)
    }

    /// A turn for an answer that takes a while.
    async fn turn(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        Arc::clone(&self.reads).acquire_owned().await.ok()
    }
}
