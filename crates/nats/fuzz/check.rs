//! What must hold of any bytes that a server sends. The fuzzer looks for bytes of which it does not; a test
//! replays those that the fuzzer has kept.

use std::time::Duration;

use beamline_nats::encode::Outgoing;
use beamline_nats::handshake::{Handshake, Login, ServerError};
use beamline_nats::headers::Headers;
use beamline_nats::info::ServerInfo;
use beamline_nats::jetstream::{Delivery, Pull, PullSettings, Stored};
use beamline_nats::parse::{Op, ProtocolError};
use beamline_nats::pool::{Address, Pool};
use beamline_nats::reader::{Reader, Taken};
use beamline_nats::session::Session;
use beamline_nats::{Auth, Batch, MessageRef};

/// The first byte says how the rest is split into reads.
pub(crate) fn server_bytes(data: &[u8]) {
    let Some((split, stream)) = data.split_first() else { return };
    let whole = received(stream, usize::MAX);
    assert_eq!(received(stream, usize::from(*split).max(1)), whole, "a split changes what is received");
    assert_eq!(received(stream, 1), whole, "a split changes what is received");
}

/// What is received from a stream in pieces of this size, in words.
fn received(stream: &[u8], size: usize) -> (Vec<String>, Option<ProtocolError>) {
    let mut reader = Reader::default();
    let mut told = Vec::new();
    let mut state = State::new();
    for piece in stream.chunks(size.min(stream.len()).max(1)) {
        reader.room().extend_from_slice(piece);
        loop {
            match reader.take() {
                Ok(Some(taken)) => state.take(taken, &mut told),
                Ok(None) => break,
                Err(error) => return (told, Some(error)),
            }
        }
    }
    (told, None)
}

/// All that looks at what a server sends.
struct State {
    session: Session<u64, u64, u64>,
    pool: Pool,
    pull: Pull,
    address: Address,
    pings: u64,
}

impl State {
    fn new() -> Self {
        let address = Address { host: "a".to_owned(), port: 1, tls: true, tls_name: None };
        let mut session = Session::new(1 << 20);
        let _ = session.subscribe("a", None, 1);
        let prelude = session.prelude();
        let _ = session.move_to(&prelude);
        let (expires, heartbeat) = (Duration::from_secs(30), Duration::from_secs(5));
        let pull =
            Pull::new(PullSettings { batch: 256, max_bytes: 1 << 20, expires, heartbeat }, Duration::ZERO);
        Self { session, pool: Pool::new(std::slice::from_ref(&address), 1), pull, address, pings: 0 }
    }

    fn take(&mut self, taken: Taken, told: &mut Vec<String>) {
        let Taken { bytes, frames, op } = taken;
        let batch = Batch::new(bytes.clone(), frames);
        for message in batch.iter() {
            told.push(self.message(message));
            let copy = message.to_message();
            assert_eq!(self.message(copy.as_ref()), *told.last().unwrap(), "a copy differs");
        }
        let Some(op) = op else { return };
        told.push(match op {
            Op::Info(json) => {
                if let Some(info) = ServerInfo::parse(json.of(&bytes)) {
                    self.session.set_max_payload(info.max_payload);
                    self.pool.discovered(&self.address, &info.connect_urls);
                    assert!(self.pool.choose().is_some());
                }
                format!("{:?}", json.of(&bytes))
            }
            Op::Error(text) => format!("{:?}", ServerError::parse(text.of(&bytes))),
            Op::Ping => {
                let _ = self.session.pong();
                self.pings += 1;
                let _ = self.session.flush(self.pings);
                "ping".to_owned()
            }
            Op::Pong => format!("{:?}", self.session.answered()),
            other => format!("{other:?}"),
        });
        let login = Login { name: "n".to_owned(), auth: Auth::Anonymous, tls_required: false };
        told.push(format!("{:?}", Handshake::new(&login).on(op, &bytes, true)));
    }

    fn message(&mut self, message: MessageRef<'_>) -> String {
        let delivery = Delivery::of(&message);
        if let Delivery::Status { code, description, undelivered } = delivery {
            self.pull.status(code, description, undelivered, Duration::ZERO);
            self.pull.request(Duration::ZERO);
        }
        let stored = Stored::parse(message.payload());
        if let Ok(stored) = &stored {
            let _ = stored.headers().map(|headers| check_headers(&headers));
        }
        let read = message.read();
        if let Ok(read) = &read {
            check_headers(&read.headers);
            if let Some(reply) = read.reply {
                let mut out = Vec::new();
                let answer = Outgoing { subject: reply.as_bytes(), reply: b"", headers: &[], payload: b"x" };
                if answer.write(1 << 20, &mut out).is_ok() {
                    let lines = out.iter().filter(|byte| **byte == b'\n').count();
                    assert_eq!(lines, 2, "an answer's subject breaks out of its line");
                }
            }
        }
        let text = |read: beamline_nats::Readable<'_>| {
            let headers: Vec<_> = read.headers.iter().collect();
            format!("{} {:?} {:?} {headers:?}", read.subject, read.reply, read.payload)
        };
        format!("{} {:?} {delivery:?} {stored:?}", message.sid(), read.map(text))
    }
}

fn check_headers(headers: &Headers<'_>) {
    for (name, value) in headers.iter() {
        assert!(!value.contains(['\r', '\n']), "a value holds a line end");
        assert!(headers.get(name).is_some(), "a header is not found by its own name");
    }
}
