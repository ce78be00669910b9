//! How the fold looks ahead at results.

use std::hint::black_box;

use smallvec::SmallVec;

use super::ahead::{AHEAD, fetch};
use super::fold::Fold;
use super::judge::named;
use super::roster::key_of;
use crate::domain::{Outcome, Stamp};
use crate::log::Entry;
use crate::state::Cell;

impl Fold {
    /// Fetches what the next entries, at most [`AHEAD`] of them, will touch. Changes nothing and keeps
    /// nothing: whatever an entry in between does, each is judged by what stands when it is applied. `until`
    /// is the last one's stamp.
    pub fn foresee<'e>(&self, next: impl Iterator<Item = &'e Entry<'e>>, until: Stamp) {
        // Filled where they stand: moved, they would have to be complete first, and all misses with them.
        let mut results: SmallVec<[&Outcome<'_>; AHEAD]> = SmallVec::new();
        results.extend(next.filter_map(|entry| match entry {
            Entry::Result(outcome) => Some(outcome),
            _ => None,
        }));
        let mut keys: SmallVec<[u64; AHEAD]> = SmallVec::new();
        keys.extend(results.iter().map(|o| key_of(&o.tenant_id, &o.provider_id)));
        let mut cells: SmallVec<[&Cell; AHEAD]> = SmallVec::new();
        cells.extend(keys.iter().filter_map(|key| self.roster.hint(*key)));
        // Nobody wants to know; but what is not used need not be read.
        black_box(self.seen.glance(results.iter().map(|o| self.identities.of(named(o)))));
        fetch(cells.iter().copied(), until);
    }
}
