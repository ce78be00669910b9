use std::time::Duration;

use beamline_nats::{Address, Auth, Client, ConnectError, Credentials, Event, Options, Tls};
use xxhash_rust::xxh3::xxh3_64;

use super::{CONNECTION_NAME, ConnectFailed, PING_INTERVAL, listed};
use crate::config::{self, NatsSettings, ServerUrl};

/// A connection for what others send, tried for ever. It need not be there yet: events report it. Tries are
/// jittered by `identity` (the worker's name and which of its connections this is), and in each subscriber
/// `capacity` messages may wait.
///
/// # Errors
/// When the credentials file cannot be used. A broker that is away is no error.
pub fn start_traffic(
    settings: &NatsSettings,
    identity: &str,
    capacity: usize,
    on_event: impl Fn(Event) + Send + Sync + 'static,
) -> Result<Client, ConnectFailed> {
    let options =
        Options { subscription_capacity: capacity, seed: xxh3_64(identity.as_bytes()), ..options(settings)? };
    Ok(Client::start(options, on_event))
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
    Client::connect(options(settings)?, timeout, on_event).await.map_err(|error| match error {
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

fn options(settings: &NatsSettings) -> Result<Options, ConnectFailed> {
    let auth = match &settings.auth {
        config::Auth::Anonymous => Auth::Anonymous,
        config::Auth::Credentials(path) => {
            let read = Credentials::read(path);
            Auth::Credentials(read.map_err(|error| ConnectFailed::Credentials(error.to_string()))?)
        }
        config::Auth::User { name, password } => {
            Auth::User { name: name.clone(), password: password.expose().to_owned() }
        }
        config::Auth::Token(token) => Auth::Token(token.expose().to_owned()),
    };
    let tls = Tls {
        required: settings.tls_required(),
        ca: settings.ca.clone(),
        client: settings.client_tls.as_ref().map(|tls| (tls.cert.clone(), tls.key.clone())),
    };
    let defaults = Options::default();
    Ok(Options {
        name: CONNECTION_NAME.to_owned(),
        servers: settings.servers.iter().filter_map(address).collect(),
        auth,
        tls,
        inbox_prefix: settings.inbox_prefix.clone().unwrap_or(defaults.inbox_prefix),
        ping_interval: PING_INTERVAL,
        ..defaults
    })
}

fn address(server: &ServerUrl) -> Option<Address> {
    let (host, port) = server.host_and_port()?;
    Some(Address { host, port, tls: server.as_str().starts_with("tls://"), tls_name: None })
}
