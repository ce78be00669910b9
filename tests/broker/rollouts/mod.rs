//! Rollouts as their users see them: plans in seconds, on real workers, with traffic that is judged.

mod away;
mod commands;
mod course;
mod documents;
mod harm;
mod kills;
mod log;
mod mixed;
mod recorded;
mod results;
mod stale;
mod stream;
mod two;
mod users;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use beamline_router::log::FoldVersion;
use serde_json::{Value, json};

use crate::support::{Caller, SOON, Stage, Worker, eventually};
use crate::traffic::{RECOVERY, policy};
use users::{Call, End, Ends, Habits, Users};

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

/// One phase with one step, at half of the requests of so many tenants.
fn short_plan(tenants: usize, change: &Value) -> Value {
    let phase = json!({"name": "only", "tenants": {"count": tenants}, "ladder": [50], "bake": "1s", "min": "2s", "max": "10m"});
    let mut plan = plan(&json!({"phases": [phase], "final_bake": "1s"}));
    beamline_router::policy::merge_patch(&mut plan, change);
    plan
}

/// One call of a hundred fails.
fn one_percent_fails() -> Ends {
    Arc::new(|call| End::failure_if(call.n % 100 == 0))
}

/// Two workers and three tenants with two providers each, whose documents say nothing of breakers.
async fn ground() -> (Stage, Worker) {
    ground_with(&silent_policy()).await
}

async fn ground_with(document: &Value) -> (Stage, Worker) {
    let stage = Stage::with(|launch| launch.flag("--reconcile-interval-ms", 500)).await;
    let second = Worker::start(&stage.broker, |launch| launch.flag("--reconcile-interval-ms", 500)).await;
    for tenant in ["t1", "t2", "t3"] {
        stage.caller.put_policy(tenant, document).await;
    }
    // Rules that only newer workers have hold from here on.
    for worker in [&stage.worker, &second] {
        eventually("the newest version of the fold", RECOVERY, async || {
            worker.count("router_fold_version").await == u64::from(FoldVersion::NEWEST.0)
        })
        .await;
    }
    (stage, second)
}

/// Two providers by weight, without a word of breakers.
fn silent_policy() -> Value {
    let mut document = policy(&["a", "b"], json!({}));
    document.as_object_mut().unwrap().remove("circuit_breaker");
    document
}

/// All requests go to `a`; those that are refused there go to `b`.
fn fallback_policy() -> Value {
    json!({
        "policy_id": "default", "providers": [{"name": "a", "weight": 100}],
        "fallbacks": [{"when": {"status": "circuit_breaker_open"}, "to": "b"}],
    })
}

impl Caller {
    /// Puts a plan, once a worker has read the stream of rollouts.
    async fn put_plan(&self, plan: &Value) {
        let mut last = Value::Null;
        let put = crate::support::within(SOON, async || {
            last = self.control("rollout.put", &json!({"plan": plan})).await;
            last["ok"] == true
        });
        assert!(put.await.is_some(), "{last}");
    }

    /// Puts a plan and starts it.
    async fn start_rollout(&self, plan: &Value) {
        self.put_plan(plan).await;
        self.command("rollout.start", &json!({"rollout": "cb"})).await;
    }

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
            last = self.control("rollout.status", &json!({"rollout": "cb"})).await;
            is_so(&last).then(|| last.clone())
        })
        .await;
        found.unwrap_or_else(|| panic!("not within {within:?}: {what}\n{last:#}"))
    }

    async fn rollout_is(&self, state: &str) -> Value {
        self.rollout_becomes(state, STEP, |status| status["state"] == state).await
    }

    /// The decisions that took effect, oldest first: the first record of each number.
    async fn decisions(&self) -> Vec<Value> {
        let history = self.command("rollout.history", &json!({"rollout": "cb", "limit": 1000})).await;
        let entries = history["entries"].as_array().unwrap().iter();
        let mut decisions: BTreeMap<u64, Value> = BTreeMap::new();
        for entry in entries.filter(|entry| entry["type"] == "decision") {
            decisions.entry(entry["n"].as_u64().unwrap()).or_insert_with(|| entry.clone());
        }
        decisions.into_values().collect()
    }

    async fn decision_kinds(&self) -> Vec<String> {
        let kind = |decision: &Value| decision["kind"].as_str().unwrap().to_owned();
        self.decisions().await.iter().map(kind).collect()
    }

    /// The newest step in the log, and its place.
    async fn last_step(&self) -> (u64, Value) {
        let message =
            self.log().await.get_last_raw_message_by_subject("beamline.router.v1.log.step").await.unwrap();
        let body: Value = serde_json::from_slice(&message.payload).unwrap();
        (message.sequence, body["entry"].clone())
    }

    /// Waits until a tenant's policy has a share.
    async fn enforced_becomes(&self, tenant: &str, percent: Option<u64>) {
        let what = format!("{percent:?} % of {tenant} are enforced");
        eventually(&what, RECOVERY, async || self.enforced_percent(tenant).await == percent).await;
    }

    /// The share of a tenant's requests whose refusals are enforced, as its effective policy has it; `None` where
    /// no breaker judges.
    async fn enforced_percent(&self, tenant: &str) -> Option<u64> {
        let policy = self.command("policy.get", &json!({"tenant_id": tenant, "policy_id": "default"})).await;
        let breaker = &policy["effective"]["circuit_breaker"];
        (breaker["enabled"] == true).then(|| breaker["enforce_percent"].as_u64().unwrap())
    }
}

impl Worker {
    /// How it shows rollouts in its metrics.
    async fn rollout_figures(&self) -> BTreeMap<String, String> {
        let metrics = self.metrics().await;
        let names = metrics.names();
        let rollouts = names.iter().filter(|n| n.starts_with("router_rollout_") && !n.ends_with("_total"));
        let mut figures = BTreeMap::new();
        for name in rollouts {
            for labels in metrics.labels(name) {
                let pairs: Vec<_> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
                let value = metrics.value(name, &pairs).unwrap();
                figures.insert(format!("{name}{labels:?}"), value.to_string());
            }
        }
        figures
    }

    /// Nothing that it decided or counted was another worker's otherwise.
    async fn agreed(&self) {
        assert_eq!(self.count("router_rollout_blocks_differ_total").await, 0);
        for event in ["rollout_decision_differs", "rollout_block_differs"] {
            assert_eq!(self.events(event), [] as [Value; 0]);
        }
    }
}

/// A rollout of three tenants that stays at its canary, since nobody calls.
pub(super) async fn idle(caller: &Caller) {
    for tenant in ["t1", "t2", "t3"] {
        caller.put_policy(tenant, &silent_policy()).await;
    }
    caller.start_rollout(&plan(&json!({}))).await;
    caller.rollout_is("running").await;
}

/// Does some work while users of the plan's tenants call; one call in a hundred fails.
pub(super) async fn with_users<T>(caller: &Caller, work: impl Future<Output = T>) -> T {
    let users = Users::start(caller, &["t1", "t2", "t3"], 100, one_percent_fails());
    let done = work.await;
    users.stop().await;
    done
}
