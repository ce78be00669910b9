//! What is amiss, by this worker's own state.
//!
//! The names, thresholds and waiting times are those of `deploy/prometheus/rules.yml`, as far as one
//! worker can tell. How long a circuit has not been closed is known from its history. How long another
//! condition has held is known only since somebody looks: until it has held for its waiting time it is
//! told as pending. The burn rates of the objectives need days of memory and are left to Prometheus.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::Serialize;

use super::hub::{Refusals, Sample};
use super::recent::{Recent, at, text};
use crate::breaker::State;
use crate::http::{Overview, Row};

const MINUTE_MS: u64 = 60_000;
/// A circuit that did not move for this long, and refuses nobody, is nobody's concern.
const STALE_MS: u64 = 60 * MINUTE_MS;
/// A refusal is recent for so long.
const REFUSING_MS: u64 = 5 * MINUTE_MS;
/// What goes back and forth is counted over this.
const REPEATED_MS: u64 = 15 * MINUTE_MS;
const REPEATED: usize = 3;
/// Fewer results in the window make no rate.
const RATE_REQUESTS: u32 = 10;
/// Answers to fewer requests make no ratio; one worker sees less than all.
const RATIO_REQUESTS: u64 = 10;
const LAG: u64 = 10_000;

/// One alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Alert {
    /// That of the rule.
    name: &'static str,
    severity: &'static str,
    /// `pending` until it has held for as long as the rule waits, then `firing`.
    status: &'static str,
    tenant_id: Option<String>,
    provider_id: Option<String>,
    /// Since when the condition holds, as far as this worker knows.
    since: u64,
    summary: String,
}

/// What is judged.
pub(super) struct Seen<'s> {
    pub(super) rows: &'s [Row],
    pub(super) overview: &'s Overview,
    pub(super) recent: &'s Recent,
    pub(super) samples: &'s VecDeque<Sample>,
    pub(super) refused_at: &'s Refusals,
    pub(super) tick: u64,
}

/// Since when the conditions hold that no history tells of, by alert, tenant and provider.
pub(super) type Began = HashMap<(&'static str, String, String), u64>;

/// A condition that holds.
struct Held<'s> {
    name: &'static str,
    severity: &'static str,
    tenant_id: &'s str,
    provider_id: &'s str,
    /// Known from history; else noted when it is first seen.
    since: Option<u64>,
    for_ms: u64,
    summary: String,
}

/// All that is amiss: what fires first, then by severity, then the oldest first.
pub(super) fn judge(seen: &Seen<'_>, began: &mut Began) -> Vec<Alert> {
    let now = seen.overview.now;
    let mut held = Vec::new();
    circuits(seen, &mut held);
    repeated(seen, &mut held);
    rates(seen, &mut held);
    worker(seen, &mut held);
    let key = |h: &Held<'_>| (h.name, h.tenant_id.to_owned(), h.provider_id.to_owned());
    let before = std::mem::take(began);
    let mut alerts: Vec<Alert> = held
        .iter()
        .map(|h| {
            let since = h.since.unwrap_or_else(|| *before.get(&key(h)).unwrap_or(&now));
            if h.since.is_none() {
                began.insert(key(h), since);
            }
            let id = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Alert {
                name: h.name,
                severity: h.severity,
                status: if now.saturating_sub(since) >= h.for_ms { "firing" } else { "pending" },
                tenant_id: id(h.tenant_id),
                provider_id: id(h.provider_id),
                since,
                summary: h.summary.clone(),
            }
        })
        .collect();
    let rank = |a: &Alert| (a.status == "pending", a.severity != "critical", a.since);
    alerts.sort_by(|a, b| {
        rank(a)
            .cmp(&rank(b))
            .then_with(|| (a.name, &a.tenant_id, &a.provider_id).cmp(&(b.name, &b.tenant_id, &b.provider_id)))
    });
    alerts
}

