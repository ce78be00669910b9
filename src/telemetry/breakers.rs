//! The metrics of breakers, read off the breakers themselves when a scrape comes.
//!
//! Nothing is kept for a breaker between scrapes, so a series goes when its breaker goes, and a gauge
//! is never older than the page: the window's sums and the remaining time are those of the broker's
//! time at the scrape, whether or not anything happened since the last entry.
//!
//! A scrape takes each breaker's lock once, for a copy of some hundred bytes, and encodes from the
//! copies: the fold waits for none of the encoding, and all that one page says of one breaker is of
//! one moment. Between two breakers the log may have moved on.
//!
//! A counter's series stands from the breaker's first scrape on, at zero, so that a rate over its
//! first increment is true. The one transition that no breaker makes is shown only if one did.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;

use super::names::{Family, metric};
use crate::breaker::{Cause, State as Shown, View};
use crate::domain::Stamp;
use crate::state::{Cell, Counters, State};

/// Breakers beyond this many, in the order of their ids, are not shown. Each takes about 25 series, so
/// this is a quarter of a million and a page of 30 MB: as much as a Prometheus should be given by one
/// target.
const SHOWN_AT_MOST: usize = 10_000;

/// What `router_circuit_breaker_trigger_reason_total` tells of.
const REASONS: [Cause; 5] = [
    Cause::FailureThresholdExceeded,
    Cause::ErrorRateThresholdExceeded,
    Cause::LatencyThresholdExceeded,
    Cause::HalfOpenFailure,
    Cause::Forced,
];

/// Tells the broker's time.
pub type Now = Arc<dyn Fn() -> Stamp + Send + Sync>;

/// See the module.
pub struct Breakers {
    state: Arc<State>,
    now: Now,
    at_most: usize,
}

impl Breakers {
    /// Reads these breakers at each scrape, as of the broker's time that `now` then tells.
    #[must_use]
    pub fn new(state: Arc<State>, now: Now) -> Self {
        Self { state, now, at_most: SHOWN_AT_MOST }
    }

    /// What each breaker shows, by tenant and provider, and how many are left out.
    fn rows(&self) -> (Vec<Row>, usize) {
        let mut cells = Vec::with_capacity(self.state.breaker_count());
        self.state.for_each_breaker(|cell| cells.push(Arc::clone(cell)));
        cells.sort_unstable_by(|a, b| {
            a.tenant_id.cmp(&b.tenant_id).then_with(|| a.provider_id.cmp(&b.provider_id))
        });
        let hidden = cells.len().saturating_sub(self.at_most);
        cells.truncate(self.at_most);
        let now = (self.now)();
        (cells.into_iter().map(|cell| Row::read(cell, now)).collect(), hidden)
    }
}

impl fmt::Debug for Breakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breakers").field("at_most", &self.at_most).finish_non_exhaustive()
    }
}

impl Collector for Breakers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        use metric as m;
        let (rows, hidden) = self.rows();
        let mut page = Page { encoder: &mut encoder, rows: &rows };
        page.counters(m::BREAKER_EVENTS, |row, series| {
            row.events().into_iter().try_for_each(|(event, n)| series.counter(&[("event_type", event)], &n))
        })?;
        page.counters(m::BREAKER_TRANSITIONS, |row, series| {
            row.transitions().try_for_each(|(from, to, n)| {
                let (from, to) = (from.as_str(), to.as_str());
                series.counter(&[("from", from), ("to", to), ("state", to)], &u64::from(n))
            })
        })?;
        page.gauges(m::BREAKER_STATE, |row, series| {
            Shown::ALL
                .into_iter()
                .try_for_each(|s| series.gauge(&[("state", s.as_str())], &u64::from(s == row.view.state)))
        })?;
        page.gauges(m::BREAKER_ERROR_RATE, |row, series| {
            series.gauge(&[], &row.view.window.error_rate().as_f64())
        })?;
        page.gauges(m::BREAKER_WINDOW_REQUESTS, |row, series| {
            series.gauge(&[], &u64::from(row.view.window.requests))
        })?;
        page.gauges(m::BREAKER_WINDOW_FAILURES, |row, series| {
            series.gauge(&[], &u64::from(row.view.window.failures))
        })?;
        page.counters(m::BREAKER_TIMEOUT_TRANSITIONS, |row, series| {
            // The one transition whose cause is that a time ran out.
            series.counter(&[("transition_type", "open_to_half_open")], &u64::from(row.counters.timeouts()))
        })?;
        page.gauges(m::BREAKER_TIMEOUT_REMAINING, |row, series| match row.view.remaining_ms {
            Some(ms) => series.gauge(&[], &seconds(ms)),
            None => Ok(()),
        })?;
        page.gauges(m::BREAKER_LAST_TRANSITION, |row, series| match row.view.last_transition {
            Some(at) => series.gauge(&[], &seconds(at.0)),
            None => Ok(()),
        })?;
        page.counters(m::BREAKER_TRIGGER_REASON, |row, series| {
            row.reasons().try_for_each(|(why, n)| series.counter(&[("reason", why.as_str())], &u64::from(n)))
        })?;
        page.counters(m::BREAKER_REQUESTS_SAVED, |row, series| series.counter(&[], &row.saved))?;
        m::HIDDEN_BREAKERS.encode_with(&mut encoder, MetricType::Gauge, |mut series| {
            series.encode_gauge(&u64::try_from(hidden).unwrap_or(u64::MAX))
        })
    }
}

