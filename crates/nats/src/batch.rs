//! Messages as they were received: one buffer, and where in it each message lies.

use bytes::Bytes;

use crate::headers::Headers;
use crate::malformed::Malformed;
use crate::parse::Frame;

/// Messages that were received together, in their order.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Bytes,
    frames: Vec<Frame>,
}

/// One message of a batch.
#[derive(Clone, Copy, Debug)]
pub struct MessageRef<'a> {
    bytes: &'a [u8],
    frame: Frame,
}

/// One message by itself. A clone shares its bytes.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Bytes,
    frame: Frame,
}

/// A message whose subject, reply subject and headers can be read.
#[derive(Clone, Copy, Debug)]
pub struct Readable<'a> {
    /// Where it was published.
    pub subject: &'a str,
    /// Where an answer goes, if one is wanted.
    pub reply: Option<&'a str>,
    /// Its headers.
    pub headers: Headers<'a>,
    /// Its body.
    pub payload: &'a [u8],
}

impl Batch {
    /// Messages that lie in these bytes. A frame that lies outside of them is an empty message.
    #[must_use]
    pub const fn new(bytes: Bytes, frames: Vec<Frame>) -> Self {
        Self { bytes, frames }
    }

    /// A batch of one message; for tests and benchmarks of what receives batches.
    #[must_use]
    pub fn of(message: Message) -> Self {
        Self { bytes: message.bytes, frames: vec![message.frame] }
    }

    /// How many messages it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// How many bytes it keeps in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Its messages.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = MessageRef<'_>> {
        self.frames.iter().map(|frame| MessageRef { bytes: &self.bytes, frame: *frame })
    }

    /// Its messages, so many at a time.
    pub fn chunks(&self, size: usize) -> impl Iterator<Item = impl ExactSizeIterator<Item = MessageRef<'_>>> {
        let one = |frame: &Frame| MessageRef { bytes: &self.bytes, frame: *frame };
        self.frames.chunks(size).map(move |frames| frames.iter().map(one))
    }

    /// Its messages, each by itself.
    pub fn messages(&self) -> impl Iterator<Item = Message> + '_ {
        self.frames.iter().map(|frame| Message { bytes: self.bytes.clone(), frame: *frame })
    }

    /// The same in a buffer of its own, where most of the present one belongs to others.
    pub(crate) fn compact(self) -> Self {
        let own: usize = self.frames.iter().map(|frame| frame.extent()).sum();
        if own * 4 >= self.bytes.len() {
            return self;
        }
        let mut bytes = Vec::with_capacity(own);
        let mut frames = Vec::with_capacity(self.frames.len());
        for frame in &self.frames {
            let start = frame.subject.start();
            let here = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let from = start as usize;
            bytes.extend_from_slice(self.bytes.get(from..from + frame.extent()).unwrap_or_default());
            // Frames come in the order of the buffer, so each moves towards its front.
            frames.push(frame.moved(start - here));
        }
        Self { bytes: bytes.into(), frames }
    }
}

/// The status of an answer that the broker itself gives where nobody listens.
const NO_RESPONDERS: u16 = 503;

impl Readable<'_> {
    /// Whether the broker says that nobody listens where a request was published.
    #[must_use]
    pub fn is_no_responders(&self) -> bool {
        self.payload.is_empty() && self.headers.status() == Some(NO_RESPONDERS)
    }
}

impl<'a> MessageRef<'a> {
    /// The subscription that it was delivered to.
    #[inline]
    #[must_use]
    pub const fn sid(&self) -> u64 {
        self.frame.sid
    }

    /// Its subject as it was received.
    #[inline]
    #[must_use]
    pub fn subject_bytes(&self) -> &'a [u8] {
        self.frame.subject.of(self.bytes)
    }

    /// Its subject.
    ///
    /// # Errors
    /// [`Malformed::Subject`].
    #[inline]
    pub fn subject(&self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.subject_bytes()).map_err(|_| Malformed::Subject)
    }

    /// Where an answer goes, if one is wanted.
    ///
    /// # Errors
    /// [`Malformed::Reply`].
    #[inline]
    pub fn reply(&self) -> Result<Option<&'a str>, Malformed> {
        let reply = self.frame.reply.of(self.bytes);
        if reply.is_empty() {
            return Ok(None);
        }
        std::str::from_utf8(reply).map(Some).map_err(|_| Malformed::Reply)
    }

    /// Its headers.
    ///
    /// # Errors
    /// What cannot be read of them.
    #[inline]
    pub fn headers(&self) -> Result<Headers<'a>, Malformed> {
        Headers::parse(self.frame.headers.of(self.bytes))
    }

    /// How many bytes its headers take.
    #[inline]
    #[must_use]
    pub fn header_bytes(&self) -> usize {
        self.frame.headers.of(self.bytes).len()
    }

    /// How many bytes it takes, from its subject to its body.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.frame.extent()
    }

    /// Its body.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.frame.payload.of(self.bytes)
    }

    /// All parts of it, checked.
    ///
    /// # Errors
    /// What cannot be read.
    #[inline]
    pub fn read(&self) -> Result<Readable<'a>, Malformed> {
        Ok(Readable {
            subject: self.subject()?,
            reply: self.reply()?,
            headers: self.headers()?,
            payload: self.payload(),
        })
    }

    /// The message by itself, copied out of its batch.
    #[must_use]
    pub fn to_message(&self) -> Message {
        let start = self.frame.subject.start();
        let from = start as usize;
        let bytes = self.bytes.get(from..from + self.frame.extent()).unwrap_or_default();
        Message { bytes: Bytes::copy_from_slice(bytes), frame: self.frame.moved(start) }
    }
}

