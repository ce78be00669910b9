use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::block::{EvidenceBlock, TenantRow};
use super::facts::Leaving;
use super::marks::Marks;
use crate::domain::{Stamp, TenantId};

/// How many windows of a rollout are kept that are not closed, and how many that are not judged: two weeks at
/// five minutes. Beyond that the oldest is dropped.
pub const MAX_WINDOWS: usize = 4_096;

/// The windows of one rollout.
///
/// From a base on, windows have one length and rising numbers. A step that changes the length ends the window
/// that it falls into, and begins the next one: a new base. So windows are in order and without a gap, and a
/// window has one number whatever comes later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Windows {
    /// In order, at least one; those of dropped windows are forgotten.
    bases: VecDeque<Base>,
    /// The window of the last entry.
    current: u64,
    /// The next one to close.
    next: u64,
    /// The position of the entry that ended all windows up to a number, in order.
    ended: VecDeque<(u64, u64)>,
    building: BTreeMap<u64, Building>,
    pub(super) incomplete: Marks,
    pub(super) untreated: Marks,
    pub(super) lapsed: Marks,
    pub(super) purged: Marks,
    /// From which window on which step was in force at the beginning; in order.
    steps: VecDeque<(u64, u64)>,
    pub(super) closed: VecDeque<Arc<EvidenceBlock>>,
    /// How often `closed` changed.
    pub(super) closed_changes: u64,
    /// Windows dropped since the last block.
    missing: u64,
    /// Windows ever dropped.
    pub(super) dropped: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Base {
    number: u64,
    start: Stamp,
    block_ms: u64,
}

/// What a window holds while it is not closed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Building {
    pub(super) rows: BTreeMap<(TenantId, u64), TenantRow>,
    pub(super) dropped: u64,
    pub(super) left: Vec<(TenantId, Leaving)>,
}

/// A window that ended and waits to be closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) number: u64,
    /// The position of the entry that ended it: workers must have read that far.
    pub(super) position: u64,
}

/// A window that is closed, but for what tenants add to it.
pub(super) struct Closing {
    pub(super) number: u64,
    pub(super) start: Stamp,
    pub(super) end: Stamp,
    pub(super) step: u64,
    pub(super) missing: u64,
    pub(super) built: Building,
}

impl Windows {
    /// The first window has `number` and begins at `start`.
    pub(super) fn new(number: u64, start: Stamp, block_ms: u64) -> Self {
        Self {
            bases: VecDeque::from([Base { number, start, block_ms: block_ms.max(1) }]),
            current: number,
            next: number,
            ended: VecDeque::new(),
            building: BTreeMap::new(),
            incomplete: Marks::default(),
            untreated: Marks::default(),
            lapsed: Marks::default(),
            purged: Marks::default(),
            steps: VecDeque::new(),
            closed: VecDeque::new(),
            closed_changes: 0,
            missing: 0,
            dropped: 0,
        }
    }

    pub(super) const fn current(&self) -> u64 {
        self.current
    }

    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// The window of a moment; the first one known where it is earlier.
    pub(super) fn number_at(&self, time: Stamp) -> u64 {
        let base = self.bases.iter().rev().find(|base| base.start <= time);
        base.or_else(|| self.bases.front())
            .map_or(0, |base| base.number.saturating_add(time.since(base.start) / base.block_ms))
    }

    /// When a window begins; that of the first base where it is earlier.
    pub(super) fn start_of(&self, number: u64) -> Stamp {
        let base = self.bases.iter().rev().find(|base| base.number <= number).or_else(|| self.bases.front());
        base.map_or(Stamp::default(), |base| {
            base.start.plus(number.saturating_sub(base.number).saturating_mul(base.block_ms))
        })
    }

    /// When a window ends: when the next one begins.
    pub(super) fn end_of(&self, number: u64) -> Stamp {
        self.start_of(number.saturating_add(1))
    }

    /// Time passes: `position` is that of the entry which ends the windows before.
    pub(super) fn pass(&mut self, time: Stamp, position: u64) {
        let number = self.number_at(time);
        if number > self.current {
            self.ended.push_back((number - 1, position));
            self.current = number;
        }
    }

