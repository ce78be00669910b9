use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::course::{HARMED, Providers, TENANTS};
use crate::cli::demo::executors::{Rng, TASK};
use crate::cli::demo::failed::DemoFailed;
use crate::config::ClientSettings;
use crate::nats::simulation::Simulation;

/// Requests of one tenant a second.
const PER_SECOND: u64 = 40;
/// A call takes about this long.
const CALL_MS: u64 = 40;

/// Programs of the tenants, which ask and report until they are stopped.
pub(super) struct Users {
    providers: Arc<Mutex<Providers>>,
    asking: CancellationToken,
    under_way: TaskTracker,
}

impl Users {
    pub(super) async fn start(settings: &ClientSettings) -> Result<Self, DemoFailed> {
        let users = Self {
            providers: Arc::default(),
            asking: CancellationToken::new(),
            under_way: TaskTracker::new(),
        };
        for (seed, tenant) in (1..).zip(TENANTS) {
            let simulation = Simulation::connect(settings).await?;
            let (providers, asking) = (Arc::clone(&users.providers), users.asking.clone());
            let under_way = users.under_way.clone();
            tokio::spawn(async move {
                let mut rng = Rng::seeded(seed);
                loop {
                    let pause = Duration::from_millis(rng.around(1_000 / PER_SECOND));
                    tokio::select! {
                        () = asking.cancelled() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                    let (simulation, rng) = (simulation.clone(), rng.split());
                    let now = *providers.lock().unwrap_or_else(PoisonError::into_inner);
                    under_way.spawn(async move { request(&simulation, tenant, now, rng).await });
                }
            });
        }
        Ok(users)
    }

    /// Providers are so from now on.
    pub(super) fn set(&self, providers: Providers) {
        *self.providers.lock().unwrap_or_else(PoisonError::into_inner) = providers;
    }

    /// Ends the asking. Done when what was asked is reported.
    pub(super) async fn stop(self) {
        self.asking.cancel();
        self.under_way.close();
        self.under_way.wait().await;
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.asking.cancel();
    }
}

/// One request, its call, and the report.
async fn request(simulation: &Simulation, tenant: &str, providers: Providers, mut rng: Rng) {
    let request_id = rng.uuid();
    let asked = json!({
        "version": "1", "request_id": request_id, "tenant_id": tenant,
        "task": {"type": TASK, "payload_ref": "demo://prompt"},
    });
    let Ok(answer) = simulation.decide(&asked).await else { return };
    let Some(provider) = answer.pointer("/decision/provider_id").and_then(|id| id.as_str()) else { return };
    let latency_ms = rng.around(CALL_MS);
    tokio::time::sleep(Duration::from_millis(latency_ms)).await;
    let failed = rng.below(100) < failures(providers, tenant, provider);
    let result = json!({
        "assignment_id": rng.uuid(), "request_id": request_id, "tenant_id": tenant, "provider_id": provider,
        "job": {"type": TASK}, "status": if failed { "error" } else { "success" }, "latency_ms": latency_ms,
    });
    // One that is lost is a request without an outcome, as in life.
    let _lost = simulation.report(&request_id, &result).await;
}

/// How many of a hundred calls fail.
fn failures(providers: Providers, tenant: &str, provider: &str) -> u64 {
    match (providers, provider) {
        (Providers::Outage, "openai") => 95,
        (Providers::BrokenFallback, "openai") if tenant == HARMED => 55,
        (Providers::BrokenFallback, "local") if tenant == HARMED => 98,
        _ => 1,
    }
}
