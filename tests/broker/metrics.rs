//! What monitors read.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::support::{Metrics, Stage, request, run, tool};

/// One request was decided, and then the circuit opened: it shows all that a breaker can.
async fn opened() -> Stage {
    let stage = Stage::start().await;
    let policy = json!({
        "policy_id": "default", "providers": [{"name": "a", "weight": 100}],
        "circuit_breaker": {"enabled": true, "failure_threshold": 2}
    });
    stage.caller.put_policy("acme", &policy).await;
    stage.caller.decided(&request("acme", "r-1")).await;
    stage.fail("acme", "a", 2).await;
    stage
}

#[tokio::test]
async fn every_metric_of_the_contract_is_there_once_something_happened() {
    let stage = opened().await;
    stage.caller.decide(&request("acme", "r-2")).await;
    let metrics = stage.worker.metrics().await;
    let breaker = [("tenant_id", "acme"), ("provider_id", "a")];
    for event in ["success", "failure", "fail_fast", "would_reject", "ignored", "late", "duplicate"] {
        let labels = [breaker[0], breaker[1], ("event_type", event)];
        assert!(metrics.value("router_circuit_breaker_events_total", &labels).is_some(), "{event}");
    }
    for name in [
        "error_rate",
        "window_requests",
        "window_failures",
        "timeout_remaining_seconds",
        "last_transition_timestamp_seconds",
        "requests_saved_total",
    ] {
        let name = format!("router_circuit_breaker_{name}");
        assert!(metrics.value(&name, &breaker).is_some(), "{name}");
    }
    let states = ["closed", "open", "half_open"].map(|state| {
        metrics.value("router_circuit_breaker_state", &[breaker[0], breaker[1], ("state", state)])
    });
    assert_eq!(states, [Some(0.0), Some(1.0), Some(0.0)]);
    for name in ["state_transitions_total", "timeout_transitions_total", "trigger_reason_total"] {
        let name = format!("router_circuit_breaker_{name}");
        assert!(metrics.series(&name, &breaker) > 0, "{name}");
    }
    for reason in [
        "failure_threshold_exceeded",
        "error_rate_threshold_exceeded",
        "latency_threshold_exceeded",
        "half_open_failure",
        "forced",
    ] {
        let name = "router_circuit_breaker_trigger_reason_total";
        assert!(metrics.series(name, &[("reason", reason)]) > 0, "{reason}");
    }
    assert_eq!(
        metrics.value("router_decisions_total", &[("outcome", "decided"), ("reason", "weighted")]),
        Some(1.0)
    );
    assert_eq!(metrics.sum("router_decisions_total", &[("outcome", "circuit_open")]), 1.0);
    for name in ["router_decision_duration_seconds", "router_breaker_check_duration_seconds"] {
        assert!(metrics.value(&format!("{name}_count"), &[]).is_some_and(|n| n >= 2.0), "{name}");
        assert!(metrics.value(&format!("{name}_sum"), &[]).is_some_and(|s| s > 0.0 && s < 60.0), "{name}");
        assert!(
            metrics.value(&format!("{name}_bucket"), &[("le", "+Inf")]).is_some_and(|n| n >= 2.0),
            "{name}"
        );
    }
    assert_eq!(
        metrics.value("router_results_total", &[("status", "error"), ("disposition", "applied")]),
        Some(2.0)
    );
    for name in [
        "router_log_position",
        "router_log_lag_entries",
        "router_log_state_digest",
        "router_nats_connected",
        "router_replies_dropped_total",
        "router_trace_spans_dropped_total",
        "router_nats_slow_consumer_total",
    ] {
        assert!(metrics.value(name, &[]).is_some(), "{name}");
    }
    assert!(metrics.series("router_nats_publish_failures_total", &[]) > 0);
    assert_eq!(metrics.value("router_nats_connected", &[]), Some(1.0));
    for name in metrics.names() {
        let labels = metrics.labels(name);
        let named = labels.iter().any(|l| l.contains_key("tenant_id") || l.contains_key("provider_id"));
        assert!(!named || name.starts_with("router_circuit_breaker_"), "{name} has a tenant or a provider");
    }
}

#[tokio::test]
async fn the_page_is_openmetrics_and_promtool_reads_it() {
    let stage = Stage::start().await;
    let policy = json!({"policy_id": "default", "providers": [{"name": "a\u{2e}b:c", "weight": 100}]});
    stage.caller.put_policy("acme", &policy).await;
    stage.caller.decided(&request("acme", "r-1")).await;
    let page = stage.worker.get("/metrics").await.unwrap();
    let head = page.head.to_ascii_lowercase();
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    let Some(promtool) = tool("PROMTOOL_BIN", "promtool") else {
        eprintln!("no promtool: the page is read by the test's own reader only");
        return;
    };
    let check = async |page: &str| {
        let mut command = std::process::Command::new(&promtool);
        command.args(["check", "metrics"]);
        run(command, page).await
    };
    // It knows the older text format only, in which a counter's family has the name of its series: here
    // it finds no help for them, and says nothing else.
    let done = check(&page.body).await;
    let advice: Vec<_> = done.stdout.lines().chain(done.stderr.lines()).collect();
    assert!(done.code == 3 && advice.iter().all(|line| line.ends_with("_total no help text")), "{done:?}");
    // The same page in the older format.
    let lines = || page.body.lines().map(|line| (line, line.splitn(4, ' ').collect::<Vec<_>>()));
    let counter = |words: &[&str]| matches!(words, ["#", "TYPE", _, "counter"]).then(|| words[2].to_owned());
    let counters: BTreeSet<String> = lines().filter_map(|(_, words)| counter(&words)).collect();
    let older = lines().filter_map(|(line, words)| match words[..] {
        ["#", "EOF"] | ["#", "UNIT", ..] => None,
        ["#", word, name, rest] if counters.contains(name) => Some(format!("# {word} {name}_total {rest}\n")),
        _ => Some(format!("{line}\n")),
    });
    let older: String = older.collect();
    let done = check(&older).await;
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (0, "", ""));
}

