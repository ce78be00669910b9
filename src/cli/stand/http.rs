use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What answers stands on this machine; a page of metrics takes milliseconds.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Some tens of kilobytes are usual.
const MAX_PAGE: u64 = 16 << 20;

/// Status and body; HTTP/1.0, so that the body ends with the connection.
pub(super) async fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.take(MAX_PAGE).read_to_end(&mut answer).await.ok()?;
        answered(&String::from_utf8(answer).ok()?)
    };
    tokio::time::timeout(TIMEOUT, exchange).await.ok()?
}

fn answered(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_status_and_body() {
        let answer = "HTTP/1.0 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(answered(answer), Some((503, "{}".to_owned())));
        assert_eq!(answered("nonsense"), None);
    }
}
