use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};

use smallvec::SmallVec;

use crate::ledger::ahead::AHEAD;

/// A set of hashes: lines of seven, each one cache line, half full. A hash stands in the line that [`Mixing`]
/// names or, where that was full, as with one in twelve, in its neighbour, or, where both were, as with one in
/// sixty, in a set beside them. A look is at the whole of one line, so that the processor need not guess
/// which place it is.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// A power of two of them.
    pub(super) lines: Vec<Line>,
    spilled: HashSet<u64, Mixing>,
    mixing: Mixing,
    len: usize,
    /// The one hash that cannot stand in a place.
    zero: bool,
}

/// 0 is an empty place.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(super) struct Line {
    places: [u64; 7],
    /// How many that name this line and stand elsewhere.
    away: u64,
}

impl Line {
    fn contains(&self, hash: u64) -> bool {
        self.places.iter().fold(false, |found, place| found | (*place == hash))
    }

    /// Whether some that name it may stand in its neighbour, or would if they came now.
    const fn overflows(&self) -> bool {
        let [.., last] = self.places;
        self.away > 0 || last != 0
    }

    /// Puts `new` in the first place that holds `old`, if any does.
    fn replace(&mut self, old: u64, new: u64) -> bool {
        let holds = |at, (n, place): (usize, &u64)| if *place == old { n } else { at };
        let first = self.places.iter().enumerate().rev().fold(usize::MAX, holds);
        let place = self.places.get_mut(first);
        place.map(|place| *place = new).is_some()
    }
}

/// Hashes of a line, on average and at most: more would spill too often.
pub(super) const FULL: usize = 4;
/// Lines of a table that is not empty, at least.
const LEAST: usize = 16;

impl Table {
    /// One whose hashes name lines as they are, so that those that are chosen meet in one.
    #[cfg(test)]
    pub(super) fn without_mixing() -> Self {
        Self { mixing: Mixing::Without, ..Self::default() }
    }

    pub(super) fn contains(&self, hash: u64) -> bool {
        if hash == 0 {
            return self.zero;
        }
        let home = self.home(hash);
        let Some(line) = self.lines.get(home) else { return false };
        line.contains(hash) || (line.away > 0 && self.contains_away(home, hash))
    }

    fn contains_away(&self, home: usize, hash: u64) -> bool {
        self.lines.get(beside(home)).is_some_and(|line| line.contains(hash)) || self.spilled.contains(&hash)
    }

    /// Adds a hash that is not there.
    pub(super) fn insert(&mut self, hash: u64) {
        if hash == 0 {
            self.zero = true;
            return;
        }
        if self.len >= self.lines.len() * FULL {
            self.grow();
        }
        self.place(hash);
        self.len += 1;
    }

    pub(super) fn remove(&mut self, hash: u64) {
        if hash == 0 {
            self.zero = false;
            return;
        }
        let home = self.home(hash);
        let Some(line) = self.lines.get_mut(home) else { return };
        if line.replace(hash, 0) {
            self.len -= 1;
        } else if line.away > 0 && self.remove_away(home, hash) {
            self.count_away(home, |away| away - 1);
            self.len -= 1;
        }
    }

    fn remove_away(&mut self, home: usize, hash: u64) -> bool {
        self.lines.get_mut(beside(home)).is_some_and(|line| line.replace(hash, 0))
            || self.spilled.remove(&hash)
    }

    fn place(&mut self, hash: u64) {
        let home = self.home(hash);
        if self.lines.get_mut(home).is_some_and(|line| line.replace(0, hash)) {
            return;
        }
        self.count_away(home, |away| away + 1);
        if !self.lines.get_mut(beside(home)).is_some_and(|line| line.replace(0, hash)) {
            self.spilled.insert(hash);
        }
    }

    fn count_away(&mut self, home: usize, count: impl FnOnce(u64) -> u64) {
        if let Some(line) = self.lines.get_mut(home) {
            line.away = count(line.away);
        }
    }

