//! What is done before a rollout: `rollout doctor` and `rollout recommend`, run against a live worker.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::{Broker, Caller, Done, Stage, Worker, cli};
use crate::traffic::{policy, result};

/// The page that says which rights the commands need.
const PAGE: &str = include_str!("../../docs/rollout-recommend.md");

fn body(done: &Done) -> Value {
    assert_eq!(done.stdout.lines().count(), 1, "{done:?}");
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"))
}

async fn doctor(broker: &Broker, args: &[&str]) -> (i32, Value) {
    let done = cli(broker, &[&["rollout", "doctor", "--json"], args].concat()).await;
    (done.code, body(&done))
}

fn check<'r>(report: &'r Value, name: &str) -> &'r Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name}: {report:#}"))
}

fn is(report: &Value, name: &str, verdict: &str, word: &str) {
    let check = check(report, name);
    let found = check["found"].as_str().unwrap();
    assert!(check["verdict"] == verdict && found.contains(word), "{check:#}");
}

/// Results of calls that took no time, each of a request of its own, in this order.
async fn report(caller: &Caller, tenant: &str, statuses: impl IntoIterator<Item = &str>) {
    for status in statuses {
        let id = uuid::Uuid::new_v4().to_string();
        let mut call = result(tenant, "a", &id, status);
        call["latency_ms"] = json!(0);
        caller.result(&call).await;
    }
}

#[tokio::test]
async fn a_deployment_that_is_ready_passes_all_checks_and_keeps_nothing_of_the_trial() {
    let stage = Stage::start().await;
    let second = Worker::start(&stage.broker, |launch| launch).await;
    stage.caller.put_policy("acme", &policy(&["a", "b"], json!({}))).await;
    report(&stage.caller, "acme", ["success"; 100]).await;
    second.follows(&stage.caller).await;
    // The second time it meets what the first one left.
    for _ in 0..2 {
        let (code, report) = doctor(&stage.broker, &[]).await;
        assert_eq!((code, &report["ok"]), (0, &json!(true)), "{report:#}");
        is(&report, "log", "pass", "BEAMLINE_LOG can be read");
        is(&report, "rollouts", "pass", "BEAMLINE_ROLLOUTS");
        is(&report, "request_id", "pass", "100.0 % of 100 results");
        is(&report, "latency_ms", "pass", "100.0 %");
        is(&report, "fallback", "pass", "all 1");
        is(&report, "alerts", "skipped", "not asked");
        is(&report, "workers", "pass", "2 of version");
        is(&report, "rollback", "pass", "50 % enforced, then none");
        let policies = stage.caller.command("policy.list", &json!({})).await;
        assert_eq!(policies["policies"].as_array().unwrap().len(), 1, "{policies}");
        let gone = stage.caller.control("rollout.status", &json!({"rollout": "rollout-doctor"})).await;
        assert!(gone["ok"] == false || gone["state"] == "deleted", "{gone}");
    }
    let done = cli(&stage.broker, &["rollout", "doctor", "--no-trial"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines.len(), 9, "a line for each check, and a heading: {}", done.stdout);
    assert!(lines[8].starts_with("rollback") && lines[8].contains("skipped"), "{}", done.stdout);
}

/// A Prometheus that has these rules; gives its port.
async fn prometheus(rules: &'static [&'static str]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4_096];
            let read = stream.read(&mut request).await.unwrap();
            let asked = String::from_utf8_lossy(&request[..read]).into_owned();
            let rules: Vec<Value> = rules.iter().map(|name| json!({"name": name, "health": "ok"})).collect();
            let answer = json!({"status": "success", "data": {"groups": [{"rules": rules}]}}).to_string();
            let status =
                if asked.starts_with("GET /sub/api/v1/rules?type=alert ") { "200 OK" } else { "404 No" };
            // In pieces, as Prometheus sends what is long.
            let (first, rest) = answer.split_at(10);
            let chunks = format!("a\r\n{first}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n", rest.len());
            let head = format!("HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n\r\n");
            stream.write_all(format!("{head}{chunks}").as_bytes()).await.unwrap();
        }
    });
    port
}

