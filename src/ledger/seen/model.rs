//! The memory of identities beside the plainest one that does the same, over many steps at its capacity.

use std::collections::HashMap;

use super::table::Table;
use super::*;

/// A queue, and what each in it was seen as.
#[derive(Default)]
struct Plain {
    order: VecDeque<u64>,
    known: HashMap<u64, Kind>,
}

impl Plain {
    fn note(&mut self, identity: u64, kind: Kind, capacity: usize) -> Option<Kind> {
        if let Some(known) = self.known.get_mut(&identity) {
            let before = *known;
            if kind == Kind::Result {
                *known = Kind::Result;
            }
            return Some(before);
        }
        if self.order.len() == capacity {
            let oldest = self.order.pop_front().unwrap();
            self.known.remove(&oldest);
        }
        self.order.push_back(identity);
        self.known.insert(identity, kind);
        None
    }
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.word() % n as u64).unwrap()
    }
}

/// What the steps met.
#[derive(Debug, Default)]
struct Met {
    new: usize,
    again: usize,
    ended: usize,
}

/// Notes identities with both: new ones, copies of late and of old ones, those that are about to be
/// forgotten, and those that just were.
fn agree<const CAP: usize>(mut seen: Seen<CAP>, steps: usize, looks: usize, new: impl Fn(&mut Dice) -> u64) {
    let (mut plain, mut dice, mut met) = (Plain::default(), Dice(CAP as u64), Met::default());
    // All in the order of their first sight; those that were forgotten and came again stand twice.
    let mut history: Vec<u64> = Vec::new();
    for step in 0..steps {
        let oldest = history.len().saturating_sub(plain.order.len());
        let identity = match dice.below(10) {
            _ if history.is_empty() => 0,
            0 => history[history.len() - 1 - dice.below(history.len().min(4))],
            1 => history[oldest + dice.below(plain.order.len())],
            2 => history[(oldest + dice.below(4)).min(history.len() - 1)],
            3 => history[oldest.saturating_sub(1 + dice.below(4))],
            _ => new(&mut dice),
        };
        let kind = if dice.below(4) == 0 { Kind::Ended } else { Kind::Result };
        if dice.below(64) == 0 {
            // A look ahead changes nothing.
            seen.glance([identity, step as u64].into_iter());
        }
        let (told, expected) = (seen.note(identity, kind), plain.note(identity, kind, CAP));
        assert_eq!(told, expected, "step {step}: {identity:#x} as {kind:?}");
        match told {
            None => {
                history.push(identity);
                met.new += 1;
            }
            Some(Kind::Result) => met.again += 1,
            Some(Kind::Ended) => met.ended += 1,
        }
        assert_eq!(seen.len(), plain.order.len());
        if (step + 1) % (steps / looks) == 0 {
            let all = plain.order.iter().map(|identity| (*identity, plain.known[identity]));
            assert!(seen.iter().eq(all), "step {step}: what is remembered, in which order");
        }
    }
    assert_eq!(seen.len(), CAP);
    assert!(met.new > CAP + steps / 8 && met.again > steps / 20 && met.ended > steps / 100, "{met:?}");
}

/// Most are alike in their low bits, as somebody may choose them.
fn chosen(dice: &mut Dice) -> u64 {
    match dice.below(16) {
        0 => dice.word() % 8,
        1 => dice.word(),
        _ => dice.word() << 40,
    }
}

#[test]
fn a_small_memory_is_a_queue_and_a_map() {
    agree(Seen::<1>::default(), 50_000, 1_000, Dice::word);
    agree(Seen::<7>::default(), 50_000, 1_000, chosen);
    agree(Seen::<1_000>::default(), 150_000, 150, Dice::word);
    // Without mixing, so that what is chosen does meet in one line.
    let known = Known { table: Table::without_mixing(), ..Known::default() };
    let met = Seen::<300> { known, ..Seen::default() };
    agree(met, 150_000, 150, chosen);
}

#[test]
fn a_memory_of_full_size_is_a_queue_and_a_map() {
    agree(Seen::<CAPACITY>::default(), 4 * CAPACITY, 2, Dice::word);
}
