//! What a client writes to the broker.

use crate::error::PublishError;

/// Headers of a message to be published: name and value.
pub type Pairs<'a> = [(&'a str, &'a str)];

/// Whether a subject can stand in a line of the protocol. The broker checks the rest of its form.
fn check_subject(subject: &[u8]) -> Result<(), PublishError> {
    // Without an early end, the compiler checks many bytes at once.
    let fits = subject.iter().fold(true, |fits, b| fits & (*b > b' ') & (*b != 0x7F));
    if fits && !subject.is_empty() { Ok(()) } else { Err(PublishError::Subject) }
}

fn check_headers(headers: &Pairs<'_>) -> Result<(), PublishError> {
    let fits = |(name, value): &(&str, &str)| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_graphic() && b != b':')
            && !value.contains(['\r', '\n'])
    };
    if headers.iter().all(fits) { Ok(()) } else { Err(PublishError::Header) }
}

const VERSION_LINE: &[u8] = b"NATS/1.0\r\n";

/// How long a header block is; 0 without headers.
fn block_len(headers: &Pairs<'_>) -> usize {
    if headers.is_empty() {
        return 0;
    }
    VERSION_LINE.len() + headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>() + 2
}

/// A message to be published.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Where.
    pub subject: &'a [u8],
    /// Where an answer goes; empty if none is wanted.
    pub reply: &'a [u8],
    /// Its headers.
    pub headers: &'a Pairs<'a>,
    /// Its body.
    pub payload: &'a [u8],
}

/// The room that the fixed parts of a line take at most: the verb, blanks, two lengths and line ends.
const LINE: usize = 64;

impl<'a> Outgoing<'a> {
    /// A message without headers that wants no answer.
    #[must_use]
    pub const fn new(subject: &'a str, payload: &'a [u8]) -> Self {
        Self { subject: subject.as_bytes(), reply: b"", headers: &[], payload }
    }

    /// How many bytes it takes at most, once it is written.
    #[must_use]
    pub fn size(&self) -> usize {
        LINE + self.subject.len() + self.reply.len() + block_len(self.headers) + self.payload.len()
    }

    /// Appends it to a buffer.
    ///
    /// # Errors
    /// A subject or header that would break out of its place, or a message longer than `max_payload`.
    #[inline]
    pub fn write(&self, max_payload: usize, out: &mut Vec<u8>) -> Result<(), PublishError> {
        let Self { subject, reply, headers, payload } = *self;
        check_subject(subject)?;
        if !reply.is_empty() {
            check_subject(reply)?;
        }
        let head = block_len(headers);
        if head + payload.len() > max_payload {
            return Err(PublishError::TooLong { limit: max_payload });
        }
        if head > 0 {
            check_headers(headers)?;
        }
        out.reserve(self.size());
        out.extend_from_slice(if head > 0 { b"HPUB " } else { b"PUB " });
        out.extend_from_slice(subject);
        out.push(b' ');
        if !reply.is_empty() {
            out.extend_from_slice(reply);
            out.push(b' ');
        }
        if head > 0 {
            put_number(out, head as u64);
            out.push(b' ');
        }
        put_number(out, (head + payload.len()) as u64);
        out.extend_from_slice(b"\r\n");
        if head > 0 {
            put_headers(out, headers);
        }
        out.extend_from_slice(payload);
        out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

fn put_headers(out: &mut Vec<u8>, headers: &Pairs<'_>) {
    out.extend_from_slice(VERSION_LINE);
    for (name, value) in headers {
        for part in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        at -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// Appends a subscription, of a queue group if one is named.
///
/// # Errors
/// A subject or group that would break out of its place.
pub fn subscribe(
    out: &mut Vec<u8>,
    subject: &str,
    queue: Option<&str>,
    sid: u64,
) -> Result<(), PublishError> {
    check_subject(subject.as_bytes())?;
    if let Some(queue) = queue {
        check_subject(queue.as_bytes())?;
    }
    out.extend_from_slice(b"SUB ");
    out.extend_from_slice(subject.as_bytes());
    out.push(b' ');
    if let Some(queue) = queue {
        out.extend_from_slice(queue.as_bytes());
        out.push(b' ');
    }
    put_number(out, sid);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Appends the end of a subscription.
pub fn unsubscribe(out: &mut Vec<u8>, sid: u64) {
    out.extend_from_slice(b"UNSUB ");
    put_number(out, sid);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(
        subject: &str,
        reply: &str,
        headers: &Pairs<'_>,
        payload: &[u8],
    ) -> Result<String, PublishError> {
        let mut out = Vec::new();
        let message = Outgoing { subject: subject.as_bytes(), reply: reply.as_bytes(), headers, payload };
        message.write(100, &mut out)?;
        assert!(out.len() <= message.size());
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn messages_are_written() {
        assert_eq!(written("a.b", "", &[], b"hi").unwrap(), "PUB a.b 2\r\nhi\r\n");
        assert_eq!(written("a", "_INBOX.1", &[], b"").unwrap(), "PUB a _INBOX.1 0\r\n\r\n");
        assert_eq!(
            written("a", "r", &[("X", "1"), ("y", "a b")], b"body").unwrap(),
            "HPUB a r 26 30\r\nNATS/1.0\r\nX: 1\r\ny: a b\r\n\r\nbody\r\n"
        );
    }

    #[test]
    fn nothing_breaks_out_of_its_place() {
        for subject in ["", "a b", "a\r\nPUB b 0", "a\tb", "a\u{7f}"] {
            assert_eq!(written(subject, "", &[], b""), Err(PublishError::Subject), "{subject:?}");
        }
        assert_eq!(written("a", "b\r\n", &[], b""), Err(PublishError::Subject));
        for header in [("a", "b\rc"), ("a", "b\n"), ("", "a"), ("a:", "b"), ("a b", "c"), ("\u{e4}", "b")] {
            assert_eq!(written("a", "", &[header], b""), Err(PublishError::Header), "{header:?}");
        }
        assert_eq!(written("a", "", &[], &[0; 101]), Err(PublishError::TooLong { limit: 100 }));
        assert_eq!(written("a", "", &[("x", "y")], &[0; 90]), Err(PublishError::TooLong { limit: 100 }));
        let mut out = Vec::new();
        assert!(
            subscribe(&mut out, "a b", None, 1).is_err() && subscribe(&mut out, "a", Some("q q"), 1).is_err()
        );
        assert!(out.is_empty());
    }

    #[test]
    fn subscriptions_are_written() {
        let mut out = Vec::new();
        subscribe(&mut out, "a.>", None, 1).unwrap();
        subscribe(&mut out, "b", Some("q"), 18_446_744_073_709_551_615).unwrap();
        unsubscribe(&mut out, 10);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "SUB a.> 1\r\nSUB b q 18446744073709551615\r\nUNSUB 10\r\n"
        );
    }
}
