use crate::domain::ErrorCode;
use crate::nats::Worker;
use crate::nats::control::reply::ControlError;
use crate::nats::workers::answering;

/// The workers of this deployment that answer discovery and do not support rollouts. This one is among those that
/// answer.
pub(super) async fn workers_without(worker: &Worker) -> Result<Vec<String>, ControlError> {
    let workers = answering(&worker.traffic, &worker.settings.names).await.unwrap_or_default();
    if workers.is_empty() {
        return Err(ControlError::new(ErrorCode::Unavailable, "no worker answers discovery; try again"));
    }
    Ok(workers.into_iter().filter(|w| w.rollouts.is_none()).map(|w| w.name).collect())
}
