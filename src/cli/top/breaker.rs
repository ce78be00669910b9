//! One breaker as it is known here: from the last list, and from transitions since.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::breaker::State;
use crate::domain::Tick;

/// What a breaker is known by, in the order of lists.
pub(super) type Key = (String, String);

/// One breaker.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    pub(super) policy_id: String,
    pub(super) state: State,
    /// What an operator holds it at.
    pub(super) forced: Option<&'static str>,
    /// Whether the emergency switch is off for it.
    pub(super) flag_off: bool,
    /// Since when it is in this state, by the broker's clock.
    pub(super) since_ms: u64,
    pub(super) error_rate: f64,
    pub(super) window_requests: u64,
    pub(super) window_failures: u64,
    pub(super) failures_in_a_row: u64,
    pub(super) probing: u64,
    /// When it may be probed; only while open.
    pub(super) open_until: Option<Tick>,
    pub(super) trips: u64,
    /// Requests that each worker refused, as of the last list that it answered.
    pub(super) refused: BTreeMap<String, u64>,
    /// The last transition that came as an event.
    pub(super) moved_at: Option<Tick>,
    /// The list that told of it last.
    pub(super) list: u64,
    /// All that the last list said.
    pub(super) told: Value,
}

pub(super) fn key_of(told: &Value) -> Option<Key> {
    Some((text(told, "tenant_id")?.to_owned(), text(told, "provider_id")?.to_owned()))
}

impl Known {
    /// From an entry of `breaker.list`, which `worker` answered.
    pub(super) fn listed(told: Value, worker: &str, list: u64, now: Tick) -> Option<Self> {
        let state = state(&told, "state")?;
        let remaining = number(&told, "timeout_remaining_ms");
        let refused = BTreeMap::from([(worker.to_owned(), number(&told, "fail_fast"))]);
        Some(Self {
            policy_id: text(&told, "policy_id").unwrap_or_default().to_owned(),
            state,
            forced: told.get("forced").and_then(|forced| self::state(forced, "state")).map(State::as_str),
            flag_off: told.get("flag_off").and_then(Value::as_bool).unwrap_or(false),
            since_ms: number(&told, "since"),
            error_rate: told.get("error_rate").and_then(Value::as_f64).unwrap_or(0.0),
            window_requests: number(&told, "window_requests"),
            window_failures: number(&told, "window_failures"),
            failures_in_a_row: number(&told, "failure_count"),
            probing: number(&told, "half_open_in_flight"),
            open_until: (state == State::Open).then(|| Tick(now.0.saturating_add(remaining))),
            trips: number(&told, "trips"),
            refused,
            moved_at: None,
            list,
            told,
        })
    }

    /// From the event of a transition, for a breaker that no list has told of yet.
    pub(super) fn announced(event: &Value, list: u64, now: Tick) -> Option<Self> {
        let mut known = Self::listed(serde_json::json!({ "state": text(event, "to")? }), "", list, now)?;
        known.policy_id = text(event, "policy_id").unwrap_or_default().to_owned();
        known.refused.clear();
        known.moved(event, now)?;
        Some(known)
    }

    /// Whether it is as this transition left it.
    pub(super) fn has_seen(&self, event: &Value) -> bool {
        state(event, "to") == Some(self.state) && number(event, "timestamp") == self.since_ms
    }

    /// Takes a transition over; `None` if the event tells none.
    pub(super) fn moved(&mut self, event: &Value, now: Tick) -> Option<()> {
        self.state = state(event, "to")?;
        self.since_ms = number(event, "timestamp");
        self.error_rate = event.get("error_rate").and_then(Value::as_f64).unwrap_or(0.0);
        let window = event.get("window").unwrap_or(&Value::Null);
        self.window_requests = number(window, "requests");
        self.window_failures = number(window, "failures");
        if self.state == State::Closed {
            // The window of an event is that which moved it; after a close it is empty.
            (self.error_rate, self.window_requests, self.window_failures) = (0.0, 0, 0);
        }
        self.failures_in_a_row = number(event, "failure_count");
        self.probing = 0;
        self.trips = number(event, "trips");
        let held = number(event, "open_until").saturating_sub(self.since_ms);
        self.open_until = (self.state == State::Open).then(|| Tick(now.0.saturating_add(held)));
        self.moved_at = Some(now);
        Some(())
    }

    /// Milliseconds until it may be probed; only while open.
    pub(super) fn remaining_ms(&self, now: Tick) -> Option<u64> {
        self.open_until.map(|until| until.since(now))
    }

    /// Requests that all workers refused, as far as they told.
    pub(super) fn refusals(&self) -> u64 {
        self.refused.values().fold(0, |sum, n| sum.saturating_add(*n))
    }
}

fn text<'v>(told: &'v Value, field: &str) -> Option<&'v str> {
    told.get(field).and_then(Value::as_str)
}

fn number(told: &Value, field: &str) -> u64 {
    told.get(field).and_then(Value::as_u64).unwrap_or(0)
}

fn state(told: &Value, field: &str) -> Option<State> {
    let word = text(told, field)?;
    State::ALL.into_iter().find(|state| state.as_str() == word)
}
