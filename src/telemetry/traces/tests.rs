use std::sync::Mutex;
use std::time::SystemTime;

use opentelemetry::Value;
use opentelemetry::trace::Status;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::SpanData;

use super::*;
use crate::domain::{ErrorCode, Reason};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
const DECIDE: Message<'static> = Message { subject: "beamline.router.v1.decide", body_size: 120, id: None };

#[derive(Clone, Debug, Default)]
struct Memory {
    spans: Arc<Mutex<Vec<SpanData>>>,
    resource: Arc<Mutex<Option<Resource>>>,
}

impl SpanExporter for Memory {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.spans.lock().unwrap().extend(batch);
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        *self.resource.lock().unwrap() = Some(resource.clone());
    }
}

fn settings(sampler: Sampler) -> TraceSettings {
    let vars = |name: &str| match name {
        "OTEL_TRACES_EXPORTER" => Some("otlp".to_owned()),
        "OTEL_RESOURCE_ATTRIBUTES" => Some("service.version=custom,host.name=h".to_owned()),
        _ => None,
    };
    TraceSettings { sampler, ..Environment::read(vars).unwrap().settings.unwrap() }
}

fn start(sampler: Sampler) -> (Tracing, Memory) {
    let memory = Memory::default();
    let subjects = Subjects::new("beamline.router", "caf.exec", "beamline-router")
        .of_worker("w-1")
        .at_server(Some(("nats.example".to_owned(), 4222)));
    let now: Now = Arc::new(|| SystemTime::UNIX_EPOCH + Duration::from_secs(7));
    let tracing =
        Tracing::start_with(memory.clone(), &settings(sampler), subjects, SpanCounters::default(), now);
    (tracing.unwrap(), memory)
}

async fn finished(tracing: &Tracing, memory: &Memory) -> Vec<SpanData> {
    assert_eq!(tracing.shutdown(Duration::from_secs(10)).await, 0);
    memory.spans.lock().unwrap().clone()
}

