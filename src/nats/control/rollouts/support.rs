use std::time::Duration;

use beamline_nats::encode::Outgoing;
use serde::Deserialize;

use crate::domain::ErrorCode;
use crate::nats::Worker;
use crate::nats::control::reply::ControlError;
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

/// The workers of this deployment that answer discovery and do not support rollouts.
pub(super) async fn workers_without(worker: &Worker) -> Result<Vec<String>, ControlError> {
    let unavailable = || ControlError::new(ErrorCode::Unavailable, "no worker answers discovery; try again");
    let inbox = worker.traffic.new_inbox();
    let mut answers = worker.traffic.subscribe(&inbox, None).map_err(|_| unavailable())?;
    let subject = format!("$SRV.INFO.{SERVICE}");
    let question = Outgoing { reply: inbox.as_bytes(), ..Outgoing::new(&subject, b"") };
    worker.traffic.publish(&question).map_err(|_| unavailable())?;
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
        return Err(unavailable());
    }
    without.sort();
    Ok(without)
}
