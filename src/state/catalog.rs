//! The policies in force, for look-ups that wait for nobody.
//!
//! Policies are spread over shards; each shard is one immutable table behind a lock, which is held while
//! the pointer to the table is read or set. The fold, the only writer, copies the one shard it changes. With 1024 shards a
//! change at a hundred thousand policies copies about a hundred entries.
//!
//! With many tenants nothing of a policy is in the processor's cache when its request comes, and each
//! pointer that is followed costs as much as the reading of a whole request. So a table is flat (hash and
//! tenant stand in the slot), a [`Routable`] holds its first breakers in place, and a [`Reader`] keeps the
//! tables themselves at hand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use smallvec::SmallVec;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::Cell;
use crate::domain::{PolicyId, TenantId};
use crate::log::StepInForce;
use crate::policy::Policy;

/// A thousand: see the module.
const SHARDS: usize = 1_024;
/// The bits of a hash that choose the shard; those above choose the slot.
const SHARD_BITS: u32 = 10;
/// The longest tenant that stands in its slot, so that a slot is one cache line: a UUID, and a little more.
const SHORT: usize = 39;

/// The breakers of a policy's candidates; those of most policies stand in place.
pub type Cells = SmallVec<[Arc<Cell>; IN_PLACE]>;
const IN_PLACE: usize = 4;

/// A policy with the breakers of its candidates, as the decide path wants it.
#[derive(Debug)]
pub struct Routable {
    /// The policy.
    pub policy: Arc<Policy>,
    /// Its revision.
    pub revision: u64,
    /// The breaker of each candidate, in the policy's order.
    pub cells: Cells,
    /// The step of a rollout that lies over the document.
    pub step: Option<Arc<StepInForce>>,
}

impl Routable {
    /// Has what a decision reads of the breakers, and of a rollout's step, fetched into the processor's cache, so that
    /// those of several policies are fetched at one time. No answer depends on it: of this crate only, so that the
    /// compiler tells when nothing calls it any more.
    pub(crate) fn touch(&self) {
        self.cells.iter().take(IN_PLACE).for_each(|cell| cell.touch());
        std::hint::black_box(self.step.as_deref().map(|step| step.sample_ppm));
    }
}

/// One policy in a table.
#[derive(Clone, Debug)]
struct Slot {
    hash: u64,
    tenant: Name,
    routable: Arc<Routable>,
}

/// A tenant's id where it is compared.
#[derive(Clone, Debug)]
enum Name {
    Short(u8, [u8; SHORT]),
    Long(TenantId),
}

impl Name {
    fn of(tenant: &TenantId) -> Self {
        let text = tenant.as_str().as_bytes();
        let mut short = [0; SHORT];
        match (short.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(room), Ok(length)) => {
                room.copy_from_slice(text);
                Self::Short(length, short)
            }
            _ => Self::Long(tenant.clone()),
        }
    }

    fn is(&self, tenant: &str) -> bool {
        match self {
            Self::Short(length, text) => text.get(..usize::from(*length)) == Some(tenant.as_bytes()),
            Self::Long(id) => id.as_str() == tenant,
        }
    }
}

impl Slot {
    fn is(&self, hash: u64, tenant: &str, policy: &str) -> bool {
        self.hash == hash && self.tenant.is(tenant) && self.routable.policy.id().as_str() == policy
    }
}

/// An open hash table, at most half full, whose length is a power of two.
#[derive(Clone, Debug, Default)]
struct Shard {
    slots: Arc<[Option<Slot>]>,
}

impl Shard {
    fn of(entries: Vec<Slot>) -> Self {
        if entries.is_empty() {
            return Self::default();
        }
        let length = (2 * entries.len()).next_power_of_two();
        let mut slots: Vec<Option<Slot>> = (0..length).map(|_| None).collect();
        for entry in entries {
            let start = first(entry.hash, length);
            let free = (start..length).chain(0..start).find(|at| matches!(slots.get(*at), Some(None)));
            if let Some(slot) = free.and_then(|at| slots.get_mut(at)) {
                *slot = Some(entry);
            }
        }
        Self { slots: slots.into() }
    }

