//! Who is chosen: weights, sessions, fallbacks, constraints; and why.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::support::{Caller, Stage, Worker, request};

/// Asks many at a time: the decisions, in the order of the requests.
async fn decide_all(caller: &Caller, requests: impl IntoIterator<Item = Value>) -> Vec<Value> {
    let asked = requests.into_iter().map(|r| async move { caller.decided(&r).await });
    stream::iter(asked).buffered(64).collect().await
}

fn providers(decisions: &[Value]) -> Vec<&str> {
    decisions.iter().map(|d| d["provider_id"].as_str().unwrap()).collect()
}

fn weighted(weights: &[(&str, u32)]) -> Value {
    let list: Vec<_> = weights.iter().map(|(name, weight)| json!({"name": name, "weight": weight})).collect();
    json!({"policy_id": "default", "providers": list})
}

#[tokio::test]
async fn shares_converge_to_the_weights() {
    let stage = Stage::start().await;
    stage.caller.put_policy("acme", &weighted(&[("a", 70), ("b", 25), ("c", 5), ("d", 0)])).await;
    let asked = 4_000;
    let decisions = decide_all(&stage.caller, (0..asked).map(|n| request("acme", &format!("r-{n}")))).await;
    let mut counts: BTreeMap<&str, i32> = BTreeMap::new();
    for provider in providers(&decisions) {
        *counts.entry(provider).or_default() += 1;
    }
    // Five standard deviations of the binomial; the ids are fixed, so this run is every run.
    for (provider, share) in [("a", 0.70_f64), ("b", 0.25), ("c", 0.05), ("d", 0.0)] {
        let (n, got) = (f64::from(asked), f64::from(counts.get(provider).copied().unwrap_or(0)));
        let bound = 5.0 * (n * share * (1.0 - share)).sqrt();
        assert!((got - n * share).abs() <= bound, "{provider}: {got} of {n}");
    }
    assert!(decisions.iter().all(|d| d["reason"] == "weighted" && d["priority"] == 50));
}

#[tokio::test]
async fn a_request_id_draws_the_same_provider_on_every_worker() {
    let stage = Stage::start().await;
    let second = Worker::start(&stage.broker, |l| l).await;
    stage.caller.put_policy("acme", &weighted(&[("a", 40), ("b", 40), ("c", 20)])).await;
    let ids = || (0..100).map(|n| request("acme", &format!("r-{n}")));
    let first = decide_all(&stage.caller, ids()).await;
    for _ in 0..4 {
        let again = decide_all(&stage.caller, ids()).await;
        assert_eq!(providers(&first), providers(&again));
    }
    assert_eq!(providers(&first).into_iter().collect::<BTreeSet<_>>(), BTreeSet::from(["a", "b", "c"]));
    for worker in [&stage.worker, &second] {
        let decided = worker.metrics().await.sum("router_decisions_total", &[("outcome", "decided")]);
        assert!(decided > 100.0, "one worker decided {decided} of 500");
    }
}

#[tokio::test]
async fn a_session_sticks_to_its_provider_and_moves_only_if_that_one_goes() {
    let stage = Stage::start().await;
    let second = Worker::start(&stage.broker, |l| l).await;
    let mut policy = weighted(&[("a", 50), ("b", 30), ("c", 20)]);
    policy["sticky"] = json!({"enabled": true, "session_key": "user_id", "ttl": "10m"});
    stage.caller.put_policy("acme", &policy).await;
    let session = |user: usize, id: String, place: &str| {
        let mut body = request("acme", &id);
        body[place] = json!({"user_id": format!("u-{user}")});
        body
    };
    let users = 0..200;
    let first =
        decide_all(&stage.caller, users.clone().map(|u| session(u, format!("x-{u}"), "context"))).await;
    let again =
        decide_all(&stage.caller, users.clone().map(|u| session(u, format!("y-{u}"), "metadata"))).await;
    assert_eq!(providers(&first), providers(&again), "whatever the request, and wherever the session stands");
    for (user, decision) in first.iter().enumerate() {
        assert_eq!(decision["reason"], "sticky");
        assert_eq!(decision["priority"], 100);
        assert_eq!(decision["sticky_key"], format!("u-{user}"));
    }
    let mut both = session(1, "z".to_owned(), "context");
    both["metadata"] = json!({"user_id": "another"});
    assert_eq!(stage.caller.decided(&both).await["sticky_key"], "u-1", "the context comes first");
    let none = stage.caller.decided(&request("acme", "r")).await;
    assert_eq!((&none["reason"], none.get("sticky_key")), (&json!("weighted"), None));

    policy["providers"] = json!([{"name": "a", "weight": 50}, {"name": "c", "weight": 20}]);
    stage.caller.put_policy("acme", &policy).await;
    stage.worker.follows(&stage.caller).await;
    second.follows(&stage.caller).await;
    let moved = decide_all(&stage.caller, users.map(|u| session(u, format!("z-{u}"), "context"))).await;
    for (before, after) in providers(&first).into_iter().zip(providers(&moved)) {
        assert!(before == "b" || before == after, "{before} became {after}, and b went");
    }
}

