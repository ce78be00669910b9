//! A server that is connected and sends nothing: the path to it is cut, or it stands still.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod server;

use std::time::Duration;

use beamline_nats::{Address, Client, Event, Options, Subscriber};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;

use server::{SOON, accept, greet};

/// Longer than a server may be silent.
const SILENT: Duration = Duration::from_secs(4);

struct Stage {
    listeners: Vec<TcpListener>,
    client: Client,
    messages: Subscriber,
    events: UnboundedReceiver<Event>,
}

/// Servers, and a client of them that is subscribed to `a`.
async fn stage(servers: usize) -> Stage {
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for _ in 0..servers {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        addresses.push(Address { host: "127.0.0.1".to_owned(), port, tls: false, tls_name: None });
        listeners.push(listener);
    }
    let (tell, events) = tokio::sync::mpsc::unbounded_channel();
    let client = Client::start(Options { servers: addresses, ..Options::default() }, move |event| {
        let _ = tell.send(event);
    });
    let messages = client.subscribe("a", None).unwrap();
    Stage { listeners, client, messages, events }
}

async fn accepted(listener: &TcpListener) -> (BufReader<TcpStream>, String) {
    tokio::time::timeout(SOON, accept(listener)).await.expect("a connection is made").unwrap()
}

async fn is_asked(stream: &mut BufReader<TcpStream>) {
    let asked = async {
        let mut line = String::new();
        while line != "PING\r\n" {
            line.clear();
            assert!(stream.read_line(&mut line).await.unwrap() > 0, "the connection stays");
        }
    };
    tokio::time::timeout(SOON, asked).await.expect("the server is asked");
}

impl Stage {
    /// What has happened so far, but for tries.
    fn happened(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_silent_connection_another_is_made() {
    let mut stage = stage(1).await;
    let (mut silent, _) = accepted(&stage.listeners[0]).await;
    stage.client.mover().doubt();
    is_asked(&mut silent).await;
    let (mut other, sid) = accepted(&stage.listeners[0]).await;
    other.write_all(format!("MSG a {sid} 5\r\nother\r\n").as_bytes()).await.unwrap();
    let message = tokio::time::timeout(SOON, stage.messages.next()).await.unwrap().unwrap();
    assert_eq!(message.payload(), b"other");
    assert!(stage.client.is_connected());
    assert_eq!(stage.happened(), [Event::Connected, Event::Silent], "it was never lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_wakes_before_another_answers_is_kept() {
    let mut stage = stage(1).await;
    let (mut silent, sid) = accepted(&stage.listeners[0]).await;
    stage.client.mover().doubt();
    is_asked(&mut silent).await;
    // Subscribed there, and not confirmed.
    let (mut other, _) = tokio::time::timeout(SOON, greet(&stage.listeners[0])).await.unwrap().unwrap();
    silent.write_all(format!("MSG a {sid} 5\r\nfirst\r\n").as_bytes()).await.unwrap();
    let message = tokio::time::timeout(SOON, stage.messages.next()).await.unwrap().unwrap();
    assert_eq!(message.payload(), b"first");
    let mut rest = Vec::new();
    tokio::time::timeout(SOON, other.read_to_end(&mut rest)).await.expect("the other is closed").unwrap();
    assert!(stage.client.is_connected());
    assert_eq!(stage.happened(), [Event::Connected, Event::Silent]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_answers_is_not_left() {
    let mut stage = stage(1).await;
    let (mut stream, _) = accepted(&stage.listeners[0]).await;
    let mover = stage.client.mover();
    mover.doubt();
    is_asked(&mut stream).await;
    stream.write_all(b"PONG\r\n").await.unwrap();
    // And there is no other one.
    mover.leave();
    assert!(tokio::time::timeout(SILENT, stage.listeners[0].accept()).await.is_err(), "no second connection");
    assert_eq!(stage.happened(), [Event::Connected]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_no_use_is_left_for_another_only() {
    let mut stage = stage(2).await;
    let (first, second) = {
        let [first, second] = &stage.listeners[..] else { unreachable!() };
        let (mut stream, other) = tokio::select! {
            stream = accepted(first) => (stream.0, second),
            stream = accepted(second) => (stream.0, first),
        };
        stage.client.mover().leave();
        let (mut moved, sid) = accepted(other).await;
        moved.write_all(format!("MSG a {sid} 5\r\nmoved\r\n").as_bytes()).await.unwrap();
        // The one that is left is ended in order.
        is_asked(&mut stream).await;
        (stream, moved)
    };
    let message = tokio::time::timeout(SOON, stage.messages.next()).await.unwrap().unwrap();
    assert_eq!(message.payload(), b"moved");
    assert_eq!(stage.happened(), [Event::Connected]);
    drop((first, second));
}