#[tokio::test]
async fn what_is_lacking_fails_and_says_what_to_do() {
    let stage = Stage::start().await;
    stage.caller.put_policy("acme", &policy(&["a"], json!({}))).await;
    for n in 0..50 {
        let mut call = result("acme", "a", &uuid::Uuid::new_v4().to_string(), "success");
        let fields = call.as_object_mut().unwrap();
        fields.remove("latency_ms");
        if n % 2 == 0 {
            fields.remove("request_id");
        }
        stage.caller.result(&call).await;
    }
    let port = prometheus(&["RouterLogLag"]).await;
    let address = format!("http://127.0.0.1:{port}/sub/");
    let (code, report) = doctor(&stage.broker, &["--no-trial", "--prometheus", &address]).await;
    assert_eq!((code, &report["ok"]), (1, &json!(false)), "{report:#}");
    is(&report, "request_id", "fail", "50.0 % of 50 results have request_id; 25 of acme/a lack it");
    is(&report, "latency_ms", "fail", "0.0 %");
    is(&report, "fallback", "fail", "acme/default");
    is(&report, "alerts", "fail", "21 of 22 are not loaded");
    is(&report, "rollback", "skipped", "not tried");
    for check in report["checks"].as_array().unwrap() {
        assert_eq!(check["advice"].is_null(), check["verdict"] == "pass", "{check:#}");
    }
    let wrong = format!("http://127.0.0.1:{port}/");
    let (code, report) = doctor(&stage.broker, &["--no-trial", "--prometheus", &wrong]).await;
    assert_eq!(code, 1);
    is(&report, "alerts", "fail", "is no Prometheus: 404");
}

