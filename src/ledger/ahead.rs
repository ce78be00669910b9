//! Looking ahead, so that memory is waited for once and not for each result.
//!
//! With many breakers nothing that a result touches is in the processor's caches, and applying results in
//! order waits for one miss after the other. What the next results will touch is known before, so all of it
//! is read first, in loops whose reads do not depend on one another: the processor then waits for many
//! misses at the same time.

use std::hint::black_box;
use std::sync::{Arc, MutexGuard};

use smallvec::SmallVec;

use super::entry::Entry;
use super::fold::Fold;
use super::roster::key_of;
use crate::domain::{Outcome, Stamp};
use crate::state::{Cell, Guarded};

/// How many entries to look ahead: more than the processor has misses in flight, and few enough that
/// what was fetched is still cached when its entry is applied.
pub const AHEAD: usize = 32;

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
        black_box(self.seen.glance(results.iter().map(|o| o.identity)));
        fetch(cells.iter().copied(), until);
    }
}

/// Fetches all of at most [`AHEAD`] breakers that a digest or a snapshot tells.
pub(super) fn fetch_whole<'c>(cells: impl Iterator<Item = &'c Arc<Cell>> + Clone) {
    fetch(cells.map(Arc::as_ref), Stamp(u64::MAX));
}

/// Fetches all that results up to a stamp touch of at most [`AHEAD`] breakers. Who holds one of them is not
/// waited for.
fn fetch<'c>(cells: impl Iterator<Item = &'c Cell> + Clone, until: Stamp) {
    // A lock waits for its line, and all that follows waits for the lock: so the lines come first.
    black_box(cells.clone().fold(0, |met, cell| met ^ cell.glance()));
    let mut held: SmallVec<[MutexGuard<'_, Guarded>; AHEAD]> = SmallVec::new();
    held.extend(cells.filter_map(Cell::try_lock));
    black_box(held.iter().fold(0, |met, guarded| met ^ guarded.glance()));
    black_box(held.iter().fold(0, |met, guarded| met ^ guarded.breaker.glance_past(until)));
}
