use std::fmt;

use time::Date;

use crate::domain::Stamp;

const SECOND_MS: u64 = 1_000;
const DAY_MS: u64 = 86_400_000;
/// The Julian day of 1970-01-01.
const EPOCH_JULIAN: i32 = 2_440_588;

/// A day of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Day(Date);

impl Day {
    /// The day of a moment; the last day of the year 9999 for all later ones.
    pub(super) fn of(stamp: Stamp) -> Self {
        let julian = i32::try_from(stamp.0 / DAY_MS).ok().and_then(|days| days.checked_add(EPOCH_JULIAN));
        Self(julian.and_then(|julian| Date::from_julian_day(julian).ok()).unwrap_or(Date::MAX))
    }

    /// This day and the following ones up to `last`.
    pub(super) fn until(self, last: Self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self.0), |day| day.next_day())
            .take_while(move |day| *day <= last.0)
            .map(Self)
    }

    /// Days from `earlier` to this one; 0 if it is not earlier.
    pub(super) fn days_since(self, earlier: Self) -> u64 {
        u64::try_from((self.0 - earlier.0).whole_days()).unwrap_or(0)
    }

    /// The ISO week that the day is in.
    pub(super) fn week(self) -> Week {
        let (year, week, _) = self.0.to_iso_week_date();
        Week { year, week }
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.0.year(), u8::from(self.0.month()), self.0.day())
    }
}

/// A week of ISO 8601: it begins on Monday and belongs to the year that holds its Thursday.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Week {
    year: i32,
    week: u8,
}

impl fmt::Display for Week {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-W{:02}", self.year, self.week)
    }
}

/// A moment to the second, without its zone: `2026-11-20 13:05:09`.
pub(super) fn moment(stamp: Stamp) -> String {
    format!("{} {}", Day::of(stamp), time_of_day(stamp))
}

/// The time of day to the second: `13:05:09`.
pub(super) fn time_of_day(stamp: Stamp) -> String {
    let seconds = stamp.0 % DAY_MS / SECOND_MS;
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}
