//! Programs that ask for decisions, make the calls, and report how these ended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::Client;
use beamline_router::domain::{arm_hash, is_treated};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{Caller, eventually, request};
use crate::traffic::{RECOVERY, result};

/// One call to a provider.
pub(super) struct Call<'c> {
    pub(super) provider: &'c str,
    /// Counts the requests of all tenants.
    pub(super) n: u64,
    /// Whether the request is treated where half of them are.
    pub(super) in_treated_half: bool,
    /// From 1.
    pub(super) attempt: u64,
}

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Success,
    Failure,
    Cancelled,
    /// Its result is lost.
    Unreported,
}

impl End {
    pub(super) const fn failure_if(fails: bool) -> Self {
        if fails { Self::Failure } else { Self::Success }
    }

    const fn status(self) -> Option<&'static str> {
        match self {
            Self::Success => Some("success"),
            Self::Failure => Some("error"),
            Self::Cancelled => Some("cancelled"),
            Self::Unreported => None,
        }
    }
}

/// How calls end.
pub(super) type Ends = Arc<dyn Fn(&Call<'_>) -> End + Send + Sync>;

/// What users do besides.
#[derive(Clone, Debug, Default)]
pub(super) struct Habits {
    /// After these times each result is published again.
    pub(super) copies: Vec<Duration>,
    /// A request whose call failed is asked again once.
    pub(super) retries: bool,
}

/// A refusal that was enforced, as the explanation of the decision has it.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) request_id: String,
    /// The place of the log that the decision rests on, at least.
    pub(super) position: u64,
}

/// What became of the requests of a tenant.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) asked: u64,
    /// Answered without a provider.
    pub(super) without_provider: u64,
    /// The greatest place of the log that a decision rested on.
    pub(super) position: u64,
    pub(super) refusals: Vec<Refusal>,
}

/// Users of some tenants, until stopped.
pub(super) struct Users {
    world: World,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct World {
    caller: Caller,
    seen: Arc<Mutex<BTreeMap<String, Seen>>>,
    ends: Arc<Mutex<Ends>>,
    habits: Habits,
}

impl Users {
    /// Each tenant asks so many times a second.
    pub(super) fn start(caller: &Caller, tenants: &[&str], per_second: u64, ends: Ends) -> Self {
        Self::with(caller, tenants, per_second, ends, Habits::default())
    }

    pub(super) fn with(
        caller: &Caller,
        tenants: &[&str],
        per_second: u64,
        ends: Ends,
        habits: Habits,
    ) -> Self {
        let world =
            World { caller: caller.clone(), seen: Arc::default(), ends: Arc::new(Mutex::new(ends)), habits };
        let stop = CancellationToken::new();
        let tenants: Vec<String> = tenants.iter().map(|&tenant| tenant.to_owned()).collect();
        let task = tokio::spawn(world.clone().ask(tenants, per_second, stop.clone()));
        Self { world, stop, task }
    }

    pub(super) fn seen(&self, tenant: &str) -> Seen {
        self.world.seen.lock().unwrap().get(tenant).cloned().unwrap_or_default()
    }

    /// From now on calls end like this.
    pub(super) fn now(&self, ends: Ends) {
        *self.world.ends.lock().unwrap() = ends;
    }

    /// Waits until so many more requests of a tenant are answered.
    pub(super) async fn go_on(&self, tenant: &str, more: u64) {
        let until = self.seen(tenant).asked + more;
        eventually("requests are answered", RECOVERY, async || self.seen(tenant).asked >= until).await;
    }

    /// Waits until a tenant's decisions rest on a place of the log, and on what came long after.
    pub(super) async fn follow(&self, tenant: &str, position: u64) {
        eventually("decisions follow the log", RECOVERY, async || self.seen(tenant).position > position)
            .await;
        self.go_on(tenant, 100).await;
    }

    pub(super) async fn stop(mut self) -> BTreeMap<String, Seen> {
        self.stop.cancel();
        (&mut self.task).await.unwrap();
        self.world.seen.lock().unwrap().clone()
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl World {
    async fn ask(self, tenants: Vec<String>, per_second: u64, stop: CancellationToken) {
        let number = AtomicU64::new(0);
        let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / per_second));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut waiting = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            for tenant in &tenants {
                let n = number.fetch_add(1, Ordering::Relaxed);
                let (world, tenant) = (self.clone(), tenant.clone());
                waiting.spawn(async move { world.one(&tenant, n).await });
            }
            while waiting.try_join_next().is_some() {}
        }
        waiting.join_all().await;
    }

    /// One request, until its caller has a result or gives up.
    async fn one(&self, tenant: &str, n: u64) {
        let request_id = format!("{tenant}-{}", uuid::Uuid::new_v4());
        let in_treated_half = is_treated(arm_hash(&request_id), 50);
        let mut asked = request(tenant, &request_id);
        asked["explain"] = json!(true);
        for attempt in 1..=2 {
            let Some(provider) = self.decide(tenant, &request_id, &asked, attempt).await else { return };
            let ends = Arc::clone(&self.ends.lock().unwrap());
            let end = ends(&Call { provider: &provider, n, in_treated_half, attempt });
            self.report(tenant, &provider, &request_id, end).await;
            if end != End::Failure || !self.habits.retries {
                return;
            }
            asked["context"] = json!({"status": "error", "attempt": attempt + 1});
        }
    }

    /// The provider that is to serve; `None` without an answer or without a provider.
    async fn decide(&self, tenant: &str, request_id: &str, asked: &Value, attempt: u64) -> Option<String> {
        let subject = "beamline.router.v1.decide";
        let patience = Duration::from_secs(3);
        let answer = self.caller.client.request(subject, asked.to_string().into());
        let answer = tokio::time::timeout(patience, answer).await.ok()?.ok()?;
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        let decision = &answer["decision"];
        let mut seen = self.seen.lock().unwrap();
        let seen = seen.entry(tenant.to_owned()).or_default();
        seen.asked += u64::from(attempt == 1);
        let explanation = &decision["explanation"];
        let position = explanation["position"].as_u64().unwrap_or(0);
        seen.position = seen.position.max(position);
        let is_refusal = |step: &Value| step["result"] == "rejected";
        if explanation["steps"].as_array().is_some_and(|steps| steps.iter().any(is_refusal)) {
            seen.refusals.push(Refusal { request_id: request_id.to_owned(), position });
        }
        let provider = decision["provider_id"].as_str().map(str::to_owned);
        seen.without_provider += u64::from(provider.is_none());
        provider
    }

    async fn report(&self, tenant: &str, provider: &str, request_id: &str, end: End) {
        let Some(status) = end.status() else { return };
        let mut ended = result(tenant, provider, &uuid::Uuid::new_v4().to_string(), status);
        ended["request_id"] = json!(request_id);
        let ended = ended.to_string();
        let publish = async |client: &Client, ended: String| {
            let _ = client.publish("caf.exec.result.v1", ended.into()).await;
        };
        let client = &self.caller.client;
        publish(client, ended.clone()).await;
        for after in self.habits.copies.clone() {
            let (client, ended) = (client.clone(), ended.clone());
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                publish(&client, ended).await;
            });
        }
    }
}
