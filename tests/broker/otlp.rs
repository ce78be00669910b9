//! Traces, as a real collector receives them.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use async_nats::HeaderMap;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::support::{Answer, Launch, Process, SOON, Stage, Worker, eventually, free_port, request, tool};
use crate::traffic::{Asking, policy, result};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER_SPAN: &str = "b7ad6b7169203331";

/// A collector that prints what it receives.
pub(crate) struct Collector {
    process: Process,
    pub(crate) grpc: u16,
    pub(crate) http: u16,
    _folder: TempDir,
}

/// A span as the collector understood it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) parent: String,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) status: String,
    /// The status in words.
    pub(crate) message: String,
    pub(crate) attributes: BTreeMap<String, String>,
    /// The trace and the span of each link.
    pub(crate) links: Vec<(String, String)>,
    /// The name and the attributes of each event.
    pub(crate) events: Vec<(String, BTreeMap<String, String>)>,
}

/// Which part of a span is being read.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Itself,
    Link,
    Event,
    /// What follows is of the next spans' resource, and of no span.
    Resource,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let rotel =
            tool("ROTEL_BIN", "rotel").expect("no rotel: run scripts/tools.py test, or set ROTEL_BIN");
        let (grpc, http, folder) = (free_port(), free_port(), tempfile::tempdir().unwrap());
        let mut command = Command::new(rotel);
        command
            .args(["start", "--exporter", "blackhole", "--debug-log", "traces"])
            .args(["--debug-log-verbosity", "detailed"])
            .arg(format!("--otlp-grpc-endpoint=127.0.0.1:{grpc}"))
            .arg(format!("--otlp-http-endpoint=127.0.0.1:{http}"))
            .arg("--pid-file")
            .arg(folder.path().join("pid"))
            .arg("--log-file")
            .arg(folder.path().join("log"));
        let process = Process::spawn("rotel", &mut command);
        for port in [grpc, http] {
            eventually("the collector listens", SOON, async || {
                TcpStream::connect(("127.0.0.1", port)).await.is_ok()
            })
            .await;
        }
        Self { process, grpc, http, _folder: folder }
    }

    /// Every span received by now.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let mut part = Part::Itself;
        for line in self.process.stdout.all() {
            let line = line.trim();
            if line.starts_with("Span #") {
                spans.push(Span::default());
                part = Part::Itself;
                continue;
            }
            if line.starts_with("ResourceSpans #") {
                part = Part::Resource;
            }
            let Some(span) = spans.last_mut() else { continue };
            if line.starts_with("SpanLink #") {
                part = Part::Link;
                span.links.push(Default::default());
                continue;
            }
            if line.starts_with("SpanEvent #") {
                part = Part::Event;
                span.events.push(Default::default());
                continue;
            }
            let Some((key, value)) = line.trim_start_matches("-> ").split_once(": ") else { continue };
            let (key, value) = (key.trim(), value.trim().to_owned());
            match (part, key) {
                (Part::Resource, _) => {}
                (Part::Link, "Trace ID") => span.links.last_mut().unwrap().0 = value,
                (Part::Link, "ID") => span.links.last_mut().unwrap().1 = value,
                (Part::Event, "Name") => span.events.last_mut().unwrap().0 = value,
                (Part::Event, "Timestamp" | "DroppedAttributesCount") => {}
                (Part::Event, _) => {
                    span.events.last_mut().unwrap().1.insert(key.to_owned(), value);
                }
                (Part::Itself, "Trace ID") => span.trace = value,
                (Part::Itself, "Parent ID") => span.parent = value,
                (Part::Itself, "ID") => span.id = value,
                (Part::Itself, "Name") => span.name = value,
                (Part::Itself, "Kind") => span.kind = value,
                (Part::Itself, "Status code") => span.status = value,
                (Part::Itself, "Status message") => span.message = value,
                (Part::Itself, _) if line.starts_with("-> ") => {
                    span.attributes.insert(key.to_owned(), value);
                }
                _ => {}
            }
        }
        spans
    }

    /// All that it said.
    pub(crate) fn said(&self) -> String {
        self.process.stdout.all().join("\n")
    }

    /// The one span of a name in the caller's trace.
    async fn span(&self, name: &str) -> Span {
        // The collector prints line by line: what two looks see alike is printed to its end.
        let mut before = Vec::new();
        let found = eventually(name, SOON, async || {
            let found: Vec<_> =
                self.spans().into_iter().filter(|s| s.name == name && s.trace == TRACE).collect();
            let whole = !found.is_empty() && found == before;
            before.clone_from(&found);
            whole.then_some(found)
        })
        .await;
        assert_eq!(found.len(), 1, "{found:#?}");
        found[0].clone()
    }
}

