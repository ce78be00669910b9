use serde::{Deserialize, Serialize};

use crate::domain::Stamp;

/// Log time: fold time, plus all by which it was ever set back. It never runs backwards, and it is the fold time
/// while the clock was never set back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Clock {
    /// Fold time after the last entry; absent before the first.
    now: Option<Stamp>,
    set_back_ms: u64,
}

/// What an entry did to the clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passage {
    /// Log time before it.
    pub(super) from: Stamp,
    /// Log time from it on.
    pub(super) to: Stamp,
    /// Whether fold time was set back.
    pub(super) set_back: bool,
}

impl Clock {
    #[inline]
    pub(super) fn advance(&mut self, now: Stamp) -> Passage {
        let before = self.now.unwrap_or(now);
        let from = self.log_time(before);
        self.set_back_ms = self.set_back_ms.saturating_add(before.since(now));
        self.now = Some(now);
        Passage { from, to: self.log_time(now), set_back: now < before }
    }

    /// Log time after the last entry.
    pub(super) fn now(&self) -> Stamp {
        self.log_time(self.now.unwrap_or_default())
    }

    /// The log time of a moment by the present clock.
    pub(super) const fn log_time(&self, stamp: Stamp) -> Stamp {
        stamp.plus(self.set_back_ms)
    }
}

/// Where an entry stands: its log time and its position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) time: Stamp,
    pub(super) position: u64,
}
