use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::process::Process;
use super::{SOON, eventually, within};

/// A nats-server with JetStream, on a port and in a folder of its own.
pub(crate) struct Broker {
    process: Option<Process>,
    port: u16,
    folder: TempDir,
    /// Whether its store is a file system of its own.
    mounted: bool,
}

impl Broker {
    pub(crate) async fn start() -> Self {
        Self::with_config("").await
    }

    /// With more lines in its configuration.
    pub(crate) async fn with_config(more: &str) -> Self {
        for _ in 0..5 {
            let mut broker = Self::prepare(free_port(), more);
            if broker.try_run().await {
                return broker;
            }
        }
        panic!("nats-server found no port to listen on");
    }

    /// One that does not run yet: [`Broker::restart`] starts it. The configuration may name other brokers.
    pub(crate) fn prepare(port: u16, more: &str) -> Self {
        let broker = Self { process: None, port, folder: tempfile::tempdir().unwrap(), mounted: false };
        // The router's streams reserve more than a small disk's share.
        broker.configure("1T", more);
        broker
    }

    /// With its store on a disk of so many MiB.
    pub(crate) async fn on_a_small_disk(mib: u32) -> Self {
        let mut broker = Self::prepare(free_port(), "");
        std::fs::create_dir(broker.store()).unwrap();
        broker.mounted = true;
        broker.mount(&format!("size={mib}m"));
        broker.restart().await;
        broker
    }

    /// Gives the disk so many MiB.
    pub(crate) fn enlarge_disk(&self, mib: u32) {
        self.mount(&format!("remount,size={mib}m"));
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn mount(&self, options: &str) {
        let mount = ["-t", "tmpfs", "-o", options, "tmpfs"];
        let done = Command::new("mount").args(mount).arg(self.store()).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{said} (this test needs the right to mount a tmpfs)");
    }

    /// Without JetStream.
    pub(crate) async fn plain(config: &str) -> Self {
        let mut broker = Self::prepare(free_port(), "");
        let config = format!("listen: 127.0.0.1:{}\n{config}\n", broker.port);
        std::fs::write(broker.folder.path().join("nats.conf"), config).unwrap();
        assert!(broker.try_run().await, "nats-server does not start");
        broker
    }

    /// With a configuration of `deploy/nats`. Each user's password is its name.
    pub(crate) async fn deployed(config: &str) -> Self {
        let mut broker = Self::prepare(free_port(), "");
        broker.configure_deployed(config);
        assert!(broker.try_run().await, "nats-server does not start");
        broker
    }

    /// SIGHUP, with another configuration of `deploy/nats`.
    pub(crate) fn reload_deployed(&self, config: &str) {
        self.configure_deployed(config);
        self.process.as_ref().unwrap().signal("HUP");
    }

    fn configure_deployed(&self, config: &str) {
        let folder = self.folder.path();
        // What is included is named from the folder of the file that includes it.
        let root = "../".repeat(folder.components().count() - 1);
        let deployed = format!("{}/deploy/nats/{config}", env!("CARGO_MANIFEST_DIR"));
        let (port, store) = (self.port, folder.join("store"));
        let config = format!(
            "include \"{root}{}\"\nlisten: 127.0.0.1:{port}\nhttp: \"127.0.0.1:-1\"\n\
             jetstream {{ store_dir: {store:?}, max_file_store: 1T, max_memory_store: 64G }}\n",
            deployed.trim_start_matches('/')
        );
        std::fs::write(folder.join("nats.conf"), config).unwrap();
    }

    /// SIGUSR2: it takes no new clients, and asks those that it has to leave.
    pub(crate) fn lame_duck(&self) {
        self.process.as_ref().unwrap().signal("USR2");
    }

    fn configure(&self, storage: &str, more: &str) {
        let (port, store) = (self.port, self.folder.path().join("store"));
        let config = format!(
            "listen: 127.0.0.1:{port}\nserver_name: test-{port}\n\
             jetstream {{ store_dir: {store:?}, max_file_store: {storage}, max_memory_store: 64G }}\n{more}\n"
        );
        std::fs::write(self.folder.path().join("nats.conf"), config).unwrap();
    }

    async fn try_run(&mut self) -> bool {
        let mut command = Command::new(nats_server());
        command.arg("--config").arg(self.folder.path().join("nats.conf"));
        // What the configurations of deploy/nats read.
        command.env("NATS_STORE_DIR", self.folder.path());
        for user in ["ROUTER", "OPERATOR", "EXECUTOR", "GATEWAY", "TENANT_ACME"] {
            let name = user.trim_start_matches("TENANT_").to_lowercase();
            command.env(format!("NATS_{user}_PASSWORD"), name);
        }
        let port = self.port;
        let mut process = Process::spawn(&format!("nats-server on {port}"), &mut command);
        let up = within(SOON, async || {
            if process.exited().is_some() { Some(false) } else { listens(port).await.then_some(true) }
        });
        let up = up.await == Some(true);
        self.process = up.then_some(process);
        up
    }

    /// Starts again, on the same port and with the same folder.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        eventually("nats-server starts", SOON, async || self.try_run().await).await;
    }

    /// Starts again with so much storage for JetStream, and without other lines in its configuration.
    pub(crate) async fn restart_with_storage(&mut self, storage: &str) {
        self.stop().await;
        self.configure(storage, "");
        self.restart().await;
    }

    /// SIGTERM, and waits for its end.
    pub(crate) async fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal("TERM");
            process.ends(SOON).await;
        }
    }

    /// SIGKILL, and waits for its end.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Stops its clock: connections stay and nothing moves.
    pub(crate) fn pause(&self) {
        self.process.as_ref().unwrap().pause();
    }

    pub(crate) fn resume(&self) {
        self.process.as_ref().unwrap().signal("CONT");
    }

    /// Where it keeps a stream.
    pub(crate) fn stream_folder(&self, stream: &str) -> PathBuf {
        self.folder.path().join("store/jetstream/$G/streams").join(stream)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

impl Drop for Broker {
    // Before its folder goes.
    fn drop(&mut self) {
        self.kill();
        if self.mounted {
            let _ = Command::new("umount").arg(self.store()).status();
        }
    }
}

/// Whether a broker greets on the port.
async fn listens(port: u16) -> bool {
    listens_at("127.0.0.1", port).await
}

/// The same at another address.
pub(crate) async fn listens_at(host: &str, port: u16) -> bool {
    let greets = async {
        let mut stream = TcpStream::connect((host, port)).await.ok()?;
        let mut greeting = [0; 5];
        stream.read_exact(&mut greeting).await.ok()?;
        Some(greeting == *b"INFO ")
    };
    tokio::time::timeout(Duration::from_secs(1), greets).await.ok().flatten() == Some(true)
}

/// A port that nobody listens on, below those that the kernel gives to outgoing connections: while a
/// broker is down, no connection takes its port.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 15_000;
    const COUNT: u16 = 15_000;
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    // Test programs that run side by side begin at different places.
    let next = NEXT.get_or_init(|| AtomicU16::new((std::process::id() * 97 % u32::from(COUNT)) as u16));
    loop {
        let port = FIRST + next.fetch_add(1, Ordering::Relaxed) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// `NATS_SERVER_BIN`, else what `scripts/tools.py` placed, else the one on PATH.
pub(crate) fn nats_server() -> PathBuf {
    super::process::tool("NATS_SERVER_BIN", "nats-server")
        .expect("no nats-server: run scripts/tools.py test, or set NATS_SERVER_BIN")
}
