//! One operation of the broker at the front of a buffer.
//!
//! The parser looks at bytes and says where things lie. It neither copies nor decodes: a subject is any
//! bytes without a blank, a header block any bytes of the length that the broker announces.
//!
//! What a client cannot send, the broker does not forward: lengths, subscription ids and line ends are
//! the broker's own. So a fault in these is a [`ProtocolError`], after which the rest of the stream has
//! no meaning and the connection ends. All else is [malformed](crate::Malformed) at most.

use memchr::memchr;

/// The longest line of a message or an error. A broker's `max_control_line` is 4 KiB unless it is set
/// higher; a client that publishes longer ones is cut by it.
pub const MAX_LINE: usize = 64 << 10;
/// The longest INFO: it lists the servers of a cluster.
pub const MAX_INFO: usize = 1 << 20;
/// The longest message, headers included. The greatest `max_payload` that a broker accepts in its
/// configuration is 64 MiB, and a stored message is given back in base64, which takes a third more.
pub const MAX_MESSAGE: usize = 96 << 20;

/// Where something lies in a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    at: u32,
    len: u32,
}

impl Span {
    fn new(at: usize, len: usize) -> Self {
        // A buffer holds one read and at most one unfinished message: far below 4 GiB.
        Self { at: u32::try_from(at).unwrap_or(u32::MAX), len: u32::try_from(len).unwrap_or(0) }
    }

    /// The bytes that lie there.
    #[inline]
    #[must_use]
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        let at = self.at as usize;
        buffer.get(at..at + self.len as usize).unwrap_or_default()
    }

    /// How many bytes lie there.
    #[inline]
    #[must_use]
    pub const fn len(self) -> usize {
        self.len as usize
    }

    /// Whether nothing does.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The same in a buffer that begins `offset` bytes later.
    pub(crate) const fn moved(self, offset: u32) -> Self {
        Self { at: self.at.saturating_sub(offset), len: self.len }
    }

    pub(crate) const fn start(self) -> u32 {
        self.at
    }

    pub(crate) const fn end(self) -> u32 {
        self.at.saturating_add(self.len)
    }
}

/// Where the parts of a message lie. An absent reply or header block is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The subscription that it was delivered to.
    pub sid: u64,
    /// Its subject.
    pub subject: Span,
    /// Where an answer goes.
    pub reply: Span,
    /// The header block, from `NATS/1.0` to the empty line.
    pub headers: Span,
    /// The payload.
    pub payload: Span,
}

impl Frame {
    /// The same in a buffer that begins `offset` bytes later.
    pub(crate) const fn moved(self, offset: u32) -> Self {
        let Self { sid, subject, reply, headers, payload } = self;
        Self {
            sid,
            subject: subject.moved(offset),
            reply: reply.moved(offset),
            headers: headers.moved(offset),
            payload: payload.moved(offset),
        }
    }

    /// How many bytes its parts take, the line with them.
    pub(crate) const fn extent(self) -> usize {
        self.payload.end().saturating_sub(self.subject.start()) as usize
    }
}

/// One operation of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `MSG`, `HMSG`
    Message(Frame),
    /// `INFO`, and where its JSON lies.
    Info(Span),
    /// `PING`
    Ping,
    /// `PONG`
    Pong,
    /// `+OK`
    Ok,
    /// `-ERR`, and where its text lies, quotes included.
    Error(Span),
}

/// What stands at the front of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// An operation, and the position behind it.
    Op(Op, usize),
    /// The beginning of one: the buffer must reach this length before another look can find more.
    Need(usize),
}

/// The broker's stream does not follow the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// No operation begins so.
    #[error("the server sent an unknown operation")]
    Unknown,
    /// A line is longer than the limit.
    #[error("the server sent a line of more than {0} bytes")]
    LongLine(usize),
    /// A message is longer than the limit.
    #[error("the server announced a message of more than {MAX_MESSAGE} bytes")]
    LongMessage,
    /// The words of a `MSG` or `HMSG` line are too few, too many or no numbers.
    #[error("the server sent a message line that cannot be read")]
    MessageLine,
    /// A message does not end with a line end.
    #[error("the server sent a message that does not end where it should")]
    MessageEnd,
    /// Bytes follow the INFO in clear text although TLS was to begin.
    #[error("the server sent more in clear text before TLS")]
    BeforeTls,
}