#[tokio::test]
async fn the_status_of_the_attempt_before_chooses_a_fallback() {
    let stage = Stage::start().await;
    let mut policy = weighted(&[("a", 100)]);
    policy["fallbacks"] = json!([
        {"when": {"status": ["timeout", "5xx"]}, "retry": 2, "to": "local",
         "backoff": {"strategy": "exponential", "base_ms": 100, "max_ms": 5000, "jitter": false}},
        {"when": {"status": ["error"], "message_type": ["text.embed"]}, "to": "embedder"},
        {"to": "last"}
    ]);
    stage.caller.put_policy("acme", &policy).await;
    let ask = async |status: Value, attempt: Option<u32>, task: &str| {
        let mut body = request("acme", "r-1");
        body["task"]["type"] = json!(task);
        body["context"] = json!({"status": status, "attempt": attempt});
        let d = stage.caller.decided(&body).await;
        let provider = d["provider_id"].as_str().unwrap().to_owned();
        (
            provider,
            d["reason"].as_str().unwrap().to_owned(),
            d["backoff_ms"].as_u64(),
            d["fallback_used"].clone(),
        )
    };
    let stays = |wait| ("a".to_owned(), "weighted".to_owned(), Some(wait), json!(false));
    let falls = |to: &str| (to.to_owned(), "fallback".to_owned(), None, json!(true));
    let text = "text.generate";
    assert_eq!(ask(json!("timeout"), None, text).await, stays(100), "the second attempt if none is told");
    assert_eq!(ask(json!("timeout"), Some(2), text).await, stays(100));
    assert_eq!(ask(json!("timeout"), Some(3), text).await, stays(200));
    assert_eq!(ask(json!("timeout"), Some(4), text).await, falls("local"));
    assert_eq!(ask(json!("500"), Some(4), text).await, falls("local"));
    assert_eq!(ask(json!(599), Some(4), text).await, falls("local"));
    assert_eq!(ask(json!("600"), Some(4), text).await, falls("last"));
    assert_eq!(ask(json!("error"), Some(2), "text.embed").await, falls("embedder"), "all keys match");
    assert_eq!(ask(json!("error"), Some(2), text).await, falls("last"), "one key does not");
    let mut body = request("acme", "r-1");
    body["context"] = json!({"status": "anything"});
    assert_eq!(stage.caller.decided(&body).await["priority"], 25);
    assert_eq!(stage.caller.decided(&request("acme", "r-1")).await["provider_id"], "a", "no attempt before");
}