    /// A step is taken: it may change the length of windows, from `time` on.
    pub(super) fn step(&mut self, n: u64, block_ms: u64, time: Stamp, position: u64) {
        let block_ms = block_ms.max(1);
        if self.bases.back().is_some_and(|base| base.block_ms != block_ms) {
            // A window that begins here has no length yet: it takes the new one.
            let begins = self.start_of(self.current) == time;
            let number = if begins { self.current } else { self.current.saturating_add(1) };
            if self.bases.back().is_some_and(|base| base.number == number) {
                self.bases.pop_back();
            }
            self.bases.push_back(Base { number, start: time, block_ms });
            self.pass(time, position);
        }
        let begins = self.start_of(self.current) == time;
        let from = if begins { self.current } else { self.current.saturating_add(1) };
        if self.steps.back().is_some_and(|(known, _)| *known >= from) {
            self.steps.pop_back();
        }
        self.steps.push_back((from, n));
    }

    /// What a window holds; `None` once it is closed.
    pub(super) fn building(&mut self, number: u64) -> Option<&mut Building> {
        (number >= self.next).then(|| self.building.entry(number).or_default())
    }

    /// The first window that a worker who has read up to `position` does not cover.
    pub(super) fn first_uncovered(&self, position: u64) -> u64 {
        let covered = self.ended.iter().rev().find(|(_, ended)| *ended <= position);
        covered.map_or(self.next, |(number, _)| number.saturating_add(1).max(self.next))
    }

    /// Drops the oldest windows beyond [`MAX_WINDOWS`] that are not closed.
    pub(super) fn trim(&mut self) {
        let excess = self.current.saturating_sub(self.next).saturating_sub(MAX_WINDOWS as u64);
        if excess > 0 {
            self.next += excess;
            self.drop_windows(excess);
            self.building = self.building.split_off(&self.next);
            self.forget();
        }
    }

    /// The next window, if it ended `settle_ms` ago.
    pub(super) fn due(&self, time: Stamp, settle_ms: u64) -> Option<Due> {
        let number = self.next;
        if number >= self.current || time < self.end_of(number).plus(settle_ms) {
            return None;
        }
        let (_, position) = self.ended.iter().find(|(last, _)| *last >= number)?;
        Some(Due { number, position: *position })
    }

    /// Closes the next window. [`Windows::forget`] must follow once it is made.
    pub(super) fn close(&mut self) -> Closing {
        let number = self.next;
        self.next = number.saturating_add(1);
        let step = self.steps.iter().rev().find(|(from, _)| *from <= number);
        Closing {
            number,
            start: self.start_of(number),
            end: self.end_of(number),
            step: step.or_else(|| self.steps.front()).map_or(0, |(_, n)| *n),
            missing: std::mem::take(&mut self.missing),
            built: self.building.remove(&number).unwrap_or_default(),
        }
    }

    /// Keeps a closed window until it is judged.
    pub(super) fn keep(&mut self, block: EvidenceBlock) {
        self.closed.push_back(Arc::new(block));
        self.closed_changes = self.closed_changes.saturating_add(1);
        if self.closed.len() > MAX_WINDOWS {
            self.closed.pop_front();
            self.drop_windows(1);
        }
    }

    /// Forgets closed windows up to a number: they are judged.
    pub(super) fn judged(&mut self, number: u64) {
        while self.closed.front().is_some_and(|block| block.number <= number) {
            self.closed.pop_front();
            self.closed_changes = self.closed_changes.saturating_add(1);
        }
        self.forget();
    }

    /// Forgets what only closed windows needed.
    pub(super) fn forget(&mut self) {
        let next = self.next;
        for marks in [&mut self.incomplete, &mut self.untreated, &mut self.lapsed, &mut self.purged] {
            marks.forget_below(next);
        }
        while self.ended.front().is_some_and(|(number, _)| *number < next) {
            self.ended.pop_front();
        }
        while self.steps.get(1).is_some_and(|(from, _)| *from <= next) {
            self.steps.pop_front();
        }
        let oldest = self.closed.front().map_or(next, |block| block.number);
        while self.bases.get(1).is_some_and(|base| base.number <= oldest) {
            self.bases.pop_front();
        }
    }

    fn drop_windows(&mut self, count: u64) {
        self.missing = self.missing.saturating_add(count);
        self.dropped = self.dropped.saturating_add(count);
    }
}
