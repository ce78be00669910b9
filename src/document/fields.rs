use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::domain::{IdError, Ratio};

use super::durations::{duration_ms, written};
use super::faults::{Faults, below};
use super::names::nearest;

/// Which members an object of a document may have.
pub(crate) struct Shape<'k> {
    /// The names that it may have.
    pub(crate) known: &'k [&'k str],
    /// Names that are refused with advice of their own, such as what the older router took.
    pub(crate) refused: &'k [(&'k str, &'k str)],
}

/// An object of a document, with its pointer. Readers add a fault for what is wrong and give the
/// default in its place: any fault refuses the whole document, so what stands in is never used.
pub(crate) struct Block<'a> {
    /// What messages call the document: `policy`.
    kind: &'static str,
    path: String,
    members: &'a Map<String, Value>,
}

impl<'a> Block<'a> {
    /// Takes a whole document as an object of this shape; `None`, with a fault, if it is no object.
    /// `kind` is what messages call the document.
    pub(crate) fn document(
        kind: &'static str,
        value: &'a Value,
        shape: &Shape<'_>,
        faults: &mut Faults,
    ) -> Option<Self> {
        Self::checked(kind, String::new(), value, shape, faults)
    }

    /// Takes a member as an object of this shape; `None` if it is absent, or, with a fault, no object.
    pub(crate) fn block(&self, name: &str, shape: &Shape<'_>, faults: &mut Faults) -> Option<Self> {
        self.open(self.at(name), self.get(name)?, shape, faults)
    }