/// Sends spans to this endpoint, without waiting for a batch to fill.
pub(crate) fn traced(launch: Launch, protocol: &str, endpoint: String) -> Launch {
    launch
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_BSP_SCHEDULE_DELAY", 100)
}

pub(crate) fn parent(flags: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", format!("00-{TRACE}-{CALLER_SPAN}-{flags}").as_str());
    headers
}

/// Asks for a pushed decision under a trace, and answers the assignment: what the assignment carried.
pub(crate) async fn one_round(stage: &Stage, flags: &str) -> (Answer, Value) {
    let mut assignments = stage.caller.listen("caf.exec.assign.v1").await;
    let mut asked = request("acme", &uuid::Uuid::new_v4().to_string());
    asked["push_assignment"] = json!(true);
    let answer = stage.caller.ask("beamline.router.v1.decide", parent(flags), asked.to_string()).await;
    assert_eq!(answer.json()["ok"], true, "{:?}", answer.json());
    let assignment = Answer::of(assignments.next().await);
    let body = assignment.json();
    let mut done = result("acme", "a", body["assignment_id"].as_str().unwrap(), "error");
    done["request_id"] = asked["request_id"].clone();
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", assignment.header("traceparent").unwrap());
    let published =
        stage.caller.jetstream.publish_with_headers("caf.exec.result.v1", headers, done.to_string().into());
    let sequence = published.await.unwrap().await.unwrap().sequence;
    stage.worker.applied(sequence).await;
    (assignment, asked)
}

