//! The way of a finished span to the collector, and the count of those that get lost on it.
//!
//! The SDK's batch processor puts spans into a bounded channel and drops what does not fit without
//! telling anybody. So the bound is kept before it: [`Counting`] admits a span only while fewer than
//! the capacity wait, and counts the others. The channel behind it has the same capacity and holds
//! no more than wait, so it never drops. [`Reporting`] stands at the other end: it takes a batch off
//! the count of the waiting when the batch is handed over, and counts all of it as lost when the
//! export fails. A span is therefore in exactly one place: waiting, being exported, delivered, lost.
//!
//! An export runs on the SDK's own thread, its I/O on the runtime it was started in, under a deadline
//! for the whole. Nothing that makes spans ever waits for it.
//!
//! What a collector takes and then refuses (`partial_success`) is not counted here: the SDK keeps
//! that answer to itself, and the collector has its own count of it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use prometheus_client::metrics::counter::Counter;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::telemetry::names;

/// The wall clock: spans bear its time.
pub type Now = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// A failing export is logged at most this often; a batch is due every few seconds.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// A log line shows this much of an error.
const SHOWN_ERROR: usize = 300;

/// Where spans are, counted.
#[derive(Debug)]
pub(super) struct Tally {
    /// Submitted and not yet handed to the exporter.
    waiting: AtomicUsize,
    /// Submitted, and neither delivered nor lost.
    unsettled: AtomicUsize,
    lost: Counter,
}

impl Tally {
    pub(super) fn new(lost: Counter) -> Arc<Self> {
        Arc::new(Self { waiting: AtomicUsize::new(0), unsettled: AtomicUsize::new(0), lost })
    }

    fn admit(&self, capacity: usize) -> bool {
        let more = |waiting| (waiting < capacity).then_some(waiting + 1);
        let admitted = self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok();
        if admitted {
            self.unsettled.fetch_add(1, Ordering::AcqRel);
        }
        admitted
    }

    fn handed_over(&self, spans: usize) {
        self.waiting.fetch_sub(spans, Ordering::AcqRel);
    }

    fn settled(&self, spans: usize, delivered: bool) {
        if !delivered {
            self.lost.inc_by(spans as u64);
        }
        self.unsettled.fetch_sub(spans, Ordering::AcqRel);
    }

    /// Once nothing is exported any more: what slipped in behind the last export is lost.
    pub(super) fn give_up(&self) -> usize {
        let left = self.unsettled.swap(0, Ordering::AcqRel);
        self.lost.inc_by(left as u64);
        left
    }

    pub(super) fn unsettled(&self) -> usize {
        self.unsettled.load(Ordering::Acquire)
    }
}

/// Keeps the bound of the processor that it wraps, and counts what is beyond it.
#[derive(Debug)]
pub(super) struct Counting<P> {
    next: P,
    tally: Arc<Tally>,
    capacity: usize,
    closing: AtomicBool,
}

impl<P> Counting<P> {
    /// `next` must hold at least `capacity` spans.
    pub(super) fn new(next: P, tally: Arc<Tally>, capacity: usize) -> Self {
        Self { next, tally, capacity, closing: AtomicBool::new(false) }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}

impl<P: SpanProcessor> SpanProcessor for Counting<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.next.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.is_closing() || !self.tally.admit(self.capacity) {
            self.tally.lost.inc();
        } else {
            self.next.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.closing.store(true, Ordering::Release);
        self.next.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

/// Runs the exports of the exporter that it wraps, and counts and logs those that fail.
pub(super) struct Reporting<E> {
    next: E,
    tally: Arc<Tally>,
    runtime: Handle,
    timeout: Duration,
    /// Once cancelled, exports fail at once.
    stop: CancellationToken,
    voice: Voice,
}

impl<E> Reporting<E> {
    pub(super) fn new(
        next: E,
        tally: Arc<Tally>,
        runtime: Handle,
        timeout: Duration,
        stop: CancellationToken,
        voice: Voice,
    ) -> Self {
        Self { next, tally, runtime, timeout, stop, voice }
    }
}

impl<E: std::fmt::Debug> std::fmt::Debug for Reporting<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reporting").field("next", &self.next).finish_non_exhaustive()
    }
}

impl<E: SpanExporter> SpanExporter for Reporting<E> {
    /// The SDK drives this on a thread of its own that knows no runtime, so waiting here is what it
    /// expects, and the runtime is lent for timers and sockets.
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.tally.handed_over(spans);
        let outcome = self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => Err(OTelSdkError::InternalFailure("closing".to_owned())),
                outcome = tokio::time::timeout(self.timeout, self.next.export(batch)) =>
                    outcome.unwrap_or(Err(OTelSdkError::Timeout(self.timeout))),
            }
        });
        self.tally.settled(spans, outcome.is_ok());
        self.voice.tell(spans, outcome.as_ref().err());
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

/// Why the last request to the collector failed, where the exporter itself does not tell.
pub(super) type Cause = Arc<Mutex<Option<String>>>;

/// Logs failing exports, each line standing for all since the last one, and the first that works again.
pub(super) struct Voice {
    endpoint: String,
    cause: Cause,
    now: Now,
    unsaid: Mutex<Unsaid>,
}

#[derive(Default)]
struct Unsaid {
    /// When it last spoke; `None` while exports work.
    last: Option<SystemTime>,
    failures: u64,
    spans: usize,
}

impl Voice {
    /// `endpoint` as a log line may show it.
    pub(super) fn new(endpoint: String, cause: Cause, now: Now) -> Self {
        Self { endpoint, cause, now, unsaid: Mutex::default() }
    }

    fn tell(&self, spans: usize, error: Option<&OTelSdkError>) {
        let mut unsaid = self.unsaid.lock().unwrap_or_else(PoisonError::into_inner);
        let endpoint = &self.endpoint;
        match (error, unsaid.last) {
            (None, None) => {}
            (None, Some(_)) => {
                let said = std::mem::take(&mut *unsaid);
                tracing::info!(
                    event = names::event::TRACE_EXPORT_RECOVERED,
                    endpoint,
                    spans_lost = said.spans,
                    "the collector takes spans again"
                );
            }
            (Some(error), last) => {
                unsaid.failures += 1;
                unsaid.spans += spans;
                let now = (self.now)();
                // A wall clock that was set back speaks too often rather than never again.
                let quiet = last.is_some_and(|l| now.duration_since(l).is_ok_and(|since| since < WARN_EVERY));
                if !quiet {
                    let said =
                        std::mem::replace(&mut *unsaid, Unsaid { last: Some(now), ..Unsaid::default() });
                    let cause = self.cause.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let told = cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
                    let error: String = told.chars().take(SHOWN_ERROR).collect();
                    tracing::warn!(
                        event = names::event::TRACE_EXPORT_FAILED,
                        endpoint,
                        error,
                        failures = said.failures,
                        spans_lost = said.spans,
                        "spans are lost"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
