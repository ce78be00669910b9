//! Removing a tenant removes what the buckets and the workers hold of it, and nothing of others.

use async_nats::jetstream::kv::Operation;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};

use crate::rollouts::idle;
use crate::support::{Broker, Caller, Launch, SOON, Stage, Worker, cli, eventually, request};
use crate::traffic::{RECOVERY, policy};

fn eager(launch: Launch) -> Launch {
    launch.flag("--reconcile-interval-ms", 200)
}

/// One provider whose breaker opens with the third failure.
fn named(policy_id: &str, weight: u64) -> Value {
    json!({
        "policy_id": policy_id, "providers": [{"name": "a", "weight": weight}],
        "circuit_breaker": {"enabled": true, "failure_threshold": 3, "timeout_ms": 300_000}
    })
}

async fn fail(caller: &Caller, tenant: &str) -> u64 {
    let mut last = 0;
    for n in 0..3 {
        let result = json!({
            "request_id": format!("{tenant}-{n}-{}", uuid::Uuid::new_v4()), "status": "error", "provider_id": "a",
            "tenant_id": tenant, "job": {"type": "text.generate"}, "latency_ms": 0
        });
        last = caller.result(&result).await;
    }
    last
}

/// Policies with history, one of them deleted, a switch that is off, and a breaker that opened before.
async fn settle_in(caller: &Caller, workers: &[Worker], tenant: &str) {
    for weight in 1..=3 {
        caller.put_policy(tenant, &named("default", weight)).await;
        caller.put_policy(tenant, &named("old", weight)).await;
    }
    caller.put_policy(tenant, &named("second", 7)).await;
    caller.command("policy.delete", &json!({"tenant_id": tenant, "policy_id": "old"})).await;
    let last = fail(caller, tenant).await;
    for worker in workers {
        worker.applied(last).await;
    }
    assert_eq!(caller.breaker(tenant, "a").await["state"], "open");
    for enabled in [true, false] {
        switch(caller, tenant, enabled).await;
    }
}

async fn switch(caller: &Caller, tenant: &str, enabled: bool) {
    let flag = json!({"scope": "tenant", "tenant_id": tenant, "circuit_breaker_enabled": enabled});
    caller.command("flag.set", &flag).await;
}

/// How many messages a stream holds below a subject, by subject.
async fn held(caller: &Caller, stream: &str, subject: &str) -> Vec<(String, usize)> {
    let stream = caller.jetstream.get_stream(stream).await.unwrap();
    let mut held: Vec<_> = stream.info_with_subjects(subject).await.unwrap().try_collect().await.unwrap();
    held.sort_unstable();
    held
}

/// What the buckets hold of a tenant: how many messages under each key.
async fn stored(caller: &Caller, tenant: &str) -> Vec<usize> {
    let policies = format!("$KV.BEAMLINE_POLICIES.{tenant}.>");
    let flag = format!("$KV.BEAMLINE_FLAGS.tenant.{tenant}");
    let mut all = held(caller, "KV_BEAMLINE_POLICIES", &policies).await;
    all.extend(held(caller, "KV_BEAMLINE_FLAGS", &flag).await);
    all.into_iter().map(|(_, count)| count).collect()
}

/// Takes away what a stream holds below a subject, of which there must be something.
async fn purge(caller: &Caller, stream: &str, subject: &str) {
    let stream = caller.jetstream.get_stream(stream).await.unwrap();
    let purged = stream.purge().filter(subject).await.unwrap().purged;
    assert!(purged > 0, "{subject}");
}

/// Waits until all workers have compared the bucket of policies beyond what it holds now.
async fn compared(caller: &Caller, workers: &[Worker], key: &str) {
    caller.policies().await.put(key, Bytes::from("x")).await.unwrap();
    for worker in workers {
        eventually("the bucket is compared", SOON, async || {
            worker.events("bucket_value_refused").iter().any(|line| line["key"] == key)
        })
        .await;
    }
}

/// Nothing of acme is in force anywhere, and all of globex is.
async fn is_gone(caller: &Caller, workers: &[Worker]) {
    for worker in workers {
        worker.follows(caller).await;
        let page = worker.get("/metrics").await.unwrap().body;
        assert!(!page.contains("\"acme\""), "{page}");
        assert!(page.contains("\"globex\""));
        assert_eq!(worker.metrics().await.value("router_policies", &[]), Some(2.0));
        let breakers = worker.get("/api/v1/breakers").await.unwrap().body;
        assert!(!breakers.contains("acme") && breakers.contains("globex"), "{breakers}");
    }
    for n in 0..10 {
        let answer = caller.decide(&request("acme", &format!("r-{n}"))).await;
        assert_eq!(answer["error"]["code"], "policy_not_found", "{answer}");
        assert_eq!(caller.decided(&request("globex", &format!("r-{n}"))).await["provider_id"], "a");
    }
    assert_eq!(stored(caller, "acme").await, [1; 4], "a marker under each key");
    let buckets = [("BEAMLINE_POLICIES", "acme.default"), ("BEAMLINE_FLAGS", "tenant.acme")];
    for (bucket, key) in buckets {
        let entry = caller.jetstream.get_key_value(bucket).await.unwrap().entry(key).await.unwrap().unwrap();
        assert_eq!((entry.operation, entry.value.len()), (Operation::Purge, 0), "{key}");
    }
    assert_eq!(stored(caller, "globex").await, [3, 4, 1, 2]);
    for (tenant, enabled) in [("acme", true), ("globex", false)] {
        let flag = caller.command("flag.get", &json!({"scope": "tenant", "tenant_id": tenant})).await;
        assert_eq!(flag["flags"][0]["circuit_breaker_enabled"], enabled, "{tenant}");
    }
    let answer = caller.control("tenant.delete", &json!({"tenant_id": "acme"})).await;
    assert_eq!(answer["error"]["code"], "not_found", "{answer}");
}