/// Looks at what stands at `at`. `scanned` bytes from there are known to hold no line end.
///
/// # Errors
/// [`ProtocolError`]: nothing after this can be read.
#[inline]
pub fn parse(buffer: &[u8], at: usize, scanned: usize) -> Result<Parsed, ProtocolError> {
    let rest = buffer.get(at..).unwrap_or_default();
    let Some(end) = memchr(b'\n', rest.get(scanned..).unwrap_or_default()).map(|n| n + scanned) else {
        let most = if rest.first() == Some(&b'I') { MAX_INFO } else { MAX_LINE };
        if rest.len() > most {
            return Err(ProtocolError::LongLine(most));
        }
        return Ok(Parsed::Need(buffer.len() + 1));
    };
    let line = rest.get(..end).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let next = at + end + 1;
    if let Some(words) = line.strip_prefix(b"MSG ") {
        return message(buffer, words, at + 4, next, false);
    }
    if let Some(words) = line.strip_prefix(b"HMSG ") {
        return message(buffer, words, at + 5, next, true);
    }
    other(line, at).map(|op| Parsed::Op(op, next))
}

fn other(line: &[u8], at: usize) -> Result<Op, ProtocolError> {
    let behind = |word: usize| Span::new(at + word, line.len() - word);
    match line {
        b"PING" => Ok(Op::Ping),
        b"PONG" => Ok(Op::Pong),
        [b'+', b'O', b'K', ..] => Ok(Op::Ok),
        [b'I', b'N', b'F', b'O', b' ' | b'\t', ..] => {
            if line.len() > MAX_INFO {
                Err(ProtocolError::LongLine(MAX_INFO))
            } else {
                Ok(Op::Info(behind(5)))
            }
        }
        [b'-', b'E', b'R', b'R', ..] => {
            if line.len() > MAX_LINE {
                Err(ProtocolError::LongLine(MAX_LINE))
            } else {
                Ok(Op::Error(behind(4)))
            }
        }
        _ => Err(ProtocolError::Unknown),
    }
}

/// `<subject> <sid> [reply] <#bytes>`, or with headers `<subject> <sid> [reply] <#header bytes> <#bytes>`.
fn message(
    buffer: &[u8],
    words: &[u8],
    words_at: usize,
    body_at: usize,
    with_headers: bool,
) -> Result<Parsed, ProtocolError> {
    if words.len() > MAX_LINE {
        return Err(ProtocolError::LongLine(MAX_LINE));
    }
    let mut found = [Span::default(); 5];
    let mut count = 0;
    let mut from = 0;
    while from < words.len() {
        let rest = words.get(from..).unwrap_or_default();
        let len = memchr(b' ', rest).unwrap_or(rest.len());
        if len > 0 {
            *found.get_mut(count).ok_or(ProtocolError::MessageLine)? = Span::new(words_at + from, len);
            count += 1;
        }
        from += len + 1;
    }
    let [subject, sid, third, fourth, fifth] = found;
    let (reply, header_len, total) = match (with_headers, count) {
        (false, 3) => (Span::default(), None, third),
        (false, 4) => (third, None, fourth),
        (true, 4) => (Span::default(), Some(third), fourth),
        (true, 5) => (third, Some(fourth), fifth),
        _ => return Err(ProtocolError::MessageLine),
    };
    let sid = number(sid.of(buffer))?;
    let total = length(total.of(buffer))?;
    let header_len = header_len.map_or(Ok(0), |len| length(len.of(buffer)))?;
    if header_len > total {
        return Err(ProtocolError::MessageLine);
    }
    let end = body_at + total;
    if buffer.len() < end + 2 {
        return Ok(Parsed::Need(end + 2));
    }
    if buffer.get(end..end + 2) != Some(b"\r\n") {
        return Err(ProtocolError::MessageEnd);
    }
    let frame = Frame {
        sid,
        subject,
        reply,
        headers: Span::new(body_at, header_len),
        payload: Span::new(body_at + header_len, total - header_len),
    };
    Ok(Parsed::Op(Op::Message(frame), end + 2))
}

fn length(digits: &[u8]) -> Result<usize, ProtocolError> {
    let length = number(digits)?;
    usize::try_from(length).ok().filter(|n| *n <= MAX_MESSAGE).ok_or(ProtocolError::LongMessage)
}

