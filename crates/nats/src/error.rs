use crate::parse::ProtocolError;

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The subject, the reply subject or the queue group is empty, or holds a blank or a control character.
    #[error("the subject is empty or holds a blank or a control character")]
    Subject,
    /// A header's name or value cannot be written.
    #[error("a header's name or value cannot be written")]
    Header,
    /// The message is longer than the broker takes.
    #[error("the message is longer than the broker's limit of {limit} bytes")]
    TooLong {
        /// The broker's `max_payload`.
        limit: usize,
    },
    /// The outbound buffer is full: the broker is away, or reads too slowly.
    #[error("the outbound buffer is full")]
    Full,
    /// The connection was closed by its owner.
    #[error("the connection is closed")]
    Closed,
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It was not sent.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Nobody listens on the subject.
    #[error("no responders")]
    NoResponders,
    /// Nobody answered in time.
    #[error("no answer in time")]
    TimedOut,
}

/// Why a flush has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlushError {
    /// There is no connection, or it was lost.
    #[error("not connected")]
    Disconnected,
}

/// Why there is no connection to a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The server does not accept who we are.
    #[error("refused: {0}")]
    Refused(String),
    /// TLS could not be agreed on, or its files cannot be used.
    #[error("no TLS: {0}")]
    Tls(String),
    /// The name has no address, or nobody listens there.
    #[error("{0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// The server does not follow the protocol.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The server sends PINGs and does not read the answers.
    #[error("the server sends PINGs and does not read the answers")]
    Unread,
    /// The server's INFO is not JSON.
    #[error("the server sent an INFO that cannot be read")]
    Info,
    /// The server ended the connection with this error.
    #[error("the server said: {0}")]
    Server(String),
}