    /// Takes a value somewhere in this document as an object of this shape; `None`, with a fault, if it
    /// is no object.
    pub(crate) fn open<'v>(
        &self,
        path: String,
        value: &'v Value,
        shape: &Shape<'_>,
        faults: &mut Faults,
    ) -> Option<Block<'v>> {
        Block::checked(self.kind, path, value, shape, faults)
    }

    fn checked(
        kind: &'static str,
        path: String,
        value: &'a Value,
        shape: &Shape<'_>,
        faults: &mut Faults,
    ) -> Option<Self> {
        let Value::Object(members) = value else {
            faults.add(path, format!("must be an object, not {}", described(value)));
            return None;
        };
        for name in members.keys().filter(|name| !shape.known.contains(&name.as_str())) {
            if faults.is_full() {
                faults.count_one();
                continue;
            }
            let advice = shape.refused.iter().find(|(refused, _)| refused == name);
            let message = match (advice, nearest(name, shape.known)) {
                (Some((_, advice)), _) => (*advice).to_owned(),
                (None, Some(meant)) => format!("is no field of a {kind}; did you mean {meant}?"),
                (None, None) => format!("is no field of a {kind}; known here: {}", shape.known.join(", ")),
            };
            faults.add(below(&path, name), message);
        }
        Some(Self { kind, path, members })
    }

    /// The pointer to this object.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The pointer to a member.
    pub(crate) fn at(&self, name: &str) -> String {
        below(&self.path, name)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.members.get(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// A member that must be there; `None`, with a fault, if it is not.
    pub(crate) fn required(&self, name: &str, faults: &mut Faults) -> Option<&'a Value> {
        let value = self.get(name);
        if value.is_none() {
            faults.add(self.at(name), "is required");
        }
        value
    }

    /// A member that `take` understands. `wanted` says what it must be.
    pub(crate) fn member<T>(
        &self,
        name: &str,
        default: T,
        wanted: impl FnOnce() -> String,
        faults: &mut Faults,
        take: impl FnOnce(&'a Value) -> Option<T>,
    ) -> T {
        let Some(value) = self.get(name) else { return default };
        take(value).unwrap_or_else(|| {
            faults.add(self.at(name), format!("must be {}, not {}", wanted(), described(value)));
            default
        })
    }

    pub(crate) fn flag(&self, name: &str, default: bool, faults: &mut Faults) -> bool {
        self.member(name, default, || "true or false".to_owned(), faults, Value::as_bool)
    }

    pub(crate) fn whole(
        &self,
        name: &str,
        range: RangeInclusive<u64>,
        default: u64,
        faults: &mut Faults,
    ) -> u64 {
        let wanted = || format!("a whole number from {} to {}", range.start(), range.end());
        self.member(name, default, wanted, faults, |value| {
            whole_number(value).filter(|number| range.contains(number))
        })
    }

    /// A number, kept to the millionth.
    pub(crate) fn ratio(
        &self,
        name: &str,
        range: RangeInclusive<Ratio>,
        default: Ratio,
        faults: &mut Faults,
    ) -> Ratio {
        self.member(name, default, || number_in(&range), faults, |value| ratio(value, &range))
    }

    /// A duration, in milliseconds.
    pub(crate) fn duration(
        &self,
        name: &str,
        range_ms: RangeInclusive<u64>,
        default_ms: u64,
        faults: &mut Faults,
    ) -> u64 {
        let wanted = || {
            let (least, most) = (written(*range_ms.start()), written(*range_ms.end()));
            format!("a duration from {least} to {most}, like \"500ms\", \"30s\", \"5m\", \"12h\" or \"7d\"")
        };
        self.member(name, default_ms, wanted, faults, |value| {
            duration_ms(value).filter(|ms| range_ms.contains(ms))
        })
    }

    /// One of a few words.
    pub(crate) fn one_of<T: Copy>(
        &self,
        name: &str,
        all: &[T],
        word: fn(T) -> &'static str,
        default: T,
        faults: &mut Faults,
    ) -> T {
        let Some(value) = self.get(name) else { return default };
        all.iter().copied().find(|each| value.as_str() == Some(word(*each))).unwrap_or_else(|| {
            let words: Vec<_> = all.iter().copied().map(word).collect();
            faults.add(self.at(name), format!("must be one of {}", words.join(", ")));
            default
        })
    }

    /// A text of any length.
    pub(crate) fn string(&self, name: &str, faults: &mut Faults) -> Option<&'a str> {
        match self.get(name)? {
            Value::String(text) => Some(text),
            other => {
                faults.add(self.at(name), format!("must be a string, not {}", described(other)));
                None
            }
        }
    }

    /// A text of 1 to `longest` bytes.
    pub(crate) fn text(&self, name: &str, longest: usize, faults: &mut Faults) -> Option<&'a str> {
        let text = self.string(name, faults)?;
        if !(1..=longest).contains(&text.len()) {
            faults.add(self.at(name), format!("must have 1 to {longest} bytes"));
            return None;
        }
        Some(text)
    }

    /// An id that must be there.
    pub(crate) fn id<T>(
        &self,
        name: &str,
        check: impl FnOnce(&str) -> Result<T, IdError>,
        faults: &mut Faults,
    ) -> Option<T> {
        self.required(name, faults)?;
        let text = self.string(name, faults)?;
        check(text).map_err(|error| faults.add(self.at(name), error.to_string())).ok()
    }
}

/// A whole number from 0 on, whichever way JSON writes it: `5` and `5.0` are the same number.
pub(crate) fn whole_number(value: &Value) -> Option<u64> {
    /// Up to here every whole number is a double.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if let Some(number) = value.as_u64() {
        return Some(number);
    }
    let number = value.as_f64().filter(|n| (0.0..=EXACT).contains(n) && n.fract() == 0.0)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and in range, as checked"
    )]
    Some(number as u64)
}

/// A number within a range, to the millionth.
pub(crate) fn ratio(value: &Value, range: &RangeInclusive<Ratio>) -> Option<Ratio> {
    // What rounds into the range from above is still above it.
    let number = value.as_f64().filter(|number| *number <= range.end().as_f64())?;
    Ratio::from_f64(number).filter(|ratio| range.contains(ratio))
}

/// What a number of a range must be, for the message of a fault.
pub(crate) fn number_in(range: &RangeInclusive<Ratio>) -> String {
    format!("a number from {} to {}", range.start().as_f64(), range.end().as_f64())
}

/// What a value is, for the message of a fault. Never a text of the document: those may be long.
pub(crate) fn described(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "a boolean".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
