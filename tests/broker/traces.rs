//! What spans tell, held against docs/tracing.md, and that a request which is not recorded builds none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use async_nats::HeaderMap;
use serde_json::{Value, json};

use crate::otlp::{Collector, Span, one_round, parent, traced};
use crate::support::{SOON, Stage, eventually, free_port, request};
use crate::traffic::{policy, result};

/// The cells of the table under a heading of the page that begins with this column.
fn table(page: &str, heading: &str, column: &str) -> Vec<Vec<String>> {
    let section = page.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no {heading}"));
    let lines = section.lines().skip_while(|l| !l.starts_with(&format!("| {column} |")));
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    let rows: Vec<_> = lines.skip(2).take_while(|l| l.starts_with('|')).map(cells).collect();
    assert!(rows.len() > 2, "no table under {heading}");
    rows
}

/// The words of a cell that stand between backticks.
fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn page() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tracing.md")).unwrap()
}

/// By which word the page knows a span.
fn word(span: &Span) -> &'static str {
    match span.name.as_str() {
        "process beamline.router.v1.decide" => "decide",
        "send caf.exec.assign.v1" => "assign",
        "process caf.exec.result.v1" => "result",
        name if name.starts_with("process beamline.router.control.v1.") => "control",
        name => panic!("a span called {name}"),
    }
}

/// One of everything that makes a span tell something: the last request's trace.
async fn everything(stage: &Stage) {
    let caller = &stage.caller;
    let breaker =
        json!({"enabled": true, "failure_threshold": 1, "timeout_ms": 1_000, "success_threshold": 1});
    let mut chat = policy(&["openai", "anthropic"], breaker.clone());
    chat["policy_id"] = json!("chat");
    chat["providers"][1]["weight"] = json!(0);
    chat["fallbacks"] = json!([{"when": {"status": ["circuit_breaker_open"]}, "to": "anthropic"}]);
    caller.put_policy("acme", &policy(&["openai"], breaker)).await;
    caller.put_policy("acme", &chat).await;
    let asked = |id: &str, more: Value| {
        let mut asked = request("acme", id);
        for (field, value) in more.as_object().unwrap() {
            asked[field] = value.clone();
        }
        asked
    };
    // On a tenant's own subjects, with ids of messages, pushed, and its result.
    let mut assignments = caller.listen("caf.exec.assign.v1").await;
    let mut headers = parent("01");
    headers.insert("Nats-Msg-Id", "m-1");
    let body = asked("r-1", json!({"push_assignment": true})).to_string();
    caller.ask("beamline.router.v1.tenant.acme.decide", headers, body).await;
    let id = assignments.next_json().await["assignment_id"].as_str().unwrap().to_owned();
    let mut done = result("acme", "openai", &id, "success");
    (done["request_id"], done["latency_ms"]) = (json!("r-1"), json!(5_000));
    let mut headers = parent("01");
    headers.insert("Nats-Msg-Id", id.as_str());
    let published =
        caller.jetstream.publish_with_headers("caf.exec.result.v1.acme", headers, done.to_string().into());
    stage.worker.applied(published.await.unwrap().await.unwrap().sequence).await;
    let ask = async |asked: Value| {
        caller.ask("beamline.router.v1.decide", parent("01"), asked.to_string()).await.json()
    };
    let answer = ask(asked("r-2", json!({"constraints": {"max_latency_ms": 1}}))).await;
    assert_eq!(answer["error"]["code"], "decision_failed", "{answer}");
    stage.fail("acme", "openai", 1).await;
    let answer = ask(asked("r-3", json!({"policy_id": "chat"}))).await;
    assert_eq!(answer["decision"]["reason"], "circuit_breaker_fallback", "{answer}");
    let answer = ask(asked("r-4", json!({}))).await;
    assert_eq!(answer["error"]["code"], "circuit_open", "{answer}");
    eventually("a probe", SOON, async || ask(asked("r-5", json!({}))).await["decision"]["probe"] == true)
        .await;
    let refused = caller.control("breaker.get", &json!({"tenant_id": "acme", "provider_id": "none"})).await;
    assert_eq!(refused["error"]["code"], "not_found");
}

