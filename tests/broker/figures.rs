//! The figures are true: a known schedule on two workers, and what counters, events, log lines, the log
//! itself and the replies tell of it agree to the last one.

use std::collections::BTreeMap;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::support::{Broker, Caller, Launch, Metrics, SOON, Worker, eventually, request};
use crate::traffic::{RECOVERY, agree, policy};

type Counts<K> = BTreeMap<K, u64>;
/// Tenant, provider and something else.
type Of = (String, String, String);

fn of(tenant: &str, provider: &str, what: &str) -> Of {
    (tenant.to_owned(), provider.to_owned(), what.to_owned())
}

fn count<K: Ord>(counts: &mut Counts<K>, key: K) {
    *counts.entry(key).or_default() += 1;
}

/// What was done, by whoever did it, and what the replies told.
#[derive(Default)]
struct Book {
    decisions: Counts<(String, String)>,
    breakers: Counts<Of>,
    results: Counts<(String, String)>,
    control: Counts<(String, String)>,
    probes: u64,
    /// How often each breaker has opened so far, and for each refusal which opening it was under.
    openings: Counts<(String, String)>,
    refusals: Vec<(String, String, u64)>,
    requests: u64,
    published: u64,
    last: u64,
}

struct Scene {
    caller: Caller,
    workers: [Worker; 2],
    book: Book,
    /// What each worker told half-way.
    early: Vec<Metrics>,
    _broker: Broker,
}

impl Scene {
    async fn start() -> Self {
        let broker = Broker::start().await;
        let patient = |launch: Launch| launch.flag("--claim-wait-ms", 5_000);
        let (first, second) = tokio::join!(Worker::start(&broker, patient), Worker::start(&broker, patient));
        let caller = Caller::connect(&broker).await;
        Self { caller, workers: [first, second], book: Book::default(), early: Vec::new(), _broker: broker }
    }

    /// Both workers have read what the log holds now: whichever is asked answers the same.
    async fn settled(&self) {
        for worker in &self.workers {
            worker.follows(&self.caller).await;
        }
    }

    async fn command(&mut self, verb: &str, body: Value) -> Value {
        let answer = self.caller.control(verb, &body).await;
        let outcome = answer["error"]["code"].as_str().unwrap_or("ok");
        count(&mut self.book.control, (verb.to_owned(), outcome.to_owned()));
        answer
    }

    async fn put(&mut self, tenant: &str, providers: &[&str], breaker: Value) {
        let mut settings = json!({
            "enabled": true, "error_rate_window_seconds": 3600, "minimum_requests": 1000, "timeout_ms": 300_000,
            "max_timeout_ms": 300_000, "probe_timeout_ms": 300_000
        });
        settings.as_object_mut().unwrap().extend(breaker.as_object().unwrap().clone());
        let mut document = policy(providers, settings);
        // The first is always drawn; a second is there to fall back to.
        if let Some(second) = providers.get(1) {
            document["providers"][1]["weight"] = json!(0);
            document["fallbacks"] = json!([{"when": {"status": ["circuit_breaker_open"]}, "to": second}]);
        }
        let answer = self.command("policy.put", json!({"tenant_id": tenant, "policy": document})).await;
        assert_eq!(answer["ok"], true, "{answer}");
        self.settled().await;
    }

    /// Asks, and enters what the reply tells.
    async fn decide(&mut self, tenant: &str, change: impl FnOnce(&mut Value)) -> Value {
        self.book.requests += 1;
        let id = format!("q-{}", self.book.requests);
        let mut asked = request(tenant, &id);
        asked["explain"] = json!(true);
        change(&mut asked);
        let answer = self.caller.decide(&asked).await;
        self.enter(tenant, &answer);
        answer
    }

