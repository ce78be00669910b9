//! The policies and flags that the log has told of, and whose settings hold for which breaker.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use serde_json::Value;

use super::overlays::LaidOver;
use super::pool::Pool;
use super::version::version_for;
use crate::breaker::Settings;
use crate::domain::{PolicyId, ProviderId, Stamp, TenantId};
use crate::log::{FlagEntry, FoldVersion, PolicyEntry, Revision, Scope, StepInForce};
use crate::policy::{self, Fault, Policy};

/// One policy that the log has told of, deleted ones included: their revision keeps an older one from
/// coming back.
#[derive(Clone, Debug)]
pub struct PolicyRecord {
    /// The newest revision seen.
    pub seen: Revision,
    /// What is in force; nothing after a delete.
    pub live: Option<Live>,
}

/// A policy in force.
#[derive(Clone, Debug)]
pub struct Live {
    /// Its revision.
    pub revision: Revision,
    /// Checked.
    pub policy: Arc<Policy>,
    /// As it was put.
    pub document: Arc<Value>,
    /// What a rollout lays over the document; the policy is that of both.
    pub laid: Option<Box<Laid>>,
}

impl Live {
    /// The step of a rollout that lies over the document.
    #[must_use]
    pub fn step(&self) -> Option<Arc<StepInForce>> {
        self.laid.as_ref().map(|laid| Arc::clone(&laid.over.step))
    }
}

/// Whose settings hold for a breaker.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The policy.
    pub policy_id: PolicyId,
    /// Its settings.
    pub settings: Arc<Settings>,
    /// The step of a rollout that lies over it.
    pub step: Option<Arc<StepInForce>>,
}

/// What lies over a policy in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Laid {
    /// What does.
    pub over: LaidOver,
    /// Whether its settings and the document's are valid together; else they are left out.
    pub fits: bool,
}

/// What a policy entry did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyChange {
    /// It is in force.
    Put,
    /// It is deleted.
    Deleted,
    /// It is not newer than what was seen: nothing happened.
    Stale,
    /// This version of the router cannot run it: what is running stays.
    Refused(Vec<Fault>),
}

/// The greatest revision of a bucket that the log holds. A bucket that ends before it was put back to
/// an older state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Newest {
    /// Which.
    pub revision: Revision,
    /// When it was seen, by the log's time, or a later moment: that of the snapshot that holds it.
    pub at: Stamp,
}

impl Newest {
    fn note(&mut self, revision: Revision, now: Stamp) {
        if revision > self.revision {
            *self = Self { revision, at: now };
        }
    }
}

/// The emergency switches that the log has told of.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    flags: BTreeMap<Scope, FlagRecord>,
    newest: Newest,
}

/// One emergency switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlagRecord {
    /// Its revision.
    pub revision: Revision,
    /// Whether breakers judge and refuse.
    pub enabled: bool,
}

impl Flags {
    /// Takes an entry; `false` if it is not newer than what was seen.
    pub fn apply(&mut self, entry: &FlagEntry, now: Stamp) -> bool {
        self.newest.note(entry.revision, now);
        let newer = self.flags.get(&entry.scope).is_none_or(|known| entry.revision > known.revision);
        if newer {
            let record = FlagRecord { revision: entry.revision, enabled: entry.circuit_breaker_enabled };
            self.flags.insert(entry.scope.clone(), record);
        }
        newer
    }

    /// Whether breakers of a tenant judge and refuse: the world's switch and its own must both be on.
    #[must_use]
    pub fn enabled(&self, tenant_id: &TenantId) -> bool {
        let on = |scope: &Scope| self.flags.get(scope).is_none_or(|f| f.enabled);
        on(&Scope::Global) && on(&Scope::Tenant { tenant_id: tenant_id.clone() })
    }

    /// One switch, if it was ever set.
    #[must_use]
    pub fn get(&self, scope: &Scope) -> Option<FlagRecord> {
        self.flags.get(scope).copied()
    }

