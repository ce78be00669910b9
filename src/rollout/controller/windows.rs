use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::domain::Stamp;
use crate::log::JudgedWindow;
use crate::rollout::evidence::EvidenceBlock;

/// For how many windows a gap in the evidence holds the rollout.
const GAP_WINDOWS: usize = 12;

/// Which windows were taken. They come strictly in order.
///
/// Their numbers are those of a fold over the log. They begin again where the log was purged or made anew before a
/// worker had read it, and workers of which only some had read it number windows differently. So a block that
/// begins where the last one ended is the next one, whatever its number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Windows {
    next: u64,
    /// After a life of the rollout has ended: the first step of the next one. What is left of the old life does
    /// not come any more, so its first window may have any number.
    begins_with: Option<u64>,
    last: Option<JudgedWindow>,
    /// Whether each of the last [`GAP_WINDOWS`] left something out, oldest first.
    gaps: VecDeque<bool>,
}

/// Where a block stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is the next one.
    Next,
    /// It follows the last one in time, and its number is of another fold over the log.
    Anew,
    /// It was taken.
    Known,
    /// Others come first.
    Ahead,
}

impl Windows {
    /// A rollout that has ended is put again. `step` is the last one of its old life.
    pub(super) fn end_life(&mut self, step: u64) {
        self.begins_with = Some(step.saturating_add(1));
    }

    pub(super) fn place(&self, block: &EvidenceBlock) -> Place {
        if let Some(first) = self.begins_with {
            return if block.step < first { Place::Known } else { Place::Next };
        }
        // Windows that were dropped never come.
        if block.number == self.next.saturating_add(block.missing) {
            return Place::Next;
        }
        let (begins, length) = (block.start, block.end.since(block.start));
        match self.last {
            // A window that was taken began before the last one ended.
            Some(last) if block.number < self.next => {
                if begins >= last.end {
                    Place::Anew
                } else {
                    Place::Known
                }
            }
            // Nothing fits between.
            Some(last) if begins >= last.end && begins.since(last.end) < length => Place::Anew,
            _ => Place::Ahead,
        }
    }

    /// The block at its place is taken.
    pub(super) fn take(&mut self, block: &EvidenceBlock, place: Place) {
        self.begins_with = None;
        self.next = block.number.saturating_add(1);
        self.last = Some(JudgedWindow { number: block.number, end: block.end });
        let gap = block.incomplete || block.purged || block.missing > 0 || place == Place::Anew;
        self.gaps.push_back(gap);
        if self.gaps.len() > GAP_WINDOWS {
            self.gaps.pop_front();
        }
    }

    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    pub(super) const fn last(&self) -> Option<JudgedWindow> {
        self.last
    }

    /// Whether evidence was missing lately.
    pub(super) fn has_gap(&self) -> bool {
        self.gaps.contains(&true)
    }

    /// How long ago the last window ended; since a moment, where that is later.
    pub(super) fn age_ms(&self, now: Stamp, since: Stamp) -> u64 {
        now.since(self.last.map_or(since, |last| last.end.max(since)))
    }
}
