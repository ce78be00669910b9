use std::collections::VecDeque;

use crate::ledger::{PolicyChange, What};

/// So many changes are remembered: far more than come while a verb waits for its own.
const REMEMBERED: usize = 4_096;

/// What the fold did with a change that an operator's verb or a comparison entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It took it.
    Yes,
    /// A revision of the same key that is as new or newer was seen before.
    Stale,
    /// The document cannot run here: what was running stays.
    Refused,
    /// It came past the latest stamp at which it was valid: nothing changed.
    Late,
}

impl Taken {
    const fn of(what: &What) -> Option<Self> {
        match what {
            What::Policy(PolicyChange::Put | PolicyChange::Deleted)
            | What::Flag { newer: true }
            | What::Command { .. } => Some(Self::Yes),
            What::Policy(PolicyChange::Stale) | What::Flag { newer: false } => Some(Self::Stale),
            What::Policy(PolicyChange::Refused(_)) => Some(Self::Refused),
            What::Late => Some(Self::Late),
            _ => None,
        }
    }
}

/// What the fold did with the last changes, by their place in the log. That a place was passed does not say
/// that the change there is in force.
#[derive(Debug, Default)]
pub(super) struct Changes(VecDeque<(u64, Taken)>);

impl Changes {
    /// Takes note of an entry that was applied.
    pub(super) fn note(&mut self, position: u64, what: &What) {
        let Some(taken) = Taken::of(what) else { return };
        if self.0.back().is_some_and(|(last, _)| *last >= position) {
            // The log was made anew.
            self.0.clear();
        }
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((position, taken));
    }

    /// What became of the change at a place; `None` where that is not remembered.
    pub(super) fn at(&self, position: u64) -> Option<Taken> {
        let place = self.0.binary_search_by_key(&position, |(at, _)| *at).ok()?;
        self.0.get(place).map(|(_, taken)| *taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_the_last_changes_is_known_by_their_places() {
        let mut changes = Changes::default();
        changes.note(3, &What::Policy(PolicyChange::Put));
        changes.note(4, &What::Release);
        changes.note(7, &What::Policy(PolicyChange::Stale));
        changes.note(8, &What::Flag { newer: false });
        changes.note(9, &What::Policy(PolicyChange::Refused(Vec::new())));
        changes.note(12, &What::Command { found: false });
        changes.note(13, &What::Late);
        let all: Vec<_> = (0..14).map(|position| changes.at(position)).collect();
        let (yes, stale, refused) = (Some(Taken::Yes), Some(Taken::Stale), Some(Taken::Refused));
        let (late, none) = (Some(Taken::Late), None);
        assert_eq!(
            all,
            [none, none, none, yes, none, none, none, stale, stale, refused, none, none, yes, late]
        );
    }

    #[test]
    fn a_log_that_is_made_anew_has_other_places_and_old_ones_are_forgotten() {
        let mut changes = Changes::default();
        changes.note(50, &What::Flag { newer: true });
        changes.note(2, &What::Flag { newer: false });
        assert_eq!((changes.at(50), changes.at(2)), (None, Some(Taken::Stale)));
        for position in 3..=REMEMBERED as u64 + 2 {
            changes.note(position, &What::Flag { newer: true });
        }
        assert_eq!((changes.at(2), changes.at(3)), (None, Some(Taken::Yes)));
    }
}