fn text(span: &SpanData, key: &str) -> Option<String> {
    let mut found = span.attributes.iter().filter(|kv| kv.key.as_str() == key);
    let value = found.next().map(|kv| kv.value.to_string());
    assert!(found.next().is_none(), "{key} twice");
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_continues_its_callers_trace_and_its_assignment_continues_it() {
    let (tracing, memory) = start(Sampler::default());
    let incoming = Incoming::read(Some(PARENT), Some("congo=t61"));
    let mut decide = tracing.decide(&incoming, &Message { id: Some("m-1"), ..DECIDE }).unwrap();
    decide.record(&Facts { request_id: Some("r-1"), provider_id: Some("first"), ..Facts::default() });
    tokio::task::yield_now().await;
    let message = Message { subject: "caf.exec.assign.gpu", body_size: 9, id: None };
    let send = tracing.assign(Some(&decide), &message).unwrap();
    let out = tracing.outgoing(Some(&send), &incoming);
    let carried = TraceParent::parse(&out.traceparent.unwrap()).unwrap();
    assert_eq!(carried, send.context());
    assert_eq!(out.tracestate.as_deref(), Some("congo=t61"));
    send.end(&Facts { assignment_id: Some("a-1"), ..Facts::default() });
    let facts = Facts {
        tenant_id: Some("acme"),
        policy_id: Some("default"),
        policy_revision: Some(7),
        provider_id: Some("openai"),
        reason: Some(Reason::CircuitBreakerFallback),
        breaker_state: Some("closed"),
        probe: Some(false),
        ..Facts::default()
    };
    decide.end(&facts);

    let spans = finished(&tracing, &memory).await;
    let (send, decide) = (&spans[0], &spans[1]);
    let caller = TraceParent::parse(PARENT).unwrap();
    assert_eq!(decide.name, "process beamline.router.v1.decide");
    assert_eq!(decide.span_kind, SpanKind::Consumer);
    assert_eq!(decide.span_context.trace_id().to_bytes(), caller.trace_id);
    assert_eq!(decide.parent_span_id.to_bytes(), caller.span_id);
    assert!(decide.parent_span_is_remote && decide.span_context.is_sampled());
    assert_eq!(decide.span_context.trace_state().get("congo"), Some("t61"));
    assert_eq!(send.name, "send caf.exec.assign.v1");
    assert_eq!(send.span_kind, SpanKind::Producer);
    assert_eq!(send.parent_span_id, decide.span_context.span_id());
    assert!(!send.parent_span_is_remote);
    assert_eq!(send.span_context.span_id().to_bytes(), carried.span_id);
    for (key, value) in [
        (attribute::SYSTEM, "nats"),
        (attribute::OPERATION_TYPE, "process"),
        (attribute::OPERATION_NAME, "process"),
        (attribute::DESTINATION, "beamline.router.v1.decide"),
        (attribute::CONSUMER_GROUP, "beamline-router"),
        (attribute::BODY_SIZE, "120"),
        (attribute::MESSAGE_ID, "m-1"),
        (attribute::REQUEST_ID, "r-1"),
        (attribute::CONVERSATION_ID, "r-1"),
        (attribute::CLIENT_ID, "w-1"),
        (attribute::SERVER_ADDRESS, "nats.example"),
        (attribute::SERVER_PORT, "4222"),
        (attribute::TENANT_ID, "acme"),
        (attribute::POLICY_ID, "default"),
        (attribute::POLICY_REVISION, "7"),
        (attribute::PROVIDER_ID, "openai"),
        (attribute::REASON, "circuit_breaker_fallback"),
        (attribute::BREAKER_STATE, "closed"),
        (attribute::PROBE, "false"),
    ] {
        assert_eq!(text(decide, key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(decide.status, Status::Unset);
    assert_eq!(text(decide, attribute::ERROR_TYPE), None);
    assert_eq!(text(send, attribute::DESTINATION).as_deref(), Some("caf.exec.assign.gpu"));
    assert_eq!(text(send, attribute::OPERATION_NAME).as_deref(), Some("send"));
    assert_eq!(decide.start_time, SystemTime::UNIX_EPOCH + Duration::from_secs(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_that_is_not_recorded_builds_no_span() {
    let incoming = Incoming::read(Some(UNSAMPLED), Some("congo=t61"));
    let (tracing, memory) = start(Sampler::default());
    assert!(tracing.decide(&incoming, &DECIDE).is_none());
    assert!(tracing.assign(None, &DECIDE).is_none());
    assert!(tracing.control(&incoming, Verb::FlagGet, &DECIDE).is_none());
    let out = tracing.outgoing(None, &incoming);
    assert_eq!(out.traceparent.as_deref(), Some(UNSAMPLED));
    assert_eq!(out.tracestate.as_deref(), Some("congo=t61"));
    assert_eq!((tracing.spans_built(), finished(&tracing, &memory).await.len()), (0, 0));

    let (tracing, _) = start(Sampler::ALWAYS_OFF.parent_based());
    assert!(tracing.decide(&Incoming::none(), &DECIDE).is_none());
    let told = tracing.outgoing(None, &Incoming::none()).traceparent.unwrap();
    assert!(!TraceParent::parse(&told).unwrap().is_sampled());
    assert_eq!(tracing.spans_built(), 0);

    let (tracing, _) = start(Sampler::ALWAYS_ON);
    assert!(tracing.decide(&incoming, &DECIDE).unwrap().context().is_sampled());
    assert_eq!(tracing.spans_built(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_linked_to_its_decision_and_recorded_with_it() {
    let (tracing, memory) = start(Sampler::ALWAYS_OFF.parent_based());
    let decision = TraceParent::parse(PARENT).unwrap();
    let message = Message { subject: "caf.exec.result.v1.acme", body_size: 3, id: None };
    assert!(tracing.result(&Incoming::none(), &message, None).is_none());
    let refused = TraceParent::parse(UNSAMPLED).unwrap();
    assert!(tracing.result(&Incoming::none(), &message, Some(refused)).is_none());
    tracing.result(&Incoming::none(), &message, Some(decision)).unwrap().end(&Facts::default());
    let other = PARENT.replace("4bf9", "1111");
    let incoming = Incoming::read(Some(&other), None);
    tracing.result(&incoming, &message, Some(decision)).unwrap().end(&Facts::default());

    let spans = finished(&tracing, &memory).await;
    for span in &spans {
        assert_eq!(span.name, "process caf.exec.result.v1");
        let link = &span.links.links[0].span_context;
        assert_eq!(link.trace_id().to_bytes(), decision.trace_id);
        assert_eq!(link.span_id().to_bytes(), decision.span_id);
        assert_eq!(text(span, attribute::DESTINATION).as_deref(), Some("caf.exec.result.v1.acme"));
        assert_eq!(
            text(span, attribute::DESTINATION_TEMPLATE).as_deref(),
            Some("caf.exec.result.v1.{tenant}")
        );
        assert_eq!(text(span, attribute::CONSUMER_GROUP), None);
    }
    assert_eq!(spans[0].parent_span_id, opentelemetry::trace::SpanId::INVALID);
    assert_ne!(spans[0].span_context.trace_id().to_bytes(), decision.trace_id);
    assert_eq!(spans[1].span_context.trace_id().to_bytes()[..2], [0x11, 0x11]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_told_and_a_span_given_up_is_not_lost() {
    let (tracing, memory) = start(Sampler::default());
    let message = Message { subject: "beamline.router.control.v1.anything.at.all", ..DECIDE };
    let verb = Verb::parse("anything.at.all");
    let code = ErrorCode::NotFound.as_str();
    let span = tracing.control(&Incoming::none(), verb, &message).unwrap();
    span.end(&Facts { error: Some(code), message: Some("no such thing"), ..Facts::default() });
    drop(tracing.decide(&Incoming::none(), &DECIDE));
    let spans = finished(&tracing, &memory).await;
    assert_eq!(spans[0].name, "process beamline.router.control.v1.other");
    assert_eq!(spans[0].status, Status::error("no such thing"));
    assert_eq!(text(&spans[0], attribute::ERROR_TYPE).as_deref(), Some("not_found"));
    assert_eq!(text(&spans[1], attribute::ERROR_TYPE).as_deref(), Some(ABANDONED));
    assert!(!spans[1].parent_span_is_remote);
    assert!(tracing.decide(&Incoming::none(), &DECIDE).is_none(), "closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steps_of_a_routing_are_events_in_their_order_and_bounded() {
    let (tracing, memory) = start(Sampler::default());
    let mut span = tracing.decide(&Incoming::none(), &DECIDE).unwrap();
    let (provider_id, waited) = ("openai", Duration::from_micros(1_234));
    span.tell(RoutingStep::Claim { provider_id, outcome: "refused", waited });
    let retry_after_ms = Some(700);
    span.tell(RoutingStep::Check { provider_id, result: "rejected", state: "half_open", retry_after_ms });
    span.tell(RoutingStep::Constraint { provider_id: "b", constraint: "max_cost" });
    (0..200).for_each(|_| span.tell(RoutingStep::Fallback { provider_id: "c" }));
    span.end(&Facts::default());
    let spans = finished(&tracing, &memory).await;
    let events = &spans[0].events;
    assert_eq!((events.events.len(), events.dropped_count), (128, 75));
    let told = |n: usize| {
        let texts = events.events[n].attributes.iter().map(|kv| format!("{}={}", kv.key, kv.value));
        format!("{} {}", events.events[n].name, texts.collect::<Vec<_>>().join(" "))
    };
    assert_eq!(
        told(0),
        "probe_claim beamline.provider_id=openai beamline.claim.outcome=refused beamline.claim.wait_us=1234"
    );
    assert_eq!(
        told(1),
        "circuit_breaker_check beamline.provider_id=openai beamline.check.result=rejected \
         beamline.breaker.state=half_open beamline.retry_after_ms=700"
    );
    assert_eq!(told(2), "constraint beamline.provider_id=b beamline.constraint=max_cost");
    assert_eq!(told(3), "fallback beamline.provider_id=c");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_resource_is_what_the_environment_says_and_else_this_program() {
    let (tracing, memory) = start(Sampler::default());
    finished(&tracing, &memory).await;
    let resource = memory.resource.lock().unwrap().clone().unwrap();
    let get = |key: &'static str| resource.get(&key.into());
    assert_eq!(get("service.name"), Some(Value::from("beamline-router")));
    assert_eq!(get("service.version"), Some(Value::from("custom")));
    assert_eq!(get("host.name"), Some(Value::from("h")));
    assert_eq!(get("telemetry.sdk.language"), Some(Value::from("rust")));
    assert!(get("service.instance.id").is_some());
}

#[test]
fn off_makes_nothing_and_passes_headers_through() {
    let tracing = Tracing::off();
    let incoming = Incoming::read(Some(PARENT), None);
    assert!(!tracing.is_on());
    assert!(tracing.decide(&incoming, &DECIDE).is_none());
    assert_eq!(tracing.outgoing(None, &incoming).traceparent.as_deref(), Some(PARENT));
    assert_eq!(tracing.outgoing(None, &Incoming::none()), Outgoing::default());
    assert_eq!(tracing.spans_built(), 0);
}

#[test]
fn it_starts_only_where_there_is_a_runtime() {
    let subjects = Subjects::new("r", "e", "g");
    let now: Now = Arc::new(|| SystemTime::UNIX_EPOCH);
    let memory = Memory::default();
    let started =
        Tracing::start_with(memory, &settings(Sampler::default()), subjects, SpanCounters::default(), now);
    assert!(matches!(started, Err(StartError::NoRuntime)));
}
