use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// How many identities are remembered, in log order.
pub const CAPACITY: usize = 1_048_576;

/// What an identity was last seen as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A result: another is a copy.
    Result,
    /// A refusal or a timeout: a result is late, and only the next one a copy.
    Ended,
}

/// The identities of the last results, refusals and timeouts. Grows with use up to about 24 MB.
///
/// Each result looks here once and forgets one, at places that no cache holds: so an identity is one word
/// in one table. The few that ended without a result stand in a set beside it.
#[derive(Debug, Default)]
pub struct Seen {
    order: VecDeque<u64>,
    known: Table,
    ended: HashSet<u64, BuildHasherDefault<AsIs>>,
}

impl Seen {
    /// Takes note of an identity and tells what it was seen as before, if it is remembered. Its place
    /// in the order is that of its first sight.
    pub fn note(&mut self, identity: u64, kind: Kind) -> Option<Kind> {
        if self.known.contains(identity) {
            if !self.ended.contains(&identity) {
                return Some(Kind::Result);
            }
            if kind == Kind::Result {
                self.ended.remove(&identity);
            }
            return Some(Kind::Ended);
        }
        // Before the new one comes in: the table never grows for one more than it is meant for.
        if self.order.len() >= CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(oldest);
            self.ended.remove(&oldest);
        }
        self.known.insert(identity);
        if kind == Kind::Ended {
            self.ended.insert(identity);
        }
        self.order.push_back(identity);
        None
    }

    /// All that are remembered, in log order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Kind)> + '_ {
        self.order.iter().map(|identity| {
            let kind = if self.ended.contains(identity) { Kind::Ended } else { Kind::Result };
            (*identity, kind)
        })
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

/// A set of hashes: a table of twice as many words, each at the place that its low bits name or, where
/// that is taken, one of the next. What is removed leaves no mark: those behind it move up.
#[derive(Debug, Default)]
struct Table {
    /// A power of two of them; 0 is an empty place.
    words: Vec<u64>,
    len: usize,
    /// The one hash that cannot stand in a place.
    zero: bool,
}

/// Places of a table that is not empty, at least.
const LEAST: usize = 64;

impl Table {
    fn contains(&self, hash: u64) -> bool {
        if hash == 0 {
            return self.zero;
        }
        self.find(hash).is_ok()
    }

    /// Adds a hash that is not there.
    fn insert(&mut self, hash: u64) {
        if hash == 0 {
            self.zero = true;
            return;
        }
        if (self.len + 1) * 2 > self.words.len() {
            self.grow();
        }
        if let Err(place) = self.find(hash)
            && let Some(word) = self.words.get_mut(place)
        {
            *word = hash;
            self.len += 1;
        }
    }

    fn remove(&mut self, hash: u64) {
        if hash == 0 {
            self.zero = false;
            return;
        }
        let Ok(mut hole) = self.find(hash) else { return };
        let mut at = hole;
        loop {
            at = self.next(at);
            let word = self.word(at);
            if word == 0 {
                break;
            }
            // It may move up to the hole if that is not before the place that its bits name.
            let mask = self.words.len() - 1;
            if at.wrapping_sub(self.home(word)) & mask >= at.wrapping_sub(hole) & mask {
                self.put(hole, word);
                hole = at;
            }
        }
        self.put(hole, 0);
        self.len -= 1;
    }

    /// Where a hash stands, or the empty place where it would.
    fn find(&self, hash: u64) -> Result<usize, usize> {
        let mut at = self.home(hash);
        loop {
            match self.word(at) {
                word if word == hash => return Ok(at),
                0 => return Err(at),
                _ => at = self.next(at),
            }
        }
    }

    fn grow(&mut self) {
        let places = (self.words.len() * 2).max(LEAST);
        let before = std::mem::replace(&mut self.words, vec![0; places]);
        for hash in before.into_iter().filter(|hash| *hash != 0) {
            if let Err(place) = self.find(hash) {
                self.put(place, hash);
            }
        }
    }

    /// The place that a hash's low bits name.
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
    fn home(&self, hash: u64) -> usize {
        hash as usize & self.words.len().wrapping_sub(1)
    }

    fn next(&self, at: usize) -> usize {
        (at + 1) & self.words.len().wrapping_sub(1)
    }

    fn word(&self, at: usize) -> u64 {
        self.words.get(at).copied().unwrap_or(0)
    }

    fn put(&mut self, at: usize, word: u64) {
        if let Some(place) = self.words.get_mut(at) {
            *place = word;
        }
    }
}

/// Identities are hashes already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_of_result_and_timeout_counts_and_a_third_is_a_copy() {
        let mut seen = Seen::default();
        assert_eq!(seen.note(1, Kind::Ended), None);
        assert_eq!(seen.note(1, Kind::Result), Some(Kind::Ended));
        assert_eq!(seen.note(1, Kind::Result), Some(Kind::Result));
        assert_eq!(seen.note(1, Kind::Ended), Some(Kind::Result));
        assert_eq!(seen.note(1, Kind::Result), Some(Kind::Result));
    }

    #[test]
    fn the_oldest_is_forgotten_when_the_memory_is_full() {
        let mut seen = Seen::default();
        for n in 0..=CAPACITY as u64 {
            assert_eq!(seen.note(n, Kind::Ended), None);
        }
        assert_eq!(seen.len(), CAPACITY);
        assert_eq!(seen.known.words.len(), 2 * CAPACITY, "it has not grown for one more");
        assert_eq!(seen.ended.len(), CAPACITY);
        assert_eq!(seen.note(1, Kind::Result), Some(Kind::Ended));
        assert_eq!(seen.note(0, Kind::Result), None);
        assert_eq!(seen.iter().last(), Some((0, Kind::Result)));
    }

    proptest! {
        /// The table is a set, also where many hashes name one place, and round its end.
        #[test]
        fn a_table_is_a_set(steps in prop::collection::vec((any::<bool>(), 0u64..40, 0u64..3), 1..400)) {
            let (mut table, mut set) = (Table::default(), HashSet::new());
            for (add, low, high) in steps {
                // Low bits near the end of the least table, and one hash in forty that is 0.
                let hash = if low == 0 { 0 } else { ((low + 50) % 64) | (high << 32) };
                prop_assert_eq!(table.contains(hash), set.contains(&hash));
                if add && set.insert(hash) {
                    table.insert(hash);
                } else if !add {
                    set.remove(&hash);
                    table.remove(hash);
                }
                for known in &set {
                    prop_assert!(table.contains(*known));
                }
                prop_assert_eq!(table.len + usize::from(table.zero), set.len());
            }
        }
    }
}