fn number(digits: &[u8]) -> Result<u64, ProtocolError> {
    // 19 digits are below 2^64.
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(ProtocolError::MessageLine);
    }
    Ok(digits.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &[u8]) -> (Frame, usize) {
        match parse(text, 0, 0) {
            Ok(Parsed::Op(Op::Message(frame), next)) => (frame, next),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_message_is_located() {
        let text = b"MSG a.b 7 _INBOX.x 5\r\nhello\r\nPING\r\n";
        let (frame, next) = frame(text);
        assert_eq!(
            (frame.sid, frame.subject.of(text), frame.reply.of(text)),
            (7, &b"a.b"[..], &b"_INBOX.x"[..])
        );
        assert_eq!((frame.headers.of(text), frame.payload.of(text)), (&b""[..], &b"hello"[..]));
        assert_eq!(parse(text, next, 0), Ok(Parsed::Op(Op::Ping, text.len())));
    }

    #[test]
    fn headers_are_located_and_not_looked_at() {
        let text = b"HMSG \xff\xfe 1 3 5\r\n\r\n\nhi\r\n";
        let (frame, next) = frame(text);
        assert_eq!((frame.subject.of(text), frame.reply.is_empty()), (&b"\xff\xfe"[..], true));
        assert_eq!((frame.headers.of(text), frame.payload.of(text)), (&b"\r\n\n"[..], &b"hi"[..]));
        assert_eq!(next, text.len());
    }

    #[test]
    fn an_unfinished_operation_says_how_much_it_needs() {
        for (text, need) in [
            (&b""[..], 1),
            (b"PIN", 4),
            (b"MSG a 1 5\r\nhel", 18),
            (b"MSG a 1 5\r\nhello\r", 18),
            (b"HMSG a 1 2 5\r\n", 21),
        ] {
            assert_eq!(parse(text, 0, 0), Ok(Parsed::Need(need)), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn other_operations_are_read() {
        let text = b"INFO {\"a\":1} \r\n";
        let Ok(Parsed::Op(Op::Info(json), _)) = parse(text, 0, 0) else { panic!() };
        assert_eq!(json.of(text), b"{\"a\":1} ");
        let text = b"-ERR 'Stale Connection'\r\n";
        let Ok(Parsed::Op(Op::Error(words), _)) = parse(text, 0, 0) else { panic!() };
        assert_eq!(words.of(text), b" 'Stale Connection'");
        assert_eq!(parse(b"+OK\r\n", 0, 0), Ok(Parsed::Op(Op::Ok, 5)));
        assert_eq!(parse(b"PONG\n", 0, 0), Ok(Parsed::Op(Op::Pong, 5)));
    }

    #[test]
    fn what_the_broker_cannot_mean_is_refused() {
        for (text, error) in [
            (&b"\r\n"[..], ProtocolError::Unknown),
            (b"PUB a 1\r\n", ProtocolError::Unknown),
            (b"PINGS\r\n", ProtocolError::Unknown),
            (b"MSG a 1\r\n", ProtocolError::MessageLine),
            (b"MSG a b c 1 1 1\r\n", ProtocolError::MessageLine),
            (b"MSG a x 1\r\n", ProtocolError::MessageLine),
            (b"MSG a 1 -1\r\n", ProtocolError::MessageLine),
            (b"MSG a 1 +1\r\n", ProtocolError::MessageLine),
            (b"MSG a 1 99999999999999999999\r\n", ProtocolError::MessageLine),
            (b"MSG a 1 9999999999999999999\r\n", ProtocolError::LongMessage),
            (b"MSG a 1 100663297\r\n", ProtocolError::LongMessage),
            (b"HMSG a 1 5 4\r\nabcd\r\n", ProtocolError::MessageLine),
            (b"MSG a 1 2\r\nabcd\r\n", ProtocolError::MessageEnd),
        ] {
            assert_eq!(parse(text, 0, 0), Err(error), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn lines_have_limits() {
        let mut long = b"MSG ".to_vec();
        long.resize(MAX_LINE + 1, b'a');
        assert_eq!(parse(&long, 0, 0), Err(ProtocolError::LongLine(MAX_LINE)));
        long.extend_from_slice(b"aaaaaaaa 1 0\r\n");
        assert_eq!(parse(&long, 0, 0), Err(ProtocolError::LongLine(MAX_LINE)));
        let mut long = b"INFO ".to_vec();
        long.resize(MAX_LINE * 2, b'a');
        assert_eq!(parse(&long, 0, 0), Ok(Parsed::Need(MAX_LINE * 2 + 1)));
        long.resize(MAX_INFO + 1, b'a');
        assert_eq!(parse(&long, 0, 0), Err(ProtocolError::LongLine(MAX_INFO)));
    }
}
