//! A NATS connection for everything that others can influence.
//!
//! A client of a shared broker receives bytes that it did not choose: subjects, reply subjects, headers and
//! payloads of whoever may publish. This crate accepts all of them. A message whose subject or headers
//! cannot be read is delivered as *malformed* ([`MessageRef::read`] says why), and the connection stays up.
//! Only a fault in the framing, which the broker itself writes, ends a connection, and then the next one
//! is made.
//!
//! The protocol does no I/O and reads no clock; each part can be tested with bytes and numbers:
//!
//! | module | from | to |
//! |---|---|---|
//! | [`parse`], [`reader`] | bytes of the broker, split anywhere | operations and the frames of messages |
//! | [`headers`] | a raw header block | a checked view of it |
//! | [`handshake`] | INFO, PONG, -ERR | CONNECT, or why there is no connection |
//! | [`session`] | publish, subscribe, flush, PONG | bytes for the broker, and who is answered |
//! | [`keepalive`] | time, PONGs, doubts | PING, another connection beside it, or a stale one |
//! | [`pool`], [`backoff`] | servers, failures | which server is tried next, and when |
//! | [`jetstream`] | deliveries, statuses, time | entries, pull requests, stored messages |
//!
//! Around them stands a thin shell: [`Client`] and [`Subscriber`] are handles, and one task per connection
//! moves bytes between the socket and these modules.
//!
//! **Batches.** What one read returns is parsed in place. A [`Batch`] is the buffer and where its messages
//! lie, so nothing is allocated or copied for a single message. Publishing appends to one buffer, which the
//! task writes as a whole.
//!
//! **Moves.** A connection moves to a new one that is made beside it, and loses nothing that its server still sends:
//! where the server announces that it goes, where [`Mover::renew`] gives it another identity, and where
//! [`Mover::leave`] asks for another server. Where nothing comes from a server that was asked for something
//! ([`keepalive`]), whichever answers first is kept.
//!
//! **Bounds.** Lines, header blocks and messages have hard limits ([`parse`]). A subscriber holds at most
//! [`Options::subscription_capacity`] messages, of 128 MiB together; what does not fit is
//! dropped and reported as [`Event::Dropped`]. The outbound buffer holds at most [`Options::outbound_limit`]
//! bytes, over a reconnect too; what does not fit is refused to the publisher.

pub mod auth;
pub mod backoff;
pub mod batch;
mod client;
mod clock;
mod dial;
pub mod encode;
mod error;
pub mod handshake;
pub mod headers;
mod identity;
pub mod info;
pub mod jetstream;
pub mod keepalive;
mod malformed;
mod options;
pub mod parse;
pub mod pool;
mod prepare;
mod queue;
pub mod reader;
mod request;
mod retire;
pub mod session;
mod shared;
mod subscriber;
mod subscriptions;
mod task;
pub mod tls;
mod transport;

pub use auth::{Auth, Credentials, CredentialsError, Seed};
pub use batch::{Batch, Message, MessageRef, Readable};
pub use client::{Client, Delivery, Mover};
pub use error::{ConnectError, FlushError, PublishError, RequestError};
pub use headers::Headers;
pub use malformed::Malformed;
pub use options::{Event, Options, Tls};
pub use pool::Address;
pub use subscriber::Subscriber;

/// The version that servers list a connection by.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