    fn enter(&mut self, tenant: &str, answer: &Value) {
        let book = &mut self.book;
        let outcome = answer["error"]["code"].as_str().unwrap_or("decided");
        let reason = answer["decision"]["reason"].as_str().unwrap_or("none");
        count(&mut book.decisions, (outcome.to_owned(), reason.to_owned()));
        book.probes += u64::from(answer["decision"]["probe"] == true);
        let mut told = Vec::new();
        for step in answer["decision"]["explanation"]["steps"].as_array().into_iter().flatten() {
            told.push((step["provider_id"].clone(), step["result"].clone()));
        }
        for refused in answer["error"]["details"]["providers"].as_array().into_iter().flatten() {
            told.push((refused["provider_id"].clone(), json!("rejected")));
        }
        for (provider, result) in told {
            let provider = provider.as_str().unwrap();
            match result.as_str() {
                Some("rejected") => {
                    count(&mut book.breakers, of(tenant, provider, "fail_fast"));
                    let pair = (tenant.to_owned(), provider.to_owned());
                    let under = book.openings.get(&pair).copied().unwrap_or(0);
                    book.refusals.push((pair.0, pair.1, under));
                }
                Some("would_reject") => count(&mut book.breakers, of(tenant, provider, "would_reject")),
                _ => {}
            }
        }
    }

    /// Asks so often, and each answer is this.
    async fn decides(&mut self, times: usize, tenant: &str, outcome: &str) {
        self.settled().await;
        for _ in 0..times {
            let answer = self.decide(tenant, |_| {}).await;
            let told = answer["error"]["code"].as_str().or(answer["decision"]["reason"].as_str());
            assert_eq!(told, Some(outcome), "{answer:#}");
        }
    }

    /// Publishes a result; `disposition` is what has to become of it, with `event` for its breaker.
    async fn result(
        &mut self,
        tenant: &str,
        status: &str,
        disposition: &str,
        change: impl FnOnce(&mut Value),
    ) {
        self.book.published += 1;
        let mut body = json!({
            "assignment_id": format!("n-{}", self.book.published), "tenant_id": tenant, "provider_id": "p",
            "status": status, "latency_ms": 0
        });
        change(&mut body);
        self.book.last = self.caller.result(&body).await;
        count(&mut self.book.results, (status.to_owned(), disposition.to_owned()));
        let event = match (disposition, status) {
            ("applied", "success") => "success",
            ("applied", _) => "failure",
            ("rejected", _) => return,
            (other, _) => other,
        };
        count(&mut self.book.breakers, of(tenant, "p", event));
    }

    async fn results(&mut self, times: usize, tenant: &str, status: &str) {
        for _ in 0..times {
            self.result(tenant, status, "applied", |_| {}).await;
        }
    }

    /// Notes that what was just done opened a breaker.
    fn opened(&mut self, tenant: &str) {
        count(&mut self.book.openings, (tenant.to_owned(), "p".to_owned()));
    }