async fn the_span_tree_arrives(protocol: &str, port: impl FnOnce(&Collector) -> u16) {
    let collector = Collector::start().await;
    let endpoint = format!("http://127.0.0.1:{}", port(&collector));
    let stage = Stage::with(|l| traced(l, protocol, endpoint)).await;
    let revision = stage.caller.put_policy("acme", &policy(&["a"], json!({"enabled": true}))).await;
    let (assignment, asked) = one_round(&stage, "01").await;
    let body = assignment.json();

    let decision = collector.span("process beamline.router.v1.decide").await;
    assert_eq!((decision.parent.as_str(), decision.kind.as_str()), (CALLER_SPAN, "SPAN_KIND_CONSUMER"));
    let attributes = |span: &Span, want: &[(&str, String)]| {
        for (key, value) in want {
            assert_eq!(span.attributes.get(*key), Some(value), "{key} of {span:#?}");
        }
    };
    let text = |value: &Value| format!("Str({})", value.as_str().unwrap());
    attributes(
        &decision,
        &[
            ("messaging.system", "Str(nats)".to_owned()),
            ("messaging.operation.type", "Str(process)".to_owned()),
            ("messaging.destination.name", "Str(beamline.router.v1.decide)".to_owned()),
            ("messaging.consumer.group.name", "Str(beamline-router)".to_owned()),
            ("beamline.request_id", text(&asked["request_id"])),
            ("beamline.tenant_id", "Str(acme)".to_owned()),
            ("beamline.policy_id", "Str(default)".to_owned()),
            ("beamline.policy_revision", format!("Int({revision})")),
            ("beamline.provider_id", "Str(a)".to_owned()),
            ("beamline.reason", "Str(weighted)".to_owned()),
            ("beamline.breaker.state", "Str(closed)".to_owned()),
            ("beamline.assignment_id", text(&body["assignment_id"])),
        ],
    );
    let sent = collector.span("send caf.exec.assign.v1").await;
    assert_eq!((sent.parent.as_str(), sent.kind.as_str()), (decision.id.as_str(), "SPAN_KIND_PRODUCER"));
    attributes(&sent, &[("messaging.message.id", text(&body["assignment_id"]))]);
    // The assignment continues where the sending span stands.
    assert_eq!(assignment.header("traceparent"), Some(format!("00-{TRACE}-{}-01", sent.id).as_str()));

    let processed = collector.span("process caf.exec.result.v1").await;
    assert_eq!(
        (processed.parent.as_str(), processed.kind.as_str()),
        (sent.id.as_str(), "SPAN_KIND_CONSUMER")
    );
    assert_eq!(processed.links, [(TRACE.to_owned(), decision.id.clone())]);
    attributes(
        &processed,
        &[
            ("beamline.result.status", "Str(error)".to_owned()),
            ("beamline.result.disposition", "Str(applied)".to_owned()),
            ("beamline.assignment_id", text(&body["assignment_id"])),
        ],
    );
    let control = eventually("the control verb's span", SOON, async || {
        collector.spans().into_iter().find(|s| s.name == "process beamline.router.control.v1.policy.put")
    })
    .await;
    assert_eq!(control.kind, "SPAN_KIND_CONSUMER");
    assert_eq!(stage.worker.count("router_trace_spans_dropped_total").await, 0);
}

#[tokio::test]
async fn a_pushed_decisions_span_tree_arrives_over_grpc() {
    the_span_tree_arrives("grpc", |c| c.grpc).await;
}

#[tokio::test]
async fn a_pushed_decisions_span_tree_arrives_over_http() {
    the_span_tree_arrives("http/protobuf", |c| c.http).await;
}

#[tokio::test]
async fn a_refused_request_ends_its_span_with_the_error_code() {
    let collector = Collector::start().await;
    let stage = Stage::with(|l| traced(l, "grpc", format!("http://127.0.0.1:{}", collector.grpc))).await;
    let asked = request("acme", "r-1").to_string();
    stage.caller.ask("beamline.router.v1.tenant.acme.decide", parent("01"), asked).await;
    let span = collector.span("process beamline.router.v1.decide").await;
    assert_eq!(span.status, "STATUS_CODE_ERROR");
    assert_eq!(span.attributes["error.type"], "Str(policy_not_found)");
    assert_eq!(span.attributes["messaging.destination.name"], "Str(beamline.router.v1.tenant.acme.decide)");
}

#[tokio::test]
async fn an_unsampled_parent_leaves_no_span_and_its_context_is_passed_on() {
    let collector = Collector::start().await;
    let stage = Stage::with(|l| traced(l, "grpc", format!("http://127.0.0.1:{}", collector.grpc))).await;
    stage.caller.put_policy("acme", &policy(&["a"], json!({"enabled": true}))).await;
    let (assignment, _) = one_round(&stage, "00").await;
    let passed = assignment.header("traceparent").unwrap();
    assert_eq!(passed, format!("00-{TRACE}-{CALLER_SPAN}-00"));
    // A later span of another trace is there: those of this one would be too.
    let last = stage.caller.put_policy("last", &policy(&["a"], json!({}))).await;
    assert!(last > 0);
    eventually("a later span arrives", SOON, async || {
        collector.spans().iter().filter(|s| s.name.ends_with("policy.put")).count() == 2
    })
    .await;
    assert!(collector.spans().iter().all(|s| s.trace != TRACE), "{:#?}", collector.spans());
}

