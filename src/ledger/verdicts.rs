//! What the fold said of results, by position, for those who meter usage.
//!
//! Usage leaves by a consumer that all workers share, and it must not meter what the fold rejected or knows as a copy. The
//! fold writes two bits for each result; the metering task reads them. They are remembered until the consumer has
//! acknowledged all up to there, however far behind it is, in pages that are allocated as the fold comes to them:
//! [`PAGE`] positions are 16 KiB. [`MOST_PAGES`] bounds them to 16 MiB, 67 million positions: eleven minutes at 100,000
//! entries a second. Beyond it the oldest page goes.
//!
//! A position whose page has gone, or that was applied before this worker began, is *forgotten*: whoever meters it goes
//! by what the result says, and counts it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::domain::Disposition;

/// Positions of a page.
const PAGE: u64 = 1 << 16;
/// Positions of a word.
const PER_WORD: u64 = 32;
/// How many pages are held at most.
pub const MOST_PAGES: usize = 1 << 10;

const METER: u64 = 1;
const SKIP: u64 = 2;

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
    /// In the order of their positions.
    pages: RwLock<VecDeque<Page>>,
    most: usize,
    position: AtomicU64,
}

#[derive(Debug)]
struct Page {
    number: u64,
    words: Box<[AtomicU64]>,
}

impl Page {
    fn new(number: u64) -> Self {
        Self { number, words: (0..PAGE / PER_WORD).map(|_| AtomicU64::new(0)).collect() }
    }

    /// The word of a position, and where in it its bits are.
    fn word(&self, position: u64) -> Option<(&AtomicU64, u64)> {
        let within = position % PAGE;
        let word = self.words.get(usize::try_from(within / PER_WORD).ok()?)?;
        Some((word, within % PER_WORD * 2))
    }
}

impl Default for Verdicts {
    fn default() -> Self {
        Self::remembering(MOST_PAGES)
    }
}

impl Verdicts {
    /// Ones that hold so many pages at most; with none, nothing is remembered.
    #[must_use]
    pub const fn remembering(most: usize) -> Self {
        Self { pages: RwLock::new(VecDeque::new()), most, position: AtomicU64::new(0) }
    }

    /// Writes down what became of the result at a position; the fold only.
    pub fn result(&self, position: u64, disposition: Disposition) {
        let skip = matches!(disposition, Disposition::Rejected | Disposition::Duplicate);
        let verdict = if skip { SKIP } else { METER };
        if self.most == 0 || write(&self.read(), position, verdict) {
            return;
        }
        let mut pages = self.write();
        while pages.len() >= self.most {
            pages.pop_front();
        }
        pages.push_back(Page::new(position / PAGE));
        write(&pages, position, verdict);
    }

    /// Says how far the fold is; the fold only, after [`Verdicts::result`].
    pub fn advance(&self, position: u64) {
        self.position.store(position, Ordering::Release);
    }

    /// Forgets everything: the fold begins anew, and its positions may be another log's.
    pub fn clear(&self) {
        self.advance(0);
        self.write().clear();
    }

