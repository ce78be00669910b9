//! What the breaker promises. One file a state, one for what operators do, one for settings; `laws`
//! holds over any schedule; `model` is a second, naive breaker that must agree with the first; `table`
//! runs the table of docs/breakers.md row by row.

mod closed;
mod examples;
mod half_open;
mod laws;
mod model;
mod open;
mod operators;
mod schedule;
mod settings;
mod table;

use std::sync::Arc;

use super::{Breaker, Cause, Claim, Effect, Input, Settings, SettingsDraft, State, Verdict, View};
use crate::domain::{ClaimId, Disposition, Outcome, Stamp, Status};

/// A stamp that lies on a bucket's edge for every length of window used here.
const START: Stamp = Stamp(1_700_000_400_000);
const SEED: u64 = 7;
const DAY_MS: u64 = 86_400_000;

fn outcome(status: Status) -> Outcome<'static> {
    Outcome::of("acme", "openai", status, 0)
}

fn checked(draft: &SettingsDraft) -> Arc<Settings> {
    Arc::new(Settings::try_new(draft).unwrap())
}

fn draft(change: impl FnOnce(&mut SettingsDraft)) -> SettingsDraft {
    let mut draft = SettingsDraft { enabled: true, ..SettingsDraft::default() };
    change(&mut draft);
    draft
}

/// A breaker and a clock that moves by hand.
#[derive(Clone)]
struct Bench {
    breaker: Breaker,
    now: Stamp,
    draft: SettingsDraft,
    claims: u64,
}

impl Bench {
    /// Enabled, defaults otherwise, changed as told.
    fn new(change: impl FnOnce(&mut SettingsDraft)) -> Self {
        let draft = draft(change);
        Self { breaker: Breaker::new(checked(&draft), SEED, START), now: START, draft, claims: 0 }
    }

    /// Opened just now by failures in a row.
    fn open(change: impl FnOnce(&mut SettingsDraft)) -> Self {
        let mut bench = Self::new(change);
        bench.trip();
        bench
    }

    /// Half-open since just now; request `first` holds a slot.
    fn half_open(change: impl FnOnce(&mut SettingsDraft)) -> Self {
        let mut bench = Self::open(change);
        bench.after(bench.remaining());
        assert_eq!(bench.claim("first"), Verdict::Granted);
        assert_eq!(bench.state(), State::HalfOpen);
        bench
    }

    fn after(&mut self, ms: u64) -> &mut Self {
        self.now = self.now.plus(ms);
        self
    }

    fn apply(&mut self, input: Input<'_>) -> Effect {
        self.breaker.apply(&input, self.now)
    }

    fn result(&mut self, status: Status, change: impl FnOnce(&mut Outcome<'static>)) -> Effect {
        let mut outcome = outcome(status);
        change(&mut outcome);
        self.apply(Input::Result(&outcome))
    }

    fn success(&mut self) -> Disposition {
        disposition(&self.result(Status::Success, |_| {}))
    }

    fn failure(&mut self) -> Disposition {
        disposition(&self.result(Status::Error, |_| {}))
    }

    fn failures(&mut self, n: u32) -> &mut Self {
        for _ in 0..n {
            self.failure();
        }
        self
    }

    fn successes(&mut self, n: u32) -> &mut Self {
        for _ in 0..n {
            self.success();
        }
        self
    }

    /// The result of a request that claimed a slot.
    fn probe(&mut self, request: &'static str, status: Status) -> Effect {
        self.result(status, |o| o.request_id = Some(request.into()))
    }

    /// Failures until it opens.
    fn trip(&mut self) -> Effect {
        for _ in 0..100 {
            let effect = self.result(Status::Error, |_| {});
            if self.state() == State::Open {
                return effect;
            }
        }
        panic!("100 failures in a row do not open it");
    }

    fn claim(&mut self, request: &str) -> Verdict {
        self.claim_with(request, self.now, 0)
    }

    fn claim_with(&mut self, request: &str, latest: Stamp, lease_ms: u64) -> Verdict {
        self.claims += 1;
        let claim = Claim { request_id: request, claim: ClaimId(self.claims), latest, lease_ms };
        self.apply(Input::Claim(claim)).verdict.unwrap()
    }

    fn force(&mut self, to: State, ttl_ms: Option<u64>) -> Effect {
        self.apply(Input::Force { to, ttl_ms })
    }

    fn configure(&mut self, change: impl FnOnce(&mut SettingsDraft)) -> Effect {
        change(&mut self.draft);
        let settings = checked(&self.draft);
        self.apply(Input::Configure(settings))
    }

    fn state(&self) -> State {
        self.breaker.state()
    }

    fn view(&self) -> View {
        self.breaker.view(self.now)
    }

    fn remaining(&self) -> u64 {
        self.view().remaining_ms.unwrap()
    }

    /// Requests and failures in the window.
    fn window(&self) -> (u32, u32) {
        let counts = self.breaker.counts(self.now);
        (counts.requests, counts.failures)
    }

    fn in_flight(&self) -> u32 {
        self.view().half_open_in_flight
    }
}

fn disposition(effect: &Effect) -> Disposition {
    effect.judged.unwrap().disposition
}

/// From, to and why of each transition.
fn moves(effect: &Effect) -> Vec<(State, State, Cause)> {
    effect.transitions.iter().map(|t| (t.from, t.to, t.cause)).collect()
}

const fn refused(state: State, retry_after_ms: u64) -> Verdict {
    Verdict::Refused { state, retry_after_ms }
}