    fn grow(&mut self) {
        let lines = (self.lines.len() * 2).max(LEAST);
        let before = std::mem::replace(&mut self.lines, vec![Line::default(); lines]);
        let spilled = std::mem::take(&mut self.spilled);
        let placed = before.iter().flat_map(|line| line.places).filter(|hash| *hash != 0);
        placed.chain(spilled).for_each(|hash| self.place(hash));
    }

    /// Reads the lines where hashes stand or would stand, and then the neighbours of full ones.
    pub(super) fn glance(&self, hashes: impl Iterator<Item = u64>) -> u64 {
        let mut homes: SmallVec<[usize; 2 * AHEAD]> = SmallVec::new();
        homes.extend(hashes.map(|hash| self.home(hash)));
        let word = |line: usize| self.lines.get(line).map_or(0, |line| line.away);
        let met = homes.iter().fold(0, |met, home| met ^ word(*home));
        let overflows = |home: &&usize| self.lines.get(**home).is_some_and(Line::overflows);
        homes.iter().filter(overflows).fold(met, |met, home| met ^ word(beside(*home)))
    }

    /// The line that a hash names.
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
    fn home(&self, hash: u64) -> usize {
        self.mixing.of(hash) as usize & self.lines.len().wrapping_sub(1)
    }
}

/// A line's neighbour: the other half of two lines that the processor fetches together.
const fn beside(line: usize) -> usize {
    line ^ 1
}

/// Where hashes stand. They are of what clients send, who could choose many that meet in one place; so a
/// random word of this process is mixed in. What is remembered, and for how long, does not depend on it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mixing {
    With(u64),
    /// Hashes name lines as they are.
    #[cfg(test)]
    Without,
}

impl Default for Mixing {
    fn default() -> Self {
        Self::With(RandomState::new().build_hasher().finish())
    }
}

impl Mixing {
    /// The finalizer of SplitMix64 (Steele, Lea and Flood 2014; variant 13 of Stafford). One product alone is not
    /// enough: by one random word in some hundreds, evenly spaced hashes lie in heaps.
    const fn of(self, hash: u64) -> u64 {
        let mixed = match self {
            Self::With(word) => hash ^ word,
            #[cfg(test)]
            Self::Without => return hash,
        };
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

impl BuildHasher for Mixing {
    type Hasher = Mixed;

    fn build_hasher(&self) -> Mixed {
        Mixed { mixing: *self, hash: 0 }
    }
}

pub(super) struct Mixed {
    mixing: Mixing,
    hash: u64,
}

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.hash
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, n: u64) {
        self.hash = self.mixing.of(self.hash.rotate_left(8) ^ n);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nobody_can_choose_hashes_that_meet_in_one_line() {
        for shift in [0, 18, 32, 49] {
            for _ in 0..10 {
                let mut table = Table::default();
                (1..=32_000_u64).for_each(|n| table.insert(n << shift));
                let spilled = table.spilled.len();
                assert!(spilled < 640, "{spilled} of 32000 spilled, by {shift} and {:?}", table.mixing);
            }
        }
    }

    proptest! {
        /// The table is a set, also where many hashes name one line, and while it grows.
        #[test]
        fn a_table_is_a_set(steps in prop::collection::vec((0u8..3, 0u64..8, 0u64..16), 1..400)) {
            // Without mixing, so that the hashes below do meet in one line.
            let (mut table, mut set) = (Table::without_mixing(), HashSet::new());
            for (step, low, high) in steps {
                // One hash in 128 is 0.
                let (add, hash) = (step > 0, low | (high << 32));
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
                for (n, line) in table.lines.iter().enumerate() {
                    let away = |hash: &&u64| table.home(**hash) == n && **hash != 0 && !line.contains(**hash);
                    prop_assert_eq!(line.away, set.iter().filter(away).count() as u64);
                }
            }
        }
    }
}
