//! Removing a tenant: all that the buckets hold of it, with every older revision.
//!
//! Each key is purged: one message deletes it and makes the stream drop its older ones. The log gets the delete of
//! what was in force, as with `policy.delete`, so breakers, gates and metric series go. A marker without a value stays
//! under each key. Policies go before the switch: a switch that is off must not let breakers refuse while their policies
//! still stand.
//!
//! What is put after the request began stays, however long that takes; and nothing is purged after its deadline.
//!
//! A request that is cut short is repeated: what it left is met again, also what it purged and did not enter in the log.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::body::Body;
use super::policies::Change;
use super::reply::ControlError;
use super::{flags, opened};
use crate::domain::{ErrorCode, PolicyId, TenantId, Tick};
use crate::log::{Revision, Scope};
use crate::nats::Worker;
use crate::nats::buckets::{Bucket, BucketError, By, Holds, Purged, flag_key};
use crate::rollout::controller::Status;
use crate::wire::subjects::{decode_key_token, encode_key, encode_key_token};

/// Policies that one request removes; the next goes on. Each takes some round trips to the broker, and a common client
/// waits for 5 s.
const AT_ONCE: usize = 100;

pub(super) async fn delete(worker: &Arc<Worker>, body: Body) -> Result<Value, ControlError> {
    body.only(&["tenant_id"])?;
    let tenant_id = body.tenant_id()?;
    let until = body.until();
    // Both before anything is removed: what they hold by now is removed, and nothing that comes later.
    let policies = Begun::of(worker, Holds::Policies, until).await?;
    let switches = Begun::of(worker, Holds::Flags, until).await?;
    let mut removal = Removal {
        worker,
        tenant_id: &tenant_id,
        by: body.by(),
        until,
        policies: Vec::new(),
        flag: false,
        in_force: true,
        warnings: Vec::new(),
    };
    let complete = removal.policies(&policies).await? && removal.flag(&switches).await?;
    let Removal { policies, flag, in_force, mut warnings, .. } = removal;
    if policies.is_empty() && !flag {
        return Err(ControlError::new(ErrorCode::NotFound, "nothing is stored of this tenant"));
    }
    warnings.extend(naming(worker, &tenant_id));
    Ok(json!({
        "ok": true,
        "tenant_id": tenant_id,
        "policies": policies,
        "flag": flag,
        "complete": complete,
        "warnings": warnings,
        "in_force": in_force,
    }))
}

/// A bucket, and its last revision when the request began.
struct Begun {
    bucket: Bucket,
    end: u64,
}

impl Begun {
    async fn of(worker: &Worker, holds: Holds, until: Tick) -> Result<Self, ControlError> {
        let bucket = opened(worker, holds).await?;
        bucket.settled(worker, until).await?;
        let end = bucket.last().await?.revision;
        Ok(Self { bucket, end })
    }
}

/// What is removed so far.
struct Removal<'r> {
    worker: &'r Worker,
    tenant_id: &'r TenantId,
    by: By<'r>,
    /// Until when anything is removed.
    until: Tick,
    /// The ids; of a key that is no policy's, what follows the tenant in it.
    policies: Vec<String>,
    flag: bool,
    in_force: bool,
    warnings: Vec<String>,
}

