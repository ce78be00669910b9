//! Keys of a bucket that end with a value which is no valid document, and what is to be done about each.
//!
//! Such a value changes nothing in force. It comes from an edit past the verbs, or from a client that made
//! the broker write there: whoever publishes to a stream chooses where the broker's answer goes. The last
//! valid value is known to the fold, also where the bucket's history is full of damage, and it is written
//! back under these rules:
//!
//! - not before every other worker has compared. Where two versions of the router run side by side, what is
//!   no document to this one may be one to the other, which enters it in the log within that time;
//! - not over another revision than the one that was found damaged. So an operator's newer put stays, and of
//!   two workers one is overtaken;
//! - only if nothing in force changes by it but the revision;
//! - only if it is valid to this worker as it would be written. So what is written back is never found
//!   damaged, and each damage is answered by one write at most.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::domain::Tick;
use crate::ledger::Repeated;

/// A value that is no valid document, the last one of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    /// Its revision.
    pub(super) revision: u64,
    found: Tick,
    /// Whether it was reported that it stays.
    pub(super) reported: bool,
}

/// What the fold knows of a key whose value is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// No valid value.
    Nothing,
    /// The damaged revision itself: to the worker that entered it in the log it is a document.
    Entered,
    /// The last valid value. It is absent where the key was deleted.
    Last {
        value: Option<Bytes>,
        /// What would change if it were put once more.
        repeated: Option<Repeated>,
    },
}

/// What is to be done about a damaged value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Look again at the next comparison.
    Wait,
    /// It is none of this worker's.
    Forget,
    /// It stays, for good or for now.
    Leave(Why),
    /// Write this back, or a delete.
    PutBack(Option<Bytes>),
}

/// Why a damaged value stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// There is no last valid one.
    NeverValid,
    /// It would change what is in force.
    Repeated(Repeated),
}

impl Why {
    /// For the log.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::NeverValid => "never_valid",
            Self::Repeated(Repeated::LeavesRollout) => "rollout",
            Self::Repeated(Repeated::TakesBreaker) => "other_policy",
        }
    }

    /// Whether that may change.
    pub(super) const fn passes(self) -> bool {
        matches!(self, Self::Repeated(_))
    }
}

impl Damage {
    pub(super) fn remedy(self, known: Known, now: Tick, patience: Duration) -> Remedy {
        let waited = Duration::from_millis(now.0.saturating_sub(self.found.0));
        match known {
            Known::Entered => Remedy::Forget,
            _ if waited < patience => Remedy::Wait,
            Known::Nothing => Remedy::Leave(Why::NeverValid),
            Known::Last { repeated: Some(repeated), .. } => Remedy::Leave(Why::Repeated(repeated)),
            Known::Last { value, repeated: None } => Remedy::PutBack(value),
        }
    }
}

/// The damaged values of one bucket that are still to be judged, by key.
#[derive(Debug, Default)]
pub(super) struct Damages(BTreeMap<String, Damage>);

impl Damages {
    /// Takes what a comparison met: keys that end with a damaged value, and others. Gives those that are
    /// new. `whole` says that it met all keys.
    pub(super) fn note<'k>(
        &mut self,
        keys: impl IntoIterator<Item = &'k String>,
        damaged: &BTreeMap<String, u64>,
        whole: bool,
        now: Tick,
    ) -> Vec<(String, u64)> {
        if whole {
            self.0.retain(|key, damage| damaged.get(key) == Some(&damage.revision));
        }
        let mut found = Vec::new();
        for key in keys {
            let Some(&revision) = damaged.get(key) else {
                self.0.remove(key);
                continue;
            };
            if self.0.get(key).is_none_or(|known| known.revision != revision) {
                self.0.insert(key.clone(), Damage { revision, found: now, reported: false });
                found.push((key.clone(), revision));
            }
        }
        found
    }

    pub(super) fn all(&self) -> Vec<(String, Damage)> {
        self.0.iter().map(|(key, damage)| (key.clone(), *damage)).collect()
    }

    pub(super) fn note_reported(&mut self, key: &str) {
        if let Some(damage) = self.0.get_mut(key) {
            damage.reported = true;
        }
    }

    pub(super) fn forget(&mut self, key: &str) {
        self.0.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn last(value: Option<&'static str>, repeated: Option<Repeated>) -> Known {
        Known::Last { value: value.map(Bytes::from), repeated }
    }

    #[test]
    fn the_last_valid_value_is_written_back_after_a_while_if_nothing_in_force_changes() {
        let damage = Damage { revision: 7, found: Tick(5_000), reported: false };
        let remedy = |known: Known, now| damage.remedy(known, Tick(now), PATIENCE);
        for now in [0, 5_000, 14_999] {
            assert_eq!(remedy(last(Some("{}"), None), now), Remedy::Wait, "{now}");
            assert_eq!(remedy(Known::Nothing, now), Remedy::Wait, "{now}");
            assert_eq!(remedy(Known::Entered, now), Remedy::Forget, "{now}");
        }
        let now = 15_000;
        assert_eq!(remedy(last(Some("{}"), None), now), Remedy::PutBack(Some(Bytes::from("{}"))));
        assert_eq!(remedy(last(None, None), now), Remedy::PutBack(None), "a delete");
        assert_eq!(remedy(Known::Entered, now), Remedy::Forget);
        assert_eq!(remedy(Known::Nothing, now), Remedy::Leave(Why::NeverValid));
        for repeated in [Repeated::LeavesRollout, Repeated::TakesBreaker] {
            let why = Why::Repeated(repeated);
            assert_eq!(remedy(last(Some("{}"), Some(repeated)), now), Remedy::Leave(why));
            assert!(why.passes() && !Why::NeverValid.passes());
        }
    }

    fn keys(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn damaged(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
        of.iter().map(|(key, revision)| ((*key).to_owned(), *revision)).collect()
    }

    #[test]
    fn a_damage_is_found_once_and_each_newer_one_anew() {
        let mut damages = Damages::default();
        let all = keys(&["a", "b", "c"]);
        let found = damages.note(&all, &damaged(&[("a", 1), ("b", 2)]), true, Tick(1));
        assert_eq!(found, [("a".to_owned(), 1), ("b".to_owned(), 2)]);
        damages.note_reported("a");
        // Compared from the beginning again, as after a rebuild.
        assert!(damages.note(&all, &damaged(&[("a", 1), ("b", 2)]), true, Tick(9)).is_empty());
        assert_eq!(damages.all()[0].1, Damage { revision: 1, found: Tick(1), reported: true });
        // A newer damage waits for as long again, and is reported again.
        assert_eq!(damages.note(&keys(&["a"]), &damaged(&[("a", 5)]), false, Tick(9)), [("a".to_owned(), 5)]);
        assert_eq!(damages.all()[0].1, Damage { revision: 5, found: Tick(9), reported: false });
        assert_eq!(damages.all().len(), 2);
    }

    #[test]
    fn a_damage_that_something_newer_stands_over_is_none() {
        let mut damages = Damages::default();
        damages.note(&keys(&["a", "b", "c"]), &damaged(&[("a", 1), ("b", 2), ("c", 3)]), true, Tick(1));
        assert!(damages.note(&keys(&["a"]), &damaged(&[]), false, Tick(2)).is_empty());
        assert_eq!(damages.all().len(), 2);
        damages.forget("b");
        // The bucket was made anew, and no longer knows the key.
        assert!(damages.note(&keys(&[]), &damaged(&[]), true, Tick(3)).is_empty());
        assert!(damages.all().is_empty());
    }
}
