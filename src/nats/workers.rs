//! Which workers answer service discovery, and what they say of themselves.

use std::time::Duration;

use beamline_nats::encode::Outgoing;
use beamline_nats::{Client, PublishError};
use serde::Deserialize;

use crate::config::Names;
use crate::log::FoldVersion;
use crate::telemetry::names::SERVICE;

/// How long the first worker may take to answer.
const FIRST: Duration = Duration::from_secs(2);
/// Once nobody has answered for this long, all have.
const QUIET: Duration = Duration::from_millis(250);

/// A worker, as it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerInfo {
    /// Its id in discovery: of this process alone.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The version of the program.
    pub version: String,
    /// The version of the judge of rollouts that it has; `None` if it does not support rollouts.
    pub rollouts: Option<String>,
    /// The newest version of the fold that it agrees to.
    pub fold: FoldVersion,
    /// Whether it takes requests, by a state that is the log's.
    pub decides: bool,
}

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    id: String,
    #[serde(default)]
    version: String,
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
    fold: Option<String>,
    decides: Option<String>,
}

#[derive(Deserialize)]
struct Endpoint {
    subject: String,
}

/// The workers of a deployment that answer discovery, by name.
///
/// # Errors
/// The question was not sent.
pub async fn answering(client: &Client, names: &Names) -> Result<Vec<WorkerInfo>, PublishError> {
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(&inbox, None)?;
    let subject = format!("$SRV.INFO.{SERVICE}");
    client.publish(&Outgoing { reply: inbox.as_bytes(), ..Outgoing::new(&subject, b"") })?;
    let (mut workers, mut patience) = (Vec::new(), FIRST);
    while let Ok(Some(answer)) = tokio::time::timeout(patience, answers.next()).await {
        let answer = answer.as_ref();
        // One that cannot be read is no worker's.
        let Ok(read) = answer.read() else { continue };
        let Ok(info) = serde_json::from_slice::<Info>(read.payload) else { continue };
        // Deployments that share a broker share the service's name.
        if info.endpoints.iter().any(|endpoint| endpoint.subject == names.decide) {
            patience = QUIET;
            let Metadata { worker, rollouts, fold, decides } = info.metadata;
            // One that does not say has none but the first.
            let fold = fold.and_then(|text| text.parse().ok()).map_or(FoldVersion::FIRST, FoldVersion);
            // One that does not report it is of an older version.
            let decides = decides.is_none_or(|text| text != "false");
            let (id, version) = (info.id, info.version);
            workers.push(WorkerInfo { id, name: worker, version, rollouts, fold, decides });
        }
    }
    workers.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(workers)
}
