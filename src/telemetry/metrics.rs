//! The metrics of this worker that are not of one breaker, and the page that a scrape reads.
//!
//! Handles are made once and counted into without a look-up; there is no logic here. What is per
//! breaker is told by [`Breakers`], which are read when a scrape comes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use prometheus_client::encoding::{EncodeMetric, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::{family, gauge};
use prometheus_client::registry::Registry;

use super::breakers::Breakers;
use super::histogram::Histogram;
use super::labels::{
    AckRefused, Assignment, Claim, Damage, EvidenceLost, Lane, Outcome, Publish, Queue, Snapshot, Source,
    Trouble, Usage, Verb,
};
use super::names::{Family, metric};
use super::rollouts::Rollouts;
use super::table::{Counters, Grid, Levels};
use crate::domain::{Disposition, ErrorCode, Reason, Status};

/// A gauge that is never negative.
pub type Level = gauge::Gauge<u64, AtomicU64>;
/// A gauge that may be a fraction, infinite or unknown.
pub type Real = gauge::Gauge<f64, AtomicU64>;

/// The handles.
#[derive(Debug)]
pub struct Metrics {
    /// Answers to requests for decisions.
    pub decisions: Grid<Outcome, Option<Reason>>,
    /// From taking a request off the queue to handing over its reply.
    pub decision_duration: Histogram,
    /// Decisions by an old state.
    pub stale_decisions: Counter,
    /// The part of a decision that asks breakers.
    pub breaker_check_duration: Histogram,
    /// Results read from the log; no status where it is senseless.
    pub results: Grid<Option<Status>, Disposition>,
    /// The entry applied last.
    pub log_position: Level,
    /// Entries not applied yet.
    pub log_lag: Level,
    /// The digest over all breaker states: its low 53 bits, which a float holds exactly.
    pub log_digest: Level,
    /// Missing entries met.
    pub log_gaps: Counter,
    /// Rebuilds from the beginning.
    pub log_rebuilds: Counter,
    /// Snapshots of the fold.
    pub snapshots: Counters<Snapshot>,
    /// The version of the fold.
    pub fold_version: Level,
    /// Identities that were forgotten early.
    pub results_forgotten_early: Counter,
    /// Windows of evidence that closed.
    pub rollout_windows_closed: Counter,
    /// See [`metric::ROLLOUT_EVIDENCE_LOST`].
    pub rollout_evidence_lost: Counters<EvidenceLost>,
    /// 0 or 1.
    pub nats_connected: Level,
    /// Connections made anew.
    pub nats_reconnects: Counter,
    /// Messages that a full subscription dropped.
    pub nats_slow_consumer: Counter,
    /// 0 or 1.
    pub nats_trouble: Levels<Trouble>,
    /// Streams, buckets and consumers that were lacking and made again.
    pub nats_remade: Counter,
    /// Windows whose evidence this worker counted otherwise.
    pub rollout_blocks_differ: Counter,
    /// Values in buckets that are no document.
    pub bucket_damage: Counters<Damage>,
    /// Buckets that ended before what the log has seen.
    pub bucket_went_back: Counter,
    /// Messages that could not be published.
    pub nats_publish_failures: Counters<Publish>,
    /// Messages that could not be read.
    pub nats_malformed: Counters<Source>,
    /// Requests whose reply subject is no inbox.
    pub replies_dropped: Counter,
    /// Spans lost; counted by `traces`.
    pub trace_spans_dropped: Counter,
    /// Spans built.
    pub trace_spans_started: Counter,
    /// Work that a full queue refused.
    pub queue_refused: Counters<Queue>,
    /// Policies in use.
    pub policies: Level,
    /// 0 or 1.
    pub ready: Level,
    /// Pushed and not ended.
    pub assignments_in_flight: gauge::Gauge,
    /// How pushed assignments ended.
    pub assignments: Counters<Assignment>,
    /// Acknowledgements of tracked assignments that did not count.
    pub acks_refused: Counters<AckRefused>,
    /// Claims for probes.
    pub claims: Counters<Claim>,
    /// Control requests; no error code is `ok`.
    pub control_requests: Grid<Verb, Option<ErrorCode>>,
    /// Control requests that wait.
    pub control_waiting: Levels<Lane>,
    /// Usage events.
    pub usage_events: Counters<Usage>,
    /// Results metered without the fold's verdict.
    pub usage_unjudged: Counter,
    /// How long the usage stream keeps an event.
    pub usage_retention: Real,
    /// How long it should.
    pub usage_min_retention: Level,
    /// The log's entry up to which all results are metered.
    pub usage_position: Level,
}

impl Metrics {
    /// Counts a decision.
    pub fn decided(&self, reason: Reason) {
        self.decisions.inc(Outcome::Decided, Some(reason));
    }

    /// Counts a request answered with an error.
    pub fn refused(&self, code: ErrorCode) {
        self.decisions.inc(code.into(), None);
    }
}

