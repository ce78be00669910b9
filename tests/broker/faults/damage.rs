//! A value in a bucket that is no document changes nothing, and the last valid one is written back: once,
//! and never over what an operator put.

use async_nats::jetstream::kv::Operation;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::{Broker, Caller, Launch, SOON, Worker, eventually, request};
use crate::traffic::{policy, quick_breaker};

/// What the broker itself writes where a client names a key as the place for its answer.
const PUB_ACK: &str = r#"{"stream":"X","seq":1}"#;
const KEY: &str = "acme.default";

fn eager(launch: Launch) -> Launch {
    launch.flag("--reconcile-interval-ms", 200)
}

fn to(provider: &str) -> Value {
    policy(&[provider], quick_breaker())
}

/// A broker with two workers.
struct Pair {
    workers: [Worker; 2],
    caller: Caller,
    broker: Broker,
}

impl Pair {
    async fn start(settings: fn(Launch) -> Launch) -> Self {
        let broker = Broker::start().await;
        let caller = Caller::connect(&broker).await;
        let workers = [Worker::start(&broker, settings).await, Worker::start(&broker, settings).await];
        Self { workers, caller, broker }
    }

    /// How often something became of damage, on both workers.
    async fn count(&self, outcome: &str) -> f64 {
        let mut sum = 0.0;
        for worker in &self.workers {
            sum += worker.metrics().await.sum("router_bucket_damage_total", &[("outcome", outcome)]);
        }
        sum
    }

    /// Waits until this has become of damage so often.
    async fn counts(&self, outcome: &str, times: f64) {
        let what = format!("{outcome} {times} times");
        eventually(&what, SOON, async || self.count(outcome).await >= times).await;
        assert_eq!(self.count(outcome).await, times, "{outcome}");
    }

    /// Waits until both workers have compared the bucket of policies five times more: what they knew
    /// before is judged by then. Each comparison counts a key that is damaged for it.
    async fn compare(&self) {
        let found = async |worker: &Worker| {
            worker.metrics().await.sum("router_bucket_damage_total", &[("outcome", "found")])
        };
        for n in 0..5 {
            let mut before = Vec::new();
            for worker in &self.workers {
                before.push(found(worker).await);
            }
            damage(&self.caller, &format!("marker.{n}"), "x").await;
            for (worker, before) in self.workers.iter().zip(before) {
                eventually("it is compared", SOON, async || found(worker).await > before).await;
            }
        }
    }
}

/// Writes past the verbs: the revision.
async fn damage(caller: &Caller, key: &str, value: &str) -> u64 {
    caller.policies().await.put(key, Bytes::from(value.to_owned())).await.unwrap()
}

async fn stored(caller: &Caller, key: &str) -> async_nats::jetstream::kv::Entry {
    caller.policies().await.entry(key).await.unwrap().expect("a value")
}

/// Waits until a key holds a document again.
async fn holds(caller: &Caller, key: &str, document: &Value) -> u64 {
    eventually("the document is back", SOON, async || {
        let entry = stored(caller, key).await;
        let value: Option<Value> = serde_json::from_slice(&entry.value).ok();
        (value.as_ref() == Some(document)).then_some(entry.revision)
    })
    .await
}

