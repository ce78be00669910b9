//! What operators watch the router with, on a worker whose providers fail: a real Prometheus with the
//! shipped rules, an Alertmanager that tells somebody, and every query of the dashboard and the docs.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::support::{Alertmanager, Caller, Prometheus, SOON, Stage, Webhook, eventually, request};
use crate::traffic::{RECOVERY, ask, policy, result, until_acknowledged};

/// The rules' times are divided by this: an hour is a minute.
const FASTER: u64 = 60;

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// A duration such as `5m` at the beginning of a text, in milliseconds, and how long it is there.
fn duration(text: &str) -> Option<(u64, usize)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match text.as_bytes().get(digits)? {
        b's' => 1_000,
        b'm' => 60_000,
        b'h' => 3_600_000,
        b'd' => 86_400_000,
        _ => return None,
    };
    Some((number * unit, digits + 1))
}

/// The shipped rules with every range and every `for` made shorter.
fn hastened(rules: &str) -> String {
    let mut out = String::new();
    let mut rest = rules;
    while let Some(at) = ["[", " for: "].iter().filter_map(|mark| Some(rest.find(mark)? + mark.len())).min() {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some((ms, length)) = duration(rest) {
            out.push_str(&format!("{}ms", ms / FASTER));
            rest = &rest[length..];
        }
    }
    out + rest
}

#[test]
fn rules_are_hastened_wherever_they_wait() {
    let text = "expr: rate(x[5m]) > [1]\n        for: 30s\n  - for: nobody";
    assert_eq!(hastened(text), "expr: rate(x[5000ms]) > [1]\n        for: 500ms\n  - for: nobody");
    let all = hastened(&file("deploy/prometheus/rules.yml"));
    assert!(all.contains("[4320000ms]"), "three days are 72 minutes");
    assert!(!all.contains("[5m]") && !all.contains("for: 15m"));
}

