//! Log lines that would repeat: of what is the same one in a while, and of all not many, so that an
//! outage does not fill a disk, and one fault does not hide another. The next line tells how many it
//! stands for.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::domain::Tick;

/// What is the same is told once in this time.
const EVERY_MS: u64 = 10_000;

/// So many different ones are told in [`EVERY_MS`]: a peer may put something new into each.
const MOST: usize = 8;

/// So many of them may differ only from their first quotation mark on, since it is a peer's choice what is
/// quoted: a client that asks for answers where none may be sent does not hide another fault.
const MOST_ALIKE: usize = 4;

/// Lines of one kind.
#[derive(Debug, Default)]
pub struct Repeats {
    /// What was told lately, and when.
    told: Vec<(String, Tick)>,
    untold: u64,
}

impl Repeats {
    /// Counts one that says `what`. Tells how many a line about it stands for, itself included, if one
    /// is due: the first at once.
    pub fn count(&mut self, what: &str, now: Tick) -> Option<u64> {
        self.untold = self.untold.saturating_add(1);
        self.told.retain(|(_, at)| now.since(*at) < EVERY_MS);
        let alike = self.told.iter().filter(|(told, _)| unquoted(told) == unquoted(what)).count();
        let known = self.told.iter().any(|(told, _)| told == what);
        if known || self.told.len() >= MOST || alike >= MOST_ALIKE {
            return None;
        }
        self.told.push((what.to_owned(), now));
        Some(std::mem::take(&mut self.untold))
    }
}

/// Lines of several kinds, for tasks that share them.
#[derive(Debug, Default)]
pub struct Lines(Mutex<BTreeMap<&'static str, Repeats>>);

impl Lines {
    /// Counts a line of an event that says `what`, as [`Repeats::count`] does.
    pub fn count(&self, event: &'static str, what: &str, now: Tick) -> Option<u64> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.entry(event).or_default().count(what, now)
    }
}

fn unquoted(what: &str) -> &str {
    what.split('"').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_then_one_in_ten_seconds_that_stands_for_the_rest() {
        let mut lines = Repeats::default();
        let told: Vec<_> =
            (0..60_u64).filter_map(|n| Some((n * 700, lines.count("gone", Tick(5 + n * 700))?))).collect();
        assert_eq!(told, [(0, 1), (10_500, 15), (21_000, 15), (31_500, 15)]);
        assert_eq!(lines.untold, 14);
    }

    #[test]
    fn what_is_new_does_not_wait_for_what_repeats() {
        let mut lines = Repeats::default();
        let told = [("a", 1), ("a", 2), ("b", 3), ("a", 4), ("b", 5), ("c", 6)]
            .map(|(what, at)| lines.count(what, Tick(at)));
        assert_eq!(told, [Some(1), None, Some(2), None, None, Some(3)]);
    }

    #[test]
    fn a_flood_of_new_ones_is_bounded_and_each_is_in_one_line() {
        let mut lines = Repeats::default();
        let told: Vec<u64> =
            (0..100_000_u64).filter_map(|n| lines.count(&format!("no {n}"), Tick(n))).collect();
        assert_eq!(told.len(), 10 * MOST);
        assert_eq!(told.iter().sum::<u64>() + lines.untold, 100_000);
        assert!(lines.told.len() <= MOST);
    }

    #[test]
    fn lines_of_one_event_take_no_room_from_another() {
        let lines = Lines::default();
        let told = (0..1_000_u64).filter_map(|n| lines.count("flood", &n.to_string(), Tick(n))).count();
        assert_eq!(told, MOST);
        assert_eq!(lines.count("other", "x", Tick(1_000)), Some(1));
        assert_eq!(lines.count("other", "x", Tick(1_001)), None);
        assert_eq!(lines.count("flood", "x", Tick(EVERY_MS + 7)), Some(1_001 - MOST as u64));
    }

    #[test]
    fn a_flood_that_differs_in_what_it_quotes_hides_no_other_fault() {
        let mut lines = Repeats::default();
        let denied = |n: u64| format!("no permission to publish to \"_INBOX.{n}\"");
        let told = (0..1_000_u64).filter(|n| lines.count(&denied(*n), Tick(*n)).is_some()).count();
        assert_eq!(told, MOST_ALIKE);
        assert_eq!(lines.count("too many subscriptions", Tick(1_000)), Some(1_001 - told as u64));
    }
}
