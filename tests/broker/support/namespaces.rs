//! Three brokers of one cluster, each in a network namespace of its own, so that links can be taken down.
//!
//! Each namespace has two links. One leads to a switch, over which the brokers speak to each other. The other leads
//! to the test, which reaches each broker, and what else runs in its namespace, whatever happens on the first.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tempfile::TempDir;

use super::broker::nats_server;
use super::caller::Caller;
use super::process::Process;
use super::{SOON, eventually, listens_at};

const PORT: u16 = 4222;
/// An election on a busy machine.
const ELECTION: Duration = Duration::from_secs(60);

/// A broker in a namespace.
pub(crate) struct Node {
    pub(crate) namespace: String,
    /// Its address on the link to the test.
    pub(crate) host: String,
    process: Option<Process>,
    folder: TempDir,
}

impl Node {
    pub(crate) fn url(&self) -> String {
        format!("nats://{}:{PORT}", self.host)
    }
}

/// See the module. Dropped, it takes its namespaces with it.
pub(crate) struct SplitCluster {
    pub(crate) nodes: Vec<Node>,
    switch: String,
}

/// Runs `ip`, which must succeed.
fn ip(args: &str) {
    let done = Command::new("ip")
        .args(args.split(' '))
        .output()
        .unwrap_or_else(|error| panic!("ip {args}: {error}; this test needs iproute2, see scripts/tools.py"));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.success(),
        "ip {args}: {said} (this test needs the right to make network namespaces)"
    );
}

/// A number that no other test of this machine has just now, as far as processes go.
fn unique() -> (u32, u32) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    (std::process::id() % 8_192, NEXT.fetch_add(1, Ordering::Relaxed))
}

impl SplitCluster {
    pub(crate) async fn start() -> Self {
        let (process, run) = unique();
        let switch = format!("bl{process}r{run}s");
        ip(&format!("netns add {switch}"));
        let mut cluster = Self { nodes: Vec::new(), switch };
        cluster.connect(process, run);
        let all: Vec<_> = (1..=3).map(|n| format!("nats-route://{}:6222", routed(n))).collect();
        let all = all.join(", ");
        for (n, node) in (1..).zip(&mut cluster.nodes) {
            let store = node.folder.path().join("store");
            let config = format!(
                "listen: \"0.0.0.0:{PORT}\"\nserver_name: n{n}\nclient_advertise: \"{host}:{PORT}\"\n\
                 jetstream {{ store_dir: {store:?}, max_file_store: 1T, max_memory_store: 64G }}\n\
                 cluster {{ name: split, listen: \"{routed}:6222\", routes: [{all}] }}\n",
                host = node.host,
                routed = routed(n),
            );
            let file = node.folder.path().join("nats.conf");
            std::fs::write(&file, config).unwrap();
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &node.namespace]).arg(nats_server()).arg("--config").arg(file);
            node.process = Some(Process::spawn(&format!("nats-server n{n}"), &mut command));
        }
        join_all(
            cluster.nodes.iter().map(|node| {
                eventually("nats-server starts", SOON, async || listens_at(&node.host, PORT).await)
            }),
        )
        .await;
        let caller = cluster.caller(0).await;
        eventually("the cluster has a leader", ELECTION, async || {
            let info = caller.jetstream.query_account();
            tokio::time::timeout(Duration::from_secs(1), info).await.is_ok_and(|i| i.is_ok())
        })
        .await;
        cluster
    }

    fn connect(&mut self, process: u32, run: u32) {
        let switch = self.switch.clone();
        ip(&format!("-n {switch} link add br0 type bridge"));
        ip(&format!("-n {switch} link set br0 up"));
        for n in 1..=3_u32 {
            let namespace = format!("bl{process}r{run}n{n}");
            // A /30 of 10.128.0.0/9 for each link to the test.
            let net = ((process << 8) | (((run * 4 + n) % 64) << 2)) & 0x7f_ffff;
            let address = |last: u32| {
                let [_, a, b, c] = (0x0a80_0000 | net | last).to_be_bytes();
                format!("10.{a}.{b}.{c}")
            };
            let (outside, host, link) = (address(1), address(2), format!("bl{process}r{run}t{n}"));
            ip(&format!("netns add {namespace}"));
            self.nodes.push(Node {
                namespace: namespace.clone(),
                host: host.clone(),
                process: None,
                folder: tempfile::tempdir().unwrap(),
            });
            ip(&format!("-n {namespace} link set lo up"));
            ip(&format!("link add {link} type veth peer name test0 netns {namespace}"));
            ip(&format!("addr add {outside}/30 dev {link}"));
            ip(&format!("link set {link} up"));
            ip(&format!("-n {namespace} addr add {host}/30 dev test0"));
            ip(&format!("-n {namespace} link set test0 up"));
            ip(&format!("-n {switch} link add port{n} type veth peer name net0 netns {namespace}"));
            ip(&format!("-n {switch} link set port{n} master br0 up"));
            ip(&format!("-n {namespace} addr add {}/24 dev net0", routed(n)));
            ip(&format!("-n {namespace} link set net0 up"));
        }
    }

    /// A client of one broker, by its link to the test.
    pub(crate) async fn caller(&self, at: usize) -> Caller {
        Caller::to(&self.nodes[at].url()).await
    }

    pub(crate) fn urls(&self) -> String {
        self.nodes.iter().map(Node::url).collect::<Vec<_>>().join(",")
    }

    /// The broker that leads a stream, by the word of the one that is asked.
    pub(crate) async fn leader(&self, caller: &Caller, stream: &str) -> usize {
        let name = eventually("the stream has a leader", ELECTION, async || {
            let info =
                async { caller.jetstream.get_stream(stream).await.ok()?.cached_info().cluster.clone() };
            tokio::time::timeout(Duration::from_secs(2), info).await.ok().flatten()?.leader
        })
        .await;
        name.trim_start_matches('n').parse::<usize>().unwrap() - 1
    }

    /// Takes the link to the others down: packets are dropped, and nobody is told.
    pub(crate) fn isolate(&self, at: usize) {
        ip(&format!("-n {} link set port{} down", self.switch, at + 1));
    }

    pub(crate) fn join(&self, at: usize) {
        ip(&format!("-n {} link set port{} up", self.switch, at + 1));
    }
}

/// A broker's address on the link to the others.
fn routed(n: u32) -> String {
    format!("172.30.0.{n}")
}

impl Drop for SplitCluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut process) = node.process.take() {
                process.kill();
            }
        }
        for namespace in self.nodes.iter().map(|node| &node.namespace).chain([&self.switch]) {
            // With a namespace go its ends of the links, and with them the others.
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}