async fn history(caller: &Caller) -> Vec<Value> {
    let asked = json!({"tenant_id": "acme", "policy_id": "default"});
    caller.command("policy.history", &asked).await["revisions"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_damaged_policy_is_put_back_once_by_two_workers() {
    let pair = Pair::start(eager).await;
    pair.caller.put_policy("acme", &to("a")).await;
    let damaged = damage(&pair.caller, KEY, PUB_ACK).await;
    pair.counts("found", 2.0).await;
    let revision = holds(&pair.caller, KEY, &to("a")).await;
    assert_eq!(revision, damaged + 1);
    pair.counts("put_back", 1.0).await;

    // It is a put like any other, on both workers.
    for worker in &pair.workers {
        worker.follows(&pair.caller).await;
    }
    let decision = pair.caller.decided(&request("acme", "r-1")).await;
    assert_eq!((&decision["provider_id"], &decision["policy_revision"]), (&json!("a"), &json!(revision)));
    let last = history(&pair.caller).await.pop().unwrap();
    assert_eq!((&last["actor"], &last["revision"]), (&json!("router"), &json!(revision)));
    assert_eq!(last["policy"], to("a"));
    let told: Vec<_> = pair.workers.iter().flat_map(|w| w.events("bucket_value_put_back")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["tenant_id"], &told[0]["policy_id"]), (&json!("acme"), &json!("default")));
    let log = pair.caller.log().await;
    let subjects = log.info_with_subjects("beamline.router.v1.log.policy").await.unwrap();
    let entries: Vec<_> = futures_util::TryStreamExt::try_collect(subjects).await.unwrap();
    assert_eq!(entries, [("beamline.router.v1.log.policy".to_owned(), 2)]);

    pair.compare().await;
    assert_eq!(stored(&pair.caller, KEY).await.revision, revision, "and it ends there");
    assert_eq!(pair.count("put_back").await, 1.0);
}

/// As many values as the bucket keeps of a key, each written by the broker for a result's sender.
#[tokio::test]
async fn a_history_that_is_full_of_damage_loses_no_policy() {
    let mut pair = Pair::start(eager).await;
    pair.caller.put_policy("acme", &to("a")).await;
    for n in 0..64 {
        let result = json!({"request_id": format!("x-{n}"), "status": "success", "provider_id": "a", "tenant_id": "acme"});
        let reply = format!("$KV.BEAMLINE_POLICIES.{KEY}");
        let body = Bytes::from(result.to_string());
        pair.caller.client.publish_with_reply("caf.exec.result.v1", reply, body).await.unwrap();
    }
    eventually("the history holds no document", SOON, async || {
        let revisions = history(&pair.caller).await;
        let put_back = revisions.iter().any(|r| r["actor"] == "router");
        put_back || revisions.len() == 64 && revisions.iter().all(|r| r["policy"]["stream"] == "BEAMLINE_LOG")
    })
    .await;
    holds(&pair.caller, KEY, &to("a")).await;
    pair.compare().await;
    assert_eq!(pair.caller.decided(&request("acme", "r-1")).await["provider_id"], "a");
    let revisions = history(&pair.caller).await;
    assert_eq!(revisions.iter().filter(|r| r["policy"]["stream"] == "BEAMLINE_LOG").count(), 63);
    // Nor does one that starts with it.
    for worker in &mut pair.workers {
        worker.kill();
    }
    let _again = Worker::start(&pair.broker, eager).await;
    assert_eq!(pair.caller.decided(&request("acme", "r-1")).await["provider_id"], "a");
}

#[tokio::test]
async fn what_an_operator_puts_stays_whenever_it_comes() {
    let pair = Pair::start(|l| l.flag("--reconcile-interval-ms", 100)).await;
    pair.caller.put_policy("acme", &to("p-0")).await;
    // Around the moment at which it is put back, from before it is found until after it is done.
    for n in 1..=20_u64 {
        damage(&pair.caller, KEY, PUB_ACK).await;
        if n == 20 {
            holds(&pair.caller, KEY, &to("p-19")).await;
        } else {
            tokio::time::sleep(std::time::Duration::from_millis(20 * n)).await;
        }
        let revision = pair.caller.put_policy("acme", &to(&format!("p-{n}"))).await;
        let decision = pair.caller.decided(&request("acme", "r-1")).await;
        assert!(decision["policy_revision"].as_u64() <= Some(revision));
    }
    pair.compare().await;
    holds(&pair.caller, KEY, &to("p-20")).await;
    let revisions = history(&pair.caller).await;
    let mut put_back = 0;
    for pair in revisions.windows(2) {
        if pair[1]["actor"] == "router" {
            put_back += 1;
            assert_eq!(pair[0]["policy"]["stream"], "X", "put back over a document: {pair:?}");
        }
    }
    assert!(put_back > 0, "the last one was put back before the operator came");
    for n in 1..=20 {
        assert!(revisions.iter().any(|r| r["policy"] == to(&format!("p-{n}"))), "p-{n} was put");
    }
    assert!(pair.count("put_back").await >= f64::from(put_back));
}

#[tokio::test]
async fn a_damaged_flag_is_put_back() {
    let pair = Pair::start(eager).await;
    let off =
        json!({"scope": "tenant", "tenant_id": "acme", "circuit_breaker_enabled": false, "actor": "dana"});
    pair.caller.command("flag.set", &off).await;
    let flags = pair.caller.jetstream.get_key_value("BEAMLINE_FLAGS").await.unwrap();
    let damaged = flags.put("tenant.acme", Bytes::from(PUB_ACK)).await.unwrap();
    let never = flags.put("tenant.globex", Bytes::from("no json")).await.unwrap();
    eventually("the switch is back", SOON, async || {
        let entry = flags.entry("tenant.acme").await.unwrap().unwrap();
        entry.revision > damaged
            && serde_json::from_slice::<Value>(&entry.value)
                .is_ok_and(|v| v == json!({"circuit_breaker_enabled": false}))
    })
    .await;
    pair.counts("put_back", 1.0).await;
    pair.counts("left", 2.0).await;
    let entry = flags.entry("tenant.globex").await.unwrap().unwrap();
    assert_eq!((entry.revision, entry.value.as_ref()), (never, &b"no json"[..]), "it was never set");
    for worker in &pair.workers {
        worker.follows(&pair.caller).await;
    }
    let asked = json!({"scope": "tenant", "tenant_id": "acme"});
    let flag = pair.caller.command("flag.get", &asked).await["flags"][0].clone();
    assert_eq!((&flag["circuit_breaker_enabled"], &flag["revision"]), (&json!(false), &json!(never + 1)));
}

#[tokio::test]
async fn what_was_damaged_while_no_worker_ran_is_put_back() {
    let mut pair = Pair::start(eager).await;
    pair.caller.put_policy("acme", &to("a")).await;
    pair.caller.put_policy("gone", &to("a")).await;
    pair.caller.command("policy.delete", &json!({"tenant_id": "gone", "policy_id": "default"})).await;
    for worker in &mut pair.workers {
        worker.kill();
    }
    damage(&pair.caller, KEY, PUB_ACK).await;
    let deleted = damage(&pair.caller, "gone.default", PUB_ACK).await;
    let ghost = damage(&pair.caller, "ghost.default", "{\"policy_id\": \"default\"}").await;
    let odd = damage(&pair.caller, "no-key", "x").await;
    pair.workers = [Worker::start(&pair.broker, eager).await, Worker::start(&pair.broker, eager).await];
    assert_eq!(pair.caller.decided(&request("acme", "r-1")).await["provider_id"], "a");
    holds(&pair.caller, KEY, &to("a")).await;
    eventually("the delete is put back", SOON, async || {
        let entry = stored(&pair.caller, "gone.default").await;
        entry.revision > deleted && entry.operation == Operation::Delete
    })
    .await;
    // What was never valid is reported and stays.
    pair.counts("left", 4.0).await;
    for (key, revision) in [("ghost.default", ghost), ("no-key", odd)] {
        assert_eq!(stored(&pair.caller, key).await.revision, revision, "{key}");
    }
    for worker in &pair.workers {
        let told = worker.events("bucket_value_left");
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told.iter().all(|line| line["why"] == "never_valid"), "{told:?}");
    }
    assert_eq!(pair.caller.decide(&request("gone", "r-1")).await["error"]["code"], "policy_not_found");
}

#[tokio::test]
async fn what_would_change_another_policys_breakers_is_not_put_back() {
    let pair = Pair::start(eager).await;
    let of = |id: &str, threshold: u64| {
        let mut policy = policy(&["a"], json!({"enabled": true, "failure_threshold": threshold}));
        policy["policy_id"] = json!(id);
        policy
    };
    pair.caller.put_policy("acme", &of("first", 3)).await;
    pair.caller.put_policy("acme", &of("second", 9)).await;
    let damaged = damage(&pair.caller, "acme.first", PUB_ACK).await;
    pair.counts("left", 2.0).await;
    let told = pair.workers[0].events("bucket_value_left");
    assert_eq!(told[0]["why"], "other_policy", "{told:?}");
    assert_eq!(pair.caller.breaker("acme", "a").await["settings"]["failure_threshold"], 9);
    assert_eq!(stored(&pair.caller, "acme.first").await.revision, damaged);
    // As soon as it changes nothing, it is.
    pair.caller.command("policy.delete", &json!({"tenant_id": "acme", "policy_id": "second"})).await;
    holds(&pair.caller, "acme.first", &of("first", 3)).await;
}
