//! Others on the same broker.

use async_nats::jetstream::stream;
use async_nats::{HeaderMap, jetstream};
use futures_util::StreamExt as _;
use serde_json::json;

use crate::support::{Broker, Caller, SOON, Stage, Worker, request};
use crate::traffic::{policy, quick_breaker, result};

async fn streams(jetstream: &jetstream::Context) -> Vec<String> {
    let mut names: Vec<_> = jetstream.stream_names().map(Result::unwrap).collect().await;
    names.sort_unstable();
    names
}

#[tokio::test]
async fn two_deployments_share_a_broker_and_nothing_else() {
    let stage = Stage::start().await;
    let staging = Worker::start(&stage.broker, |l| {
        l.flag("--router-prefix", "staging.router")
            .flag("--exec-prefix", "staging.exec")
            .flag("--usage-prefix", "staging.usage")
    })
    .await;
    let want = ["BEAMLINE", "KV_BEAMLINE", "KV_STAGING", "STAGING"];
    let of = |base: &str| -> &[&str] {
        if base.starts_with("KV") { &["FLAGS", "POLICIES"] } else { &["EVENTS", "LOG", "ROLLOUTS", "USAGE"] }
    };
    let want: Vec<_> = want.iter().flat_map(|b| of(b).iter().map(move |n| format!("{b}_{n}"))).collect();
    let have: Vec<_> =
        streams(&stage.caller.jetstream).await.into_iter().filter(|n| !n.ends_with("SNAPSHOTS")).collect();
    assert_eq!(have, want);

    stage.caller.put_policy("acme", &policy(&["a"], quick_breaker())).await;
    let ask = async |subject: &str, body: serde_json::Value| {
        stage.caller.ask(subject, HeaderMap::new(), body.to_string()).await.json()
    };
    let answer = ask("staging.router.v1.decide", request("acme", "r-1")).await;
    assert_eq!(answer["error"]["code"], "policy_not_found", "{answer}");
    let put = json!({"tenant_id": "acme", "policy": policy(&["a"], quick_breaker())});
    assert_eq!(ask("staging.router.control.v1.policy.put", put).await["ok"], true);

    for n in 0..3 {
        stage
            .caller
            .result_on("staging.exec.result.v1", &result("acme", "a", &format!("n-{n}"), "error"))
            .await;
    }
    staging.applied(4).await;
    let answer = ask("staging.router.v1.decide", request("acme", "r-1")).await;
    assert_eq!(answer["error"]["code"], "circuit_open", "{answer}");
    stage.state_is("acme", "a", "closed").await;
    assert_eq!(stage.caller.decided(&request("acme", "r-1")).await["provider_id"], "a");
    let metered = stage.caller.jetstream.get_stream("BEAMLINE_USAGE").await.unwrap();
    assert_eq!(metered.cached_info().state.messages, 0);
}

#[tokio::test]
async fn a_stream_that_captures_results_already_is_named_and_the_worker_stops() {
    let broker = Broker::start().await;
    let caller = Caller::connect(&broker).await;
    let taken = stream::Config {
        name: "AUDIT".to_owned(),
        subjects: vec!["caf.exec.result.>".to_owned()],
        ..Default::default()
    };
    caller.jetstream.create_stream(taken).await.unwrap();
    let mut worker = Worker::launch(&broker, |l| l);
    assert_eq!(worker.exit_code(SOON).await, 1);
    let failed = worker.events("worker_failed");
    assert_eq!(failed.len(), 1, "{}", worker.stdout());
    let error = failed[0]["error"].as_str().unwrap();
    for part in ["AUDIT", "caf.exec.result.v1", "BEAMLINE_LOG"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(streams(&caller.jetstream).await, ["AUDIT"], "and made nothing");
}

#[tokio::test]
async fn a_stream_of_our_name_with_other_subjects_stops_the_worker() {
    let broker = Broker::start().await;
    let caller = Caller::connect(&broker).await;
    let foreign = stream::Config {
        name: "BEAMLINE_LOG".to_owned(),
        subjects: vec!["something.else".to_owned()],
        ..Default::default()
    };
    caller.jetstream.create_stream(foreign).await.unwrap();
    let mut worker = Worker::launch(&broker, |l| l);
    assert_eq!(worker.exit_code(SOON).await, 1);
    let error = worker.events("worker_failed")[0]["error"].as_str().unwrap().to_owned();
    assert!(error.contains("BEAMLINE_LOG"), "{error}");
}