#[tokio::test]
async fn means_of_results_are_expected_and_constraints_drop_who_is_above_them() {
    let stage = Stage::start().await;
    stage.caller.put_policy("acme", &weighted(&[("slow", 90), ("fast", 10)])).await;
    let mut last = 0;
    for (provider, latency, cost) in
        [("slow", 1_000, 0.01), ("slow", 2_000, 0.03), ("fast", 100, 0.5), ("fast", 200, 0.5)]
    {
        let result = json!({
            "request_id": format!("{provider}-{latency}"), "status": "success", "provider_id": provider,
            "tenant_id": "acme", "latency_ms": latency, "cost": cost
        });
        last = stage.caller.result(&result).await;
    }
    stage.worker.applied(last).await;
    let constrained = |n: usize, constraints: &Value| {
        let mut body = request("acme", &format!("r-{n}"));
        body["constraints"] = constraints.clone();
        body
    };
    for (constraints, provider, latency, cost) in
        [(json!({"max_latency_ms": 1499}), "fast", 150, 0.5), (json!({"max_cost": 0.4}), "slow", 1_500, 0.02)]
    {
        let decisions = decide_all(&stage.caller, (0..40).map(|n| constrained(n, &constraints))).await;
        for decision in &decisions {
            assert_eq!(decision["provider_id"], provider, "{constraints}");
            assert_eq!(decision["expected_latency_ms"], latency);
            assert!((decision["expected_cost"].as_f64().unwrap() - cost).abs() < 1e-9);
        }
    }
    let both = json!({"max_latency_ms": 1500, "max_cost": 0.5});
    let decisions = decide_all(&stage.caller, (0..60).map(|n| constrained(n, &both))).await;
    assert_eq!(providers(&decisions).into_iter().collect::<BTreeSet<_>>().len(), 2, "nobody is above these");
    // Another tenant's results are not this one's.
    stage.caller.put_policy("other", &weighted(&[("slow", 100)])).await;
    let mut body = request("other", "r");
    body["constraints"] = json!({"max_latency_ms": 1});
    assert_eq!(stage.caller.decided(&body).await["expected_latency_ms"], 0);
}

#[tokio::test]
async fn an_explanation_tells_the_steps() {
    let stage = Stage::start().await;
    let mut policy = weighted(&[("a", 100)]);
    policy["fallbacks"] = json!([{"when": {"status": ["circuit_breaker_open"]}, "to": "b"}]);
    policy["circuit_breaker"] = json!({"enabled": true, "failure_threshold": 5, "timeout_ms": 60000});
    stage.caller.put_policy("acme", &policy).await;
    let mut body = request("acme", "r-1");
    assert_eq!(stage.caller.decided(&body).await.get("explanation"), None, "nobody asked");
    body["explain"] = json!(true);
    let mut told = stage.caller.decided(&body).await["explanation"].clone();
    let position = told.as_object_mut().unwrap().remove("position");
    assert_eq!(position.unwrap(), stage.caller.log_end().await);
    assert_eq!(
        told,
        json!({"reason": "weighted", "provider_id": "a", "policy_id": "default", "steps": [
            {"step": "circuit_breaker_check", "provider_id": "a", "result": "allowed", "state": "closed",
             "context": {"failure_count": 0, "error_rate": 0.0, "reason": "circuit_closed"}}
        ]})
    );
    stage.fail("acme", "a", 5).await;
    let told = stage.caller.decided(&body).await["explanation"].clone();
    assert_eq!(told["reason"], "circuit_breaker_fallback");
    assert_eq!(told["provider_id"], "b");
    let steps = told["steps"].as_array().unwrap();
    assert_eq!(
        steps[0],
        json!({"step": "circuit_breaker_check", "provider_id": "a", "result": "rejected", "state": "open",
               "context": {"failure_count": 5, "error_rate": 1.0, "reason": "circuit_open"}})
    );
    assert_eq!(steps[1], json!({"step": "fallback", "provider_id": "b"}));
    assert_eq!((&steps[2]["provider_id"], &steps[2]["result"]), (&json!("b"), &json!("allowed")));
    assert_eq!(steps.len(), 3);

    // What passes an open breaker does so for a reason, and that is told.
    let told = async |policy_id: &str| {
        let mut body = body.clone();
        body["policy_id"] = json!(policy_id);
        stage.caller.decided(&body).await["explanation"]["steps"][0].clone()
    };
    let mut plain = weighted(&[("a", 100)]);
    plain["policy_id"] = json!("plain");
    stage.caller.put_policy("acme", &plain).await;
    assert_eq!(
        told("plain").await,
        json!({"step": "circuit_breaker_check", "provider_id": "a", "result": "allowed", "state": "open",
               "context": {"failure_count": 5, "error_rate": 1.0, "reason": "circuit_breaker_disabled"}})
    );
    let force = json!({"tenant_id": "acme", "provider_id": "a", "state": "closed"});
    stage.caller.command("breaker.force", &force).await;
    let step = told("default").await;
    assert_eq!((&step["result"], &step["context"]["reason"]), (&json!("allowed"), &json!("forced_closed")));
    let off = json!({"scope": "global", "circuit_breaker_enabled": false});
    stage.caller.command("flag.set", &off).await;
    let step = told("default").await;
    assert_eq!((&step["result"], &step["context"]["reason"]), (&json!("allowed"), &json!("flag_off")));
}
