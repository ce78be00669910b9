//! Text to checked values: durations, sizes, integers, switches. Each parser returns what it wants as
//! the fault, and repeats nothing of the text.

use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

const SIZE_UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// A duration with units, largest first or in any order: `40s`, `7d`, `1h30m`, `250ms`.
///
/// # Errors
/// What a duration looks like.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let fault = || "want numbers with a unit ms, s, m, h, d or w, such as 40s or 1h30m".to_owned();
    let mut total = 0_u64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(fault());
    }
    while !rest.is_empty() {
        let (number, after) = split_number(rest).ok_or_else(fault)?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let ms = lookup(&DURATION_UNITS, unit.trim()).ok_or_else(fault)?;
        total = number.checked_mul(ms).and_then(|part| total.checked_add(part)).ok_or_else(fault)?;
        rest = after;
    }
    Ok(Duration::from_millis(total))
}

/// A size in bytes, with or without a unit: `1048576`, `10GiB`, `500 MB`.
///
/// # Errors
/// What a size looks like.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let fault = || "want a number of bytes or one with a unit such as KiB, MiB, GiB, MB or GB".to_owned();
    let (number, unit) = split_number(text.trim()).ok_or_else(fault)?;
    let bytes = lookup(&SIZE_UNITS, unit.trim()).ok_or_else(fault)?;
    number.checked_mul(bytes).ok_or_else(fault)
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

fn lookup(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)
}

/// A parser of durations with units within bounds.
pub(super) fn span(min: Duration, max: Duration) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| match parse_duration(text)? {
        value if (min..=max).contains(&value) => Ok(value),
        _ => Err(format!("not within {min:?} to {max:?}")),
    }
}

/// A parser of whole milliseconds within bounds.
pub(super) fn millis(min: u64, max: u64) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| within(text.trim().parse().ok(), min, max).map(Duration::from_millis)
}

/// A parser of sizes within bounds.
pub(super) fn bytes<T: TryFrom<u64>>(min: u64, max: u64) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        let value = within(Some(parse_bytes(text)?), min, max)?;
        T::try_from(value).map_err(|_| "too large for this machine".to_owned())
    }
}

/// A parser of integers within bounds.
pub(super) fn integer<T: TryFrom<u64>>(min: u64, max: u64) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        let value = within(text.trim().parse().ok(), min, max)?;
        T::try_from(value).map_err(|_| "too large for this machine".to_owned())
    }
}

fn within(value: Option<u64>, min: u64, max: u64) -> Result<u64, String> {
    value
        .filter(|value| (min..=max).contains(value))
        .ok_or_else(|| format!("want a whole number from {min} to {max}"))
}

/// On or off, in the words that people use.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" => Ok(false),
        _ => Err("want true or false (on, off, yes, no, 1, 0)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_units() {
        for (text, ms) in
            [("250ms", 250), ("40s", 40_000), ("1h30m", 5_400_000), ("7d", 604_800_000), ("1w", 604_800_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "7", "d", "7 days", "-1s", "1.5h", "99999999999999999999s", "18446744073709551615w"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_may_carry_units() {
        for (text, bytes) in [("0", 0), ("1048576", 1 << 20), ("10GiB", 10 << 30), ("500 MB", 500_000_000)] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "GiB", "-1", "1.5MiB", "1 gib", "99999999TiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bounds_are_inclusive() {
        let parse = integer::<u32>(1, 8);
        assert_eq!((parse("1"), parse("8")), (Ok(1), Ok(8)));
        assert!(parse("0").is_err() && parse("9").is_err() && parse("x").is_err() && parse("").is_err());
    }
}
