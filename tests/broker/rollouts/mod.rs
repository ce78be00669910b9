//! Rollouts as their users see them: plans in seconds, on real workers, with traffic that is judged.

mod course;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{Caller, Stage, Worker, eventually, request};
use crate::traffic::{policy, result};

/// A step of a plan in seconds takes so long at most, on a machine that does other things too.
const STEP: Duration = Duration::from_secs(60);

/// Two phases of seconds, changed by a merge patch.
pub(super) fn plan(change: &Value) -> Value {
    let phase = |name: &str, tenants: Value| json!({"name": name, "tenants": tenants, "ladder": [0, 50], "bake": "2s", "min": "4s", "max": "10m"});
    let mut plan = json!({
        "kind": "PolicyRollout", "id": "cb", "history": "1m",
        "circuit_breaker": {"failure_threshold": 5, "timeout_ms": 1000, "success_threshold": 1},
        "cohort": {"order": "listed", "include": ["t1", "t2", "t3"]},
        "analysis": {"block": "1s", "settle": "300ms", "max_stale": "30s", "exercise": "no",
            "safe": {"margin": 0.05}, "latency": {"quantiles": []}},
        "phases": [phase("canary", json!({"count": 1})), phase("all", json!({"percent": 100}))],
        "final_bake": "2s", "approval": "none",
    });
    beamline_router::policy::merge_patch(&mut plan, change);
    plan
}

/// How a provider's calls end: whether a call of this tenant to this provider fails, by a number that rises.
type Fails = Arc<dyn Fn(&str, &str, u64) -> bool + Send + Sync>;

/// What became of the requests.
#[derive(Clone, Debug, Default)]
struct Seen {
    asked: u64,
    refused: u64,
    failed: u64,
    /// Refusals, each with the place of the log that its worker decided at.
    refusals: Vec<(String, u64)>,
}

/// Programs that ask for decisions of some tenants and report how the calls ended, until stopped.
struct Users {
    seen: Arc<Mutex<BTreeMap<String, Seen>>>,
    fails: Arc<Mutex<Fails>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Users {
    /// Each tenant asks so many times a second.
    fn start(caller: &Caller, tenants: &[&str], per_second: u64, fails: Fails) -> Self {
        let seen: Arc<Mutex<BTreeMap<String, Seen>>> = Arc::default();
        let fails = Arc::new(Mutex::new(fails));
        let stop = CancellationToken::new();
        let tenants: Vec<String> = tenants.iter().map(|&tenant| tenant.to_owned()).collect();
        let (caller, told, how, end) = (caller.clone(), Arc::clone(&seen), Arc::clone(&fails), stop.clone());
        let task = tokio::spawn(async move {
            let number = Arc::new(AtomicU64::new(0));
            let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / per_second));
            loop {
                tokio::select! {
                    () = end.cancelled() => return,
                    _ = ticks.tick() => {}
                }
                for tenant in &tenants {
                    let n = number.fetch_add(1, Ordering::Relaxed);
                    let (caller, told, how) = (caller.clone(), Arc::clone(&told), Arc::clone(&how));
                    let tenant = tenant.clone();
                    tokio::spawn(async move { one(&caller, &tenant, n, &told, &how).await });
                }
            }
        });
        Self { seen, fails, stop, task }
    }

    fn seen(&self, tenant: &str) -> Seen {
        self.seen.lock().unwrap().get(tenant).cloned().unwrap_or_default()
    }

    fn now_fail(&self, fails: Fails) {
        *self.fails.lock().unwrap() = fails;
    }

    async fn stop(self) -> BTreeMap<String, Seen> {
        self.stop.cancel();
        self.task.await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        self.seen.lock().unwrap().clone()
    }
}

async fn one(
    caller: &Caller,
    tenant: &str,
    n: u64,
    seen: &Mutex<BTreeMap<String, Seen>>,
    fails: &Mutex<Fails>,
) {
    let id = format!("{tenant}-{}", uuid::Uuid::new_v4());
    let mut asked = request(tenant, &id);
    asked["explain"] = json!(true);
    let subject = "beamline.router.v1.decide";
    let Ok(answer) = caller.client.request(subject, asked.to_string().into()).await else { return };
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    let provider = answer["decision"]["provider_id"].as_str().map(str::to_owned);
    let failed = provider.as_ref().is_some_and(|provider| {
        let fails = Arc::clone(&fails.lock().unwrap());
        fails(tenant, provider, n)
    });
    {
        let mut seen = seen.lock().unwrap();
        let seen = seen.entry(tenant.to_owned()).or_default();
        seen.asked += 1;
        seen.failed += u64::from(failed);
        if provider.is_none() {
            seen.refused += 1;
            let place = answer.pointer("/error/details/explanation/position").and_then(Value::as_u64);
            seen.refusals.push((id.clone(), place.unwrap_or(0)));
        }
    }
    if let Some(provider) = provider {
        let mut ended = result(tenant, &provider, &id, if failed { "error" } else { "success" });
        ended["request_id"] = json!(id);
        let _ = caller.client.publish("caf.exec.result.v1", ended.to_string().into()).await;
    }
}

/// Two workers and three tenants with two providers each, whose documents say nothing of breakers.
async fn ground() -> (Stage, Worker) {
    let stage = Stage::start().await;
    let second = Worker::start(&stage.broker, |launch| launch).await;
    for tenant in ["t1", "t2", "t3"] {
        let mut document = policy(&["a", "b"], json!({}));
        document.as_object_mut().unwrap().remove("circuit_breaker");
        stage.caller.put_policy(tenant, &document).await;
    }
    (stage, second)
}

impl Caller {
    async fn rollout_status(&self) -> Value {
        self.command("rollout.status", &json!({"rollout": "cb"})).await
    }

    pub(super) async fn rollout_becomes(
        &self,
        what: &str,
        within: Duration,
        is_so: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut last = Value::Null;
        let found = crate::support::within(within, async || {
            last = self.rollout_status().await;
            is_so(&last).then(|| last.clone())
        })
        .await;
        found.unwrap_or_else(|| panic!("not within {within:?}: {what}\n{last:#}"))
    }

    async fn rollout_is(&self, state: &str) -> Value {
        self.rollout_becomes(state, STEP, |status| status["state"] == state).await
    }
}

/// Does some work while users of the plan's tenants call; one call in a hundred fails.
pub(super) async fn with_users<T>(caller: &Caller, work: impl Future<Output = T>) -> T {
    let users = Users::start(caller, &["t1", "t2", "t3"], 100, Arc::new(|_, _, n| n % 100 == 0));
    let done = work.await;
    users.stop().await;
    done
}
