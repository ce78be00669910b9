use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::{api, policy};
use crate::support::{SOON, Stage, Worker, eventually, request, run};

/// Reads pairs of schema and answer, and tells which answers are not as the document says.
const CHECK: &str = r##"
import json, sys
from jsonschema import Draft202012Validator
told = json.load(sys.stdin)
document = told["document"]
for name, schema in document["components"]["schemas"].items():
    Draft202012Validator.check_schema(schema)
for schema, answer, what in told["pairs"]:
    whole = {"$ref": schema, "components": document["components"], "paths": document["paths"]}
    for error in Draft202012Validator(whole).iter_errors(answer):
        print(f"{what}: {error.json_path}: {error.message}")
"##;

/// What of the answers is not as the document says.
pub(super) async fn faults(document: &Value, pairs: &[(String, Value, String)]) -> String {
    let mut command = std::process::Command::new("python3");
    let python = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/python");
    command.args(["-c", CHECK]).env("PYTHONPATH", python);
    let done = run(command, &json!({"document": document, "pairs": pairs}).to_string()).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    done.stdout
}

/// The schema of an answer, as a pointer into the document.
pub(super) fn schema_of(path: &str, method: &str, status: &str) -> String {
    let path = path.replace('~', "~0").replace('/', "~1").replace('{', "%7B").replace('}', "%7D");
    format!("#/paths/{path}/{method}/responses/{status}/content/application~1json/schema")
}

