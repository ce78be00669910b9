//! A path between a worker and its broker that is slow, or silently cut.
//!
//! The relay has a thread and a runtime of its own, so that what a test blocks on does not delay the path. A worker
//! uses it with `launch.env("NATS_URL", relay.url())`. In a cluster the brokers advertise their own addresses
//! (`no_advertise: true` in the `cluster` block keeps clients on the relay).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::broker::free_port;

/// How much is read at once.
const CHUNK: usize = 64 << 10;
/// How many chunks are on their way in one direction; the sender waits for more room.
const ON_THE_WAY: usize = 1024;

/// How the path is.
#[derive(Clone, Copy, Debug, Default)]
struct Path {
    delay: Duration,
    frozen: bool,
    /// Only connections whose client began so are frozen.
    frozen_those: Option<fn(&str) -> bool>,
}

/// What the client of a connection said first.
type Said = Arc<OnceLock<String>>;

/// A TCP relay on a port of its own; it ends when it is dropped, and closes its connections.
pub(crate) struct Relay {
    port: u16,
    path: watch::Sender<Path>,
}

impl Relay {
    /// One that forwards to this port of 127.0.0.1 at once.
    pub(crate) async fn to(target: u16) -> Self {
        let (path, followed) = watch::channel(Path::default());
        let (port, listening) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = bind().await;
                let _ = port.send(listener.local_addr().unwrap().port());
                tokio::select! {
                    () = accept(&listener, target, &followed) => {}
                    () = dropped(followed.clone()) => {}
                }
            });
        });
        Self { port: listening.await.unwrap(), path }
    }

    /// Every byte that is read from now on arrives so much later, in both directions.
    pub(crate) fn delay(&self, each_way: Duration) {
        self.path.send_modify(|path| path.delay = each_way);
    }

    /// Nothing gets through, in either direction, and neither side learns of it: not by what was sent, not by a
    /// close, not by a refused connection.
    pub(crate) fn freeze(&self) {
        self.path.send_modify(|path| path.frozen = true);
    }

    /// The same for connections whose CONNECT is so, those that are made from now on too.
    pub(crate) fn freeze_those(&self, those: fn(&str) -> bool) {
        self.path.send_modify(|path| path.frozen_those = Some(those));
    }

    /// What was sent meanwhile arrives.
    pub(crate) fn thaw(&self) {
        self.path.send_modify(|path| (path.frozen, path.frozen_those) = (false, None));
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port())
    }
}

async fn bind() -> TcpListener {
    loop {
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", free_port())).await {
            return listener;
        }
    }
}

async fn accept(listener: &TcpListener, target: u16, path: &watch::Receiver<Path>) {
    loop {
        let Ok((near, _)) = listener.accept().await else { continue };
        tokio::spawn(connect(near, target, path.clone()));
    }
}

async fn connect(near: TcpStream, target: u16, mut path: watch::Receiver<Path>) {
    let said = Said::default();
    if !open(&mut path, &said).await {
        return;
    }
    // A target that does not listen refuses: the near side is closed.
    let Ok(far) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    forward(near_in, far_out, path.clone(), Arc::clone(&said), true);
    forward(far_in, near_out, path, said, false);
}

/// Moves bytes in one direction, until either side is closed.
fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    path: watch::Receiver<Path>,
    said: Said,
    from_client: bool,
) {
    let (sender, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let (mut reading, known) = (path.clone(), Arc::clone(&said));
    tokio::spawn(async move {
        let mut buffer = vec![0; CHUNK];
        // An error is a close to whoever reads the other end.
        while open(&mut reading, &known).await {
            let read = from.read(&mut buffer).await.unwrap_or(0);
            if from_client {
                known.get_or_init(|| String::from_utf8_lossy(&buffer[..read]).into_owned());
            }
            let due = Instant::now() + reading.borrow().delay;
            if read == 0 || sender.send((due, buffer[..read].to_vec())).await.is_err() {
                break;
            }
        }
    });
    let mut writing = path;
    tokio::spawn(async move {
        while let Some((due, chunk)) = chunks.recv().await {
            tokio::time::sleep_until(due).await;
            if !open(&mut writing, &said).await || to.write_all(&chunk).await.is_err() {
                return;
            }
        }
        if open(&mut writing, &said).await {
            let _ = to.shutdown().await;
        }
    });
}

/// Waits until the path is not frozen; `false` once the relay is dropped.
async fn open(path: &mut watch::Receiver<Path>, said: &Said) -> bool {
    let is_one = |those: fn(&str) -> bool| said.get().is_some_and(|said| those(said));
    path.wait_for(|path| !path.frozen && !path.frozen_those.is_some_and(is_one)).await.is_ok()
}

/// Waits until the relay is dropped.
async fn dropped(mut path: watch::Receiver<Path>) {
    while path.changed().await.is_ok() {}
}

#[tokio::test]
async fn a_delayed_path_is_late_in_both_directions_and_a_frozen_one_silent_until_it_thaws() {
    let echo = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let relay = Relay::to(echo.local_addr().unwrap().port()).await;
    tokio::spawn(async move {
        let (mut stream, _) = echo.accept().await.unwrap();
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    });
    let mut stream = TcpStream::connect(relay.url().trim_start_matches("nats://")).await.unwrap();
    let mut byte = [0];
    relay.delay(Duration::from_millis(60));
    let sent = Instant::now();
    stream.write_all(b"a").await.unwrap();
    stream.read_exact(&mut byte).await.unwrap();
    assert!(sent.elapsed() >= Duration::from_millis(120), "{:?}", sent.elapsed());

    relay.delay(Duration::ZERO);
    relay.freeze();
    stream.write_all(b"b").await.unwrap();
    let read = tokio::time::timeout(Duration::from_millis(300), stream.read_exact(&mut byte)).await;
    assert!(read.is_err(), "nothing gets through");
    relay.thaw();
    stream.read_exact(&mut byte).await.unwrap();
    assert_eq!(byte, *b"b");
}
