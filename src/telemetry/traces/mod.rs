//! Traces: spans over OTLP, by the `OTEL_*` environment.
//!
//! **When it is on.** Tracing is on if `OTEL_EXPORTER_OTLP_ENDPOINT` or
//! `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set, or `OTEL_TRACES_EXPORTER=otlp` (then to
//! `localhost`); `OTEL_TRACES_EXPORTER=none` and `OTEL_SDK_DISABLED=true` turn it off whatever else
//! is set. The protocol is `http/protobuf`, as the specification wants it where nothing is said;
//! `OTEL_EXPORTER_OTLP_PROTOCOL=grpc` chooses the other. [`Environment`] reads all of it.
//!
//! **Sampling comes first.** Whether a span is recorded is decided from the parent's flag, or from a
//! new trace id, before anything of the span exists ([`Sampler`]). A request whose trace is not
//! recorded costs the parse of one header and builds no span ([`Tracing::spans_built`] proves it).
//! A span that is recorded bears its parent's trace id and names it as its remote parent. A result
//! without a `traceparent` is recorded if the decision that it is linked to was.
//!
//! **What always holds.** Making and ending a span never blocks and never fails: finished spans go
//! to a bounded queue, a thread of its own exports them, and what the queue, a dead collector or
//! the end of the process loses is counted (`export`). Spans belong to tasks, not to threads; no
//! context is kept anywhere but in [`SpanGuard`].
//!
//! **What it does not do.** It makes no spans for the inside of a decision, and it has no baggage.
//! Headers of messages pass through whether tracing is on or off ([`Tracing::outgoing`]).
//!
//! Spans are made here directly as the SDK's `SpanData` and not through its tracer: the tracer
//! cannot be told the trace id of a root that was already sampled by it, and keeps its context in
//! thread-locals. The SDK batches, and its exporter speaks OTLP.

mod context;
mod environment;
mod export;
mod otlp;
mod sampling;
mod settings;
mod span;
mod subjects;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::SpanKind;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, IdGenerator, RandomIdGenerator, SpanExporter, SpanProcessor,
};
use prometheus_client::metrics::counter::Counter;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

pub use context::{Incoming, MAX_TRACESTATE, Outgoing, TraceParent};
pub use environment::Environment;
pub use export::Now;
pub use otlp::StartError;
pub use sampling::Sampler;
pub use settings::{Fault, Protocol, QueueSettings, TraceSettings};
pub use span::{ABANDONED, Facts, Message, RoutingStep, SpanGuard};
pub use subjects::Subjects;

use super::labels::{Label, Verb};
use super::names::{self, attribute, operation};
use export::{Cause, Counting, Reporting, Tally, Voice};
use span::Opening;

struct Core {
    subjects: Subjects,
    sampler: Sampler,
    ids: RandomIdGenerator,
    scope: InstrumentationScope,
    processor: Counting<BatchSpanProcessor>,
    tally: Arc<Tally>,
    stop: CancellationToken,
    now: Now,
    built: Counter,
}

/// Where spans are counted.
#[derive(Clone, Debug, Default)]
pub struct SpanCounters {
    /// Those built.
    pub started: Counter,
    /// Those built that never reached the collector.
    pub lost: Counter,
}

/// Makes spans. Cheap to clone; the default is off.
#[derive(Clone, Default)]
pub struct Tracing {
    core: Option<Arc<Core>>,
}

impl Tracing {
    /// Makes no spans; trace headers still pass through.
    #[must_use]
    pub const fn off() -> Self {
        Self { core: None }
    }

    /// Makes spans and exports them over OTLP, from the tokio runtime that this is called in. It
    /// does not connect: a collector that is away is no error.
    ///
    /// # Errors
    /// [`StartError`], all of it faults of the settings or of the system's certificates.
    pub fn start(
        settings: &TraceSettings,
        subjects: Subjects,
        counters: SpanCounters,
        now: Now,
    ) -> Result<Self, StartError> {
        let runtime = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let cause = Cause::default();
        let exporter = otlp::exporter(settings, Cause::clone(&cause))?;
        Ok(Self::run(runtime, exporter, cause, settings, subjects, counters, now))
    }

