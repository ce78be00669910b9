//! What the demo has seen: one owner of all counts, fed by the tasks that ask, answer and listen.
//!
//! Nothing here reads a clock: each thing seen comes with the time since the traffic began. All of it
//! is bounded, however long the demo runs.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Deserialize;

use super::latencies::Latencies;
use super::tally::{Ending, Tally};
use super::tenants::{PROVIDERS, Tenant, cells};
use crate::breaker::State;

/// Transitions kept: some hours of them.
const TRANSITIONS: usize = 4_096;

/// Ids of events remembered: workers tell an event within moments of each other.
const EVENT_IDS: usize = 256;

/// The grain of what is shown as a rate
const SLICE_MS: u128 = 250;

/// and how many of them make up "now": two seconds.
const SLICES: u128 = 8;

/// Something seen.
#[derive(Debug)]
pub(super) enum Seen {
    /// A request ended.
    Ended { ending: Ending, provider: Option<String>, probe: bool, took: Duration },
    /// A simulated call ended, and was reported.
    Called { tenant: String, provider: String, failed: bool, pushed: bool, reported: bool },
    /// An event said that a breaker moved.
    Moved { id: Option<String>, event: MovedEvent },
    /// What a worker says of its breakers.
    Breakers(Vec<BreakerView>),
}

/// The body of a breaker's event, as far as it is shown.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct MovedEvent {
    pub(super) tenant_id: String,
    pub(super) provider_id: String,
    pub(super) from: State,
    pub(super) to: State,
    #[serde(default)]
    pub(super) reason: String,
    /// By the broker's clock, in milliseconds, as is the next.
    #[serde(default)]
    pub(super) timestamp: u64,
    #[serde(default)]
    pub(super) open_until: Option<u64>,
}

/// One of the answer to `breaker.list`, as far as it is shown.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct BreakerView {
    tenant_id: String,
    provider_id: String,
    state: State,
    #[serde(default)]
    failure_count: Option<u64>,
    #[serde(default)]
    window_requests: Option<u64>,
    #[serde(default)]
    window_failures: Option<u64>,
    #[serde(default)]
    half_open_in_flight: Option<u64>,
    #[serde(default)]
    timeout_remaining_ms: Option<u64>,
    #[serde(default)]
    trips: Option<u64>,
}

/// A transition, once.
#[derive(Clone, Debug)]
pub(super) struct Transition {
    pub(super) at: Duration,
    pub(super) tenant: &'static str,
    pub(super) provider: &'static str,
    pub(super) from: State,
    pub(super) to: State,
    pub(super) reason: String,
    /// For an opening out of closed: since the first failure was reported.
    pub(super) after: Option<Duration>,
}

/// One breaker.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) tenant: &'static str,
    pub(super) provider: &'static str,
    pub(super) state: State,
    pub(super) in_a_row: u64,
    pub(super) window_requests: u64,
    pub(super) window_failures: u64,
    pub(super) probes_in_flight: u64,
    pub(super) trips: u64,
    /// When it may be probed.
    open_until: Option<Duration>,
    /// While closed: when the first failure was reported.
    first_failure: Option<Duration>,
}

impl Cell {
    /// How long it stays open.
    pub(super) fn remaining(&self, at: Duration) -> Option<Duration> {
        (self.state == State::Open).then(|| self.open_until.map(|until| until.saturating_sub(at)))?
    }
}

/// All that was seen.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) total: Tally,
    recent: VecDeque<(u128, Tally)>,
    pub(super) latencies: Latencies,
    pub(super) cells: Vec<Cell>,
    pub(super) transitions: VecDeque<Transition>,
    /// Transitions that are no longer kept.
    pub(super) forgotten: u64,
    event_ids: VecDeque<String>,
    pub(super) probes: u64,
    pub(super) calls: u64,
    pub(super) failed_calls: u64,
    pub(super) pushed_calls: u64,
    pub(super) unreported_calls: u64,
}

impl Board {
    pub(super) fn new() -> Self {
        let cell = |(tenant, provider): (&'static Tenant, &'static str)| Cell {
            tenant: tenant.id,
            provider,
            state: State::Closed,
            in_a_row: 0,
            window_requests: 0,
            window_failures: 0,
            probes_in_flight: 0,
            trips: 0,
            open_until: None,
            first_failure: None,
        };
        Self {
            total: Tally::default(),
            recent: VecDeque::new(),
            latencies: Latencies::default(),
            cells: cells().map(cell).collect(),
            transitions: VecDeque::new(),
            forgotten: 0,
            event_ids: VecDeque::new(),
            probes: 0,
            calls: 0,
            failed_calls: 0,
            pushed_calls: 0,
            unreported_calls: 0,
        }
    }

