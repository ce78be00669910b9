use serde_json::Value;

use super::fields::whole_number;

/// Units of a duration, longest first; `ms` stands before those that end in the same letters.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];

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
    let (count, unit) = match ms {
        _ if ms.is_multiple_of(3_600_000) => (ms / 3_600_000, "h"),
        _ if ms.is_multiple_of(60_000) => (ms / 60_000, "m"),
        _ if ms.is_multiple_of(1_000) => (ms / 1_000, "s"),
        _ => (ms, "ms"),
    };
    format!("{count}{unit}")
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