/// The first events of the stream.
async fn stream(worker: &Worker, count: usize) -> Vec<(String, Value)> {
    let mut stream = TcpStream::connect(("127.0.0.1", worker.http_port())).await.unwrap();
    stream.write_all(b"GET /api/v1/stream HTTP/1.0\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let (mut events, mut event) = (Vec::new(), String::new());
    while events.len() < count {
        let line =
            tokio::time::timeout(SOON, lines.next_line()).await.expect("an event comes").unwrap().unwrap();
        if let Some(name) = line.strip_prefix("event: ") {
            event = name.to_owned();
        } else if let Some(data) = line.strip_prefix("data: ") {
            events.push((event.clone(), serde_json::from_str(data).unwrap()));
        }
    }
    events
}

#[tokio::test]
async fn every_answer_is_as_the_document_says() {
    let stage = Stage::with(|l| l.switch("--console-actions")).await;
    let first = stage.caller.put_policy("acme", &policy(&["openai", "mistral"])).await;
    let patch = json!({"tenant_id": "acme", "policy_id": "default", "actor": "dana", "reason": "sooner",
                       "patch": {"circuit_breaker": {"timeout_ms": 2000}}});
    let second = stage.caller.command("policy.patch", &patch).await["revision"].as_u64().unwrap();
    let gone = json!({"tenant_id": "globex", "policy_id": "default"});
    stage.caller.put_policy("globex", &policy(&["openai"])).await;
    stage.caller.command("policy.delete", &gone).await;
    let off = json!({"scope": "tenant", "tenant_id": "initech", "circuit_breaker_enabled": false});
    stage.caller.command("flag.set", &off).await;
    stage.fail("acme", "openai", 5).await;
    for n in 0..10 {
        stage.caller.decide(&request("acme", &format!("r-{n}"))).await;
    }
    let force = json!({"tenant_id": "acme", "provider_id": "mistral", "state": "open", "ttl_seconds": 600});
    stage.caller.command("breaker.force", &force).await;
    let plan = crate::rollouts::plan(&json!({}));
    stage.caller.command("rollout.put", &json!({"plan": plan, "actor": "dana", "reason": "a draft"})).await;
    // The events reach their stream a little later than the log.
    eventually("the stream has both", SOON, async || {
        api(&stage.worker, "transitions").await["transitions"].as_array().unwrap().len() == 2
    })
    .await;

    let document = api(&stage.worker, "openapi.json").await;
    let diff = format!("policies/acme/default/diff?from={first}&to={second}");
    let mut pairs = Vec::new();
    for (template, path) in [
        ("overview", "overview"),
        ("alerts", "alerts"),
        ("breakers", "breakers?limit=1"),
        ("breakers", "breakers?tenant_id=acme&state=open"),
        ("breakers/{tenant_id}/{provider_id}", "breakers/acme/openai"),
        ("breakers/{tenant_id}/{provider_id}", "breakers/acme/mistral"),
        ("transitions", "transitions?tenant_id=acme&within_seconds=600"),
        ("policies", "policies"),
        ("policies/{tenant_id}/{policy_id}", "policies/acme/default"),
        ("policies/{tenant_id}/{policy_id}/revisions", "policies/acme/default/revisions"),
        ("policies/{tenant_id}/{policy_id}/revisions", "policies/globex/default/revisions"),
        ("policies/{tenant_id}/{policy_id}/diff", diff.as_str()),
        ("rollouts", "rollouts?limit=1"),
        ("rollouts/{rollout}", "rollouts/cb"),
        ("rollouts/{rollout}/status", "rollouts/cb/status"),
        ("rollouts/{rollout}/history", "rollouts/cb/history"),
        ("openapi.json", "openapi.json"),
    ] {
        let schema = schema_of(&format!("/api/v1/{template}"), "get", "200");
        pairs.push((schema, api(&stage.worker, path).await, path.to_owned()));
    }
    let error = || "#/components/schemas/Error".to_owned();
    for path in ["breakers/acme/none", "breakers?limit=0", "policies/acme/none", "nothing"] {
        let page = stage.worker.get(&format!("/api/v1/{path}")).await.unwrap();
        assert!(page.status >= 400, "{path}");
        pairs.push((error(), page.json(), path.to_owned()));
    }
    for (action, body) in [("force", json!({"state": "auto"})), ("reset", json!({"reason": "fixed"}))] {
        let path = format!("/api/v1/breakers/acme/mistral/{action}");
        let page = post(&stage.worker, &path, &body).await;
        assert_eq!(page.status, 200, "{}", page.body);
        let template = format!("/api/v1/breakers/{{tenant_id}}/{{provider_id}}/{action}");
        pairs.push((schema_of(&template, "post", "200"), page.json(), path));
    }
    let refused = post(&stage.worker, "/api/v1/breakers/acme/openai/force", &json!({"state": "shut"})).await;
    assert_eq!(refused.status, 400);
    pairs.push((error(), refused.json(), "a wrong state".to_owned()));
    let early = post(&stage.worker, "/api/v1/rollouts/cb/approve", &json!({"reason": "good"})).await;
    assert_eq!((early.status, &early.json()["error"]["code"]), (409, &json!("conflict")));
    assert_eq!(early.json()["error"]["details"]["refusal"], "wrong_state");
    pairs.push((error(), early.json(), "a draft is not approved".to_owned()));
    let follow = tokio::join!(stream(&stage.worker, 6), async {
        stage.caller.put_policy("umbrella", &policy(&["openai"])).await;
        stage.fail("umbrella", "openai", 5).await;
    });
    let events = follow.0;
    assert_eq!(events[0].0, "snapshot");
    assert!(events[1..].iter().all(|(event, _)| event == "delta"));
    for (event, data) in events {
        let name = if event == "snapshot" { "Snapshot" } else { "Delta" };
        pairs.push((format!("#/components/schemas/{name}"), data, event));
    }
    assert_eq!(faults(&document, &pairs).await, "");

    // What the figures say is true.
    let (_, list, _) =
        pairs.iter().find(|(_, _, what)| what == "breakers?tenant_id=acme&state=open").unwrap();
    assert_eq!((&list["total"], list.get("cursor")), (&json!(2), None));
    let (_, one, _) = pairs.iter().find(|(_, _, what)| what == "breakers/acme/openai").unwrap();
    assert_eq!(one["breaker"]["settings"]["timeout_ms"], 2000);
    let in_buckets: u64 =
        one["buckets"].as_array().unwrap().iter().map(|b| b["failures"].as_u64().unwrap()).sum();
    assert_eq!((in_buckets, &one["breaker"]["window_failures"]), (5, &json!(5)));
    assert_eq!(one["transitions"][0]["window"]["failures"], 5);
    let (_, diff, _) = pairs.iter().find(|(_, _, what)| what.contains("diff")).unwrap();
    let change =
        json!({"path": "/circuit_breaker/timeout_ms", "kind": "changed", "before": 300_000, "after": 2000});
    assert_eq!(diff["changes"], json!([change]));
    let (_, overview, _) = pairs.iter().find(|(_, _, what)| what == "overview").unwrap();
    assert_eq!(overview["decisions"]["total"], 10);
    assert_eq!(overview["flags"]["tenants_off"], json!(["initech"]));
    let metrics = stage.worker.metrics().await;
    assert_eq!(
        metrics.value("router_circuit_breaker_state", &[("provider_id", "mistral"), ("state", "closed")]),
        Some(1.0)
    );

    // The checker itself finds what is wrong.
    let wrong =
        [(error(), json!({"ok": false, "error": {"code": "nonsense", "message": "x"}}), "w".to_owned())];
    assert!(faults(&document, &wrong).await.contains("$.error.code"));
}

#[tokio::test]
async fn decisions_per_second_are_told_while_somebody_looks() {
    let stage = Stage::start().await;
    stage.caller.put_policy("acme", &policy(&["openai"])).await;
    assert_eq!(api(&stage.worker, "overview").await["rates_per_second"]["decisions"], Value::Null);
    let mut n = 0;
    let rate = eventually("a rate", SOON, async || {
        n += 1;
        stage.caller.decided(&request("acme", &format!("r-{n}"))).await;
        api(&stage.worker, "overview").await["rates_per_second"]["decisions"]
            .as_f64()
            .filter(|rate| *rate > 0.0)
    })
    .await;
    assert!(rate < 1_000.0, "{rate}");
    eventually("all are counted", SOON, async || {
        api(&stage.worker, "overview").await["decisions"]["decided"] == n
    })
    .await;
}

/// While the broker is away, what this worker holds is told, and what only the broker holds is refused as
/// unavailable: at once where the connection is lost, and soon where the broker only stands still.
#[tokio::test]
async fn without_the_broker_what_the_worker_holds_is_told_and_the_rest_is_unavailable() {
    let mut stage = Stage::start().await;
    let revision = stage.caller.put_policy("acme", &policy(&["openai"])).await;
    stage.fail("acme", "openai", 5).await;
    let diff = format!("policies/acme/default/diff?from={revision}&to={revision}");
    let lost = ["policies/acme/default", "policies/acme/default/revisions", &diff, "transitions"];
    let refused = async |worker: &Worker, path: &str, bound: Duration| {
        let began = Instant::now();
        let page = worker.get(&format!("/api/v1/{path}")).await.expect("an answer");
        assert!(began.elapsed() < bound, "{path} took {:?}", began.elapsed());
        assert_eq!((page.status, &page.json()["error"]["code"]), (503, &json!("unavailable")), "{path}");
        assert!(page.head.to_ascii_lowercase().contains("retry-after: 5"), "{}", page.head);
    };
    for path in lost {
        api(&stage.worker, path).await;
    }

    stage.broker.pause();
    refused(&stage.worker, lost[0], Duration::from_secs(4)).await;
    // A path that stays silent is given up after some seconds.
    assert_eq!(api(&stage.worker, "overview").await["nats"]["connected"], true);
    for path in &lost[1..] {
        refused(&stage.worker, path, Duration::from_secs(4)).await;
    }
    stage.broker.resume();
    stage.worker.recovers().await;

    stage.broker.kill();
    stage.worker.says("nats: not connected").await;
    for path in lost {
        refused(&stage.worker, path, Duration::from_secs(1)).await;
    }
    assert_eq!(api(&stage.worker, "breakers").await["breakers"][0]["state"], "open");
    let breaker = api(&stage.worker, "breakers/acme/openai").await;
    assert_eq!(breaker["breaker"]["window_failures"], 5);
    assert!(breaker["transitions_problem"].as_str().unwrap().contains("not connected"), "{breaker}");
    assert_eq!(api(&stage.worker, "policies").await["policies"][0]["revision"], revision);
    stage.broker.restart().await;
    stage.worker.recovers().await;
    for path in lost {
        api(&stage.worker, path).await;
    }
}

/// POST as the console does it.
pub(super) async fn post(worker: &Worker, path: &str, body: &Value) -> crate::support::Page {
    let port = worker.http_port();
    let head = format!(
        "host: 127.0.0.1:{port}\r\ncontent-type: application/json\r\nx-beamline-console: 1\r\norigin: http://127.0.0.1:{port}\r\n"
    );
    crate::support::post(port, path, &head, &body.to_string()).await.expect("an answer")
}
