use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::document::{Faults, described, item, whole_number};

/// The greatest share of a step: a step of 100 % has nothing to be compared with.
pub(super) const MAX_SHARE: u8 = 99;

/// The steps of a phase: which share of its tenants' requests is treated, in percent, rising.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// The steps before the last.
    bakes: Vec<u8>,
    judged: u8,
}

impl Ladder {
    /// The steps before the last, each of which lasts as long as the phase's `bake`; a 0 may be the first.
    #[must_use]
    pub fn bakes(&self) -> &[u8] {
        &self.bakes
    }

    /// The last step, at which it is judged whether the phase passes; from 1 to 99.
    #[must_use]
    pub const fn judged(&self) -> u8 {
        self.judged
    }

    /// All steps.
    pub fn steps(&self) -> impl Iterator<Item = u8> {
        self.bakes.iter().copied().chain([self.judged])
    }

    /// The ladder at a pointer; `None`, with a fault, if it is none.
    pub(super) fn read(path: &str, value: &Value, faults: &mut Faults) -> Option<Self> {
        let Value::Array(list) = value else {
            faults.add(path, format!("must be an array of shares in percent, not {}", described(value)));
            return None;
        };
        let before = faults.count();
        let mut steps: Vec<u8> = Vec::new();
        for (index, value) in list.iter().enumerate() {
            // After the first step, 0 is below what came before it.
            let least = steps.last().map_or(0, |last| last.saturating_add(1));
            let share = whole_number(value).and_then(|share| u8::try_from(share).ok());
            match share.filter(|share| (least..=MAX_SHARE).contains(share)) {
                Some(share) => steps.push(share),
                None => faults.add(item(path, index), wanted(steps.last(), value)),
            }
        }
        if faults.count() > before {
            return None;
        }
        match steps.pop() {
            Some(judged) if judged > 0 => Some(Self { bakes: steps, judged }),
            _ => {
                faults.add(path, "must hold a share above 0, at which the phase is judged");
                None
            }
        }
    }
}

fn wanted(before: Option<&u8>, value: &Value) -> String {
    let given = described(value);
    match before {
        None => format!("must be a whole number from 0 to {MAX_SHARE}, not {given}"),
        Some(last) => {
            format!("must be a whole number above {last}, the step before, up to {MAX_SHARE}, not {given}")
        }
    }
}

impl Serialize for Ladder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.steps())
    }
}
