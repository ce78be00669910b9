//! What a log adds up to. `explorer` goes through all schedules of a small world; `convergence` and
//! `digests` hold over random logs of all kinds of entries.

mod claims;
mod convergence;
mod digests;
mod evidence;
mod explorer;
mod flags;
mod force;
mod owners;
mod policies;
mod repeated;
mod results;
mod snapshots;
mod standing;
mod steps;
mod time;
mod upgrade;

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Applied, Fold, Metering, PolicyChange, Verdicts, What};
use crate::breaker::{Cause, State as Shown, Verdict, View};
use crate::domain::{
    ClaimId, Disposition, Offset, Outcome, PolicyId, ProviderId, Stamp, Status, TenantId, Tick, identity_of,
};
use crate::log::{
    At, ClaimEntry, Ended, Entry, FlagEntry, ForceEntry, ForceTo, PolicyEntry, Revision, Scope,
};
use crate::state::{Cell, Counters, State};

const START: Stamp = Stamp(1_700_000_000_000);
/// A day and more after this process began: ticks end at 0, and a drawn log may set its clock back by minutes a
/// hundred times.
const OFFSET: Offset = Offset(1_700_000_000_000 - 100_000_000);
const MINUTE_MS: u64 = 60_000;
/// How long the breakers of [`document`] stay open.
const TIMEOUT_MS: u64 = 10_000;

fn tenant(id: &str) -> TenantId {
    TenantId::try_new(id).unwrap()
}

fn provider(id: &str) -> ProviderId {
    ProviderId::try_new(id).unwrap()
}

fn policy_id(id: &str) -> PolicyId {
    PolicyId::try_new(id).unwrap()
}

/// A policy over these providers whose breakers open at the third failure in a row.
fn document(providers: &[&str]) -> Value {
    with_breaker(providers, json!({"enabled": true, "failure_threshold": 3, "timeout_ms": TIMEOUT_MS}))
}

fn with_breaker(providers: &[&str], block: Value) -> Value {
    let providers: Vec<_> = providers.iter().map(|p| json!({"name": p, "weight": 1})).collect();
    json!({"policy_id": "p", "providers": providers, "circuit_breaker": block})
}

fn policy_entry(tenant_id: &str, id: &str, revision: Revision, document: Option<Value>) -> Entry<'static> {
    let document = document.map(|mut d| {
        d["policy_id"] = json!(id);
        Arc::new(d)
    });
    let (tenant_id, policy_id) = (tenant(tenant_id), policy_id(id));
    Entry::Policy(PolicyEntry {
        tenant_id,
        policy_id,
        revision,
        document,
        actor: None,
        reason: None,
        authenticated: None,
    })
}

fn flag_entry(scope: Scope, revision: Revision, enabled: bool) -> Entry<'static> {
    Entry::Flag(FlagEntry {
        scope,
        revision,
        circuit_breaker_enabled: enabled,
        latest: None,
        actor: None,
        reason: None,
        authenticated: None,
    })
}

fn scope_of(tenant_id: &str) -> Scope {
    Scope::Tenant { tenant_id: tenant(tenant_id) }
}

fn command(tenant_id: &str, provider_id: &str, to: Option<ForceTo>, ttl_ms: Option<u64>) -> ForceEntry {
    let (tenant_id, provider_id) = (tenant(tenant_id), provider(provider_id));
    ForceEntry {
        tenant_id,
        provider_id,
        to,
        ttl_ms,
        latest: None,
        actor: None,
        reason: None,
        authenticated: None,
    }
}

fn outcome(tenant_id: &str, provider_id: &str, status: Status, identity: u64) -> Outcome<'static> {
    Outcome::of(tenant_id.to_owned(), provider_id.to_owned(), status, identity)
}

fn ended(tenant_id: &str, provider_id: &str, request_id: &str, assignment_id: &str) -> Ended<'static> {
    Ended {
        tenant_id: Cow::Owned(tenant_id.to_owned()),
        provider_id: Cow::Owned(provider_id.to_owned()),
        request_id: Cow::Owned(request_id.to_owned()),
        assignment_id: Cow::Owned(assignment_id.to_owned()),
        status: Status::Timeout,
        elapsed_ms: 0,
    }
}

fn claim_entry(tenant_id: &str, provider_id: &str, claim: u64, latest: Stamp) -> ClaimEntry<'static> {
    ClaimEntry {
        tenant_id: Cow::Owned(tenant_id.to_owned()),
        provider_id: Cow::Owned(provider_id.to_owned()),
        request_id: Cow::Owned(format!("r{claim}")),
        claim: ClaimId(claim),
        latest,
        lease_ms: 0,
        takes: None,
    }
}

/// A fold, and the log that it is told entry by entry.
struct Log {
    fold: Fold,
    state: Arc<State>,
    verdicts: Arc<Verdicts>,
    at: At,
    offset: Offset,
    live: bool,
    /// The bucket's last revision.
    revision: u64,
    results: u64,
}

impl Log {
    fn new() -> Self {
        Self::with(OFFSET, true)
    }

    fn with(offset: Offset, live: bool) -> Self {
        let verdicts = Arc::default();
        let state = Arc::new(State::new(true));
        let fold = Fold::new(Arc::clone(&state), Arc::clone(&verdicts));
        Self {
            fold,
            state,
            verdicts,
            at: At { position: 0, stamp: START },
            offset,
            live,
            revision: 0,
            results: 0,
        }
    }

