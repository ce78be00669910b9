//! How long a stream keeps what is published now, at the rate of the last minutes.
//!
//! A stream with limits drops its oldest message when it is full, and one at its size limit is always full. So what
//! matters is the time that it covers: `min(max_age, max_bytes / rate of bytes, max_msgs / rate of messages)`. A consumer
//! that stands still for longer has lost events. (Where the stream refuses new messages instead, it is the time that it
//! takes to fill.)
//!
//! The rate is that between the first and the last of the latest [`LOOKS`] looks, and is said only once there are
//! [`ENOUGH`] of them: a burst of seconds says nothing of a day. A message is taken to be as long as the mean of those
//! that the stream holds. A stream that was made anew, or lost its end, is measured anew.

use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::Tick;
use crate::nats::stream_info::Limits;

/// Ten minutes of looks, ten seconds apart.
const LOOKS: usize = 61;
/// Five minutes.
const ENOUGH: usize = 31;

/// How much longer than wanted the time must be before it is said to be enough again, in percent: rates vary.
const RECOVERED_PERCENT: u32 = 110;

/// A stream at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) at: Tick,
    /// When the stream was made, as the broker writes it.
    pub(super) created: String,
    /// The sequence of its last message.
    pub(super) last: u64,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) limits: Limits,
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measured {
    /// How long what is published now is kept, in seconds; infinite where nothing bounds it.
    pub(super) covered_s: f64,
    /// Bytes that come in a second.
    pub(super) bytes_per_s: f64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    looks: VecDeque<Look>,
}

impl Coverage {
    /// Takes a look, and says how long the stream keeps a message; `None` until that has been measured.
    pub(super) fn note(&mut self, look: Look) -> Option<Measured> {
        if self.looks.back().is_some_and(|before| before.created != look.created || before.last > look.last) {
            self.looks.clear();
        }
        if self.looks.len() == LOOKS {
            self.looks.pop_front();
        }
        self.looks.push_back(look);
        self.measured()
    }

    fn measured(&self) -> Option<Measured> {
        let (first, last) = (self.looks.front()?, self.looks.back()?);
        let seconds = ratio(last.at.since(first.at), 1_000);
        if self.looks.len() < ENOUGH || seconds <= 0.0 {
            return None;
        }
        let messages_per_s = ratio(last.last - first.last, 1) / seconds;
        let bytes_per_s = messages_per_s * ratio(last.bytes, last.messages.max(1));
        let Limits { max_age, max_bytes, max_messages } = last.limits;
        let by = |most: Option<u64>, per_s: f64| match most {
            Some(most) if per_s > 0.0 => ratio(most, 1) / per_s,
            _ => f64::INFINITY,
        };
        let by_age = max_age.map_or(f64::INFINITY, |age| age.as_secs_f64());
        let covered_s = by_age.min(by(max_bytes, bytes_per_s)).min(by(max_messages, messages_per_s));
        Some(Measured { covered_s, bytes_per_s })
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn ratio(of: u64, per: u64) -> f64 {
    of as f64 / per as f64
}

/// Whether the time covered is less than wanted.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    low: bool,
}

/// What is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is less than wanted from here on.
    Low,
    /// It is enough again.
    Recovered,
}

