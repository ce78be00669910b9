//! A worker that is stopped and goes on: what waited for it is too old to be decided.

use std::time::{Duration, Instant};

use beamline_router::log::FoldVersion;
use serde_json::json;

use crate::support::{SOON, Stage, Worker, eventually, request};
use crate::traffic::{RECOVERY, ask, policy, quick_breaker};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_waited_in_the_socket_of_a_stopped_worker_are_overloaded_and_later_ones_are_not() {
    const STILL: Duration = Duration::from_secs(4);
    let stage = Stage::start().await;
    stage.caller.put_policy("acme", &policy(&["a"], quick_breaker())).await;
    assert_eq!(stage.caller.decided(&request("acme", "r-1")).await["provider_id"], "a");

    stage.worker.pause();
    let until = Instant::now() + STILL;
    let stale: Vec<_> = (0..40)
        .map(|n| tokio::spawn(ask(stage.caller.client.clone(), request("acme", &format!("s-{n}")), RECOVERY)))
        .collect();
    tokio::time::sleep_until(until.into()).await;
    stage.worker.resume();
    for waited in stale {
        let (answer, took) = waited.await.unwrap().unwrap();
        assert_eq!(answer["error"]["code"], "overloaded", "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("stood still"), "{answer}");
        assert!(took >= Duration::from_secs(1), "{took:?}");
    }
    // It ends by itself, and soon.
    eventually("it decides again", SOON, async || {
        stage.caller.decide(&request("acme", "r-2")).await["decision"]["provider_id"] == "a"
    })
    .await;
    for n in 0..40 {
        stage.caller.decided(&request("acme", &format!("f-{n}"))).await;
    }
    let mut told = stage.worker.events("worker_stood_still");
    told.retain(|line| line["requests"] == "decide");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0]["still_ms"].as_u64() >= Some(1_000), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stood_still_for_less_than_a_request_may_wait_refuses_nothing() {
    let stage = Stage::with(|l| l.flag("--max-queue-ms", 60_000)).await;
    stage.caller.put_policy("acme", &policy(&["a"], quick_breaker())).await;
    stage.worker.pause();
    let until = Instant::now() + Duration::from_secs(2);
    let waits = tokio::spawn(ask(stage.caller.client.clone(), request("acme", "r-1"), RECOVERY));
    tokio::time::sleep_until(until.into()).await;
    stage.worker.resume();
    let (answer, _) = waits.await.unwrap().unwrap();
    assert_eq!(answer["decision"]["provider_id"], "a", "{answer}");
    let told = stage.worker.events("worker_stood_still");
    assert!(told.iter().all(|line| line["requests"] == "control"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_waited_in_the_socket_of_a_stopped_worker_does_not_undo_a_newer_one() {
    const STILL: Duration = Duration::from_secs(4);
    const FORCE: &str = "beamline.router.control.v1.breaker.force";
    let stage = Stage::start().await;
    let other = Worker::start(&stage.broker, |l| l).await;
    stage.caller.put_policy("acme", &policy(&["a"], quick_breaker())).await;
    other.follows(&stage.caller).await;
    let force = |state: &str| json!({"tenant_id": "acme", "provider_id": "a", "state": state}).to_string();

    other.pause();
    let until = Instant::now() + STILL;
    // The broker gives each to one of the two workers at random.
    let waiting: Vec<_> = (0..40)
        .map(|_| {
            let (client, body) = (stage.caller.client.clone(), force("auto"));
            tokio::spawn(async move {
                let asked = async_nats::Request::new().payload(body.into()).timeout(Some(RECOVERY));
                client.send_request(FORCE, asked).await.unwrap()
            })
        })
        .collect();
    tokio::time::sleep_until(until.into()).await;
    eventually("the running worker forces the breaker open", SOON, async || {
        let asked =
            async_nats::Request::new().payload(force("open").into()).timeout(Some(Duration::from_secs(1)));
        stage.caller.client.send_request(FORCE, asked).await.is_ok()
    })
    .await;
    other.resume();
    let mut refused = 0;
    for answer in waiting {
        let answer: serde_json::Value = serde_json::from_slice(&answer.await.unwrap().payload).unwrap();
        if answer["ok"] != true {
            assert_eq!(answer["error"]["code"], "overloaded", "{answer}");
            assert!(answer["error"]["message"].as_str().unwrap().contains("stood still"), "{answer}");
            refused += 1;
        }
    }
    assert!(refused > 0, "some waited in the stopped worker");
    for worker in [&stage.worker, &other] {
        worker.follows(&stage.caller).await;
    }
    for _ in 0..8 {
        assert_eq!(stage.caller.breaker("acme", "a").await["forced"]["state"], "open");
    }
    // It takes verbs again.
    eventually("both workers take verbs", SOON, async || {
        for _ in 0..8 {
            let body = json!({"tenant_id": "acme", "provider_id": "a", "state": "auto"});
            if stage.caller.control("breaker.force", &body).await["ok"] != true {
                return false;
            }
        }
        true
    })
    .await;
}

#[tokio::test]
async fn a_command_that_came_late_into_the_log_changes_nothing() {
    let stage = Stage::with(|l| l.flag("--reconcile-interval-ms", 100)).await;
    stage
        .put_once_the_fold_has(FoldVersion::TIMELY_COMMANDS.0, "acme", &policy(&["a"], quick_breaker()))
        .await;
    let entry = |latest: Option<u64>| json!({"v": 1, "entry": {"tenant_id": "acme", "provider_id": "a", "to": "open", "latest": latest}});
    let late = stage.caller.result_on("beamline.router.v1.log.force", &entry(Some(1))).await;
    stage.worker.applied(late).await;
    stage.state_is("acme", "a", "closed").await;
    assert_eq!(stage.worker.events("log_entry_late")[0]["position"], late);
    let valid = stage.caller.result_on("beamline.router.v1.log.force", &entry(None)).await;
    stage.worker.applied(valid).await;
    stage.state_is("acme", "a", "open").await;
}
