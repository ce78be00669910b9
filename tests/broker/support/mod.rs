//! What the tests stand on: brokers, workers, and clients that speak to both.

mod backup;
mod broker;
mod browser;
mod caller;
mod credentials;
mod http;
mod metrics;
mod namespaces;
mod process;
mod prometheus;
mod raw;
mod relay;
mod terminal;
mod worker;

use std::time::{Duration, Instant};

pub(crate) use backup::Backup;
pub(crate) use broker::{Broker, free_port, listens_at, nats_server};
pub(crate) use browser::Browser;
pub(crate) use caller::{Answer, Caller, Listener, request};
pub(crate) use credentials::{Authority, Operator, credentials_file, jwt};
pub(crate) use http::{Page, get, post};
pub(crate) use metrics::Metrics;
pub(crate) use namespaces::SplitCluster;
pub(crate) use process::{Done, Process, run, tool};
pub(crate) use prometheus::{Alertmanager, Prometheus, Webhook};
pub(crate) use raw::{PATIENCE, Raw};
pub(crate) use relay::Relay;
pub(crate) use terminal::Terminal;
pub(crate) use worker::{Launch, Worker, bare, cli, program_folder};

/// Long enough for anything that should happen, on a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// What [`eventually`] waits for: `true`, or something.
pub(crate) trait Condition {
    type Value;
    fn met(self) -> Option<Self::Value>;
}

impl Condition for bool {
    type Value = ();
    fn met(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Condition for Option<T> {
    type Value = T;
    fn met(self) -> Option<T> {
        self
    }
}

/// Waits until the condition is met, and panics with `what` if it is not within `bound`.
#[track_caller]
pub(crate) fn eventually<C: Condition>(
    what: &str,
    bound: Duration,
    condition: impl AsyncFnMut() -> C,
) -> impl Future<Output = C::Value> {
    let place = std::panic::Location::caller();
    async move {
        match within(bound, condition).await {
            Some(value) => value,
            None => panic!("{place}: not within {bound:?}: {what}"),
        }
    }
}

/// Waits until the condition is met; `None` if it is not within `bound`.
pub(crate) async fn within<C: Condition>(
    bound: Duration,
    mut condition: impl AsyncFnMut() -> C,
) -> Option<C::Value> {
    let deadline = Instant::now() + bound;
    loop {
        if let Some(value) = condition().await.met() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A broker, a worker that is ready, and a client.
pub(crate) struct Stage {
    pub(crate) caller: Caller,
    pub(crate) worker: Worker,
    pub(crate) broker: Broker,
}

impl Stage {
    pub(crate) async fn start() -> Self {
        Self::with(|launch| launch).await
    }

    /// With other settings for the worker.
    pub(crate) async fn with(settings: impl FnOnce(Launch) -> Launch) -> Self {
        let broker = Broker::start().await;
        let worker = Worker::start(&broker, settings).await;
        let caller = Caller::connect(&broker).await;
        Self { caller, worker, broker }
    }
}

impl Stage {
    /// Publishes failures of a provider, each of another request, and waits until they are judged.
    pub(crate) async fn fail(&self, tenant: &str, provider: &str, times: usize) {
        self.results(tenant, provider, "error", times).await;
    }

    /// Publishes results of requests that nobody decided, and waits until they are judged. Their calls
    /// took no time, so that none began before a transition that was just made.
    pub(crate) async fn results(&self, tenant: &str, provider: &str, status: &str, times: usize) {
        let mut last = 0;
        for _ in 0..times {
            let request_id = uuid::Uuid::new_v4().to_string();
            let result = serde_json::json!({
                "request_id": request_id, "status": status, "provider_id": provider, "tenant_id": tenant,
                "job": {"type": "text.generate"}, "latency_ms": 0
            });
            last = self.caller.result(&result).await;
        }
        self.worker.applied(last).await;
    }

    /// Puts a policy once the fold has the version that it needs.
    pub(crate) async fn put_once_the_fold_has(&self, version: u32, tenant: &str, policy: &serde_json::Value) {
        eventually("the fold has the version", SOON, async || {
            self.worker.metrics().await.value("router_fold_version", &[]) >= Some(f64::from(version))
        })
        .await;
        self.caller.put_policy(tenant, policy).await;
    }

    /// Asserts the state that a breaker shows.
    pub(crate) async fn state_is(&self, tenant: &str, provider: &str, state: &str) {
        let breaker = self.caller.breaker(tenant, provider).await;
        assert_eq!(breaker["state"], state, "{breaker:#}");
    }
}