/// Clients and executors of three tenants. While they are sick, `a` and `b` fail.
struct Traffic {
    stop: CancellationToken,
    sick: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Traffic {
    fn start(caller: &Caller) -> Self {
        let (stop, sick) = (CancellationToken::new(), Arc::new(AtomicBool::new(true)));
        let task = tokio::spawn(Self::run(caller.clone(), stop.clone(), Arc::clone(&sick)));
        Self { stop, sick, task }
    }

    async fn run(caller: Caller, stop: CancellationToken, sick: Arc<AtomicBool>) {
        let mut waiting = JoinSet::new();
        while !stop.is_cancelled() {
            for tenant in ["acme", "solo", "shadow"] {
                waiting.spawn(Self::one(caller.clone(), tenant, sick.load(Ordering::Relaxed)));
            }
            while waiting.try_join_next().is_some() {}
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn one(caller: Caller, tenant: &'static str, sick: bool) {
        let id = uuid::Uuid::new_v4().to_string();
        let Ok((answer, _)) = ask(caller.client.clone(), request(tenant, &id), SOON).await else { return };
        let Some(provider) = answer["decision"]["provider_id"].as_str() else { return };
        let status = if sick && provider != "c" { "error" } else { "success" };
        let mut body = result(tenant, provider, &format!("n-{id}"), status);
        body["request_id"] = json!(id);
        until_acknowledged(&caller, body.to_string()).await;
    }

    fn heal(&self) {
        self.sick.store(false, Ordering::Relaxed);
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// What stands in a query for a metric: its name and its matchers.
fn selectors(query: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let mut rest = query;
    while let Some(start) = rest.find(is_name) {
        rest = &rest[start..];
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let matchers = if after.starts_with('{') { &after[..after.find('}').unwrap() + 1] } else { "" };
        if name.starts_with("router_") || name.contains(":router_") {
            found.insert(format!("{name}{matchers}"));
        }
        rest = &after[matchers.len()..];
    }
    found
}

#[test]
fn selectors_are_found_with_their_matchers() {
    let query = r#"sum by (x) (rate(router_a{b="router_c", d=~"}"}[5m])) / job:router_e:max + max(router_f)"#;
    // A brace within a matcher ends it: none of the queries has one.
    let query = query.replace("}\"}", "e\"}");
    let expected = [r#"job:router_e:max"#, r#"router_a{b="router_c", d=~"e"}"#, "router_f"];
    assert_eq!(selectors(&query).iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

/// All queries of the dashboard, its variables put in as Grafana would for "All".
fn of_the_dashboard() -> Vec<String> {
    let dashboard: Value =
        serde_json::from_str(&file("deploy/grafana/dashboards/beamline-router.json")).unwrap();
    let mut queries = Vec::new();
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(query) = variable["query"]["query"].as_str() {
            // label_values(selector, label)
            let inside = query.strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap();
            let (selector, label) = inside.rsplit_once(", ").unwrap();
            queries.push(format!("count by ({label}) ({selector})"));
        }
    }
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    queries.extend(targets.map(|target| target["expr"].as_str().unwrap().to_owned()));
    let substituted = |mut query: String| {
        for (variable, value) in [
            ("$__rate_interval", "5s"),
            ("$__range", "1m"),
            ("$job", ".*"),
            ("$tenant", ".*"),
            ("$provider", ".*"),
        ] {
            query = query.replace(variable, value);
        }
        assert!(!query.contains('$'), "a variable that nobody knows: {query}");
        query
    };
    queries.into_iter().map(substituted).collect()
}

/// All queries of `docs/metrics.md`.
fn of_the_docs() -> Vec<String> {
    let page = file("docs/metrics.md");
    page.split("```promql\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

async fn returns_series(prometheus: &Prometheus, query: &str) {
    let what = format!("series come of {query}");
    eventually(&what, RECOVERY, async || !prometheus.query(query).await.is_empty()).await;
}

/// Waits until the webhook was told that an alert of this name is in this state: the alert.
async fn told(webhook: &Webhook, name: &str, status: &str, labels: &[(&str, &str)]) -> Value {
    let what = format!("{name} {labels:?} is {status}");
    eventually(&what, Duration::from_secs(60), async || {
        webhook.alerts().into_iter().find(|alert| {
            let fits = |(key, value): &(&str, &str)| alert["labels"][*key] == *value;
            alert["labels"]["alertname"] == name && alert["status"] == status && labels.iter().all(fits)
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_return_series_and_alerts_arrive_and_resolve() {
    let mut stage = Stage::start().await;
    let webhook = Webhook::start().await;
    let Some(alertmanager) = Alertmanager::start(&webhook).await else { return };
    let rules = hastened(&file("deploy/prometheus/rules.yml"));
    let prometheus = Prometheus::start(stage.worker.http_port(), &rules, &alertmanager).await;
    let Some(prometheus) = prometheus else { return };

    let breaker = json!({
        "enabled": true, "failure_threshold": 3, "timeout_ms": 2000, "success_threshold": 1,
        "probe_timeout_ms": 2000
    });
    let mut shadow = breaker.clone();
    (shadow["enforce_percent"], shadow["failure_threshold"]) = (json!(0), json!(100));
    stage.caller.put_policy("acme", &policy(&["a", "b", "c"], breaker.clone())).await;
    stage.caller.put_policy("solo", &policy(&["a"], breaker)).await;
    stage.caller.put_policy("shadow", &policy(&["a", "c"], shadow)).await;
    // Series stand at 0 when the first failure comes, as in production.
    returns_series(&prometheus, r#"router_circuit_breaker_state{tenant_id="shadow", state="closed"} == 1"#)
        .await;
    crate::rollouts::idle(&stage.caller).await;
    let traffic = Traffic::start(&stage.caller);

    // Somebody is told.
    let pair = |tenant, provider| [("tenant_id", tenant), ("provider_id", provider)];
    for (name, severity, labels) in [
        ("RouterCircuitBreakerOpened", "warning", &pair("acme", "a")[..]),
        ("RouterCircuitBreakerOpened", "warning", &pair("solo", "a")),
        ("RouterCircuitBreakerMultipleProvidersOpen", "critical", &[("tenant_id", "acme")]),
        ("RouterCircuitBreakerHalfOpenProbesFailed", "warning", &pair("solo", "a")),
        ("RouterCircuitBreakerHighFailureRate", "warning", &pair("shadow", "a")),
        ("RouterFailFastRatioHigh", "critical", &[("job", "beamline-router")]),
        ("RouterCircuitBreakerOpenTooLong", "critical", &pair("solo", "a")),
    ] {
        let alert = told(&webhook, name, "firing", labels).await;
        assert_eq!(alert["labels"]["severity"], severity, "{alert:#}");
        let texts = &alert["annotations"];
        for text in ["summary", "description"] {
            let text = texts[text].as_str().unwrap();
            assert!(!text.is_empty() && !text.contains("{{") && !text.contains("<no value>"), "{text}");
            assert!(!text.contains("error expanding"), "{text}");
        }
        assert_eq!(texts["runbook_url"], format!("docs/runbook.md#{}", name.to_lowercase()));
    }

    // While all that fails, each query has something to show.
    let (dashboard, docs) = (of_the_dashboard(), of_the_docs());
    assert!(dashboard.len() > 30 && docs.len() > 35, "{} and {}", dashboard.len(), docs.len());
    for query in dashboard.iter().chain(&docs) {
        returns_series(&prometheus, query).await;
    }
    // Of the rules an alert's query returns what fires. What it looks at is there in any case.
    let rules = prometheus.rules().await;
    assert!(rules.iter().filter(|rule| rule["type"] == "alerting").count() >= 16);
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule:#}");
        let query = rule["query"].as_str().unwrap();
        let selectors = selectors(query);
        assert!(!selectors.is_empty(), "{query}");
        for selector in selectors {
            returns_series(&prometheus, &selector).await;
        }
        if rule["type"] == "recording" {
            returns_series(&prometheus, rule["name"].as_str().unwrap()).await;
        }
    }

    // And told that it is over.
    traffic.heal();
    for (name, labels) in [
        ("RouterCircuitBreakerOpened", &pair("acme", "a")[..]),
        ("RouterCircuitBreakerOpened", &pair("solo", "a")),
        ("RouterCircuitBreakerMultipleProvidersOpen", &[("tenant_id", "acme")]),
        ("RouterCircuitBreakerOpenTooLong", &pair("solo", "a")),
        ("RouterFailFastRatioHigh", &[]),
        ("RouterCircuitBreakerHalfOpenProbesFailed", &pair("solo", "a")),
    ] {
        told(&webhook, name, "resolved", labels).await;
    }
    traffic.stop().await;

    // The broker goes, then the worker.
    stage.broker.kill();
    told(&webhook, "RouterNatsConnectionLost", "firing", &[("severity", "critical")]).await;
    stage.worker.kill();
    told(&webhook, "RouterAbsent", "firing", &[("severity", "critical")]).await;
}
