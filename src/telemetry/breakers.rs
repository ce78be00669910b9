//! The metrics of breakers, read off the breakers themselves when a scrape comes.
//!
//! Nothing is kept for a breaker between scrapes, so a series goes when its breaker goes, and a gauge
//! is never older than the page: the window's sums and the remaining time are those of the broker's
//! time at the scrape, whether or not anything happened since the last entry.
//!
//! A scrape takes each breaker's lock once, for a copy of some hundred bytes, and writes from the
//! copies: the fold waits for none of the writing, and all that one page says of one breaker is of
//! one moment. Between two breakers the log may have moved on. A decision takes none of these locks.
//!
//! A counter's series stands from the breaker's first scrape on, at zero, so that a rate over its
//! first increment is true. The one transition that no breaker makes is shown only if one did.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::names::{Family, metric};
use super::page::{Kind, Page, own, owner};
use crate::breaker::{State as Shown, View};
use crate::domain::Stamp;
use crate::state::{Cell, Counters, State, TRIGGERS};

/// Breakers beyond this many, in the order of their ids, are not shown. Each has at most 29 series, so
/// this is some 280,000 and a page of 30 MB: as much as a Prometheus should be given by one target.
pub const SHOWN_AT_MOST: usize = 10_000;

/// Tells the broker's time.
pub type Now = Arc<dyn Fn() -> Stamp + Send + Sync>;

/// See the module.
pub struct Breakers {
    state: Arc<State>,
    now: Now,
    at_most: usize,
    labels: Labels,
}

/// The labels of each family, written out.
struct Labels {
    events: [String; 7],
    /// Each with its place in a breaker's table of transitions, and whether it is shown at zero.
    transitions: Vec<(Shown, Shown, bool, String)>,
    states: [String; 3],
    /// The one transition whose cause is that a time ran out.
    timeout: String,
    reasons: [String; TRIGGERS.len()],
}

impl Labels {
    fn new() -> Self {
        let events = ["success", "failure", "fail_fast", "would_reject", "ignored", "late", "duplicate"];
        let pairs = Shown::ALL.into_iter().flat_map(|from| Shown::ALL.into_iter().map(move |to| (from, to)));
        let transitions = pairs.filter(|(from, to)| from != to).map(|(from, to)| {
            let at_zero = (from, to) != (Shown::Closed, Shown::HalfOpen);
            let labels = [("from", from.as_str()), ("to", to.as_str()), ("state", to.as_str())];
            (from, to, at_zero, own(&labels))
        });
        Self {
            events: events.map(|event| own(&[("event_type", event)])),
            transitions: transitions.collect(),
            states: Shown::ALL.map(|state| own(&[("state", state.as_str())])),
            timeout: own(&[("transition_type", "open_to_half_open")]),
            reasons: TRIGGERS.map(|cause| own(&[("reason", cause.as_str())])),
        }
    }
}

impl Breakers {
    /// Reads these breakers at each scrape, as of the broker's time that `now` then tells.
    #[must_use]
    pub fn new(state: Arc<State>, now: Now) -> Self {
        Self { state, now, at_most: SHOWN_AT_MOST, labels: Labels::new() }
    }

    /// What each breaker shows, by tenant and provider, and how many are left out.
    fn rows(&self) -> (Vec<Row>, u64) {
        let now = (self.now)();
        let (mut rows, mut hidden) = (Vec::new(), 0);
        for tenant_id in self.state.tenants() {
            for cell in self.state.breakers_of(tenant_id.as_str()) {
                if rows.len() < self.at_most {
                    rows.push(Row::read(&cell, now));
                } else {
                    hidden += 1;
                }
            }
        }
        (rows, hidden)
    }

