//! Connections to the broker: options from settings, and how often to try.
//!
//! A worker tries for ever: it starts without a broker, and outlives one that goes. Its delays carry
//! jitter, since the library's have none and the broker's return would otherwise meet all workers at
//! one moment. A program in a shell tries once, and says what is wrong.
//!
//! The library tells what happens to a connection by events; they go to the function that the caller
//! gives, one after the other, and that function must not block.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event};
use xxhash_rust::xxh3::xxh3_64;

use crate::config::{Auth, NatsSettings};

/// The name that the broker lists the connection by.
const CONNECTION_NAME: &str = "beamline-router";

/// A peer that is gone without a word is noticed after two of these. The library's 60 s would leave a
/// worker deaf for two minutes.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// The first try comes within this: long enough to spread the workers of a restarted broker, short
/// enough that nobody sees it at start.
const FIRST_DELAY_MS: u64 = 100;

/// Later tries double from here
const BASE_DELAY_MS: u64 = 100;

/// up to this: a broker that is back is found again within 2 s.
const MAX_DELAY_MS: u64 = 2_000;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectFailed {
    /// The credentials file is no such file, or holds nothing usable.
    #[error("the credentials file cannot be used: {0}")]
    Credentials(#[source] std::io::Error),
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

/// The options that every connection of this program starts from.
///
/// # Errors
/// When the credentials file cannot be used.
pub async fn options(settings: &NatsSettings) -> Result<ConnectOptions, ConnectFailed> {
    let mut options = ConnectOptions::new().name(CONNECTION_NAME).ping_interval(PING_INTERVAL);
    options = match &settings.auth {
        Auth::Anonymous => options,
        Auth::Credentials(path) => {
            options.credentials_file(path).await.map_err(ConnectFailed::Credentials)?
        }
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
    if let Some(prefix) = &settings.inbox_prefix {
        options = options.custom_inbox_prefix(prefix);
    }
    Ok(options)
}

/// The options of a worker's connection: tries for ever, with jittered delays seeded by `identity`
/// (the worker's name and which of its connections this is). In each of its subscriptions `capacity`
/// messages may wait.
async fn worker_options(
    settings: &NatsSettings,
    identity: &str,
    capacity: usize,
    on_event: impl Fn(Event) + Send + Sync + 'static,
) -> Result<ConnectOptions, ConnectFailed> {
    let jitter = Jitter::seeded(identity);
    Ok(with_events(options(settings).await?, on_event)
        .subscription_capacity(capacity)
        .retry_on_initial_connect()
        .reconnect_delay_callback(move |attempt| jitter.delay(attempt)))
}

/// A worker's connection. It returns at once; [`Event::Connected`] tells when the broker is there.
///
/// # Errors
/// When the credentials file cannot be used. A broker that is away is no error.
pub async fn connect_worker(
    settings: &NatsSettings,
    identity: &str,
    capacity: usize,
    on_event: impl Fn(Event) + Send + Sync + 'static,
) -> Result<Client, ConnectFailed> {
    connected(settings, worker_options(settings, identity, capacity, on_event).await?).await
}

/// A worker's connection for decide requests. Subjects are published to as they are: what is published
/// are replies, to subjects that the broker has delivered.
///
/// # Errors
/// As [`connect_worker`].
pub async fn connect_decider(
    settings: &NatsSettings,
    identity: &str,
    capacity: usize,
    on_event: impl Fn(Event) + Send + Sync + 'static,
) -> Result<Client, ConnectFailed> {
    let options = worker_options(settings, identity, capacity, on_event).await?;
    connected(settings, options.skip_subject_validation(true)).await
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

/// Delays between tries. The generator is xorshift64: jitter needs no more, and its seed is the worker's
/// own name, so that workers differ and a test can tell what comes.
#[derive(Debug)]
struct Jitter(AtomicU64);

impl Jitter {
    fn seeded(identity: &str) -> Self {
        // Zero is the one state that xorshift never leaves.
        Self(AtomicU64::new(xxh3_64(identity.as_bytes()).max(1)))
    }

    /// The delay before a try; tries count from 1, over all servers, since the connection was last up.
    fn delay(&self, attempt: usize) -> Duration {
        let (fixed, spread) = match attempt {
            0 | 1 => (0, FIRST_DELAY_MS),
            n => {
                let doublings = u32::try_from(n - 2).unwrap_or(u32::MAX).min(16);
                let full = BASE_DELAY_MS.saturating_mul(1 << doublings).min(MAX_DELAY_MS);
                (full / 2, full / 2)
            }
        };
        Duration::from_millis(fixed + self.next() % (spread + 1))
    }

    fn next(&self) -> u64 {
        let step = |mut x: u64| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^ (x << 17)
        };
        let previous = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |x| Some(step(x)));
        step(previous.unwrap_or(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_their_bound_and_never_fall_below_half() {
        let jitter = Jitter::seeded("w1");
        assert!(jitter.delay(1) <= Duration::from_millis(FIRST_DELAY_MS));
        for attempt in 2..200 {
            let full = (BASE_DELAY_MS << (attempt - 2).min(16)).min(MAX_DELAY_MS);
            let delay = jitter.delay(attempt);
            assert!(delay >= Duration::from_millis(full / 2) && delay <= Duration::from_millis(full));
        }
        assert!(jitter.delay(usize::MAX) <= Duration::from_millis(MAX_DELAY_MS));
    }

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
