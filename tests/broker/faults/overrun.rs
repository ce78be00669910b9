//! A worker that gets more than its subscriptions hold: what is dropped is counted and told, the worker
//! goes on, and of the log nothing is lost.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use crate::support::{Broker, Caller, SOON, Stage, Worker, eventually, request};
use crate::traffic::{RECOVERY, agree, policy, quick_breaker, result};

const DROPPED: &str = "router_nats_slow_consumer_total";

/// Publishes as fast as it can.
async fn flood(caller: &Caller, subject: &str, body: &str, messages: usize) {
    let body = Bytes::from(body.to_owned());
    for _ in 0..messages {
        caller.client.publish(subject.to_owned(), body.clone()).await.unwrap();
    }
    caller.client.flush().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_subscription_is_counted_and_told_and_the_worker_goes_on() {
    let stage = Stage::with(|l| l.flag("--subscription-capacity", 4)).await;
    stage.caller.put_policy("acme", &policy(&["a"], quick_breaker())).await;
    let ack = json!({"assignment_id": "nobody's", "status": "accepted"}).to_string();
    let ask = request("acme", "r-flood").to_string();
    let verb = json!({"tenant_id": "acme", "policy_id": "default"}).to_string();
    let told = |connection: &str| -> u64 {
        let lines = stage.worker.events("nats_slow_consumer");
        let of_it = lines.iter().filter(|line| line["connection"] == connection);
        of_it.map(|line| line["messages"].as_u64().expect("a number of messages")).sum()
    };
    for (connection, subject, body) in [
        ("main", "caf.exec.assign.v1.ack", &ack),
        ("main", "beamline.router.control.v1.policy.get", &verb),
        ("decide", "beamline.router.v1.decide", &ask),
    ] {
        let before = told(connection);
        eventually(&format!("{subject} overruns {connection}, and it is told"), RECOVERY, async || {
            // What piles up while it stands still comes in one rush.
            stage.worker.pause();
            flood(&stage.caller, subject, body, 1_000).await;
            stage.worker.resume();
            told(connection) > before
        })
        .await;
        // What the next flood drops must not be mistaken for what is left of this one.
        let mut counted = 0;
        eventually("all that was dropped is told", RECOVERY, async || {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let last = std::mem::replace(&mut counted, stage.worker.count(DROPPED).await);
            last == counted && told("main") + told("decide") == counted
        })
        .await;
    }
    // The answer to this one may be dropped as well: it is asked again until it comes.
    eventually("it decides", RECOVERY, async || {
        let answer = crate::traffic::ask(stage.caller.client.clone(), request("acme", "r-1"), SOON).await;
        answer.is_ok_and(|(answer, _)| answer["decision"]["provider_id"] == "a")
    })
    .await;
    stage.worker.recovers().await;
    let last = stage.caller.failures("acme", "a", 3).await;
    stage.worker.applied(last).await;
    stage.state_is("acme", "a", "open").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_reader_that_is_overrun_reads_again_and_lacks_nothing() {
    let broker = Broker::start().await;
    let small = Worker::start(&broker, |l| l.flag("--subscription-capacity", 64)).await;
    let peer = Worker::start(&broker, |l| l).await;
    let caller = Caller::connect(&broker).await;
    let tenants = ["acme", "umbra", "zeta"];
    for tenant in tenants {
        caller.put_policy(tenant, &policy(&["a", "b"], quick_breaker())).await;
    }
    // What piles up while it stands still comes in one rush, more than its subscription holds; unless it stood still for
    // so long that the broker holds the rest back.
    let (mut last, mut n) = (0, 0_usize);
    eventually("it is overrun, and sees a gap", RECOVERY * 2, async || {
        small.pause();
        for _ in 0..2_000 {
            let status = if n % 3 == 0 { "success" } else { "error" };
            let body = result(tenants[n % 3], ["a", "b"][n / 3 % 2], &format!("n-{n}"), status);
            let ack = caller.jetstream.publish("caf.exec.result.v1", body.to_string().into()).await.unwrap();
            n += 1;
            if n.is_multiple_of(500) {
                last = ack.await.unwrap().sequence;
            }
        }
        small.resume();
        agree(&[&small, &peer], last).await;
        small.count(DROPPED).await > 0 && small.count("router_log_gaps_total").await > 0
    })
    .await;
    eventually("it is told", SOON, async || !small.events("nats_slow_consumer").is_empty()).await;
    assert!(!small.events("log_consumer_remade").is_empty());
    assert!(small.events("log_entries_gone").is_empty(), "nothing is gone");
    assert_eq!(small.count("router_log_rebuilds_total").await, 0);
    // Each result counts once, as with its peer.
    for disposition in ["applied", "ignored", "late", "duplicate"] {
        let counted = async |worker: &Worker| {
            worker.metrics().await.sum("router_results_total", &[("disposition", disposition)])
        };
        assert_eq!(counted(&small).await, counted(&peer).await, "{disposition}");
    }
    small.recovers().await;
}
