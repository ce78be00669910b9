//! Days, weeks and numbers.

use proptest::prelude::*;

use crate::domain::Stamp;
use crate::rollout::judge::LogE;
use crate::rollout::pages::calendar::{Day, moment, time_of_day};
use crate::rollout::pages::text::{nats, rate, thousandths};

const DAY_MS: u64 = 86_400_000;

#[test]
fn stamps_have_days_and_weeks_of_utc() {
    for (ms, at, week) in [
        (0, "1970-01-01 00:00:00", "1970-W01"),
        (951_782_399_999, "2000-02-28 23:59:59", "2000-W09"),
        (951_782_400_000, "2000-02-29 00:00:00", "2000-W09"),
        (1_795_125_600_000, "2026-11-19 22:00:00", "2026-W47"),
        // The last days of a year may be of the next year's first week, and the first ones of the last week.
        (1_735_516_800_000, "2024-12-30 00:00:00", "2025-W01"),
        (1_609_459_200_000, "2021-01-01 00:00:00", "2020-W53"),
        (4_107_542_399_000, "2100-02-28 23:59:59", "2100-W08"),
    ] {
        assert_eq!(moment(Stamp(ms)), at);
        assert_eq!(Day::of(Stamp(ms)).week().to_string(), week, "{at}");
    }
    assert_eq!(Day::of(Stamp(u64::MAX)).to_string(), "9999-12-31");
    assert_eq!(time_of_day(Stamp(DAY_MS - 1)), "23:59:59");
}

#[test]
fn numbers_are_rounded_to_thousandths() {
    assert_eq!(thousandths(33_033), "33.033");
    for (part, whole, text) in
        [(1, 3, "33.333 %"), (2, 3, "66.667 %"), (0, 5, "0.000 %"), (5, 5, "100.000 %")]
    {
        assert_eq!(rate(part, whole), text);
    }
    assert_eq!(rate(1, 0), "no data: no unit");
    assert_eq!(rate(u64::MAX, u64::MAX), "100.000 %");
    for (nano, text) in [
        (0, "0.000"),
        (499_999, "0.000"),
        (-499_999, "0.000"),
        (-500_000, "-0.001"),
        (4_605_170_186, "4.605"),
    ] {
        assert_eq!(nats(LogE(nano)), text);
    }
    assert_eq!(nats(LogE(i64::MIN)), "-9223372036.855");
}

proptest! {
    #[test]
    fn days_follow_one_another(days in 0..1_000_000_u64) {
        let (one, next) = (Day::of(Stamp(days * DAY_MS + DAY_MS - 1)), Day::of(Stamp((days + 1) * DAY_MS)));
        prop_assert_eq!(one.until(next).collect::<Vec<_>>(), [one, next]);
        prop_assert_eq!(next.days_since(one), 1);
        prop_assert_eq!(one.days_since(next), 0);
        prop_assert!(one.to_string() < next.to_string());
    }
}
