use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// A set of windows that have something in common, as ranges of their numbers: long spans cost no more than short
/// ones. Holds at most as many ranges as there are windows which are not closed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marks {
    /// Every window from this one on.
    since: Option<u64>,
    /// First and last of each range; in order, without overlap.
    ranges: VecDeque<(u64, u64)>,
}

impl Marks {
    /// Marks every window from `number` on, until [`Marks::end`].
    pub(super) fn begin(&mut self, number: u64) {
        self.since.get_or_insert(number);
    }

    /// Ends what [`Marks::begin`] began; `number` is the last one marked.
    pub(super) fn end(&mut self, number: u64) {
        if let Some(since) = self.since.take() {
            self.add(since, number);
        }
    }

    /// Marks the windows `from` to `to`; `to` is the greatest so far.
    pub(super) fn add(&mut self, from: u64, to: u64) {
        let (mut from, mut to) = (from.min(to), to);
        while let Some(&(first, last)) = self.ranges.back()
            && from <= last.saturating_add(1)
        {
            (from, to) = (from.min(first), to.max(last));
            self.ranges.pop_back();
        }
        self.ranges.push_back((from, to));
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.since.is_some_and(|since| since <= number)
            || self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&number))
    }

    /// Forgets the windows below `number`.
    pub(super) fn forget_below(&mut self, number: u64) {
        while self.ranges.front().is_some_and(|(_, last)| *last < number) {
            self.ranges.pop_front();
        }
    }
}
