//! What a rollout must know of tenants besides their requests.

use super::fold::Fold;
use super::register::Live;
use crate::breaker::Settings;
use crate::domain::RolloutId;
use crate::policy;
use crate::rollout::history::TenantFacts;

impl Fold {
    /// What the policies in force say of each tenant, by id.
    #[must_use]
    pub fn tenant_facts(&self, rollout: &RolloutId) -> Vec<TenantFacts> {
        let mut all: Vec<TenantFacts> = Vec::new();
        for ((tenant, _), record) in self.register.iter() {
            let Some(live) = &record.live else { continue };
            let facts = TenantFacts {
                tenant: tenant.clone(),
                already_enforced: enforces(live, rollout),
                fallback: live.policy.survives_refusal(),
                timeout_ms: live.policy.breaker().to_draft().max_timeout_ms,
            };
            match all.last_mut().filter(|last| last.tenant == *tenant) {
                Some(last) => {
                    last.already_enforced |= facts.already_enforced;
                    last.fallback &= facts.fallback;
                    last.timeout_ms = last.timeout_ms.max(facts.timeout_ms);
                }
                None => all.push(facts),
            }
        }
        all
    }
}

/// Whether a policy enforces refusals without this rollout: by its document, or since another rollout has it.
fn enforces(live: &Live, rollout: &RolloutId) -> bool {
    let by_breaker = |settings: &Settings| settings.enabled() && settings.enforce_percent() > 0;
    match live.step() {
        None => by_breaker(live.policy.breaker()),
        Some(step) if step.rollout != *rollout => true,
        Some(_) => policy::parse(&live.document).is_ok_and(|own| by_breaker(own.policy.breaker())),
    }
}