    /// Asks until a request probes: its id.
    async fn probe(&mut self, tenant: &str) -> String {
        let body = json!({"tenant_id": tenant, "provider_id": "p"});
        for _ in 0..3_000 {
            if self.command("breaker.get", body.clone()).await["breaker"]["timeout_remaining_ms"] == 0 {
                let answer = self.decide(tenant, |_| {}).await;
                if answer["decision"]["probe"] == true {
                    self.settled().await;
                    return answer["context"]["request_id"].as_str().unwrap().to_owned();
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("no request probes");
    }
}

async fn messages(caller: &Caller, stream: &str) -> Vec<(String, Value)> {
    let mut stream = caller.jetstream.get_stream(stream).await.unwrap();
    let count = stream.info().await.unwrap().state.messages as usize;
    let config = pull::Config { ack_policy: AckPolicy::None, ..Default::default() };
    let consumer = stream.create_consumer(config).await.unwrap();
    let messages = consumer.stream().max_messages_per_batch(1_000).messages().await.unwrap();
    let bodies = messages.take(count).map(|m| {
        let message = m.unwrap();
        (message.subject.to_string(), serde_json::from_slice(&message.payload).unwrap_or_default())
    });
    tokio::time::timeout(SOON, bodies.collect()).await.expect("all messages are delivered")
}

/// All series of a counter that are not 0, by these labels.
fn counted<const N: usize>(metrics: &Metrics, name: &str, labels: [&str; N]) -> Counts<[String; N]> {
    let mut counts = BTreeMap::new();
    for series in metrics.labels(name) {
        let pairs: Vec<_> = series.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let value = metrics.sum(name, &pairs) as u64;
        if value > 0 {
            *counts.entry(labels.map(|label| series[label].clone())).or_default() += value;
        }
    }
    counts
}

fn sum_of<K: Ord + Clone>(all: &[Counts<K>]) -> Counts<K> {
    let mut sum = Counts::new();
    for (key, n) in all.iter().flatten() {
        *sum.entry(key.clone()).or_default() += n;
    }
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_events_logs_and_replies_tell_the_same_schedule() {
    let mut scene = Scene::start().await;
    play(&mut scene).await;
    let Scene { caller, workers, book, .. } = &scene;
    let (position, _) = agree(&[&workers[0], &workers[1]], book.last).await;
    let metered = book.results.iter().filter(|((_, d), _)| *d != "rejected" && *d != "duplicate");
    let metered: u64 = metered.map(|(_, n)| n).sum();
    let published = |all: &[Metrics; 2], outcome: &str| -> u64 {
        all.iter().map(|m| m.sum("router_usage_events_total", &[("outcome", outcome)]) as u64).sum()
    };
    let all = eventually("usage is metered", RECOVERY, async || {
        let all = [workers[0].metrics().await, workers[1].metrics().await];
        (published(&all, "published") + published(&all, "skipped") >= book.published).then_some(all)
    })
    .await;
    let events = eventually("events are published", RECOVERY, async || {
        let events = messages(caller, "BEAMLINE_EVENTS").await;
        let openings = events.iter().filter(|(_, e)| e["kind"] == "breaker" && e["to"] == "closed").count();
        (openings >= 2).then_some(events)
    })
    .await;
    let log = messages(caller, "BEAMLINE_LOG").await;

    // Replies, and each worker's own counters: the sum. Both had something to do.
    let own = |name: &str, labels| sum_of(&all.each_ref().map(|m| counted(m, name, labels)));
    let pairs = |counts: &Counts<(String, String)>| -> Counts<[String; 2]> {
        counts.iter().map(|((a, b), n)| ([a.clone(), b.clone()], *n)).collect()
    };
    assert_eq!(own("router_decisions_total", ["outcome", "reason"]), pairs(&book.decisions));
    assert_eq!(own("router_control_requests_total", ["verb", "outcome"]), pairs(&book.control));
    for metrics in &all {
        let decisions = metrics.sum("router_decisions_total", &[]);
        assert!(decisions > 0.0, "a worker decided nothing");
        assert_eq!(metrics.value("router_decision_duration_seconds_count", &[]), Some(decisions));
        assert_eq!(metrics.sum("router_queue_refused_total", &[]), 0.0);
        assert_eq!(metrics.sum("router_nats_publish_failures_total", &[]), 0.0);
    }
    let claims = |labels: &[(&str, &str)]| -> u64 {
        all.iter().map(|m| m.sum("router_claims_total", labels) as u64).sum()
    };
    assert_eq!([claims(&[]), claims(&[("outcome", "granted")])], [book.probes, book.probes]);

    // What breakers saw. Refusals are each worker's, the rest is the same on both: the greatest.
    let labels = ["tenant_id", "provider_id", "event_type"];
    let seen = all.each_ref().map(|m| counted(m, "router_circuit_breaker_events_total", labels));
    let of_the_log = |counts: &Counts<[String; 3]>| -> Counts<[String; 3]> {
        let judged = |kind: &str| !matches!(kind, "fail_fast" | "would_reject");
        counts.iter().filter(|([.., kind], _)| judged(kind)).map(|(k, n)| (k.clone(), *n)).collect()
    };
    let expected: Counts<[String; 3]> =
        book.breakers.iter().map(|((t, p, e), n)| ([t.clone(), p.clone(), e.clone()], *n)).collect();
    for counts in &seen {
        assert_eq!(of_the_log(counts), of_the_log(&expected));
    }
    let mut refused = sum_of(&seen);
    refused.retain(|[.., kind], _| matches!(kind.as_str(), "fail_fast" | "would_reject"));
    let mut expected_refused = expected;
    expected_refused.retain(|[.., kind], _| matches!(kind.as_str(), "fail_fast" | "would_reject"));
    assert_eq!(refused, expected_refused);
    let results = all.each_ref().map(|m| counted(m, "router_results_total", ["status", "disposition"]));
    assert_eq!(results, [pairs(&book.results), pairs(&book.results)]);

    // Counters only grow, and none goes while its breaker stands.
    for (early, late) in scene.early.iter().zip(&all) {
        let late = late.rising();
        for (series, value) in early.rising() {
            assert!(late.get(&series).is_some_and(|now| *now >= value), "{series} fell from {value}");
        }
    }

    // Transitions: events, counters and log lines.
    let (mut moved, mut why, mut by_time) = (Counts::new(), Counts::new(), Counts::new());
    let mut shares: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
    let mut lines = Counts::new();
    for (_, event) in events.iter().filter(|(_, e)| e["kind"] == "breaker") {
        let text = |field: &str| event[field].as_str().unwrap().to_owned();
        let (tenant, provider) = (text("tenant_id"), text("provider_id"));
        let (from, to, reason) = (text("from"), text("to"), text("reason"));
        let forced = reason == "forced";
        if from == to {
            count(&mut lines, "circuit_breaker_command".to_owned());
        } else {
            let line = match to.as_str() {
                "open" => "circuit_breaker_opened",
                "half_open" => "circuit_breaker_half_opened",
                _ => "circuit_breaker_closed",
            };
            count(&mut lines, line.to_owned());
            count(&mut moved, [tenant.clone(), provider.clone(), from.clone(), to.clone()]);
        }
        if forced || (to == "open" && from != "open") {
            count(&mut why, [tenant.clone(), provider.clone(), reason.clone()]);
        }
        if reason == "timeout_elapsed" {
            count(&mut by_time, [tenant.clone(), provider.clone()]);
        }
        if to == "open" && from != "open" {
            shares.entry((tenant, provider)).or_default().push(event["error_rate"].as_f64().unwrap());
        }
    }
    let openings: Counts<(String, String)> =
        shares.iter().map(|(pair, all)| (pair.clone(), all.len() as u64)).collect();
    assert_eq!(openings, book.openings);
    for (worker, metrics) in workers.iter().zip(&all) {
        let name = "router_circuit_breaker_state_transitions_total";
        assert_eq!(counted(metrics, name, ["tenant_id", "provider_id", "from", "to"]), moved);
        let name = "router_circuit_breaker_trigger_reason_total";
        assert_eq!(counted(metrics, name, ["tenant_id", "provider_id", "reason"]), why);
        let name = "router_circuit_breaker_timeout_transitions_total";
        assert_eq!(counted(metrics, name, ["tenant_id", "provider_id"]), by_time);
        for (line, n) in &lines {
            assert_eq!(worker.events(line).len() as u64, *n, "{line}");
        }
    }
    // Refusals are logged at once, then seldom: a line tells for how many it stands.
    let told: u64 = workers
        .iter()
        .flat_map(|w| w.events("circuit_breaker_fail_fast"))
        .map(|line| line["stands_for"].as_u64().unwrap())
        .sum();
    assert!(told > 0 && told <= book.refusals.len() as u64, "{told} of {}", book.refusals.len());

    // Calls saved: each refusal by the share of failures when the circuit opened that refused it.
    for ((tenant, provider), shares) in &shares {
        let of_breaker = book.refusals.iter().filter(|(t, p, _)| (t, p) == (tenant, provider));
        let expected: f64 = of_breaker.map(|(.., under)| shares[*under as usize - 1]).sum();
        let labels = [("tenant_id", tenant.as_str()), ("provider_id", provider.as_str())];
        let saved: f64 = all
            .iter()
            .map(|m| m.value("router_circuit_breaker_requests_saved_total", &labels).unwrap())
            .sum();
        assert!(
            (saved - expected).abs() < 1e-4,
            "{tenant} {provider}: {saved} saved, {expected} by the events"
        );
    }

    // The log itself, and what was metered of it.
    assert_eq!(position, log.len() as u64);
    let entries = |subject: &str| log.iter().filter(|(s, _)| s == subject).count() as u64;
    assert_eq!(entries("caf.exec.result.v1"), book.published);
    assert_eq!(entries("beamline.router.v1.log.claim"), book.probes);
    assert_eq!(entries("beamline.router.v1.log.ended"), 1);
    assert_eq!(messages(caller, "BEAMLINE_USAGE").await.len() as u64, metered);
    assert_eq!(published(&all, "published"), metered);
    assert_eq!(published(&all, "skipped"), book.published - metered);

    // Gauges are what breaker.list tells.
    let breakers = caller.command("breaker.list", &json!({})).await["breakers"].clone();
    assert_eq!(breakers.as_array().unwrap().len(), 7);
    for breaker in breakers.as_array().unwrap() {
        let labels = ["tenant_id", "provider_id"].map(|key| (key, breaker[key].as_str().unwrap()));
        for metrics in &all {
            for field in ["window_requests", "window_failures", "error_rate"] {
                let shown = metrics.value(&format!("router_circuit_breaker_{field}"), &labels);
                assert_eq!(shown, breaker[field].as_f64(), "{field} of {breaker:#}");
            }
            let state = [labels[0], labels[1], ("state", breaker["state"].as_str().unwrap())];
            assert_eq!(metrics.value("router_circuit_breaker_state", &state), Some(1.0), "{breaker:#}");
            assert_eq!(metrics.sum("router_circuit_breaker_state", &labels), 1.0, "{breaker:#}");
        }
    }

    // With its last policy a breaker's series go.
    caller.command("policy.delete", &json!({"tenant_id": "rate", "policy_id": "default"})).await;
    for worker in workers {
        worker.follows(caller).await;
        let page = worker.get("/metrics").await.unwrap().body;
        assert!(!page.contains("tenant_id=\"rate\"") && page.contains("tenant_id=\"slow\""));
    }
}

/// The schedule. Whoever is told to open a breaker says so, and every count in it is by hand.
async fn play(scene: &mut Scene) {
    let failures = |n: u64| json!({"failure_threshold": n});
    let mut quick = failures(3);
    (quick["timeout_ms"], quick["success_threshold"]) = (json!(1_000), json!(1));
    (quick["half_open_max_calls"], quick["ignored_error_codes"]) = (json!(1), json!(["bad_prompt"]));
    scene.put("acme", &["p"], quick).await;
    let rate = json!({"failure_threshold": 100, "error_rate_threshold": 0.5, "minimum_requests": 4});
    scene.put("rate", &["p"], rate).await;
    let slow = json!({"latency_threshold_ms": 100, "slow_call_rate_threshold": 0.5, "minimum_requests": 2});
    scene.put("slow", &["p"], slow).await;
    scene.put("fall", &["p", "q"], failures(2)).await;
    let mut shadow = failures(2);
    shadow["enforce_percent"] = json!(0);
    scene.put("shadow", &["p"], shadow).await;
    scene.put("hand", &["p"], failures(2)).await;

    // Judged, ignored and a second copy; the last three in a row open.
    scene.decides(20, "acme", "weighted").await;
    scene.results(2, "acme", "success").await;
    scene.results(1, "acme", "error").await;
    scene.results(1, "acme", "success").await;
    scene.result("acme", "cancelled", "ignored", |_| {}).await;
    scene.result("acme", "error", "ignored", |r| r["error_code"] = json!("bad_prompt")).await;
    scene.result("acme", "success", "duplicate", |r| r["assignment_id"] = json!("n-1")).await;
    scene.results(2, "acme", "error").await;
    scene.results(1, "acme", "timeout").await;
    scene.opened("acme");
    scene.result("acme", "success", "late", |r| r["latency_ms"] = json!(60_000)).await;
    scene.result("acme", "success", "ignored", |_| {}).await;
    scene.result("acme", "success", "rejected", |r| r["provider_id"] = json!("nobody")).await;
    scene.result("acme", "success", "rejected", |r| r["tenant_id"] = json!("nobody")).await;
    // One that makes no sense has no status that does.
    scene.result("acme", "invalid", "rejected", |r| r["status"] = json!("splendid")).await;

    // The other ways to open, and what is refused then.
    scene.results(2, "rate", "success").await;
    scene.results(2, "rate", "error").await;
    scene.opened("rate");
    scene.decides(5, "rate", "circuit_open").await;
    for _ in 0..2 {
        scene.result("slow", "success", "applied", |r| r["latency_ms"] = json!(500)).await;
    }
    scene.opened("slow");
    scene.decides(3, "slow", "circuit_open").await;
    scene.results(2, "fall", "error").await;
    scene.opened("fall");
    scene.decides(7, "fall", "circuit_breaker_fallback").await;
    scene.results(2, "shadow", "error").await;
    scene.opened("shadow");
    scene.decides(6, "shadow", "weighted").await;

    // An operator's hand.
    let force = |state: &str| json!({"tenant_id": "hand", "provider_id": "p", "state": state});
    scene.command("breaker.force", force("open")).await;
    scene.opened("hand");
    scene.decides(4, "hand", "circuit_open").await;
    scene.command("breaker.force", force("closed")).await;
    scene.command("breaker.force", force("closed")).await;
    scene.decides(2, "hand", "weighted").await;
    scene.command("breaker.force", force("auto")).await;
    scene
        .command("breaker.force", json!({"tenant_id": "hand", "provider_id": "nobody", "state": "open"}))
        .await;

    for worker in &scene.workers {
        scene.early.push(worker.metrics().await);
    }

    // Half-open: one slot, and who comes second is refused. The probe fails, the next one closes.
    let probe = scene.probe("acme").await;
    scene.decides(3, "acme", "circuit_open").await;
    scene.result("acme", "error", "applied", |r| r["request_id"] = json!(probe)).await;
    scene.opened("acme");
    scene.decides(2, "acme", "circuit_open").await;
    let probe = scene.probe("acme").await;
    scene.result("acme", "success", "applied", |r| r["request_id"] = json!(probe)).await;
    scene.decides(3, "acme", "weighted").await;

    // An assignment that its executor refuses is a failure of the provider that it went to, and no result.
    let mut assignments = scene.caller.listen("caf.exec.assign.v1").await;
    let answer = scene.decide("fall", |r| r["push_assignment"] = json!(true)).await;
    assert_eq!(answer["decision"]["provider_id"], "q", "{answer:#}");
    let assigned = assignments.next_json().await;
    let ack = json!({"assignment_id": assigned["assignment_id"], "status": "rejected"});
    let before = scene.caller.log_end().await;
    scene.caller.client.publish("caf.exec.assign.v1.ack", ack.to_string().into()).await.unwrap();
    eventually("the refusal stands in the log", SOON, async || scene.caller.log_end().await > before).await;
    count(&mut scene.book.breakers, of("fall", "q", "failure"));

    // Requests that are the caller's fault.
    scene.result("hand", "success", "applied", |r| r["latency_ms"] = json!(50)).await;
    scene.settled().await;
    scene.decide("hand", |r| r["constraints"] = json!({"max_latency_ms": 1})).await;
    scene.decide("acme", |r| r["version"] = json!("2")).await;
    scene.decide("acme", |r| r["policy_id"] = json!("none")).await;
    let asked = request("acme", "q-other").to_string();
    let answer =
        scene.caller.ask("beamline.router.v1.tenant.zeta.decide", HeaderMap::new(), asked).await.json();
    scene.enter("acme", &answer);
    let codes: Vec<_> = scene.book.decisions.keys().map(|(outcome, _)| outcome.as_str()).collect();
    assert_eq!(
        codes,
        [
            "circuit_open",
            "decided",
            "decided",
            "decision_failed",
            "invalid_request",
            "policy_not_found",
            "unauthorized"
        ]
    );
}
