//! What the scenarios run on, and what they all need: broker, workers, a client, and waiting.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::failed::LoadFailed;
use super::{Length, LoadArgs};
use crate::cli::output::Output;
use crate::cli::stand::{Broker, Folder, Page, Start, WorkerProcess, client_settings, start_ready};
use crate::clock::Clock;
use crate::config::ClientSettings;
use crate::nats::control_client::ControlClient;
use crate::nats::simulation::Simulation;

/// A request without an answer is given up, and a result that the broker does not take.
const ANSWER: Duration = Duration::from_secs(10);

/// Long enough for anything that should happen, on a machine that is busy.
pub(super) const SOON: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// Scrapes take a worker's time: they are looked at less often.
const SCRAPE: Duration = Duration::from_millis(20);

/// Broker and workers.
#[derive(Debug)]
pub(super) struct Ground {
    // Fields are dropped in this order: the folder last.
    workers: Vec<WorkerProcess>,
    broker: Option<Broker>,
    folder: Folder,
}

/// What the scenarios ask and listen with.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) settings: ClientSettings,
    pub(super) client: Simulation,
    pub(super) control: ControlClient,
    pub(super) clock: Clock,
    pub(super) length: Length,
    pub(super) out: Output,
}

impl Ground {
    pub(super) fn new() -> Result<Self, LoadFailed> {
        Ok(Self { workers: Vec::new(), broker: None, folder: Folder::new()? })
    }

    /// Starts all, and says what.
    pub(super) async fn set(&mut self, args: &LoadArgs, out: Output) -> Result<Scene, LoadFailed> {
        let folder = self.folder.path().to_owned();
        let broker = Broker::start(args.nats_server.as_deref(), &folder, "").await?;
        let (url, version) = (broker.url.clone(), broker.version.clone());
        out.line(&format!("nats-server {version} with JetStream: {url}, files in {}", folder.display()));
        self.broker = Some(broker);
        for number in 1..=usize::from(args.workers) {
            let start = Start {
                program: None,
                name: &format!("worker {number}"),
                worker_name: &format!("load-{number}"),
                broker_url: &url,
                folder: &folder,
                // Where this worker alone may answer.
                args: &["--reply-prefix", &reply_prefix(number - 1)],
                // Tracing would be measured with the rest.
                env: &[("OTEL_SDK_DISABLED", "true")],
            };
            start_ready(&start, &mut self.workers).await?;
            if let Some(worker) = self.workers.last() {
                out.line(&format!("{} is ready: {}", worker.name(), worker.address()));
            }
        }
        let settings = ClientSettings { timeout: ANSWER, ..client_settings(&url)? };
        Ok(Scene {
            client: Simulation::connect(&settings).await?,
            control: ControlClient::connect(&settings).await?,
            clock: Clock::start(),
            length: args.length(),
            settings,
            out,
        })
    }

    /// The broker's version.
    pub(super) fn broker_version(&self) -> &str {
        self.broker.as_ref().map_or("", |broker| broker.version.as_str())
    }

    /// Messages that the broker took and gave since it started.
    pub(super) async fn varz(&self) -> Result<(u64, u64), LoadFailed> {
        let broker = self.broker.as_ref().ok_or(LoadFailed::NoMonitoring)?;
        let told = broker.monitoring("/varz").await.ok_or(LoadFailed::NoMonitoring)?;
        let count = |name: &str| told.get(name).and_then(Value::as_u64).ok_or(LoadFailed::NoMonitoring);
        Ok((count("in_msgs")?, count("out_msgs")?))
    }

    /// How many workers there are.
    pub(super) fn workers(&self) -> usize {
        self.workers.len()
    }

    /// The folder of all files, which goes at the end.
    pub(super) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// How many lines of the workers' logs name one of these events.
    pub(super) fn logged(&self, events: &[&str]) -> u64 {
        self.workers.iter().map(|worker| worker.logged(events)).sum()
    }

    /// Fails if anything has ended by itself.
    pub(super) fn check(&mut self) -> Result<(), LoadFailed> {
        if let Some(broker) = &mut self.broker {
            broker.check()?;
        }
        Ok(self.workers.iter_mut().try_for_each(WorkerProcess::check)?)
    }

    /// What the metrics of each worker say now; empty for one that does not answer.
    pub(super) async fn pages(&self) -> Vec<Page> {
        let pages = join_all(self.workers.iter().map(WorkerProcess::page)).await;
        pages.into_iter().map(Option::unwrap_or_default).collect()
    }

    /// Waits until every worker has applied the log up to a position, and gives their pages then.
    pub(super) async fn applied(&mut self, position: u64) -> Result<Vec<Page>, LoadFailed> {
        let reached = |page: &Page| page.position.as_deref().and_then(|p| p.parse().ok()) >= Some(position);
        let what = format!("every worker has applied position {position} of the log");
        let waited = within(SOON, SCRAPE, async || {
            let pages = self.pages().await;
            pages.iter().all(reached).then_some(pages)
        });
        match waited.await {
            Some(pages) => Ok(pages),
            None => {
                self.check()?;
                Err(LoadFailed::Awaited { what, seconds: SOON.as_secs() })
            }
        }
    }

    /// Ends all of it. Whether every worker drained and ended with exit status 0.
    pub(super) async fn strike(mut self) -> bool {
        let drained = join_all(self.workers.iter_mut().map(WorkerProcess::stop)).await;
        if let Some(broker) = &mut self.broker {
            broker.stop().await;
        }
        drained.into_iter().all(|drained| drained)
    }
}

impl Scene {
    /// Asks a control verb.
    pub(super) async fn ask(&self, verb: &'static str, body: &Value) -> Result<Value, LoadFailed> {
        let answer = self.control.request(verb, body).await;
        answer.map_err(|source| LoadFailed::Control { verb, source: Box::new(source) })
    }

    /// Puts a policy of one tenant. It is in force where it was taken, elsewhere within a second.
    pub(super) async fn put(
        &self,
        tenant: &str,
        providers: &Value,
        breaker: &Value,
    ) -> Result<(), LoadFailed> {
        let policy = json!({"policy_id": "default", "providers": providers, "circuit_breaker": breaker});
        self.ask("policy.put", &json!({"tenant_id": tenant, "policy": policy, "actor": "load"})).await?;
        Ok(())
    }

    /// Every breaker of a tenant, as one worker shows it.
    pub(super) async fn breaker(&self, tenant: &str, provider: &str) -> Result<Value, LoadFailed> {
        let body = json!({"tenant_id": tenant, "provider_id": provider});
        Ok(self.ask("breaker.get", &body).await?["breaker"].take())
    }

    /// Waits until a condition is met.
    pub(super) async fn until<T>(
        &self,
        what: &str,
        mut look: impl FnMut() -> Option<T>,
    ) -> Result<T, LoadFailed> {
        let met = within(SOON, LOOK, async || look()).await;
        met.ok_or_else(|| LoadFailed::Awaited { what: what.to_owned(), seconds: SOON.as_secs() })
    }
}

/// Where only the worker of this index, from 0, may answer.
pub(super) fn reply_prefix(worker: usize) -> String {
    format!("load.w{worker}")
}

/// What a look gives, if it gives something within `bound`.
async fn within<T>(bound: Duration, pause: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(pause).await;
        }
    };
    tokio::time::timeout(bound, looking).await.ok()
}
