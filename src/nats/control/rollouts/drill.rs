use std::sync::Arc;

use serde_json::{Value, json};

use super::change;
use crate::breaker::State;
use crate::domain::{ErrorCode, ProviderId, TenantId};
use crate::log::{Entry, ForceEntry, ForceTo};
use crate::nats::Worker;
use crate::nats::control::body::Body;
use crate::nats::control::reply::ControlError;
use crate::nats::control::{command, latest_of};
use crate::rollout::controller::Verb;

/// Opens a breaker for a while.
pub(in crate::nats::control) async fn drill(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["rollout", "expected_seq", "tenant_id", "provider_id", "for"])?;
    let (tenant, provider) = (body.tenant_id()?, body.provider_id()?);
    let for_ms = body.duration("for")?;
    if worker.state.breaker(tenant.as_str(), provider.as_str()).is_none() {
        return Err(ControlError::new(ErrorCode::NotFound, "the tenant has no breaker for this provider"));
    }
    check_fallbacks(worker, &tenant, &provider)?;
    let verb = Verb::Drill { tenant: tenant.clone(), provider: provider.clone(), for_ms };
    let answer = change(worker, &body, verb).await?;
    // It is noted before the breaker opens, so that no window with forced refusals is judged.
    let by = body.by();
    let entry = Entry::Force(ForceEntry {
        tenant_id: tenant,
        provider_id: provider,
        to: Some(ForceTo::Open),
        ttl_ms: Some(for_ms),
        latest: Some(latest_of(worker, worker.clock.tick())),
        actor: by.actor.map(str::to_owned),
        reason: Some(format!("drill: {}", by.reason.unwrap_or("of a rollout"))),
        authenticated: by.authenticated.cloned(),
    });
    command(worker, &entry).await?;
    Ok(answer)
}

/// Under each policy of the tenant that uses the provider, a refused request must reach a provider whose circuit is
/// closed now. The controllers check whether there is a fallback at all; how breakers stand is not in their stream.
fn check_fallbacks(worker: &Worker, tenant: &TenantId, provider: &ProviderId) -> Result<(), ControlError> {
    let is_closed = |other: &ProviderId| {
        let breaker = worker.state.breaker(tenant.as_str(), other.as_str());
        breaker.is_some_and(|cell| cell.lock().breaker.state() == State::Closed)
    };
    let fold = worker.ledger.fold();
    let mut policies = fold.register().of_tenant(tenant).map(|(_, live)| &live.policy);
    let uses = |policy: &crate::policy::Policy| policy.candidates().iter().any(|c| c.provider == *provider);
    let without = policies.find(|policy| uses(policy) && !policy.after_refusal(provider).any(is_closed));
    match without {
        None => Ok(()),
        Some(policy) => {
            let message = format!(
                "under policy {} a request that the circuit of {provider} refuses has no other provider whose circuit is \
                 closed now",
                policy.id()
            );
            let details = Some(json!({ "refusal": "no_fallback", "policy_id": policy.id() }));
            Err(ControlError { details, ..ControlError::new(ErrorCode::InvalidRequest, message) })
        }
    }
}