    /// Writes all families of breakers.
    pub(super) fn write(&self, text: &mut String) {
        use metric as m;
        let (rows, hidden) = self.rows();
        let labels = &self.labels;
        let mut page = Families { page: Page::new(text), rows: &rows };
        page.counters(m::BREAKER_EVENTS, |row, page| {
            for (own, n) in labels.events.iter().zip(row.events()) {
                page.whole(&row.owner, own, n);
            }
        });
        page.counters(m::BREAKER_TRANSITIONS, |row, page| {
            for (from, to, at_zero, own) in &labels.transitions {
                let n = row.counters.transitioned(*from, *to);
                if n > 0 || *at_zero {
                    page.whole(&row.owner, own, u64::from(n));
                }
            }
        });
        page.gauges(m::BREAKER_STATE, |row, page| {
            for (own, state) in labels.states.iter().zip(Shown::ALL) {
                page.whole(&row.owner, own, u64::from(state == row.view.state));
            }
        });
        page.gauges(m::BREAKER_ERROR_RATE, |row, page| {
            page.real(&row.owner, "", row.view.window.error_rate().as_f64());
        });
        page.gauges(m::BREAKER_ERROR_RATE_THRESHOLD, |row, page| {
            page.real(&row.owner, "", row.error_rate_threshold);
        });
        page.gauges(m::BREAKER_WINDOW_REQUESTS, |row, page| {
            page.whole(&row.owner, "", u64::from(row.view.window.requests));
        });
        page.gauges(m::BREAKER_WINDOW_FAILURES, |row, page| {
            page.whole(&row.owner, "", u64::from(row.view.window.failures));
        });
        page.counters(m::BREAKER_TIMEOUT_TRANSITIONS, |row, page| {
            page.whole(&row.owner, &labels.timeout, u64::from(row.counters.timeouts()));
        });
        page.gauges(m::BREAKER_TIMEOUT_REMAINING, |row, page| {
            if let Some(ms) = row.view.remaining_ms {
                page.real(&row.owner, "", seconds(ms));
            }
        });
        page.gauges(m::BREAKER_LAST_TRANSITION, |row, page| {
            if let Some(at) = row.view.last_transition {
                page.real(&row.owner, "", seconds(at.0));
            }
        });
        page.counters(m::BREAKER_TRIGGER_REASON, |row, page| {
            for (own, cause) in labels.reasons.iter().zip(TRIGGERS) {
                page.whole(&row.owner, own, u64::from(row.counters.triggered(cause)));
            }
        });
        page.counters(m::BREAKER_REQUESTS_SAVED, |row, page| page.real(&row.owner, "", row.saved));
        page.page.family(m::HIDDEN_BREAKERS, Kind::Gauge);
        page.page.alone(hidden);
    }
}

impl fmt::Debug for Breakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breakers").field("at_most", &self.at_most).finish_non_exhaustive()
    }
}

/// What one scrape tells of one breaker.
struct Row {
    owner: String,
    view: View,
    error_rate_threshold: f64,
    counters: Counters,
    fail_fast: u64,
    would_reject: u64,
    saved: f64,
}

impl Row {
    fn read(cell: &Cell, now: Stamp) -> Self {
        let (view, threshold, counters) = {
            let guarded = cell.lock();
            let breaker = &guarded.breaker;
            (breaker.view(now), breaker.settings().error_rate(), guarded.counters)
        };
        let (fail_fast, would_reject, saved) = cell.refusals();
        let owner = owner(cell.tenant_id.as_str(), cell.provider_id.as_str());
        let error_rate_threshold = threshold.as_f64();
        Self { owner, view, error_rate_threshold, counters, fail_fast, would_reject, saved }
    }

    fn events(&self) -> [u64; 7] {
        let c = &self.counters;
        [c.success, c.failure, self.fail_fast, self.would_reject, c.ignored, c.late, c.duplicate]
    }
}

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

/// Writes family after family, each over all breakers.
struct Families<'p> {
    page: Page<'p>,
    rows: &'p [Row],
}

impl Families<'_> {
    fn counters(&mut self, family: Family, tell: impl Fn(&Row, &mut Page<'_>)) {
        self.family(family, Kind::Counter, tell);
    }

    fn gauges(&mut self, family: Family, tell: impl Fn(&Row, &mut Page<'_>)) {
        self.family(family, Kind::Gauge, tell);
    }

    fn family(&mut self, family: Family, kind: Kind, tell: impl Fn(&Row, &mut Page<'_>)) {
        self.page.family(family, kind);
        for row in self.rows {
            tell(row, &mut self.page);
        }
    }
}

#[cfg(test)]
mod tests;