impl Removal<'_> {
    /// Removes policies, also those that were deleted before and have a history. `false`: some are left.
    async fn policies(&mut self, Begun { bucket, end }: &Begun) -> Result<bool, ControlError> {
        let end = *end;
        let prefix = format!("{}.", encode_key_token(self.tenant_id.as_str()));
        let mut from = 1;
        let mut met = BTreeSet::new();
        while from <= end
            && let Some((key, stored)) = bucket.next(&format!("{prefix}>"), from).await?
        {
            from = stored.revision + 1;
            met.insert(key.clone());
            let marker = Purged { revision: stored.revision, had_value: false };
            // What was put after an older marker is met later.
            let purged = match stored.purged {
                true => None,
                false if self.policies.len() >= AT_ONCE => return Ok(false),
                false => match bucket.purge(self.worker, &key, end, self.until, self.by).await {
                    Ok(purged) => purged,
                    Err(BucketError::Conflict { .. }) => {
                        self.warnings.push(stays(&key));
                        continue;
                    }
                    Err(BucketError::Late) if !self.policies.is_empty() => return Ok(false),
                    Err(error) => return Err(error.into()),
                },
            };
            let removed = purged.is_some();
            let token = key.strip_prefix(&prefix).unwrap_or(&key);
            let policy_id = decode_key_token(token).and_then(|id| PolicyId::try_new(id).ok());
            let entered = match &policy_id {
                Some(policy_id) => self.enter(bucket, &key, policy_id, purged.unwrap_or(marker)).await,
                None => false,
            };
            if removed || entered {
                self.policies.push(policy_id.map_or_else(|| token.to_owned(), |id| id.to_string()));
            }
            if !self.in_force {
                // The log takes nothing: the rest would only wait for it, too.
                return Ok(false);
            }
        }
        let created = bucket.created();
        let is_lost =
            self.worker.ledger.fold().register().of_tenant(self.tenant_id).any(|(policy_id, live)| {
                let Revision { created: made, revision } = live.revision;
                let key = encode_key(self.tenant_id.as_str(), policy_id.as_str());
                made == created && revision <= end && !met.contains(&key)
            });
        // Put back from a backup, the bucket gets it back in a moment.
        if is_lost { Err(BucketError::WentBack.into()) } else { Ok(true) }
    }

    /// Enters the delete in the log, if anybody may have the policy in force. Whether it did.
    async fn enter(&mut self, bucket: &Bucket, key: &str, policy_id: &PolicyId, purged: Purged) -> bool {
        let Purged { revision, had_value } = purged;
        let is_live = {
            let fold = self.worker.ledger.fold();
            let known = fold.register().get(self.tenant_id, policy_id);
            let at = Revision { created: bucket.created(), revision };
            known.is_some_and(|known| known.live.is_some() && known.seen < at)
        };
        if !had_value && !is_live {
            return false;
        }
        let change = Change {
            worker: self.worker,
            tenant_id: self.tenant_id,
            policy_id,
            by: self.by,
            until: self.until,
        };
        self.in_force &= change.enter(bucket, key, revision, None, &mut self.warnings).await;
        true
    }

    /// Takes the switch away, which is on then, as one that was never set. `false`: it is not in force.
    async fn flag(&mut self, Begun { bucket, end }: &Begun) -> Result<bool, ControlError> {
        let scope = Scope::Tenant { tenant_id: self.tenant_id.clone() };
        let key = flag_key(&scope);
        let Some(last) = bucket.get(&key).await? else { return Ok(true) };
        let created = bucket.created();
        let revision = if last.purged {
            let known = self.worker.ledger.fold().flags().get(&scope);
            let at = Revision { created, revision: last.revision };
            known.filter(|known| known.revision < at).map(|_| last.revision)
        } else {
            match bucket.purge(self.worker, &key, *end, self.until, self.by).await {
                Ok(purged) => purged.map(|purged| purged.revision),
                Err(BucketError::Conflict { .. }) => {
                    self.warnings.push(stays(&key));
                    None
                }
                Err(BucketError::Late) if !self.policies.is_empty() => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        };
        let Some(revision) = revision else { return Ok(true) };
        self.flag = true;
        let revision = Revision { created, revision };
        let set = flags::Set { revision, enabled: true, latest: None };
        self.in_force &= flags::enter(self.worker, &scope, set, self.by, &mut self.warnings).await;
        Ok(self.in_force)
    }
}

/// The warning about a key that somebody changed after the request began.
fn stays(key: &str) -> String {
    format!("{key} was changed after the request began, and stays")
}

/// The rollouts that name a tenant, one warning each.
fn naming(worker: &Worker, tenant_id: &TenantId) -> Vec<String> {
    let stream = &worker.settings.names.rollouts_stream;
    if !worker.rollouts.progress().borrow().caught_up {
        return vec![format!("{stream} is not read yet: a rollout may name the tenant")];
    }
    let statuses = worker.rollout_statuses();
    let naming = statuses.iter().filter(|status| {
        let members = status.tenants.iter().map(|tenant| &tenant.tenant_id);
        members.chain(&status.already_enforced).any(|named| named == tenant_id)
    });
    let warning = |Status { rollout, state, .. }: &Status| {
        format!("rollout {rollout} ({state}) names the tenant; {stream} keeps its name for ever")
    };
    naming.map(warning).collect()
}
