use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cli::policy_files::{self, Document};
use crate::domain::TenantId;
use crate::http::Probe;
use crate::ledger::version_for;
use crate::nats::Worker;
use crate::nats::control::put_if_absent;
use crate::nats::reconcile::{self, Compared};
use crate::nats::streams::{Results, admit_results};
use crate::telemetry::Exposition;

/// How often readiness is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Between tries to compare the buckets at the start.
const RETRY: Duration = Duration::from_millis(500);

/// Whether the worker can serve, and what it shows at `/metrics`.
pub(super) struct Readiness {
    worker: Arc<Worker>,
    exposition: Exposition,
    policies_loaded: AtomicBool,
    /// Held for a scrape, so that its digest is that of its position.
    scraping: Mutex<()>,
}

impl Readiness {
    pub(super) const fn new(worker: Arc<Worker>, exposition: Exposition) -> Self {
        Self { worker, exposition, policies_loaded: AtomicBool::new(false), scraping: Mutex::new(()) }
    }

    /// Whether requests are to be taken.
    fn serves(&self) -> bool {
        let progress = *self.worker.ledger.progress().borrow();
        let far_behind = self.worker.ledger.health().borrow().is_far_behind(self.worker.clock.tick());
        let announced = self.worker.collector.is_announced();
        self.are_policies_loaded() && progress.caught_up && !far_behind && announced
    }

    /// Whether the fold holds all policies in force, those of the directory included.
    fn are_policies_loaded(&self) -> bool {
        self.policies_loaded.load(Ordering::Acquire) && self.worker.ledger.is_complete()
    }
}

impl Probe for Readiness {
    fn alive(&self) -> bool {
        true
    }

    fn not_ready(&self) -> Vec<String> {
        let worker = &self.worker;
        let mut reasons = Vec::new();
        if !worker.link.is_up() {
            reasons.push("nats: not connected".to_owned());
        } else if !worker.ledger.health().borrow().reachable {
            reasons.push("log: cannot be reached".to_owned());
        }
        let (now, caught_up) = (worker.clock.tick(), worker.ledger.progress().borrow().caught_up);
        if caught_up && worker.is_stale(now) {
            let seconds = now.since(worker.ledger.fresh()) / 1_000;
            reasons.push(format!("stale: the log was last confirmed {seconds} s ago"));
        }
        reasons.extend(worker.link.all_troubles().iter().map(|(kind, error)| format!("{kind}: {error}")));
        if !self.are_policies_loaded() {
            reasons.push("policies: not loaded".to_owned());
        }
        if !worker.ledger.progress().borrow().caught_up {
            reasons.push("log: catching up".to_owned());
        } else if worker.ledger.health().borrow().is_far_behind(worker.clock.tick()) {
            reasons.push("log: more than 5 s behind".to_owned());
        } else if !worker.collector.is_announced() {
            reasons.push("rollout: first tally not written".to_owned());
        }
        let results = worker.ledger.results.watch();
        if reasons.is_empty() && *results.borrow() != Results::Enter {
            reasons.push(format!("streams: {} takes no results yet", worker.settings.names.log_stream));
        }
        if reasons.is_empty() && worker.link.taking() < worker.settings.decide.connections {
            reasons.push("decide: not every connection takes requests".to_owned());
        }
        if reasons.is_empty() && !worker.link.is_controlled() {
            reasons.push("control: not subscribed".to_owned());
        }
        reasons
    }

    fn metrics(&self) -> String {
        let _turn = self.scraping.lock().unwrap_or_else(PoisonError::into_inner);
        let (digest, position) = {
            let mut fold = self.worker.ledger.fold();
            (fold.digest(), fold.at().position)
        };
        self.worker.metrics.log_digest.set(digest);
        self.worker.metrics.log_position.set(position);
        self.exposition.encode().unwrap_or_default()
    }
}

/// Loads the policies, then says whether the worker is ready, until stopped. Keeps the log complete
/// from then on.
pub(super) async fn run(readiness: Arc<Readiness>, ready: watch::Sender<bool>, stop: CancellationToken) {
    let worker = Arc::clone(&readiness.worker);
    let mut compared = Compared::default();
    if !load(&readiness, &mut compared, &stop).await {
        return;
    }
    let keeping = reconcile::run(Arc::clone(&worker), compared, stop.clone());
    tokio::pin!(keeping);
    // The policies are in the log now, and so may results be.
    let admitting = admit_results(Arc::clone(&worker), stop.clone());
    tokio::pin!(admitting);
    loop {
        let serves = readiness.serves();
        ready.send_if_modified(|r| std::mem::replace(r, serves) != serves);
        worker.metrics.ready.set(u64::from(readiness.not_ready().is_empty()));
        tokio::select! {
            () = stop.cancelled() => return,
            () = &mut keeping => return,
            () = &mut admitting => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Waits for the log, then compares the buckets until that works, then puts the directory's policies.
async fn load(readiness: &Readiness, compared: &mut Compared, stop: &CancellationToken) -> bool {
    let worker = &readiness.worker;
    let mut progress = worker.ledger.progress();
    tokio::select! {
        () = stop.cancelled() => return false,
        caught_up = progress.wait_for(|p| p.caught_up) => if caught_up.is_err() { return false },
    }
    loop {
        match reconcile::once(worker, compared).await {
            Ok(()) => break,
            Err(error) => tracing::warn!(event = "policies_not_loaded", error = %error),
        }
        tokio::select! {
            () = stop.cancelled() => return false,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
    put_directory(worker, stop).await;
    let policies = worker.ledger.fold().register().live_count();
    tracing::info!(event = "policies_loaded", policies);
    readiness.policies_loaded.store(true, Ordering::Release);
    true
}

/// Puts those policies of `--policy-dir` that the bucket lacks. A fault in one does not keep the
/// others out, nor the worker from serving what it has. What needs a newer version of the fold is put once that holds.
async fn put_directory(worker: &Arc<Worker>, stop: &CancellationToken) {
    let Some(directory) = &worker.settings.policy_dir else { return };
    let (files, faults) = policy_files::documents(directory);
    for fault in faults {
        tracing::error!(event = "policy_file_refused", error = %fault);
    }
    let holds = worker.ledger.fold_version();
    let (now, later): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|file| version_for(&file.document) <= holds);
    for file in now {
        put_file(worker, file).await;
    }
    for file in &later {
        let version = version_for(&file.document).0;
        tracing::info!(event = "policy_file_waits", path = %file.path.display(), version);
    }
    if !later.is_empty() {
        tokio::spawn(put_later(Arc::clone(worker), later, stop.clone()));
    }
}

/// Puts each file once the version of the fold that it needs holds.
async fn put_later(worker: Arc<Worker>, files: Vec<Document>, stop: CancellationToken) {
    for file in files {
        while worker.ledger.fold_version() < version_for(&file.document) {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
        put_file(&worker, file).await;
    }
}

async fn put_file(worker: &Worker, file: Document) {
    let path = file.path.display().to_string();
    let Some(Ok(tenant_id)) = file.tenant_id.map(TenantId::try_new) else {
        let error =
            "names no tenant: want a folder <tenant>/ or {\"tenant_id\", \"policy\"}, the tenant an id";
        tracing::error!(event = "policy_file_refused", path, error);
        return;
    };
    match put_if_absent(worker, &tenant_id, file.document).await {
        Ok(true) => tracing::info!(event = "policy_file_put", path, tenant_id = tenant_id.as_str()),
        Ok(false) => {}
        Err(error) => tracing::error!(
            event = "policy_file_refused",
            path,
            error = error.message,
            details = error.details.map(|d| d.to_string())
        ),
    }
}
