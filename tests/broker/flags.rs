//! The emergency switch.

use serde_json::{Value, json};

use crate::support::{SOON, Stage, Worker, eventually, request};

fn policy() -> Value {
    json!({
        "policy_id": "default", "providers": [{"name": "a", "weight": 100}],
        "circuit_breaker": {"enabled": true, "failure_threshold": 3, "timeout_ms": 60000}
    })
}

async fn opened(tenants: &[&str]) -> Stage {
    let stage = Stage::start().await;
    for tenant in tenants {
        stage.caller.put_policy(tenant, &policy()).await;
        stage.fail(tenant, "a", 3).await;
        refused(&stage, tenant).await;
    }
    stage
}

async fn refused(stage: &Stage, tenant: &str) {
    let answer = stage.caller.decide(&request(tenant, "r")).await;
    assert_eq!(answer["error"]["code"], "circuit_open", "{answer}");
}

async fn passes(stage: &Stage, tenant: &str) {
    let decision = stage.caller.decided(&request(tenant, "r")).await;
    assert_eq!((&decision["provider_id"], &decision["probe"]), (&json!("a"), &json!(false)));
}

async fn set(stage: &Stage, scope: Value, enabled: bool) -> Value {
    let mut body = scope;
    body["circuit_breaker_enabled"] = json!(enabled);
    stage.caller.command("flag.set", &body).await
}

#[tokio::test]
async fn off_for_all_refuses_nothing_and_on_again_starts_closed_and_empty() {
    let stage = opened(&["acme", "other"]).await;
    let forced = json!({"tenant_id": "other", "provider_id": "a", "state": "open"});
    stage.caller.command("breaker.force", &forced).await;
    let answer = set(&stage, json!({"scope": "global"}), false).await;
    assert_eq!(answer["in_force"], true);
    for tenant in ["acme", "other"] {
        passes(&stage, tenant).await;
    }
    // While off, results are counted and judge nothing.
    stage.fail("acme", "a", 5).await;
    passes(&stage, "acme").await;
    let got = stage.caller.command("flag.get", &json!({})).await;
    let global = got["flags"].as_array().unwrap().iter().find(|f| f["scope"] == "global").unwrap().clone();
    assert_eq!(global["circuit_breaker_enabled"], false);
    set(&stage, json!({"scope": "global"}), true).await;
    let breaker = stage.caller.breaker("acme", "a").await;
    assert_eq!(breaker["state"], "closed");
    for field in ["failure_count", "window_requests", "window_failures"] {
        assert_eq!(breaker[field], 0, "{field}");
    }
    passes(&stage, "acme").await;
    refused(&stage, "other").await;
    stage.fail("acme", "a", 3).await;
    refused(&stage, "acme").await;
}

#[tokio::test]
async fn off_for_one_tenant_leaves_the_others() {
    let stage = opened(&["acme", "other"]).await;
    let acme = || json!({"scope": "tenant", "tenant_id": "acme"});
    set(&stage, acme(), false).await;
    passes(&stage, "acme").await;
    refused(&stage, "other").await;
    let got = stage.caller.command("flag.get", &acme()).await;
    assert_eq!(got["flags"][0]["circuit_breaker_enabled"], false);
    // The world's switch off and on again does not touch the tenant's.
    set(&stage, json!({"scope": "global"}), false).await;
    set(&stage, json!({"scope": "global"}), true).await;
    passes(&stage, "acme").await;
    stage.fail("acme", "a", 3).await;
    passes(&stage, "acme").await;
    set(&stage, acme(), true).await;
    passes(&stage, "acme").await;
    stage.fail("acme", "a", 3).await;
    refused(&stage, "acme").await;
}

#[tokio::test]
async fn a_switch_reaches_every_worker_and_outlives_restarts() {
    let mut stage = opened(&["acme"]).await;
    set(&stage, json!({"scope": "global"}), false).await;
    let second = Worker::start(&stage.broker, |l| l).await;
    assert_eq!(stage.worker.stop().await, 0);
    stage.worker = second;
    passes(&stage, "acme").await;
    set(&stage, json!({"scope": "global"}), true).await;
    passes(&stage, "acme").await;
    assert_eq!(stage.caller.breaker("acme", "a").await["window_requests"], 0);
}

#[tokio::test]
async fn the_switch_in_the_environment_is_one_workers_own() {
    let mut stage = opened(&["acme"]).await;
    let off = Worker::start(&stage.broker, |l| l.env("ROUTER_CIRCUIT_BREAKER_ENABLED", "false")).await;
    let outcomes = async || {
        let metrics = (stage.worker.metrics().await, off.metrics().await);
        let count =
            |m: &crate::support::Metrics, outcome| m.sum("router_decisions_total", &[("outcome", outcome)]);
        (count(&metrics.0, "decided"), count(&metrics.1, "decided"), count(&metrics.1, "circuit_open"))
    };
    eventually("both have decided", SOON, async || {
        let answer = stage.caller.decide(&request("acme", "r")).await;
        assert!(answer["ok"] == true || answer["error"]["code"] == "circuit_open", "{answer}");
        outcomes().await.1 > 5.0
    })
    .await;
    let (on, off_decided, off_refused) = outcomes().await;
    assert_eq!((on, off_refused), (0.0, 0.0), "{off_decided}");
    // What it knows is the same.
    assert_eq!(stage.worker.stop().await, 0);
    stage.state_is("acme", "a", "open").await;
    let answer = stage.caller.command("flag.get", &json!({})).await;
    assert_eq!(answer["flags"][0]["circuit_breaker_enabled"], true, "{answer}");
}
