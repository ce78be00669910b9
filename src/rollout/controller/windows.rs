use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::domain::Stamp;
use crate::log::JudgedWindow;
use crate::rollout::evidence::EvidenceBlock;

/// For how many windows a gap in the evidence holds the rollout.
const GAP_WINDOWS: usize = 12;

/// Which windows were taken. They come strictly in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Windows {
    next: u64,
    last: Option<JudgedWindow>,
    /// Whether each of the last [`GAP_WINDOWS`] left something out, oldest first.
    gaps: VecDeque<bool>,
}

/// Where a block stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is the next one.
    Next,
    /// It is the first of windows whose numbers begin again, since the log was made anew.
    Anew,
    /// It was taken.
    Known,
    /// Others come first.
    Ahead,
}

impl Windows {
    pub(super) fn place(&self, block: &EvidenceBlock) -> Place {
        let after_last = self.last.is_none_or(|last| block.start >= last.end);
        if block.number < self.next {
            // A window that was taken began before the last one ended.
            let first = block.number == block.missing;
            return if first && after_last { Place::Anew } else { Place::Known };
        }
        // Windows that were dropped never come.
        if block.number == self.next.saturating_add(block.missing) { Place::Next } else { Place::Ahead }
    }

    /// The block at its place is taken.
    pub(super) fn take(&mut self, block: &EvidenceBlock, place: Place) {
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
