use std::path::PathBuf;
use std::time::Duration;

use crate::auth::Auth;
use crate::error::ConnectError;
use crate::pool::Address;
use crate::tls::Material;

/// How a connection is made and what it may hold.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name that servers list the connection by.
    pub name: String,
    /// At least one server.
    pub servers: Vec<Address>,
    /// Who we are.
    pub auth: Auth,
    /// Whom to trust.
    pub tls: Tls,
    /// The content of those files, where it was read; without, they are read with the first connection.
    pub material: Option<Material>,
    /// What reply subjects begin with, without a dot at the end.
    pub inbox_prefix: String,
    /// How many messages a subscriber may have waiting; more are dropped.
    pub subscription_capacity: usize,
    /// How many bytes may wait to be sent; more are refused.
    pub outbound_limit: usize,
    /// How often the server is asked whether it is there. Beside a silent one another connection is made; it is left
    /// after three times that in any case.
    pub ping_interval: Duration,
    /// How long one try may take, from the name's look-up until subscriptions are confirmed.
    pub connect_timeout: Duration,
    /// What chance begins with: clients of different seeds try servers at different times.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: String::new(),
            servers: Vec::new(),
            auth: Auth::Anonymous,
            tls: Tls::default(),
            material: None,
            inbox_prefix: "_INBOX".to_owned(),
            subscription_capacity: 65_536,
            outbound_limit: 8 << 20,
            ping_interval: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            seed: uuid::Uuid::new_v4().as_u64_pair().0,
        }
    }
}

/// Whom to trust, and how to prove who we are.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Whether a server without TLS is refused.
    pub required: bool,
    /// A PEM file of the only authorities to trust; without, those of the system.
    pub ca: Option<PathBuf>,
    /// PEM files of our certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// What happens to a connection. The function that receives it is called by the connection's own task and
/// must not block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// There is a connection, and the server holds all subscriptions.
    Connected,
    /// The connection is lost, and why. It is tried again for ever.
    Disconnected(String),
    /// A try to connect came to nothing.
    ConnectFailed(ConnectError),
    /// Nothing comes from the server although it was asked. Another connection is made beside this one.
    Silent,
    /// The server announced that it goes; the connection moves to another one.
    LameDuck,
    /// The server did not permit a publish or a subscription.
    Denied(String),
    /// The server reported another error.
    ServerError(String),
    /// A subscriber had no room for so many messages.
    Dropped(u64),
    /// The connection was closed by its owner.
    Closed,
}