    /// Tenant `acme` with a policy `p` over provider `a`.
    fn acme() -> Self {
        let mut log = Self::new();
        log.put("acme", "p", document(&["a"]));
        log
    }

    fn apply(&mut self, entry: Entry<'_>) -> Applied {
        self.at.position += 1;
        self.fold.apply(&entry, self.at, self.offset, self.live)
    }

    fn after(&mut self, ms: u64) -> &mut Self {
        self.at.stamp = self.at.stamp.plus(ms);
        self
    }

    fn policy(
        &mut self,
        tenant_id: &str,
        id: &str,
        revision: Revision,
        document: Option<Value>,
    ) -> PolicyChange {
        match self.apply(policy_entry(tenant_id, id, revision, document)).what {
            What::Policy(change) => change,
            other => panic!("{other:?}"),
        }
    }

    fn next_revision(&mut self) -> Revision {
        self.revision += 1;
        Revision { created: 1, revision: self.revision }
    }

    fn put(&mut self, tenant_id: &str, id: &str, document: Value) {
        let revision = self.next_revision();
        assert_eq!(self.policy(tenant_id, id, revision, Some(document)), PolicyChange::Put);
    }

    fn delete(&mut self, tenant_id: &str, id: &str) {
        let revision = self.next_revision();
        assert_eq!(self.policy(tenant_id, id, revision, None), PolicyChange::Deleted);
    }

    fn flag(&mut self, scope: Scope, enabled: bool) -> Applied {
        let revision = self.next_revision();
        self.apply(flag_entry(scope, revision, enabled))
    }

    fn result(&mut self, outcome: Outcome<'_>) -> Disposition {
        match self.apply(Entry::Result(outcome)).what {
            What::Result { disposition, .. } => disposition,
            other => panic!("{other:?}"),
        }
    }

    /// A result of its own identity.
    fn ends(&mut self, tenant_id: &str, provider_id: &str, status: Status) -> Disposition {
        self.results += 1;
        self.result(outcome(tenant_id, provider_id, status, self.results))
    }

    fn fail(&mut self, tenant_id: &str, provider_id: &str, times: u32) -> &mut Self {
        for _ in 0..times {
            self.ends(tenant_id, provider_id, Status::Error);
        }
        self
    }

    /// `acme`'s provider `a`, open since now.
    fn trip(&mut self) -> &mut Self {
        self.fail("acme", "a", 3);
        assert_eq!(self.shown("acme", "a"), Shown::Open);
        self
    }

    /// `acme`'s provider `a`, half-open since now; claim 1 of request `r1` holds a slot.
    fn half_open(&mut self) -> &mut Self {
        self.trip().after(TIMEOUT_MS);
        assert_eq!(self.claim("acme", "a", 1), Some(Verdict::Granted));
        self
    }

    fn claim(&mut self, tenant_id: &str, provider_id: &str, claim: u64) -> Option<Verdict> {
        match self.apply(Entry::Claim(claim_entry(tenant_id, provider_id, claim, self.at.stamp))).what {
            What::Claim { claim: told, verdict } => {
                assert_eq!(told, ClaimId(claim));
                verdict
            }
            other => panic!("{other:?}"),
        }
    }

    fn ended(&mut self, ended: Ended<'_>) -> bool {
        match self.apply(Entry::Ended(ended)).what {
            What::Ended { judged } => judged,
            other => panic!("{other:?}"),
        }
    }

    fn force(&mut self, to: ForceTo, ttl_ms: Option<u64>) -> Applied {
        self.apply(Entry::Force(command("acme", "a", Some(to), ttl_ms)))
    }

    fn cell(&self, tenant_id: &str, provider_id: &str) -> Arc<Cell> {
        self.state.breaker(tenant_id, provider_id).unwrap()
    }

    fn view(&self, tenant_id: &str, provider_id: &str) -> View {
        self.cell(tenant_id, provider_id).lock().breaker.view(self.fold.now())
    }

    fn shown(&self, tenant_id: &str, provider_id: &str) -> Shown {
        self.view(tenant_id, provider_id).state
    }

    fn counters(&self, tenant_id: &str, provider_id: &str) -> Counters {
        self.cell(tenant_id, provider_id).lock().counters
    }

    /// This worker's clock at the log's last stamp.
    fn tick(&self) -> Tick {
        self.offset.to_tick(self.at.stamp)
    }

    /// Tenants and their providers that have a breaker.
    fn standing(&self) -> Vec<String> {
        let of = |t: &TenantId| self.state.breakers_of(t.as_str());
        let name = |c: Arc<Cell>| format!("{}/{}", c.tenant_id, c.provider_id);
        self.state.tenants().iter().flat_map(of).map(name).collect()
    }

    /// The digest from nothing but the breakers that stand.
    fn recomputed(&self) -> u64 {
        let mut sum = 0_u64;
        self.state.for_each_breaker(|c| sum = sum.wrapping_add(c.lock().breaker.digest()));
        sum & ((1 << 53) - 1)
    }
}

/// From, to and why of each transition.
fn moves(applied: &Applied) -> Vec<(Shown, Shown, Cause)> {
    applied.moved.iter().map(|m| (m.transition.from, m.transition.to, m.transition.cause)).collect()
}
