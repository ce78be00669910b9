//! The policies in force, for look-ups that take no lock.
//!
//! Tenants are spread over shards; each shard is one immutable map behind an atomic pointer. A reader
//! loads the pointer; the fold, the only writer, copies the one shard it changes. With 1024 shards a
//! change at a hundred thousand tenants copies about a hundred pointers.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use arc_swap::ArcSwap;
use xxhash_rust::xxh3::xxh3_64;

use super::Cell;
use crate::domain::{PolicyId, TenantId};
use crate::policy::Policy;

/// A thousand: see the module.
const SHARDS: usize = 1_024;

/// A policy with the breakers of its candidates, as the decide path wants it.
#[derive(Debug)]
pub struct Routable {
    /// The policy.
    pub policy: Arc<Policy>,
    /// Its revision.
    pub revision: u64,
    /// The breaker of each candidate, in the policy's order.
    pub cells: Box<[Arc<Cell>]>,
}

type Policies = Vec<(PolicyId, Arc<Routable>)>;
type Shard = HashMap<TenantId, Arc<Policies>, BuildHasherDefault<OneShot>>;

/// Hashes the one text of a key by xxh3. It needs no secret seed: keys are put by policies, never by
/// requests.
#[derive(Default)]
struct OneShot(u64);

impl Hasher for OneShot {
    fn write(&mut self, bytes: &[u8]) {
        self.0 ^= xxh3_64(bytes);
    }

    /// What ends a text.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// See the module.
pub struct Catalog {
    shards: Box<[ArcSwap<Shard>]>,
}

impl Default for Catalog {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| ArcSwap::default()).collect() }
    }
}

impl Catalog {
    /// A tenant's policy.
    #[must_use]
    pub fn find(&self, tenant_id: &str, policy_id: &str) -> Option<Arc<Routable>> {
        let shard = self.shard(tenant_id)?.load();
        let policies = shard.get(tenant_id)?;
        policies.iter().find(|(id, _)| id.as_str() == policy_id).map(|(_, r)| Arc::clone(r))
    }

    /// Puts a policy in force; the fold only.
    pub fn put(&self, tenant_id: &TenantId, policy_id: &PolicyId, routable: Arc<Routable>) {
        self.change(tenant_id, |policies| match policies.iter_mut().find(|(id, _)| id == policy_id) {
            Some((_, slot)) => *slot = routable,
            None => policies.push((policy_id.clone(), routable)),
        });
    }

    /// Takes a policy out of force; the fold only.
    pub fn remove(&self, tenant_id: &TenantId, policy_id: &PolicyId) {
        self.change(tenant_id, |policies| policies.retain(|(id, _)| id != policy_id));
    }

    /// Takes all out of force.
    pub fn clear(&self) {
        for shard in &self.shards {
            shard.store(Arc::default());
        }
    }

    fn change(&self, tenant_id: &TenantId, edit: impl FnOnce(&mut Policies)) {
        let Some(slot) = self.shard(tenant_id.as_str()) else { return };
        let mut shard: Shard = slot.load().as_ref().clone();
        let mut policies = shard.get(tenant_id).map(|p| p.as_ref().clone()).unwrap_or_default();
        edit(&mut policies);
        if policies.is_empty() {
            shard.remove(tenant_id);
        } else {
            shard.insert(tenant_id.clone(), Arc::new(policies));
        }
        slot.store(Arc::new(shard));
    }

    fn shard(&self, tenant_id: &str) -> Option<&ArcSwap<Shard>> {
        let n = usize::try_from(xxh3_64(tenant_id.as_bytes()) % 1_024).unwrap_or(0);
        self.shards.get(n)
    }
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").finish_non_exhaustive()
    }
}
