//! What the workers' tasks share: the breakers and the policies in force.
//!
//! The fold is the only writer. The decide path reads: one load of the tenant's shard, a look-up, and
//! one atomic load for each candidate's gate. A [`Cell`] keeps the breaker itself behind a mutex that
//! the fold takes for each entry and that metrics and `breaker.list` take for a moment; no decision
//! ever does. Nothing here is held across an await.

mod admission;
mod catalog;
mod cell;
mod counters;
#[cfg(test)]
mod tests;

pub use admission::{Answer, Asking};
pub use catalog::{Catalog, Cells, Reader, Routable};
pub use cell::{Cell, Guarded, Reading, Reservation};
pub use counters::{Counters, TRIGGERS};

use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dashmap::DashMap;
use xxhash_rust::xxh3::xxh3_64;

use crate::domain::{OneShot, ProviderId, TenantId};

/// A breaker behind the hash of its provider's id, so that those of a tenant are told apart without a look
/// at any but the one that is meant: each look at a cell may cost a cache miss. Sorted by provider.
type Held = (u64, Arc<Cell>);

/// Breakers and policies in force.
#[derive(Debug)]
pub struct State {
    breakers: DashMap<TenantId, Vec<Held>, BuildHasherDefault<OneShot>>,
    catalog: Catalog,
    /// This worker's own emergency switch, from its environment.
    enforcing: bool,
    log_in_reach: AtomicBool,
}

impl State {
    /// Nothing known yet. With `enforcing` false this worker refuses nothing, whatever flags say.
    #[must_use]
    pub fn new(enforcing: bool) -> Self {
        Self {
            breakers: DashMap::default(),
            catalog: Catalog::default(),
            enforcing,
            log_in_reach: AtomicBool::new(false),
        }
    }

    /// The policies in force.
    #[must_use]
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The breaker of a tenant's provider.
    #[must_use]
    pub fn breaker(&self, tenant_id: &str, provider_id: &str) -> Option<Arc<Cell>> {
        self.with_breaker(tenant_id, provider_id, Arc::clone)
    }

    /// Runs `f` on the breaker of a tenant's provider, without a count of references.
    pub fn with_breaker<R>(
        &self,
        tenant_id: &str,
        provider_id: &str,
        f: impl FnOnce(&Arc<Cell>) -> R,
    ) -> Option<R> {
        let cells = self.breakers.get(tenant_id)?;
        let hash = xxh3_64(provider_id.as_bytes());
        let is_meant = |(key, cell): &&Held| *key == hash && cell.provider_id.as_str() == provider_id;
        cells.iter().find(is_meant).map(|(_, cell)| f(cell))
    }

    /// A tenant's breakers, by provider.
    #[must_use]
    pub fn breakers_of(&self, tenant_id: &str) -> Vec<Arc<Cell>> {
        let cells = self.breakers.get(tenant_id);
        cells.map(|cells| cells.iter().map(|(_, cell)| Arc::clone(cell)).collect()).unwrap_or_default()
    }

    /// All tenants that have breakers, sorted.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantId> {
        let mut tenants: Vec<_> = self.breakers.iter().map(|e| e.key().clone()).collect();
        tenants.sort_unstable();
        tenants
    }

    /// Every breaker, in no order.
    pub fn for_each_breaker(&self, mut f: impl FnMut(&Arc<Cell>)) {
        for entry in &self.breakers {
            for (_, cell) in entry.value() {
                f(cell);
            }
        }
    }

    /// How many breakers stand.
    #[must_use]
    pub fn breaker_count(&self) -> usize {
        self.breakers.iter().map(|e| e.value().len()).sum()
    }

    /// Adds a breaker; the fold only.
    pub fn insert(&self, cell: Arc<Cell>) {
        let mut cells = self.breakers.entry(cell.tenant_id.clone()).or_default();
        let held = (xxh3_64(cell.provider_id.as_str().as_bytes()), cell);
        match cells.binary_search_by(|(_, c)| c.provider_id.cmp(&held.1.provider_id)) {
            Ok(at) => {
                if let Some(slot) = cells.get_mut(at) {
                    *slot = held;
                }
            }
            Err(at) => cells.insert(at, held),
        }
    }

    /// Takes a breaker away; the fold only.
    pub fn remove(&self, tenant_id: &TenantId, provider_id: &ProviderId) -> Option<Arc<Cell>> {
        let mut cells = self.breakers.get_mut(tenant_id)?;
        let at = cells.binary_search_by(|(_, c)| c.provider_id.cmp(provider_id)).ok()?;
        let (_, gone) = cells.remove(at);
        let empty = cells.is_empty();
        drop(cells);
        if empty {
            self.breakers.remove_if(tenant_id, |_, cells| cells.is_empty());
        }
        Some(gone)
    }

    /// Forgets all breakers and policies, before they are built anew from the log.
    pub fn clear(&self) {
        self.breakers.clear();
        self.catalog.clear();
    }

    /// Whether this worker enforces refusals at all.
    #[must_use]
    pub const fn enforcing(&self) -> bool {
        self.enforcing
    }

    /// Whether claims can be made: without the log, half-open refuses.
    #[must_use]
    pub fn log_in_reach(&self) -> bool {
        self.log_in_reach.load(Ordering::Relaxed)
    }

    /// Says whether the log can be reached.
    pub fn set_log_in_reach(&self, yes: bool) {
        self.log_in_reach.store(yes, Ordering::Relaxed);
    }
}
