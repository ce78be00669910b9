//! Steps of a rollout, as workers take them from the log.

use std::collections::{BTreeMap, BTreeSet};

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::DiscardPolicy;
use beamline_router::domain::arm_hash;
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};

use crate::support::{Caller, Launch, SOON, Stage, Worker, eventually, request};
use crate::traffic::{RECOVERY, agree, result};

/// Later than the stream of rollouts is made: workers take away what an earlier stream laid over policies.
const MADE: i64 = i64::MAX;

/// A step of the rollout `cb` over `acme`, as a router writes it: its place in the log.
async fn step(caller: &Caller, n: u64, percent: u8) -> u64 {
    append(caller, n, overlay(percent, 300_000, 120_000)).await
}

fn overlay(percent: u8, block_ms: u64, settle_ms: u64) -> Value {
    json!({
        "circuit_breaker": {"failure_threshold": 3, "timeout_ms": 60_000},
        "tenants": {"acme": {"percent": percent, "split": 50}},
        "evidence": {
            "block_ms": block_ms, "settle_ms": settle_ms, "max_stale_ms": 600_000, "sample_ppm": 1_000_000
        }
    })
}

/// A step that lays this over policies: its place in the log.
async fn append(caller: &Caller, n: u64, overlay: Value) -> u64 {
    let mut entry = json!({"v": 1, "entry": {"rollout": "cb", "made": MADE, "n": n, "at_seq": n}});
    if overlay.is_object() {
        entry["entry"]["overlay"] = overlay;
    }
    let sent = caller.jetstream.publish("beamline.router.v1.log.step", entry.to_string().into()).await;
    sent.unwrap().await.unwrap().sequence
}

async fn policy_of(caller: &Caller) -> Value {
    caller.control("policy.get", &json!({"tenant_id": "acme", "policy_id": "default"})).await
}

/// Which of the requests `r-0` to `r-199` are refused.
async fn refused(caller: &Caller) -> Vec<usize> {
    let mut refused = Vec::new();
    for n in 0..200 {
        let answer = caller.decide(&request("acme", &format!("r-{n}"))).await;
        if answer["ok"] == false {
            assert_eq!(answer["error"]["code"], "circuit_open", "{answer}");
            refused.push(n);
        }
    }
    refused
}

/// The router's own entries of a kind that are in the log.
async fn entries(caller: &Caller, kind: &str) -> Vec<Value> {
    let config = pull::Config {
        ack_policy: AckPolicy::None,
        filter_subject: format!("beamline.router.v1.log.{kind}"),
        ..Default::default()
    };
    let consumer = caller.log().await.create_consumer(config).await.unwrap();
    let pending = consumer.cached_info().num_pending as usize;
    if pending == 0 {
        return Vec::new();
    }
    let messages = consumer.fetch().max_messages(pending).messages().await.unwrap();
    let messages: Vec<_> = messages.try_collect().await.unwrap();
    messages.iter().map(|m| serde_json::from_slice::<Value>(&m.payload).unwrap()["entry"].take()).collect()
}

/// The last tally of each run of a worker.
async fn tallies(caller: &Caller) -> BTreeMap<u64, Value> {
    entries(caller, "tally").await.into_iter().map(|tally| (tally["boot"].as_u64().unwrap(), tally)).collect()
}

