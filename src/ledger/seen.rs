mod known;
mod memory;
mod table;
mod timed;

use std::collections::VecDeque;

use known::Known;
pub(super) use memory::{InOrder, Memory};
pub(super) use timed::{MOST, Saved};

/// How many identities are remembered, in log order.
pub(super) const CAPACITY: usize = 1_048_576;

/// What an identity was last seen as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A result: another is a copy.
    Result,
    /// A refusal or a timeout: a result is late, and only the next one a copy.
    Ended,
}

/// The identities of the last results, refusals and timeouts of all tenants together, as they are remembered before
/// [`TIMED_IDENTITIES`](crate::log::FoldVersion::TIMED_IDENTITIES). Grows with use up to about 24 MB.
#[derive(Debug, Default)]
pub struct Seen<const CAP: usize = CAPACITY> {
    order: VecDeque<u64>,
    known: Known,
}

impl<const CAP: usize> Seen<CAP> {
    /// Takes note of an identity and tells what it was seen as before, if it is remembered. Its place
    /// in the order is that of its first sight.
    pub fn note(&mut self, identity: u64, kind: Kind) -> Option<Kind> {
        let before = self.known.see_again(identity, kind);
        if before.is_some() {
            return before;
        }
        // Before the new one comes in: the table never grows for one more than it is meant for.
        if self.order.len() >= CAP
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.forget(oldest);
        }
        self.known.insert(identity, kind);
        self.order.push_back(identity);
        None
    }

    /// Whether an identity is remembered.
    pub(super) fn contains(&self, identity: u64) -> bool {
        self.known.contains(identity)
    }

    /// Reads the places of identities that are to be noted next, and of those that will be forgotten
    /// for them. What it tells is of no use: see [`super::ahead`].
    pub(super) fn glance(&self, next: impl ExactSizeIterator<Item = u64>) -> u64 {
        let oldest = (self.order.len() + next.len()).saturating_sub(CAP);
        let forgotten = self.order.iter().take(oldest).copied();
        self.known.glance(next.chain(forgotten))
    }

    /// All that are remembered, in log order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u64, Kind)> + Clone + '_ {
        self.order.iter().map(|identity| (*identity, self.known.kind_of(*identity)))
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_result_and_timeout_counts_and_a_third_is_a_copy() {
        let mut seen = Seen::<CAPACITY>::default();
        assert_eq!(seen.note(1, Kind::Ended), None);
        assert_eq!(seen.note(1, Kind::Result), Some(Kind::Ended));
        assert_eq!(seen.note(1, Kind::Result), Some(Kind::Result));
        assert_eq!(seen.note(1, Kind::Ended), Some(Kind::Result));
        assert_eq!(seen.note(1, Kind::Result), Some(Kind::Result));
    }

    #[test]
    fn the_oldest_is_forgotten_when_the_memory_is_full() {
        let mut seen = Seen::<CAPACITY>::default();
        for n in 0..=CAPACITY as u64 {
            assert_eq!(seen.note(n, Kind::Ended), None);
        }
        assert_eq!(seen.len(), CAPACITY);
        assert_eq!(seen.known.table.lines.len() * table::FULL, CAPACITY, "it has not grown for one more");
        assert_eq!(seen.known.ended.len(), CAPACITY);
        assert_eq!(seen.note(1, Kind::Result), Some(Kind::Ended));
        assert_eq!(seen.note(0, Kind::Result), None);
        assert_eq!(seen.iter().last(), Some((0, Kind::Result)));
    }
}