impl Alarm {
    /// Takes a measurement.
    pub(super) fn judge(&mut self, covered_s: f64, wanted: Duration) -> Option<Change> {
        let enough = (wanted * RECOVERED_PERCENT / 100).as_secs_f64();
        let low = if self.low { covered_s < enough } else { covered_s < wanted.as_secs_f64() };
        if std::mem::replace(&mut self.low, low) == low {
            return None;
        }
        Some(if low { Change::Low } else { Change::Recovered })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY_S: u64 = 86_400;

    /// A stream that took so many messages of 400 bytes in each ten seconds.
    fn look(n: u64, per_look: u64) -> Look {
        let limits = Limits {
            max_age: Some(Duration::from_secs(7 * DAY_S)),
            max_bytes: Some(512 << 20),
            max_messages: None,
        };
        let last = n * per_look;
        // It holds its last thousand.
        let messages = last.min(1_000);
        Look {
            at: Tick(n * 10_000),
            created: "2026-01-01T00:00:00Z".to_owned(),
            last,
            messages,
            bytes: messages * 400,
            limits,
        }
    }

    fn after(looks: impl IntoIterator<Item = Look>) -> Option<Measured> {
        let mut coverage = Coverage::default();
        looks.into_iter().map(|look| coverage.note(look)).last().flatten()
    }

    #[test]
    fn nothing_is_said_before_five_minutes_have_been_measured() {
        assert_eq!(after((0..30).map(|n| look(n, 1_000_000))), None);
        assert!(after((0..31).map(|n| look(n, 1_000_000))).is_some());
    }

    #[test]
    fn the_bytes_that_come_say_how_long_the_size_lasts() {
        let measured = after((0..61).map(|n| look(n, 500_000))).unwrap();
        // 50,000 a second of 400 bytes.
        assert!((measured.bytes_per_s - 20e6).abs() < 1.0, "{measured:?}");
        assert!((measured.covered_s - 26.8).abs() < 0.1, "{measured:?}");
    }

    #[test]
    fn a_stream_that_takes_little_keeps_it_for_its_age() {
        for per_look in [0, 1] {
            let measured = after((0..61).map(|n| look(n, per_look))).unwrap();
            assert!((measured.covered_s - 604_800.0).abs() < 1.0, "{measured:?}");
        }
        let unbounded = |n| Look { limits: Limits::default(), ..look(n, 1_000) };
        assert_eq!(after((0..61).map(unbounded)).unwrap().covered_s, f64::INFINITY);
        let few = |n| Look {
            limits: Limits { max_messages: Some(50_000), ..look(n, 0).limits },
            ..look(n, 10_000)
        };
        assert!((after((0..61).map(few)).unwrap().covered_s - 50.0).abs() < 0.1);
    }

    #[test]
    fn the_rate_is_that_of_the_last_ten_minutes() {
        let quiet = (0..100).map(|n| look(n, 0));
        let mut coverage = Coverage::default();
        quiet.for_each(|look| {
            coverage.note(look);
        });
        let busy = |n: u64| Look { last: (n - 100) * 1_000, ..look(n, 1_000) };
        let all: Vec<_> = (100..161).filter_map(|n| coverage.note(busy(n))).collect();
        assert!(all.windows(2).all(|pair| pair[0].bytes_per_s <= pair[1].bytes_per_s), "{all:?}");
        assert!((all[60].bytes_per_s - 40_000.0).abs() < 1.0, "{:?}", all[60]);
    }

    #[test]
    fn a_stream_that_was_made_anew_or_put_back_is_measured_anew() {
        let mut coverage = Coverage::default();
        for n in 0..61 {
            coverage.note(look(n, 1_000));
        }
        assert_eq!(coverage.note(look(61, 10)), None, "its end went back");
        for n in 62..123 {
            coverage.note(look(n, 1_000));
        }
        let anew = Look { created: "2026-02-01T00:00:00Z".to_owned(), ..look(123, 1_000) };
        assert_eq!(coverage.note(anew), None);
    }

    #[test]
    fn less_than_wanted_is_said_once_and_so_is_its_end_a_tenth_above() {
        let mut alarm = Alarm::default();
        let day = Duration::from_secs(DAY_S);
        let hours = [f64::INFINITY, 25.0, 23.9, 10.0, 24.5, 26.3, 26.5, 24.5, 20.0];
        let said: Vec<_> = hours.map(|hours| alarm.judge(hours * 3_600.0, day)).into();
        let (low, recovered) = (Some(Change::Low), Some(Change::Recovered));
        assert_eq!(said, [None, None, low, None, None, None, recovered, None, low]);
    }

    proptest! {
        /// Never more than a limit allows, never negative, and a number.
        #[test]
        fn what_is_covered_is_within_the_limits(
            steps in prop::collection::vec((0_u64..20_000, 0_u64..1_000_000, 0_u64..1 << 40), 31..90),
            max_bytes in prop::option::of(1_u64..1 << 50),
        ) {
            let (mut coverage, mut at, mut last) = (Coverage::default(), 0, 0);
            for (ms, more, bytes) in steps {
                (at, last) = (at + ms, last + more);
                let limits = Limits { max_bytes, ..look(0, 0).limits };
                let measured =
                    coverage.note(Look { at: Tick(at), last, messages: last, bytes, limits, ..look(0, 0) });
                if let Some(Measured { covered_s, bytes_per_s }) = measured {
                    prop_assert!((0.0..=604_800.0).contains(&covered_s), "{covered_s}");
                    prop_assert!(bytes_per_s >= 0.0 && bytes_per_s.is_finite());
                }
            }
        }
    }
}
