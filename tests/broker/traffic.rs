//! Load and what became of it: results that are published, and decisions that are asked for, until
//! told to stop.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::Client;
use async_nats::jetstream::stream::Stream;
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::support::{Caller, Worker, eventually, request};

/// Long enough to come back after a fault, whatever the library's own timeouts are.
pub(crate) const RECOVERY: Duration = Duration::from_secs(30);

/// How often a load does a slice of its work.
const SLICE: Duration = Duration::from_millis(10);

/// A result as an executor publishes it.
pub(crate) fn result(tenant: &str, provider: &str, id: &str, status: &str) -> Value {
    json!({
        "assignment_id": id, "request_id": format!("r-{id}"), "status": status, "provider_id": provider,
        "tenant_id": tenant, "job": {"type": "text.generate"}, "latency_ms": 20, "cost": 0.002
    })
}

/// A policy over these providers in equal shares, with this breaker.
pub(crate) fn policy(providers: &[&str], breaker: Value) -> Value {
    let providers: Vec<_> = providers.iter().map(|name| json!({"name": name, "weight": 50})).collect();
    json!({"policy_id": "default", "providers": providers, "circuit_breaker": breaker})
}

/// A breaker that three failures in a row open for a second, and one probe closes.
pub(crate) fn quick_breaker() -> Value {
    json!({
        "enabled": true, "failure_threshold": 3, "timeout_ms": 1000, "success_threshold": 1,
        "probe_timeout_ms": 1000
    })
}

impl Caller {
    /// The stream of the default deployment's log.
    pub(crate) async fn log(&self) -> Stream {
        self.jetstream.get_stream("BEAMLINE_LOG").await.unwrap()
    }

    /// The consumers by which workers read the log.
    pub(crate) async fn log_readers(&self) -> Vec<String> {
        let log = self.log().await;
        let consumers: Vec<_> = log.consumers().try_collect().await.unwrap();
        let reads = |text: &Option<String>| text.as_deref().is_some_and(|t| t.starts_with("log reader of "));
        consumers.into_iter().filter(|c| reads(&c.config.description)).map(|c| c.name).collect()
    }

    /// Publishes so many failures of a provider, each under an id of its own: the last one's place.
    pub(crate) async fn failures(&self, tenant: &str, provider: &str, times: usize) -> u64 {
        let mut last = 0;
        for _ in 0..times {
            let id = uuid::Uuid::new_v4().to_string();
            last = self.result(&result(tenant, provider, &id, "error")).await;
        }
        last
    }

    /// Asks until the request that is answered probes this tenant's breaker, and reports its success.
    pub(crate) async fn probe_succeeds(&self, tenant: &str) {
        let (id, provider) = eventually("a request probes", RECOVERY, async || {
            let id = uuid::Uuid::new_v4().to_string();
            let answer = self.decide(&request(tenant, &id)).await;
            let probes = answer["decision"]["probe"] == true;
            probes.then(|| (id, answer["decision"]["provider_id"].as_str().unwrap().to_owned()))
        })
        .await;
        let mut probed = result(tenant, &provider, &uuid::Uuid::new_v4().to_string(), "success");
        probed["request_id"] = json!(id);
        self.result(&probed).await;
    }

    /// Whether a switch is on: the world's, or a tenant's.
    pub(crate) async fn flag(&self, tenant: Option<&str>) -> bool {
        let scope = match tenant {
            None => json!({"scope": "global"}),
            Some(tenant) => json!({"scope": "tenant", "tenant_id": tenant}),
        };
        let answer = self.command("flag.get", &scope).await;
        answer["flags"][0]["circuit_breaker_enabled"].as_bool().unwrap_or_else(|| panic!("{answer}"))
    }

    /// Waits until a breaker shows a state.
    pub(crate) async fn breaker_becomes(&self, tenant: &str, provider: &str, state: &str) {
        let what = format!("the breaker of {tenant} and {provider} is {state}");
        let request = json!({"tenant_id": tenant, "provider_id": provider});
        eventually(&what, RECOVERY, async || {
            let answer = self.control("breaker.get", &request).await;
            // Any worker may answer, also one that has not come to the policy yet.
            assert!(answer["ok"] == true || answer["error"]["code"] == "not_found", "{answer}");
            answer["breaker"]["state"] == state
        })
        .await;
    }
}