    /// As [`Tracing::start`], with another exporter.
    ///
    /// # Errors
    /// [`StartError::NoRuntime`].
    pub fn start_with(
        exporter: impl SpanExporter + 'static,
        settings: &TraceSettings,
        subjects: Subjects,
        counters: SpanCounters,
        now: Now,
    ) -> Result<Self, StartError> {
        let runtime = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        Ok(Self::run(runtime, exporter, Cause::default(), settings, subjects, counters, now))
    }

    fn run(
        runtime: Handle,
        exporter: impl SpanExporter + 'static,
        cause: Cause,
        settings: &TraceSettings,
        subjects: Subjects,
        counters: SpanCounters,
        now: Now,
    ) -> Self {
        let stop = CancellationToken::new();
        let SpanCounters { started: built, lost } = counters;
        let tally = Tally::new(lost);
        let voice = Voice::new(settings.shown_endpoint(), cause, Arc::clone(&now));
        let tallied = Arc::clone(&tally);
        let exporter = Reporting::new(exporter, tallied, runtime, settings.timeout, stop.clone(), voice);
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(settings.queue.capacity)
            .with_max_export_batch_size(settings.queue.batch)
            .with_scheduled_delay(settings.queue.delay)
            .build();
        let batches = BatchSpanProcessor::new(exporter, config);
        let mut processor = Counting::new(batches, Arc::clone(&tally), settings.queue.capacity);
        processor.set_resource(&resource(settings));
        let scope =
            InstrumentationScope::builder(names::SERVICE).with_version(env!("CARGO_PKG_VERSION")).build();
        let (sampler, ids) = (settings.sampler, RandomIdGenerator::default());
        let core = Core { subjects, sampler, ids, scope, processor, tally, stop, now, built };
        Self { core: Some(Arc::new(core)) }
    }

    /// Whether spans are made at all.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.core.is_some()
    }

    /// How many spans were begun since the start.
    #[must_use]
    pub fn spans_built(&self) -> u64 {
        self.core.as_ref().map_or(0, |core| core.built.get())
    }

    /// `process beamline.router.v1.decide`: a request for a decision is answered.
    pub fn decide(&self, incoming: &Incoming<'_>, message: &Message<'_>) -> Option<SpanGuard> {
        let core = self.core.as_ref()?;
        let own = core.continue_or_begin(incoming, None)?;
        let s = &core.subjects;
        let template = (message.subject != s.decide).then_some(s.tenant_decide.as_str());
        Some(core.consume(&s.decide, own, incoming, message, template, Some(&s.group)))
    }

    /// `send caf.exec.assign.v1`: an assignment is published on behalf of a decision. Recorded if
    /// the decision is.
    pub fn assign(&self, decision: Option<&SpanGuard>, message: &Message<'_>) -> Option<SpanGuard> {
        let (core, decision) = (self.core.as_ref()?, decision?);
        let parent = decision.context();
        let opening = Opening {
            name: format!("{} {}", operation::SEND, core.subjects.assign),
            kind: SpanKind::Producer,
            own: parent.continued(core.span_id(), true),
            parent: Some((parent.span_id, false)),
            state: decision.state().map(Into::into),
            link: None,
            message,
            template: None,
            group: None,
        };
        Some(SpanGuard::open(core, opening))
    }

    /// `process caf.exec.result.v1`: a result is taken. `decision` is the context of the decision
    /// that the result is about, where this worker made it; the span is linked to it.
    pub fn result(
        &self,
        incoming: &Incoming<'_>,
        message: &Message<'_>,
        decision: Option<TraceParent>,
    ) -> Option<SpanGuard> {
        let core = self.core.as_ref()?;
        let own = core.continue_or_begin(incoming, decision.as_ref())?;
        let s = &core.subjects;
        let template = (message.subject != s.result).then_some(s.tenant_result.as_str());
        let mut opening = core.consumed(&s.result, own, incoming, message, template, None);
        opening.link = decision;
        Some(SpanGuard::open(core, opening))
    }

    /// `process beamline.router.control.v1.<verb>`: a control request is handled. A verb that is not
    /// ours is told as `other`, so that names are bounded.
    pub fn control(&self, incoming: &Incoming<'_>, verb: Verb, message: &Message<'_>) -> Option<SpanGuard> {
        let core = self.core.as_ref()?;
        let own = core.continue_or_begin(incoming, None)?;
        let subject = format!("{}.{}", core.subjects.control, verb.text());
        Some(core.consume(&subject, own, incoming, message, None, Some(&core.subjects.group)))
    }

    /// The trace headers for a message that this one causes: those of `span` where there is one, else
    /// those that came in, unchanged. Where none came in and the sampler has refused the trace, they
    /// tell that, so that nobody downstream begins to record in the middle.
    #[must_use]
    pub fn outgoing<'a>(&self, span: Option<&'a SpanGuard>, incoming: &Incoming<'a>) -> Outgoing<'a> {
        if let Some(span) = span {
            let traceparent = Some(span.context().to_string().into());
            return Outgoing { traceparent, tracestate: span.state().map(Into::into) };
        }
        match &self.core {
            Some(core) if incoming.parent().is_none() => {
                let fresh = TraceParent { trace_id: core.trace_id(), span_id: core.span_id(), flags: 0 };
                Outgoing { traceparent: Some(fresh.to_string().into()), tracestate: None }
            }
            _ => incoming.pass_on(),
        }
    }

    /// Exports what waits, for at most `deadline`, and makes no more spans. Returns how many were
    /// given up. To be called last, from the runtime that it was started in.
    pub async fn shutdown(&self, deadline: Duration) -> usize {
        let Some(core) = self.core.clone() else { return 0 };
        let flushed = {
            let core = Arc::clone(&core);
            tokio::task::spawn_blocking(move || core.processor.shutdown_with_timeout(deadline)).await
        };
        if matches!(flushed, Ok(Ok(()))) {
            return core.tally.give_up();
        }
        // What is left is counted as lost by the exports that fail from here on.
        let unsettled = core.tally.unsettled();
        core.stop.cancel();
        unsettled
    }
}