#[tokio::test]
async fn health_and_console_answer() {
    let stage = Stage::start().await;
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/", 200), ("/nothing", 404)] {
        assert_eq!(stage.worker.get(path).await.unwrap().status, status, "{path}");
    }
    assert_eq!(
        stage.worker.get("/readyz").await.unwrap().json(),
        serde_json::json!([]),
        "no reason against it"
    );
    assert!(stage.worker.get("/").await.unwrap().body.contains("<html"));
}

/// What `docs/metrics.md` says of one family.
#[derive(Debug, Default)]
struct Documented {
    kind: String,
    unit: String,
    /// Each label, and its values; none where they are not listed.
    labels: BTreeMap<String, BTreeSet<String>>,
    queries: usize,
}

/// The words in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split('`').skip(1).step_by(2).map(str::to_owned)
}

fn documented() -> BTreeMap<String, Documented> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).unwrap();
    let mut families = BTreeMap::new();
    for section in page.split("\n### ").skip(1) {
        // The next group's heading and what follows it belong to no family.
        let section = section.split("\n## ").next().unwrap();
        let (name, text) = section.split_once('\n').unwrap();
        let mut family = Documented::default();
        let (kind, rest) = text.trim_start().strip_prefix("**").unwrap().split_once("** (").unwrap();
        family.kind = kind.to_owned();
        family.unit = rest.split_once(')').unwrap().0.to_owned();
        // A label is a list item, which may go on over several lines.
        for item in text.split("\n- ").skip(1) {
            let mut words = quoted(item.split("\n\n").next().unwrap());
            family.labels.insert(words.next().unwrap(), words.collect());
        }
        family.queries = text.matches("```promql\n").count();
        let before = families.insert(name.trim_matches('`').to_owned(), family);
        assert!(before.is_none(), "{name} stands twice");
    }
    families
}

#[tokio::test]
async fn the_page_and_its_documentation_say_the_same() {
    let stage = opened().await;
    stage.caller.control("policy.get", &json!({"tenant_id": "acme", "policy_id": "none"})).await;
    crate::rollouts::idle(&stage.caller).await;
    let page = stage.worker.get("/metrics").await.unwrap().body;
    let metrics = Metrics::parse(&page);

    let documented = documented();
    let head = |word: &str| -> BTreeMap<&str, &str> {
        page.lines()
            .filter_map(|l| l.strip_prefix("# ")?.strip_prefix(word)?.trim().split_once(' '))
            .collect()
    };
    let (types, units) = (head("TYPE"), head("UNIT"));
    let exposed: BTreeSet<String> = types
        .iter()
        .map(|(name, kind)| if *kind == "counter" { format!("{name}_total") } else { (*name).to_owned() })
        .collect();
    assert_eq!(exposed, documented.keys().cloned().collect(), "exposed, and documented");

    for (name, family) in &documented {
        let stem = name.strip_suffix("_total").unwrap_or(name);
        assert_eq!(types[stem], family.kind, "the type of {name}");
        assert_eq!(units.get(stem) == Some(&"seconds"), family.unit == "seconds", "the unit of {name}");
        assert!(family.queries > 0, "{name} has no query");
        let series = if family.kind == "histogram" { format!("{name}_bucket") } else { name.clone() };
        let shown = metrics.labels(&series);
        assert!(!shown.is_empty(), "{name} has no series");
        let mut expected: BTreeSet<&str> = family.labels.keys().map(String::as_str).collect();
        if name.starts_with("router_circuit_breaker_") {
            expected.extend(["tenant_id", "provider_id"]);
        } else if name.starts_with("router_rollout_") && family.kind == "gauge" {
            expected.insert("rollout");
        }
        for labels in shown {
            assert_eq!(labels.keys().map(String::as_str).collect::<BTreeSet<_>>(), expected, "{name}");
        }
        for (label, values) in family.labels.iter().filter(|(_, values)| !values.is_empty()) {
            let shown: BTreeSet<_> = metrics.labels(&series).iter().map(|l| l[label].clone()).collect();
            // The error codes of control verbs appear with the first of each; one came about here.
            let some = (name.as_str(), label.as_str()) == ("router_control_requests_total", "outcome");
            assert!(shown.is_subset(values), "{name}, {label}: {shown:?} and {values:?}");
            assert!(some || shown == *values, "{name}, {label}: {shown:?} and {values:?}");
        }
    }
}