#[tokio::test]
async fn a_tenant_that_is_removed_is_gone_from_buckets_and_workers_and_others_stay() {
    let broker = Broker::start().await;
    let caller = Caller::connect(&broker).await;
    let mut workers = vec![Worker::start(&broker, eager).await, Worker::start(&broker, eager).await];
    for tenant in ["acme", "globex"] {
        settle_in(&caller, &workers, tenant).await;
    }
    assert_eq!(stored(&caller, "acme").await, [3, 4, 1, 2]);

    let mut delete = json!({"tenant_id": "acme", "actor": "dana", "reason": "contract ended"});
    let answer = caller.command("tenant.delete", &delete).await;
    let mut policies: Vec<_> = answer["policies"].as_array().unwrap().iter().collect();
    policies.sort_unstable_by_key(|id| id.as_str());
    assert_eq!(policies, ["default", "old", "second"]);
    assert_eq!((&answer["flag"], &answer["complete"]), (&json!(true), &json!(true)), "{answer}");
    assert_eq!((&answer["in_force"], &answer["warnings"]), (&json!(true), &json!([])), "{answer}");
    is_gone(&caller, &workers).await;

    // Who did it stands in the marker and in the log's lines.
    let last = json!({"tenant_id": "acme", "policy_id": "default"});
    let revisions = caller.command("policy.history", &last).await["revisions"].clone();
    assert_eq!(revisions.as_array().unwrap().len(), 1);
    let by = (&revisions[0]["operation"], &revisions[0]["actor"], &revisions[0]["reason"]);
    assert_eq!(by, (&json!("delete"), &json!("dana"), &json!("contract ended")));
    for worker in &workers {
        let changed = worker.events("policy_changed");
        let deleted = changed.iter().filter(|line| line["change"] == "deleted" && line["actor"] == "dana");
        assert_eq!(deleted.count(), 2, "what was in force, and not what was deleted before");
    }

    // A marker is a delete to the comparison: nothing is appended, reported or written back.
    let entries = async || {
        let policies = held(&caller, "BEAMLINE_LOG", "beamline.router.v1.log.policy").await;
        (policies, held(&caller, "BEAMLINE_LOG", "beamline.router.v1.log.flag").await)
    };
    let before = entries().await;
    for n in 0..3 {
        compared(&caller, &workers, &format!("marker.{n}")).await;
    }
    assert_eq!(entries().await, before);
    for worker in &workers {
        let keys: Vec<_> = worker.events("bucket_value_refused").iter().map(|l| l["key"].clone()).collect();
        assert_eq!(keys, ["marker.0", "marker.1", "marker.2"]);
    }

    for worker in &mut workers {
        worker.kill();
    }
    workers = vec![Worker::start(&broker, eager).await, Worker::start(&broker, eager).await];
    compared(&caller, &workers, "marker.9").await;
    is_gone(&caller, &workers).await;
    assert_eq!(entries().await, before);

    // The rest that has a subject of the tenant goes as docs/operations.md says, and stays away.
    let events = async || held(&caller, "BEAMLINE_EVENTS", "beamline.router.v1.events.>").await;
    let others = events().await.into_iter().filter(|(subject, _)| !subject.contains("acme"));
    let others: Vec<_> = others.collect();
    purge(&caller, "KV_BEAMLINE_POLICIES", "$KV.BEAMLINE_POLICIES.acme.>").await;
    purge(&caller, "KV_BEAMLINE_FLAGS", "$KV.BEAMLINE_FLAGS.tenant.acme").await;
    purge(&caller, "BEAMLINE_EVENTS", "beamline.router.v1.events.*.acme").await;
    purge(&caller, "BEAMLINE_EVENTS", "beamline.router.v1.events.*.acme.*").await;
    assert_eq!(events().await, others);
    workers[0].kill();
    workers[0] = Worker::start(&broker, eager).await;
    compared(&caller, &workers, "marker.10").await;
    assert_eq!(stored(&caller, "acme").await, [0; 0]);
    assert_eq!(entries().await, before);

    // Under the same name a tenant begins anew: its breaker is closed, and no switch holds it back.
    caller.put_policy("acme", &named("default", 5)).await;
    assert_eq!(caller.breaker("acme", "a").await["state"], "closed");
    let last = fail(&caller, "acme").await;
    for worker in &workers {
        worker.applied(last).await;
    }
    assert_eq!(caller.decide(&request("acme", "r")).await["error"]["code"], "circuit_open");
    delete["tenant_id"] = json!("nobody");
    assert_eq!(caller.control("tenant.delete", &delete).await["error"]["code"], "not_found");
}

