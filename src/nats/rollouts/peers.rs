use super::carry_out::{note_unrecorded, record};
use crate::nats::Worker;
use crate::nats::workers::answering;
use crate::rollout::controller::{Command, Message, Suspension, Verb};

/// No worker answers discovery, not even this one.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no worker answers discovery; try again")]
pub struct NoAnswer;

/// The workers of this deployment that answer discovery and do not support rollouts.
///
/// # Errors
/// [`NoAnswer`].
pub async fn workers_without(worker: &Worker) -> Result<Vec<String>, NoAnswer> {
    let workers = answering(&worker.traffic, &worker.settings.names).await.map_err(|_| NoAnswer)?;
    if workers.is_empty() {
        return Err(NoAnswer);
    }
    Ok(workers.into_iter().filter(|w| w.rollouts.is_none()).map(|w| w.name).collect())
}

/// Takes the shares of all rollouts to 0 if a worker has come that does not support them.
pub(super) async fn suspend_if_mixed(worker: &Worker) {
    let enforcing: Vec<_> = worker
        .rollouts
        .read(|controllers| controllers.enforcing().map(|(id, seq)| (id.clone(), seq)).collect());
    if enforcing.is_empty() {
        return;
    }
    let Ok(without) = workers_without(worker).await else { return };
    if without.is_empty() {
        return;
    }
    for (rollout, expected_seq) in enforcing {
        // Every worker finds it; the command of the first one counts.
        let id = format!("mixed-versions-{expected_seq}");
        let command = Command {
            rollout: rollout.clone(),
            id: id.clone(),
            expected_seq,
            actor: worker.settings.worker_name.clone(),
            authenticated: None,
            reason: format!("these workers do not support rollouts: {}", without.join(", ")),
            verb: Verb::Suspend { why: Suspension::MixedVersions },
        };
        let name = format!("{rollout}.{id}");
        if let Err(error) = record(worker, &rollout, Message::Command(command), &name).await {
            note_unrecorded(worker, &error.to_string());
        }
    }
}
