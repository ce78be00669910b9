//! The log's store is put back to an older state, and snapshots of what it lost are left; or a worker's state is not
//! what the log gives. All workers end equal.

use async_nats::jetstream::kv;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use beamline_router::domain::Offset;
use beamline_router::ledger::{Fold, Verdicts};
use beamline_router::log::{Entry, ForceEntry};
use beamline_router::state::State;

use crate::support::{Backup, Broker, Caller, Launch, SOON, Stage, Worker, eventually};
use crate::traffic::{RECOVERY, agree, policy, quick_breaker, result};

const EVERY: u64 = 100;

fn frequent(launch: Launch) -> Launch {
    launch
        .flag("--snapshot-every", EVERY)
        .flag("--reconcile-interval-ms", 500)
        .flag("--usage-metering", "off")
}

/// Results until the log's last entry stands at `to`, or behind it: workers append too.
async fn fill(caller: &Caller, to: u64, provider: &str, status: &str) {
    let mut last = caller.log_end().await;
    while last < to {
        let id = uuid::Uuid::new_v4().to_string();
        last = caller.result(&result("acme", provider, &id, status)).await;
    }
}

/// Waits until a snapshot is whole at this position.
async fn recorded(caller: &Caller, position: u64) {
    let what = format!("a snapshot at {position}");
    eventually(&what, SOON, async || snapshot(caller, position).await.is_some()).await;
}

async fn bucket(caller: &Caller) -> kv::Store {
    caller.jetstream.get_key_value("BEAMLINE_SNAPSHOTS").await.unwrap()
}

/// The key before `.manifest` and the manifest at a position.
async fn snapshot(caller: &Caller, position: u64) -> Option<(String, Value)> {
    let bucket = bucket(caller).await;
    let keys: Vec<String> = bucket.keys().await.unwrap().try_collect().await.unwrap();
    let end = format!(".{position}.manifest");
    let key = keys.into_iter().find(|key| key.ends_with(&end))?;
    let manifest: Value = serde_json::from_slice(&bucket.get(&key).await.unwrap()?).unwrap();
    let base = key.strip_suffix(".manifest").unwrap().to_owned();
    (manifest["complete"] == true).then_some((base, manifest))
}

async fn outcomes(worker: &Worker, outcome: &str) -> f64 {
    worker.metrics().await.value("router_log_snapshots_total", &[("outcome", outcome)]).unwrap()
}

