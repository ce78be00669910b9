//! Snapshots that are damaged, of a newer version, unfinished or gone: the worker says so, reads the log
//! instead, and ends where its peer is.

use async_nats::jetstream::kv;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use crate::support::{Broker, Caller, Launch, SOON, Worker, eventually};
use crate::traffic::{Publishing, RECOVERY, agree, policy, quick_breaker, result};

const TENANTS: [&str; 3] = ["acme", "umbra", "zeta"];

/// A worker that meters begins with an older snapshot while results are not metered.
fn frequent(launch: Launch) -> Launch {
    launch.flag("--snapshot-every", 200).flag("--usage-metering", "off")
}

fn make(n: u64) -> Value {
    let status = if (n / 7).is_multiple_of(3) { "error" } else { "success" };
    result(TENANTS[n as usize % 3], ["a", "b"][n as usize / 3 % 2], &format!("n-{n}"), status)
}

/// A deployment whose log has some results and at least two snapshots, nothing on its way, and a worker
/// that has read it all.
struct Kept {
    broker: Broker,
    caller: Caller,
    peer: Worker,
    /// The log's last entry.
    last: u64,
}

impl Kept {
    async fn start() -> Self {
        let broker = Broker::start().await;
        let peer = Worker::start(&broker, frequent).await;
        let caller = Caller::connect(&broker).await;
        for tenant in TENANTS {
            caller.put_policy(tenant, &policy(&["a", "b"], quick_breaker())).await;
        }
        let publishing = Publishing::start(&caller, 1_000, make);
        // One that falls due while the one before it is still being written is left out.
        eventually("two snapshots are stored", RECOVERY, async || peer.events("snapshot_stored").len() >= 2)
            .await;
        let last = publishing.stop().await.last;
        peer.applied(last).await;
        eventually("none is being written", SOON, async || {
            let (stored, left_out) = (peer.events("snapshot_stored"), peer.events("snapshot_not_stored"));
            (stored.len() + left_out.len()) as u64 == last / 200
        })
        .await;
        Self { broker, caller, peer, last }
    }

    async fn bucket(&self) -> kv::Store {
        self.caller.jetstream.get_key_value("BEAMLINE_SNAPSHOTS").await.unwrap()
    }

    /// The manifests' keys without their end, the newest first.
    async fn bases(&self) -> Vec<String> {
        let keys: Vec<String> = self.bucket().await.keys().await.unwrap().try_collect().await.unwrap();
        let mut bases: Vec<_> =
            keys.iter().filter_map(|k| k.strip_suffix(".manifest")).map(str::to_owned).collect();
        bases.sort_by_key(|base| std::cmp::Reverse(position(base)));
        assert_eq!(bases.len(), 2, "two are kept: {keys:?}");
        bases
    }

    /// Changes what stands under a key.
    async fn tamper(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let bucket = self.bucket().await;
        let mut value = bucket.get(key).await.unwrap().unwrap().to_vec();
        change(&mut value);
        bucket.put(key, Bytes::from(value)).await.unwrap();
    }

    /// Changes the pieces of a snapshot, and its manifest so that they are what it says.
    async fn replace(&self, base: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let bucket = self.bucket().await;
        let piece = format!("{base}.0");
        self.tamper(&piece, change).await;
        let bytes = bucket.get(&piece).await.unwrap().unwrap();
        self.tamper(&format!("{base}.manifest"), |manifest| {
            let mut told: Value = serde_json::from_slice(manifest).unwrap();
            told["hash"] = json!(xxh3_64(&bytes));
            told["bytes"] = json!(bytes.len());
            *manifest = told.to_string().into_bytes();
        })
        .await;
    }

    /// Starts a worker, which must end where the peer is.
    async fn joined(&self) -> Worker {
        let worker = Worker::start(&self.broker, frequent).await;
        let end = agree(&[&self.peer, &worker], self.last).await;
        assert_eq!(end.0, self.last);
        worker
    }
}

