use std::time::Duration;

use beamline_nats::{Address, Client, ConnectError, Event, Options};
use xxhash_rust::xxh3::xxh3_64;

use super::access::{Access, Identity, tls_files};
use super::{CONNECTION_NAME, ConnectFailed, PING_INTERVAL, listed};
use crate::config::{NatsSettings, ServerUrl};

/// A connection for what others send, tried for ever. It need not be there yet: events report it. Tries are
/// jittered by `identity` (the worker's name and which of its connections this is), and in each subscriber
/// `capacity` messages may wait. It is renewed with the others of its worker.
pub fn start_traffic(
    access: &Access,
    identity: &str,
    capacity: usize,
    on_event: impl Fn(Event) + Send + Sync + 'static,
) -> Client {
    let seed = xxh3_64(identity.as_bytes());
    access.start(|newest| {
        let options = options(access.settings(), newest);
        Client::start(Options { subscription_capacity: capacity, seed, ..options }, on_event)
    })
}

/// The same for a program in a shell: every server is tried once, all within `timeout`.
///
/// # Errors
/// Why there is none.
pub async fn connect_traffic(
    settings: &NatsSettings,
    timeout: Duration,
    on_event: impl Fn(Event) + Send + Sync + 'static,
) -> Result<Client, ConnectFailed> {
    let servers = listed(settings);
    let identity = Identity::read_without_tls(settings)?;
    Client::connect(options(settings, identity), timeout, on_event).await.map_err(|error| match error {
        ConnectError::Refused(_) => ConnectFailed::Refused { servers },
        ConnectError::Tls(reason) => ConnectFailed::Tls { servers, reason },
        ConnectError::TimedOut => {
            ConnectFailed::Unreachable { servers, reason: format!("no answer within {timeout:?}") }
        }
        error @ (ConnectError::Unreachable(_)
        | ConnectError::Protocol(_)
        | ConnectError::Unread
        | ConnectError::Info
        | ConnectError::Server(_)) => ConnectFailed::Unreachable { servers, reason: error.to_string() },
    })
}

fn options(settings: &NatsSettings, Identity { auth, tls }: Identity) -> Options {
    let defaults = Options::default();
    Options {
        name: CONNECTION_NAME.to_owned(),
        servers: settings.servers.iter().filter_map(address).collect(),
        auth,
        tls: tls_files(settings),
        material: tls,
        inbox_prefix: settings.inbox_prefix.clone().unwrap_or(defaults.inbox_prefix),
        ping_interval: PING_INTERVAL,
        ..defaults
    }
}

fn address(server: &ServerUrl) -> Option<Address> {
    let (host, port) = server.host_and_port()?;
    Some(Address { host, port, tls: server.as_str().starts_with("tls://"), tls_name: None })
}
