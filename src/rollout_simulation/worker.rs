//! The worker of a simulation: it writes met entries and tallies as a worker does.

use std::collections::{BTreeSet, VecDeque};

use crate::breaker::State;
use crate::domain::{ClaimId, Outcome, PolicyId, Stamp, TenantId, Tick, arm_hash, is_treated};
use crate::ledger::Fold;
use crate::log::{ClaimEntry, Entry, Fate, StepInForce, WorkerRun};
use crate::rollout::collector::{Answered, Collector, Pace, Standing};
use crate::rollout::evidence::is_sampled;

/// Requests that are remembered, so that each counts by its first result only; of more, the oldest is forgotten.
const MAX_REMEMBERED: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct SimulatedWorker {
    collector: Collector,
    next_tally: Stamp,
    /// When the oldest met request that is not written must be written.
    next_met: Option<Stamp>,
    answered: BTreeSet<(TenantId, u64)>,
    order: VecDeque<(TenantId, u64)>,
    claims: u64,
}

/// A request that the worker answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'r> {
    pub(super) tenant_id: &'r TenantId,
    pub(super) policy_id: &'r PolicyId,
    pub(super) request_id: &'r str,
    pub(super) met: Option<Fate>,
    pub(super) retry: bool,
}

impl SimulatedWorker {
    pub(super) fn new() -> Self {
        Self {
            collector: Collector::new(WorkerRun { worker: "simulation".to_owned(), boot: 1 }),
            next_tally: Stamp(0),
            next_met: None,
            answered: BTreeSet::new(),
            order: VecDeque::new(),
            claims: 0,
        }
    }

    /// When it writes next.
    pub(super) fn next_due(&self) -> Stamp {
        self.next_met.map_or(self.next_tally, |met| met.min(self.next_tally))
    }

    /// What it writes, in this order. The position of the tally is that of the entry before it.
    pub(super) fn due(&mut self, now: Stamp, pace: Pace, standing: Standing) -> Vec<Entry<'static>> {
        let tick = Tick(now.0);
        let met = self.collector.met_due(tick, pace);
        if !met.is_empty() {
            self.next_met = None;
        }
        let position = standing.position.saturating_add(met.len() as u64);
        let tally = self.collector.tally_due(tick, pace, &Standing { position, ..standing });
        if tally.is_some() {
            self.next_tally = now.plus(pace.tally_ms);
        }
        met.into_iter().map(Entry::Met).chain(tally.map(Entry::Tally)).collect()
    }

    /// The claim of the request of a result, if its breaker would let it probe then.
    pub(super) fn claim(
        &mut self,
        outcome: &Outcome<'_>,
        fold: &Fold,
        now: Stamp,
    ) -> Option<ClaimEntry<'static>> {
        let (tenant_id, provider_id) = (outcome.tenant_id.as_ref(), outcome.provider_id.as_ref());
        let request_id = outcome.request_id.as_deref()?;
        let breaker = fold.breaker(tenant_id, provider_id)?;
        let may_probe = match breaker.state {
            State::Open => breaker.open_until.is_some_and(|until| until <= now),
            State::HalfOpen => true,
            State::Closed => false,
        };
        if !may_probe {
            return None;
        }
        self.claims = self.claims.saturating_add(1);
        Some(ClaimEntry {
            tenant_id: tenant_id.to_owned().into(),
            provider_id: provider_id.to_owned().into(),
            request_id: request_id.to_owned().into(),
            claim: ClaimId(self.claims),
            latest: now,
            lease_ms: 0,
            takes: None,
        })
    }

    /// Answers a request, if a rollout watches its tenant.
    pub(super) fn answer(&mut self, request: &Request<'_>, fold: &Fold, now: Stamp, pace: Option<Pace>) {
        let Request { tenant_id, policy_id, request_id, met, retry } = *request;
        let over = fold.overlays().over(tenant_id, policy_id);
        let (Some(over), Some(pace)) = (over, pace) else { return };
        let StepInForce { split, sample_ppm, .. } = *over.step;
        let hash = arm_hash(request_id);
        if !is_sampled(hash, sample_ppm) {
            return;
        }
        let treated = is_treated(hash, split);
        let tenant_id = tenant_id.as_str();
        let noted = self.collector.note(&Answered { tenant_id, policy_id, hash, treated, met, retry });
        if met.is_some() && noted.is_ok() {
            self.next_met.get_or_insert(now.plus(pace.met_ms));
        }
    }

    /// Answers the request of a result, unless it did so before.
    pub(super) fn answer_of_result(
        &mut self,
        (tenant_id, request_id): (&TenantId, &str),
        fold: &Fold,
        now: Stamp,
        pace: Option<Pace>,
    ) {
        let key = (tenant_id.clone(), arm_hash(request_id));
        let Some((policy_id, _)) = fold.register().of_tenant(tenant_id).next() else { return };
        if !self.answered.insert(key.clone()) {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > MAX_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.answered.remove(&oldest);
        }
        let request = Request { tenant_id, policy_id, request_id, met: None, retry: false };
        self.answer(&request, fold, now, pace);
    }
}
