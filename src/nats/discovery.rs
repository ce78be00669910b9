//! NATS service discovery (ADR-32): who is there, what it offers, how that goes.
//!
//! Every worker answers for itself, so a question to all is answered once by each. It answers from its
//! start to its drain, ready or not: what it says is about the instance, and who wants to know whether
//! it serves asks `/readyz`. The figures count from the start of this process.
//!
//! A question is answered only at an inbox, like all others: see [`crate::wire::subjects`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use beamline_nats::encode::Outgoing;
use beamline_nats::{Client, PublishError, Subscriber};
use bytes::Bytes;
use serde::Serialize;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::decide::is_fresh_for_others;
use super::{Worker, fold_version};
use crate::config::Names;
use crate::telemetry::labels::{Label as _, Publish, Source};
use crate::telemetry::names::SERVICE;
use crate::wire::subjects::reply_allowed;

const PREFIX: &str = "$SRV";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// [`crate::rollout::controller::JUDGE_VERSION`] as text, since the service API knows no other metadata.
const JUDGE: &str = "1";
const DESCRIPTION: &str = "says which provider serves a request";

/// An answer that cannot be handed over by then is of no use: who asks waits a few seconds at most.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is told of this worker's endpoints.
#[derive(Debug)]
pub struct Discovery {
    /// By which this process is known there.
    pub id: String,
    /// Decisions asked for on the plain subject.
    pub decide: EndpointStats,
    /// Decisions asked for on a tenant's subject.
    pub tenant_decide: EndpointStats,
    /// Control verbs.
    pub control: EndpointStats,
}

impl Default for Discovery {
    fn default() -> Self {
        let (decide, tenant_decide, control) = Default::default();
        Self { id: Uuid::new_v4().simple().to_string(), decide, tenant_decide, control }
    }
}

impl Discovery {
    /// Requests for decisions answered so far, with whatever outcome.
    #[must_use]
    pub fn decided(&self) -> u64 {
        let requests = |stats: &EndpointStats| stats.requests.load(Ordering::Relaxed);
        requests(&self.decide) + requests(&self.tenant_decide)
    }
}

/// Figures of one endpoint. Recording an answer without an error takes no lock.
#[derive(Debug, Default)]
pub struct EndpointStats {
    requests: AtomicU64,
    errors: AtomicU64,
    nanos: AtomicU64,
    last_error: RwLock<Option<&'static str>>,
}

impl EndpointStats {
    /// Counts a request that took so many nanoseconds, and the error code it was answered with.
    pub fn record(&self, nanos: u64, error: Option<&'static str>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
        let Some(code) = error else { return };
        self.errors.fetch_add(1, Ordering::Relaxed);
        // Errors come in crowds of one code, which then costs a look.
        if *self.last_error.read().unwrap_or_else(PoisonError::into_inner) != Some(code) {
            *self.last_error.write().unwrap_or_else(PoisonError::into_inner) = Some(code);
        }
    }

