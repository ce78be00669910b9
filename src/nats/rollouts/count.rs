use std::sync::Arc;
use std::time::Duration;

use async_nats::datetime::DateTime;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};

use super::carry_out::{note_unrecorded, record};
use crate::log::Entry;
use crate::nats::Worker;
use crate::nats::ledger::read_entry;
use crate::nats::log_reader::Pulled;
use crate::nats::stream_info::StreamInfo;
use crate::rollout::controller::{History, HistoryWanted, Message};
use crate::rollout::history::HistoryCount;

/// Workers begin to count at different times within this span, so that mostly one of them reads the log.
const SPREAD_MS: u64 = 400;
/// Entries asked for at a time.
const BATCH: u64 = 5_000;
/// How long the broker may take over them.
const PATIENCE: Duration = Duration::from_secs(5);
/// A consumer whose reader died is gone after this.
const INACTIVE: Duration = Duration::from_secs(30);

/// Counts a history from the log, and records it unless another worker was faster.
pub(super) async fn count(worker: Arc<Worker>, wanted: HistoryWanted, name: String) {
    let turn = xxhash_rust::xxh3::xxh3_64(worker.settings.worker_name.as_bytes()) % SPREAD_MS;
    tokio::time::sleep(Duration::from_millis(turn)).await;
    let is_wanted = || {
        worker.rollouts.read(|controllers| controllers.history_wanted(&wanted.rollout)).as_ref()
            == Some(&wanted)
    };
    if !is_wanted() {
        return;
    }
    let settle_ms = worker.rollouts.read(|c| c.plan(&wanted.rollout).map(|plan| plan.analysis().settle_ms));
    let history = match history_of(&worker, &wanted, settle_ms.unwrap_or_default()).await {
        Ok(history) => history,
        Err(error) => {
            tracing::warn!(event = "rollout_history_not_counted", rollout = wanted.rollout.as_str(), error = %error);
            return;
        }
    };
    if is_wanted()
        && let Err(error) = record(&worker, &wanted.rollout, Message::History(history), &name).await
    {
        note_unrecorded(&worker, &error.to_string());
    }
}

/// Counts a history from the log.
///
/// # Errors
/// Those of the broker.
pub async fn history_of(
    worker: &Worker,
    wanted: &HistoryWanted,
    settle_ms: u64,
) -> Result<History, async_nats::Error> {
    let names = &worker.settings.names;
    let info = StreamInfo::ask(&worker.jetstream, &names.log_stream, &()).await;
    let info = info.map_err(|_| "the log does not answer")?;
    let start_time = DateTime::from_unix_timestamp_nanos(i128::from(wanted.from.0) * 1_000_000)?;
    let config = pull::Config {
        deliver_policy: DeliverPolicy::ByStartTime { start_time },
        ack_policy: AckPolicy::None,
        inactive_threshold: INACTIVE,
        memory_storage: true,
        num_replicas: 1,
        ..Default::default()
    };
    let stream = worker.jetstream.get_stream_no_info(&names.log_stream).await?;
    let consumer = worker.link.answers(PATIENCE, stream.create_consumer(config)).await??;
    let consumer = consumer.cached_info();
    let mut count = HistoryCount::new(settle_ms);
    let mut from = None;
    let mut pending = consumer.num_pending;
    let version = worker.ledger.fold_version();
    while pending > 0 {
        let batch = pending.min(BATCH);
        let log = Pulled { client: &worker.traffic, stream: &names.log_stream, consumer: &consumer.name };
        let came = log.take_batch(batch, PATIENCE, |message, at| {
            // The log may not go back as far as the history does.
            let is_first = at.position == info.state.first_seq;
            from.get_or_insert(if is_first { at.stamp } else { wanted.from });
            if at.stamp > wanted.to {
                return false;
            }
            if let Ok(Entry::Result(outcome)) = read_entry(worker, version, message) {
                count.result(&outcome.tenant_id, outcome.request_id.as_deref(), outcome.status, at.stamp);
            }
            true
        });
        pending = if came.await? { pending.saturating_sub(batch) } else { 0 };
    }
    let _ = stream.delete_consumer(&consumer.name).await;
    let facts = worker.ledger.fold().tenant_facts(&wanted.rollout);
    Ok(count.finish(wanted, from.unwrap_or(wanted.from), facts))
}
