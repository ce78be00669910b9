//! Slots that this worker holds and no request uses.
//!
//! A grant may come when its request has taken the fallback already. The slot is then kept for the next request of
//! the same breaker, which takes it over without a wait: over a slow path most grants would otherwise be given back, and
//! a breaker that needs two successes would not recover. It is kept for a short time only, since other workers could use
//! it: [`KEEP_MS`], and no more than half of what is left of its lease, so that the claim which takes it over lands while
//! it lasts.
//!
//! The fold grants a breaker no more slots than its policy has, at most 100. [`MOST`] bounds those of all breakers
//! together; beyond it a grant is given back at once.

use std::collections::HashMap;
use std::hash::Hash;

use crate::domain::{ClaimId, Tick};

/// How long a slot is kept at most.
const KEEP_MS: u64 = 2_000;

/// How many slots are kept at once.
const MOST: usize = 1_000;

/// Until when a slot is kept of whose lease so much is left at `now`.
pub(super) fn until(left_ms: u64, now: Tick) -> Tick {
    Tick(now.0.saturating_add(KEEP_MS.min(left_ms / 2)))
}

/// See the module. `K` names a breaker.
#[derive(Debug)]
pub(super) struct LateGrants<K> {
    of: HashMap<K, Vec<Grant>>,
    count: usize,
}

#[derive(Clone, Copy, Debug)]
struct Grant {
    claim: ClaimId,
    until: Tick,
}

impl<K> Default for LateGrants<K> {
    fn default() -> Self {
        Self { of: HashMap::new(), count: 0 }
    }
}

impl<K: Eq + Hash> LateGrants<K> {
    /// Keeps a slot; `false` if there is no room.
    pub(super) fn keep(&mut self, breaker: K, claim: ClaimId, until: Tick) -> bool {
        if self.count >= MOST {
            return false;
        }
        self.count += 1;
        self.of.entry(breaker).or_default().push(Grant { claim, until });
        true
    }

    /// Hands out the slot of a breaker that is kept for longest, and until when. One whose time is over waits for
    /// [`LateGrants::remove`].
    pub(super) fn take(&mut self, breaker: &K, now: Tick) -> Option<(ClaimId, Tick)> {
        let kept = self.of.get(breaker)?.iter().filter(|grant| grant.until > now);
        let Grant { claim, until } = *kept.max_by_key(|grant| grant.until)?;
        self.remove(breaker, claim).then_some((claim, until))
    }

    /// Takes a slot away; `false` if it was handed out.
    pub(super) fn remove(&mut self, breaker: &K, claim: ClaimId) -> bool {
        let Some(grants) = self.of.get_mut(breaker) else { return false };
        let Some(at) = grants.iter().position(|grant| grant.claim == claim) else { return false };
        grants.swap_remove(at);
        if grants.is_empty() {
            self.of.remove(breaker);
        }
        self.count -= 1;
        true
    }

    /// How many are kept for a breaker.
    pub(super) fn count(&self, breaker: &K) -> usize {
        self.of.get(breaker).map_or(0, Vec::len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_slot_is_kept_for_two_seconds_or_half_of_a_short_lease() {
        assert_eq!(until(30_000, Tick(100)), Tick(2_100));
        assert_eq!(until(1_000, Tick(100)), Tick(600));
    }

    #[test]
    fn the_next_request_of_the_same_breaker_gets_the_slot_that_lasts_longest() {
        let mut late = LateGrants::default();
        for (claim, until) in [(1, 10), (2, 30), (3, 20)] {
            assert!(late.keep("a", ClaimId(claim), Tick(until)));
        }
        assert_eq!(late.take(&"b", Tick(0)), None);
        assert_eq!(late.take(&"a", Tick(0)), Some((ClaimId(2), Tick(30))));
        assert_eq!(late.take(&"a", Tick(15)), Some((ClaimId(3), Tick(20))));
        assert_eq!(late.take(&"a", Tick(15)), None, "the other one's time is over");
        assert!(late.remove(&"a", ClaimId(1)), "and it is still to be given back");
        assert!(!late.remove(&"a", ClaimId(2)), "what was handed out is not");
        assert!(late.of.is_empty());
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let mut late = LateGrants::default();
        let most = MOST as u64;
        assert!((0..most).all(|n| late.keep(n, ClaimId(n), Tick(1))));
        assert!(!late.keep(most, ClaimId(most), Tick(1)));
        assert!(late.remove(&3, ClaimId(3)) && late.keep(most, ClaimId(most), Tick(1)));
    }

    #[derive(Clone, Debug)]
    enum Act {
        Keep(u64),
        Take,
        Remove(usize),
    }

    proptest! {
        /// Each slot is handed out or removed, and never both.
        #[test]
        fn every_slot_leaves_once(
            acts in prop::collection::vec((0_u8..3, prop_oneof![
                (0_u64..50).prop_map(Act::Keep), Just(Act::Take), (0_usize..20).prop_map(Act::Remove)
            ]), 0..100),
        ) {
            let mut late = LateGrants::default();
            let mut inside: Vec<(u8, ClaimId, Tick)> = Vec::new();
            for (now, (breaker, act)) in (0_u64..).zip(acts) {
                match act {
                    Act::Keep(ms) => {
                        prop_assert!(late.keep(breaker, ClaimId(now), Tick(now + ms)));
                        inside.push((breaker, ClaimId(now), Tick(now + ms)));
                    }
                    Act::Take => {
                        let usable = inside.iter().filter(|(b, _, until)| *b == breaker && until.0 > now);
                        let longest = usable.map(|(_, _, until)| *until).max();
                        let taken = late.take(&breaker, Tick(now));
                        prop_assert_eq!(taken.map(|(_, until)| until), longest);
                        let before = inside.len();
                        inside.retain(|(b, claim, _)| Some((*b, *claim)) != taken.map(|(claim, _)| (breaker, claim)));
                        prop_assert_eq!(before - inside.len(), usize::from(taken.is_some()));
                    }
                    Act::Remove(at) => {
                        let Some((b, claim, _)) = inside.get(at).copied() else { continue };
                        prop_assert!(late.remove(&b, claim) && !late.remove(&b, claim));
                        inside.remove(at);
                    }
                }
                prop_assert_eq!(late.count, inside.len());
                let of = inside.iter().filter(|(b, ..)| *b == breaker).count();
                prop_assert_eq!(late.count(&breaker), of);
            }
        }
    }
}