/// What one scrape tells of one breaker.
struct Row {
    cell: Arc<Cell>,
    view: View,
    counters: Counters,
    fail_fast: u64,
    would_reject: u64,
    saved: f64,
}

impl Row {
    fn read(cell: Arc<Cell>, now: Stamp) -> Self {
        let (view, counters) = {
            let guarded = cell.lock();
            (guarded.breaker.view(now), guarded.counters)
        };
        let (fail_fast, would_reject, saved) = cell.refusals();
        Self { cell, view, counters, fail_fast, would_reject, saved }
    }

    fn events(&self) -> [(&'static str, u64); 7] {
        let c = &self.counters;
        [
            ("success", c.success),
            ("failure", c.failure),
            ("fail_fast", self.fail_fast),
            ("would_reject", self.would_reject),
            ("ignored", c.ignored),
            ("late", c.late),
            ("duplicate", c.duplicate),
        ]
    }

    fn transitions(&self) -> impl Iterator<Item = (Shown, Shown, u32)> + '_ {
        let pairs = Shown::ALL.into_iter().flat_map(|from| Shown::ALL.into_iter().map(move |to| (from, to)));
        pairs.filter(|(from, to)| from != to).filter_map(|(from, to)| {
            let n =
                self.counters.transitions().find(|(f, t, _)| (*f, *t) == (from, to)).map_or(0, |(.., n)| n);
            (n > 0 || (from, to) != (Shown::Closed, Shown::HalfOpen)).then_some((from, to, n))
        })
    }

    fn reasons(&self) -> impl Iterator<Item = (Cause, u32)> + '_ {
        REASONS
            .into_iter()
            .map(|cause| (cause, self.counters.triggers().find(|(c, _)| *c == cause).map_or(0, |(_, n)| n)))
    }
}

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

/// Writes family after family, each over all breakers.
struct Page<'p, 'e> {
    encoder: &'p mut DescriptorEncoder<'e>,
    rows: &'p [Row],
}

impl Page<'_, '_> {
    fn counters(
        &mut self,
        family: Family,
        tell: impl Fn(&Row, &mut Series<'_, '_>) -> fmt::Result,
    ) -> fmt::Result {
        self.family(family, MetricType::Counter, tell)
    }

    fn gauges(
        &mut self,
        family: Family,
        tell: impl Fn(&Row, &mut Series<'_, '_>) -> fmt::Result,
    ) -> fmt::Result {
        self.family(family, MetricType::Gauge, tell)
    }

    fn family(
        &mut self,
        family: Family,
        kind: MetricType,
        tell: impl Fn(&Row, &mut Series<'_, '_>) -> fmt::Result,
    ) -> fmt::Result {
        family.encode_with(self.encoder, kind, |mut encoder| {
            self.rows.iter().try_for_each(|row| tell(row, &mut Series { encoder: &mut encoder, row }))
        })
    }
}

/// Writes one breaker's series of one family.
struct Series<'s, 'e> {
    encoder: &'s mut MetricEncoder<'e>,
    row: &'s Row,
}

impl<'s> Series<'s, '_> {
    fn counter(&mut self, labels: &[(&str, &str)], value: &impl EncodeCounterValue) -> fmt::Result {
        let labels = (self.owner(), labels);
        self.encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(value, None)
    }

    fn gauge(&mut self, labels: &[(&str, &str)], value: &impl EncodeGaugeValue) -> fmt::Result {
        let labels = (self.owner(), labels);
        self.encoder.encode_family(&labels)?.encode_gauge(value)
    }

    fn owner(&self) -> [(&'static str, &'s str); 2] {
        let cell = &self.row.cell;
        [("tenant_id", cell.tenant_id.as_str()), ("provider_id", cell.provider_id.as_str())]
    }
}

#[cfg(test)]
mod tests;
