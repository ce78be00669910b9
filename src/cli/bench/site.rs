//! What is measured: a broker, the floor, and deployments of the router under prefixes of their own.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::stream::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{BenchArgs, BenchFailed, accounts};
use crate::cli::stand::{
    Broker, Folder, Page, Process, StandFailed, Start, WorkerProcess, client_settings, start_ready,
};
use crate::config::{ClientSettings, Names, SubjectPrefix};
use crate::nats::control_client::ControlClient;
use crate::nats::measuring::{AskerFailed, EchoOver, LogSize, log_size, tenant_id};

/// Where an echo listens; as long as a decide subject of a deployment.
pub(super) const fn echo_subject(over: EchoOver) -> &'static str {
    match over {
        EchoOver::Library => "bench.floor.v1.decide",
        EchoOver::Connection => "bench.echo1.v1.decide",
    }
}

/// The providers of the policy, with their weights.
pub(super) const PROVIDERS: [(&str, u32); 3] = [("openai", 50), ("anthropic", 30), ("local_llm", 20)];

/// Policies put at once; a worker works on 64 verbs at most.
const PUTS: usize = 48;

/// How long all workers may take to have a deployment's policies in force.
const IN_FORCE_SECONDS: u64 = 30;

const POLL: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug)]
pub(super) struct Site {
    // Fields are dropped in this order: the folder last.
    floor: Process,
    raw_echo: Process,
    broker: Broker,
    folder: Folder,
    settings: ClientSettings,
    /// In the account that imports.
    importer: ClientSettings,
    serve: Vec<String>,
}

/// One policy that every tenant of a deployment has.
#[derive(Clone, Copy, Debug)]
pub(super) struct PolicyKind {
    pub(super) id: &'static str,
    pub(super) breakers: bool,
    pub(super) window_seconds: u32,
    /// Beside the three that are drawn, others of weight 1.
    pub(super) more_providers: u32,
}

impl PolicyKind {
    pub(super) const ON: Self = Self { id: "on", breakers: true, window_seconds: 60, more_providers: 0 };
    pub(super) const OFF: Self = Self { id: "off", breakers: false, ..Self::ON };

    fn document(&self) -> Value {
        let named = PROVIDERS.iter().map(|(name, weight)| ((*name).to_owned(), *weight));
        let more = (0..self.more_providers).map(|n| (format!("provider-{n:03}"), 1));
        let providers: Vec<Value> =
            named.chain(more).map(|(name, weight)| json!({"name": name, "weight": weight})).collect();
        let mut document = json!({"policy_id": self.id, "providers": providers});
        if self.breakers {
            document["circuit_breaker"] =
                json!({"enabled": true, "error_rate_window_seconds": self.window_seconds});
        }
        document
    }
}

/// A deployment to be.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// One token, under which its subjects and streams lie.
    pub(super) key: String,
    pub(super) workers: u8,
    pub(super) tenants: u32,
    pub(super) policies: Vec<PolicyKind>,
    pub(super) usage: bool,
    pub(super) env: Vec<(&'static str, String)>,
    /// Another build than this program.
    pub(super) program: Option<PathBuf>,
}

impl Plan {
    /// One worker, one policy with breakers.
    pub(super) fn usual(key: &str, tenants: u32) -> Self {
        Self {
            key: key.to_owned(),
            workers: 1,
            tenants,
            policies: vec![PolicyKind::ON],
            usage: false,
            env: Vec::new(),
            program: None,
        }
    }
}

/// A deployment that runs.
#[derive(Debug)]
pub(super) struct Deployment {
    pub(super) plan: Plan,
    pub(super) names: Names,
    workers: Vec<WorkerProcess>,
    control: ControlClient,
    /// Resident memory of the first worker before it had any policy.
    pub(super) empty_bytes: u64,
}

impl Site {
    /// Starts broker and echoes.
    pub(super) async fn open(args: &BenchArgs) -> Result<Self, BenchFailed> {
        let folder = Folder::new()?;
        let broker =
            Broker::start(args.nats_server.as_deref(), folder.path(), accounts::CONFIGURATION).await?;
        let program = std::env::current_exe()
            .map_err(|source| StandFailed::Spawn { program: "beamline-router".into(), source })?;
        let echo = |name: &str, over: &str, log: &str| {
            let mut command = Command::new(&program);
            command.args(["bench", "--echo", &broker.url, "--over", over]);
            Process::spawn(name, command, folder.path().join(log))
        };
        let floor = echo("the floor", "library", "floor.log")?;
        let raw_echo = echo("the raw echo", "connection", "echo.log")?;
        let settings = client_settings(&broker.url)?;
        let named = format!("nats://{0}:{0}@", accounts::ASKER);
        let importer = client_settings(&broker.url.replacen("nats://", &named, 1))?;
        Ok(Self { floor, raw_echo, broker, folder, settings, importer, serve: args.serve.clone() })
    }

    pub(super) fn broker_version(&self) -> &str {
        &self.broker.version
    }

    pub(super) fn settings(&self) -> &ClientSettings {
        &self.settings
    }

    pub(super) const fn importer(&self) -> &ClientSettings {
        &self.importer
    }

    pub(super) fn broker_id(&self) -> u32 {
        self.broker.id().unwrap_or_default()
    }

    pub(super) fn echo_id(&self, over: EchoOver) -> u32 {
        let echo = match over {
            EchoOver::Library => &self.floor,
            EchoOver::Connection => &self.raw_echo,
        };
        echo.id().unwrap_or_default()
    }

    /// Ends broker and echoes.
    pub(super) async fn close(mut self) {
        self.floor.stop(Duration::from_secs(2)).await;
        self.raw_echo.stop(Duration::from_secs(2)).await;
        self.broker.stop().await;
    }

