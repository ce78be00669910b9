//! What one request sees of the breakers, what it leaves behind, and what stands while others write.

mod asking;
mod catalog;
mod counting;
mod shares;
mod threads;

use std::sync::Arc;

use serde_json::json;

use super::{Answer, Asking, Cell, Reading, Routable, State};
use crate::breaker::{self, Breaker, Claim, Input, Settings, SettingsDraft};
use crate::domain::{ClaimId, Offset, Outcome, PolicyId, ProviderId, Stamp, Status, TenantId, Tick};
use crate::log::Fate;
use crate::policy::{Policy, parse};
use crate::routing::{Admission, Candidates, Choice, Observed, Routed};

/// An hour, as a process's own clock begins.
const NOW: Tick = Tick(3_600_000);
const OFFSET: Offset = Offset(1_700_000_000_000 - 3_600_000);
/// The broker's time at [`NOW`].
const START: Stamp = Stamp(1_700_000_000_000);
const TIMEOUT_MS: u64 = 10_000;
/// When a breaker that opened at [`NOW`] is worth a claim.
const DEADLINE: Tick = Tick(NOW.0 + TIMEOUT_MS);
const SEED: u64 = 7;

fn tenant(id: &str) -> TenantId {
    TenantId::try_new(id).unwrap()
}

fn provider(id: &str) -> ProviderId {
    ProviderId::try_new(id).unwrap()
}

fn policy_id(id: &str) -> PolicyId {
    PolicyId::try_new(id).unwrap()
}

/// Trips at the first failure.
fn settings(change: impl FnOnce(&mut SettingsDraft)) -> Arc<Settings> {
    let mut draft = SettingsDraft {
        enabled: true,
        failure_threshold: 1,
        timeout_ms: TIMEOUT_MS,
        ..SettingsDraft::default()
    };
    change(&mut draft);
    Arc::new(Settings::try_new(&draft).unwrap())
}

fn cell(tenant_id: &str, provider_id: &str, change: impl FnOnce(&mut SettingsDraft)) -> Arc<Cell> {
    let breaker = Breaker::new(settings(change), SEED, START);
    let cell = Cell::new(tenant(tenant_id), provider(provider_id), policy_id("p"), breaker);
    cell.publish(&cell.lock(), OFFSET);
    Arc::new(cell)
}

fn outcome(status: Status, latency_ms: Option<u64>, cost_nanos: Option<u64>) -> Outcome<'static> {
    Outcome { latency_ms, cost_nanos, ..Outcome::of("acme", "a", status, 0) }
}

/// What the fold does with an input at a tick.
fn apply(cell: &Cell, input: Input<'_>, at: Tick) -> breaker::Effect {
    let mut guarded = cell.lock();
    let effect = guarded.breaker.apply(&input, OFFSET.to_stamp(at));
    cell.publish(&guarded, OFFSET);
    effect
}

fn fail(cell: &Cell, at: Tick) {
    apply(cell, Input::Result(&outcome(Status::Error, None, None)), at);
}

fn claim(cell: &Cell, request_id: &str, at: Tick) -> Option<breaker::Verdict> {
    let latest = OFFSET.to_stamp(at);
    apply(cell, Input::Claim(Claim { request_id, claim: ClaimId(at.0), latest, lease_ms: 0 }), at).verdict
}

fn policy_with(breakers: bool) -> Policy {
    let block = json!({ "enabled": breakers });
    let providers = json!([{"name": "a", "weight": 1}]);
    parse(&json!({"policy_id": "p", "providers": providers, "circuit_breaker": block})).unwrap().policy
}

fn single() -> Policy {
    policy_with(true)
}

/// One provider's breaker, as a request meets it.
struct Bench {
    state: State,
    routable: Routable,
}

impl Bench {
    fn closed(change: impl FnOnce(&mut SettingsDraft)) -> Self {
        let state = State::new(true);
        state.set_log_in_reach(true);
        let cells = crate::state::Cells::from_iter([cell("acme", "a", change)]);
        Self { state, routable: Routable { policy: Arc::new(single()), revision: 1, cells, step: None } }
    }

    /// Open since [`NOW`].
    fn open(change: impl FnOnce(&mut SettingsDraft)) -> Self {
        let bench = Self::closed(change);
        fail(bench.cell(), NOW);
        bench
    }

    /// Half-open since [`DEADLINE`]; request `first` holds a slot.
    fn half_open(change: impl FnOnce(&mut SettingsDraft)) -> Self {
        let bench = Self::open(change);
        assert_eq!(claim(bench.cell(), "first", DEADLINE), Some(breaker::Verdict::Granted));
        bench
    }

    fn cell(&self) -> &Arc<Cell> {
        &self.routable.cells[0]
    }

    fn asking<'b>(&'b self, request_id: &'b str, at: Tick, answers: &'b [(usize, Answer)]) -> Asking<'b> {
        Asking::new(&self.state, &self.routable, request_id, at, answers)
    }

    /// What a request is told that made no claim.
    fn ask(&self, request_id: &str, at: Tick) -> Admission {
        self.asking(request_id, at, &[]).admit(0)
    }

    /// What a request is told whose claim had this answer.
    fn ask_after(&self, answer: Answer, at: Tick) -> Admission {
        self.asking("r", at, &[(0, answer)]).admit(0)
    }

    /// Refusals that were enforced, and those that were not.
    fn refusals(&self) -> (u64, u64) {
        let (enforced, not, _) = self.cell().refusals();
        (enforced, not)
    }
}

const fn refused(state: breaker::State, retry_after_ms: u64) -> Admission {
    Admission::Refuse { state, retry_after_ms }
}

/// A request id whose refusal is enforced, or is not, where this share of all are.
fn request_where(enforced: bool, percent: u8) -> String {
    (0..10_000).map(|n| format!("r{n}")).find(|id| crate::routing::enforced(id, percent) == enforced).unwrap()
}
