//! The broker's bytes, as they come, to operations.
//!
//! A [`Reader`] owns the buffer that is read into. [`Reader::take`] gives the operations that are complete,
//! and the bytes in which they lie; what is incomplete stays. How the stream was split into reads makes no
//! difference to what comes out.

use bytes::{Bytes, BytesMut};

use crate::parse::{Frame, Op, Parsed, ProtocolError, parse};

/// The room for one read: some 100 decide requests. More would not stay in the fastest caches.
const READ: usize = 32 << 10;
/// With less room than this left, the buffer is made anew.
const LEAST_READ: usize = 4 << 10;
/// An unfinished message gets room in steps of this: its length is only announced.
const STEP: usize = 1 << 20;
/// So many messages are expected in one read at most.
const MOST_EXPECTED: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: BytesMut,
    /// The length that the buffer must have before another look can find more.
    need: usize,
    /// How many messages were complete the last time.
    last: usize,
}

/// What was complete: messages, and at most one other operation behind them. It is to be acted on before
/// the reader is asked again, so that the order of the stream is kept.
#[derive(Debug)]
pub struct Taken {
    /// The bytes in which all of it lies.
    pub bytes: Bytes,
    /// Messages, in their order.
    pub frames: Vec<Frame>,
    /// The operation behind them.
    pub op: Option<Op>,
}

impl Reader {
    /// The buffer, with room for a read behind what it holds.
    pub fn room(&mut self) -> &mut BytesMut {
        let spare = self.buffer.capacity() - self.buffer.len();
        let wanted = self.need.saturating_sub(self.buffer.len()).min(STEP);
        if spare < LEAST_READ.max(wanted) {
            self.buffer.reserve(READ.max(wanted));
        }
        &mut self.buffer
    }

    /// Whether nothing waits for its end.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// What is complete; `None` where nothing is.
    ///
    /// # Errors
    /// Nothing can be read from here on. What stood before the fault was given before.
    pub fn take(&mut self) -> Result<Option<Taken>, ProtocolError> {
        if self.buffer.len() < self.need {
            return Ok(None);
        }
        let (mut at, mut scanned) = (0, self.scanned());
        self.need = 0;
        let (mut frames, mut other) = (Vec::new(), None);
        while other.is_none() {
            match parse(&self.buffer, at, std::mem::take(&mut scanned)) {
                Ok(Parsed::Op(op, next)) => {
                    at = next;
                    match op {
                        Op::Message(frame) => {
                            if frames.is_empty() {
                                frames.reserve(self.last.clamp(4, MOST_EXPECTED));
                            }
                            frames.push(frame);
                        }
                        op => other = Some(op),
                    }
                }
                Ok(Parsed::Need(need)) => {
                    self.need = need - at;
                    break;
                }
                Err(error) if at == 0 => return Err(error),
                Err(_) => break,
            }
        }
        if at == 0 {
            return Ok(None);
        }
        self.last = frames.len();
        Ok(Some(Taken { bytes: self.buffer.split_to(at).freeze(), frames, op: other }))
    }

    /// An unfinished line needs one byte more than it has; all but that byte was looked at.
    fn scanned(&self) -> usize {
        match self.need {
            0 => 0,
            need if need <= self.buffer.len()
                && !self.buffer.starts_with(b"MSG ")
                && !self.buffer.starts_with(b"HMSG ") =>
            {
                need - 1
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the whole stream holds, read in pieces of these sizes.
    fn read(stream: &[u8], mut cut: impl FnMut() -> usize) -> (Vec<String>, Option<ProtocolError>) {
        let mut reader = Reader::default();
        let mut told = Vec::new();
        let mut rest = stream;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(cut().clamp(1, rest.len()));
            rest = after;
            reader.room().extend_from_slice(piece);
            loop {
                match reader.take() {
                    Err(error) => return (told, Some(error)),
                    Ok(None) => break,
                    Ok(Some(Taken { bytes, frames, op })) => {
                        told.extend(frames.iter().map(|f| {
                            let [subject, reply, headers, payload] =
                                [f.subject, f.reply, f.headers, f.payload].map(|span| span.of(&bytes));
                            format!("{} {subject:?} {reply:?} {headers:?} {payload:?}", f.sid)
                        }));
                        told.extend(op.map(|op| match op {
                            Op::Info(span) | Op::Error(span) => format!("{:?}", span.of(&bytes)),
                            other => format!("{other:?}"),
                        }));
                    }
                }
            }
        }
        (told, None)
    }

    fn operation() -> impl Strategy<Value = Vec<u8>> {
        let word = proptest::collection::vec(prop_oneof![33_u8..=255], 1..9);
        let bytes = proptest::collection::vec(any::<u8>(), 0..300);
        prop_oneof![
            Just(b"PING\r\n".to_vec()),
            Just(b"PONG\r\n".to_vec()),
            Just(b"+OK\r\n".to_vec()),
            Just(b"-ERR 'Permissions Violation'\r\n".to_vec()),
            Just(b"INFO {\"max_payload\":5}\r\n".to_vec()),
            (word.clone(), 0_u64..99, bytes.clone()).prop_map(|(subject, sid, body)| {
                let line = format!(" {sid} {}\r\n", body.len());
                [b"MSG ", &subject[..], line.as_bytes(), &body, b"\r\n"].concat()
            }),
            (word.clone(), word, bytes.clone(), bytes).prop_map(|(subject, reply, head, body)| {
                let line = format!(" {} {}\r\n", head.len(), head.len() + body.len());
                [b"HMSG ", &subject[..], b" 4 ", &reply, line.as_bytes(), &head, &body, b"\r\n"].concat()
            }),
        ]
    }

    proptest! {
        #[test]
        fn how_a_stream_is_split_makes_no_difference(
            ops in proptest::collection::vec(operation(), 0..20),
            cuts in proptest::collection::vec(1_usize..40, 1..30),
        ) {
            let stream = ops.concat();
            let whole = read(&stream, || stream.len());
            prop_assert_eq!(whole.0.len(), ops.len());
            prop_assert_eq!(whole.1, None);
            let mut cuts = cuts.iter().cycle();
            prop_assert_eq!(read(&stream, || *cuts.next().unwrap()), whole.clone());
            prop_assert_eq!(read(&stream, || 1), whole);
        }

        #[test]
        fn arbitrary_bytes_end_in_operations_or_an_error(
            before in proptest::collection::vec(operation(), 0..4),
            noise in proptest::collection::vec(any::<u8>(), 0..400),
            cut in 1_usize..50,
        ) {
            let stream = [before.concat(), noise].concat();
            let whole = read(&stream, || stream.len());
            prop_assert!(whole.0.len() >= before.len());
            prop_assert_eq!(read(&stream, || cut), whole);
        }
    }

    #[test]
    fn a_long_message_grows_the_buffer_in_steps() {
        let mut reader = Reader::default();
        reader.room().extend_from_slice(b"MSG a 1 67108864\r\n");
        assert!(reader.take().unwrap().is_none());
        let room = reader.room();
        assert!(room.capacity() < 4 * STEP, "{}", room.capacity());
    }
}