impl Core {
    fn trace_id(&self) -> [u8; 16] {
        self.ids.new_trace_id().to_bytes()
    }

    fn span_id(&self) -> [u8; 8] {
        self.ids.new_span_id().to_bytes()
    }

    /// The identity of a span that a message causes, if it is recorded. `linked` decides where the
    /// message names no parent.
    fn continue_or_begin(
        &self,
        incoming: &Incoming<'_>,
        linked: Option<&TraceParent>,
    ) -> Option<TraceParent> {
        if self.processor.is_closing() {
            return None;
        }
        if let Some(parent) = incoming.parent() {
            return self.sampler.follows(&parent).then(|| parent.continued(self.span_id(), true));
        }
        let trace_id = match linked {
            Some(decision) => self.sampler.follows(decision).then(|| self.trace_id())?,
            None => self.sampler.begins(|| self.trace_id())?,
        };
        Some(TraceParent { trace_id, span_id: [0; 8], flags: 0 }.continued(self.span_id(), true))
    }

    fn consumed<'a>(
        &self,
        subject: &str,
        own: TraceParent,
        incoming: &Incoming<'a>,
        message: &'a Message<'a>,
        template: Option<&'a str>,
        group: Option<&'a str>,
    ) -> Opening<'a> {
        Opening {
            name: format!("{} {subject}", operation::PROCESS),
            kind: SpanKind::Consumer,
            own,
            parent: incoming.parent().map(|p| (p.span_id, true)),
            state: incoming.state(),
            link: None,
            message,
            template,
            group,
        }
    }

    fn consume(
        self: &Arc<Self>,
        subject: &str,
        own: TraceParent,
        incoming: &Incoming<'_>,
        message: &Message<'_>,
        template: Option<&str>,
        group: Option<&str>,
    ) -> SpanGuard {
        SpanGuard::open(self, self.consumed(subject, own, incoming, message, template, group))
    }
}

impl std::fmt::Debug for Tracing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracing").field("on", &self.is_on()).finish_non_exhaustive()
    }
}

/// What the environment says of the resource goes before what this program says of itself.
fn resource(settings: &TraceSettings) -> Resource {
    let given = settings.resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes([
            KeyValue::new(attribute::SERVICE_NAME, names::SERVICE),
            KeyValue::new(attribute::SERVICE_VERSION, env!("CARGO_PKG_VERSION")),
            KeyValue::new(attribute::SERVICE_INSTANCE, uuid::Uuid::new_v4().to_string()),
        ])
        .with_attributes(given)
        .build()
}

#[cfg(test)]
mod tests;
