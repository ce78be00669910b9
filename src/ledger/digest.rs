use std::sync::Arc;

use super::ahead::{AHEAD, fetch_whole};
use crate::state::{Cell, Guarded};

/// The digest is told as a metric, and a float holds 53 bits.
const MASK: u64 = (1 << 53) - 1;

/// How many changed breakers, gone ones included, wait for the next look at the digest. Where nobody
/// looks they are hashed when so many have gathered: one hash for each change, as a look would cost.
pub(super) const MOST_DIRTY: usize = 1 << 16;

/// The digest over all breaker states, and the breakers that changed since it was last told.
#[derive(Debug, Default)]
pub(super) struct Digest {
    sum: u64,
    dirty: Vec<Arc<Cell>>,
}

impl Digest {
    /// Notes that a breaker is new or was given an input.
    pub(super) fn note_changed(&mut self, cell: &Arc<Cell>, guarded: &mut Guarded) {
        if !guarded.dirty {
            guarded.dirty = true;
            self.dirty.push(Arc::clone(cell));
        }
    }

    /// Notes that no policy names a breaker any more.
    pub(super) fn note_gone(&mut self, guarded: &mut Guarded) {
        guarded.gone = true;
        self.sum = self.sum.wrapping_sub(guarded.digest);
    }

    pub(super) fn is_due(&self) -> bool {
        self.dirty.len() >= MOST_DIRTY
    }

    pub(super) fn tell(&mut self) -> u64 {
        for cells in self.dirty.chunks(AHEAD) {
            fetch_whole(cells.iter());
            for cell in cells {
                let mut guarded = cell.lock();
                if guarded.gone || !guarded.dirty {
                    continue;
                }
                let fresh = guarded.breaker.digest();
                self.sum = self.sum.wrapping_sub(guarded.digest).wrapping_add(fresh);
                guarded.digest = fresh;
                guarded.dirty = false;
            }
        }
        self.dirty.clear();
        self.sum & MASK
    }

    #[cfg(test)]
    pub(super) const fn waiting(&self) -> usize {
        self.dirty.len()
    }
}
