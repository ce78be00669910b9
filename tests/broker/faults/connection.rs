//! The broker goes, or stands still, and comes back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::TcpListener;

use crate::support::{SOON, Stage, eventually, request};
use crate::traffic::{Asking, Publishing, RECOVERY, ask, policy, quick_breaker, result};

#[tokio::test]
async fn a_restarted_broker_is_found_again_and_nothing_is_forgotten() {
    let mut stage = Stage::start().await;
    let breaker = json!({
        "enabled": true, "failure_threshold": 3, "timeout_ms": 2000, "success_threshold": 1
    });
    stage.caller.put_policy("acme", &policy(&["a"], breaker)).await;
    let last = stage.caller.failures("acme", "a", 3).await;
    stage.worker.applied(last).await;
    stage.state_is("acme", "a", "open").await;
    let before = stage.worker.standing().await;

    stage.broker.kill();
    stage.worker.says("nats: not connected").await;
    assert_eq!(stage.worker.metrics().await.value("router_nats_connected", &[]), Some(0.0));
    assert_eq!(stage.worker.get("/healthz").await.unwrap().status, 200);
    assert_eq!(stage.worker.standing().await, before, "it goes on from what it has");
    // Somebody who hangs up stands where the broker was, so that the library tells of each try.
    let lost = Instant::now();
    let nobody = TcpListener::bind(("127.0.0.1", stage.broker.port())).await.unwrap();
    let tries = async {
        for _ in 0..12 {
            nobody.accept().await.unwrap();
        }
    };
    tokio::time::timeout(RECOVERY, tries).await.expect("it tries on");
    drop(nobody);
    stage.broker.restart().await;
    stage.worker.recovers().await;
    let most = 1 + lost.elapsed().as_secs() / 10;
    let told = stage.worker.events("nats_client_error");
    assert_eq!(told[0]["stands_for"], 1, "the first at once");
    let logs = stage.worker.logs();
    let libraries = logs.iter().filter(|line| line["target"] == "async_nats::connector");
    // The same is told once in ten seconds.
    let mut same = BTreeMap::<_, u64>::new();
    for line in told.iter().chain(libraries) {
        *same.entry(format!("{} {} {}", line["target"], line["message"], line["error"])).or_default() += 1;
    }
    assert!(same.keys().any(|line| line.contains("async_nats::connector")), "{same:#?}");
    assert!(same.values().all(|lines| *lines <= most), "{most} lines at most: {same:#?}");
    let connected = stage.worker.events("nats_connected");
    assert!(connected[1]["faults"].as_u64().unwrap() > most, "{connected:#?}");

    let metrics = stage.worker.metrics().await;
    assert_eq!(metrics.sum("router_nats_reconnects_total", &[]), 1.0);
    assert_eq!(metrics.sum("router_log_rebuilds_total", &[]), 0.0);
    assert_eq!(stage.worker.standing().await, before, "the same log, and nothing new in it");
    // The circuit goes its way: half-open, probed, closed.
    stage.caller.probe_succeeds("acme").await;
    stage.caller.breaker_becomes("acme", "a", "closed").await;
    assert_eq!(stage.caller.decided(&request("acme", "r-1")).await["reason"], "weighted");
}

#[tokio::test]
async fn a_broker_that_lost_its_store_gets_its_policies_back() {
    let stage = Stage::start().await;
    stage.caller.put_policy("acme", &policy(&["a"], quick_breaker())).await;
    // Another broker on the same port, with an empty store: a worker's memory is all there is.
    let Stage { caller, worker, mut broker } = stage;
    let port = broker.port();
    broker.kill();
    let mut empty = crate::support::Broker::prepare(port, "");
    empty.restart().await;
    worker.recovers().await;
    eventually("the policy is back", RECOVERY, async || {
        let answer = ask(caller.client.clone(), request("acme", "r-1"), SOON).await;
        answer.is_ok_and(|(answer, _)| answer["decision"]["provider_id"] == "a")
    })
    .await;
    assert!(caller.policies().await.get("acme.default").await.unwrap().is_some());
    assert_eq!(worker.count("router_log_rebuilds_total").await, 1);
    let last = caller.failures("acme", "a", 3).await;
    worker.applied(last).await;
    caller.breaker_becomes("acme", "a", "open").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_stood_still_for_twenty_seconds_costs_no_entry_and_no_restart() {
    const STILL: Duration = Duration::from_secs(20);
    let mut stage = Stage::start().await;
    stage.caller.put_policy("acme", &policy(&["a"], quick_breaker())).await;
    stage.caller.put_policy("calm", &policy(&["b", "c"], quick_breaker())).await;
    let last = stage.caller.failures("acme", "a", 3).await;
    stage.worker.applied(last).await;
    stage.state_is("acme", "a", "open").await;
    let publishing = Publishing::start(&stage.caller, 200, |n| {
        result("calm", if n % 2 == 0 { "b" } else { "c" }, &format!("n-{n}"), "success")
    });
    publishing.reaches(100).await;

    stage.broker.pause();
    let until = std::time::Instant::now() + STILL;
    stage.worker.says("log: cannot be reached").await;
    assert_eq!(stage.worker.get("/healthz").await.unwrap().status, 200);
    // What is asked now waits in the broker's socket and is answered when it wakes.
    let late = tokio::spawn(ask(stage.caller.client.clone(), request("calm", "r-late"), STILL * 2));
    tokio::time::sleep_until(until.into()).await;
    assert!(stage.worker.runs());
    stage.broker.resume();
    let asking = Asking::start(&stage.caller.client, "calm", 50, Duration::from_secs(10));
    stage.worker.recovers().await;
    publishing.goes_on(200).await;

    let (answer, _) = late.await.unwrap().unwrap();
    assert!(answer["ok"] == true || answer["error"]["code"] == "overloaded", "{answer}");
    let asked = asking.stop().await;
    assert_eq!(asked.decided, asked.sent, "who came after it woke was served: {asked:?}");
    // Half-open works: the deadline has passed long ago.
    stage.caller.probe_succeeds("acme").await;
    stage.caller.breaker_becomes("acme", "a", "closed").await;

    let published = publishing.stop().await;
    stage.worker.applied(published.last).await;
    let metrics = stage.worker.metrics().await;
    let copies = metrics.sum("router_results_total", &[("disposition", "duplicate")]);
    let all = metrics.sum("router_results_total", &[("status", "success")]);
    // The probe's is one more.
    assert_eq!(all - copies, (published.results + 1) as f64, "each counts once");
    assert_eq!(metrics.sum("router_log_rebuilds_total", &[]), 0.0);
    assert_eq!(metrics.sum("router_log_gaps_total", &[]), 0.0);
}