/// The subjects of the block of code that follows a heading of the page.
fn rights(heading: &str) -> String {
    let after = PAGE.split_once(heading).unwrap().1;
    let block = after.split("```").nth(1).unwrap();
    let lines = block.lines().skip(1).filter(|line| !line.is_empty());
    lines.map(|line| format!("{line:?}")).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn the_rights_on_the_page_are_enough_and_without_them_the_doctor_says_so() {
    let permissions =
        format!("permissions: {{publish: [{}], subscribe: [\"_INBOX.operator.>\"]}}", rights("### Rights"));
    let few = "permissions: {publish: [\"beamline.router.control.v1.>\"], subscribe: [\"_INBOX.few.>\"]}";
    let broker = Broker::with_config(&format!(
        "authorization {{ users: [{{user: all, password: p}}, {{user: operator, password: p, {permissions}}}, \
         {{user: few, password: p, {few}}}] }}"
    ))
    .await;
    let worker =
        Worker::start(&broker, |launch| launch.env("NATS_USER", "all").env("NATS_PASSWORD", "p")).await;
    let all = async_nats::ConnectOptions::new().user_and_password("all".to_owned(), "p".to_owned());
    let caller = Caller::with(all, &broker.url()).await;
    caller.put_policy("acme", &policy(&["a", "b"], json!({}))).await;
    report(&caller, "acme", ["success"; 10]).await;
    worker.follows(&caller).await;
    let operator =
        ["--nats-user", "operator", "--nats-password", "p", "--nats-inbox-prefix", "_INBOX.operator"];
    let (code, report) = doctor(&broker, &operator).await;
    assert_eq!(code, 0, "{report:#}");
    let recommend = ["rollout", "recommend", "--tenant", "acme"];
    let done = cli(&broker, &[&recommend[..], &operator].concat()).await;
    assert_eq!(done.code, 0, "{done:?}");
    let few = ["--nats-user", "few", "--nats-password", "p", "--nats-inbox-prefix", "_INBOX.few"];
    let (code, report) = doctor(&broker, &[&["--no-trial", "--timeout", "2s"], &few[..]].concat()).await;
    assert_eq!(code, 1, "{report:#}");
    is(&report, "log", "fail", "Permissions Violation");
    is(&report, "rollouts", "warn", "0 rollouts");
    is(&report, "request_id", "fail", "not known");
    is(&report, "fallback", "pass", "all 1");
    is(&report, "workers", "fail", "none answers");
    let advice = check(&report, "log")["advice"].as_str().unwrap();
    assert!(advice.contains("rights on BEAMLINE_LOG"), "{advice}");
    let done = cli(&broker, &[&recommend[..], &few].concat()).await;
    assert!(done.code == 3 && done.stderr.contains("Permissions Violation"), "{done:?}");
}

#[tokio::test]
async fn settings_are_recommended_by_the_log_and_fit_into_a_plan() {
    let stage = Stage::start().await;
    let caller = &stage.caller;
    caller.put_policy("acme", &policy(&["a", "b"], json!({"failure_threshold": 7}))).await;
    caller.put_policy("globex", &policy(&["a"], json!({}))).await;
    report(caller, "acme", ["success"; 550]).await;
    report(caller, "globex", ["success"; 5]).await;
    // A copy of a result counts once.
    let mut twice = result("acme", "a", "call-1", "error");
    twice["latency_ms"] = json!(0);
    for request in ["r-1", "r-2"] {
        twice["request_id"] = json!(request);
        caller.result(&twice).await;
    }
    report(caller, "acme", ["error"; 49]).await;
    let sh = async |args: &[&str]| cli(&stage.broker, &[&["rollout", "recommend"], args].concat()).await;

    let done = sh(&["--tenant", "acme", "--json"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    let found = body(&done);
    assert_eq!(
        (&found["calls"], &found["failures"], &found["outages"]),
        (&json!(600), &json!(50), &json!(1)),
        "{found:#}"
    );
    assert_eq!(found["best"]["failure_threshold"], 3, "{found:#}");
    assert_eq!(found["present_is_best"], false);
    let rows = found["settings"].as_array().unwrap();
    assert_eq!(rows.len(), 109, "the present settings and the grid");
    assert_eq!(
        (&rows[0]["present"], &rows[0]["circuit_breaker"]["failure_threshold"]),
        (&json!(true), &json!(7))
    );
    let best = rows.iter().find(|row| row["circuit_breaker"] == found["best"]).unwrap();
    assert_eq!(
        (&best["opens"], &best["needless_opens"], &best["successes_refused"]),
        (&json!(1), &json!(0), &json!(0)),
        "{best:#}"
    );
    // Calls of the millisecond in which it opens have begun before.
    let spared = best["failures_spared"].as_u64().unwrap();
    assert!((40..=47).contains(&spared), "{best:#}");
    let plan =
        json!({"kind": "PolicyRollout", "id": "cb", "history": "1m", "circuit_breaker": found["best"]});
    caller.command("rollout.lint", &json!({"plan": plan})).await;

    let done = sh(&["--tenant", "acme"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    let block = &done.stdout[done.stdout.find('{').unwrap()..];
    let block: Value = serde_json::from_str(block).unwrap();
    assert_eq!(block["circuit_breaker"], found["best"], "{}", done.stdout);
    assert!(done.stdout.starts_with("600 calls") && done.stdout.contains("present"), "{}", done.stdout);

    let done = sh(&["--tenant", "globex", "--json"]).await;
    let found = body(&done);
    assert_eq!((done.code, &found["best"], &found["calls"]), (0, &Value::Null, &json!(5)), "{found:#}");
    assert!(found["reason"].as_str().unwrap().contains("too little data"), "{found:#}");
    assert_eq!(sh(&["--tenant", "nobody"]).await.code, 5);
    assert_eq!(sh(&[]).await.code, 2, "whose?");
}