    /// Fails if broker or an echo has ended by itself.
    pub(super) fn check(&mut self) -> Result<(), BenchFailed> {
        self.floor.check()?;
        self.raw_echo.check()?;
        Ok(self.broker.check()?)
    }

    /// Starts a deployment, and puts its policies.
    pub(super) async fn deploy(&self, plan: Plan) -> Result<Deployment, BenchFailed> {
        let [router, exec, usage] =
            ["", "-exec", "-usage"].map(|suffix| format!("bench.{}{suffix}", plan.key));
        let mut args: Vec<&str> = vec!["--router-prefix", &router, "--exec-prefix", &exec];
        args.extend(["--usage-prefix", &usage, "--log-level", "warn"]);
        args.extend(["--usage-metering", if plan.usage { "on" } else { "off" }]);
        args.extend(self.serve.iter().map(String::as_str));
        let env: Vec<(&str, &str)> = plan.env.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let mut workers = Vec::new();
        for number in 1..=plan.workers {
            let start = Start {
                program: plan.program.as_deref(),
                name: &format!("worker {number} of {}", plan.key),
                worker_name: &format!("bench-{}-{number}", plan.key),
                broker_url: &self.broker.url,
                folder: self.folder.path(),
                args: &args,
                env: &env,
            };
            start_ready(&start, &mut workers).await?;
        }
        let empty_bytes =
            workers.first().and_then(WorkerProcess::id).map_or(0, super::process::resident_bytes);
        let prefix =
            |text: &str| SubjectPrefix::try_new(text).map_err(|e| StandFailed::Settings(e.to_string()));
        let names = Names::new(&prefix(&router)?, &prefix(&exec)?, &prefix(&usage)?);
        let settings = ClientSettings { names: names.clone(), ..self.settings.clone() };
        let control = ControlClient::connect(&settings).await?;
        let mut deployment = Deployment { plan, names, workers, control, empty_bytes };
        deployment.put_policies().await?;
        Ok(deployment)
    }
}

impl Deployment {
    /// Asks its control verbs.
    pub(super) const fn control(&self) -> &ControlClient {
        &self.control
    }

    /// What the metrics of its workers say; nothing of one that does not answer.
    pub(super) async fn pages(&self) -> Vec<Page> {
        let pages = futures_util::future::join_all(self.workers.iter().map(WorkerProcess::page)).await;
        pages.into_iter().flatten().collect()
    }

    /// The process ids of its workers.
    pub(super) fn ids(&self) -> Vec<u32> {
        self.workers.iter().filter_map(WorkerProcess::id).collect()
    }

    /// Fails if a worker has ended by itself.
    pub(super) fn check(&mut self) -> Result<(), BenchFailed> {
        Ok(self.workers.iter_mut().try_for_each(WorkerProcess::check)?)
    }

    /// Ends its workers.
    pub(super) async fn close(mut self) {
        futures_util::future::join_all(self.workers.iter_mut().map(WorkerProcess::stop)).await;
    }

    /// What the broker holds of it.
    pub(super) async fn stock(&self, settings: &ClientSettings) -> Result<LogSize, AskerFailed> {
        log_size(settings, &self.names).await
    }

    /// Done when a worker has applied all that stands in the log: a reset of a breaker is appended
    /// behind it, and answered once it is in force. Tells how many were appended.
    pub(super) async fn all_applied(&self) -> Result<u64, BenchFailed> {
        let body = json!({"tenant_id": tenant_id(0), "provider_id": PROVIDERS[0].0});
        for appended in 1..=6 {
            let answer = self.control.request("breaker.reset", &body).await?;
            if answer.get("in_force") != Some(&Value::Bool(false)) {
                return Ok(appended);
            }
        }
        Err(self.never(30, "the results were not applied"))
    }

    fn never(&self, seconds: u64, what: &'static str) -> BenchFailed {
        BenchFailed::Never { name: self.plan.key.clone(), seconds, what }
    }

    async fn put_policies(&mut self) -> Result<(), BenchFailed> {
        let control = &self.control;
        for kind in &self.plan.policies {
            let document = kind.document();
            let puts = (0..u64::from(self.plan.tenants)).map(|n| {
                let body = json!({"tenant_id": tenant_id(n), "policy": document, "actor": "bench"});
                async move { control.request("policy.put", &body).await }
            });
            let puts = futures_util::stream::iter(puts).buffer_unordered(PUTS);
            puts.try_for_each(|_| std::future::ready(Ok(()))).await?;
        }
        if self.workers.len() < 2 {
            // The one that answers has it in force.
            return Ok(());
        }
        let wanted = Some(u64::from(self.plan.tenants) * self.plan.policies.len() as u64);
        let all = async {
            for worker in &self.workers {
                while worker.page().await.and_then(|page| page.policies) != wanted {
                    tokio::time::sleep(POLL).await;
                }
            }
        };
        let bound = Duration::from_secs(IN_FORCE_SECONDS);
        let in_force = tokio::time::timeout(bound, all).await;
        in_force.map_err(|_| self.never(IN_FORCE_SECONDS, "its policies are not in force on all workers"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_one_that_the_router_takes() {
        let many = PolicyKind { more_providers: 197, window_seconds: 3_600, ..PolicyKind::ON };
        for (kind, candidates) in [(PolicyKind::ON, 3), (PolicyKind::OFF, 3), (many, 200)] {
            let policy = crate::policy::parse(&kind.document()).unwrap();
            assert_eq!(policy.policy.candidates().len(), candidates);
            assert_eq!(policy.policy.breaker().enabled(), kind.breakers);
        }
    }
}