    /// The greatest revision.
    #[must_use]
    pub const fn newest(&self) -> Newest {
        self.newest
    }

    /// All that were ever set.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Scope, &FlagRecord)> + Clone {
        self.flags.iter()
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Register {
    policies: BTreeMap<(TenantId, PolicyId), PolicyRecord>,
    pool: Pool,
    newest: Newest,
}

impl Register {
    /// Takes an entry and what lies over it, by the rules of a version. Gives what changed, and which providers' breakers may have.
    pub fn apply(
        &mut self,
        entry: &PolicyEntry,
        over: Option<LaidOver>,
        version: FoldVersion,
    ) -> (PolicyChange, Vec<ProviderId>) {
        let key = (entry.tenant_id.clone(), entry.policy_id.clone());
        let known = self.policies.get(&key);
        if known.is_some_and(|k| entry.revision <= k.seen) {
            return (PolicyChange::Stale, Vec::new());
        }
        let before = known.and_then(|k| k.live.clone());
        let mut touched: Vec<ProviderId> = before.iter().flat_map(|l| providers(&l.policy)).collect();
        let (change, live) = match &entry.document {
            None => (PolicyChange::Deleted, None),
            Some(document) => match taken(document, version)
                .and_then(|()| live(&mut self.pool, entry.revision, document, over))
            {
                Ok(live) => {
                    touched.extend(providers(&live.policy));
                    (PolicyChange::Put, Some(live))
                }
                Err(faults) => {
                    touched.clear();
                    (PolicyChange::Refused(faults), before)
                }
            },
        };
        self.policies.insert(key, PolicyRecord { seen: entry.revision, live });
        touched.sort_unstable();
        touched.dedup();
        (change, touched)
    }

    /// Lays anew over a tenant's policies what lies over each now. Gives those that changed, and the providers
    /// whose breakers may have.
    pub fn lay_over(
        &mut self,
        tenant_id: &TenantId,
        over: impl Fn(&PolicyId) -> Option<LaidOver>,
    ) -> Vec<(PolicyId, Vec<ProviderId>)> {
        let of_tenant = (Bound::Included((tenant_id.clone(), PolicyId::least())), Bound::Unbounded);
        let policies = self.policies.range_mut(of_tenant).take_while(|((t, _), _)| t == tenant_id);
        let mut changed = Vec::new();
        for ((_, policy_id), record) in policies {
            let Some(present) = &mut record.live else { continue };
            let over = over(policy_id);
            if over.as_ref() == present.laid.as_deref().map(|laid| &laid.over) {
                continue;
            }
            // It was in force, so it has no faults.
            if let Ok(laid) = live(&mut self.pool, present.revision, &present.document, over) {
                *present = laid;
                changed.push((policy_id.clone(), providers(&present.policy).collect()));
            }
        }
        changed
    }

    /// Notes that a revision was seen, whatever came of it.
    pub fn note_newest(&mut self, revision: Revision, now: Stamp) {
        self.newest.note(revision, now);
    }

    /// The greatest revision.
    #[must_use]
    pub const fn newest(&self) -> Newest {
        self.newest
    }

    /// Notes that a newer revision than the one in force was seen (and refused).
    pub fn note_seen(&mut self, tenant_id: &TenantId, policy_id: &PolicyId, seen: Revision) {
        if let Some(record) = self.policies.get_mut(&(tenant_id.clone(), policy_id.clone())) {
            record.seen = record.seen.max(seen);
        }
    }

    /// A policy's record.
    #[must_use]
    pub fn get(&self, tenant_id: &TenantId, policy_id: &PolicyId) -> Option<&PolicyRecord> {
        self.policies.get(&(tenant_id.clone(), policy_id.clone()))
    }

