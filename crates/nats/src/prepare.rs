//! Making the next connection, up to the PONG behind its subscriptions.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::dial::{Link, dial, unreachable};
use crate::error::ConnectError;
use crate::handshake::ServerError;
use crate::info::ServerInfo;
use crate::options::Event;
use crate::parse::Op;
use crate::pool::Address;
use crate::reader::Taken;
use crate::retire::Moving;
use crate::session::Prelude;
use crate::shared::Shared;
use crate::task::move_to;

/// A connection on which the server holds all subscriptions.
pub(crate) struct Prepared {
    pub(crate) link: Link,
    pub(crate) prelude: Prelude,
    pub(crate) moving: Moving,
}

pub(crate) type Preparing = Pin<Box<dyn Future<Output = Option<Prepared>> + Send>>;

/// Tries each server once, and goes over to the first that is connected.
///
/// # Errors
/// What the last one came to.
pub(crate) async fn try_each(shared: &Arc<Shared>, timeout: Duration) -> Result<Link, ConnectError> {
    let mut last = ConnectError::Unreachable("no server is named".to_owned());
    let servers = shared.pool().len();
    let share = timeout / u32::try_from(servers.max(1)).unwrap_or(u32::MAX);
    for _ in 0..servers {
        let Some((address, _)) = shared.pool().choose() else { break };
        let connected = async { prepare(shared, dial(shared, address.clone()).await?).await };
        let connected = tokio::time::timeout(share, connected).await;
        match connected.unwrap_or(Err(ConnectError::TimedOut)) {
            Ok(prepared) => return Ok(move_to(shared, prepared)),
            // Another server of the same cluster would refuse us too.
            Err(refused @ ConnectError::Refused(_)) => return Err(refused),
            Err(error) => last = error,
        }
        shared.pool().failed(&address, false);
    }
    Err(last)
}

/// Tries servers until one is connected.
pub(crate) async fn prepare_next(shared: Arc<Shared>) -> Option<Prepared> {
    loop {
        let (address, delay) = shared.pool().choose()?;
        tokio::time::sleep(delay).await;
        let connecting = async { prepare(&shared, dial(&shared, address.clone()).await?).await };
        if let Some(prepared) = tried(&shared, &address, connecting).await {
            return Some(prepared);
        }
    }
}

/// Tries the servers but the present one, each once.
pub(crate) async fn prepare_elsewhere(
    shared: Arc<Shared>,
    present: Address,
    server_id: String,
) -> Option<Prepared> {
    let servers = shared.pool().len();
    for _ in 0..servers {
        let (address, delay) = shared.pool().choose()?;
        if address == present {
            return None;
        }
        tokio::time::sleep(delay).await;
        let connecting = async {
            let link = dial(&shared, address.clone()).await?;
            // By another of its addresses.
            if !server_id.is_empty() && link.info.server_id == server_id {
                return Err(ConnectError::Unreachable("it is the server that is left".to_owned()));
            }
            prepare(&shared, link).await
        };
        if let Some(prepared) = tried(&shared, &address, connecting).await {
            return Some(prepared);
        }
    }
    None
}

/// The outcome of one try of a server; `None` if it failed, which is noted and reported.
async fn tried(
    shared: &Shared,
    address: &Address,
    connecting: impl Future<Output = Result<Prepared, ConnectError>>,
) -> Option<Prepared> {
    let connected = tokio::time::timeout(shared.options.connect_timeout, connecting).await;
    match connected.unwrap_or(Err(ConnectError::TimedOut)) {
        Ok(prepared) => Some(prepared),
        Err(error) => {
            shared.pool().failed(address, matches!(error, ConnectError::Refused(_)));
            shared.tell(Event::ConnectFailed(error));
            None
        }
    }
}

/// Subscribes on a fresh connection, and waits until the server has it. What is delivered meanwhile
/// reaches its subscribers.
async fn prepare(shared: &Arc<Shared>, mut link: Link) -> Result<Prepared, ConnectError> {
    let moving = Moving::begin(shared);
    let prelude = shared.session().prelude();
    link.send(&prelude.out).await.map_err(|error| unreachable(&error))?;
    loop {
        let Taken { bytes, frames, op } = link.receive().await?;
        shared.deliver(&bytes, frames);
        match op {
            Some(Op::Pong) => return Ok(Prepared { link, prelude, moving }),
            Some(Op::Ping) => link.send(b"PONG\r\n").await.map_err(|error| unreachable(&error))?,
            Some(Op::Info(json)) => {
                if let Some(info) = ServerInfo::parse(json.of(&bytes)) {
                    link.info = info;
                }
            }
            Some(Op::Error(text)) => match ServerError::parse(text.of(&bytes)) {
                ServerError::Permission(text) => shared.tell(Event::Denied(text)),
                ServerError::Authorization(text) => return Err(ConnectError::Refused(text)),
                ServerError::Other(text) => return Err(ConnectError::Server(text)),
            },
            Some(Op::Ok | Op::Message(_)) | None => {}
        }
    }
}
