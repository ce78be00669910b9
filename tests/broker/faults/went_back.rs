//! Buckets that are put back alone from a backup: as old as they were made, and ending before revisions that
//! the log has seen.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::{Backup, Broker, Caller, Launch, Worker, eventually, request};
use crate::traffic::{RECOVERY, agree, policy, quick_breaker};

const BUCKETS: [&str; 2] = ["KV_BEAMLINE_POLICIES", "KV_BEAMLINE_FLAGS"];

fn eager(launch: Launch) -> Launch {
    launch.flag("--reconcile-interval-ms", 500)
}

fn to(provider: &str) -> Value {
    policy(&[provider], quick_breaker())
}

async fn set(caller: &Caller, tenant: Option<&str>, enabled: bool) -> Value {
    let mut body = json!({"scope": "global", "circuit_breaker_enabled": enabled});
    if let Some(tenant) = tenant {
        body["scope"] = json!("tenant");
        body["tenant_id"] = json!(tenant);
    }
    caller.control("flag.set", &body).await
}

/// Repeats a verb until it is done and in force.
async fn in_force(what: &str, verb: impl AsyncFn() -> Value) -> Value {
    eventually(what, RECOVERY, async || {
        let answer = verb().await;
        (answer["ok"] == true && answer["in_force"] == true).then_some(answer)
    })
    .await
}

/// Two workers, a backup of their buckets, and what happened after it was made, which the log holds.
struct Ground {
    broker: Broker,
    workers: Vec<Worker>,
    caller: Caller,
    backup: Backup,
}

async fn ready(workers: &[Worker]) {
    for worker in workers {
        eventually("the worker is ready", RECOVERY, async || worker.reasons().await.is_empty()).await;
    }
}

impl Ground {
    async fn start() -> Self {
        let mut broker = Broker::start().await;
        let workers = vec![Worker::start(&broker, eager).await, Worker::start(&broker, eager).await];
        let caller = Caller::connect(&broker).await;
        for tenant in ["acme", "beta", "same", "edit"] {
            caller.put_policy(tenant, &to("a")).await;
        }
        assert_eq!(set(&caller, None, true).await["ok"], true);
        let backup = Backup::of(&mut broker, &BUCKETS).await;
        ready(&workers).await;
        for provider in ["b", "c", "d"] {
            let answer = in_force("put", async || {
                caller.control("policy.put", &json!({"tenant_id": "acme", "policy": to(provider)})).await
            });
            answer.await;
        }
        caller.put_policy("later", &to("a")).await;
        caller.command("policy.delete", &json!({"tenant_id": "beta", "policy_id": "default"})).await;
        caller.put_policy("edit", &to("b")).await;
        for enabled in [false, true] {
            assert_eq!(set(&caller, None, enabled).await["in_force"], true);
        }
        assert_eq!(set(&caller, Some("acme"), false).await["in_force"], true);
        for worker in &workers {
            worker.follows(&caller).await;
        }
        broker.stop().await;
        Self { broker, workers, caller, backup }
    }

    async fn provider(&self, tenant: &str) -> Value {
        self.caller.decide(&request(tenant, "r-1")).await["decision"]["provider_id"].clone()
    }

    /// Each of several answers, which different workers give.
    async fn every_worker(&self, what: &str, look: impl AsyncFn() -> bool) {
        eventually(what, RECOVERY, async || {
            for _ in 0..12 {
                if !look().await {
                    return false;
                }
            }
            true
        })
        .await;
    }