fn position(base: &str) -> u64 {
    base.rsplit('.').next().unwrap().parse().unwrap()
}

/// How many entries it read after its snapshot.
fn replayed(worker: &Worker) -> u64 {
    worker.events("log_caught_up")[0]["replayed"].as_u64().unwrap()
}

/// What it says of snapshots that it did not take: position and why.
fn refused(worker: &Worker) -> Vec<(u64, String)> {
    let told = worker.events("snapshot_refused");
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    told.iter().map(|line| (line["position"].as_u64().unwrap(), text(&line["error"]))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_that_cannot_be_used_are_told_and_the_log_is_read_instead() {
    let kept = Kept::start().await;
    let bases = kept.bases().await;
    let (newest, older) = (position(&bases[0]), position(&bases[1]));

    // Sound: little is read.
    let worker = kept.joined().await;
    assert_eq!(replayed(&worker), kept.last - newest);
    assert_eq!(worker.events("snapshot_restored")[0]["position"], newest);
    assert_eq!(refused(&worker), []);
    drop(worker);

    // One byte of the newest is wrong: the one before it is taken.
    kept.tamper(&format!("{}.0", bases[0]), |piece| {
        let middle = piece.len() / 2;
        piece[middle] ^= 1;
    })
    .await;
    let worker = kept.joined().await;
    let [(at, why)] = &refused(&worker)[..] else { panic!("{:?}", refused(&worker)) };
    assert!(*at == newest && why.contains("its pieces are not what the manifest says"), "{at} {why}");
    assert_eq!(replayed(&worker), kept.last - older);
    let metrics = worker.metrics().await;
    assert_eq!(metrics.value("router_log_snapshots_total", &[("outcome", "refused")]), Some(1.0));
    drop(worker);

    // And that one is of a newer version, whole and well: the log is read from its first entry.
    let mut newer = 0;
    kept.replace(&bases[1], |bytes| {
        bytes[4] += 10;
        newer = bytes[4];
    })
    .await;
    let worker = kept.joined().await;
    let why = refused(&worker);
    assert_eq!(why.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [newest, older]);
    assert!(why[1].1.contains(&format!("version {newer} ")), "{why:?}");
    assert_eq!(replayed(&worker), kept.last);
    assert!(worker.events("snapshot_restored").is_empty());
    drop(worker);

    // Unfinished, cut short within, no manifest that can be read, a piece that is gone.
    kept.tamper(&format!("{}.manifest", bases[0]), |manifest| {
        let mut told: Value = serde_json::from_slice(manifest).unwrap();
        told["complete"] = json!(false);
        *manifest = told.to_string().into_bytes();
    })
    .await;
    kept.replace(&bases[1], |bytes| {
        bytes[4] -= 10;
        bytes.truncate(bytes.len() - 9);
    })
    .await;
    let worker = kept.joined().await;
    let why = refused(&worker);
    assert!(why[0].1.contains("did not finish") && why[1].1.contains("checksum"), "{why:?}");
    assert_eq!(replayed(&worker), kept.last);
    drop(worker);

    kept.tamper(&format!("{}.manifest", bases[0]), |manifest| *manifest = b"{".to_vec()).await;
    kept.bucket().await.purge(format!("{}.0", bases[1])).await.unwrap();
    let worker = kept.joined().await;
    assert_eq!(refused(&worker).len(), 2, "{:?}", refused(&worker));
    assert_eq!(replayed(&worker), kept.last);
    drop(worker);

    // None at all is nothing to complain about.
    for base in &bases {
        kept.bucket().await.purge(format!("{base}.manifest")).await.unwrap();
    }
    kept.caller.jetstream.get_stream("KV_BEAMLINE_SNAPSHOTS").await.unwrap().purge().await.unwrap();
    let worker = kept.joined().await;
    assert_eq!(refused(&worker), []);
    assert_eq!(replayed(&worker), kept.last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_under_load_is_back_from_its_snapshot_with_the_digest_of_its_peers() {
    let kept = Kept::start().await;
    let mut victim = kept.joined().await;
    let publishing = Publishing::start(&kept.caller, 400, |n| {
        let mut body = make(n);
        body["assignment_id"] = json!(format!("m-{n}"));
        body
    });
    for _ in 0..3 {
        publishing.goes_on(250).await;
        victim.kill();
        publishing.goes_on(50).await;
        victim = Worker::start(&kept.broker, frequent).await;
        let restored = victim.events("snapshot_restored");
        assert_eq!(restored.len(), 1, "it reads on from a snapshot");
        let position = restored[0]["position"].as_u64().unwrap();
        assert!(position > kept.last, "an old one: {position}");
        assert!(replayed(&victim) < 1_000, "it replayed {}", replayed(&victim));
    }
    publishing.goes_on(100).await;
    let last = publishing.stop().await.last;
    agree(&[&kept.peer, &victim], last).await;

    // With the log purged up to the snapshot, too.
    let mut end = last;
    let mut n = 0;
    while !end.is_multiple_of(200) {
        end = kept.caller.result(&result("acme", "a", &format!("end-{n}"), "error")).await;
        n += 1;
    }
    let stored = format!("\"position\":{end}");
    eventually("the snapshot is stored", RECOVERY, async || {
        let told = |w: &Worker| w.events("snapshot_stored").iter().any(|l| l.to_string().contains(&stored));
        told(&kept.peer) || told(&victim)
    })
    .await;
    kept.caller.log().await.purge().await.unwrap();
    let late = kept.caller.result(&result("acme", "a", "late", "error")).await;
    victim.kill();
    let purged = Worker::start(&kept.broker, frequent).await;
    agree(&[&kept.peer, &purged], late).await;
    assert_eq!(replayed(&purged), 1);
    assert!(purged.events("log_entries_gone").is_empty());
    for worker in [&kept.peer, &purged] {
        let metrics = worker.metrics().await;
        assert_eq!(metrics.value("router_log_snapshots_total", &[("outcome", "differs")]), Some(0.0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_compare_their_snapshots_and_a_difference_is_counted_and_shouted() {
    let kept = Kept::start().await;
    let second = kept.joined().await;
    let base = &kept.bases().await[0];
    let stream = base.split('.').next().unwrap();
    let mut n = 0;
    let mut fill = async |to: u64| {
        let mut last = kept.last;
        while last < to {
            last = kept.caller.result(&result("acme", "a", &format!("fill-{n}"), "success")).await;
            n += 1;
        }
        assert_eq!(last, to);
    };
    let counted = async |outcome: &str| {
        let of = async |worker: &Worker| {
            let metrics = worker.metrics().await;
            metrics.value("router_log_snapshots_total", &[("outcome", outcome)]).unwrap() as u64
        };
        (of(&kept.peer).await, of(&second).await)
    };
    // One writes it, and the other has the same.
    let next = (kept.last / 200 + 1) * 200;
    fill(next).await;
    eventually("one of them compared", SOON, async || {
        let (first, second) = counted("equal").await;
        first + second == 1
    })
    .await;
    assert_eq!(counted("differs").await, (0, 0));

    // A third, which is none of them and disagrees, is first at the next position.
    let theirs = json!({"position": next + 200, "hash": 1, "bytes": 1, "complete": true, "worker": "ghost"});
    let key = format!("{stream}.{}.manifest", next + 200);
    kept.bucket().await.put(key, Bytes::from(theirs.to_string())).await.unwrap();
    fill(next + 200).await;
    eventually("both differ", SOON, async || counted("differs").await == (1, 1)).await;
    for worker in [&kept.peer, &second] {
        let shouted = eventually("it is logged", SOON, async || {
            Some(worker.events("snapshot_differs")).filter(|lines| !lines.is_empty())
        })
        .await;
        assert_eq!((&shouted[0]["level"], &shouted[0]["theirs"]), (&json!("ERROR"), &json!("ghost")));
    }
}
