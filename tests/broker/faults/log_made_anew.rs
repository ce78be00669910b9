//! The log is deleted while executors report and repeat: policies and flags enter the new one before any result,
//! whichever worker is there to put them.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::support::{Broker, Caller, Launch, SOON, Stage, Worker, eventually, request};
use crate::traffic::{Publishing, RECOVERY, agree, policy, quick_breaker, result};

const TENANTS: [&str; 3] = ["acme", "umbra", "zeta"];
const RESULT: &str = "caf.exec.result.v1";
const OWN: &str = "beamline.router.v1.log.>";

fn quick(launch: Launch) -> Launch {
    launch.flag("--reconcile-interval-ms", 500)
}

/// Many results of providers that work, each under an id of its own.
fn make(n: u64) -> Value {
    result(TENANTS[n as usize % 3], ["a", "b"][n as usize / 3 % 2], &format!("n-{n}"), "success")
}

/// The subjects of all entries of the log, in order, and the ids of its results.
async fn entries(caller: &Caller) -> (Vec<String>, BTreeSet<String>) {
    let mut log = caller.log().await;
    let count = log.info().await.unwrap().state.messages as usize;
    let config = pull::Config { ack_policy: AckPolicy::None, ..Default::default() };
    let messages = log.create_consumer(config).await.unwrap().messages().await.unwrap();
    let messages: Vec<_> = tokio::time::timeout(SOON, messages.take(count).map(Result::unwrap).collect())
        .await
        .expect("all entries are delivered");
    let results = messages.iter().filter(|m| m.subject.starts_with(RESULT)).map(|m| {
        let body: Value = serde_json::from_slice(&m.payload).unwrap();
        body["assignment_id"].as_str().unwrap().to_owned()
    });
    let results = results.collect();
    (messages.iter().map(|m| m.subject.to_string()).collect(), results)
}

/// Asserts that so many policies and a flag stand before the first result.
fn policies_come_first(subjects: &[String], policies: usize) {
    let first = subjects.iter().position(|s| s.starts_with(RESULT)).unwrap_or(subjects.len());
    let before = |kind: &str| subjects[..first].iter().filter(|s| s.ends_with(kind)).count();
    assert_eq!((before(".log.policy"), before(".log.flag")), (policies, 1), "before {first}: {subjects:?}");
}

async fn put_all(caller: &Caller) {
    for tenant in TENANTS {
        caller.put_policy(tenant, &policy(&["a", "b"], quick_breaker())).await;
    }
    let off = json!({"scope": "tenant", "tenant_id": "umbra", "circuit_breaker_enabled": false});
    caller.command("flag.set", &off).await;
}

/// The ids of all usage events.
async fn metered(caller: &Caller) -> BTreeSet<String> {
    let mut usage = caller.jetstream.get_stream("BEAMLINE_USAGE").await.unwrap();
    let count = usage.info().await.unwrap().state.messages as usize;
    let config = pull::Config { ack_policy: AckPolicy::None, ..Default::default() };
    let messages = usage.create_consumer(config).await.unwrap().messages().await.unwrap();
    let ids = messages.take(count).map(|m| {
        let body: Value = serde_json::from_slice(&m.unwrap().payload).unwrap();
        body["assignment_id"].as_str().unwrap().to_owned()
    });
    tokio::time::timeout(SOON, ids.collect()).await.expect("all events are delivered")
}

/// What must hold once a log was made anew under executors that repeat.
async fn holds(caller: &Caller, workers: &[&Worker]) {
    agree(workers, caller.log_end().await).await;
    let (subjects, results) = entries(caller).await;
    policies_come_first(&subjects, TENANTS.len());
    assert!(results.len() > 50, "executors went on: {}", results.len());
    for worker in workers {
        worker.recovers().await;
        let metrics = worker.metrics().await;
        let rejected = metrics.sum("router_results_total", &[("disposition", "rejected")]);
        assert_eq!(rejected, 0.0, "{:?}", worker.events("log_caught_up"));
    }
    eventually("all results of the new log are metered", RECOVERY, async || {
        metered(caller).await.is_superset(&results)
    })
    .await;
    let subjects = caller.log().await.cached_info().config.subjects.clone();
    assert_eq!(
        subjects.into_iter().collect::<BTreeSet<_>>(),
        [RESULT, "caf.exec.result.v1.*", OWN].map(str::to_owned).into()
    );
}

