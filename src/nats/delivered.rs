//! A consumer that delivers messages of a stream in order, over the connection that survives what others write.
//!
//! It acknowledges nothing and is nobody else's: it goes by itself when its reader is gone. Copies, gaps and silence are
//! for the reader to see, because the library's ordered consumer begins again at 1 in some reconnects and skips the first
//! entries of a stream made anew.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, Info, push};
use beamline_nats::Subscriber;

use super::Worker;

/// The broker reports so often that the consumer is alive, which flow control needs.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A consumer from which nothing came for so long is made anew: three reports are missing.
pub(super) const SILENCE: Duration = Duration::from_secs(3);
/// An answer to the making of a consumer that takes longer is none: its cluster elects a leader, and the
/// next try may find it.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// What is delivered.
pub(super) struct Wanted {
    pub(super) from: DeliverPolicy,
    /// The subjects, which may have wildcards; all where it is empty.
    pub(super) subjects: String,
    /// How long the consumer outlives its reader.
    pub(super) outlives: Duration,
    /// What `nats consumer info` shows of it.
    pub(super) description: String,
}

/// Makes a consumer of a stream. Gives what receives its deliveries, and what it is.
///
/// # Errors
/// Why there is none.
pub(super) async fn deliver(
    worker: &Worker,
    stream: &str,
    wanted: Wanted,
) -> Result<(Subscriber, Info), String> {
    let Wanted { from, subjects, outlives, description } = wanted;
    let inbox = worker.traffic.new_inbox();
    let deliveries = worker.traffic.subscribe(&inbox, None).map_err(|e| e.to_string())?;
    // The consumer is made over another connection, and delivers at once.
    if tokio::time::timeout(PATIENCE, worker.traffic.subscribed()).await.is_err() {
        return Err("the broker does not hold the subscription".to_owned());
    }
    let config = push::Config {
        deliver_subject: inbox,
        deliver_policy: from,
        filter_subject: subjects,
        ack_policy: AckPolicy::None,
        max_deliver: 1,
        flow_control: true,
        idle_heartbeat: HEARTBEAT,
        memory_storage: true,
        num_replicas: 1,
        inactive_threshold: outlives,
        description: Some(description),
        ..Default::default()
    };
    match tokio::time::timeout(PATIENCE, worker.jetstream.create_consumer_on_stream(config, stream)).await {
        Ok(Ok(consumer)) => Ok((deliveries, consumer.cached_info().clone())),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}