/// Counts of a tenant, treated and control, over all runs.
fn total(tallies: &BTreeMap<u64, Value>, what: &str) -> [u64; 2] {
    [0, 1].map(|arm| {
        tallies.values().filter_map(|tally| tally["tenants"]["acme"][what][arm].as_u64()).sum::<u64>()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_write_what_becomes_of_watched_requests() {
    let mut stage = Stage::start().await;
    let mut second = Worker::start(&stage.broker, |launch| launch).await;
    let caller = stage.caller.clone();
    let document = json!({
        "policy_id": "default", "providers": [{"name": "a", "weight": 100}],
    });
    caller.put_policy("acme", &document).await;
    caller.put_policy("beta", &document).await;
    assert_eq!(refused(&caller).await, [] as [usize; 0]);
    let at = step(&caller, 1, 50).await;
    agree(&[&stage.worker, &second], at).await;
    eventually("each worker has written a tally", SOON, async || tallies(&caller).await.len() == 2).await;
    stage.fail("acme", "a", 3).await;
    agree(&[&stage.worker, &second], caller.log_end().await).await;
    let treated = refused(&caller).await;
    for n in 0..10 {
        caller.decide(&request("beta", &format!("r-{n}"))).await;
    }
    // Each writes what is left when it stops.
    for worker in [&mut stage.worker, &mut second] {
        worker.stop().await;
    }
    let tallies = tallies(&caller).await;
    assert!(tallies.values().all(|tally| tally["last"] == true && tally["enforcing"] == true), "{tallies:?}");
    assert!(tallies.values().all(|tally| tally["tenants"]["beta"].is_null()), "nobody watches it");
    let refusals = treated.len() as u64;
    assert_eq!(total(&tallies, "asked"), [refusals, 200 - refusals], "only those under the step");
    assert_eq!(total(&tallies, "no_provider"), [refusals, 0]);
    assert_eq!(total(&tallies, "spared"), [0, 200 - refusals]);
    let met = entries(&caller, "met").await;
    let fates = |fate: &str| -> BTreeSet<u64> {
        let all = met.iter().flat_map(|entry| entry["met"].as_array().unwrap());
        all.filter(|met| met["fate"] == fate).map(|met| met["hash"].as_u64().unwrap()).collect()
    };
    let hashes: BTreeSet<_> = treated.iter().map(|n| arm_hash(&format!("r-{n}"))).collect();
    assert_eq!(fates("no_provider"), hashes);
    assert_eq!(fates("spared").len() as u64, 200 - refusals);
    for (boot, tally) in &tallies {
        let numbers: Vec<_> =
            met.iter().filter(|e| e["boot"] == *boot).map(|e| e["number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=tally["met"].as_u64().unwrap()).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_holds_on_every_worker_and_at_every_start_and_leaves_the_document_alone() {
    let stage = Stage::start().await;
    let second = Worker::start(&stage.broker, |launch| launch).await;
    let caller = &stage.caller;
    let document = json!({"policy_id": "default", "providers": [{"name": "a", "weight": 100}]});
    let revision = caller.put_policy("acme", &document).await;
    stage.fail("acme", "a", 5).await;
    assert_eq!(refused(caller).await, [] as [usize; 0], "no breaker is on");

    let at = step(caller, 1, 50).await;
    agree(&[&stage.worker, &second], at).await;
    let got = policy_of(caller).await;
    assert_eq!((&got["policy"], &got["revision"]), (&document, &json!(revision)));
    assert_eq!(got["rollout"], json!({"id": "cb", "step": 1, "percent": 50}));
    let block = &got["effective"]["circuit_breaker"];
    let settings = (&block["enabled"], &block["enforce_percent"], &block["failure_threshold"]);
    assert_eq!(settings, (&json!(true), &json!(50), &json!(3)));

    stage.fail("acme", "a", 3).await;
    stage.state_is("acme", "a", "open").await;
    assert_eq!(caller.breaker("acme", "a").await["rollout"], got["rollout"]);
    agree(&[&stage.worker, &second], caller.log_end().await).await;
    let treated = refused(caller).await;
    assert!((60..=140).contains(&treated.len()), "{treated:?}");
    assert_eq!(refused(caller).await, treated, "by the request, whichever worker decides");
    let mut asked = request("acme", &format!("r-{}", (0..200).find(|n| !treated.contains(n)).unwrap()));
    asked["explain"] = json!(true);
    let explanation = caller.decided(&asked).await["explanation"].clone();
    assert_eq!(
        (&explanation["rollout"], &explanation["steps"][0]["result"]),
        (&got["rollout"], &json!("would_reject"))
    );
    assert!(explanation["position"].as_u64() >= Some(at), "{explanation}");

    // A worker that reads the log from its beginning comes to the same.
    let third = Worker::start(&stage.broker, |launch| launch).await;
    agree(&[&stage.worker, &second, &third], caller.log_end().await).await;

    let back = step(caller, 2, 0).await;
    agree(&[&stage.worker, &second, &third], back).await;
    assert_eq!(refused(caller).await, [] as [usize; 0], "rolled back");
    assert_eq!(caller.breaker("acme", "a").await["state"], "open", "it goes on judging");
    step(caller, 1, 99).await;
    assert_eq!(policy_of(caller).await["rollout"], json!({"id": "cb", "step": 2, "percent": 0}));

    // The operator's hand is stronger.
    let mut own = document.clone();
    own["circuit_breaker"] = json!({"enabled": true, "enforce_percent": 100, "failure_threshold": 9});
    caller.put_policy("acme", &own).await;
    eventually("the tenant has left", SOON, async || policy_of(caller).await["rollout"].is_null()).await;
    let breaker = caller.breaker("acme", "a").await;
    assert_eq!((&breaker["rollout"], &breaker["settings"]["failure_threshold"]), (&Value::Null, &json!(9)));
}

const CLOSED: &str = "router_rollout_windows_closed_total";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_close_the_same_windows_and_one_that_restarts_goes_on_with_them() {
    // The hash of a snapshot covers the evidence.
    let snapshots = |launch: Launch| launch.flag("--snapshot-every", 100);
    let stage = Stage::with(snapshots).await;
    let mut second = Worker::start(&stage.broker, snapshots).await;
    let caller = &stage.caller;
    let document = json!({"policy_id": "default", "providers": [{"name": "a", "weight": 100}]});
    caller.put_policy("acme", &document).await;
    append(caller, 1, overlay(50, 1_000, 200)).await;
    let mut n = 0;
    let mut closes = async |worker: &Worker, least: u64| {
        eventually("windows close", RECOVERY, async || {
            for _ in 0..10 {
                n += 1;
                let id = format!("r-{n}");
                caller.decide(&request("acme", &id)).await;
                let status = if n % 5 < 3 { "error" } else { "success" };
                let mut ended = result("acme", "a", &format!("n-{n}"), status);
                ended["request_id"] = json!(id);
                caller.result(&ended).await;
            }
            worker.count(CLOSED).await >= least
        })
        .await;
    };
    closes(&stage.worker, 3).await;
    let snapshots_of = async |worker: &Worker, outcome: &str| {
        worker.metrics().await.sum("router_log_snapshots_total", &[("outcome", outcome)])
    };
    eventually("a snapshot is stored", SOON, async || {
        snapshots_of(&stage.worker, "stored").await + snapshots_of(&second, "stored").await > 0.0
    })
    .await;
    second.kill();
    second = Worker::start(&stage.broker, snapshots).await;
    assert!(!second.events("snapshot_restored").is_empty(), "it does not begin at the beginning");
    closes(&second, 3).await;
    // A run that was killed is waited for at first, and everybody goes on without it.
    let last = append(caller, 2, Value::Null).await;
    agree(&[&stage.worker, &second], last).await;
    let counted = [&stage.worker, &second].map(|worker| async { worker.count(CLOSED).await });
    let [first, again] = futures_util::future::join_all(counted).await[..] else { unreachable!() };
    assert!(first >= again && again >= 3, "what was read while catching up is not counted: {first}, {again}");
    let mut equal = 0.0;
    for worker in [&stage.worker, &second] {
        assert_eq!(snapshots_of(worker, "differs").await, 0.0, "workers disagree");
        equal += snapshots_of(worker, "equal").await;
    }
    assert!(equal > 0.0, "none was compared");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_serves_once_the_log_knows_that_it_is_there_or_after_a_while() {
    const REASON: &str = "rollout: first tally not written";
    let stage = Stage::start().await;
    let caller = &stage.caller;
    let document = json!({"policy_id": "default", "providers": [{"name": "a", "weight": 100}]});
    caller.put_policy("acme", &document).await;
    step(caller, 1, 50).await;
    eventually("the first worker has written a tally", SOON, async || tallies(caller).await.len() == 1).await;
    let mut config = caller.log().await.cached_info().config.clone();
    config.discard = DiscardPolicy::New;
    let (unlimited, held) = (config.max_messages, caller.log().await.cached_info().state.messages);
    config.max_messages = i64::try_from(held).unwrap();
    caller.jetstream.update_stream(&config).await.unwrap();

    let waits = async |worker: &Worker| {
        worker.says(REASON).await;
        assert_eq!(worker.metrics().await.sum("router_ready", &[]), 0.0);
    };
    let goes_on = async |worker: &Worker| {
        eventually("it waits no more", RECOVERY, async || {
            !worker.reasons().await.iter().any(|reason| reason.contains(REASON))
        })
        .await;
    };
    let second = Worker::launch(&stage.broker, |launch| launch);
    waits(&second).await;
    goes_on(&second).await;
    assert!(!second.events("rollout_tally_failed").is_empty());
    assert_eq!(tallies(caller).await.len(), 1, "the log takes none");

    let third = Worker::launch(&stage.broker, |launch| launch);
    waits(&third).await;
    config.max_messages = unlimited;
    caller.jetstream.update_stream(&config).await.unwrap();
    goes_on(&third).await;
    assert!(tallies(caller).await.len() >= 2, "it has written one");
    third.recovers().await;
}