impl Message {
    /// A message with these parts; for tests and benchmarks of what receives messages.
    #[must_use]
    pub fn new(subject: &str, reply: Option<&str>, headers: &[u8], payload: &[u8]) -> Self {
        let reply = reply.map_or(String::new(), |reply| format!("{reply} "));
        let (head, total) = (headers.len(), headers.len() + payload.len());
        let line = format!("HMSG {subject} 0 {reply}{head} {total}\r\n");
        let bytes = Bytes::from([line.as_bytes(), headers, payload, b"\r\n"].concat());
        let frame = match crate::parse::parse(&bytes, 0, 0) {
            Ok(crate::parse::Parsed::Op(crate::parse::Op::Message(frame), _)) => frame,
            _ => Frame::default(),
        };
        Self { bytes, frame }
    }

    /// The message, borrowed.
    #[inline]
    #[must_use]
    pub fn as_ref(&self) -> MessageRef<'_> {
        MessageRef { bytes: &self.bytes, frame: self.frame }
    }

    /// Its body.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.frame.payload.of(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::Reader;

    fn batch(stream: &[u8]) -> Batch {
        let mut reader = Reader::default();
        reader.room().extend_from_slice(stream);
        let taken = reader.take().unwrap().unwrap();
        Batch::new(taken.bytes, taken.frames)
    }

    fn told(message: MessageRef<'_>) -> (u64, String, Option<String>, Option<String>, Vec<u8>) {
        let read = message.read().unwrap();
        let id = read.headers.get("id").map(str::to_owned);
        (message.sid(), read.subject.to_owned(), read.reply.map(str::to_owned), id, read.payload.to_vec())
    }

    const STREAM: &[u8] = b"MSG a 1 r 2\r\nhi\r\nHMSG b.c 2 19 24\r\nNATS/1.0\r\nid: 7\r\n\r\nhello\r\n";

    #[test]
    fn a_message_reads_the_same_by_itself_and_in_a_compact_batch() {
        let batch = batch(STREAM);
        let expected: Vec<_> = batch.iter().map(told).collect();
        assert_eq!(expected[0], (1, "a".to_owned(), Some("r".to_owned()), None, b"hi".to_vec()));
        assert_eq!(expected[1].3.as_deref(), Some("7"));
        let copied: Vec<_> = batch.iter().map(|m| told(m.to_message().as_ref())).collect();
        assert_eq!(copied, expected);
        let shared: Vec<_> = batch.messages().map(|m| told(m.as_ref())).collect();
        assert_eq!(shared, expected);
        let far = Batch::new(Bytes::from([STREAM, &[b'x'; 1_000]].concat()), batch.frames.clone());
        let compact = far.compact();
        assert!(compact.bytes() < STREAM.len(), "{}", compact.bytes());
        assert_eq!(compact.iter().map(told).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_cannot_be_read_is_said_and_the_rest_is_there() {
        let stream =
            b"MSG \xff 1 _INBOX.a 2\r\nhi\r\nMSG a 1 \xfe 2\r\nhi\r\nHMSG a 1 _INBOX.b 4 6\r\nno\r\nhi\r\n";
        let batch = batch(stream);
        let messages: Vec<_> = batch.iter().collect();
        let wrong: Vec<_> = messages.iter().map(|m| m.read().unwrap_err()).collect();
        assert_eq!(wrong, [Malformed::Subject, Malformed::Reply, Malformed::HeaderVersion]);
        assert_eq!(messages[0].reply(), Ok(Some("_INBOX.a")));
        assert_eq!(messages[2].reply(), Ok(Some("_INBOX.b")));
        assert!(messages.iter().all(|m| m.payload() == b"hi"));
    }

    #[test]
    fn a_made_message_is_as_a_received_one() {
        let made = Message::new("a.b", Some("_INBOX.x"), b"NATS/1.0\r\nid: 3\r\n\r\n", b"{}");
        let expected =
            (0, "a.b".to_owned(), Some("_INBOX.x".to_owned()), Some("3".to_owned()), b"{}".to_vec());
        assert_eq!(told(made.as_ref()), expected);
        assert_eq!(Message::new("a", None, b"", b"x").as_ref().reply(), Ok(None));
    }
}