/// As after a worker that died between the bucket and the log.
#[tokio::test]
async fn a_removal_that_was_cut_short_is_finished_by_the_next() {
    let stage = Stage::with(|launch| launch.flag("--reconcile-interval-ms", 600_000)).await;
    let caller = &stage.caller;
    caller.put_policy("a.b", &named("c:d", 1)).await;
    switch(caller, "a.b", false).await;
    caller.policies().await.purge("a=2Eb.c=3Ad").await.unwrap();
    caller.jetstream.get_key_value("BEAMLINE_FLAGS").await.unwrap().purge("tenant.a=2Eb").await.unwrap();
    let policies = caller.command("policy.list", &json!({"tenant_id": "a.b"})).await["policies"].clone();
    assert_eq!(policies.as_array().unwrap().len(), 1, "it is still in force");
    let answer = caller.command("tenant.delete", &json!({"tenant_id": "a.b"})).await;
    assert_eq!((&answer["policies"], &answer["flag"]), (&json!(["c:d"]), &json!(true)), "{answer}");
    assert_eq!(caller.command("policy.list", &json!({})).await["policies"], json!([]));
    let flag = caller.command("flag.get", &json!({"scope": "tenant", "tenant_id": "a.b"})).await;
    assert_eq!(flag["flags"][0]["circuit_breaker_enabled"], true);
    let answer = caller.control("tenant.delete", &json!({"tenant_id": "a.b"})).await;
    assert_eq!(answer["error"]["code"], "not_found", "{answer}");
}

#[tokio::test]
async fn a_tenant_of_many_policies_is_removed_by_one_command() {
    let stage = Stage::start().await;
    let caller = &stage.caller;
    let puts = (0..205).map(|n| async move { caller.put_policy("acme", &named(&format!("p-{n}"), 1)).await });
    for put in puts {
        put.await;
    }
    // What is no policy's key is the tenant's, too.
    caller.policies().await.put("acme.p-1.more", Bytes::from("x")).await.unwrap();
    let sh = async |args: &[&str]| cli(&stage.broker, args).await;
    let done = sh(&["tenant", "delete", "acme"]).await;
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("--yes"), "{done:?}");
    let part = caller.command("tenant.delete", &json!({"tenant_id": "acme"})).await;
    assert_eq!((part["policies"].as_array().unwrap().len(), &part["complete"]), (100, &json!(false)));
    let done = sh(&["tenant", "delete", "acme", "--yes", "--json", "--reason", "it is over"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    let answer: Value = serde_json::from_str(&done.stdout).unwrap();
    let policies = answer["policies"].as_array().unwrap();
    assert_eq!((policies.len(), &answer["complete"]), (106, &json!(true)));
    assert!(policies.contains(&json!("p-1.more")), "{answer}");
    assert_eq!(caller.command("policy.list", &json!({})).await["policies"], json!([]));
    assert_eq!(stored(caller, "acme").await, [1; 206]);
    assert_eq!(sh(&["tenant", "delete", "acme", "--yes"]).await.code, 5);
    caller.put_policy("acme", &policy(&["a"], json!({}))).await;
    let done = sh(&["tenant", "delete", "acme", "--yes"]).await;
    assert_eq!((done.code, done.stdout.trim()), (0, "acme: removed 1 policy"), "{done:?}");
}

#[tokio::test]
async fn a_rollout_that_names_the_tenant_is_reported_and_loses_it() {
    let stage = Stage::start().await;
    let caller = &stage.caller;
    idle(caller).await;
    let answer = caller.command("tenant.delete", &json!({"tenant_id": "t1"})).await;
    let warnings = answer["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{answer}");
    let warning = warnings[0].as_str().unwrap();
    assert!(warning.starts_with("rollout cb (running) names the tenant"), "{warning}");
    caller
        .rollout_becomes("its tenant is deleted", RECOVERY, |status| {
            let tenants = status["tenants"].as_array().into_iter().flatten();
            tenants.filter(|t| t["tenant_id"] == "t1").any(|t| t["state"] == "deleted")
        })
        .await;
    caller.put_policy("elsewhere", &named("default", 1)).await;
    let answer = caller.command("tenant.delete", &json!({"tenant_id": "elsewhere"})).await;
    assert_eq!(answer["warnings"], json!([]));
}