    /// Counts several requests that were answered without an error.
    pub fn record_good(&self, requests: u64, nanos: u64) {
        self.requests.fetch_add(requests, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The last error as clients of the service API write it: `503:circuit_open`.
    fn last_error(&self) -> String {
        let last = *self.last_error.read().unwrap_or_else(PoisonError::into_inner);
        let Some(code) = last else { return String::new() };
        let known =
            Option::ALL.iter().flatten().find(|known: &&crate::domain::ErrorCode| known.as_str() == code);
        known.map_or_else(|| code.to_owned(), |known| format!("{}:{code}", known.number()))
    }
}

/// Answers until stopped.
pub async fn run(worker: Arc<Worker>, stop: CancellationToken) {
    stop.run_until_cancelled(answer_all(&worker)).await;
}

async fn answer_all(worker: &Worker) {
    let fold = fold_version::agreed_to(worker).to_string();
    let name = &worker.settings.worker_name;
    let id = worker.discovery.id.clone();
    let service = Service::new(&worker.settings.names, id, name, &fold, worker.clock.wall_ms());
    let (mut questions, verbs) = match subscribe(&worker.traffic, &service.id) {
        Ok(subscribed) => subscribed,
        Err(error) => {
            tracing::error!(event = "discovery_not_subscribed", error = %error);
            return;
        }
    };
    while let Some(question) = questions.next().await {
        let question = question.as_ref();
        let asked = match question.read() {
            Ok(asked) => asked,
            Err(malformed) => {
                worker.link.note_malformed(Source::Discovery, malformed, &worker.metrics);
                continue;
            }
        };
        let Some(inbox) = asked.reply else { continue };
        if !reply_allowed(inbox, &worker.settings.decide.reply_prefixes) {
            worker.metrics.replies_dropped.inc();
            continue;
        }
        let verb = verbs.iter().find(|(sid, _)| *sid == question.sid()).map(|(_, verb)| *verb);
        let decides = worker.link.taking() > 0 && is_fresh_for_others(worker);
        let answer = verb.and_then(|verb| service.answer(verb, &worker.discovery, decides));
        let Some(payload) = answer else { continue };
        let answer = Outgoing::new(inbox, &payload);
        // Questions are cheap: their answers leave room for what the worker itself must say.
        let _ = tokio::time::timeout(PATIENCE, worker.traffic.room()).await;
        if worker.traffic.publish(&answer).is_err() {
            worker.metrics.nats_publish_failures.inc(Publish::Reply);
        }
    }
}

/// The questions to all services, to all of this name, and to this instance; each subscription's verb.
fn subscribe(client: &Client, id: &str) -> Result<(Subscriber, Vec<(u64, Verb)>), PublishError> {
    let mut questions = client.subscriber();
    let mut verbs = Vec::new();
    for verb in [Verb::Ping, Verb::Info, Verb::Stats] {
        for whom in ["", &format!(".{SERVICE}"), &format!(".{SERVICE}.{id}")] {
            let subject = format!("{PREFIX}.{}{whom}", verb.as_str());
            verbs.push((questions.subscribe(&subject, None)?, verb));
        }
    }
    Ok((questions, verbs))
}

#[derive(Clone, Copy)]
enum Verb {
    Ping,
    Info,
    Stats,
}

impl Verb {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "PING",
            Self::Info => "INFO",
            Self::Stats => "STATS",
        }
    }
}

/// This instance, as it answers.
struct Service<'a> {
    id: String,
    started: String,
    names: &'a Names,
    worker: &'a str,
    fold: &'a str,
}

impl<'a> Service<'a> {
    fn new(names: &'a Names, id: String, worker: &'a str, fold: &'a str, started_ms: u64) -> Self {
        Self { id, started: rfc3339(started_ms), names, worker, fold }
    }

    fn answer(&self, verb: Verb, discovery: &Discovery, decides: bool) -> Option<Bytes> {
        let identity = |kind| self.identity(kind, decides);
        let body = match verb {
            Verb::Ping => serde_json::to_vec(&identity("io.nats.micro.v1.ping_response")),
            Verb::Info => serde_json::to_vec(&Info {
                identity: identity("io.nats.micro.v1.info_response"),
                description: DESCRIPTION,
                endpoints: self
                    .endpoints(discovery)
                    .map(|(endpoint, _)| EndpointInfo { endpoint, metadata: Empty {} }),
            }),
            Verb::Stats => serde_json::to_vec(&Stats {
                identity: identity("io.nats.micro.v1.stats_response"),
                started: &self.started,
                endpoints: self.endpoints(discovery).map(|(endpoint, stats)| Figures::of(endpoint, stats)),
            }),
        };
        body.ok().map(Bytes::from)
    }

