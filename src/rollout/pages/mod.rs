//! The pages of a rollout: its execution log, a page for each day and week, and tickets, as Markdown. All of it is a
//! pure function of the messages of the stream of rollouts.
//!
//! [`Journal`] is a fold. It runs [`Controllers`](super::controller::Controllers) over the same messages, which say
//! what was accepted and which decisions took effect, and keeps records of these and sums by day: blocks are many, and
//! none is kept. [`Journal::pages`] makes the texts. What each page holds, and where each figure comes from, is in
//! `docs/rollout-pages.md`.
//!
//! **Days** are of UTC. A message belongs to the day of its stamp, a window to the day in which it began, and an open
//! to the day on which the circuit opened. A window that began on a day is published after its end, so a day's counts
//! may still grow on the next day.
//!
//! **Tickets** are numbered in the order in which their findings are made, so a number does not change as messages
//! come. A finding is made where its message is applied: by a window, by a decision, at the end of a day (before the
//! first message of a later day that has an effect), or when the windows of a day are all there.
//!
//! What always holds:
//! - Equal messages give equal bytes. There is no clock, no randomness, no locale and no float here.
//! - Messages without an effect change no page: copies, refused commands, and records that come second.
//! - Each accepted plan and command, and each decision that took effect, is a row of the page of its day, and each
//!   decision is a row of the execution log.
//! - A text that a person wrote stays within its cell or line: markup and line breaks have no effect.
//! - A field without a value says "no data" and why.
//!
//! **Bounds**: `MAX_TICKETS` tickets; tables of tenants by day and week show 20 rows; texts of people have
//! 1,024 characters. A rollout of more than ten years has pages for days with messages only.

mod advice;
mod calendar;
mod checklist;
mod circuits;
mod day_page;
mod findings;
mod journal;
mod log_page;
mod phase_section;
mod records;
mod sums;
mod tables;
#[cfg(test)]
mod tests;
mod text;
mod ticket_page;
mod ticket_texts;
mod tickets;
mod week_page;
mod words;

use std::collections::BTreeMap;

pub use journal::Journal;

use self::calendar::{Day, Week};
use self::day_page::PageIndex;
use super::controller::Message;
use crate::domain::{RolloutId, Stamp};

/// Days without messages have pages where a rollout lasts no longer. A longer time comes of a clock that was wrong.
const MAX_DAYS: u64 = 3_660;

/// The pages of a rollout by their relative paths, from all messages of its stream in order, each with its place and
/// stamp. `made` is when the stream was made, in nanoseconds since the Unix epoch.
#[must_use]
pub fn pages(
    made: i64,
    rollout: &RolloutId,
    messages: impl IntoIterator<Item = (u64, Stamp, Message)>,
) -> BTreeMap<String, String> {
    let mut journal = Journal::new(made, rollout);
    for (sequence, stamp, message) in messages {
        journal.apply(sequence, stamp, &message);
    }
    journal.pages()
}

impl Journal {
    /// The pages by their relative paths: `EXECUTION_LOG.md`, `daily/YYYY-MM-DD.md`, `weekly/YYYY-Www.md` and
    /// `tickets/CB-OPS-n.md`. Without an accepted message, the first alone.
    #[must_use]
    pub fn pages(&self) -> BTreeMap<String, String> {
        let mut pages = BTreeMap::from([("EXECUTION_LOG.md".to_owned(), log_page::page(self))]);
        let index = PageIndex::new(self);
        let mut weeks: BTreeMap<Week, Vec<Day>> = BTreeMap::new();
        for day in self.days_with_pages() {
            pages.insert(format!("daily/{day}.md"), day_page::page(&index, day));
            weeks.entry(day.week()).or_default().push(day);
        }
        for (week, days) in &weeks {
            pages.insert(format!("weekly/{week}.md"), week_page::page(&index, *week, days));
        }
        for ticket in self.tickets.iter() {
            pages.insert(format!("tickets/{}.md", ticket.name()), ticket_page::page(self, ticket));
        }
        pages
    }

    fn days_with_pages(&self) -> Vec<Day> {
        match self.range {
            Some(range) if range.last.days_since(range.first) > MAX_DAYS => {
                self.days.keys().copied().collect()
            }
            Some(range) => range.first.until(range.last).collect(),
            None => Vec::new(),
        }
    }
}
