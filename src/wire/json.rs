//! Reading JSON in place.

mod scan;
mod stop;

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

pub(super) use scan::{Scan, object};
pub(super) use stop::is_plain;

/// The deepest nesting that serde_json reads with its default settings, and so most executors.
pub(super) const MAX_DEPTH: usize = 127;

/// The raw texts of an object's members of given names. What was found before a syntax error stays.
pub(super) struct Members<'a, const N: usize> {
    /// In the order of the names; `None` where absent or `null`. Where one is given twice, the first.
    pub(super) values: [Option<&'a str>; N],
    /// The place of the first name that was given twice.
    pub(super) doubled: Option<usize>,
}

impl<'a, const N: usize> Members<'a, N> {
    /// Reads `text`, which must be one object and nothing else. The error is none for an object that
    /// was read to its end.
    pub(super) fn read(names: &[&'static str; N], text: &'a str) -> (Self, Option<serde_json::Error>) {
        match Self::read_quickly(names, text) {
            Some(members) => (members, None),
            None => Self::read_slowly(names, text),
        }
    }

    fn read_quickly(names: &[&'static str; N], text: &'a str) -> Option<Self> {
        let (mut members, mut seen) = (Self::none(), [false; N]);
        object(text, |scan, key| match names.iter().position(|name| name.as_bytes() == key) {
            Some(at) => {
                members.note(at, scan.raw()?, &mut seen);
                Some(())
            }
            None => scan.skip(),
        })?;
        Some(members)
    }

    fn read_slowly(names: &[&'static str; N], text: &'a str) -> (Self, Option<serde_json::Error>) {
        let mut members = Self::none();
        let mut reader = serde_json::Deserializer::from_str(text);
        let read =
            Collect { names, members: &mut members }.deserialize(&mut reader).and_then(|()| reader.end());
        (members, read.err())
    }

    fn none() -> Self {
        Self { values: [None; N], doubled: None }
    }

    fn note(&mut self, at: usize, raw: &'a str, seen: &mut [bool; N]) {
        if seen[at] {
            self.doubled.get_or_insert(at);
            return;
        }
        seen[at] = true;
        self.values[at] = (raw != "null").then_some(raw);
    }
}

/// Which members of an object were met, as bits: for readings that know what to do with each.
#[derive(Default)]
pub(super) struct Met(u32);

impl Met {
    /// The scan, to read the value of a member; none if the member was met before.
    #[inline]
    pub(super) fn once<'s, 'a>(&mut self, place: u32, scan: &'s mut Scan<'a>) -> Option<&'s mut Scan<'a>> {
        let bit = 1_u32.checked_shl(place)?;
        let first = self.0 & bit == 0;
        self.0 |= bit;
        first.then_some(scan)
    }
}

struct Collect<'m, 'a, const N: usize> {
    names: &'m [&'static str; N],
    members: &'m mut Members<'a, N>,
}

impl<'a, const N: usize> DeserializeSeed<'a> for Collect<'_, 'a, N> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a, const N: usize> Visitor<'a> for Collect<'_, 'a, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = [false; N];
        while let Some(Name(key)) = map.next_key::<Name<'a>>()? {
            let Some(at) = self.names.iter().position(|name| *name == key) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            self.members.note(at, map.next_value::<&'a RawValue>()?.get(), &mut seen);
        }
        Ok(())
    }
}

#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The text of a JSON string; `None` for another kind, or for an escape that is no character.
pub(super) fn text(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        Name::deserialize(&mut reader(raw)).ok().map(|name| name.0)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// The value of a JSON number, infinite where it is too large for one; `None` for another kind.
pub(super) fn number(raw: &str) -> Option<f64> {
    // Most are whole. Nine digits are less than 2³².
    if matches!(raw.len(), 1..=9) && raw.bytes().all(|b| b.is_ascii_digit()) {
        return Some(f64::from(raw.bytes().fold(0, |sum, b| sum * 10 + u32::from(b - b'0'))));
    }
    if is_number(raw) { raw.parse().ok() } else { None }
}

/// The value of `true` or `false`; `None` for another kind.
pub(super) fn boolean(raw: &str) -> Option<bool> {
    match raw {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Whether a raw value is a number.
pub(super) fn is_number(raw: &str) -> bool {
    raw.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

/// Whether a raw value is an object.
pub(super) fn is_object(raw: &str) -> bool {
    raw.starts_with('{')
}

/// Whether a text nests deeper than [`MAX_DEPTH`]. Exact for well-formed JSON.
pub(super) fn too_deep(text: &str) -> bool {
    let opens = |b: &u8| matches!(b, b'{' | b'[');
    // A text of few brackets cannot nest deeply: one quick pass settles nearly every body.
    if text.as_bytes().iter().filter(|b| opens(b)).count() <= MAX_DEPTH {
        return false;
    }
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        if quoted {
            quoted = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => quoted = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

fn reader(raw: &str) -> serde_json::Deserializer<serde_json::de::StrRead<'_>> {
    serde_json::Deserializer::from_str(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_in_any_order_and_the_rest_is_ignored() {
        let (m, error) =
            Members::read(&["a", "b", "c"], r#" {"x":[{"a":1}],"c":"s","\u0061":{"d":[1, 2]},"b":null} "#);
        assert!(error.is_none());
        assert_eq!(m.values, [Some(r#"{"d":[1, 2]}"#), None, Some(r#""s""#)]);
        assert_eq!(m.doubled, None);
    }

    #[test]
    fn what_stood_before_a_syntax_error_is_kept() {
        let (m, error) = Members::read(&["a", "b"], r#"{"a":"x","b":{"#);
        assert!(error.is_some());
        assert_eq!(m.values, [Some(r#""x""#), None]);
    }

    #[test]
    fn a_name_given_twice_is_told_even_if_one_is_null() {
        let (m, error) = Members::read(&["a", "b"], r#"{"b":null,"a":1,"b":2}"#);
        assert!(error.is_none());
        assert_eq!(m.doubled, Some(1));
    }

    #[test]
    fn scalars_are_read_by_kind() {
        assert_eq!(text(r#""a b""#).as_deref(), Some("a b"));
        assert_eq!(text(r#""a\"\u00e9""#).as_deref(), Some("a\"é"));
        assert_eq!(text(r#""\ud800""#), None);
        assert_eq!(text("7"), None);
        assert_eq!(number("-1.5e2"), Some(-150.0));
        assert_eq!(number("999999999"), Some(999_999_999.0));
        assert_eq!(number("1706371200000"), Some(1_706_371_200_000.0));
        assert_eq!(number(""), None);
        assert_eq!(number("1e999"), Some(f64::INFINITY));
        assert_eq!(number("\"1\""), None);
        assert_eq!(boolean("true"), Some(true));
        assert_eq!(boolean("1"), None);
    }

    #[test]
    fn depth_is_counted_outside_strings_only() {
        let nested = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        assert!(!too_deep(&nested(MAX_DEPTH)));
        assert!(too_deep(&nested(MAX_DEPTH + 1)));
        assert!(!too_deep(&format!(r#"["{}\"{}"]"#, "[".repeat(200), "{".repeat(200))));
        assert!(!too_deep(&format!("[{}0]", "[],".repeat(500))));
    }

    #[test]
    fn the_depth_is_the_one_that_serde_json_reads() {
        let nested = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        assert!(serde_json::from_str::<serde_json::Value>(&nested(MAX_DEPTH)).is_ok());
        assert!(serde_json::from_str::<serde_json::Value>(&nested(MAX_DEPTH + 1)).is_err());
    }
}
