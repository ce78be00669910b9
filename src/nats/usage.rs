//! Metering: one usage event for each result, once, however many workers run.
//!
//! All workers share one durable consumer on the log's result subjects. A worker meters a result when
//! its own fold has come to it, so that copies and rejected results are left out by the same rule as
//! everywhere, publishes the event under the result's identity, and acknowledges the result when the
//! broker has the event. A worker that dies in between has its results delivered to another one, and
//! the usage stream drops the second copy by its id.
//!
//! The stream knows ids for minutes only, so a consumer that was deleted must not begin at the log's
//! first result again. Each worker remembers how far the consumer had come without a gap, and one that
//! makes it anew begins behind that; what it meters twice is then seconds old. A worker that was not
//! there goes by the last events themselves, which tell their result's place in the log.

mod far;
mod pulling;

pub(super) use far::{Metered, metered};

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::Stream;
use beamline_nats::encode::Outgoing;
use bytes::BytesMut;
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use self::far::{Far, PLACE, Place, last_metered};
use self::pulling::{Delivered, Pulling};
use super::Worker;
use super::headers::{incoming, trace};
use super::streams::Results;
use crate::domain::{Outcome, Stamp, Tick};
use crate::ledger::Metering;
use crate::log::FoldVersion;
use crate::nats::ledger::Progress;
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
/// How often it is asked how far the consumer has come.
const LOOK: Duration = Duration::from_secs(5);
/// Between tries.
const RETRY: Duration = Duration::from_secs(1);
/// Between lines that tell of failures.
const SAY_EVERY_MS: u64 = 10_000;

