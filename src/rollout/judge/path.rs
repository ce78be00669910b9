use serde::{Deserialize, Serialize};

use super::log_e::LogE;

/// The capital of one bet, begun with the test and begun anew later.
///
/// Half of the bet's capital is played from the beginning, the other half in equal parts from each hour of the
/// phase. A sum over all starts would be the whole capital. Only the best later start is kept: it is less than
/// the sum, so the test stays valid, and it finds an effect that begins late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Path {
    from_beginning: LogE,
    /// `None` before the first hour begins.
    from_later: Option<LogE>,
    /// The capital of a start from now on.
    restart: LogE,
}

impl Path {
    pub(super) const fn new(beginning: LogE, restart: LogE) -> Self {
        Self { from_beginning: beginning, from_later: None, restart }
    }

    /// The capital that starts from now on play with.
    pub(super) const fn set_restart(&mut self, restart: LogE) {
        self.restart = restart;
    }

    /// Takes a block's evidence. `starts` says that this block is the first of an hour.
    pub(super) fn take(&mut self, evidence: LogE, starts: bool) {
        if starts {
            self.from_later = self.from_later.max(Some(self.restart));
        }
        self.from_beginning = self.from_beginning.plus(evidence);
        self.from_later = self.from_later.map(|path| path.plus(evidence));
    }

    /// The better of the two.
    pub(super) fn best(&self) -> LogE {
        self.from_later.map_or(self.from_beginning, |later| later.max(self.from_beginning))
    }
}

/// Tells which blocks are the first of an hour, while the phase may last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hours {
    last: Option<u64>,
}

impl Hours {
    /// Whether a start falls on a block of this hour. Later starts have weights for `most` hours only.
    pub(super) fn starts(&mut self, hour: u64, most: u32) -> bool {
        self.last.replace(hour) != Some(hour) && hour < u64::from(most)
    }
}
