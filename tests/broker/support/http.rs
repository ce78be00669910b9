//! As much HTTP as a test needs.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Page {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

/// GET; `None` if nobody answers.
pub(crate) async fn get(port: u16, path: &str) -> Option<Page> {
    get_at("127.0.0.1", port, path).await
}

/// GET from another address.
pub(crate) async fn get_at(host: &str, port: u16, path: &str) -> Option<Page> {
    say(host, port, format!("GET {path} HTTP/1.0\r\nhost: {host}:{port}\r\n\r\n")).await
}

/// POST with these header lines; `None` if nobody answers.
pub(crate) async fn post(port: u16, path: &str, head: &str, body: &str) -> Option<Page> {
    let length = body.len();
    say("127.0.0.1", port, format!("POST {path} HTTP/1.0\r\n{head}content-length: {length}\r\n\r\n{body}"))
        .await
}

async fn say(host: &str, port: u16, request: String) -> Option<Page> {
    let exchange = async {
        let mut stream = TcpStream::connect((host, port)).await.ok()?;
        // HTTP/1.0: no chunks, and the end of the body is the end of the stream.
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Page { status, head: head.to_owned(), body: body.to_owned() })
    };
    tokio::time::timeout(Duration::from_secs(5), exchange).await.ok().flatten()
}