/// Meters until stopped.
pub async fn run(worker: Arc<Worker>, stop: CancellationToken) {
    let far = Far::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            metered = meter(&worker, &far, &stop) => match metered {
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

/// The consumer, made if it is not there.
async fn consumer(
    worker: &Worker,
    stream: &Stream,
    made: i128,
    far: &Far,
) -> Result<PullConsumer, async_nats::Error> {
    match stream.consumer_info(CONSUMER).await {
        Ok(_) => return stream.get_consumer(CONSUMER).await,
        Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let names = &worker.settings.names;
    let come = match far.of(made) {
        Some(position) => position,
        None => last_metered(worker, made).await?,
    };
    // A log that was put back to an older state ends before what was metered of the one that was lost.
    let come = come.min(stream.get_info().await?.state.last_sequence);
    let config = pull::Config {
        durable_name: Some(CONSUMER.to_owned()),
        description: Some("meters usage; shared by all workers".to_owned()),
        deliver_policy: match come {
            0 => DeliverPolicy::All,
            _ => DeliverPolicy::ByStartSequence { start_sequence: come + 1 },
        },
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        max_ack_pending: 8 * i64::try_from(AT_ONCE).unwrap_or(256),
        filter_subjects: vec![names.exec_result.clone(), names.exec_result_tenants.clone()],
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await?;
    if come > 0 {
        tracing::warn!(event = "usage_consumer_remade", from = come + 1);
        worker.metrics.nats_remade.inc();
    }
    Ok(consumer)
}

/// Asks again and again how far the consumer has come, until it is gone.
async fn follow(worker: &Worker, consumer: &PullConsumer, made: i128, far: &Far) {
    loop {
        tokio::time::sleep(LOOK).await;
        match consumer.get_info().await {
            Ok(info) => {
                far.note(Place { made, position: info.ack_floor.stream_sequence }, worker);
            }
            Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => return,
            // Nobody leads it just now.
            Err(_) => {}
        }
    }
}

async fn meter(worker: &Arc<Worker>, far: &Far, stop: &CancellationToken) -> Result<(), async_nats::Error> {
    let names = &worker.settings.names;
    // The fold must have read this very stream, and to where it stood, or it would judge by what
    // another one held at the same positions.
    let mut progress = worker.ledger.progress();
    progress.wait_for(|p| p.caught_up).await?;
    let stream = worker.jetstream.get_stream(&names.log_stream).await?;
    let made = stream.cached_info().created.unix_timestamp_nanos();
    let reads = progress.wait_for(|p| p.caught_up && p.made == made);
    tokio::time::timeout(FOLD_PATIENCE, reads).await??;
    // Before, its filter names subjects that the stream does not have.
    let mut results = worker.ledger.results.watch();
    results.wait_for(|results| *results == Results::Enter).await?;
    if progress.borrow().made != made {
        return Err("the log was made anew".into());
    }
    let consumer = consumer(worker, &stream, made, far).await?;
    let position = consumer.cached_info().ack_floor.stream_sequence;
    far.note(Place { made, position }, worker);
    let failures = Failures::default();
    let messages = Pulling::begin(worker, &names.log_stream, CONSUMER, AT_ONCE as u64)?.into_stream();
    let ended = Mutex::new(None);
    let over = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = follow(worker, &consumer, made, far) => note(&ended, "the consumer is gone".into()),
        }
    };
    // What was delivered is metered to its end, whatever ends the rest.
    messages
        .take_until(over)
        .scan((), |(), next| std::future::ready(next.map_err(|error| note(&ended, error.into())).ok()))
        .for_each_concurrent(AT_ONCE, |delivered| one(worker, &failures, made, delivered))
        .await;
    ended.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

fn note(ended: &Mutex<Option<async_nats::Error>>, error: async_nats::Error) {
    *ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
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

/// The answer to a delivery that is done with.
const ACK: &str = "+ACK";

/// The answer to one that should come again.
fn later() -> String {
    format!("-NAK {{\"delay\":{}}}", RETRY.as_nanos())
}

/// Whether a result may have been delivered to another worker too, which has metered it long ago: the usage stream would
/// not know its copy.
fn is_given_up(came: Tick, now: Tick) -> bool {
    u128::from(now.since(came)) > ACK_WAIT.as_millis()
}

/// Whether the fold has judged the result at a position of the log that was delivered over a connection. A log can only be
/// put back to an older state while its broker is away, and then has other results at the same positions; so the reader
/// must have seen over that connection, or a later one, that the log is the one that it reads.
fn judges(progress: &Progress, epoch: u64, position: u64) -> bool {
    progress.caught_up && progress.epoch >= epoch && progress.position >= position
}

/// Meters one result. What fails is left unacknowledged and comes again.
async fn one(worker: &Worker, failures: &Failures, made: i128, delivered: Delivered) {
    let came = worker.clock.tick();
    let Delivered { ref message, place, epoch } = delivered;
    let message = message.as_ref();
    let (position, stamp) = (place.stream, Stamp(place.nanos / 1_000_000));
    let answer = |kind: &str| {
        let reply = message.reply().ok().flatten().unwrap_or_default();
        let answer = Outgoing::new(reply, kind.as_bytes());
        // One that is lost has the result delivered again, and the usage stream drops its copy.
        let _ = worker.traffic.publish(&answer);
    };
    let mut progress = worker.ledger.progress();
    let judges = progress.wait_for(|progress| judges(progress, epoch, position));
    let judged = tokio::time::timeout(FOLD_PATIENCE, judges).await.is_ok_and(|judges| judges.is_ok());
    let metering = if judged { worker.verdicts.metering(position) } else { Metering::Wait };
    if !worker.link.lasts_since(epoch) {
        // It may be of another log than the fold's by now. It is delivered again.
        return;
    }
    if metering == Metering::Wait {
        worker.metrics.usage_events.inc(Counted::Failed);
        answer(&later());
        return;
    }
    let names = &worker.settings.names;
    // What cannot be read is no result; the log's reader counts it.
    let readable = message.read().ok().filter(|_| metering != Metering::Skip);
    if metering == Metering::Forgotten {
        worker.metrics.usage_unjudged.inc();
    }
    let outcome = readable.as_ref().and_then(|message| {
        let tenant = subjects::token_at_star(&names.exec_result_tenants, message.subject);
        let content = Content::of(&message.headers, message.payload).ok()?;
        match wire::decode_result(content, message.payload, tenant) {
            // The fold has judged it, by the rules that held then.
            Err(_) if metering == Metering::Meter => {
                wire::decode_result_under(FoldVersion::FIRST, content, message.payload, tenant).ok()
            }
            read => read.ok(),
        }
    });
    let wanted = match metering {
        Metering::Meter => true,
        // The fold began behind it, or the bound of its memory was reached. It is judged by what can be known: the
        // id keeps copies out.
        Metering::Forgotten => {
            outcome.as_ref().is_some_and(|o| worker.state.breaker(&o.tenant_id, &o.provider_id).is_some())
        }
        Metering::Skip | Metering::Wait => false,
    };
    let Some(outcome) = outcome.filter(|_| wanted) else {
        worker.metrics.usage_events.inc(Counted::Skipped);
        answer(ACK);
        return;
    };
    if is_given_up(came, worker.clock.tick()) {
        return;
    }
    let trace = incoming(&readable.map(|message| message.headers).unwrap_or_default());
    match publish(worker, &outcome, stamp, Place { made, position }, &trace).await {
        Ok(()) => {
            worker.metrics.usage_events.inc(Counted::Published);
            answer(ACK);
        }
        Err(error) => {
            worker.metrics.usage_events.inc(Counted::Failed);
            worker.metrics.nats_publish_failures.inc(Publish::Usage);
            if let Some(count) = failures.due(worker.clock.tick()) {
                tracing::warn!(event = "usage_not_published", position, count, error = %error);
            }
            answer(&later());
        }
    }
}

/// Under what copies of a usage event are dropped. A result may be delivered again to a worker of another version, so
/// what it is named by follows from its place in the log.
fn message_id(outcome: &Outcome<'_>, is_keyed: bool) -> String {
    let hash = outcome.identity;
    // Only hashes of one tenant are compared.
    if is_keyed { format!("{}:{hash:016x}", outcome.tenant_id) } else { format!("{hash:016x}") }
}

async fn publish(
    worker: &Worker,
    outcome: &Outcome<'_>,
    stamp: Stamp,
    place: Place,
    trace: &Incoming<'_>,
) -> Result<(), async_nats::Error> {
    let mut body = BytesMut::with_capacity(256);
    wire::encode_usage(outcome, stamp, &mut body);
    let mut headers = async_nats::HeaderMap::new();
    headers.insert(CONTENT_TYPE, Content::Json.mime());
    headers.insert(PLACE, place.text().as_str());
    let passed_on = trace.pass_on();
    for (name, value) in self::trace(&passed_on) {
        headers.insert(name, value);
    }
    let message = PublishMessage::build()
        .payload(body.freeze())
        .headers(headers)
        .message_id(message_id(outcome, worker.ledger.is_keyed(place.position)));
    worker.publish(&worker.settings.names.usage_metered, message).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_judged_by_a_fold_that_has_reached_it_in_the_log_of_its_connection() {
        let read = Progress { position: 9, epoch: 2, caught_up: true, ..Progress::default() };
        assert!(judges(&read, 2, 9));
        assert!(judges(&read, 1, 3), "the log was found to be the same since");
        assert!(!judges(&read, 2, 10), "not reached");
        assert!(!judges(&read, 3, 9), "the log may have been put back to an older state");
        assert!(!judges(&Progress { caught_up: false, ..read }, 2, 9), "made anew");
    }

    #[test]
    fn what_came_longer_ago_than_the_consumer_waits_is_left_to_whoever_has_it_now() {
        let wait = u64::try_from(ACK_WAIT.as_millis()).unwrap();
        assert!(!is_given_up(Tick(1_000), Tick(1_000 + wait)));
        assert!(is_given_up(Tick(1_000), Tick(1_001 + wait)));
    }
}