    /// What is in force stands in the buckets again, and verbs work.
    async fn is_put_right(&self) {
        let caller = &self.caller;
        // The emergency switch first.
        in_force("the switch is off", async || set(caller, None, false).await).await;
        self.every_worker("the switch is off everywhere", async || !caller.flag(None).await).await;
        let put = in_force("a put", async || {
            caller.control("policy.put", &json!({"tenant_id": "acme", "policy": to("e")})).await
        })
        .await;
        self.every_worker("it holds everywhere", async || {
            let decided = caller.decide(&request("acme", "r-1")).await;
            decided["decision"]["policy_revision"] == put["revision"]
        })
        .await;
        assert_eq!(self.provider("acme").await, "e");

        let bucket = caller.policies().await;
        eventually("what was put later is put back", RECOVERY, async || {
            bucket.get("later.default").await.unwrap().is_some()
        })
        .await;
        eventually("what was deleted is deleted", RECOVERY, async || {
            bucket.get("beta.default").await.unwrap().is_none()
        })
        .await;
        assert_eq!(self.provider("later").await, "a");
        assert_eq!(caller.decide(&request("beta", "r-1")).await["error"]["code"], "policy_not_found");
        assert!(!caller.flag(Some("acme")).await, "set after the backup");
        // Compare-and-set by what the bucket holds now.
        let same = bucket.entry("same.default").await.unwrap().unwrap().revision;
        let body = json!({"tenant_id": "same", "policy": to("b"), "expected_revision": same});
        in_force("a comparison", async || caller.control("policy.put", &body).await).await;
        self.every_worker("it holds", async || self.provider("same").await == "b").await;

        let workers: Vec<_> = self.workers.iter().collect();
        agree(&workers, caller.log_end().await).await;
        let reported: usize = self.workers.iter().map(|worker| worker.events("bucket_went_back").len()).sum();
        assert!(reported >= 2, "one for each bucket");
        // It is over: nobody finds an older state again.
        let mut again = Worker::start(&self.broker, eager).await;
        assert_eq!(again.events("bucket_went_back"), [] as [Value; 0]);
        assert_eq!(again.count("router_bucket_went_back_total").await, 0);
        // One that is killed takes requests with it.
        assert_eq!(again.stop().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_put_back_alone_under_running_workers_are_put_right_and_verbs_work() {
    let mut ground = Ground::start().await;
    ground.backup.put_back(&ground.broker);
    ground.broker.restart().await;
    ready(&ground.workers).await;
    ground.is_put_right().await;
    assert_eq!(ground.provider("edit").await, "b");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_put_back_alone_while_no_worker_runs_are_put_right_and_what_was_edited_since_holds() {
    let mut ground = Ground::start().await;
    for worker in &mut ground.workers {
        worker.kill();
    }
    ground.backup.put_back(&ground.broker);
    ground.broker.restart().await;
    // As `nats kv put` does it. Its revision is less than the one that the log has seen of the key.
    let bucket = ground.caller.policies().await;
    let revision = bucket.put("edit.default", Bytes::from(to("z").to_string())).await.unwrap();
    for worker in &mut ground.workers {
        *worker = Worker::launch(&ground.broker, eager);
    }
    ready(&ground.workers).await;
    ground.is_put_right().await;
    ground.every_worker("what was edited holds", async || ground.provider("edit").await == "z").await;
    assert!(bucket.entry("edit.default").await.unwrap().unwrap().revision > revision);
}

/// One worker, and a backup of its buckets with one policy.
async fn one_policy() -> (Broker, Worker, Caller, Backup) {
    let mut broker = Broker::start().await;
    let worker = Worker::start(&broker, eager).await;
    let caller = Caller::connect(&broker).await;
    caller.put_policy("acme", &to("a")).await;
    let backup = Backup::of(&mut broker, &BUCKETS).await;
    ready(std::slice::from_ref(&worker)).await;
    (broker, worker, caller, backup)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_went_back_and_was_written_on_past_what_was_seen_is_found_by_the_next_verb() {
    let (mut broker, worker, caller, backup) = one_policy().await;
    let seen = in_force("a put", async || {
        caller.control("policy.put", &json!({"tenant_id": "acme", "policy": to("b")})).await
    })
    .await;
    // The worker sees nothing of the restore, nor of what is put with the nats command line.
    worker.pause();
    broker.stop().await;
    backup.put_back(&broker);
    broker.restart().await;
    let bucket = caller.policies().await;
    let mut last = 0;
    while Some(last) <= seen["revision"].as_u64() {
        last = bucket.put("other.default", Bytes::from(to("a").to_string())).await.unwrap();
    }
    worker.resume();
    ready(std::slice::from_ref(&worker)).await;
    // The first one waits for its key to be put right, and does not keep that from being done.
    let put = caller.control("policy.put", &json!({"tenant_id": "acme", "policy": to("c")})).await;
    assert_eq!((&put["ok"], &put["in_force"]), (&json!(true), &json!(true)), "{put}");
    let decided = caller.decided(&request("acme", "r-1")).await;
    assert_eq!((&decided["provider_id"], &decided["policy_revision"]), (&json!("c"), &put["revision"]));
    assert!(!worker.events("bucket_went_back").is_empty());
    assert_eq!(caller.decided(&request("other", "r-1")).await["provider_id"], "a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_older_by_its_making_is_reported_until_it_is_deleted() {
    let (mut broker, worker, caller, backup) = one_policy().await;
    let made_anew = async || {
        caller.jetstream.delete_stream(BUCKETS[0]).await.unwrap();
        eventually("the bucket is made anew and filled", RECOVERY, async || {
            let bucket = caller.jetstream.get_key_value("BEAMLINE_POLICIES").await.ok()?;
            bucket.get("acme.default").await.ok()?
        })
        .await;
    };
    made_anew().await;
    let put = |provider: &'static str| {
        let caller = &caller;
        async move { caller.control("policy.put", &json!({"tenant_id": "acme", "policy": to(provider)})).await }
    };
    in_force("a put", async || put("b").await).await;
    broker.stop().await;
    backup.put_back(&broker);
    broker.restart().await;

    eventually("the older bucket is reported", RECOVERY, async || {
        worker
            .reasons()
            .await
            .iter()
            .any(|why| why.starts_with("streams: KV_BEAMLINE_POLICIES was made before"))
    })
    .await;
    let refused = put("c").await;
    assert_eq!(refused["error"]["code"], "unavailable", "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("delete it"), "{refused}");
    assert_eq!(caller.decided(&request("acme", "r-1")).await["provider_id"], "b");
    assert_eq!(worker.events("bucket_older").len(), 1);

    made_anew().await;
    in_force("a put", async || put("c").await).await;
    assert_eq!(caller.decided(&request("acme", "r-2")).await["provider_id"], "c");
    ready(std::slice::from_ref(&worker)).await;
}
