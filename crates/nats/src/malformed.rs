/// Why a message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The subject is not UTF-8.
    #[error("the subject is not UTF-8")]
    Subject,
    /// The reply subject is not UTF-8.
    #[error("the reply subject is not UTF-8")]
    Reply,
    /// The header block is not UTF-8.
    #[error("the headers are not UTF-8")]
    HeaderText,
    /// The header block is longer than its reader takes.
    #[error("the headers are too long")]
    HeaderLength,
    /// The block does not begin with `NATS/1.0`, or its status is no number of three digits.
    #[error("the headers have a bad version or status line")]
    HeaderVersion,
    /// A header line has no colon.
    #[error("a header line has no colon")]
    HeaderLine,
    /// A header's name is empty, or holds a blank, a control or a non-ASCII character.
    #[error("a header has a bad name")]
    HeaderName,
    /// A header's value holds a carriage return.
    #[error("a header's value holds a carriage return")]
    HeaderValue,
}
