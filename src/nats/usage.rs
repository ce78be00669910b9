//! Metering: one usage event for each result, once, however many workers run.
//!
//! All workers share one durable consumer on the log's result subjects. A worker meters a result when
//! its own fold has come to it, so that copies and rejected results are left out by the same rule as
//! everywhere, publishes the event under the result's identity, and acknowledges the result when the
//! broker has the event. A worker that dies in between has its results delivered to another one, and
//! the usage stream drops the second copy by its id.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, AckKind};
use bytes::BytesMut;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::headers::{Seen, put_trace};
use crate::domain::{Outcome, Stamp, Tick};
use crate::ledger::Metering;
use crate::telemetry::Incoming;
use crate::telemetry::labels::{Publish, Usage as Counted};
use crate::wire::{self, CONTENT_TYPE, Content, subjects};

/// The consumer that all workers share.
const CONSUMER: &str = "usage";
/// How many results are metered at once.
const AT_ONCE: usize = 256;
/// A result that is not acknowledged by then is delivered to another worker. Far below the usage
/// stream's duplicate window, so that the second event is dropped.
const ACK_WAIT: Duration = Duration::from_secs(20);
/// How long the fold may take to come to a result that the consumer has delivered.
const FOLD_PATIENCE: Duration = Duration::from_secs(10);
/// Between tries.
const RETRY: Duration = Duration::from_secs(1);
/// Between lines that tell of failures.
const SAY_EVERY_MS: u64 = 10_000;

/// Meters until stopped.
pub async fn run(worker: Arc<Worker>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            metered = meter(&worker, &stop) => match metered {
                Ok(()) => return,
                Err(error) if worker.link.is_up() => tracing::warn!(event = "usage_interrupted", error = %error),
                Err(_) => {}
            },
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn meter(worker: &Arc<Worker>, stop: &CancellationToken) -> Result<(), async_nats::Error> {
    let names = &worker.settings.names;
    // The fold must have read this very stream, and to where it stood, or it would judge by what
    // another one held at the same positions.
    let mut progress = worker.ledger.progress();
    progress.wait_for(|p| p.caught_up).await?;
    let stream = worker.jetstream.get_stream(&names.log_stream).await?;
    let made = stream.cached_info().created.unix_timestamp_nanos();
    let reads = progress.wait_for(|p| p.caught_up && p.made == made);
    tokio::time::timeout(FOLD_PATIENCE, reads).await??;
    let config = pull::Config {
        durable_name: Some(CONSUMER.to_owned()),
        description: Some("meters usage; shared by all workers".to_owned()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        max_ack_pending: 8 * i64::try_from(AT_ONCE).unwrap_or(256),
        filter_subjects: vec![names.exec_result.clone(), names.exec_result_tenants.clone()],
        ..Default::default()
    };
    let consumer: PullConsumer = stream.get_or_create_consumer(CONSUMER, config).await?;
    let failures = Failures::default();
    let messages = consumer
        .stream()
        .max_messages_per_batch(AT_ONCE)
        .heartbeat(Duration::from_secs(5))
        .messages()
        .await?;
    messages
        .take_until(stop.cancelled())
        .map_err(async_nats::Error::from)
        .try_for_each_concurrent(AT_ONCE, |message| {
            let worker = Arc::clone(worker);
            let failures = &failures;
            async move {
                one(&worker, failures, message).await;
                Ok(())
            }
        })
        .await
}

/// Events that could not be published, of which one line is logged at most each ten seconds.
#[derive(Default)]
struct Failures {
    said_at: AtomicU64,
    unsaid: AtomicU64,
}

impl Failures {
    /// Counts one more. Tells how many a line should stand for, if one is due.
    fn due(&self, now: Tick) -> Option<u64> {
        let unsaid = self.unsaid.fetch_add(1, Ordering::Relaxed) + 1;
        let last = self.said_at.load(Ordering::Relaxed);
        if now.0 < last.saturating_add(SAY_EVERY_MS)
            || self.said_at.compare_exchange(last, now.0, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return None;
        }
        self.unsaid.fetch_sub(unsaid, Ordering::Relaxed);
        Some(unsaid)
    }
}

/// Meters one result. What fails is left unacknowledged and comes again.
async fn one(worker: &Worker, failures: &Failures, message: jetstream::Message) {
    let Ok(info) = message.info() else { return };
    let position = info.stream_sequence;
    let stamp = Stamp(u64::try_from(info.published.unix_timestamp_nanos() / 1_000_000).unwrap_or(0));
    if worker.verdicts.metering(position) == Metering::Wait
        && !worker.ledger.wait_applied(position, FOLD_PATIENCE).await
    {
        worker.metrics.usage_events.inc(Counted::Failed);
        let _ = message.ack_with(AckKind::Nak(Some(RETRY))).await;
        return;
    }
    let names = &worker.settings.names;
    let tenant = subjects::token_at_star(&names.exec_result_tenants, message.subject.as_str());
    let headers = Seen(message.headers.as_ref());
    let outcome = Content::of(&headers, &message.payload)
        .ok()
        .and_then(|content| wire::decode_result(content, &message.payload, tenant).ok());
    let wanted = match worker.verdicts.metering(position) {
        Metering::Meter => true,
        // What this fold does not remember it judges by what it can: the id keeps copies out.
        Metering::Forgotten | Metering::Wait => {
            outcome.as_ref().is_some_and(|o| worker.state.breaker(&o.tenant_id, &o.provider_id).is_some())
        }
        Metering::Skip => false,
    };
    let Some(outcome) = outcome.filter(|_| wanted) else {
        worker.metrics.usage_events.inc(Counted::Skipped);
        let _ = message.ack().await;
        return;
    };
    let trace = Incoming::read(headers.value("traceparent"), headers.value("tracestate"));
    match publish(worker, &outcome, stamp, &trace).await {
        Ok(()) => {
            worker.metrics.usage_events.inc(Counted::Published);
            let _ = message.ack().await;
        }
        Err(error) => {
            worker.metrics.usage_events.inc(Counted::Failed);
            worker.metrics.nats_publish_failures.inc(Publish::Usage);
            if let Some(count) = failures.due(worker.clock.tick()) {
                tracing::warn!(event = "usage_not_published", position, count, error = %error);
            }
            let _ = message.ack_with(AckKind::Nak(Some(RETRY))).await;
        }
    }
}

async fn publish(
    worker: &Worker,
    outcome: &Outcome<'_>,
    stamp: Stamp,
    trace: &Incoming<'_>,
) -> Result<(), async_nats::Error> {
    let mut body = BytesMut::with_capacity(256);
    wire::encode_usage(outcome, stamp, &mut body);
    let mut headers = async_nats::HeaderMap::new();
    headers.insert(CONTENT_TYPE, Content::Json.mime());
    put_trace(&mut headers, &trace.pass_on());
    let message = PublishMessage::build()
        .payload(body.freeze())
        .headers(headers)
        .message_id(format!("{:016x}", outcome.identity));
    worker.publish(&worker.settings.names.usage_metered, message).await?;
    Ok(())
}
