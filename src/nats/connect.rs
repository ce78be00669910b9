//! Connections to the broker, of both kinds: options from settings, and how often to try.
//!
//! A worker tries for ever: it starts without a broker, and outlives one that goes. Its delays are those
//! of [`beamline_nats::backoff`] for both kinds. A program in a shell tries once, and says what is wrong.
//!
//! What happens to a connection is reported by events; they go to the function that the caller gives, one
//! after the other, and that function must not block.

mod access;
mod traffic;

pub use access::{Access, FileFault, Identity};
pub use traffic::{connect_traffic, start_traffic};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event};
use beamline_nats::backoff;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::{Auth, NatsSettings};

/// The name that the broker lists the connection by.
const CONNECTION_NAME: &str = "beamline-router";

/// A peer that is gone without a word is noticed after two or three of these. The library's 60 s would leave
/// a worker deaf for two minutes.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// The same for a worker's management connection, which the library gives up at the third PING without an answer: 6 s after
/// the path to its server was cut. While the log answers, which it is asked to each second, none is sent.
const WORKER_PING_INTERVAL: Duration = Duration::from_secs(2);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectFailed {
    /// A file of credentials or of TLS is no such file, or holds nothing usable.
    #[error("a file cannot be used: {0}")]
    File(#[from] FileFault),
    /// The broker does not know us.
    #[error("{servers} refused us: wrong or missing user, password, token or credentials")]
    Refused {
        /// Where it was tried.
        servers: String,
    },
    /// TLS could not be agreed on, or its files cannot be used.
    #[error("no TLS with {servers}: {reason}")]
    Tls {
        /// Where it was tried.
        servers: String,
        /// What the library says.
        reason: String,
    },
    /// Nobody answers there.
    #[error("cannot reach NATS at {servers}: {reason}")]
    Unreachable {
        /// Where it was tried.
        servers: String,
        /// What the library says.
        reason: String,
    },
}

/// What the options of every connection of this program have.
fn common(settings: &NatsSettings, options: ConnectOptions) -> ConnectOptions {
    let options = options.name(CONNECTION_NAME).ping_interval(PING_INTERVAL);
    match &settings.inbox_prefix {
        Some(prefix) => options.custom_inbox_prefix(prefix),
        None => options,
    }
}

/// Options for a connection that lasts as long as the files stay.
async fn options(settings: &NatsSettings) -> Result<ConnectOptions, ConnectFailed> {
    let mut options = ConnectOptions::new();
    options = match &settings.auth {
        Auth::Anonymous => options,
        Auth::Credentials(path) => options
            .credentials_file(path)
            .await
            .map_err(|error| FileFault { file: path.display().to_string(), reason: error.to_string() })?,
        Auth::User { name, password } => {
            options.user_and_password(name.clone(), password.expose().to_owned())
        }
        Auth::Token(token) => options.token(token.expose().to_owned()),
    };
    if let Some(ca) = &settings.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let Some(tls) = &settings.client_tls {
        options = options.add_client_certificate(tls.cert.clone(), tls.key.clone());
    }
    if settings.tls_required() {
        options = options.require_tls(true);
    }
    Ok(common(settings, options))
}

/// A worker's connection: tries for ever, with jittered delays seeded by the worker's name. It returns at
/// once; [`Event::Connected`] tells when the broker is there.
///
/// # Errors
/// When TLS cannot be set up. A broker that is away is no error.
pub async fn connect_worker(
    access: &Arc<Access>,
    identity: &str,
    on_event: impl Fn(Event) + Send + Sync + 'static,
) -> Result<Client, ConnectFailed> {
    let jitter = Jitter::seeded(identity);
    let options = common(access.settings(), access.options()?);
    let options = with_events(options, on_event)
        .retry_on_initial_connect()
        .ping_interval(WORKER_PING_INTERVAL)
        .reconnect_delay_callback(move |attempt| jitter.delay(attempt));
    connected(access.settings(), options).await
}

/// JetStream over a connection.
#[must_use]
pub fn jetstream(client: &Client) -> async_nats::jetstream::Context {
    async_nats::jetstream::new(client.clone())
}

/// A connection for a program in a shell: every server is tried once, all within `timeout`.
///
/// # Errors
/// Why there is none.
pub async fn connect_once(
    settings: &NatsSettings,
    timeout: Duration,
    on_event: impl Fn(Event) + Send + Sync + 'static,
) -> Result<Client, ConnectFailed> {
    let options = with_events(options(settings).await?, on_event).connection_timeout(timeout);
    match tokio::time::timeout(timeout, connected(settings, options)).await {
        Ok(done) => done,
        Err(_) => Err(ConnectFailed::Unreachable {
            servers: listed(settings),
            reason: format!("no answer within {timeout:?}"),
        }),
    }
}

async fn connected(settings: &NatsSettings, options: ConnectOptions) -> Result<Client, ConnectFailed> {
    options.connect(addresses(settings)).await.map_err(|error| failed(settings, &error))
}

fn with_events(options: ConnectOptions, on_event: impl Fn(Event) + Send + Sync + 'static) -> ConnectOptions {
    let on_event = Arc::new(on_event);
    options.event_callback(move |event| {
        on_event(event);
        std::future::ready(())
    })
}

fn addresses(settings: &NatsSettings) -> Vec<String> {
    settings.servers.iter().map(|server| server.as_str().to_owned()).collect()
}

fn listed(settings: &NatsSettings) -> String {
    addresses(settings).join(", ")
}

fn failed(settings: &NatsSettings, error: &async_nats::ConnectError) -> ConnectFailed {
    let servers = listed(settings);
    let reason = match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    };
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            ConnectFailed::Refused { servers }
        }
        ConnectErrorKind::Tls => ConnectFailed::Tls { servers, reason },
        ConnectErrorKind::ServerParse
        | ConnectErrorKind::Dns
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => ConnectFailed::Unreachable { servers, reason },
    }
}

/// Delays between tries, seeded by the worker's own name, so that workers differ.
#[derive(Debug)]
struct Jitter(AtomicU64);

impl Jitter {
    fn seeded(identity: &str) -> Self {
        Self(AtomicU64::new(xxh3_64(identity.as_bytes())))
    }

    /// The delay before a try; tries count from 1, over all servers, since the connection was last up.
    fn delay(&self, attempt: usize) -> Duration {
        let step = |seed| Some(backoff::scatter(seed));
        let random = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).unwrap_or_default();
        backoff::delay(u32::try_from(attempt).unwrap_or(u32::MAX), false, random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_of_different_names_come_at_different_times() {
        let times = |name: &str| {
            let jitter = Jitter::seeded(name);
            (1..9).map(|attempt| jitter.delay(attempt)).collect::<Vec<_>>()
        };
        assert_ne!(times("w1"), times("w2"));
        assert_eq!(times("w1"), times("w1"));
    }
}