/// Deletes the log while executors report and repeat, and asserts what must hold then.
async fn loses_its_log_under_load(stage: &Stage) {
    let publishing = Publishing::start(&stage.caller, 300, make);
    publishing.reaches(300).await;
    stage.caller.jetstream.delete_stream("BEAMLINE_LOG").await.unwrap();
    publishing.goes_on(600).await;
    publishing.stop().await;
    holds(&stage.caller, &[&stage.worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_enter_a_log_made_anew_before_the_results_that_executors_repeat() {
    let stage = Stage::with(quick).await;
    put_all(&stage.caller).await;
    loses_its_log_under_load(&stage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_that_race_make_one_log_with_policies_first() {
    let broker = Broker::start().await;
    let workers = tokio::join!(Worker::start(&broker, quick), Worker::start(&broker, quick));
    let caller = Caller::connect(&broker).await;
    put_all(&caller).await;
    let publishing = Publishing::start(&caller, 300, make);
    for _ in 0..3 {
        publishing.goes_on(100).await;
        caller.jetstream.delete_stream("BEAMLINE_LOG").await.unwrap();
        publishing.goes_on(300).await;
    }
    publishing.stop().await;
    holds(&caller, &[&workers.0, &workers.1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_as_it_makes_the_log_is_replaced_by_the_other() {
    let broker = Broker::start().await;
    let (mut first, second) = tokio::join!(Worker::start(&broker, quick), Worker::start(&broker, quick));
    let caller = Caller::connect(&broker).await;
    put_all(&caller).await;
    let publishing = Publishing::start(&caller, 300, make);
    publishing.reaches(100).await;
    // The other one is not there while this one makes the log, and this one not when it is made.
    second.pause();
    caller.jetstream.delete_stream("BEAMLINE_LOG").await.unwrap();
    eventually("the log is made", RECOVERY, async || {
        caller.jetstream.get_stream("BEAMLINE_LOG").await.is_ok()
    })
    .await;
    first.kill();
    second.resume();
    publishing.goes_on(300).await;
    publishing.stop().await;
    holds(&caller, &[&second]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_left_without_results_is_completed_by_the_next_worker_and_keeps_its_settings() {
    let mut stage = Stage::with(quick).await;
    put_all(&stage.caller).await;
    stage.worker.kill();
    // As a worker leaves it that is killed between the steps; and an operator has been there.
    stage.caller.jetstream.delete_stream("BEAMLINE_LOG").await.unwrap();
    let left = stream::Config {
        name: "BEAMLINE_LOG".to_owned(),
        subjects: vec![OWN.to_owned()],
        max_age: Duration::from_secs(3_600),
        duplicate_window: Duration::from_secs(77),
        allow_direct: true,
        description: Some("an operator's words".to_owned()),
        ..Default::default()
    };
    stage.caller.jetstream.create_stream(left).await.unwrap();
    let publishing = Publishing::start(&stage.caller, 300, make);
    let worker = Worker::start(&stage.broker, quick).await;
    assert!(stage.caller.decided(&request("acme", "r-1")).await["provider_id"].is_string());
    publishing.reaches(300).await;
    publishing.stop().await;
    holds(&stage.caller, &[&worker]).await;
    let config = stage.caller.log().await.cached_info().config.clone();
    assert_eq!((config.max_age.as_secs(), config.duplicate_window.as_secs()), (3_600, 77));
    assert_eq!(config.description.as_deref(), Some("an operator's words"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_needs_a_newer_version_of_the_fold_enters_before_results() {
    let mut stage = Stage::with(quick).await;
    put_all(&stage.caller).await;
    let mut listed = policy(&["a", "b"], quick_breaker());
    listed["assignment_subjects"] = json!(["caf.exec.assign.gpu.eu"]);
    stage.put_once_the_fold_has(3, "acme", &listed).await;
    loses_its_log_under_load(&stage).await;
    assert!(stage.caller.decided(&request("acme", "r-1")).await["provider_id"].is_string());
    // One that starts finds it in the bucket alone.
    stage.worker.kill();
    stage.caller.jetstream.delete_stream("BEAMLINE_LOG").await.unwrap();
    let worker = Worker::start(&stage.broker, quick).await;
    assert!(stage.caller.decided(&request("acme", "r-2")).await["provider_id"].is_string());
    policies_come_first(&entries(&stage.caller).await.0, TENANTS.len());
    assert_eq!(worker.metrics().await.value("router_policies", &[]), Some(3.0));
}

#[tokio::test]
async fn a_worker_is_not_ready_while_results_cannot_enter() {
    // Its account may make the stream, and not change it.
    let denied = "authorization { users: [\n\
        { user: router, password: router, permissions: { publish: { deny: [\"$JS.API.STREAM.UPDATE.BEAMLINE_LOG\"] } } }\n\
        { user: other, password: other }\n] }";
    let broker = Broker::with_config(denied).await;
    let as_router = |l: Launch| quick(l).env("NATS_USER", "router").env("NATS_PASSWORD", "router");
    let mut worker = Worker::launch(&broker, as_router);
    worker.says("streams: BEAMLINE_LOG takes no results").await;
    eventually("it is said in the metric", SOON, async || {
        worker.metrics().await.value("router_nats_trouble", &[("kind", "streams")]) == Some(1.0)
    })
    .await;
    assert!(!worker.events("results_not_admitted").is_empty());
    // An operator does it.
    let options = async_nats::ConnectOptions::with_user_and_password("other".to_owned(), "other".to_owned());
    let caller = Caller::with(options, &broker.url()).await;
    let mut config = caller.log().await.cached_info().config.clone();
    assert_eq!(config.subjects, [OWN]);
    config.subjects.extend([RESULT.to_owned(), "caf.exec.result.v1.*".to_owned()]);
    caller.jetstream.update_stream(config).await.unwrap();
    worker.ready().await;
    assert!(worker.runs());
}

#[tokio::test]
async fn results_rejected_while_catching_up_are_counted_once() {
    let stage = Stage::start().await;
    stage.caller.put_policy("acme", &policy(&["a"], quick_breaker())).await;
    let config = stage.caller.log().await.cached_info().config.clone();
    // A log that takes results from its first moment on, as an older router makes it.
    stage.worker.pause();
    stage.caller.jetstream.delete_stream("BEAMLINE_LOG").await.unwrap();
    stage.caller.jetstream.create_stream(config).await.unwrap();
    let last = stage.caller.failures("acme", "a", 5).await;
    stage.worker.resume();
    eventually("the worker rebuilds", RECOVERY, async || {
        stage.worker.count("router_log_rebuilds_total").await == 1
    })
    .await;
    stage.worker.recovers().await;
    stage.worker.applied(last).await;
    let rejected = async |worker: &Worker| {
        worker.metrics().await.sum("router_results_total", &[("disposition", "rejected")])
    };
    assert_eq!(rejected(&stage.worker).await, 5.0);
    let caught_up = stage.worker.events("log_caught_up");
    assert_eq!(caught_up.last().unwrap()["rejected"], 5);
    // For one that starts now they are history: it says so in its log, and counts what comes.
    let fresh = Worker::start(&stage.broker, |l| l).await;
    assert_eq!(rejected(&fresh).await, 0.0);
    assert_eq!(fresh.events("log_caught_up")[0]["rejected"], 5);
}
