//! What the demo is shown on: a temporary folder, the broker, the workers. Each stands here from the
//! moment it is started, so that [`Stage::strike`] ends all of it, however far the demo came.

use std::time::Duration;

use serde_json::{Value, json};

use super::DemoArgs;
use super::failed::DemoFailed;
use super::story::Story;
use super::tenants::TENANTS;
use crate::cli::output::Output;
use crate::cli::stand::{
    Broker, Folder, Page, StandFailed, Start, WorkerProcess, client_settings, start_ready,
};
use crate::config::ClientSettings;
use crate::nats::control_client::{ControlClient, ControlError};

/// A policy is in force on every worker within a second; more is a fault.
const IN_FORCE_SECONDS: u64 = 5;

/// How long the workers may take to read the last entries of a log that has ended.
const AGREE: Duration = Duration::from_secs(5);

const POLL: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug)]
pub(super) struct Stage {
    // Fields are dropped in this order: the folder last.
    workers: Vec<WorkerProcess>,
    broker: Option<Broker>,
    folder: Folder,
}

/// What the workers say when all is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Agreement {
    /// At one position, with one digest.
    Same { position: String, digest: String },
    /// At one position, with several digests.
    Differ { position: String, digests: Vec<String> },
    /// They did not come to one position, or did not answer.
    Unknown,
}

/// What the workers told last.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) agreement: Agreement,
    /// Name and decisions of each.
    pub(super) decisions: Vec<(String, u64)>,
}

impl Stage {
    pub(super) fn new() -> Result<Self, DemoFailed> {
        Ok(Self { workers: Vec::new(), broker: None, folder: Folder::new()? })
    }

    /// Starts all, says what, and puts the policies.
    pub(super) async fn set(
        &mut self,
        args: &DemoArgs,
        story: &Story,
        out: Output,
    ) -> Result<ClientSettings, DemoFailed> {
        let settings = self.raise(args, out).await?;
        let control = ControlClient::connect(&settings).await?;
        for tenant in &TENANTS {
            put_policy(&control, tenant.id, &tenant.policy(story), out).await?;
        }
        self.policies_in_force(TENANTS.len() as u64).await?;
        Ok(settings)
    }

    /// Starts the broker and the workers, and says what.
    pub(super) async fn raise(&mut self, args: &DemoArgs, out: Output) -> Result<ClientSettings, DemoFailed> {
        let folder = self.folder.path().to_owned();
        let broker = Broker::start(args.nats_server.as_deref(), &folder, "").await?;
        let (url, version) = (broker.url.clone(), broker.version.clone());
        out.line(&format!("nats-server {version} with JetStream: {url}, files in {}", folder.display()));
        self.broker = Some(broker);
        for number in 1..=args.workers {
            let start = Start {
                program: None,
                name: &format!("worker {number}"),
                worker_name: &format!("demo-{number}"),
                broker_url: &url,
                folder: &folder,
                args: &[],
                env: &[],
            };
            start_ready(&start, &mut self.workers).await?;
            if let Some(worker) = self.workers.last() {
                out.line(&format!("{} is ready: {}", worker.name(), worker.address()));
            }
        }
        Ok(client_settings(&url)?)
    }

    /// The broker's version.
    pub(super) fn broker_version(&self) -> &str {
        self.broker.as_ref().map_or("", |broker| broker.version.as_str())
    }

    /// How many workers there are.
    pub(super) fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Fails if anything has ended by itself.
    pub(super) fn check(&mut self) -> Result<(), DemoFailed> {
        if let Some(broker) = &mut self.broker {
            broker.check()?;
        }
        Ok(self.workers.iter_mut().try_for_each(WorkerProcess::check)?)
    }

    /// Asks all workers, until they stand at one position of the log.
    pub(super) async fn ask(&self) -> Told {
        let mut last = Vec::new();
        let equal = async {
            loop {
                last = self.pages().await;
                let agreement = agreement(&last);
                if agreement != Agreement::Unknown {
                    return agreement;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let agreement = tokio::time::timeout(AGREE, equal).await.unwrap_or(Agreement::Unknown);
        let named = self.workers.iter().map(|worker| worker.name().to_owned());
        let decisions = named.zip(last.iter().map(|page| page.decisions)).collect();
        Told { agreement, decisions }
    }

    /// Ends all of it. Whether every worker drained and ended with exit status 0.
    pub(super) async fn strike(mut self) -> bool {
        let drained = futures_util::future::join_all(self.workers.iter_mut().map(WorkerProcess::stop)).await;
        if let Some(broker) = &mut self.broker {
            broker.stop().await;
        }
        drained.into_iter().all(|drained| drained)
    }

    async fn pages(&self) -> Vec<Page> {
        let pages = futures_util::future::join_all(self.workers.iter().map(WorkerProcess::page)).await;
        pages.into_iter().map(Option::unwrap_or_default).collect()
    }

    /// Waits until so many policies are in force on every worker.
    pub(super) async fn policies_in_force(&mut self, policies: u64) -> Result<(), DemoFailed> {
        let wanted = Some(policies);
        let all = async {
            while !self.pages().await.iter().all(|page| page.policies == wanted) {
                tokio::time::sleep(POLL).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(IN_FORCE_SECONDS), all).await.is_ok() {
            return Ok(());
        }
        self.check()?;
        Err(DemoFailed::Stand(StandFailed::NotReady {
            name: "the workers".to_owned(),
            seconds: IN_FORCE_SECONDS,
            reasons: "the policies are not in force on all of them".to_owned(),
            log: String::new(),
        }))
    }
}

/// Puts a policy as an operator would.
pub(super) async fn put_policy(
    control: &ControlClient,
    tenant: &'static str,
    policy: &Value,
    out: Output,
) -> Result<(), DemoFailed> {
    let body = json!({"tenant_id": tenant, "policy": policy, "actor": "demo"});
    let put = control.request("policy.put", &body).await;
    let revision =
        put.map_err(|source: ControlError| DemoFailed::Policy { tenant, source })?["revision"].take();
    out.line(&format!("policy of {tenant} put through the control subject: revision {revision}"));
    Ok(())
}

fn agreement(pages: &[Page]) -> Agreement {
    let Some(Page { position: Some(position), digest: Some(digest), .. }) = pages.first() else {
        return Agreement::Unknown;
    };
    if pages.iter().any(|page| page.position.as_ref() != Some(position) || page.digest.is_none()) {
        return Agreement::Unknown;
    }
    let position = position.clone();
    if pages.iter().all(|page| page.digest.as_ref() == Some(digest)) {
        return Agreement::Same { position, digest: digest.clone() };
    }
    Agreement::Differ { position, digests: pages.iter().filter_map(|page| page.digest.clone()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(position: &str, digest: &str) -> Page {
        Page { position: Some(position.to_owned()), digest: Some(digest.to_owned()), ..Page::default() }
    }

    #[test]
    fn workers_agree_only_at_one_position() {
        let (position, digest) = ("9".to_owned(), "1".to_owned());
        let same = Agreement::Same { position: position.clone(), digest: digest.clone() };
        assert_eq!(agreement(&[page("9", "1"), page("9", "1")]), same);
        let digests = vec![digest, "2".to_owned()];
        assert_eq!(agreement(&[page("9", "1"), page("9", "2")]), Agreement::Differ { position, digests });
        assert_eq!(agreement(&[page("9", "1"), page("8", "1")]), Agreement::Unknown);
        assert_eq!(agreement(&[page("9", "1"), Page::default()]), Agreement::Unknown);
        assert_eq!(agreement(&[]), Agreement::Unknown);
    }
}
