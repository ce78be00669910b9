//! A worker that cannot reach the log for longer than `--max-stale-ms`, and is asked for decisions all the same.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Broker, Caller, Launch, Relay, Worker, eventually, request};
use crate::traffic::{Asking, RECOVERY, ask, policy, quick_breaker};

fn soon_stale(launch: Launch) -> Launch {
    launch.flag("--max-stale-ms", 8_000)
}

/// Whether a connection is one for management: made by the library, which says its own version.
fn is_management(connect: &str) -> bool {
    connect.contains("CONNECT") && !connect.contains(&format!("\"version\":\"{}\"", beamline_nats::VERSION))
}

/// A decision, as soon as there is one that is so.
async fn decides(caller: &Caller, bound: Duration, so: impl Fn(&Value) -> bool) {
    eventually("such a decision", bound, async || {
        let answer = ask(caller.client.clone(), request("acme", "r-1"), Duration::from_secs(2)).await;
        answer.is_ok_and(|(answer, _)| answer["ok"] == true && so(&answer["decision"]))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_state_steps_aside_for_a_fresh_one_and_decides_alone_where_there_is_none() {
    let broker = Broker::start().await;
    let path = Relay::to(broker.port()).await;
    let mut cut_off = Worker::launch_to(&path.url(), soon_stale);
    cut_off.ready().await;
    let caller = Caller::connect(&broker).await;
    caller.put_policy("acme", &policy(&["a"], quick_breaker())).await;
    cut_off.follows(&caller).await;
    decides(&caller, RECOVERY, |decision| decision["stale"].is_null()).await;

    // It hears requests, and nothing of the log.
    path.freeze_those(is_management);
    decides(&caller, RECOVERY, |decision| decision["stale"] == true).await;
    cut_off.says("stale: the log was last confirmed").await;
    assert!(cut_off.count("router_stale_decisions_total").await > 0);

    let fresh = Worker::start(&broker, soon_stale).await;
    eventually("it steps aside", RECOVERY, async || !cut_off.events("serving_paused").is_empty()).await;
    let before = cut_off.count("router_decisions_total").await;
    let asking = Asking::start(&caller.client, "acme", 50, Duration::from_secs(5));
    asking.goes_on(300).await;
    let asked = asking.stop().await;
    assert_eq!(asked.decided, asked.sent, "the other one answers all: {asked:?}");
    assert_eq!(cut_off.count("router_decisions_total").await, before);

    drop(fresh);
    decides(&caller, RECOVERY, |decision| decision["stale"] == true).await;
    path.thaw();
    cut_off.recovers().await;
    decides(&caller, RECOVERY, |decision| decision["stale"].is_null()).await;
}