impl Worker {
    /// The log's position and the digest over all breakers there.
    pub(crate) async fn standing(&self) -> (u64, u64) {
        let metrics = self.metrics().await;
        let level = |name: &str| metrics.value(name, &[]).unwrap_or_else(|| panic!("no {name}")) as u64;
        (level("router_log_position"), level("router_log_state_digest"))
    }

    /// A counter without labels.
    pub(crate) async fn count(&self, name: &str) -> u64 {
        self.metrics().await.sum(name, &[]) as u64
    }

    /// What keeps it from being ready; empty if nothing does.
    pub(crate) async fn reasons(&self) -> Vec<String> {
        let Some(page) = self.get("/readyz").await else { return vec!["no answer".to_owned()] };
        serde_json::from_value(page.json()).unwrap_or_else(|e| panic!("{e}: {page:?}"))
    }

    /// Waits until it is not ready for a reason that has this in it.
    pub(crate) async fn says(&self, reason: &str) {
        let what = format!("/readyz says {reason:?}");
        eventually(&what, RECOVERY, async || self.reasons().await.iter().any(|r| r.contains(reason))).await;
    }

    /// Waits until it is ready again.
    pub(crate) async fn recovers(&self) {
        eventually("the worker is ready again", RECOVERY, async || self.reasons().await.is_empty()).await;
    }
}

/// All workers stand at the same position, at or past `least`, with one digest: that one.
pub(crate) async fn agree(workers: &[&Worker], least: u64) -> (u64, u64) {
    let standing = eventually("all workers are at the log's end", RECOVERY, async || {
        let mut all = Vec::new();
        for worker in workers {
            all.push(worker.standing().await);
        }
        let first = all[0].0;
        (first >= least && all.iter().all(|(position, _)| *position == first)).then_some(all)
    })
    .await;
    let first = standing[0];
    assert!(standing.iter().all(|s| *s == first), "workers disagree at {}: {standing:?}", first.0);
    first
}

/// Results published at a rate until stopped; what is not acknowledged is published again.
pub(crate) struct Publishing {
    stop: CancellationToken,
    acknowledged: Arc<AtomicU64>,
    task: JoinHandle<Published>,
}

/// What was published.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Published {
    /// How many results, each acknowledged at least once.
    pub(crate) results: u64,
    /// The greatest sequence acknowledged.
    pub(crate) last: u64,
}

impl Publishing {
    /// Publishes `make(0)`, `make(1)` and so on, `rate` a second.
    pub(crate) fn start(caller: &Caller, rate: u64, make: impl Fn(u64) -> Value + Send + 'static) -> Self {
        let (stop, acknowledged) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let task =
            tokio::spawn(Self::run(caller.clone(), rate, make, stop.clone(), Arc::clone(&acknowledged)));
        Self { stop, acknowledged, task }
    }

    async fn run(
        caller: Caller,
        rate: u64,
        make: impl Fn(u64) -> Value + Send + 'static,
        stop: CancellationToken,
        acknowledged: Arc<AtomicU64>,
    ) -> Published {
        // While the broker is away no more than these wait.
        let turns = Arc::new(Semaphore::new(256));
        let mut waiting = JoinSet::new();
        let began = Instant::now();
        let mut n = 0;
        while !stop.is_cancelled() {
            let due = rate * began.elapsed().as_millis() as u64 / 1_000;
            while n < due && !stop.is_cancelled() {
                let turn = Arc::clone(&turns).acquire_owned().await.unwrap();
                let (caller, body, count) = (caller.clone(), make(n).to_string(), Arc::clone(&acknowledged));
                waiting.spawn(async move {
                    let sequence = until_acknowledged(&caller, body).await;
                    count.fetch_add(1, Ordering::Relaxed);
                    drop(turn);
                    sequence
                });
                n += 1;
            }
            tokio::time::sleep(SLICE).await;
        }
        let sequences = waiting.join_all().await;
        Published { results: n, last: sequences.into_iter().max().unwrap_or(0) }
    }

    /// Waits until so many are acknowledged.
    pub(crate) async fn reaches(&self, count: u64) {
        let what = format!("{count} results are acknowledged");
        eventually(&what, RECOVERY, async || self.acknowledged.load(Ordering::Relaxed) >= count).await;
    }

    /// Waits until so many more than now are acknowledged.
    pub(crate) async fn goes_on(&self, more: u64) {
        self.reaches(self.acknowledged.load(Ordering::Relaxed) + more).await;
    }

