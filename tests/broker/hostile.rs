//! Bodies that nobody sends in good faith: each is answered or dropped as the contract says, and the
//! worker lives on.

use async_nats::HeaderMap;
use serde_json::{Value, json};

use crate::support::{SOON, Stage, eventually, request};

const DECIDE: &str = "beamline.router.v1.decide";

/// Bytes that look random and are the same in every run.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

fn typed(content_type: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(content_type) = content_type {
        headers.insert("content-type", content_type);
    }
    headers
}

async fn with_policy() -> Stage {
    let stage = Stage::with(|l| l.flag("--max-request-bytes", "1MiB")).await;
    let policy = json!({"policy_id": "default", "providers": [{"name": "a", "weight": 1}]});
    stage.caller.put_policy("acme", &policy).await;
    stage
}

async fn lives(stage: &mut Stage) {
    assert_eq!(stage.caller.decided(&request("acme", "r-after")).await["provider_id"], "a");
    assert!(stage.worker.runs());
    let page = stage.worker.get("/healthz").await.unwrap();
    assert_eq!(page.status, 200);
    let died: Vec<Value> = stage.worker.logs().into_iter().filter(|l| l["level"] == "ERROR").collect();
    assert!(died.is_empty(), "{died:?}");
}

#[tokio::test]
async fn random_bytes_are_answered_one_by_one() {
    let mut stage = with_policy().await;
    let asked = 300;
    for n in 0..asked {
        let mut body = noise(n, 1 + usize::try_from(n).unwrap() % 200);
        let headers = match n % 4 {
            0 => typed(None),
            1 => typed(Some("application/protobuf")),
            2 => typed(Some("application/json")),
            _ => {
                // Sound until it breaks off, or until something else stands in it.
                let mut sound = request("acme", "r-1").to_string().into_bytes();
                let at = usize::try_from(n).unwrap() % sound.len();
                sound.splice(at.., body);
                body = sound;
                typed(None)
            }
        };
        let answer = stage.caller.ask(DECIDE, headers, body).await;
        assert_eq!(answer.header("Nats-Service-Error-Code"), Some("400"));
    }
    let metrics = stage.worker.metrics().await;
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let want = asked as f64;
    assert_eq!(metrics.sum("router_decisions_total", &[("outcome", "invalid_request")]), want);
    lives(&mut stage).await;
}

#[tokio::test]
async fn nesting_and_size_have_bounds_and_long_texts_do_no_harm() {
    let mut stage = with_policy().await;
    let good = request("acme", "r-1");
    let set = |key: &str, value: Value| {
        let mut body = good.clone();
        body[key] = value;
        body.to_string()
    };
    let deep = |open: &str, close: &str, depth: usize| {
        let text = good.to_string();
        let inside = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        text.replacen('{', &format!("{{\"metadata\":{{\"deep\":{inside}}},"), 1)
    };
    let refused = [
        deep("[", "]", 200),
        deep("[", "]", 100_000),
        deep("{\"a\":", "}", 100_000),
        "[".repeat(500_000),
        "{\"a\":".repeat(100_000),
        set("tenant_id", json!("t".repeat(500_000))),
        set("policy_id", json!("p".repeat(500_000))),
        set("trace_id", json!("p".repeat(500_000))),
        set("tenant_id", json!("ac\u{0}me")),
        set("policy_id", json!("\u{0}")),
        set("request_id", json!("r\u{0}1")),
        set("task", json!({"type": "a\u{0}", "payload": 1})),
        set("context", json!({"status": "\u{0}"})),
        set("context", json!({"attempt": 1e300})),
        set("constraints", json!({"max_cost": -1e300})),
        good.to_string().replacen('{', "{\"constraints\":{\"max_cost\":1e999},", 1),
        good.to_string().replacen('{', "{\"constraints\":{\"max_cost\":NaN},", 1),
        good.to_string().replacen("\"1\"", "\"\\ud800\"", 1),
        good.to_string().replacen('{', "{\"tenant_id\":\"acme\",", 1),
        good.to_string().replacen('{', "{\"tenant\\u005fid\":\"other\",", 1),
        good.to_string().replacen("\"type\"", "\"type\":\"x\",\"type\"", 1),
        good.to_string().replacen('{', "{\"context\":{\"attempt\":1,\"attempt\":2},", 1),
    ];
    for body in refused {
        let start: String = body.chars().take(80).collect();
        let answer = stage.caller.ask(DECIDE, HeaderMap::new(), body.clone()).await;
        assert_eq!(answer.header("Nats-Service-Error-Code"), Some("400"), "{start}");
        assert!(answer.body.len() < 4_096, "an answer of {} bytes to {start}", answer.body.len());
    }
    for body in [
        set("metadata", json!({"k".repeat(10_000): "v".repeat(500_000)})),
        set(
            "metadata",
            json!((0..20_000).map(|n| (n.to_string(), json!(n))).collect::<serde_json::Map<_, _>>()),
        ),
        set("context", json!({"note": "\u{0}\u{1b}[2J"})),
        set("task", json!({"type": "t", "payload": "p".repeat(500_000)})),
        set("task", json!({"type": "t", "payload": null, "payload_ref": "r"})),
        deep("[", "]", 100),
    ] {
        let start: String = body.chars().take(80).collect();
        let answer = stage.caller.ask(DECIDE, HeaderMap::new(), body).await;
        assert_eq!(answer.json()["ok"], true, "{start}: {}", answer.json());
    }
    lives(&mut stage).await;
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_undecoded_and_its_id_echoed() {
    let mut stage = Stage::with(|l| l.flag("--max-request-bytes", "2KiB")).await;
    let policy = json!({"policy_id": "default", "providers": [{"name": "a", "weight": 1}]});
    stage.caller.put_policy("acme", &policy).await;
    let mut body = request("acme", "r-1");
    body["metadata"] = json!({"much": "x".repeat(2_048)});
    let answer = stage.caller.decide(&body).await;
    assert_eq!(answer["error"]["code"], "invalid_request");
    assert_eq!(answer["context"]["request_id"], "r-1");
    lives(&mut stage).await;
}

#[tokio::test]
async fn hostile_headers_do_no_harm() {
    let mut stage = with_policy().await;
    let body = || request("acme", "r-1").to_string();
    for (name, value) in [
        ("traceparent", "00-".to_owned()),
        ("traceparent", "x".repeat(10_000)),
        ("traceparent", "00-00000000000000000000000000000000-0000000000000000-01".to_owned()),
        ("tracestate", "=,=,,".repeat(1_000)),
        ("Nats-Msg-Id", "x".repeat(10_000)),
        ("Nats-Expected-Stream", "NONE".to_owned()),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.as_str());
        let answer = stage.caller.ask(DECIDE, headers, body()).await;
        assert_eq!(answer.json()["ok"], true, "{name}");
    }
    lives(&mut stage).await;
}

