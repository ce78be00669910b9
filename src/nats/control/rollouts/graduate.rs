use std::sync::Arc;

use serde_json::{Value, json};

use super::change;
use crate::domain::{PolicyId, RolloutId, TenantId};
use crate::ledger::LaidOver;
use crate::nats::Worker;
use crate::nats::control::body::Body;
use crate::nats::control::policies;
use crate::nats::control::reply::ControlError;
use crate::rollout::controller::Verb;

/// Policies that one request writes; the next goes on.
const AT_ONCE: usize = 100;

/// Writes what the rollout lays over policies into their documents, one after the other. Each revision ends the overlay
/// for its policy, so a request that is cut short is repeated until nothing is left.
pub(in crate::nats::control) async fn graduate(
    worker: &Arc<Worker>,
    body: Body,
) -> Result<Value, ControlError> {
    body.only(&["rollout", "expected_seq"])?;
    let rollout = body.rollout()?;
    let mut answer = change(worker, &body, Verb::Graduate).await?;
    let (mut written, mut failed) = (0_usize, Vec::new());
    for (tenant_id, policy_id, over) in under(worker, &rollout).into_iter().take(AT_ONCE) {
        match policies::graduate(worker, &tenant_id, &policy_id, &over, body.by()).await {
            Ok(()) => written += 1,
            Err(error) => {
                error.note(worker);
                failed.push(json!({
                    "tenant_id": tenant_id, "policy_id": policy_id,
                    "code": error.code.as_str(), "message": error.message,
                }));
            }
        }
    }
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("written".to_owned(), written.into());
        fields.insert("left".to_owned(), under(worker, &rollout).len().into());
        fields.insert("failed".to_owned(), failed.into());
    }
    Ok(answer)
}

/// The policies under a rollout.
fn under(worker: &Worker, rollout: &RolloutId) -> Vec<(TenantId, PolicyId, LaidOver)> {
    let fold = worker.ledger.fold();
    let laid = fold.register().iter().filter_map(|((tenant_id, policy_id), record)| {
        let laid = record.live.as_ref()?.laid.as_ref()?;
        let is_ours = laid.over.step.rollout == *rollout;
        is_ours.then(|| (tenant_id.clone(), policy_id.clone(), laid.over.clone()))
    });
    laid.collect()
}
