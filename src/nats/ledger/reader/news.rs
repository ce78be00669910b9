//! Which entries are news, and which are history.
//!
//! News makes counters, log lines and events. What stood in the log before the worker was there is history: made known
//! again at each start, it would look like a burst. What came since is news, also where the worker reads it while
//! catching up: behind a slow start, or after a rebuild. Where all workers rebuild at once, nobody else makes it known;
//! where others do, the events stream drops the copies by their ids.
//!
//! Between the two stands what came while no worker was there: its transitions have no event. The events stream shows
//! how far that goes back: to its last transition. From there on they make events, and no counters and log lines.
//!
//! An entry is named by its stamp here, for positions begin again with each log. Entries of one millisecond with the last
//! one applied before a rebuild are taken for history.

use crate::domain::{Offset, Stamp, Tick};

/// What an entry makes known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::nats::ledger) enum Telling {
    /// Counters, log lines and events.
    News,
    /// Events of transitions: no worker was there when it came.
    Missed,
    /// Nothing.
    History,
}

/// How far entries are history to a worker, and what it has read since it began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct News {
    started: Tick,
    /// Entries up to here are history. Not known before the broker's clock is.
    history: Option<Stamp>,
    /// The entry of the last transition that stands in the events stream.
    published: Option<Stamp>,
    /// The greatest stamp applied.
    newest: Stamp,
    /// Results rejected since reading began.
    rejected: u64,
}

impl News {
    /// Of a worker that starts now.
    pub(super) fn from(started: Tick) -> Self {
        Self { started, ..Self::default() }
    }

    /// Of the same worker after a rebuild.
    pub(super) fn rebuilt(self) -> Self {
        Self { history: self.history.max(Some(self.newest)), rejected: 0, ..self }
    }

    /// Reading begins, and the broker's clock is known. `published` is the entry of the last transition in the events
    /// stream.
    pub(super) fn begin(&mut self, offset: Offset, published: Option<Stamp>) {
        self.history.get_or_insert(offset.to_stamp(self.started));
        self.published = published;
    }

    /// What an entry makes known; `live`: it came after reading began.
    pub(super) fn telling(&self, stamp: Stamp, live: bool) -> Telling {
        if live || self.history.is_some_and(|history| stamp > history) {
            Telling::News
        } else if self.published.is_some_and(|published| stamp >= published) {
            Telling::Missed
        } else {
            Telling::History
        }
    }

    /// An entry was applied.
    pub(super) fn note(&mut self, stamp: Stamp, rejected: bool) {
        self.newest = self.newest.max(stamp);
        self.rejected += u64::from(rejected);
    }

    /// How many of the results read since reading began were rejected.
    pub(super) const fn rejected(&self) -> u64 {
        self.rejected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stood_before_a_start_is_history_and_what_came_since_is_news() {
        let mut news = News::from(Tick(1_000));
        assert_eq!(news.telling(Stamp(u64::MAX), false), Telling::History, "the broker's clock is not known");
        news.begin(Offset(500), None);
        news.begin(Offset(700), None);
        assert_eq!(news.telling(Stamp(1_500), false), Telling::History);
        assert_eq!(news.telling(Stamp(1_501), false), Telling::News);
        assert_eq!(news.telling(Stamp(1_500), true), Telling::News);
        news.note(Stamp(1_400), true);
        news.note(Stamp(1_600), true);
        news.note(Stamp(1_601), false);
        assert_eq!(news.rejected(), 2, "all that were read");
    }

    #[test]
    fn after_a_rebuild_what_was_applied_is_history_and_the_rest_is_news() {
        let has = |news: &News, stamp| news.telling(Stamp(stamp), false) == Telling::News;
        let mut news = News::from(Tick(1_000));
        news.begin(Offset(0), None);
        let idle = news.rebuilt();
        assert!(!has(&idle, 900) && has(&idle, 1_001), "nothing was applied since the start");
        news.note(Stamp(2_000), true);
        news.note(Stamp(1_900), false);
        let mut news = news.rebuilt();
        news.begin(Offset(0), None);
        assert_eq!(news.rejected(), 0);
        assert!(!has(&news, 1_500) && !has(&news, 2_000), "read again");
        assert!(has(&news, 2_001), "of the log that was made anew");
    }

    #[test]
    fn what_came_behind_the_last_event_makes_events_alone() {
        let mut news = News::from(Tick(1_000));
        news.begin(Offset(0), Some(Stamp(700)));
        let telling = |stamp| news.telling(Stamp(stamp), false);
        assert_eq!(telling(699), Telling::History);
        assert_eq!(telling(700), Telling::Missed, "it may have moved several breakers");
        assert_eq!(telling(1_000), Telling::Missed);
        assert_eq!(telling(1_001), Telling::News);
    }
}
