//! Looking ahead, so that memory is waited for once and not for each result.
//!
//! With many breakers nothing that a result touches is in the processor's caches, and applying results in
//! order waits for one miss after the other. What the next results will touch is known before, so all of it
//! is read first, in loops whose reads do not depend on one another: the processor then waits for many
//! misses at the same time.

use std::hint::black_box;
use std::sync::{Arc, MutexGuard};

use smallvec::SmallVec;

use crate::domain::Stamp;
use crate::state::{Cell, Guarded};

/// How many entries to look ahead: more than the processor has misses in flight, and few enough that
/// what was fetched is still cached when its entry is applied.
pub const AHEAD: usize = 32;

/// Fetches all of at most [`AHEAD`] breakers that a digest or a snapshot tells.
pub(super) fn fetch_whole<'c>(cells: impl Iterator<Item = &'c Arc<Cell>> + Clone) {
    fetch(cells.map(Arc::as_ref), Stamp(u64::MAX));
}

/// Fetches all that results up to a stamp touch of at most [`AHEAD`] breakers. Who holds one of them is not
/// waited for.
pub(super) fn fetch<'c>(cells: impl Iterator<Item = &'c Cell> + Clone, until: Stamp) {
    // A lock waits for its line, and all that follows waits for the lock: so the lines come first.
    black_box(cells.clone().fold(0, |met, cell| met ^ cell.glance()));
    let mut held: SmallVec<[MutexGuard<'_, Guarded>; AHEAD]> = SmallVec::new();
    held.extend(cells.filter_map(Cell::try_lock));
    black_box(held.iter().fold(0, |met, guarded| met ^ guarded.glance()));
    black_box(held.iter().fold(0, |met, guarded| met ^ guarded.breaker.glance_past(until)));
}