/// Circuits that are not closed.
fn circuits<'s>(seen: &Seen<'s>, held: &mut Vec<Held<'s>>) {
    let now = seen.overview.now;
    // When each circuit last left closed.
    let mut left: HashMap<(&str, &str), u64> = HashMap::new();
    for event in seen.recent.iter().filter(|e| text(e, "from") == "closed" && text(e, "to") != "closed") {
        left.insert((text(event, "tenant_id"), text(event, "provider_id")), at(event));
    }
    let mut failing: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for row in seen.rows.iter().filter(|row| row.state != State::Closed) {
        let (tenant_id, provider_id) = row.key();
        let since = left.get(&row.key()).copied().unwrap_or(row.since).min(row.since);
        let refusing = seen
            .refused_at
            .get(&(row.tenant_id.clone(), row.provider_id.clone()))
            .is_some_and(|at| seen.tick.saturating_sub(*at) < REFUSING_MS);
        if refusing || now.saturating_sub(row.since) < STALE_MS {
            failing.entry(tenant_id).or_default().push(since);
            held.push(Held {
                name: "RouterCircuitBreakerOpened",
                severity: "warning",
                tenant_id,
                provider_id,
                since: Some(since),
                for_ms: 2 * MINUTE_MS,
                summary: format!("The circuit of {provider_id} is open for {tenant_id}"),
            });
        }
        if refusing && now.saturating_sub(since) >= 15 * MINUTE_MS {
            held.push(Held {
                name: "RouterCircuitBreakerOpenTooLong",
                severity: "critical",
                tenant_id,
                provider_id,
                since: Some(since),
                for_ms: 15 * MINUTE_MS,
                summary: format!("{provider_id} has been out for {tenant_id} for 15 minutes"),
            });
        }
    }
    for (tenant_id, mut since) in failing.into_iter().filter(|(_, since)| since.len() >= 2) {
        since.sort_unstable();
        held.push(Held {
            name: "RouterCircuitBreakerMultipleProvidersOpen",
            severity: "critical",
            tenant_id,
            provider_id: "",
            since: since.get(1).copied(),
            for_ms: MINUTE_MS,
            summary: format!("{} providers are out for {tenant_id}", since.len()),
        });
    }
}

/// What goes back and forth.
fn repeated<'s>(seen: &Seen<'s>, held: &mut Vec<Held<'s>>) {
    // Of its own openings only, by their reason: what an operator forces is neither.
    type Kind = (&'static str, fn(&str) -> bool, &'static str);
    const KINDS: [Kind; 2] = [
        (
            "RouterCircuitBreakerHalfOpenProbesFailed",
            |reason| reason == "half_open_failure",
            "its probes failed",
        ),
        ("RouterCircuitBreakerFlapping", |reason| reason.ends_with("_threshold_exceeded"), "it opened"),
    ];
    let from = seen.overview.now.saturating_sub(REPEATED_MS);
    let mut times: BTreeMap<(usize, &str, &str), Vec<u64>> = BTreeMap::new();
    for event in seen.recent.iter().filter(|e| text(e, "to") == "open" && at(e) >= from) {
        if let Some(kind) = KINDS.iter().position(|(_, counts, _)| counts(text(event, "reason"))) {
            let key = (kind, text(event, "tenant_id"), text(event, "provider_id"));
            times.entry(key).or_default().push(at(event));
        }
    }
    for ((kind, tenant_id, provider_id), times) in times {
        let (Some((name, _, what)), Some(third)) = (KINDS.get(kind), times.get(REPEATED - 1)) else {
            continue;
        };
        held.push(Held {
            name,
            severity: "warning",
            tenant_id,
            provider_id,
            since: Some(*third),
            for_ms: 0,
            summary: format!(
                "The circuit of {provider_id} for {tenant_id}: {what} {} times in 15 minutes",
                times.len()
            ),
        });
    }
}

/// Failures that do not open a circuit, and requests that nobody may take.
fn rates<'s>(seen: &Seen<'s>, held: &mut Vec<Held<'s>>) {
    for row in seen.rows.iter().filter(|row| row.window_requests >= RATE_REQUESTS && row.enabled) {
        if row.error_rate >= 0.5 * row.error_rate_threshold {
            let (tenant_id, provider_id) = row.key();
            held.push(Held {
                name: "RouterCircuitBreakerHighFailureRate",
                severity: "warning",
                tenant_id,
                provider_id,
                since: None,
                for_ms: 5 * MINUTE_MS,
                summary: format!(
                    "{provider_id} fails {:.0} % of {tenant_id}'s calls",
                    row.error_rate * 100.0
                ),
            });
        }
    }
    if let (Some(first), Some(last)) = (seen.samples.front(), seen.samples.back()) {
        let total = last.decisions.total.saturating_sub(first.decisions.total);
        let refused = last.decisions.circuit_open.saturating_sub(first.decisions.circuit_open);
        if total >= RATIO_REQUESTS && refused.saturating_mul(10) > total {
            held.push(Held {
                name: "RouterFailFastRatioHigh",
                severity: "critical",
                tenant_id: "",
                provider_id: "",
                since: None,
                for_ms: 5 * MINUTE_MS,
                summary: format!("{} % of all requests to this worker are refused", refused * 100 / total),
            });
        }
    }
}

