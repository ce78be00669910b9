use crate::log::At;
use crate::rollout::controller::Decision;

/// Lists each decision once. Every worker records the same decision, and one that became void is recorded under a number
/// that another decision then has.
///
/// The record that took effect is the first of those that became due last: a decision is void if a command was accepted
/// after it became due, and the next one under its number is due at that command or later. It stands before any record
/// of the next number, so copies that come later have a number that was listed.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbered {
    listed: u64,
    held: Option<(At, Box<Decision>)>,
}

impl Numbered {
    /// Decisions up to this number are listed already.
    pub(super) const fn after(listed: u64) -> Self {
        Self { listed, held: None }
    }

    /// Takes the next record. Gives the one that took effect under the number before, once it is known.
    pub(super) fn take(&mut self, at: At, decision: Box<Decision>) -> Option<(At, Box<Decision>)> {
        if decision.n <= self.listed {
            return None;
        }
        match &mut self.held {
            Some((_, held)) if held.n == decision.n && held.at_seq >= decision.at_seq => None,
            Some((_, held)) if held.n == decision.n => {
                self.held = Some((at, decision));
                None
            }
            _ => {
                let before = self.held.replace((at, decision));
                self.listed = before.as_ref().map_or(self.listed, |(_, before)| before.n);
                before
            }
        }
    }

    /// The one that took effect under the last number.
    pub(super) fn finish(self) -> Option<(At, Box<Decision>)> {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{RolloutId, Stamp};
    use crate::rollout::controller::{Figures, Kind};

    /// The places that are listed of records `(place, n, at_seq)`.
    fn listed(after: u64, records: &[(u64, u64, u64)]) -> Vec<(u64, u64)> {
        let mut numbered = Numbered::after(after);
        let mut take = |&(position, n, at_seq): &(u64, u64, u64)| {
            let (kind, reasons, figures) = (Kind::Start, Vec::new(), Figures::default());
            let rollout = RolloutId::try_new("cb").unwrap();
            let decision = Decision { rollout, n, at_seq, kind, reasons, figures };
            numbered.take(At { position, stamp: Stamp(0) }, Box::new(decision))
        };
        let mut listed: Vec<_> = records.iter().filter_map(&mut take).collect();
        listed.extend(numbered.finish());
        listed.into_iter().map(|(at, decision)| (at.position, decision.n)).collect()
    }

    #[test]
    fn copies_of_a_decision_are_listed_once() {
        let records = [(3, 1, 2), (4, 1, 2), (8, 2, 7), (9, 1, 2), (10, 2, 7), (12, 3, 11), (13, 3, 11)];
        assert_eq!(listed(0, &records), [(3, 1), (8, 2), (12, 3)]);
    }

    #[test]
    fn a_void_decision_is_not_listed_whichever_record_comes_first() {
        assert_eq!(listed(0, &[(6, 1, 4), (7, 1, 5), (9, 2, 8)]), [(7, 1), (9, 2)]);
        assert_eq!(listed(0, &[(6, 1, 5), (7, 1, 4), (9, 2, 8)]), [(6, 1), (9, 2)]);
    }

    #[test]
    fn a_page_does_not_begin_with_a_copy_of_what_the_page_before_listed() {
        assert_eq!(listed(2, &[(9, 1, 2), (10, 2, 7), (12, 3, 11), (14, 3, 11)]), [(12, 3)]);
    }
}
