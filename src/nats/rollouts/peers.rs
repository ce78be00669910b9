use std::time::Duration;

use beamline_nats::encode::Outgoing;
use serde::Deserialize;

use super::carry_out::record;
use crate::nats::Worker;
use crate::rollout::controller::{Command, Message, Suspension, Verb};
use crate::telemetry::names::SERVICE;

/// How long the first worker may take to answer; this one is among them.
const FIRST: Duration = Duration::from_secs(2);
/// Once nobody has answered for this long, all have.
const QUIET: Duration = Duration::from_millis(250);

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    worker: String,
    rollouts: Option<String>,
}

#[derive(Deserialize)]
struct Endpoint {
    subject: String,
}

/// No worker answers discovery, not even this one.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no worker answers discovery; try again")]
pub struct NoAnswer;

/// The workers of this deployment that answer discovery and do not support rollouts.
///
/// # Errors
/// [`NoAnswer`].
pub async fn workers_without(worker: &Worker) -> Result<Vec<String>, NoAnswer> {
    let inbox = worker.traffic.new_inbox();
    let mut answers = worker.traffic.subscribe(&inbox, None).map_err(|_| NoAnswer)?;
    let subject = format!("$SRV.INFO.{SERVICE}");
    let question = Outgoing { reply: inbox.as_bytes(), ..Outgoing::new(&subject, b"") };
    worker.traffic.publish(&question).map_err(|_| NoAnswer)?;
    let (mut without, mut patience) = (Vec::new(), FIRST);
    while let Ok(Some(answer)) = tokio::time::timeout(patience, answers.next()).await {
        let answer = answer.as_ref();
        // One that cannot be read is no worker's.
        let Ok(read) = answer.read() else { continue };
        let Ok(info) = serde_json::from_slice::<Info>(read.payload) else { continue };
        // Deployments that share a broker share the service's name.
        if !info.endpoints.iter().any(|endpoint| endpoint.subject == worker.settings.names.decide) {
            continue;
        }
        patience = QUIET;
        if info.metadata.rollouts.is_none() {
            without.push(info.metadata.worker);
        }
    }
    if patience == FIRST {
        return Err(NoAnswer);
    }
    without.sort();
    Ok(without)
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
            reason: format!("these workers do not support rollouts: {}", without.join(", ")),
            verb: Verb::Suspend { why: Suspension::MixedVersions },
        };
        let name = format!("{rollout}.{id}");
        if let Err(error) = record(worker, &rollout, Message::Command(command), &name).await {
            tracing::warn!(event = "rollout_not_recorded", error = %error);
        }
    }
}