/// The registry behind `/metrics`.
#[derive(Debug)]
pub struct Exposition {
    registry: Registry,
    metrics: Arc<Metrics>,
    breakers: Option<Breakers>,
    rollouts: Option<Rollouts>,
    /// How long the last page was: the next is about as long.
    length: AtomicUsize,
}

impl Exposition {
    /// Makes all handles and registers them.
    #[must_use]
    pub fn new(version: &'static str) -> Self {
        let mut r = Registration(Registry::default());
        // A gauge and not OpenMetrics' `info`, which readers of the older text format do not know.
        let build = r.add(metric::BUILD_INFO, family::Family::<[(&str, &str); 1], Level>::default());
        build.get_or_create(&[("version", version)]).set(1);
        let metrics = Metrics {
            decisions: r.add(
                metric::DECISIONS,
                Grid::new(("outcome", "reason"), |outcome, reason: Option<Reason>| {
                    (outcome == Outcome::Decided) == reason.is_some()
                }),
            ),
            stale_decisions: r.add(metric::STALE_DECISIONS, Counter::default()),
            decision_duration: r.add(metric::DECISION_DURATION, Histogram::default()),
            breaker_check_duration: r.add(metric::BREAKER_CHECK_DURATION, Histogram::default()),
            results: r.add(
                metric::RESULTS,
                Grid::new(("status", "disposition"), |status: Option<Status>, disposition| {
                    status.is_some() || disposition == Disposition::Rejected
                }),
            ),
            log_position: r.add(metric::LOG_POSITION, Level::default()),
            log_lag: r.add(metric::LOG_LAG, Level::default()),
            log_digest: r.add(metric::LOG_DIGEST, Level::default()),
            log_gaps: r.add(metric::LOG_GAPS, Counter::default()),
            log_rebuilds: r.add(metric::LOG_REBUILDS, Counter::default()),
            snapshots: r.add(metric::SNAPSHOTS, Counters::new("outcome")),
            fold_version: r.add(metric::FOLD_VERSION, Level::default()),
            results_forgotten_early: r.add(metric::RESULTS_FORGOTTEN_EARLY, Counter::default()),
            rollout_windows_closed: r.add(metric::ROLLOUT_WINDOWS_CLOSED, Counter::default()),
            rollout_evidence_lost: r.add(metric::ROLLOUT_EVIDENCE_LOST, Counters::new("of")),
            nats_connected: r.add(metric::NATS_CONNECTED, Level::default()),
            nats_reconnects: r.add(metric::NATS_RECONNECTS, Counter::default()),
            nats_slow_consumer: r.add(metric::NATS_SLOW_CONSUMER, Counter::default()),
            nats_trouble: r.add(metric::NATS_TROUBLE, Levels::new("kind")),
            nats_remade: r.add(metric::NATS_REMADE, Counter::default()),
            rollout_blocks_differ: r.add(metric::ROLLOUT_BLOCKS_DIFFER, Counter::default()),
            bucket_damage: r.add(metric::BUCKET_DAMAGE, Counters::new("outcome")),
            bucket_went_back: r.add(metric::BUCKET_WENT_BACK, Counter::default()),
            nats_publish_failures: r.add(metric::NATS_PUBLISH_FAILURES, Counters::new("kind")),
            nats_malformed: r.add(metric::NATS_MALFORMED, Counters::new("source")),
            replies_dropped: r.add(metric::REPLIES_DROPPED, Counter::default()),
            trace_spans_started: r.add(metric::TRACE_SPANS_STARTED, Counter::default()),
            trace_spans_dropped: r.add(metric::TRACE_SPANS_DROPPED, Counter::default()),
            queue_refused: r.add(metric::QUEUE_REFUSED, Counters::new("queue")),
            policies: r.add(metric::POLICIES, Level::default()),
            ready: r.add(metric::READY, Level::default()),
            assignments_in_flight: r.add(metric::ASSIGNMENTS_IN_FLIGHT, gauge::Gauge::default()),
            assignments: r.add(metric::ASSIGNMENTS, Counters::new("outcome")),
            acks_refused: r.add(metric::ACKS_REFUSED, Counters::new("reason")),
            claims: r.add(metric::CLAIMS, Counters::new("outcome")),
            control_requests: r.add(
                metric::CONTROL_REQUESTS,
                Grid::new(("verb", "outcome"), |_, code: Option<ErrorCode>| code.is_none()),
            ),
            control_waiting: r.add(metric::CONTROL_WAITING, Levels::new("lane")),
            usage_events: r.add(metric::USAGE_EVENTS, Counters::new("outcome")),
            usage_unjudged: r.add(metric::USAGE_UNJUDGED, Counter::default()),
            usage_retention: r.add(metric::USAGE_RETENTION, Real::default()),
            usage_min_retention: r.add(metric::USAGE_MIN_RETENTION, Level::default()),
            usage_position: r.add(metric::USAGE_POSITION, Level::default()),
        };
        metrics.usage_retention.set(f64::NAN);
        Self {
            registry: r.0,
            metrics: Arc::new(metrics),
            breakers: None,
            rollouts: None,
            length: AtomicUsize::new(0),
        }
    }

