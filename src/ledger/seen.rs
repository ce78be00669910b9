use std::collections::{HashMap, VecDeque};
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

/// The identities of the last results, refusals and timeouts. Grows with use up to about 30 MB.
#[derive(Debug, Default)]
pub struct Seen {
    order: VecDeque<u64>,
    kinds: HashMap<u64, Kind, BuildHasherDefault<AsIs>>,
}

impl Seen {
    /// Takes note of an identity and tells what it was seen as before, if it is remembered. Its place
    /// in the order is that of its first sight.
    pub fn note(&mut self, identity: u64, kind: Kind) -> Option<Kind> {
        let before = self.kinds.insert(identity, kind);
        match before {
            Some(Kind::Result) if kind == Kind::Ended => {
                self.kinds.insert(identity, Kind::Result);
            }
            Some(_) => {}
            None => {
                self.order.push_back(identity);
                if self.order.len() > CAPACITY
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.kinds.remove(&oldest);
                }
            }
        }
        before
    }

    /// All that are remembered, in log order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Kind)> + '_ {
        self.order
            .iter()
            .map(|identity| (*identity, self.kinds.get(identity).copied().unwrap_or(Kind::Result)))
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
            assert_eq!(seen.note(n, Kind::Result), None);
        }
        assert_eq!(seen.len(), CAPACITY);
        assert_eq!(seen.note(1, Kind::Result), Some(Kind::Result));
        assert_eq!(seen.note(0, Kind::Result), None);
    }
}
