use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::message::PublishMessage;
use tokio::task::JoinSet;

use super::count;
use crate::domain::RolloutId;
use crate::log::Entry;
use crate::nats::Worker;
use crate::nats::ledger::ClosedBlocks;
use crate::rollout::controller::Message;
use crate::rollout::stream::{Agenda, Due, Task, tasks};
use crate::telemetry::labels::Publish;
use crate::wire;

/// How long the broker may take to store one message.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a message may not be in the stream of rollouts.
#[derive(Debug, thiserror::Error)]
pub enum NotRecorded {
    /// It cannot be written.
    #[error("it cannot be written: {0}")]
    Encoding(#[from] serde_json::Error),
    /// The broker refused it.
    #[error("the stream of rollouts did not take it: {0}")]
    Broker(String),
}

/// Does what there is to do.
pub(super) async fn due(
    worker: &Arc<Worker>,
    agenda: &mut Agenda,
    closed: &ClosedBlocks,
    counting: &mut JoinSet<()>,
) {
    let logged = worker.ledger.fold().overlays().logged();
    let now = worker.clock.tick();
    let (made, todo) =
        worker.rollouts.read(|controllers| (controllers.made(), tasks(controllers, &logged, &closed.blocks)));
    for Due { task, name, key } in agenda.due(now, made, todo) {
        let done = match task {
            Task::Record(decision) => {
                record(worker, &decision.rollout.clone(), Message::Decision(decision), &name).await.map(drop)
            }
            Task::Publish(block) => {
                let rollout = block.rollout.clone();
                record(worker, &rollout, Message::Block(Arc::unwrap_or_clone(block).into()), &name)
                    .await
                    .map(drop)
            }
            Task::Append(step) => {
                let appended = worker.append(&Entry::Step(*step), Some(&name)).await;
                appended.map(drop).map_err(|error| NotRecorded::Broker(error.to_string()))
            }
            Task::Count(wanted) => {
                // One that takes longer than a try goes on.
                if counting.is_empty() {
                    counting.spawn(count::count(Arc::clone(worker), wanted, name));
                }
                continue;
            }
        };
        match done {
            Ok(()) => agenda.stored(&key),
            Err(error) => note_unrecorded(worker, &error.to_string()),
        }
    }
}

/// Puts a message into the stream of rollouts. Gives its place, or that of the copy that stands there. `name` is the
/// one under which copies are dropped.
///
/// # Errors
/// [`NotRecorded`]. After [`NotRecorded::Broker`] it may stand there all the same.
pub async fn record(
    worker: &Worker,
    rollout: &RolloutId,
    message: Message,
    name: &str,
) -> Result<u64, NotRecorded> {
    let subject =
        format!("{}{}", worker.settings.names.rollout_prefix, wire::rollout_subject(rollout, &message));
    let mut place = 0;
    for (part, body) in wire::encode_rollout(rollout, &message)?.into_iter().enumerate() {
        let message = PublishMessage::build().payload(body.into()).message_id(format!("{name}.{part}"));
        let stored = match tokio::time::timeout(PATIENCE, worker.publish(&subject, message)).await {
            Ok(Ok(stored)) => Ok(stored),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no acknowledgement in time".to_owned()),
        };
        place = stored
            .map_err(|error| {
                worker.metrics.nats_publish_failures.inc(Publish::Rollout);
                NotRecorded::Broker(error)
            })?
            .sequence;
    }
    Ok(place)
}

/// Logs that a message may not be in the stream.
pub fn note_unrecorded(worker: &Worker, error: &str) {
    if let Some(stands_for) = worker.line_due("rollout_not_recorded", error) {
        tracing::warn!(event = "rollout_not_recorded", error, stands_for);
    }
}