    /// The handles.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Tells of these breakers too.
    pub fn show_breakers(&mut self, breakers: Breakers) {
        self.breakers = Some(breakers);
    }

    /// Shows these rollouts too.
    pub fn show_rollouts(&mut self, rollouts: Rollouts) {
        self.rollouts = Some(rollouts);
    }

    /// The whole page in OpenMetrics text, with its `# EOF`.
    ///
    /// # Errors
    /// When a metric could not be encoded.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let length = self.length.load(Ordering::Relaxed);
        // Room for what grew since, so that a long page is not copied while it is made.
        let mut page = String::with_capacity(length + length / 16 + 16 * 1024);
        text::encode_registry(&mut page, &self.registry)?;
        if let Some(breakers) = &self.breakers {
            breakers.write(&mut page);
        }
        if let Some(rollouts) = &self.rollouts {
            rollouts.write(&mut page);
        }
        text::encode_eof(&mut page)?;
        self.length.store(page.len(), Ordering::Relaxed);
        Ok(page)
    }
}

struct Registration(Registry);

impl Registration {
    fn add<M>(&mut self, family: Family, handle: M) -> M
    where
        M: EncodeMetric + Clone + fmt::Debug + Send + Sync + 'static,
    {
        let metric = handle.clone();
        match family.unit() {
            Some(unit) => self.0.register_with_unit(family.stem(), family.help, unit, metric),
            None => self.0.register(family.stem(), family.help, metric),
        }
        handle
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::labels::Label;

    fn is_per_thing(family: &Family) -> bool {
        family.name.starts_with("router_circuit_breaker_")
            || *family == metric::HIDDEN_BREAKERS
            || family.is_per_rollout()
    }

    #[test]
    fn a_page_shows_every_family_once_with_its_help() {
        let page = Exposition::new("1.2.3").encode().unwrap();
        for family in metric::ALL.iter().filter(|f| !is_per_thing(f)) {
            let shown = match family.unit() {
                Some(_) => family.name,
                None => family.stem(),
            };
            let help = format!("# HELP {shown} {}.\n", family.help);
            assert_eq!(page.matches(&help).count(), 1, "{help}");
            assert!(page.contains(&format!("\n{}", family.name)), "{} has no series", family.name);
        }
        assert_eq!(page.matches("# HELP ").count(), metric::ALL.iter().filter(|f| !is_per_thing(f)).count());
        assert!(page.contains("router_build_info{version=\"1.2.3\"} 1\n"), "{page}");
        assert!(page.ends_with("# EOF\n"));
    }

    #[test]
    fn a_count_shows_where_it_was_made() {
        let exposition = Exposition::new("0");
        let m = exposition.metrics();
        m.decided(Reason::CircuitBreakerFallback);
        m.refused(ErrorCode::CircuitOpen);
        m.refused(ErrorCode::CircuitOpen);
        m.results.inc(Some(Status::Timeout), Disposition::Late);
        m.results.inc(None, Disposition::Rejected);
        m.queue_refused.add(Queue::Events, 3);
        m.control_requests.inc(Verb::PolicyPut, Some(ErrorCode::Conflict));
        m.log_digest.set((1 << 53) - 1);
        m.assignments_in_flight.inc();
        m.claims.inc(Claim::TimedOut);
        m.decision_duration.observe_nanos(1_500_000);
        let page = exposition.encode().unwrap();
        for line in [
            "router_decisions_total{outcome=\"decided\",reason=\"circuit_breaker_fallback\"} 1",
            "router_decisions_total{outcome=\"circuit_open\",reason=\"none\"} 2",
            "router_decisions_total{outcome=\"overloaded\",reason=\"none\"} 0",
            "router_results_total{status=\"timeout\",disposition=\"late\"} 1",
            "router_results_total{status=\"invalid\",disposition=\"rejected\"} 1",
            "router_queue_refused_total{queue=\"events\"} 3",
            "router_control_requests_total{verb=\"policy.put\",outcome=\"conflict\"} 1",
            "router_control_requests_total{verb=\"policy.put\",outcome=\"ok\"} 0",
            "router_log_state_digest 9007199254740991",
            "router_assignments_in_flight 1",
            "router_claims_total{outcome=\"timed_out\"} 1",
            "router_decision_duration_seconds_sum 0.0015",
            "router_decision_duration_seconds_count 1",
        ] {
            assert_eq!(page.lines().filter(|l| *l == line).count(), 1, "{line}\n{page}");
        }
    }

    #[test]
    fn what_cannot_come_about_is_shown_only_once_it_has() {
        let exposition = Exposition::new("0");
        let impossible = "router_decisions_total{outcome=\"decided\",reason=\"none\"}";
        assert!(!exposition.encode().unwrap().contains(impossible));
        exposition.metrics().decisions.inc(Outcome::Decided, None);
        assert!(exposition.encode().unwrap().contains(impossible));
        assert_eq!(exposition.metrics().decisions.get(Outcome::Decided, None), 1);
        assert!(Outcome::ALL.len() > 1);
    }
}
