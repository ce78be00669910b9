//! What a bounded resource leaves to each of those who share it.

use std::collections::HashMap;
use std::sync::Arc;

/// How many times the free rest one may hold.
const FREE_TIMES: usize = 4;

/// Whether one who holds `own` places may take another, where `held` of `most` are taken by all: as long as that is
/// less than four times the places that are free. One alone comes to four fifths; ten come to four of 41 each, and
/// whoever holds nothing gets a place until the last is taken.
///
/// This is the dynamic threshold of shared-memory switches: A. K. Choudhury and E. L. Hahne, "Dynamic Queue Length
/// Thresholds for Shared-Memory Packet Switches", IEEE/ACM Transactions on Networking 6(2), 1998.
#[must_use]
pub const fn has_share(own: usize, held: usize, most: usize) -> bool {
    own < most.saturating_sub(held).saturating_mul(FREE_TIMES)
}

/// The places of a bounded resource that tenants hold.
#[derive(Clone, Debug)]
pub struct Shares {
    by_tenant: HashMap<Arc<str>, usize>,
    held: usize,
    most: usize,
}

impl Shares {
    /// So many places, all free.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { by_tenant: HashMap::new(), held: 0, most }
    }

    /// Takes places for a tenant, all or none; `false` if its share or all is taken.
    pub fn take(&mut self, tenant_id: &Arc<str>, places: usize) -> bool {
        let own = self.by_tenant.get(tenant_id).copied().unwrap_or(0);
        if !has_share(own, self.held, self.most) || places > self.most - self.held {
            return false;
        }
        self.by_tenant.insert(Arc::clone(tenant_id), own + places);
        self.held += places;
        true
    }

    /// Gives back places that a tenant holds.
    pub fn give_back(&mut self, tenant_id: &str, places: usize) {
        let Some(own) = self.by_tenant.get_mut(tenant_id) else { return };
        *own -= places;
        self.held -= places;
        if *own == 0 {
            self.by_tenant.remove(tenant_id);
        }
    }

    /// How many places are taken.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taken(shares: &mut Shares, tenant_id: &str) -> usize {
        let tenant_id = tenant_id.into();
        std::iter::repeat_with(|| shares.take(&tenant_id, 1)).take_while(|taken| *taken).count()
    }

    #[test]
    fn one_who_takes_all_it_can_leaves_a_fifth_to_others() {
        let mut shares = Shares::new(100);
        assert_eq!(taken(&mut shares, "flood"), 80);
        assert_eq!(taken(&mut shares, "quiet"), 16);
        shares.give_back("quiet", 1);
        assert_eq!((taken(&mut shares, "quiet"), shares.held()), (1, 96));
    }

    #[test]
    fn the_last_place_goes_to_whoever_holds_least() {
        let mut shares = Shares::new(2);
        assert_eq!(taken(&mut shares, "a"), 2);
        assert_eq!(taken(&mut shares, "b"), 0);
        let mut shares = Shares::new(1);
        assert_eq!((taken(&mut shares, "a"), taken(&mut shares, "b")), (1, 0));
    }

    proptest! {
        #[test]
        fn no_more_is_held_than_there_is_and_a_newcomer_gets_a_place_while_one_is_free(
            most in 0_usize..60,
            moves in prop::collection::vec((0_u8..6, any::<bool>()), 0..300),
        ) {
            let mut shares = Shares::new(most);
            let mut held = HashMap::<u8, usize>::new();
            for (tenant, takes) in moves {
                let own = held.entry(tenant).or_default();
                let id: Arc<str> = tenant.to_string().into();
                if takes {
                    let had_none = *own == 0 && shares.held() < most;
                    let took = shares.take(&id, 1);
                    prop_assert!(took || !had_none);
                    *own += usize::from(took);
                } else {
                    shares.give_back(&id, 1);
                    *own = own.saturating_sub(1);
                }
                prop_assert_eq!(shares.held(), held.values().sum::<usize>());
                prop_assert!(shares.held() <= most);
            }
        }
    }
}