#[tokio::test]
async fn spans_tell_what_the_page_says_and_nothing_else() {
    let collector = Collector::start().await;
    let endpoint = format!("http://127.0.0.1:{}", collector.http);
    let mut stage = Stage::with(|l| traced(l, "http/protobuf", endpoint)).await;
    everything(&stage).await;
    assert_eq!(stage.worker.stop().await, 0);
    let mut before = Vec::new();
    let spans = eventually("every span is printed", SOON, async || {
        let spans = collector.spans();
        let whole = spans == before && spans.iter().any(|s| s.name.ends_with("breaker.get"));
        before.clone_from(&spans);
        whole.then_some(spans)
    })
    .await;

    let page = page();
    let documented: BTreeSet<_> =
        table(&page, "Spans", "span").iter().flat_map(|row| quoted(&row[0])).collect();
    let seen: BTreeSet<_> = spans
        .iter()
        .map(|span| match word(span) {
            "control" => "process beamline.router.control.v1.<verb>".to_owned(),
            _ => span.name.clone(),
        })
        .collect();
    assert_eq!(seen, documented, "names");

    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for span in &spans {
        for key in span.attributes.keys() {
            seen.entry(key.clone()).or_default().insert(word(span).to_owned());
        }
    }
    let on = |row: &Vec<String>| row[1].split(", ").map(str::to_owned).collect::<BTreeSet<_>>();
    let documented: BTreeMap<_, _> = table(&page, "Attributes", "attribute")
        .iter()
        .map(|row| (quoted(&row[0]).pop_first().unwrap(), on(row)))
        .collect();
    assert_eq!(seen, documented, "attributes, and the spans that they are on");

    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, attributes) in spans.iter().flat_map(|span| &span.events) {
        seen.entry(name.clone()).or_default().extend(attributes.keys().cloned());
    }
    let documented: BTreeMap<_, _> = table(&page, "Steps of a decision", "event")
        .iter()
        .map(|row| (quoted(&row[0]).pop_first().unwrap(), quoted(&row[1])))
        .collect();
    assert_eq!(seen, documented, "events and their attributes");

    // A trace reads as a story.
    let of = |request: &str| {
        let id = format!("Str({request})");
        let is = |s: &&Span| word(s) == "decide" && s.attributes.get("beamline.request_id") == Some(&id);
        spans.iter().rfind(is).unwrap_or_else(|| panic!("{request}: {spans:#?}"))
    };
    let steps = |request: &str| {
        let told = of(request).events.iter().map(|(name, attributes)| {
            let value =
                |key: &str| attributes.get(key).map(|v| v.trim_start_matches("Str(").trim_end_matches(')'));
            let said = value("beamline.check.result").or(value("beamline.claim.outcome")).unwrap_or("-");
            format!("{name} {} {said}", value("beamline.provider_id").unwrap())
        });
        told.collect::<Vec<_>>()
    };
    assert_eq!(steps("r-1"), ["circuit_breaker_check openai allowed"]);
    assert_eq!(steps("r-2"), ["constraint openai -"]);
    assert_eq!(
        steps("r-3"),
        [
            "circuit_breaker_check openai rejected",
            "fallback anthropic -",
            "circuit_breaker_check anthropic allowed"
        ]
    );
    assert_eq!(steps("r-4"), ["circuit_breaker_check openai rejected"]);
    assert_eq!(steps("r-5"), ["probe_claim openai granted", "circuit_breaker_check openai allowed"]);
    let open = of("r-4");
    assert_eq!(
        (open.status.as_str(), open.attributes["error.type"].as_str()),
        ("STATUS_CODE_ERROR", "Str(circuit_open)")
    );
    assert_eq!(open.message, "every provider left is refused by its circuit breaker");
    assert_eq!(of("r-3").status, "STATUS_CODE_UNSET");
    let ended = spans.iter().find(|s| word(s) == "result").unwrap();
    assert_eq!(ended.links, [(of("r-1").trace.clone(), of("r-1").id.clone())]);
    let template = "Str(beamline.router.v1.tenant.{tenant}.decide)";
    assert_eq!(of("r-1").attributes["messaging.destination.template"], template);
}

/// Spans built since the start.
async fn built(stage: &Stage) -> u64 {
    stage.worker.count("router_trace_spans_started_total").await
}

/// Asks so many times, with this flag in the context or with no context at all.
async fn ask(stage: &Stage, times: usize, flags: Option<&str>) {
    for n in 0..times {
        let headers = flags.map_or_else(HeaderMap::new, parent);
        let asked = request("acme", &uuid::Uuid::new_v4().to_string()).to_string();
        let subject =
            if n % 2 == 0 { "beamline.router.v1.decide" } else { "beamline.router.v1.tenant.acme.decide" };
        let answer = stage.caller.ask(subject, headers, asked).await.json();
        assert_eq!(answer["ok"], true, "{answer}");
    }
}

#[tokio::test]
async fn a_request_that_is_not_recorded_builds_no_span() {
    // Nobody collects: what is counted is what was built.
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let on = |l| traced(l, "http/protobuf", endpoint.clone());
    let sampler = |name: &'static str| {
        move |l| on(l).env("OTEL_TRACES_SAMPLER", name).env("OTEL_TRACES_SAMPLER_ARG", 0)
    };
    let breaker = json!({"enabled": true, "failure_threshold": 100, "minimum_requests": 1_000});

    let stage = Stage::with(on).await;
    stage.caller.put_policy("acme", &policy(&["a"], breaker.clone())).await;
    assert_eq!(built(&stage).await, 1, "the verb's");
    ask(&stage, 300, Some("00")).await;
    for _ in 0..5 {
        one_round(&stage, "00").await;
    }
    assert_eq!(stage.worker.count("router_decisions_total").await, 305);
    assert_eq!(built(&stage).await, 1, "not one of 305 decisions, nor of 5 assignments and results");
    ask(&stage, 40, Some("01")).await;
    assert_eq!(built(&stage).await, 41);
    for _ in 0..5 {
        one_round(&stage, "01").await;
    }
    assert_eq!(built(&stage).await, 56, "decision, assignment and result");
    ask(&stage, 7, None).await;
    assert_eq!(built(&stage).await, 63, "a trace that begins here is recorded by default");

    let stage = Stage::with(sampler("parentbased_traceidratio")).await;
    stage.caller.put_policy("acme", &policy(&["a"], breaker.clone())).await;
    ask(&stage, 300, None).await;
    ask(&stage, 300, Some("00")).await;
    assert_eq!(built(&stage).await, 0, "a share of none");
    ask(&stage, 30, Some("01")).await;
    assert_eq!(built(&stage).await, 30, "the caller's wish goes first");

    let stage = Stage::with(sampler("traceidratio")).await;
    stage.caller.put_policy("acme", &policy(&["a"], breaker.clone())).await;
    ask(&stage, 100, Some("01")).await;
    assert_eq!(built(&stage).await, 0, "a share of none, whatever the caller wishes");

    let stage = Stage::start().await;
    stage.caller.put_policy("acme", &policy(&["a"], breaker)).await;
    ask(&stage, 100, Some("01")).await;
    assert_eq!(built(&stage).await, 0, "off");
}
