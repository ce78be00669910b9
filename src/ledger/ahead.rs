//! Looking ahead, so that memory is waited for once and not for each result.
//!
//! With many breakers nothing that a result touches is in the processor's caches, and applying results in
//! order waits for one miss after the other. What the next results will touch is known before, so all of it
//! is read first, in loops whose reads do not depend on one another: the processor then waits for many
//! misses at the same time.

use std::hint::black_box;

use smallvec::SmallVec;

use super::entry::Entry;
use super::fold::Fold;
use super::roster::key_of;
use crate::domain::Outcome;
use crate::state::Cell;

/// How many entries to look ahead: more than the processor has misses in flight, and few enough that
/// what was fetched is still cached when its entry is applied.
pub const AHEAD: usize = 32;

impl Fold {
    /// Fetches what the next entries, at most [`AHEAD`] of them, will touch. Changes nothing and keeps
    /// nothing: whatever an entry in between does, each is judged by what stands when it is applied.
    pub fn foresee<'e>(&self, next: impl Iterator<Item = &'e Entry<'e>>) {
        let results: SmallVec<[&Outcome<'_>; AHEAD]> = next
            .filter_map(|entry| match entry {
                Entry::Result(outcome) => Some(outcome),
                _ => None,
            })
            .collect();
        let keys: SmallVec<[u64; AHEAD]> =
            results.iter().map(|o| key_of(&o.tenant_id, &o.provider_id)).collect();
        let remembered = self.seen.glance(results.iter().map(|o| o.identity));
        let cells: SmallVec<[&Cell; AHEAD]> = keys.iter().filter_map(|key| self.roster.hint(*key)).collect();
        let gates = cells.iter().fold(0, |met, cell| met ^ cell.glance());
        // Names are compared, and stand elsewhere.
        let first = |cell: &&Cell| cell.tenant_id.as_str().bytes().next().unwrap_or(0);
        let names = cells.iter().fold(0, |met, cell| met ^ first(cell));
        // Nobody wants to know; but what is not used need not be read.
        black_box((remembered, gates, names));
    }
}
