//! Figures as people read them.

use serde_json::Value;

use super::breaker::Known;
use crate::breaker::State;
use crate::domain::Tick;
use crate::telemetry::shown::plain;

pub(super) const fn state(state: State) -> &'static str {
    match state {
        State::Open => "open",
        State::HalfOpen => "half-open",
        State::Closed => "closed",
    }
}

/// A time in two units at most: `850ms`, `12s`, `3m04s`, `2h05m`, `3d04h`.
pub(in crate::cli) fn age(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0..60 => format!("{s}s"),
        60..3_600 => format!("{}m{:02}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h{:02}m", s / 3_600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3_600 % 24),
    }
}

/// Seconds with one decimal, without one that is 0.
pub(super) fn seconds(ms: u64) -> String {
    match (ms / 1_000, ms % 1_000) {
        (s, 0) => format!("{s}s"),
        (s, rest) => format!("{s}.{:02}s", rest / 10).replace("0s", "s"),
    }
}

/// The share of failures; nothing where there are no requests.
pub(super) fn rate(known: &Known) -> String {
    if known.window_requests == 0 {
        return "-".to_owned();
    }
    format!("{:.1}%", known.error_rate * 100.0)
}

/// What comes next.
pub(super) fn next(known: &Known, now: Tick) -> String {
    if known.flag_off {
        return "switch off".to_owned();
    }
    if known.forced.is_some() {
        return "forced".to_owned();
    }
    match (known.state, known.remaining_ms(now)) {
        (State::Open, Some(0)) => "probe due".to_owned(),
        (State::Open, Some(ms)) if ms < 60_000 => format!("{}.{}s", ms / 1_000, ms / 100 % 10),
        (State::Open, Some(ms)) => age(ms),
        (State::HalfOpen, _) => format!("{} probing", known.probing),
        (State::Closed, _) if known.failures_in_a_row > 0 => format!("{} in a row", known.failures_in_a_row),
        _ => String::new(),
    }
}

/// A transition.
pub(super) fn in_words(event: &Value) -> String {
    let text = |field: &str| event.get(field).and_then(Value::as_str).unwrap_or("-");
    let mut words = format!(
        "{}/{}  {} -> {}  {}",
        text("tenant_id"),
        text("provider_id"),
        text("from"),
        text("to"),
        text("reason")
    );
    if let Some(actor) = event.get("actor").and_then(Value::as_str) {
        words.push_str(&format!("  by {actor}"));
    }
    plain(&words)
}