/// The worker itself.
fn worker(seen: &Seen<'_>, held: &mut Vec<Held<'_>>) {
    let mut own = |name, severity, for_ms, summary: String| {
        held.push(Held { name, severity, tenant_id: "", provider_id: "", since: None, for_ms, summary });
    };
    let overview = seen.overview;
    if !overview.nats.connected {
        let summary = "This worker has no connection to NATS".to_owned();
        own("RouterNatsConnectionLost", "critical", MINUTE_MS / 2, summary);
    }
    if !overview.troubles.is_empty() {
        let troubles: Vec<_> =
            overview.troubles.iter().map(|(kind, error)| format!("{kind}: {error}")).collect();
        let summary = format!("The router's streams are in trouble ({})", troubles.join("; "));
        own("RouterNatsTrouble", "critical", 2 * MINUTE_MS, summary);
    }
    if overview.log.lag > LAG {
        let summary = format!("This worker is {} entries behind the log", overview.log.lag);
        own("RouterLogLag", "warning", MINUTE_MS, summary);
    }
    let dropped_before = seen.samples.front().map_or(overview.nats.slow_consumer, |s| s.slow_consumer);
    if overview.nats.slow_consumer > dropped_before {
        own("RouterSlowConsumer", "warning", 0, "This worker dropped messages".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::http::Decisions;
    use crate::http::tests::row;

    const NOW: u64 = 1_700_000_000_000;

    struct Stage {
        rows: Vec<Row>,
        overview: Overview,
        recent: Recent,
        samples: VecDeque<Sample>,
        refused_at: Refusals,
        began: Began,
        tick: u64,
    }

    impl Stage {
        fn new() -> Self {
            let mut overview = Overview { now: NOW, ..Overview::default() };
            overview.nats.connected = true;
            Self {
                rows: Vec::new(),
                overview,
                recent: Recent::default(),
                samples: VecDeque::new(),
                refused_at: Refusals::new(),
                began: Began::new(),
                tick: 10_000_000,
            }
        }

        fn open(&mut self, provider_id: &str, since: u64) {
            let open = Row { state: State::Open, since, ..row("acme", provider_id) };
            self.refused_at.remove(&(open.tenant_id.clone(), open.provider_id.clone()));
            self.rows.push(open);
        }

        fn refuse(&mut self, provider_id: &str, ago: u64) {
            let row = row("acme", provider_id);
            self.refused_at.insert((row.tenant_id, row.provider_id), self.tick - ago);
        }

        fn moved(&mut self, from: &str, to: &str, reason: &str, ago: u64) {
            let id = format!("{from}{to}{ago}");
            self.recent.load([moved(&id, from, to, reason, self.overview.now - ago)], true);
        }

        fn pass(&mut self, ms: u64) {
            self.overview.now += ms;
            self.tick += ms;
        }

        /// Name without its beginning, and status.
        fn judged(&mut self) -> Vec<(String, &'static str)> {
            let seen = Seen {
                rows: &self.rows,
                overview: &self.overview,
                recent: &self.recent,
                samples: &self.samples,
                refused_at: &self.refused_at,
                tick: self.tick,
            };
            let short = |name: &str| name.replace("RouterCircuitBreaker", "").replace("Router", "");
            judge(&seen, &mut self.began).iter().map(|a| (short(a.name), a.status)).collect()
        }
    }

    fn moved(id: &str, from: &str, to: &str, reason: &str, at: u64) -> Value {
        json!({"kind": "breaker", "id": id, "tenant_id": "acme", "provider_id": "a", "from": from, "to": to,
               "reason": reason, "timestamp": at})
    }

    fn told(name: &str, status: &'static str) -> (String, &'static str) {
        (name.to_owned(), status)
    }

    #[test]
    fn a_worker_that_is_well_has_no_alerts() {
        let mut stage = Stage::new();
        stage.rows.push(row("acme", "a"));
        assert_eq!(stage.judged(), []);
    }

    #[test]
    fn a_circuit_counts_from_when_it_left_closed_whatever_probes_did_since() {
        let mut stage = Stage::new();
        stage.open("a", NOW - 30_000);
        assert_eq!(stage.judged(), [told("Opened", "pending")]);
        stage.moved("closed", "open", "failure_threshold_exceeded", 130_000);
        stage.moved("open", "half_open", "timeout_elapsed", 31_000);
        assert_eq!(stage.judged(), [told("Opened", "firing")]);
    }

    #[test]
    fn an_idle_tenants_circuit_is_nobodys_concern_until_somebody_asks() {
        let mut stage = Stage::new();
        stage.open("a", NOW - 2 * STALE_MS);
        assert_eq!(stage.judged(), []);
        stage.refuse("a", 1_000);
        assert_eq!(stage.judged(), [told("OpenTooLong", "firing"), told("Opened", "firing")]);
        stage.pass(REFUSING_MS);
        assert_eq!(stage.judged(), []);
    }

    #[test]
    fn two_providers_out_are_worse_than_each() {
        let mut stage = Stage::new();
        stage.open("a", NOW - 300_000);
        stage.open("b", NOW - 59_000);
        let names: Vec<_> = stage.judged();
        assert_eq!(names[0], told("Opened", "firing"));
        assert_eq!(names[1], told("MultipleProvidersOpen", "pending"));
        stage.pass(1_000);
        assert_eq!(stage.judged()[0], told("MultipleProvidersOpen", "firing"));
    }

    #[test]
    fn three_openings_within_a_quarter_of_an_hour_are_a_pattern() {
        for (from, reason, name) in [
            ("closed", "failure_threshold_exceeded", "Flapping"),
            ("closed", "latency_threshold_exceeded", "Flapping"),
            ("half_open", "half_open_failure", "HalfOpenProbesFailed"),
        ] {
            let mut stage = Stage::new();
            stage.rows.push(row("acme", "a"));
            stage.moved(from, "open", reason, REPEATED_MS + 1);
            stage.moved(from, "open", reason, 500_000);
            stage.moved(from, "open", reason, 400_000);
            // What an operator does meanwhile counts as neither.
            for ago in [450_000, 300_000, 200_000] {
                stage.moved("closed", "open", "forced", ago);
                stage.moved("half_open", "open", "forced", ago - 1);
            }
            assert_eq!(stage.judged(), [], "{from}");
            stage.moved(from, "open", reason, 1_000);
            assert_eq!(stage.judged(), [told(name, "firing")]);
            stage.pass(REPEATED_MS - 400_000);
            assert_eq!(stage.judged(), [], "{from}");
        }
    }

    #[test]
    fn trouble_with_the_streams_is_told_once_it_lasts() {
        let mut stage = Stage::new();
        stage.overview.troubles = [("full", "BEAMLINE_LOG holds 4 GiB".to_owned())].into();
        assert_eq!(stage.judged(), [told("NatsTrouble", "pending")]);
        stage.pass(2 * MINUTE_MS);
        assert_eq!(stage.judged(), [told("NatsTrouble", "firing")]);
        stage.overview.troubles.clear();
        assert_eq!(stage.judged(), []);
    }

    #[test]
    fn what_no_history_tells_waits_from_the_first_look() {
        let mut stage = Stage::new();
        let busy = Row { error_rate: 0.25, window_requests: 10, ..row("acme", "a") };
        stage.rows.push(busy);
        assert_eq!(stage.judged(), [told("HighFailureRate", "pending")]);
        stage.pass(299_000);
        assert_eq!(stage.judged(), [told("HighFailureRate", "pending")]);
        stage.pass(1_000);
        assert_eq!(stage.judged(), [told("HighFailureRate", "firing")]);
        stage.rows[0].error_rate = 0.24;
        assert_eq!(stage.judged(), []);
        stage.rows[0].error_rate = 0.9;
        assert_eq!(stage.judged(), [told("HighFailureRate", "pending")], "it begins anew");
        stage.rows[0].window_requests = 9;
        assert_eq!(stage.judged(), [], "too few");
    }

    #[test]
    fn the_worker_tells_of_itself() {
        let mut stage = Stage::new();
        let sample = |tick, total, circuit_open, slow_consumer| {
            let decisions = Decisions { total, circuit_open, ..Decisions::default() };
            Sample { tick, decisions, fail_fast: 0, slow_consumer }
        };
        stage.samples = [sample(1, 100, 0, 4), sample(2, 200, 10, 4)].into();
        stage.overview.nats.slow_consumer = 4;
        assert_eq!(stage.judged(), [], "a tenth is not above a tenth");
        stage.samples[1].decisions.circuit_open = 11;
        stage.overview.nats.slow_consumer = 5;
        stage.overview.nats.connected = false;
        stage.overview.log.lag = LAG + 1;
        stage.judged();
        stage.pass(5 * MINUTE_MS);
        assert_eq!(
            stage.judged(),
            [
                told("FailFastRatioHigh", "firing"),
                told("NatsConnectionLost", "firing"),
                told("LogLag", "firing"),
                told("SlowConsumer", "firing")
            ]
        );
    }
}
