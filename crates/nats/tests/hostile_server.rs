//! A server that breaks the protocol in every way that the fuzzer has kept: the client leaves it, comes back,
//! and works once the server does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod server;

use std::path::Path;
use std::time::Duration;

use beamline_nats::{Address, Client, Event, Options};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use server::{SOON, accept, greet};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_outlives_every_server_and_works_with_the_next_sound_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = Address { host: "127.0.0.1".to_owned(), port, tls: false, tls_name: None };
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/server_bytes");
    let mut files: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files.iter().step_by(3) {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let options = Options { servers: vec![address.clone()], ..Options::default() };
        let client = Client::start(options, move |event| {
            let _ = tell.send(event);
        });
        let mut messages = client.subscribe("a", None).unwrap();
        let (mut stream, _) = tokio::time::timeout(SOON, accept(&listener)).await.unwrap().unwrap();
        let bytes = std::fs::read(file).unwrap();
        // The client may leave before it has all.
        let _ = stream.write_all(&bytes[1..]).await;
        let _ = stream.shutdown().await;
        drop(stream);
        let left = async { while !matches!(told.recv().await, Some(Event::Disconnected(_))) {} };
        tokio::time::timeout(SOON, left).await.unwrap_or_else(|_| panic!("{} keeps it", file.display()));

        let (mut stream, sid) = tokio::time::timeout(SOON, accept(&listener)).await.unwrap().unwrap();
        stream.write_all(format!("MSG a {sid} 5\r\nsound\r\n").as_bytes()).await.unwrap();
        let sound = async { while messages.next().await.unwrap().payload() != b"sound" {} };
        tokio::time::timeout(SOON, sound).await.unwrap();
        assert!(client.is_connected());
    }
}

/// A server, and a client of it that is subscribed to `a`.
async fn pair() -> (TcpListener, Client, beamline_nats::Subscriber) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = Address { host: "127.0.0.1".to_owned(), port, tls: false, tls_name: None };
    let client = Client::start(Options { servers: vec![address], ..Options::default() }, |_| {});
    let messages = client.subscribe("a", None).unwrap();
    (listener, client, messages)
}

#[tokio::test]
async fn what_arrives_with_the_confirmation_of_subscriptions_is_delivered_at_once() {
    let (listener, _client, mut messages) = pair().await;
    let (mut stream, sid) = tokio::time::timeout(SOON, greet(&listener)).await.unwrap().unwrap();
    stream.write_all(format!("PONG\r\nMSG a {sid} 5\r\nfirst\r\n").as_bytes()).await.unwrap();
    // Well before the client would send a PING of its own.
    let first = tokio::time::timeout(Duration::from_secs(3), messages.next()).await.unwrap().unwrap();
    assert_eq!(first.payload(), b"first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_does_not_keep_a_client_from_ending() {
    let (listener, client, mut messages) = pair().await;
    let (mut stream, sid) = tokio::time::timeout(SOON, accept(&listener)).await.unwrap().unwrap();
    let flood = format!("MSG a {sid} 1\r\nx\r\n").repeat(2_000);
    let flooding = tokio::spawn(async move { while stream.write_all(flood.as_bytes()).await.is_ok() {} });
    for _ in 0..100 {
        tokio::time::timeout(SOON, messages.next()).await.unwrap().unwrap();
    }
    drop(client);
    tokio::time::timeout(SOON, flooding).await.expect("the connection is closed").unwrap();
}
