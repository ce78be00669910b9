use std::sync::Arc;

use hashbrown::HashTable;

use crate::domain::identity_of;
use crate::state::Cell;

/// The breakers in force by tenant and provider, for the fold alone: unlike
/// [`State`](crate::state::State)'s table, which others read too, it takes no lock, counts no
/// references, and finds a breaker by one hash in one slot.
#[derive(Debug, Default)]
pub(super) struct Roster(HashTable<Slot>);

/// A breaker behind its key's hash, so that those of other keys are passed over without a look at
/// them, and the table grows without one.
type Slot = (u64, Arc<Cell>);

/// The fixed hash of a breaker's key; its jitter is drawn from the same.
pub(super) fn key_of(tenant_id: &str, provider_id: &str) -> u64 {
    identity_of(tenant_id, Some(provider_id), &[])
}

impl Roster {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn find(&self, tenant_id: &str, provider_id: &str) -> Option<&Arc<Cell>> {
        let key = key_of(tenant_id, provider_id);
        self.0.find(key, |slot| is(slot, key, tenant_id, provider_id)).map(|(_, cell)| cell)
    }

    /// Some breaker with this key's hash: nearly always the one meant, but its names are not looked at.
    pub(super) fn hint(&self, key: u64) -> Option<&Cell> {
        self.0.find(key, |(known, _)| *known == key).map(|(_, cell)| &**cell)
    }

    /// Adds a breaker whose key is not there.
    pub(super) fn insert(&mut self, cell: Arc<Cell>) {
        let key = key_of(cell.tenant_id.as_str(), cell.provider_id.as_str());
        self.0.insert_unique(key, (key, cell), |(key, _)| *key);
    }

    pub(super) fn remove(&mut self, tenant_id: &str, provider_id: &str) -> Option<Arc<Cell>> {
        let key = key_of(tenant_id, provider_id);
        let found = self.0.find_entry(key, |slot| is(slot, key, tenant_id, provider_id)).ok()?;
        let ((_, cell), _) = found.remove();
        Some(cell)
    }
}

fn is((known, cell): &Slot, key: u64, tenant_id: &str, provider_id: &str) -> bool {
    *known == key && cell.provider_id.as_str() == provider_id && cell.tenant_id.as_str() == tenant_id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::{Breaker, Settings};
    use crate::domain::{PolicyId, ProviderId, Stamp, TenantId};

    fn cell(tenant_id: &str, provider_id: &str) -> Arc<Cell> {
        Arc::new(Cell::new(
            TenantId::try_new(tenant_id).unwrap(),
            ProviderId::try_new(provider_id).unwrap(),
            PolicyId::try_new("p").unwrap(),
            Breaker::new(Arc::new(Settings::disabled()), 1, Stamp(0)),
        ))
    }

    #[test]
    fn a_breaker_is_found_by_its_names_until_it_is_removed() {
        let mut roster = Roster::default();
        for n in 0..1_000 {
            roster.insert(cell(&format!("t{n}"), "a"));
        }
        assert_eq!(roster.find("t7", "a").unwrap().tenant_id.as_str(), "t7");
        assert!(roster.find("t7", "b").is_none() && roster.find("a", "t7").is_none());
        assert_eq!(roster.remove("t7", "a").unwrap().tenant_id.as_str(), "t7");
        assert!(roster.find("t7", "a").is_none() && roster.remove("t7", "a").is_none());
        assert!(roster.find("t8", "a").is_some());
    }

    #[test]
    fn names_whose_hashes_are_equal_are_told_apart() {
        let mut roster = Roster::default();
        let key = key_of("acme", "a");
        for (tenant_id, provider_id) in [("other", "a"), ("acme", "b")] {
            roster.0.insert_unique(key, (key, cell(tenant_id, provider_id)), |(key, _)| *key);
        }
        assert!(roster.find("acme", "a").is_none());
        assert!(roster.remove("acme", "a").is_none());
        roster.insert(cell("acme", "a"));
        let found = roster.find("acme", "a").unwrap();
        assert_eq!((found.tenant_id.as_str(), found.provider_id.as_str()), ("acme", "a"));
    }
}