    /// A tenant's policies in force, by id.
    pub fn of_tenant(&self, tenant_id: &TenantId) -> impl Iterator<Item = (&PolicyId, &Live)> {
        let wanted = tenant_id.clone();
        self.policies
            .range((Bound::Included((tenant_id.clone(), PolicyId::least())), Bound::Unbounded))
            .take_while(move |((t, _), _)| *t == wanted)
            .filter_map(|((_, p), record)| record.live.as_ref().map(|live| (p, live)))
    }

    /// Whether a policy of the tenant is in force.
    #[must_use]
    pub fn has_any(&self, tenant_id: &TenantId) -> bool {
        self.of_tenant(tenant_id).next().is_some()
    }

    /// All records by tenant and policy, deleted ones included.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&(TenantId, PolicyId), &PolicyRecord)> + Clone {
        self.policies.iter()
    }

    /// All records after a key, for paging.
    pub fn after<'r>(
        &'r self,
        key: Option<&(TenantId, PolicyId)>,
    ) -> impl Iterator<Item = (&'r (TenantId, PolicyId), &'r PolicyRecord)> + use<'r> {
        let from = key.map_or(Bound::Unbounded, |k| Bound::Excluded(k.clone()));
        self.policies.range((from, Bound::Unbounded))
    }

    /// How many policies are in force.
    #[must_use]
    pub fn live_count(&self) -> usize {
        self.policies.values().filter(|r| r.live.is_some()).count()
    }

    /// Whose settings hold for a breaker: of the policies that name the provider, the newest one that
    /// enables its breaker, else the newest. `None` if no policy names it.
    #[must_use]
    pub fn owner(&self, tenant_id: &TenantId, provider_id: &ProviderId) -> Option<Owner> {
        self.of_tenant(tenant_id)
            .filter(|(_, live)| live.policy.candidates().iter().any(|c| c.provider == *provider_id))
            .max_by_key(|(_, live)| (live.policy.breaker().enabled(), live.revision))
            .map(|(id, live)| Owner {
                policy_id: id.clone(),
                settings: Arc::clone(live.policy.breaker()),
                step: live.step(),
            })
    }

    /// Enabled policies of the tenant that give one of this policy's providers other settings than it
    /// does, by provider: for a warning.
    #[must_use]
    pub fn rivals(&self, tenant_id: &TenantId, policy: &Policy) -> Vec<(ProviderId, PolicyId)> {
        let mut rivals = Vec::new();
        if !policy.breaker().enabled() {
            return rivals;
        }
        for (id, live) in self.of_tenant(tenant_id) {
            let other = live.policy.breaker();
            if id == policy.id() || !other.enabled() || other == policy.breaker() {
                continue;
            }
            for candidate in policy.candidates() {
                if live.policy.candidates().iter().any(|c| c.provider == candidate.provider) {
                    rivals.push((candidate.provider.clone(), id.clone()));
                }
            }
        }
        rivals
    }
}

/// Whether a version takes a document: an older program does not know its newer fields, and refuses it.
fn taken(document: &Value, version: FoldVersion) -> Result<(), Vec<Fault>> {
    let needed = version_for(document);
    if needed <= version {
        return Ok(());
    }
    let message = format!("needs version {needed} of the fold, and version {version} holds");
    Err(vec![Fault { path: String::new(), message }])
}

/// A document in force, with what lies over it.
fn live(
    pool: &mut Pool,
    revision: Revision,
    document: &Arc<Value>,
    over: Option<LaidOver>,
) -> Result<Live, Vec<Fault>> {
    let (policy, laid) = match over {
        None => (policy::parse(document)?.policy, None),
        Some(over) => {
            let overlaid = policy::parse_under(document, &over.overlay())?;
            (overlaid.checked.policy, Some(Box::new(Laid { over, fits: overlaid.fits })))
        }
    };
    let (policy, document) = pool.one_of(policy, document);
    Ok(Live { revision, policy, document, laid })
}

fn providers(policy: &Policy) -> impl Iterator<Item = ProviderId> + '_ {
    policy.candidates().iter().map(|c| c.provider.clone())
}
