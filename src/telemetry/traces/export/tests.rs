use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use opentelemetry::InstrumentationScope;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SpanEvents, SpanLinks};

use super::*;
use crate::telemetry::logs::tests::heard;

/// How long a condition may take to come about before a test fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// Hands each batch's size over and waits for the verdict on it.
#[derive(Debug)]
struct Gatekeeper {
    batches: SyncSender<usize>,
    verdicts: Mutex<Receiver<bool>>,
}

impl SpanExporter for Gatekeeper {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.batches.send(batch.len()).unwrap();
        match self.verdicts.lock().unwrap().recv() {
            Ok(true) => Ok(()),
            _ => Err(OTelSdkError::InternalFailure("refused".to_owned())),
        }
    }
}

/// Never answers, and says so in time to whoever cancels it.
#[derive(Debug)]
struct Mute;

impl SpanExporter for Mute {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        std::future::pending().await
    }
}

fn span() -> SpanData {
    let context = SpanContext::new(1_u128.into(), 1_u64.into(), TraceFlags::SAMPLED, false, TraceState::NONE);
    assert_ne!(context.trace_id(), TraceId::INVALID);
    SpanData {
        span_context: context,
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Consumer,
        name: "s".into(),
        start_time: SystemTime::UNIX_EPOCH,
        end_time: SystemTime::UNIX_EPOCH,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::default(),
    }
}

struct Line {
    processor: Counting<BatchSpanProcessor>,
    tally: Arc<Tally>,
    lost: Counter,
    stop: CancellationToken,
}

fn line(exporter: impl SpanExporter + 'static, capacity: usize, batch: usize, timeout: Duration) -> Line {
    let lost = Counter::default();
    let tally = Tally::new(lost.clone());
    let stop = CancellationToken::new();
    let voice = Voice::new("http://c:4318".to_owned(), Cause::default(), Arc::new(|| SystemTime::UNIX_EPOCH));
    let runtime = Handle::current();
    let exporter = Reporting::new(exporter, Arc::clone(&tally), runtime, timeout, stop.clone(), voice);
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(capacity)
        .with_max_export_batch_size(batch)
        .with_scheduled_delay(Duration::from_secs(3_600))
        .build();
    let batches = BatchSpanProcessor::new(exporter, config);
    Line { processor: Counting::new(batches, Arc::clone(&tally), capacity), tally, lost, stop }
}

fn gate() -> (Gatekeeper, Receiver<usize>, SyncSender<bool>) {
    let (batches, seen) = sync_channel(64);
    let (verdict, verdicts) = sync_channel(64);
    (Gatekeeper { batches, verdicts: Mutex::new(verdicts) }, seen, verdict)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_collector_holds_the_capacity_and_loses_exactly_what_is_beyond() {
    let (gatekeeper, batches, verdict) = gate();
    let line = line(gatekeeper, 8, 4, PATIENCE);
    (0..4).for_each(|_| line.processor.on_end(span()));
    assert_eq!(batches.recv_timeout(PATIENCE), Ok(4));
    // The first four are in the exporter, so eight more fit, and five do not.
    (0..13).for_each(|_| line.processor.on_end(span()));
    assert_eq!(line.lost.get(), 5);
    assert_eq!(line.tally.unsettled(), 12);
    (0..3).for_each(|_| verdict.send(true).unwrap());
    assert_eq!(batches.recv_timeout(PATIENCE), Ok(4));
    assert_eq!(batches.recv_timeout(PATIENCE), Ok(4));
    let line = shut(line).await;
    assert_eq!((line.lost.get(), line.tally.unsettled()), (5, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_export_loses_its_batch_and_no_more() {
    let (gatekeeper, batches, verdict) = gate();
    let line = line(gatekeeper, 64, 4, PATIENCE);
    for good in [false, true, false] {
        verdict.send(good).unwrap();
        (0..4).for_each(|_| line.processor.on_end(span()));
        assert_eq!(batches.recv_timeout(PATIENCE), Ok(4));
    }
    let line = shut(line).await;
    assert_eq!((line.lost.get(), line.tally.unsettled()), (8, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_without_an_answer_ends_at_its_deadline() {
    let line = line(Mute, 8, 1, Duration::from_millis(20));
    line.processor.on_end(span());
    let line = shut(line).await;
    assert_eq!((line.lost.get(), line.tally.unsettled()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_after_the_close_is_lost_and_counted() {
    let (gatekeeper, _batches, _verdict) = gate();
    let line = shut(line(gatekeeper, 8, 4, PATIENCE)).await;
    line.processor.on_end(span());
    assert!(line.processor.is_closing());
    assert_eq!((line.lost.get(), line.tally.unsettled()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_the_export_under_way() {
    let line = line(Mute, 8, 1, Duration::from_secs(3_600));
    line.processor.on_end(span());
    let stop = line.stop.clone();
    tokio::spawn(async move { stop.cancel() });
    let line = shut(line).await;
    assert_eq!((line.lost.get(), line.tally.unsettled()), (1, 0));
}

async fn shut(line: Line) -> Line {
    tokio::task::spawn_blocking(move || {
        line.processor.shutdown_with_timeout(PATIENCE).unwrap();
        line
    })
    .await
    .unwrap()
}

#[test]
fn many_failures_make_one_line_a_minute_that_says_how_many_it_stands_for() {
    let clock = Arc::new(Mutex::new(SystemTime::UNIX_EPOCH));
    let read = Arc::clone(&clock);
    let voice =
        Voice::new("http://c:4318".to_owned(), Cause::default(), Arc::new(move || *read.lock().unwrap()));
    let error = OTelSdkError::InternalFailure("x".repeat(2_000));
    let said = heard(|| {
        voice.tell(1, None);
        for _ in 0..5 {
            voice.tell(10, Some(&error));
        }
        *clock.lock().unwrap() += WARN_EVERY;
        voice.tell(10, Some(&error));
        voice.tell(3, Some(&error));
        voice.tell(1, None);
        voice.tell(1, None);
    });
    let told: Vec<_> = said.iter().map(|l| (l["event"].clone(), l["spans_lost"].clone())).collect();
    let failed = serde_json::json!(names::event::TRACE_EXPORT_FAILED);
    let recovered = serde_json::json!(names::event::TRACE_EXPORT_RECOVERED);
    assert_eq!(told, [(failed.clone(), 10.into()), (failed, 50.into()), (recovered, 3.into())]);
    assert_eq!(said[1]["failures"], 5);
    assert!(said[1]["error"].as_str().unwrap().len() <= SHOWN_ERROR);
}
