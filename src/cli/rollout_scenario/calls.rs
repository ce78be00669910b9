use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::course::Providers;
use super::plan::{FALLBACK, HARMED, PRIMARY};
use super::users::TASK;
use crate::cli::rng::Rng;
use crate::nats::simulation::Simulation;

/// A call takes about this long.
const CALL_MS: u64 = 40;

/// The calls to providers: how they end, and their results.
#[derive(Debug, Default)]
pub(in crate::cli) struct Calls {
    providers: Mutex<Providers>,
    /// Calls to the broken fallback.
    to_broken: AtomicU64,
}

impl Calls {
    /// Providers are so from now on.
    pub(super) fn set(&self, providers: Providers) {
        *self.providers.lock().unwrap_or_else(PoisonError::into_inner) = providers;
    }

    /// Makes one call, and reports how it ended.
    pub(in crate::cli) async fn make(
        &self,
        simulation: &Simulation,
        tenant: &str,
        request_id: &str,
        provider: &str,
        mut rng: Rng,
    ) {
        let latency_ms = rng.around(CALL_MS);
        tokio::time::sleep(Duration::from_millis(latency_ms)).await;
        let fails = self.fails(tenant, provider, &mut rng);
        let assignment_id = rng.uuid();
        let result = json!({
            "assignment_id": assignment_id, "request_id": request_id, "tenant_id": tenant, "provider_id": provider,
            "job": {"type": TASK}, "status": if fails { "error" } else { "success" }, "latency_ms": latency_ms,
        });
        // One that is lost is a request without an outcome, as in life.
        let _lost = simulation.report(tenant, &assignment_id, &result).await;
    }

    fn fails(&self, tenant: &str, provider: &str, rng: &mut Rng) -> bool {
        let providers = *self.providers.lock().unwrap_or_else(PoisonError::into_inner);
        match (providers, provider) {
            (Providers::Outage, PRIMARY) => true,
            // Four of five: never so many consecutive ones that this circuit opens too.
            (Providers::BrokenFallback, FALLBACK) if tenant == HARMED => {
                !self.to_broken.fetch_add(1, Ordering::Relaxed).is_multiple_of(5)
            }
            _ => rng.below(100) < 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of a hundred calls fail.
    fn failures(providers: Providers, tenant: &str, provider: &str) -> usize {
        let calls = Calls::default();
        calls.set(providers);
        let mut rng = Rng::seeded(1);
        (0..100).filter(|_| calls.fails(tenant, provider, &mut rng)).count()
    }

    #[test]
    fn an_outage_hits_all_and_a_broken_fallback_one() {
        use Providers::{BrokenFallback, Outage, Well};
        assert_eq!(failures(Outage, "acme", PRIMARY), 100);
        assert_eq!(failures(BrokenFallback, HARMED, FALLBACK), 80);
        for (providers, tenant, provider) in [
            (Well, HARMED, FALLBACK),
            (Outage, "acme", FALLBACK),
            (BrokenFallback, "acme", FALLBACK),
            (BrokenFallback, HARMED, PRIMARY),
        ] {
            assert!(failures(providers, tenant, provider) < 5, "{providers:?} {tenant} {provider}");
        }
    }
}
