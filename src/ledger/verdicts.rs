//! What the fold said of each of the last results, by position, for those who meter usage.
//!
//! Usage leaves by a consumer that all workers share, and it must not meter what the fold rejected or
//! knows as a copy. The fold writes one word for each result; the metering task reads it. A position
//! that has been overwritten, or was applied before this worker began, is told as unknown.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::domain::Disposition;

/// A quarter of a million: metering that is further behind than that has other troubles.
const LEN: usize = 1 << 18;

/// What to do about one result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metering {
    /// It is metered.
    Meter,
    /// A copy, or rejected: it is not.
    Skip,
    /// The fold has not come to it yet.
    Wait,
    /// The fold has passed it and does not remember.
    Forgotten,
}

/// See the module.
#[derive(Debug)]
pub struct Verdicts {
    /// The position's high bits, and 1 to meter or 2 to skip in the low two.
    words: Box<[AtomicU32]>,
    position: AtomicU64,
}

impl Default for Verdicts {
    fn default() -> Self {
        Self { words: (0..LEN).map(|_| AtomicU32::new(0)).collect(), position: AtomicU64::new(0) }
    }
}

impl Verdicts {
    /// Writes down what became of the result at a position; the fold only.
    pub fn result(&self, position: u64, disposition: Disposition) {
        let skip = matches!(disposition, Disposition::Rejected | Disposition::Duplicate);
        if let Some(word) = self.word(position) {
            word.store(tag(position) | if skip { 2 } else { 1 }, Ordering::Relaxed);
        }
    }

    /// Says how far the fold is; the fold only, after [`Verdicts::result`].
    pub fn advance(&self, position: u64) {
        self.position.store(position, Ordering::Release);
    }

    /// The last entry that was applied: what is read after this holds all of it.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// What to do about the result at a position.
    #[must_use]
    pub fn metering(&self, position: u64) -> Metering {
        if position > self.position() {
            return Metering::Wait;
        }
        let word = self.word(position).map_or(0, |w| w.load(Ordering::Relaxed));
        match word & 0b11 {
            1 if word & !0b11 == tag(position) => Metering::Meter,
            2 if word & !0b11 == tag(position) => Metering::Skip,
            _ => Metering::Forgotten,
        }
    }

    fn word(&self, position: u64) -> Option<&AtomicU32> {
        self.words.get(usize::try_from(position % LEN as u64).unwrap_or(0))
    }
}

fn tag(position: u64) -> u32 {
    // Thirty bits above the ring's eighteen: they repeat after 2^48 entries.
    u32::try_from(position / LEN as u64 % (1 << 30)).unwrap_or(0) << 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_known_from_its_entry_until_the_ring_comes_round() {
        let verdicts = Verdicts::default();
        assert_eq!(verdicts.metering(5), Metering::Wait);
        verdicts.result(5, Disposition::Late);
        verdicts.result(6, Disposition::Duplicate);
        verdicts.advance(6);
        assert_eq!(verdicts.metering(5), Metering::Meter);
        assert_eq!(verdicts.metering(6), Metering::Skip);
        assert_eq!(verdicts.metering(4), Metering::Forgotten);
        verdicts.result(5 + LEN as u64, Disposition::Applied);
        verdicts.advance(5 + LEN as u64);
        assert_eq!(verdicts.metering(5), Metering::Forgotten);
    }
}