    fn find(&self, hash: u64, tenant: &str, policy: &str) -> Option<&Slot> {
        let mut at = first(hash, self.slots.len());
        // Ends at an empty slot: half of them are.
        while let Some(Some(slot)) = self.slots.get(at) {
            if slot.is(hash, tenant, policy) {
                return Some(slot);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        None
    }
}

/// Which shard a hash lies in.
fn place_of(hash: u64) -> usize {
    usize::try_from(hash).unwrap_or(0) & (SHARDS - 1)
}

/// Where a search begins.
fn first(hash: u64, length: usize) -> usize {
    usize::try_from(hash >> SHARD_BITS).unwrap_or(0) & length.saturating_sub(1)
}

/// Of a tenant's policy. Needs no secret seed: keys are put by policies, never by requests.
fn hash_of(tenant: &str, policy: &str) -> u64 {
    xxh3_64_with_seed(policy.as_bytes(), xxh3_64(tenant.as_bytes()))
}

/// See the module.
pub struct Catalog {
    shards: Box<[Place]>,
    /// Rises after each change of any shard.
    changes: AtomicU64,
}

/// Where a shard stands.
#[derive(Default)]
struct Place {
    // Not an `ArcSwap`: under load a guard of arc-swap 1.9 showed a table that was freed (vorner/arc-swap issue 210).
    // Decisions look here only where something has changed.
    shard: RwLock<Shard>,
    /// Rises after each change, so that a reader can tell whether it has the shard that stands.
    version: AtomicU64,
}

impl Place {
    /// The shard that stands: the table itself, which nobody changes.
    fn shard(&self) -> Shard {
        self.shard.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One task's view of the policies, as of the last [`Reader::refresh`]: it holds the tables itself, so that
/// a look-up writes to no memory that others read, and several may be held at once.
#[derive(Debug, Default)]
pub struct Reader {
    /// What the catalog's changes were by then; absent before the first time.
    changes: Option<u64>,
    shards: Vec<Shard>,
    versions: Vec<u64>,
}

impl Reader {
    /// Sees what stands now. Next to free where nothing has changed.
    pub fn refresh(&mut self, catalog: &Catalog) {
        let changes = Some(catalog.changes.load(Ordering::Acquire));
        if self.changes == changes {
            return;
        }
        self.changes = changes;
        self.shards.resize_with(SHARDS, Shard::default);
        self.versions.resize(SHARDS, 0);
        for ((place, shard), version) in catalog.shards.iter().zip(&mut self.shards).zip(&mut self.versions) {
            let stands = place.version.load(Ordering::Acquire);
            if *version != stands {
                // What is loaded now is at least as new as the version says.
                *version = stands;
                *shard = place.shard();
            }
        }
    }

    /// A tenant's policy.
    #[must_use]
    pub fn find(&self, tenant_id: &str, policy_id: &str) -> Option<&Arc<Routable>> {
        let hash = hash_of(tenant_id, policy_id);
        self.shards.get(place_of(hash))?.find(hash, tenant_id, policy_id).map(|slot| &slot.routable)
    }
}

impl Default for Catalog {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Place::default()).collect(), changes: AtomicU64::new(0) }
    }
}

impl Catalog {
    /// A tenant's policy.
    #[must_use]
    pub fn find(&self, tenant_id: &str, policy_id: &str) -> Option<Arc<Routable>> {
        let hash = hash_of(tenant_id, policy_id);
        let shard = self.shards.get(place_of(hash))?.shard();
        shard.find(hash, tenant_id, policy_id).map(|slot| Arc::clone(&slot.routable))
    }

    /// Puts a policy in force under its own id; the fold only.
    pub fn put(&self, tenant_id: &TenantId, routable: Arc<Routable>) {
        let policy = Arc::clone(&routable.policy);
        self.change(tenant_id, policy.id(), Some(routable));
    }

    /// Takes a policy out of force; the fold only.
    pub fn remove(&self, tenant_id: &TenantId, policy_id: &PolicyId) {
        self.change(tenant_id, policy_id, None);
    }

    /// Takes all out of force.
    pub fn clear(&self) {
        for place in &self.shards {
            self.set(place, Shard::default());
        }
    }

    fn change(&self, tenant_id: &TenantId, policy_id: &PolicyId, to: Option<Arc<Routable>>) {
        let (tenant, policy) = (tenant_id.as_str(), policy_id.as_str());
        let hash = hash_of(tenant, policy);
        let Some(place) = self.shards.get(place_of(hash)) else { return };
        let known = place.shard();
        let others = known.slots.iter().flatten().filter(|slot| !slot.is(hash, tenant, policy));
        let mut entries: Vec<Slot> = others.cloned().collect();
        entries.extend(to.map(|routable| Slot { hash, tenant: Name::of(tenant_id), routable }));
        self.set(place, Shard::of(entries));
    }

    fn set(&self, place: &Place, shard: Shard) {
        *place.shard.write().unwrap_or_else(PoisonError::into_inner) = shard;
        place.version.fetch_add(1, Ordering::Release);
        self.changes.fetch_add(1, Ordering::Release);
    }
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").finish_non_exhaustive()
    }
}
