//! An upgrade, one worker after the other: the fold's version rises once all workers have it, and they agree all
//! the time.

use std::time::Duration;

use beamline_router::log::FoldVersion;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{Broker, Caller, Launch, Worker, eventually};
use crate::traffic::{RECOVERY, agree, policy, result};

const NEWEST: u64 = FoldVersion::NEWEST.0 as u64;

/// Fast enough for a test. It looks for an agreement as often.
fn quick(launch: Launch) -> Launch {
    launch.flag("--reconcile-interval-ms", 200).flag("--snapshot-every", 100)
}

/// A worker that has no newer version of the fold, as an older program.
fn of_version(version: u64) -> impl Fn(Launch) -> Launch {
    move |launch| quick(launch).flag("--fold-version", version)
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

/// Whether a result is longer than version 3 lets it be.
fn is_long(n: u64) -> bool {
    n % 40 == 7
}

fn nth(n: u64) -> Value {
    let tenant = if n.is_multiple_of(2) { "acme" } else { "beta" };
    let provider = if n.is_multiple_of(3) { "a" } else { "b" };
    let status = if n % 40 < 12 { "error" } else { "success" };
    let mut result = result(tenant, provider, &format!("x-{n}"), status);
    if is_long(n) {
        result["error_message"] = json!("x".repeat(70_000));
    }
    result
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
    upgraded_from(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_of_the_version_before_are_upgraded_likewise() {
    upgraded_from(NEWEST - 1).await;
}

async fn upgraded_from(before: u64) {
    let broker = Broker::start().await;
    let mut first = Worker::start(&broker, of_version(before)).await;
    let mut second = Worker::start(&broker, of_version(before)).await;
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
    eventually("both have the version before", RECOVERY, async || {
        version(&first).await == before && version(&second).await == before
    })
    .await;
    goes_on(&[&first, &second]).await;

    second.stop().await;
    second = Worker::start(&broker, quick).await;
    goes_on(&[&first, &second]).await;
    // Ten looks, while one worker has the older version only.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!([version(&first).await, version(&second).await], [before, before]);

    first.stop().await;
    first = Worker::start(&broker, quick).await;
    eventually("both have the newest version", RECOVERY, async || {
        version(&first).await == NEWEST && version(&second).await == NEWEST
    })
    .await;
    let raised = |worker: &Worker| worker.events("fold_version_raised");
    let positions = [&first, &second].map(|worker| raised(worker).last().unwrap()["position"].clone());
    assert_eq!(positions[0], positions[1]);
    goes_on(&[&first, &second]).await;
    // One that starts has the version from the snapshot or the log.
    let third = Worker::start(&broker, quick).await;
    goes_on(&[&first, &second, &third]).await;
    assert_eq!(version(&third).await, NEWEST);

    stop.cancel();
    let results = load.await.unwrap();
    let (position, digest) = agree(&[&first, &second, &third], caller.log_end().await).await;
    // Each result once more, those from before the newest version too.
    let copies = of(&second, "duplicate").await;
    let short = (0..results).filter(|n| !is_long(*n)).count() as u64;
    for n in 0..results {
        caller.result(&nth(n)).await;
    }
    let standing = agree(&[&first, &second, &third], position + results).await;
    assert_eq!(
        (standing.1, of(&second, "duplicate").await),
        (digest, copies + short),
        "a long one is rejected by now"
    );
    for worker in [&first, &second, &third] {
        assert!(raised(worker).len() <= 2);
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
    let why = format!("fold: the log needs version 99 of the fold; this worker has up to {NEWEST}");
    worker.says(&why).await;
    let standing = worker.standing().await;
    caller.result(&nth(0)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(worker.standing().await, standing, "it applies nothing that comes after");
    // So does one that starts.
    worker.kill();
    let worker = Worker::launch(&broker, quick);
    worker.says("fold: the log needs version 99").await;
}
