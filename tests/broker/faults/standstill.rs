//! A worker that is stopped and goes on: what waited for it is too old to be decided.

use std::time::{Duration, Instant};

use crate::support::{SOON, Stage, eventually, request};
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
    let told = stage.worker.events("worker_stood_still");
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
    assert!(stage.worker.events("worker_stood_still").is_empty());
}