#[tokio::test]
async fn a_sampler_that_is_always_off_leaves_no_span() {
    let collector = Collector::start().await;
    let endpoint = format!("http://127.0.0.1:{}", collector.grpc);
    let off = |l| traced(l, "grpc", endpoint.clone()).env("OTEL_TRACES_SAMPLER", "always_off");
    let mut stage = Stage::with(off).await;
    stage.caller.put_policy("acme", &policy(&["a"], json!({"enabled": true}))).await;
    let (assignment, _) = one_round(&stage, "01").await;
    let passed = assignment.header("traceparent").unwrap();
    assert!(passed.starts_with(&format!("00-{TRACE}-")), "{passed}");
    // The end flushes what there is, and what another worker sends later comes later.
    assert_eq!(stage.worker.stop().await, 0);
    stage.worker = Worker::start(&stage.broker, |l| traced(l, "grpc", endpoint.clone())).await;
    stage.caller.put_policy("last", &policy(&["a"], json!({}))).await;
    let arrived = eventually("a later span arrives", SOON, async || {
        let spans = collector.spans();
        (!spans.is_empty()).then_some(spans)
    })
    .await;
    assert!(
        arrived.iter().all(|s| s.name == "process beamline.router.control.v1.policy.put"),
        "{arrived:#?}"
    );
    assert_eq!(arrived.len(), 1);
}

#[tokio::test]
async fn what_waits_is_sent_at_the_end() {
    let collector = Collector::start().await;
    let endpoint = format!("http://127.0.0.1:{}", collector.http);
    let slow = |l| traced(l, "http/protobuf", endpoint).env("OTEL_BSP_SCHEDULE_DELAY", 600_000);
    let mut stage = Stage::with(slow).await;
    stage.caller.put_policy("acme", &policy(&["a"], json!({"enabled": true}))).await;
    one_round(&stage, "01").await;
    assert_eq!(stage.worker.stop().await, 0);
    collector.span("process beamline.router.v1.decide").await;
    collector.span("process caf.exec.result.v1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_dead_or_never_answers_costs_decisions_nothing() {
    // One where nobody listens, one that takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let measure = async |settings: &dyn Fn(Launch) -> Launch| {
        let stage = Stage::with(settings).await;
        stage.caller.put_policy("acme", &policy(&["a"], json!({"enabled": true}))).await;
        let asking = Asking::start(&stage.caller.client, "acme", 400, Duration::from_secs(5));
        eventually("requests are answered", SOON, async || {
            stage.worker.metrics().await.sum("router_decisions_total", &[]) >= 1_000.0
        })
        .await;
        let asked = asking.stop().await;
        assert_eq!(asked.decided, asked.sent, "{asked:?}");
        (stage, asked)
    };
    let (_, plain) = measure(&|l| l).await;
    for (port, protocol) in [(free_port(), "grpc"), (free_port(), "http/protobuf"), (silent_port, "grpc")] {
        let settings = move |l| {
            traced(l, protocol, format!("http://127.0.0.1:{port}"))
                .env("OTEL_BSP_MAX_QUEUE_SIZE", 64)
                .env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 64)
                .env("OTEL_EXPORTER_OTLP_TIMEOUT", 500)
        };
        let (mut stage, asked) = measure(&settings).await;
        // Ten times and some of a machine that is busy with other tests; a wait for it would be 500 ms.
        let most = plain.median() * 10 + Duration::from_millis(20);
        assert!(
            asked.median() < most,
            "{protocol} to {port}: {:?}, {:?} without",
            asked.median(),
            plain.median()
        );
        // Each decision's span is lost, and counted.
        eventually("drops are counted", SOON, async || {
            stage.worker.count("router_trace_spans_dropped_total").await as f64 >= asked.sent as f64 - 128.0
        })
        .await;
        assert!(stage.worker.reasons().await.is_empty(), "a dead collector is no reason not to be ready");
        assert!(!stage.worker.events("trace_export_failed").is_empty());
        assert_eq!(stage.worker.stop().await, 0);
    }
}
