//! As much of a server as a test needs.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Long enough for anything that should happen.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Greets a client and accepts it. Gives the id of its subscription to `a`.
pub(crate) async fn accept(listener: &TcpListener) -> Option<(BufReader<TcpStream>, String)> {
    let (mut stream, sid) = greet(listener).await?;
    stream.write_all(b"PONG\r\n").await.ok()?;
    Some((stream, sid))
}

/// The same without the last PONG, which confirms the subscriptions.
pub(crate) async fn greet(listener: &TcpListener) -> Option<(BufReader<TcpStream>, String)> {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    stream.write_all(b"INFO {\"server_name\":\"s\",\"headers\":true}\r\n").await.ok()?;
    let mut sid = None;
    let mut pings = 0;
    while pings < 2 {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end().split_once(' ') {
            None if line == "PING\r\n" => {
                pings += 1;
                if pings < 2 {
                    stream.write_all(b"PONG\r\n").await.ok()?;
                }
            }
            Some(("SUB", rest)) => sid = rest.strip_prefix("a ").map(str::to_owned),
            _ => {}
        }
    }
    Some((stream, sid?))
}
