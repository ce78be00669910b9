//! The transitions of the last hour.

use std::collections::VecDeque;

use serde_json::Value;

/// An hour: what the console and the alerts look back on.
pub(super) const SPAN_MS: u64 = 3_600_000;
/// The most that are kept: a megabyte. Of more only the newest are known.
pub(super) const MOST: usize = 2_000;

/// See the module. Oldest first, each once.
#[derive(Debug, Default)]
pub(super) struct Recent {
    held: VecDeque<Value>,
    /// Whether some of the hour are not held.
    pub(super) lacking: bool,
}

impl Recent {
    /// Takes what is known of the hour from elsewhere.
    pub(super) fn load(&mut self, events: impl IntoIterator<Item = Value>, complete: bool) {
        let mut all: Vec<Value> = self.held.drain(..).chain(events).collect();
        all.sort_by(|a, b| order(a).cmp(&order(b)));
        all.dedup_by(|a, b| id_of(a) == id_of(b));
        self.held = all.into();
        self.lacking = !complete;
        self.cut();
    }

    /// Takes one that has just happened; nothing if it is held already, or is no transition.
    pub(super) fn push(&mut self, event: &Value) {
        let known = self.held.iter().rev().take(64).any(|held| id_of(held) == id_of(event));
        if !known && text(event, "kind") == "breaker" {
            self.held.push_back(event.clone());
            self.cut();
        }
    }

    /// Lets go of what is older than an hour.
    pub(super) fn forget(&mut self, now: u64) {
        while self.held.front().is_some_and(|event| at(event).saturating_add(SPAN_MS) < now) {
            self.held.pop_front();
        }
    }

    /// Oldest first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Value> {
        self.held.iter()
    }

    fn cut(&mut self) {
        while self.held.len() > MOST {
            self.held.pop_front();
            self.lacking = true;
        }
    }
}

fn order(event: &Value) -> (u64, u64, &str) {
    (at(event), event.get("position").and_then(Value::as_u64).unwrap_or(0), id_of(event))
}

fn id_of(event: &Value) -> &str {
    text(event, "id")
}

/// When it happened.
pub(super) fn at(event: &Value) -> u64 {
    event.get("timestamp").and_then(Value::as_u64).unwrap_or(0)
}

/// A text field.
pub(super) fn text<'e>(event: &'e Value, field: &str) -> &'e str {
    event.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(n: u64) -> Value {
        json!({"kind": "breaker", "id": format!("{n}"), "timestamp": n * 1_000, "position": n})
    }

    fn held(recent: &Recent) -> Vec<u64> {
        recent.iter().map(|e| at(e) / 1_000).collect()
    }

    #[test]
    fn what_is_loaded_and_what_comes_is_there_once_and_in_order() {
        let mut recent = Recent::default();
        recent.push(&event(5));
        recent.push(&json!({"kind": "policy", "id": "p", "timestamp": 5_500}));
        recent.load([event(6), event(5), event(3)], true);
        recent.push(&event(6));
        recent.push(&event(7));
        assert_eq!(held(&recent), [3, 5, 6, 7]);
        assert!(!recent.lacking);
    }

    #[test]
    fn what_is_old_goes_and_what_is_too_much_is_told() {
        let mut recent = Recent::default();
        for n in 1..=10 {
            recent.push(&event(n));
        }
        recent.forget(SPAN_MS + 8_500);
        assert_eq!(held(&recent), [9, 10]);
        for n in 11..=10 + MOST as u64 {
            recent.push(&event(n));
        }
        assert_eq!(recent.iter().count(), MOST);
        assert!(recent.lacking);
    }
}
