use serde_json::Value;

use super::fields::whole_number;

const DAY: u64 = 86_400_000;
/// Units of a duration; `ms` stands before those that end in the same letters.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("d", DAY), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];

/// Milliseconds of `"10m"`, `"30s"`, `"500ms"`, or of a number of seconds; `None` for what is neither, is
/// zero, or is out of range.
pub(crate) fn duration_ms(value: &Value) -> Option<u64> {
    let ms = match value {
        Value::String(text) => {
            let (count, unit) = UNITS.iter().find_map(|(name, ms)| Some((text.strip_suffix(name)?, *ms)))?;
            if count.is_empty() || !count.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            count.parse::<u64>().ok()?.checked_mul(unit)?
        }
        _ => whole_number(value)?.checked_mul(1_000)?,
    };
    (ms > 0).then_some(ms)
}

/// A duration in the longest unit that holds it exactly.
pub(crate) fn written(ms: u64) -> String {
    written_below(u64::MAX, ms)
}

/// A duration in the longest unit up to hours that holds it exactly: what readers of policies have always got.
pub(crate) fn written_in_hours(ms: u64) -> String {
    written_below(DAY, ms)
}

fn written_below(bound: u64, ms: u64) -> String {
    let exact = UNITS.into_iter().filter(|(_, unit)| *unit < bound && ms.is_multiple_of(*unit));
    let (name, unit) = exact.max_by_key(|(_, unit)| *unit).unwrap_or(("ms", 1));
    format!("{}{name}", ms / unit)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_of_the_older_router_are_read() {
        for (value, ms) in [
            (json!("10m"), 600_000),
            (json!("30s"), 30_000),
            (json!("1h"), 3_600_000),
            (json!("2d"), 172_800_000),
            (json!("500ms"), 500),
            (json!(600), 600_000),
            (json!(1.0), 1_000),
        ] {
            assert_eq!(duration_ms(&value), Some(ms), "{value}");
            assert_eq!(duration_ms(&json!(written(ms))), Some(ms), "{value}");
        }
    }

    #[test]
    fn a_duration_is_written_in_the_longest_unit_that_holds_it() {
        for (ms, text) in [
            (604_800_000, "7d"),
            (43_200_000, "12h"),
            (90_000_000, "25h"),
            (90_000, "90s"),
            (120_000, "2m"),
            (1_500, "1500ms"),
        ] {
            assert_eq!(written(ms), text);
        }
        assert_eq!((written_in_hours(172_800_000), written_in_hours(90_000)), ("48h".into(), "90s".into()));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for value in [
            json!(""),
            json!("m"),
            json!("10"),
            json!("-1s"),
            json!("+1s"),
            json!("1.5h"),
            json!("10 m"),
            json!("0s"),
            json!(0),
            json!(-1),
            json!(1.5),
            json!("18446744073709551615h"),
            json!("99999999999999999999s"),
            json!(u64::MAX),
            json!(null),
            json!(["10m"]),
        ] {
            assert_eq!(duration_ms(&value), None, "{value}");
        }
    }
}
