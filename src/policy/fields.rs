use std::collections::HashSet;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::faults::{Faults, below, item};
use super::names::nearest;

/// Which members an object of the document may have.
pub(super) struct Shape<'k> {
    /// The names that it may have.
    pub(super) known: &'k [&'k str],
    /// Names that are refused with advice of their own: what the older router took.
    pub(super) refused: &'k [(&'k str, &'k str)],
}

/// An object of the document, with its pointer. Readers add a fault for what is wrong and give the
/// default in its place: any fault refuses the whole document, so what stands in is never used.
pub(super) struct Block<'a> {
    path: String,
    members: &'a Map<String, Value>,
}

impl<'a> Block<'a> {
    /// Takes a value as an object of this shape; `None`, with a fault, if it is no object.
    pub(super) fn open(
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
                (None, Some(meant)) => format!("is no field of a policy; did you mean {meant}?"),
                (None, None) => format!("is no field of a policy; known here: {}", shape.known.join(", ")),
            };
            faults.add(below(&path, name), message);
        }
        Some(Self { path, members })
    }

    /// The pointer to a member.
    pub(super) fn at(&self, name: &str) -> String {
        below(&self.path, name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.members.get(name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// A member that must be there; `None`, with a fault, if it is not.
    pub(super) fn required(&self, name: &str, faults: &mut Faults) -> Option<&'a Value> {
        let value = self.get(name);
        if value.is_none() {
            faults.add(self.at(name), "is required");
        }
        value
    }

    pub(super) fn flag(&self, name: &str, default: bool, faults: &mut Faults) -> bool {
        match self.get(name) {
            None => default,
            Some(Value::Bool(flag)) => *flag,
            Some(other) => {
                faults.add(self.at(name), format!("must be true or false, not {}", described(other)));
                default
            }
        }
    }

    pub(super) fn whole(
        &self,
        name: &str,
        range: RangeInclusive<u64>,
        default: u64,
        faults: &mut Faults,
    ) -> u64 {
        let Some(value) = self.get(name) else { return default };
        if let Some(number) = whole_number(value).filter(|n| range.contains(n)) {
            return number;
        }
        let (least, most) = range.into_inner();
        let message = format!("must be a whole number from {least} to {most}, not {}", described(value));
        faults.add(self.at(name), message);
        default
    }

    /// A text of 1 to `longest` bytes.
    pub(super) fn text(&self, name: &str, longest: usize, faults: &mut Faults) -> Option<&'a str> {
        match self.get(name)? {
            Value::String(text) if (1..=longest).contains(&text.len()) => Some(text),
            Value::String(_) => {
                faults.add(self.at(name), format!("must have 1 to {longest} bytes"));
                None
            }
            other => {
                faults.add(self.at(name), format!("must be a string, not {}", described(other)));
                None
            }
        }
    }
}

/// What a list of words may hold.
pub(super) struct Words {
    /// Whether one word may stand without its brackets.
    pub(super) bare: bool,
    /// Whether a whole number counts as its digits (`503`).
    pub(super) numbers: bool,
    /// The most words; with a bound there is at least one.
    pub(super) most: Option<usize>,
    /// The longest word, in bytes.
    pub(super) longest: usize,
}

impl Words {
    /// The words of a value, none twice.
    pub(super) fn read(&self, path: &str, value: &Value, faults: &mut Faults) -> Vec<String> {
        let list = match value {
            Value::Array(list) => list.as_slice(),
            Value::String(_) | Value::Number(_) if self.bare => {
                return self.word(path, value, faults).into_iter().collect();
            }
            other => {
                let wanted =
                    if self.bare { "a string or an array of strings" } else { "an array of strings" };
                faults.add(path, format!("must be {wanted}, not {}", described(other)));
                return Vec::new();
            }
        };
        if let Some(most) = self.most.filter(|most| !(1..=*most).contains(&list.len())) {
            faults.add(path, format!("must hold 1 to {most} strings"));
            return Vec::new();
        }
        let mut seen = HashSet::new();
        let mut words = Vec::new();
        for (index, value) in list.iter().enumerate() {
            let path = item(path, index);
            let Some(word) = self.word(&path, value, faults) else { continue };
            if seen.insert(word.clone()) {
                words.push(word);
            } else {
                faults.add(path, "stands in the list twice");
            }
        }
        words
    }

    fn word(&self, path: &str, value: &Value, faults: &mut Faults) -> Option<String> {
        match value {
            Value::String(word) if (1..=self.longest).contains(&word.len()) => return Some(word.clone()),
            Value::String(_) => faults.add(path, format!("must have 1 to {} bytes", self.longest)),
            Value::Number(_) if self.numbers => match whole_number(value) {
                Some(number) => return Some(number.to_string()),
                None => faults.add(path, format!("must be a string or a whole number, not {value}")),
            },
            other => faults.add(path, format!("must be a string, not {}", described(other))),
        }
        None
    }
}

/// A whole number from 0 on, whichever way JSON writes it: `5` and `5.0` are the same number.
pub(super) fn whole_number(value: &Value) -> Option<u64> {
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

/// What a value is, for the message of a fault. Never a text of the document: those may be long.
pub(super) fn described(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "a boolean".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