/// A log with snapshots at 100 and 200, and a backup of it from between: the breaker is open only in the history that is
/// lost with what came after.
async fn two_histories() -> (Stage, Backup) {
    let mut stage = Stage::with(frequent).await;
    stage.caller.put_policy("acme", &policy(&["a", "b"], quick_breaker())).await;
    fill(&stage.caller, 150, "a", "success").await;
    recorded(&stage.caller, 100).await;
    let backup = Backup::of(&mut stage.broker, &["BEAMLINE_LOG"]).await;
    stage.worker.recovers().await;
    fill(&stage.caller, 250, "a", "error").await;
    stage.worker.applied(250).await;
    recorded(&stage.caller, 200).await;
    (stage, backup)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_a_history_that_the_log_lost_is_refused_and_replaced() {
    let (Stage { caller, worker, mut broker }, backup) = two_histories().await;
    broker.stop().await;
    backup.put_back(&broker);
    broker.restart().await;
    eventually("the worker rebuilds", RECOVERY, async || {
        worker.count("router_log_rebuilds_total").await == 1
    })
    .await;
    worker.recovers().await;
    // Another history takes the same positions.
    fill(&caller, 225, "b", "error").await;
    worker.applied(225).await;
    let late = Worker::start(&broker, frequent).await;
    let end = caller.log_end().await;
    agree(&[&worker, &late], end).await;
    let closed = caller.breaker("acme", "a").await;
    assert_eq!(closed["state"], "closed", "{closed}");
    fill(&caller, 305, "b", "success").await;
    recorded(&caller, 300).await;
    let third = Worker::start(&broker, frequent).await;
    agree(&[&worker, &late, &third], 305).await;
    for worker in [&worker, &late, &third] {
        assert_eq!(outcomes(worker, "differs").await, 0.0, "{:?}", worker.events("snapshot_differs"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_worker_alone_does_not_begin_from_a_snapshot_of_another_history() {
    let (Stage { caller, mut worker, mut broker }, backup) = two_histories().await;
    worker.kill();
    broker.stop().await;
    backup.put_back(&broker);
    broker.restart().await;
    fill(&caller, 225, "b", "success").await;
    let worker = Worker::start(&broker, frequent).await;
    worker.applied(225).await;
    assert_eq!(worker.events("snapshot_restored")[0]["position"], 100);
    let refused = worker.events("snapshot_refused");
    assert!(refused[0]["error"].as_str().unwrap().contains("another history"), "{refused:?}");
    assert_eq!(refused[0]["position"], 200);
    assert_eq!(caller.breaker("acme", "a").await["state"], "closed");
}

/// A snapshot as it was recorded: its key, its manifest and its only piece.
struct Original {
    base: String,
    manifest: Value,
    piece: Bytes,
}

impl Original {
    async fn put_back(self, caller: &Caller) {
        let bucket = bucket(caller).await;
        bucket.put(format!("{}.0", self.base), self.piece).await.unwrap();
        bucket.put(format!("{}.manifest", self.base), Bytes::from(self.manifest.to_string())).await.unwrap();
    }
}

/// Changes the snapshot at a position into one of a state that the log does not give: a breaker is forced open. Gives
/// what it was.
async fn falsify(caller: &Caller, position: u64) -> Original {
    let (base, mut manifest) = snapshot(caller, position).await.unwrap();
    let before = manifest.clone();
    let created = created(caller).await;
    let bucket = bucket(caller).await;
    let piece = bucket.get(format!("{base}.0")).await.unwrap().unwrap();
    let mut fold = Fold::new(State::new(true).into(), Verdicts::default().into());
    let at = fold.restore(&piece, &created, Offset(0)).unwrap();
    let force: ForceEntry = serde_json::from_value(json!({
        "tenant_id": "acme", "provider_id": "a", "to": "open"
    }))
    .unwrap();
    fold.apply(&Entry::Force(force), at, Offset(0), false);
    let bytes = fold.snapshot(&created).unwrap();
    manifest["hash"] = json!(xxh3_64(&bytes));
    manifest["bytes"] = json!(bytes.len());
    bucket.put(format!("{base}.0"), Bytes::from(bytes)).await.unwrap();
    bucket.put(format!("{base}.manifest"), Bytes::from(manifest.to_string())).await.unwrap();
    Original { base, manifest: before, piece }
}

/// When the log was made, as the broker writes it.
async fn created(caller: &Caller) -> String {
    let info = caller.ask("$JS.API.STREAM.INFO.BEAMLINE_LOG", Default::default(), "").await.json();
    info["created"].as_str().unwrap().to_owned()
}

/// A stopped worker whose state is right, one that began from a false snapshot, and the sound one in whose place that
/// stands.
async fn right_and_wrong() -> (Broker, Caller, Worker, Worker, Original) {
    let Stage { caller, worker: right, broker } = Stage::with(frequent).await;
    caller.put_policy("acme", &policy(&["a", "b"], quick_breaker())).await;
    fill(&caller, 150, "b", "success").await;
    recorded(&caller, 100).await;
    right.applied(150).await;
    // The right one would see at once that what it recorded was replaced.
    right.pause();
    let original = falsify(&caller, 100).await;
    let wrong = Worker::start(&broker, frequent).await;
    assert_eq!(wrong.events("snapshot_restored")[0]["position"], 100);
    (broker, caller, right, wrong, original)
}

/// Both are equal, and the breaker is as the log gives it.
async fn heal(caller: &Caller, right: &Worker, wrong: &Worker, state: &str) {
    eventually("they agree", RECOVERY, async || {
        let (one, other) = (right.standing().await, wrong.standing().await);
        one == other && right.reasons().await.is_empty() && wrong.reasons().await.is_empty()
    })
    .await;
    for _ in 0..8 {
        assert_eq!(caller.breaker("acme", "a").await["state"], state);
    }
    let differs = outcomes(right, "differs").await + outcomes(wrong, "differs").await;
    assert!(differs >= 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_worker_that_differs_from_the_recorded_snapshot_is_made_anew_from_the_log() {
    let (_broker, caller, right, wrong, original) = right_and_wrong().await;
    wrong.pause();
    original.put_back(&caller).await;
    right.resume();
    fill(&caller, 205, "b", "success").await;
    recorded(&caller, 200).await;
    wrong.resume();
    heal(&caller, &right, &wrong, "closed").await;
    assert!(wrong.count("router_log_rebuilds_total").await >= 1);
    assert_eq!(right.count("router_log_rebuilds_total").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_a_wrong_worker_recorded_first_is_refuted_by_the_log() {
    let (_broker, caller, right, wrong, _) = right_and_wrong().await;
    fill(&caller, 205, "b", "success").await;
    recorded(&caller, 200).await;
    right.resume();
    heal(&caller, &right, &wrong, "closed").await;
    eventually("the wrong one rebuilt", RECOVERY, async || {
        wrong.count("router_log_rebuilds_total").await >= 1
    })
    .await;
    // It is over: nobody makes its state anew again.
    let before =
        (right.count("router_log_rebuilds_total").await, wrong.count("router_log_rebuilds_total").await);
    fill(&caller, 305, "b", "success").await;
    recorded(&caller, 300).await;
    eventually("both compared", SOON, async || {
        outcomes(&right, "equal").await + outcomes(&wrong, "equal").await >= 2.0
    })
    .await;
    agree(&[&right, &wrong], 305).await;
    let after =
        (right.count("router_log_rebuilds_total").await, wrong.count("router_log_rebuilds_total").await);
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_logs_first_entries_are_gone_workers_agree_on_the_recorded_snapshot() {
    let (_broker, caller, right, wrong, _) = right_and_wrong().await;
    fill(&caller, 205, "b", "success").await;
    recorded(&caller, 200).await;
    // Nobody can say any more which of them is right.
    assert!(caller.log().await.purge().sequence(125).await.unwrap().success);
    right.resume();
    heal(&caller, &right, &wrong, "open").await;
    fill(&caller, 305, "b", "success").await;
    recorded(&caller, 300).await;
    agree(&[&right, &wrong], 305).await;
}

#[tokio::test]
async fn a_purged_log_without_a_snapshot_reports_what_is_gone() {
    let mut stage = Stage::start().await;
    stage.caller.put_policy("acme", &policy(&["a", "b"], quick_breaker())).await;
    fill(&stage.caller, 10, "a", "success").await;
    stage.caller.log().await.purge().sequence(8).await.unwrap();
    stage.worker.kill();
    let worker = Worker::start(&stage.broker, |l| l).await;
    let gone = worker.events("log_entries_gone");
    assert_eq!((&gone[0]["from"], &gone[0]["to"]), (&json!(1), &json!(7)), "{gone:?}");
    assert!(gone[0]["lost"].as_str().unwrap().contains("forced states"));
    assert_eq!(worker.count("router_log_gaps_total").await, 1);
    worker.recovers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_missed_purged_entries_takes_over_the_state_of_one_that_read_them() {
    let Stage { caller, worker, broker } = Stage::with(frequent).await;
    caller.put_policy("acme", &policy(&["a", "b"], quick_breaker())).await;
    let force = json!({"tenant_id": "acme", "provider_id": "a", "state": "open"});
    caller.command("breaker.force", &force).await;
    fill(&caller, 50, "b", "success").await;
    worker.applied(50).await;
    caller.log().await.purge().sequence(50).await.unwrap();
    let late = Worker::start(&broker, frequent).await;
    assert!(!late.events("log_entries_gone").is_empty());
    fill(&caller, 105, "b", "success").await;
    recorded(&caller, 100).await;
    heal(&caller, &worker, &late, "open").await;
    assert_eq!(worker.count("router_log_rebuilds_total").await, 0);
    assert_eq!(late.count("router_log_rebuilds_total").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_while_every_worker_rebuilds_is_counted_and_published() {
    let Stage { caller, worker, mut broker } = Stage::with(frequent).await;
    caller.put_policy("acme", &policy(&["a", "b"], quick_breaker())).await;
    fill(&caller, 30, "b", "success").await;
    let backup = Backup::of(&mut broker, &["BEAMLINE_LOG"]).await;
    worker.recovers().await;
    fill(&caller, 60, "b", "success").await;
    worker.applied(60).await;
    broker.stop().await;
    backup.put_back(&broker);
    // The failures are there before the worker begins to read again.
    worker.pause();
    broker.restart().await;
    caller.failures("acme", "a", 3).await;
    worker.resume();
    eventually("the worker rebuilds", RECOVERY, async || {
        worker.count("router_log_rebuilds_total").await == 1
    })
    .await;
    worker.recovers().await;
    let events = caller.jetstream.get_stream("BEAMLINE_EVENTS").await.unwrap();
    eventually("the opening is published", RECOVERY, async || {
        events.get_last_raw_message_by_subject("beamline.router.v1.events.breaker.acme.a").await.is_ok()
    })
    .await;
    let metrics = worker.metrics().await;
    assert_eq!(metrics.sum("router_results_total", &[("status", "error")]), 3.0);
    assert_eq!(worker.events("circuit_breaker_opened").len(), 1);
}
