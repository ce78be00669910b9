use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::api::Api;
use super::exchange::{Arriving, Leaving};
use super::places::Lobby;
use super::routes::router;
use super::slow::Patient;
use super::{Access, Desk};
use crate::telemetry::labels::Queue;

/// Connections at once: scrapers, viewers and browsers of a large team, and few enough file descriptors
/// that the broker's always find one. For one beyond them another one is closed.
const CONNECTIONS: usize = 256;
/// The request line and headers of one request.
const HEADER_BYTES: usize = 16 * 1024;
/// How long a peer may take over its headers, or keep an idle connection: longer than the usual
/// interval of a scraper, so that one connection serves it.
const HEADER_TIME: Duration = Duration::from_secs(30);
/// How long answers under way may take once the server is to stop.
const GRACE: Duration = Duration::from_secs(2);
/// The pause after a failed accept: it fails for want of file descriptors, which take time to come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for HTTP: {source}{hint}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// Why not.
    #[source]
    pub source: io::Error,
    hint: &'static str,
}

/// Listens on an address; port 0 chooses a free one.
///
/// # Errors
/// [`BindError`] names the address, and a likely remedy.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| {
        let hint = match source.kind() {
            io::ErrorKind::AddrInUse => {
                " (another process listens there; --http-addr chooses another address)"
            }
            io::ErrorKind::PermissionDenied => {
                " (ports below 1024 need a privilege; --http-addr chooses another)"
            }
            io::ErrorKind::AddrNotAvailable => " (no interface of this machine has that address)",
            _ => "",
        };
        BindError { address, source, hint }
    })
}

/// Answers requests until `shutdown` is done, then those under way, for at most two seconds.
/// Those who follow the console's figures are sent away at once.
pub async fn serve(
    listener: TcpListener,
    desk: Arc<dyn Desk>,
    access: Access,
    shutdown: impl Future<Output = ()>,
) {
    let ending = CancellationToken::new();
    let _ends = ending.clone().drop_guard();
    let api = Api::new(Arc::clone(&desk), access, ending.clone());
    let router = router(Arc::clone(&desk), api.clone());
    tokio::spawn(api.run());
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).max_header_size(HEADER_BYTES);
    let lobby = Lobby::new(CONNECTIONS);
    let connections = GracefulShutdown::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener) => accepted,
        };
        let Some(stream) = accepted else { continue };
        let Some((place, closed_another)) = lobby.enter() else {
            desk.count_refused(Queue::Http, 1);
            continue;
        };
        if closed_another {
            desk.count_refused(Queue::Http, 1);
        }
        let place = Arc::new(place);
        let closing = place.closing().clone();
        let router = TowerToHyperService::new(router.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let place = Arc::clone(&place);
            let answer = router.call(request.map(|body| Arriving::new(body, Arc::clone(&place))));
            async move { Ok::<_, Infallible>(answer.await?.map(|body| Leaving::new(body, place))) }
        });
        let connection = http.serve_connection(TokioIo::new(Patient::new(stream)), service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            // A peer that goes away or sends what is no HTTP is its own affair.
            tokio::select! {
                _ = connection => {}
                () = closing.cancelled() => {}
            }
        });
    }
    drop(listener);
    ending.cancel();
    let _ = tokio::time::timeout(GRACE, connections.shutdown()).await;
}

async fn accept(listener: &TcpListener) -> Option<TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => Some(stream),
        Err(error) => {
            tracing::debug!(event = "http_not_accepted", error = %error);
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}
