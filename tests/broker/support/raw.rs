use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::{Broker, SOON};

/// A client that writes what it likes: no library of ours or others' would send it.
pub(crate) struct Raw {
    stream: BufReader<TcpStream>,
}

impl Raw {
    pub(crate) async fn connect(broker: &Broker) -> Self {
        Self::login(broker, r#""lang":"raw""#).await
    }

    /// With these members of CONNECT.
    pub(crate) async fn login(broker: &Broker, members: &str) -> Self {
        let mut raw = Self::begin(broker, members).await;
        raw.flush().await;
        raw
    }

    /// With members of CONNECT that the broker refuses: what it says.
    pub(crate) async fn refused(broker: &Broker, members: &str) -> String {
        // Nothing more is sent: what the broker leaves unread makes it cut the connection, and what it said is lost.
        let mut raw = Self::begin(broker, members).await;
        let mut said = String::new();
        let end = raw.stream.read_to_string(&mut said);
        tokio::time::timeout(SOON, end).await.expect("the broker ends the connection").unwrap();
        said
    }

    async fn begin(broker: &Broker, members: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", broker.port())).await.unwrap();
        let mut raw = Self { stream: BufReader::new(stream) };
        let connect = format!(
            "CONNECT {{\"verbose\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1,{members}}}\r\n"
        );
        raw.send(connect.as_bytes()).await;
        raw
    }

    /// Bytes as they are.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// A message; without a block it has no headers.
    pub(crate) async fn publish(&mut self, subject: &[u8], reply: &[u8], block: &[u8], payload: &[u8]) {
        self.send(&message(subject, reply, block, payload)).await;
    }

    /// Waits until the broker has acted on all that was sent. An error of the broker's fails the test.
    pub(crate) async fn flush(&mut self) {
        self.send(b"PING\r\n").await;
        let pong = async {
            let mut line = Vec::new();
            while line != b"PONG\r\n" {
                line.clear();
                let read = self.stream.read_until(b'\n', &mut line).await.unwrap();
                assert!(read > 0 && !line.starts_with(b"-ERR"), "{}", line.escape_ascii());
                if line == b"PING\r\n" {
                    self.stream.write_all(b"PONG\r\n").await.unwrap();
                }
            }
        };
        tokio::time::timeout(SOON, pong).await.expect("the broker answers");
    }
}

/// The bytes of a published message.
pub(crate) fn message(subject: &[u8], reply: &[u8], block: &[u8], payload: &[u8]) -> Vec<u8> {
    let verb: &[u8] = if block.is_empty() { b"PUB " } else { b"HPUB " };
    let mut bytes = [verb, subject, b" ", reply, if reply.is_empty() { b"" } else { b" " }].concat();
    if !block.is_empty() {
        bytes.extend_from_slice(format!("{} ", block.len()).as_bytes());
    }
    bytes.extend_from_slice(format!("{}\r\n", block.len() + payload.len()).as_bytes());
    bytes.extend_from_slice(block);
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Long enough that a client would give up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
