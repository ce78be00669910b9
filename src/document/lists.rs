use std::collections::HashSet;
use std::hash::Hash;

use serde_json::Value;

use super::faults::{Faults, item};
use super::fields::{described, whole_number};

/// The items of an array, none twice. `take` reads one at its pointer, and adds a fault if it cannot.
pub(crate) fn distinct<T: Clone + Eq + Hash>(
    path: &str,
    list: &[Value],
    faults: &mut Faults,
    take: impl Fn(&str, &Value, &mut Faults) -> Option<T>,
) -> Vec<T> {
    let mut seen = HashSet::new();
    let mut items = Vec::new();
    for (index, value) in list.iter().enumerate() {
        let path = item(path, index);
        let Some(one) = take(&path, value, faults) else { continue };
        if seen.insert(one.clone()) {
            items.push(one);
        } else {
            faults.add(path, "stands in the list twice");
        }
    }
    items
}

/// What a list of words may hold.
pub(crate) struct Words {
    /// Whether one word may stand without its brackets.
    pub(crate) bare: bool,
    /// Whether a whole number counts as its digits (`503`).
    pub(crate) numbers: bool,
    /// The most words; with a bound there is at least one.
    pub(crate) most: Option<usize>,
    /// The longest word, in bytes.
    pub(crate) longest: usize,
}

impl Words {
    /// The words of a value, none twice.
    pub(crate) fn read(&self, path: &str, value: &Value, faults: &mut Faults) -> Vec<String> {
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
        distinct(path, list, faults, |path, value, faults| self.word(path, value, faults))
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