    /// Forgets what nobody asks for any more.
    pub fn forget_up_to(&self, position: u64) {
        let is_done = |page: &Page| page.number < position.saturating_add(1) / PAGE;
        if self.read().front().is_some_and(is_done) {
            let mut pages = self.write();
            while pages.front().is_some_and(is_done) {
                pages.pop_front();
            }
        }
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
        let pages = self.read();
        let word = find(&pages, position).and_then(|page| page.word(position));
        match word.map_or(0, |(word, shift)| word.load(Ordering::Relaxed) >> shift & 0b11) {
            METER => Metering::Meter,
            SKIP => Metering::Skip,
            _ => Metering::Forgotten,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, VecDeque<Page>> {
        // A fold that died mid-way ends the process.
        self.pages.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, VecDeque<Page>> {
        self.pages.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes into a page that stands; `false` if there is none for the position.
fn write(pages: &VecDeque<Page>, position: u64, verdict: u64) -> bool {
    let word = find(pages, position).and_then(|page| page.word(position));
    word.map(|(word, shift)| word.fetch_or(verdict << shift, Ordering::Relaxed)).is_some()
}

/// Nearly always asked for the last one.
fn find(pages: &VecDeque<Page>, position: u64) -> Option<&Page> {
    let number = position / PAGE;
    let last = pages.back().filter(|page| page.number == number);
    last.or_else(|| pages.get(pages.binary_search_by_key(&number, |page| page.number).ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn judged(verdicts: &Verdicts, position: u64, disposition: Disposition) {
        verdicts.result(position, disposition);
        verdicts.advance(position);
    }

    fn held(verdicts: &Verdicts) -> usize {
        verdicts.read().len()
    }

    #[test]
    fn a_verdict_is_known_from_its_entry_on() {
        let verdicts = Verdicts::default();
        assert_eq!(verdicts.metering(5), Metering::Wait);
        judged(&verdicts, 5, Disposition::Late);
        judged(&verdicts, 6, Disposition::Duplicate);
        assert_eq!(verdicts.metering(5), Metering::Meter);
        assert_eq!(verdicts.metering(6), Metering::Skip);
        assert_eq!(verdicts.metering(4), Metering::Forgotten);
        assert_eq!(verdicts.metering(7), Metering::Wait);
    }

    #[test]
    fn a_consumer_that_is_two_million_results_behind_gets_every_verdict() {
        const BEHIND: u64 = 2_000_000;
        let verdicts = Verdicts::default();
        let disposition = |position: u64| match position % 3 {
            0 => Disposition::Applied,
            1 => Disposition::Duplicate,
            _ => Disposition::Rejected,
        };
        (1..=BEHIND).for_each(|position| judged(&verdicts, position, disposition(position)));
        assert!(held(&verdicts) <= 31, "{} pages of 16 KiB", held(&verdicts));
        for position in 1..=BEHIND {
            let want = if position % 3 == 0 { Metering::Meter } else { Metering::Skip };
            assert_eq!(verdicts.metering(position), want, "{position}");
        }
    }

    #[test]
    fn pages_go_behind_what_was_acknowledged_and_the_oldest_beyond_the_bound() {
        let verdicts = Verdicts::remembering(3);
        (0..3).for_each(|page| judged(&verdicts, page * PAGE + 7, Disposition::Applied));
        verdicts.forget_up_to(PAGE - 2);
        assert_eq!(held(&verdicts), 3, "the page has a position that may be asked for");
        verdicts.forget_up_to(PAGE - 1);
        assert_eq!((held(&verdicts), verdicts.metering(7)), (2, Metering::Forgotten));
        for page in 3..5 {
            judged(&verdicts, page * PAGE, Disposition::Applied);
        }
        assert_eq!((held(&verdicts), verdicts.metering(PAGE + 7)), (3, Metering::Forgotten));
        assert_eq!(verdicts.metering(2 * PAGE + 7), Metering::Meter);
        // Results may be far apart.
        judged(&verdicts, 900 * PAGE, Disposition::Applied);
        assert_eq!((held(&verdicts), verdicts.metering(4 * PAGE)), (3, Metering::Meter));
    }

    #[test]
    fn a_fold_that_begins_anew_knows_nothing_of_the_positions_before() {
        let verdicts = Verdicts::default();
        judged(&verdicts, 9, Disposition::Applied);
        verdicts.clear();
        assert_eq!(verdicts.metering(9), Metering::Wait);
        verdicts.advance(9);
        assert_eq!(verdicts.metering(9), Metering::Forgotten);
    }

    #[test]
    fn who_does_not_meter_holds_nothing() {
        let verdicts = Verdicts::remembering(0);
        judged(&verdicts, 9, Disposition::Applied);
        assert_eq!((held(&verdicts), verdicts.position()), (0, 9));
    }

    proptest! {
        /// Whatever is not forgotten is what the fold said, and what may be asked for is forgotten by the bound alone.
        #[test]
        fn a_verdict_is_right_or_forgotten(
            steps in prop::collection::vec((1_u64..3 * PAGE, any::<bool>(), 0_u64..400_000), 1..60),
        ) {
            let (verdicts, mut said, mut position, mut floor) =
                (Verdicts::remembering(8), BTreeMap::new(), 0, 0);
            for (ahead, skip, behind) in steps {
                position += ahead;
                judged(&verdicts, position, if skip { Disposition::Duplicate } else { Disposition::Ignored });
                said.insert(position, if skip { Metering::Skip } else { Metering::Meter });
                floor = floor.max(position.saturating_sub(behind));
                verdicts.forget_up_to(floor);
                prop_assert!(held(&verdicts) <= 8);
            }
            for (at, want) in said {
                let is = verdicts.metering(at);
                // No page within eight of the last one has gone by the bound.
                let within = at > floor && at / PAGE + 8 > position / PAGE;
                prop_assert!(is == want || is == Metering::Forgotten && !within, "{}: {:?}", at, is);
            }
        }
    }
}
