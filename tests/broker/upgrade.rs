//! An upgrade, one worker after the other: the fold's version rises once all workers have it, and they agree all
//! the time.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{Broker, Caller, Launch, Worker, eventually};
use crate::traffic::{RECOVERY, agree, policy, result};

/// Fast enough for a test. It looks for an agreement as often.
fn quick(launch: Launch) -> Launch {
    launch.flag("--reconcile-interval-ms", 200).flag("--snapshot-every", 100)
}

/// A worker that has no version of the fold but the first, as the program before.
fn of_before(launch: Launch) -> Launch {
    quick(launch).flag("--fold-version", 1)
}

/// Two tenants with a breaker that opens and closes under the results of [`executors`].
async fn ground(broker: &Broker) -> Caller {
    let caller = Caller::connect(broker).await;
    for tenant in ["acme", "beta"] {
        let breaker = json!({"enabled": true, "failure_threshold": 4, "timeout_ms": 1_000});
        caller.put_policy(tenant, &policy(&["a", "b"], breaker)).await;
    }
    caller
}

fn nth(n: u64) -> Value {
    let tenant = if n.is_multiple_of(2) { "acme" } else { "beta" };
    let provider = if n.is_multiple_of(3) { "a" } else { "b" };
    let status = if n % 40 < 12 { "error" } else { "success" };
    result(tenant, provider, &format!("x-{n}"), status)
}

/// Executors that report until stopped, each third result twice. Gives how many results there were.
async fn executors(caller: Caller, stop: CancellationToken) -> u64 {
    let mut n = 0;
    while !stop.is_cancelled() {
        caller.result(&nth(n)).await;
        if n.is_multiple_of(3) {
            caller.result(&nth(n)).await;
        }
        n += 1;
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    n
}

async fn version(worker: &Worker) -> u64 {
    worker.count("router_fold_version").await
}

async fn of(worker: &Worker, disposition: &str) -> u64 {
    worker.metrics().await.sum("router_results_total", &[("disposition", disposition)]) as u64
}

/// At each hundredth entry one worker writes the whole of its state, and the others compare theirs.
async fn no_snapshot_differs(workers: &[&Worker]) {
    for worker in workers {
        let metrics = worker.metrics().await;
        let snapshots = |outcome| metrics.sum("router_log_snapshots_total", &[("outcome", outcome)]) as u64;
        assert!(snapshots("stored") + snapshots("equal") > 0);
        assert_eq!(snapshots("differs"), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_are_upgraded_one_by_one_under_load_and_agree_all_the_time() {
    let broker = Broker::start().await;
    let mut first = Worker::start(&broker, of_before).await;
    let mut second = Worker::start(&broker, of_before).await;
    let caller = ground(&broker).await;
    let stop = CancellationToken::new();
    let load = tokio::spawn(executors(caller.clone(), stop.clone()));
    let goes_on = async |workers: &[&Worker]| {
        let end = caller.log_end().await + 400;
        for worker in workers {
            worker.applied(end).await;
        }
        no_snapshot_differs(workers).await;
    };
    goes_on(&[&first, &second]).await;

    second.stop().await;
    second = Worker::start(&broker, quick).await;
    goes_on(&[&first, &second]).await;
    // Ten looks, while one worker has the first version only.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!([version(&first).await, version(&second).await], [1, 1]);

    first.stop().await;
    first = Worker::start(&broker, quick).await;
    eventually("both have the second version", RECOVERY, async || {
        version(&first).await == 2 && version(&second).await == 2
    })
    .await;
    let raised = |worker: &Worker| worker.events("fold_version_raised");
    let positions = [&first, &second].map(|worker| raised(worker)[0]["position"].clone());
    assert_eq!(positions[0], positions[1]);
    goes_on(&[&first, &second]).await;
    // One that starts has the version from the snapshot or the log.
    let third = Worker::start(&broker, quick).await;
    goes_on(&[&first, &second, &third]).await;
    assert_eq!(version(&third).await, 2);

    stop.cancel();
    let results = load.await.unwrap();
    let (position, digest) = agree(&[&first, &second, &third], caller.log_end().await).await;
    // Each result once more, those from before the second version too.
    let before = of(&second, "duplicate").await;
    for n in 0..results {
        caller.result(&nth(n)).await;
    }
    let standing = agree(&[&first, &second, &third], position + results).await;
    assert_eq!((standing.1, of(&second, "duplicate").await), (digest, before + results));
    for worker in [&first, &second, &third] {
        assert!(raised(worker).len() <= 1);
        assert_eq!(worker.events("log_entry_unknown"), [] as [Value; 0]);
    }
}

#[tokio::test]
async fn a_worker_stops_at_a_version_that_it_does_not_have() {
    let broker = Broker::start().await;
    let mut worker = Worker::start(&broker, quick).await;
    let caller = ground(&broker).await;
    let newer = json!({"v": 1, "entry": {"version": 99, "identity_key": [1, 2]}});
    caller.result_on("beamline.router.v1.log.fold_version", &newer).await;
    worker.says("fold: the log needs version 99 of the fold; this worker has up to 2").await;
    let standing = worker.standing().await;
    caller.result(&nth(0)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(worker.standing().await, standing, "it applies nothing that comes after");
    // So does one that starts.
    worker.kill();
    let worker = Worker::launch(&broker, quick);
    worker.says("fold: the log needs version 99").await;
}