    /// Stops, and waits until all is acknowledged.
    pub(crate) async fn stop(self) -> Published {
        self.stop.cancel();
        tokio::time::timeout(RECOVERY, self.task).await.expect("all results are acknowledged").unwrap()
    }
}

/// Publishes one result until the log has it: its place, that of the last copy if there are several.
pub(crate) async fn until_acknowledged(caller: &Caller, body: String) -> u64 {
    loop {
        let publish = async {
            let ack = caller.jetstream.publish("caf.exec.result.v1", body.clone().into()).await.ok()?;
            ack.await.ok()
        };
        match tokio::time::timeout(Duration::from_secs(2), publish).await {
            Ok(Some(ack)) => return ack.sequence,
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Decisions asked for at a rate until stopped.
pub(crate) struct Asking {
    stop: CancellationToken,
    sent: Arc<AtomicU64>,
    task: JoinHandle<Asked>,
}

/// What became of requests for decisions.
#[derive(Clone, Default)]
pub(crate) struct Asked {
    /// How many were sent.
    pub(crate) sent: u64,
    /// How many were answered with a decision.
    pub(crate) decided: u64,
    /// How many were answered with each error code.
    pub(crate) refused: BTreeMap<String, u64>,
    /// How many got no answer, because nobody listened or it did not come in time.
    pub(crate) unanswered: BTreeMap<String, u64>,
    /// How long each answer took, in order.
    pub(crate) took: Vec<Duration>,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, decided, refused, unanswered, took: _ } = self;
        write!(f, "{sent} sent, {decided} decided, refused {refused:?}, unanswered {unanswered:?}")
    }
}

impl Asked {
    /// The middle of how long answers took.
    pub(crate) fn median(&self) -> Duration {
        self.took[self.took.len() / 2]
    }
}

impl Asking {
    /// Asks for a tenant's decisions, `rate` a second, each to be answered within `patience`.
    pub(crate) fn start(client: &Client, tenant: &str, rate: u64, patience: Duration) -> Self {
        let (stop, sent) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let (client, tenant) = (client.clone(), tenant.to_owned());
        let task = tokio::spawn(Self::run(client, tenant, rate, patience, stop.clone(), Arc::clone(&sent)));
        Self { stop, sent, task }
    }

    async fn run(
        client: Client,
        tenant: String,
        rate: u64,
        patience: Duration,
        stop: CancellationToken,
        sent: Arc<AtomicU64>,
    ) -> Asked {
        let mut waiting = JoinSet::new();
        let began = Instant::now();
        let mut asked = Asked::default();
        while !stop.is_cancelled() {
            let due = rate * began.elapsed().as_millis() as u64 / 1_000;
            while asked.sent < due {
                waiting.spawn(ask(
                    client.clone(),
                    request(&tenant, &uuid::Uuid::new_v4().to_string()),
                    patience,
                ));
                asked.sent += 1;
            }
            sent.store(asked.sent, Ordering::Relaxed);
            tokio::time::sleep(SLICE).await;
        }
        for answer in waiting.join_all().await {
            match answer {
                Ok((answer, took)) => {
                    asked.took.push(took);
                    match answer["error"]["code"].as_str() {
                        None => asked.decided += 1,
                        Some(code) => *asked.refused.entry(code.to_owned()).or_default() += 1,
                    }
                }
                Err(error) => *asked.unanswered.entry(error).or_default() += 1,
            }
        }
        asked.took.sort_unstable();
        asked
    }

    /// Waits until so many more than now are sent.
    pub(crate) async fn goes_on(&self, more: u64) {
        let count = self.sent.load(Ordering::Relaxed) + more;
        eventually("requests are sent", RECOVERY, async || self.sent.load(Ordering::Relaxed) >= count).await;
    }

    /// Stops, and waits for the answers that are due.
    pub(crate) async fn stop(self) -> Asked {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

/// Asks for one decision: the answer and how long it took, or why there is none.
pub(crate) async fn ask(
    client: Client,
    request: Value,
    patience: Duration,
) -> Result<(Value, Duration), String> {
    let began = Instant::now();
    let asked = async_nats::Request::new().payload(request.to_string().into()).timeout(Some(patience));
    let answer =
        client.send_request("beamline.router.v1.decide", asked).await.map_err(|e| e.kind().to_string())?;
    Ok((serde_json::from_slice(&answer.payload).unwrap(), began.elapsed()))
}