    fn identity(&self, kind: &'static str, decides: bool) -> Identity<'_> {
        let decides = (!decides).then_some("false");
        let metadata = Metadata { worker: self.worker, rollouts: JUDGE, fold: self.fold, decides };
        Identity { kind, name: SERVICE, id: &self.id, version: VERSION, metadata }
    }

    fn endpoints<'d>(&'d self, discovery: &'d Discovery) -> [(Endpoint<'d>, &'d EndpointStats); 3] {
        let endpoint = |name, subject| Endpoint { name, subject, queue_group: &self.names.queue_group };
        [
            (endpoint("decide", &self.names.decide), &discovery.decide),
            (endpoint("tenant_decide", &self.names.decide_tenants), &discovery.tenant_decide),
            (endpoint("control", &self.names.control_all), &discovery.control),
        ]
    }
}

#[derive(Serialize)]
struct Identity<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'static str,
    id: &'a str,
    version: &'static str,
    metadata: Metadata<'a>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    worker: &'a str,
    /// The version of the judge of rollouts that this worker has.
    rollouts: &'static str,
    /// The newest version of the fold that it agrees to.
    fold: &'a str,
    /// `false` while it takes no requests, or decides by a state that is not the log's or may soon not be.
    #[serde(skip_serializing_if = "Option::is_none")]
    decides: Option<&'static str>,
}

#[derive(Serialize)]
struct Info<'a> {
    #[serde(flatten)]
    identity: Identity<'a>,
    description: &'static str,
    endpoints: [EndpointInfo<'a>; 3],
}

#[derive(Serialize)]
struct Stats<'a> {
    #[serde(flatten)]
    identity: Identity<'a>,
    started: &'a str,
    endpoints: [Figures<'a>; 3],
}

#[derive(Serialize)]
struct Endpoint<'a> {
    name: &'static str,
    subject: &'a str,
    queue_group: &'a str,
}

#[derive(Serialize)]
struct EndpointInfo<'a> {
    #[serde(flatten)]
    endpoint: Endpoint<'a>,
    metadata: Empty,
}

#[derive(Serialize)]
struct Empty {}

/// Times are in nanoseconds.
#[derive(Serialize)]
struct Figures<'a> {
    #[serde(flatten)]
    endpoint: Endpoint<'a>,
    num_requests: u64,
    num_errors: u64,
    last_error: String,
    processing_time: u64,
    average_processing_time: u64,
    /// Nothing to add; optional by the specification, but nats-py reads no stats without it.
    data: Empty,
}

impl<'a> Figures<'a> {
    fn of(endpoint: Endpoint<'a>, stats: &EndpointStats) -> Self {
        let requests = stats.requests.load(Ordering::Relaxed);
        let nanos = stats.nanos.load(Ordering::Relaxed);
        Self {
            endpoint,
            num_requests: requests,
            num_errors: stats.errors.load(Ordering::Relaxed),
            last_error: stats.last_error(),
            processing_time: nanos,
            average_processing_time: nanos.checked_div(requests).unwrap_or(0),
            data: Empty {},
        }
    }
}

