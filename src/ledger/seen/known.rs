use std::collections::HashSet;

use super::Kind;
use super::table::{Mixing, Table};

/// A set of identities, and what each was last seen as.
///
/// Each result looks here once and forgets one, at places that no cache holds: so an identity is one word
/// in one line. The few that ended without a result stand in a set beside it.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) table: Table,
    pub(super) ended: HashSet<u64, Mixing>,
}

impl Known {
    /// What an identity was last seen as, if it is known; from now on it is known as it is seen here.
    pub(super) fn see_again(&mut self, identity: u64, kind: Kind) -> Option<Kind> {
        if !self.table.contains(identity) {
            return None;
        }
        if !self.ended.contains(&identity) {
            return Some(Kind::Result);
        }
        if kind == Kind::Result {
            self.ended.remove(&identity);
        }
        Some(Kind::Ended)
    }

    pub(super) fn contains(&self, identity: u64) -> bool {
        self.table.contains(identity)
    }

    /// What a known identity was last seen as.
    pub(super) fn kind_of(&self, identity: u64) -> Kind {
        if self.ended.contains(&identity) { Kind::Ended } else { Kind::Result }
    }

    /// Adds an identity that is not known.
    pub(super) fn insert(&mut self, identity: u64, kind: Kind) {
        self.table.insert(identity);
        if kind == Kind::Ended {
            self.ended.insert(identity);
        }
    }

    pub(super) fn forget(&mut self, identity: u64) {
        self.table.remove(identity);
        if !self.ended.is_empty() {
            self.ended.remove(&identity);
        }
    }

    /// Reads the places of identities; see [`crate::ledger::ahead`].
    pub(super) fn glance(&self, identities: impl Iterator<Item = u64>) -> u64 {
        self.table.glance(identities)
    }
}
