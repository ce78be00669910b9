//! A fresh connection: the name's look-up, TCP, TLS, and what both sides say first.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error::ConnectError;
use crate::handshake::{Handshake, Login, Step};
use crate::info::ServerInfo;
use crate::pool::Address;
use crate::reader::{Reader, Taken};
use crate::shared::Shared;
use crate::transport::Transport;

/// A stream that a server has accepted, and what is on its way over it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) address: Address,
    /// The number of the identity that it was made with.
    pub(crate) identity: u64,
    pub(crate) info: ServerInfo,
    transport: Transport,
    pub(crate) reader: Reader,
    /// What is to be written, and how much of it was.
    pending: Vec<u8>,
    written: usize,
    flushed: bool,
}

impl Link {
    /// Whether nothing waits to be written.
    pub(crate) const fn is_written(&self) -> bool {
        self.written >= self.pending.len()
    }

    /// Writes what is pending, as far as that goes now.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.pending.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(self.transport.poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.written += n,
            }
            self.flushed = false;
        }
        if !self.flushed {
            ready!(self.transport.poll_flush(cx))?;
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Room for more, once all is written.
    pub(crate) fn refill(&mut self) -> &mut Vec<u8> {
        /// A burst does not keep its memory.
        const KEPT: usize = 1 << 20;
        if self.pending.capacity() > KEPT {
            self.pending = Vec::new();
        }
        self.pending.clear();
        self.written = 0;
        &mut self.pending
    }

    /// Reads what has come.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.poll_read(cx, self.reader.room())
    }

    /// Writes all of this behind what is pending.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(bytes);
        poll_fn(|cx| self.poll_write(cx)).await
    }

    /// The next complete operations, read if need be.
    pub(crate) async fn receive(&mut self) -> Result<Taken, ConnectError> {
        loop {
            if let Some(taken) = self.reader.take()? {
                return Ok(taken);
            }
            poll_fn(|cx| self.poll_read(cx)).await.map_err(|error| unreachable(&error))?;
        }
    }

    pub(crate) async fn shutdown(mut self) {
        // The server notices the end either way.
        let _ = self.transport.shutdown().await;
    }
}

/// Connects to a server and is accepted by it. Takes as long as that takes.
///
/// # Errors
/// Why not.
pub(crate) async fn dial(shared: &Shared, address: Address) -> Result<Link, ConnectError> {
    let options = &shared.options;
    let (auth, identity) = shared.identity.newest();
    let stream = connect(&address, options.connect_timeout).await?;
    let login = Login { name: options.name.clone(), auth, tls_required: options.tls.required || address.tls };
    let mut link = Link {
        address,
        identity,
        info: ServerInfo::default(),
        transport: Transport::Tcp(stream),
        reader: Reader::default(),
        pending: Vec::new(),
        written: 0,
        flushed: true,
    };
    let mut handshake = Handshake::new(&login);
    loop {
        let Taken { bytes, frames, op } = link.receive().await?;
        if !frames.is_empty() {
            return Err(crate::parse::ProtocolError::Unknown.into());
        }
        let Some(op) = op else { continue };
        match handshake.on(op, &bytes, link.reader.is_empty())? {
            Step::Read => {}
            Step::Send(bytes) => link.send(&bytes).await.map_err(|error| unreachable(&error))?,
            Step::Secure => {
                let Transport::Tcp(stream) = link.transport else {
                    return Err(crate::parse::ProtocolError::Unknown.into());
                };
                link.transport = secure(shared, &link.address, stream).await?;
                link.send(&handshake.secured()).await.map_err(|error| unreachable(&error))?;
            }
            Step::Accepted(info) => {
                link.info = *info;
                return Ok(link);
            }
        }
    }
}

pub(crate) fn unreachable(error: &io::Error) -> ConnectError {
    let text = match error.kind() {
        io::ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
        _ => error.to_string(),
    };
    ConnectError::Unreachable(text)
}

/// Tries each address of a name, each with its share of the time.
async fn connect(address: &Address, timeout: Duration) -> Result<TcpStream, ConnectError> {
    let found = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
    let mut addresses: VecDeque<_> = found.map_err(|error| unreachable(&error))?.collect();
    let share = timeout / u32::try_from(addresses.len() + 1).unwrap_or(u32::MAX);
    let mut last = ConnectError::Unreachable("the name has no address".to_owned());
    while let Some(address) = addresses.pop_front() {
        let connected = tokio::time::timeout(share, TcpStream::connect(address)).await;
        match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => {
                // Replies are small, and must not wait for more.
                stream.set_nodelay(true).map_err(|error| unreachable(&error))?;
                return Ok(stream);
            }
            Err(error) => last = unreachable(&error),
        }
    }
    Err(last)
}

async fn secure(shared: &Shared, address: &Address, stream: TcpStream) -> Result<Transport, ConnectError> {
    let failed = |error: &dyn std::fmt::Display| ConnectError::Tls(error.to_string());
    let tls = shared.identity.tls(&shared.options.tls).await?;
    let config = tls.config().map_err(|error| failed(&error))?;
    let name = address.tls_name.clone().unwrap_or_else(|| address.host.clone());
    let name = ServerName::try_from(name).map_err(|error| failed(&error))?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    Ok(Transport::Tls(Box::new(stream.map_err(|error| failed(&error))?)))
}