/// UTC, always with three decimals: some clients read neither none nor nine.
fn rfc3339(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1_000).unwrap_or(i64::MAX);
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second) = at.to_hms();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::SubjectPrefix;

    fn names() -> Names {
        let prefix = |text| SubjectPrefix::try_new(text).unwrap();
        Names::new(&prefix("beamline.router"), &prefix("caf.exec"), &prefix("beamline.usage"))
    }

    fn told(verb: Verb, discovery: &Discovery) -> Value {
        let names = names();
        let service = Service::new(&names, "i1".to_owned(), "w-1", "2", 1_700_000_000_120);
        serde_json::from_slice(&service.answer(verb, discovery, true).unwrap()).unwrap()
    }

    #[test]
    fn a_ping_tells_who_answers() {
        assert_eq!(
            told(Verb::Ping, &Discovery::default()),
            json!({
                "type": "io.nats.micro.v1.ping_response", "name": "beamline-router", "id": "i1",
                "version": VERSION, "metadata": {"worker": "w-1", "rollouts": JUDGE, "fold": "2"},
            })
        );
    }

    #[test]
    fn a_worker_that_does_not_decide_says_so() {
        let names = names();
        let service = Service::new(&names, "i1".to_owned(), "w-1", "2", 0);
        let told = service.answer(Verb::Info, &Discovery::default(), false).unwrap();
        let told: Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(told["metadata"]["decides"], "false");
    }

    #[test]
    fn the_version_of_the_judge_is_the_programs() {
        assert_eq!(JUDGE, crate::rollout::controller::JUDGE_VERSION.to_string());
    }

    #[test]
    fn an_info_tells_the_endpoints() {
        let endpoint = |name, subject| json!({"name": name, "subject": subject, "queue_group": "beamline-router", "metadata": {}});
        assert_eq!(
            told(Verb::Info, &Discovery::default()),
            json!({
                "type": "io.nats.micro.v1.info_response", "name": "beamline-router", "id": "i1",
                "version": VERSION, "metadata": {"worker": "w-1", "rollouts": JUDGE, "fold": "2"}, "description": DESCRIPTION,
                "endpoints": [
                    endpoint("decide", "beamline.router.v1.decide"),
                    endpoint("tenant_decide", "beamline.router.v1.tenant.*.decide"),
                    endpoint("control", "beamline.router.control.v1.>"),
                ],
            })
        );
    }

    #[test]
    fn stats_tell_what_was_recorded() {
        let discovery = Discovery::default();
        discovery.decide.record(1_000, None);
        discovery.decide.record(2_001, Some("circuit_open"));
        discovery.decide.record(0, Some("invalid_request"));
        discovery.decide.record(0, Some("circuit_open"));
        discovery.control.record(7, Some("no code of ours"));
        let figures = |name, subject, n, errors, last, sum, mean| {
            json!({
                "name": name, "subject": subject, "queue_group": "beamline-router", "num_requests": n,
                "num_errors": errors, "last_error": last, "processing_time": sum, "average_processing_time": mean, "data": {},
            })
        };
        assert_eq!(
            told(Verb::Stats, &discovery),
            json!({
                "type": "io.nats.micro.v1.stats_response", "name": "beamline-router", "id": "i1",
                "version": VERSION, "metadata": {"worker": "w-1", "rollouts": JUDGE, "fold": "2"}, "started": "2023-11-14T22:13:20.120Z",
                "endpoints": [
                    figures("decide", "beamline.router.v1.decide", 4, 3, "503:circuit_open", 3_001, 750),
                    figures("tenant_decide", "beamline.router.v1.tenant.*.decide", 0, 0, "", 0, 0),
                    figures("control", "beamline.router.control.v1.>", 1, 1, "no code of ours", 7, 7),
                ],
            })
        );
    }

    #[test]
    fn a_start_is_told_with_three_decimals() {
        assert_eq!(rfc3339(1_700_000_000_000), "2023-11-14T22:13:20.000Z");
        assert_eq!(rfc3339(1_709_164_800_007), "2024-02-29T00:00:00.007Z");
        assert_eq!(
            rfc3339(u64::MAX).len(),
            "2023-11-14T22:13:20.000Z".len(),
            "a senseless clock is no panic"
        );
    }

    #[test]
    fn every_instance_has_an_id_that_a_subject_can_hold() {
        let [a, b] = [0, 0].map(|_| Discovery::default().id);
        assert_ne!(a, b);
        assert!(a.len() == 32 && a.bytes().all(|b| b.is_ascii_alphanumeric()), "{a}");
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let stats = EndpointStats::default();
        std::thread::scope(|s| {
            for code in ["circuit_open", "overloaded"] {
                let stats = &stats;
                s.spawn(move || (0..10_000).for_each(|n| stats.record(3, (n % 2 == 0).then_some(code))));
            }
        });
        assert_eq!(stats.requests.load(Ordering::Relaxed), 20_000);
        assert_eq!(stats.errors.load(Ordering::Relaxed), 10_000);
        assert_eq!(stats.nanos.load(Ordering::Relaxed), 60_000);
        assert!(["503:circuit_open", "429:overloaded"].contains(&stats.last_error().as_str()));
    }
}
