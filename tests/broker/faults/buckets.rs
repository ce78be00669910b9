//! What stands in a bucket comes into force, whoever wrote it and however they ended.

use bytes::Bytes;
use serde_json::Value;

use crate::support::{Broker, Caller, Launch, SOON, Stage, Worker, eventually, request};
use crate::traffic::{policy, quick_breaker};

fn eager(launch: Launch) -> Launch {
    launch.flag("--reconcile-interval-ms", 200)
}

/// A policy with one provider.
fn to(provider: &str) -> Value {
    policy(&[provider], quick_breaker())
}

/// As `nats kv put` does it.
async fn put(caller: &Caller, key: &str, value: impl ToString) -> u64 {
    caller.policies().await.put(key, Bytes::from(value.to_string())).await.unwrap()
}

/// Waits until a tenant's requests go to this provider.
async fn routes_to(caller: &Caller, tenant: &str, provider: &str) {
    let what = format!("{tenant} is routed to {provider}");
    eventually(&what, SOON, async || {
        caller.decide(&request(tenant, "r-1")).await["decision"]["provider_id"] == provider
    })
    .await;
}

/// How many entries of policies the log holds.
async fn entries(caller: &Caller) -> usize {
    let log = caller.log().await;
    let info = log.info_with_subjects("beamline.router.v1.log.policy").await.unwrap();
    futures_util::TryStreamExt::try_collect::<Vec<_>>(info).await.unwrap().iter().map(|(_, n)| *n).sum()
}

#[tokio::test]
async fn an_edit_with_the_nats_command_line_is_followed() {
    let stage = Stage::with(eager).await;
    let revision = put(&stage.caller, "acme.default", to("a")).await;
    routes_to(&stage.caller, "acme", "a").await;
    let decision = stage.caller.decided(&request("acme", "r-1")).await;
    assert_eq!(decision["policy_revision"], revision);

    put(&stage.caller, "acme.default", to("b")).await;
    routes_to(&stage.caller, "acme", "b").await;

    // What cannot run changes nothing, and is told.
    put(&stage.caller, "acme.default", "{\"policy_id\": \"default\"}").await;
    put(&stage.caller, "acme.other", "no json").await;
    eventually("it is told", SOON, async || stage.worker.events("bucket_value_refused").len() >= 2).await;
    assert_eq!(stage.caller.decided(&request("acme", "r-1")).await["provider_id"], "b");

    // A delete of the key is a delete of the policy.
    stage.caller.policies().await.delete("acme.default").await.unwrap();
    eventually("the policy is gone", SOON, async || {
        stage.caller.decide(&request("acme", "r-1")).await["error"]["code"] == "policy_not_found"
    })
    .await;
    // A put by the verb is newer than all that.
    stage.caller.put_policy("acme", &to("c")).await;
    assert_eq!(stage.caller.decided(&request("acme", "r-1")).await["provider_id"], "c");
}

#[tokio::test]
async fn a_flag_set_with_the_nats_command_line_is_followed() {
    let stage = Stage::with(eager).await;
    stage.caller.put_policy("acme", &to("a")).await;
    stage.fail("acme", "a", 3).await;
    assert_eq!(stage.caller.decide(&request("acme", "r-1")).await["error"]["code"], "circuit_open");
    let flags = stage.caller.jetstream.get_key_value("BEAMLINE_FLAGS").await.unwrap();
    flags.put("global", Bytes::from_static(b"{\"circuit_breaker_enabled\": false}")).await.unwrap();
    routes_to(&stage.caller, "acme", "a").await;
    flags.delete("global").await.unwrap();
    eventually("breakers judge again", SOON, async || stage.caller.flag(None).await).await;
}

#[tokio::test]
async fn a_policy_whose_writer_died_before_the_log_had_it_comes_into_force_once() {
    // What a worker leaves that dies between the two: a revision in the bucket and no entry.
    let broker = Broker::start().await;
    let caller = Caller::connect(&broker).await;
    let mut dies = Worker::start(&broker, |l| l).await;
    caller.put_policy("acme", &to("a")).await;
    dies.kill();
    put(&caller, "acme.default", to("b")).await;
    assert_eq!(entries(&caller).await, 1);

    let first = Worker::launch(&broker, eager);
    let second = Worker::launch(&broker, eager);
    for mut worker in [first, second] {
        worker.ready().await;
        routes_to(&caller, "acme", "b").await;
        worker.kill();
    }
    assert_eq!(entries(&caller).await, 2, "two workers appended it once");

    // And while workers run: each sees it by itself, and it is entered once.
    let workers = [Worker::start(&broker, eager).await, Worker::start(&broker, eager).await];
    put(&caller, "acme.default", to("c")).await;
    for worker in &workers {
        worker.applied(3).await;
    }
    routes_to(&caller, "acme", "c").await;
    let compared = put(&caller, "zeta.default", to("z")).await;
    routes_to(&caller, "zeta", "z").await;
    assert!(compared > 0);
    assert_eq!(entries(&caller).await, 4);
}

#[tokio::test]
async fn a_bucket_made_anew_holds_and_what_it_lost_is_put_back() {
    let mut stage = Stage::with(eager).await;
    stage.caller.put_policy("acme", &to("a")).await;
    stage.caller.put_policy("lost", &to("a")).await;
    stage.caller.jetstream.delete_key_value("BEAMLINE_POLICIES").await.unwrap();
    let again = async_nats::jetstream::kv::Config {
        bucket: "BEAMLINE_POLICIES".to_owned(),
        history: 64,
        ..Default::default()
    };
    let bucket = stage.caller.jetstream.create_key_value(again).await.unwrap();
    // Its revisions begin again at 1 and are newer all the same.
    bucket.put("acme.default", Bytes::from(to("b").to_string())).await.unwrap();
    routes_to(&stage.caller, "acme", "b").await;
    eventually("what was lost is put back", SOON, async || {
        bucket.get("lost.default").await.unwrap().is_some()
    })
    .await;
    eventually("under a revision of the new bucket", SOON, async || {
        let want = bucket.entry("lost.default").await.unwrap().unwrap().revision;
        stage.caller.decided(&request("lost", "r-1")).await["policy_revision"] == want
    })
    .await;
    // A key that is purged, its marker and all, is a delete to who compares the whole bucket.
    let stream = stage.caller.jetstream.get_stream("KV_BEAMLINE_POLICIES").await.unwrap();
    stream.purge().filter("$KV.BEAMLINE_POLICIES.lost.default").await.unwrap();
    put(&stage.caller, "acme.default", to("c")).await;
    routes_to(&stage.caller, "acme", "c").await;
    stage.worker.kill();
    let _again = Worker::start(&stage.broker, eager).await;
    eventually("what was purged is gone", SOON, async || {
        stage.caller.decide(&request("lost", "r-1")).await["error"]["code"] == "policy_not_found"
    })
    .await;
    assert_eq!(stage.caller.decided(&request("acme", "r-1")).await["provider_id"], "c");
}