    /// Takes something in. Gives the transition, if it told of one that was not known.
    pub(super) fn apply(&mut self, at: Duration, seen: Seen) -> Option<&Transition> {
        match seen {
            Seen::Ended { ending, provider, probe, took } => {
                let provider = provider.and_then(|id| PROVIDERS.iter().position(|known| *known == id));
                self.total.add(ending, provider);
                self.slice(at).add(ending, provider);
                self.probes += u64::from(probe);
                if ending != Ending::Unanswered {
                    self.latencies.add(took);
                }
                None
            }
            Seen::Called { tenant, provider, failed, pushed, reported } => {
                self.calls += 1;
                self.failed_calls += u64::from(failed);
                self.pushed_calls += u64::from(pushed);
                self.unreported_calls += u64::from(!reported);
                if let Some(cell) = self.cell(&tenant, &provider)
                    && failed
                    && reported
                    && cell.state == State::Closed
                {
                    cell.first_failure.get_or_insert(at);
                }
                None
            }
            Seen::Moved { id, event } => self.moved(at, id, event),
            Seen::Breakers(views) => {
                views.iter().for_each(|view| self.view(at, view));
                None
            }
        }
    }

    /// What a breaker shows.
    pub(super) fn state(&self, tenant: &str, provider: &str) -> State {
        let cell = self.cells.iter().find(|cell| cell.tenant == tenant && cell.provider == provider);
        cell.map_or(State::Closed, |cell| cell.state)
    }

    /// The last two seconds, and what a second of them held.
    pub(super) fn recent(&self, at: Duration) -> (Tally, u64) {
        let now = at.as_millis() / SLICE_MS;
        let mut sum = Tally::default();
        // The slice of now is not full yet.
        let whole = self.recent.iter().filter(|(slice, _)| *slice < now && now - slice <= SLICES);
        whole.for_each(|(_, tally)| sum.merge(tally));
        let ms = u64::try_from(now.min(SLICES) * SLICE_MS).unwrap_or(u64::MAX);
        let rate = (sum.all() * 1_000).checked_div(ms).unwrap_or(0);
        (sum, rate)
    }

    fn slice(&mut self, at: Duration) -> &mut Tally {
        let now = at.as_millis() / SLICE_MS;
        while self.recent.front().is_some_and(|(slice, _)| slice + SLICES < now) {
            self.recent.pop_front();
        }
        if self.recent.back().is_none_or(|(slice, _)| *slice < now) {
            self.recent.push_back((now, Tally::default()));
        }
        // There is one: it was pushed, or stood there.
        let last = self.recent.len().saturating_sub(1);
        &mut self.recent[last].1
    }

    fn cell(&mut self, tenant: &str, provider: &str) -> Option<&mut Cell> {
        self.cells.iter_mut().find(|cell| cell.tenant == tenant && cell.provider == provider)
    }

    fn moved(&mut self, at: Duration, id: Option<String>, event: MovedEvent) -> Option<&Transition> {
        if let Some(id) = id {
            if self.event_ids.contains(&id) {
                return None;
            }
            if self.event_ids.len() == EVENT_IDS {
                self.event_ids.pop_front();
            }
            self.event_ids.push_back(id);
        }
        let cell = self.cell(&event.tenant_id, &event.provider_id)?;
        let from_closed = event.from == State::Closed && event.to == State::Open;
        let first_failure = cell.first_failure.take();
        cell.state = event.to;
        let open_ms = event.open_until.map(|until| until.saturating_sub(event.timestamp));
        cell.open_until = open_ms.map(|ms| at + Duration::from_millis(ms));
        let transition = Transition {
            at,
            tenant: cell.tenant,
            provider: cell.provider,
            from: event.from,
            to: event.to,
            reason: event.reason,
            after: first_failure.filter(|_| from_closed).map(|first| at.saturating_sub(first)),
        };
        if self.transitions.len() == TRANSITIONS {
            self.transitions.pop_front();
            self.forgotten += 1;
        }
        self.transitions.push_back(transition);
        self.transitions.back()
    }

    fn view(&mut self, at: Duration, view: &BreakerView) {
        let Some(cell) = self.cell(&view.tenant_id, &view.provider_id) else { return };
        cell.state = view.state;
        cell.in_a_row = view.failure_count.unwrap_or(0);
        cell.window_requests = view.window_requests.unwrap_or(0);
        cell.window_failures = view.window_failures.unwrap_or(0);
        cell.probes_in_flight = view.half_open_in_flight.unwrap_or(0);
        cell.trips = view.trips.unwrap_or(0);
        cell.open_until = view.timeout_remaining_ms.map(|ms| at + Duration::from_millis(ms));
    }
}

#[cfg(test)]
mod tests;
