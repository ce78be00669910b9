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

/// What is reported of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::nats::ledger) enum Report {
    /// Counters, log lines and events: it is news.
    All,
    /// Events of transitions: no worker was there when it came.
    Events,
    /// It is history.
    Nothing,
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

    /// What is reported of an entry; `live`: it came after reading began.
    pub(super) fn report(&self, stamp: Stamp, live: bool) -> Report {
        if live || self.history.is_some_and(|history| stamp > history) {
            Report::All
        } else if self.published.is_some_and(|published| stamp >= published) {
            Report::Events
        } else {
            Report::Nothing
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
        assert_eq!(news.report(Stamp(u64::MAX), false), Report::Nothing, "the broker's clock is not known");
        news.begin(Offset(500), None);
        news.begin(Offset(700), None);
        assert_eq!(news.report(Stamp(1_500), false), Report::Nothing);
        assert_eq!(news.report(Stamp(1_501), false), Report::All);
        assert_eq!(news.report(Stamp(1_500), true), Report::All);
        news.note(Stamp(1_400), true);
        news.note(Stamp(1_600), true);
        news.note(Stamp(1_601), false);
        assert_eq!(news.rejected(), 2, "all that were read");
    }

    #[test]
    fn after_a_rebuild_what_was_applied_is_history_and_the_rest_is_news() {
        let has = |news: &News, stamp| news.report(Stamp(stamp), false) == Report::All;
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
        let report = |stamp| news.report(Stamp(stamp), false);
        assert_eq!(report(699), Report::Nothing);
        assert_eq!(report(700), Report::Events, "it may have moved several breakers");
        assert_eq!(report(1_000), Report::Events);
        assert_eq!(report(1_001), Report::All);
    }
}