#[tokio::test]
async fn noise_on_every_subject_that_a_worker_hears_changes_nothing() {
    let mut stage = with_policy().await;
    let before = stage.caller.command("policy.list", &json!({})).await["policies"].clone();
    let mut last = 0;
    for seed in 0..40 {
        for subject in [
            "caf.exec.assign.v1.ack",
            "beamline.router.control.v1.policy.put",
            "beamline.router.control.v1.x",
        ] {
            stage.caller.client.publish(subject, noise(seed, 100).into()).await.unwrap();
        }
        for subject in ["caf.exec.result.v1", "caf.exec.result.v1.acme"] {
            let ack = stage.caller.jetstream.publish(subject, noise(seed, 100).into()).await.unwrap();
            last = ack.await.unwrap().sequence;
        }
    }
    for body in ["", "null", "[]", "{}", "{\"status\":\"error\"}", "\u{0}", "{\"tenant_id\":{}}"] {
        last = stage
            .caller
            .jetstream
            .publish("caf.exec.result.v1", body.into())
            .await
            .unwrap()
            .await
            .unwrap()
            .sequence;
    }
    // Not even what only routers should write there, if the broker's permissions let others.
    for subject in
        ["beamline.router.v1.log.policy", "beamline.router.v1.log.claim", "beamline.router.v1.log.x.y"]
    {
        for body in [noise(7, 50), b"{}".to_vec(), b"null".to_vec(), b"".to_vec()] {
            last =
                stage.caller.jetstream.publish(subject, body.into()).await.unwrap().await.unwrap().sequence;
        }
    }
    stage.worker.applied(last).await;
    let metrics = stage.worker.metrics().await;
    assert_eq!(metrics.sum("router_results_total", &[("disposition", "rejected")]), 87.0);
    eventually("every control message is looked at", SOON, async || {
        let metrics = stage.worker.metrics().await;
        metrics.sum("router_control_requests_total", &[("verb", "policy.put")]) == 41.0
            && metrics.sum("router_control_requests_total", &[("verb", "other")]) == 40.0
    })
    .await;
    assert_eq!(stage.caller.command("policy.list", &json!({})).await["policies"], before);
    assert_eq!(
        stage.caller.command("breaker.list", &json!({})).await["breakers"].as_array().unwrap().len(),
        1
    );
    let page = stage.worker.get("/healthz").await.unwrap();
    assert_eq!(page.status, 200);
    assert!(stage.worker.runs());
    assert_eq!(stage.caller.decided(&request("acme", "r-after")).await["provider_id"], "a");
}

#[tokio::test]
async fn a_flood_of_invented_tenants_makes_no_series_and_no_breaker() {
    let mut stage = with_policy().await;
    let series = stage.worker.metrics().await.len();
    let mut last = 0;
    for n in 0..300 {
        let tenant = format!("invented-{n}");
        let answer = stage.caller.decide(&request(&tenant, "r")).await;
        assert_eq!(answer["error"]["code"], "policy_not_found");
        let result = json!({"request_id": "r", "status": "error", "provider_id": "a", "tenant_id": tenant});
        last = stage.caller.result(&result).await;
        let result = json!({"request_id": format!("r-{n}"), "status": "error", "provider_id": tenant, "tenant_id": "acme"});
        last = last.max(stage.caller.result(&result).await);
    }
    stage.worker.applied(last).await;
    let metrics = stage.worker.metrics().await;
    assert_eq!(metrics.sum("router_results_total", &[("disposition", "rejected")]), 600.0);
    let grown = metrics.len() - series;
    assert!(grown < 10, "{grown} series more");
    let breakers = stage.caller.command("breaker.list", &json!({})).await;
    assert_eq!(breakers["breakers"].as_array().unwrap().len(), 1);
    lives(&mut stage).await;
}
