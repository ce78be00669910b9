//! What happened to breakers, read off the events stream when somebody asks.
//!
//! The stream outlives workers, so a history is the same before and after a restart. It is read by a
//! consumer that exists for one question. A stream is only read forwards and the newest are wanted, so
//! the question is tried with longer and longer spans of time: the broker tells how many events lie in
//! one before any is fetched, and a span that holds more than `MOST` is not read.

use std::time::Duration;

use async_nats::datetime::DateTime;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::Stream;
use beamline_nats::jetstream::Delivery;
use serde_json::Value;

use super::Worker;
use super::log_reader::Pulled;
use crate::domain::Stamp;
use crate::wire::subjects::escape_token;

/// The most events read for one question: some four megabytes.
const MOST: u64 = 10_000;
/// The spans that are tried, in milliseconds; then all that the stream holds.
const SPANS: [u64; 4] = [60_000, 900_000, 3_600_000, 86_400_000];
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long the broker may take to say how many events there are.
const FIRST_ANSWER: Duration = Duration::from_secs(2);
/// A consumer whose reader died is gone after this.
const INACTIVE: Duration = Duration::from_secs(10);

/// Whose transitions, and which.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Of this tenant only.
    pub tenant_id: Option<&'a str>,
    /// Of this provider only.
    pub provider_id: Option<&'a str>,
    /// Not before this.
    pub since: Stamp,
    /// The newest, at most so many.
    pub limit: usize,
}

/// One event as the stream holds it.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// What no other event has.
    pub id: String,
    /// What subscribers read.
    pub body: Value,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Oldest first.
    pub events: Vec<Recorded>,
    /// Whether these are all that happened since then, as far as the stream still knows.
    pub complete: bool,
}

/// The events stream could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the events stream could not be read: {0}")]
pub struct HistoryError(String);

/// The newest transitions since some time.
///
/// # Errors
/// [`HistoryError`] if the broker does not answer in time.
pub async fn transitions(worker: &Worker, asked: Asked<'_>) -> Result<History, HistoryError> {
    match worker.link.answers(PATIENCE, read(worker, asked)).await {
        Ok(done) => done.map_err(|error| HistoryError(error.to_string())),
        Err(away) => Err(HistoryError(away.to_string())),
    }
}

async fn read(worker: &Worker, asked: Asked<'_>) -> Result<History, async_nats::Error> {
    let names = &worker.settings.names;
    let token = |id: Option<&str>| id.map_or_else(|| "*".to_owned(), |id| escape_token(id).into_owned());
    let (tenant, provider) = (token(asked.tenant_id), token(asked.provider_id));
    let filter = format!("{}breaker.{tenant}.{provider}", names.events_prefix);
    let stream = worker.jetstream.get_stream_no_info(&names.events_stream).await?;
    let now = worker.clock.stamp();
    let wanted = u64::try_from(asked.limit).unwrap_or(MOST);
    let mut best = History::default();
    for span in SPANS.into_iter().map(Some).chain([None]) {
        let from = span.map_or(asked.since, |ms| asked.since.max(now.minus(ms)));
        let consumer = worker.link.answers(FIRST_ANSWER, consumer(&stream, &filter, from)).await??;
        let pending = consumer.cached_info().num_pending;
        let last = from == asked.since;
        if pending <= MOST {
            let name = &consumer.cached_info().name;
            let (events, all) = fetch(worker, name, pending, wanted).await?;
            best = History { events, complete: last && all && pending <= wanted };
        }
        let _ = stream.delete_consumer(&consumer.cached_info().name).await;
        if last || pending >= wanted {
            break;
        }
    }
    Ok(best)
}

async fn consumer(stream: &Stream<()>, filter: &str, from: Stamp) -> Result<PullConsumer, async_nats::Error> {
    // The stream's own stamp is a little later than the event's, which is its log entry's.
    let nanos = i128::from(from.0).saturating_mul(1_000_000);
    let deliver_policy = match DateTime::from_unix_timestamp_nanos(nanos) {
        Ok(start_time) if from > Stamp(0) => DeliverPolicy::ByStartTime { start_time },
        _ => DeliverPolicy::All,
    };
    let config = pull::Config {
        deliver_policy,
        ack_policy: AckPolicy::None,
        filter_subject: filter.to_owned(),
        inactive_threshold: INACTIVE,
        memory_storage: true,
        num_replicas: 1,
        ..Default::default()
    };
    Ok(stream.create_consumer(config).await?)
}

/// Reads what is pending and keeps the last ones. Tells too whether all of it came.
async fn fetch(
    worker: &Worker,
    consumer: &str,
    pending: u64,
    wanted: u64,
) -> Result<(Vec<Recorded>, bool), async_nats::Error> {
    let mut events = Vec::new();
    if pending == 0 {
        return Ok((events, true));
    }
    let stream = &worker.settings.names.events_stream;
    let mut deliveries = Pulled { client: &worker.traffic, stream, consumer }.ask_for(pending, PATIENCE)?;
    let skip = pending.saturating_sub(wanted);
    let mut met = 0;
    while met < pending
        && let Some(message) = deliveries.next().await
    {
        let message = message.as_ref();
        match Delivery::of(&message) {
            Delivery::Message(_) => met += 1,
            // The request has ended before all of it came.
            Delivery::Status { .. } => break,
            _ => continue,
        }
        // One that cannot be read is no event of ours.
        if met > skip
            && let Ok(event) = message.read()
            && let Ok(body) = serde_json::from_slice(event.payload)
        {
            let id = event.headers.get("Nats-Msg-Id").unwrap_or_default().to_owned();
            events.push(Recorded { id, body });
        }
    }
    Ok((events, met == pending))
}
