//! Windows on injected time: the router's own fold, given entries with stamps of our choice. Pure.
//!
//! Results come at a steady pace; every other one fails for one window length, none for another. What
//! the breaker tells is compared with a recount of all results by the window's rule: it is cut into ten
//! buckets that lie on multiples of a tenth of its length, and a bucket counts until ten later.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::breaker::State as Shown;
use crate::domain::{Offset, Outcome, PolicyId, Stamp, Status, TenantId};
use crate::ledger::{Fold, Verdicts};
use crate::log::{At, Entry, PolicyEntry, Revision};
use crate::state::State;

/// Some moment; a multiple of no bucket's width.
const START_MS: u64 = 1_795_000_000_123;

/// Buckets of a window.
const BUCKETS: u64 = 10;

const TENANT: &str = "window";
const PROVIDER: &str = "primary";

/// What a window tells at one moment, and what a recount does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reading {
    /// Since the first result.
    pub(super) at_ms: u64,
    pub(super) told: Counted,
    pub(super) recount: Counted,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) requests: u64,
    pub(super) failures: u64,
}

impl Counted {
    /// Every other one failed: of any stretch that is half, and one more or less at its ends.
    pub(super) fn is_half(self) -> bool {
        (self.failures * 2).abs_diff(self.requests) <= 2
    }

    /// The failures' share; 0 of nothing.
    #[expect(clippy::cast_precision_loss, reason = "counts lie far below 2^53")]
    pub(super) fn rate(self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.failures as f64 / self.requests as f64 }
    }
}

/// One run of a window.
#[derive(Debug)]
pub(super) struct Watched {
    /// A reading each tenth of the window, for two windows.
    pub(super) readings: Vec<Reading>,
    /// The result, counted from 1, that opened the breaker.
    pub(super) opened_at: Option<u64>,
}

/// The breaker block of a window that is watched: only the share of failures can open it.
pub(super) fn breaker(window_s: u64, error_rate_threshold: f64) -> Value {
    json!({
        "enabled": true, "failure_threshold": 100, "error_rate_threshold": error_rate_threshold,
        "error_rate_window_seconds": window_s, "timeout_ms": 300_000,
    })
}

/// Lets results come each `pause_ms` for two windows; in the first one every other fails.
pub(super) fn watch(window_s: u64, pause_ms: u64, error_rate_threshold: f64) -> Watched {
    let state = Arc::new(State::new(true));
    let mut fold = Fold::new(Arc::clone(&state), Arc::new(Verdicts::default()));
    let offset = Offset(0);
    let policy = json!({
        "policy_id": "default", "providers": [{"name": PROVIDER, "weight": 1}],
        "circuit_breaker": breaker(window_s, error_rate_threshold),
    });
    if let (Ok(tenant_id), Ok(policy_id)) = (TenantId::try_new(TENANT), PolicyId::try_new("default")) {
        let revision = Revision { created: 1, revision: 1 };
        let entry = PolicyEntry {
            tenant_id,
            policy_id,
            revision,
            document: Some(Arc::new(policy)),
            actor: None,
            reason: None,
            authenticated: None,
        };
        fold.apply(&Entry::Policy(entry), At { position: 1, stamp: Stamp(START_MS) }, offset, true);
    }
    let window_ms = window_s * 1_000;
    let width = window_ms / BUCKETS;
    let mut watched = Watched { readings: Vec::new(), opened_at: None };
    let mut all: Vec<(u64, bool)> = Vec::new();
    let mut next_reading = width;
    for n in 0..2 * window_ms / pause_ms {
        let since = n * pause_ms;
        let stamp = START_MS + since;
        while next_reading <= since {
            watched.readings.push(reading(&state, &all, next_reading, width));
            next_reading += width;
        }
        let failed = since < window_ms && n % 2 == 1;
        let at = At { position: 2 + n, stamp: Stamp(stamp) };
        let applied = fold.apply(&Entry::Result(outcome(failed, n)), at, offset, true);
        if applied.moved.iter().any(|m| m.transition.to == Shown::Open) {
            watched.opened_at.get_or_insert(n + 1);
        }
        // An open breaker counts nothing.
        if watched.opened_at.is_none_or(|at| at == n + 1) {
            all.push((stamp, failed));
        }
    }
    // By now the last failure is a window old.
    watched.readings.push(reading(&state, &all, 2 * window_ms, width));
    watched
}

fn reading(state: &State, all: &[(u64, bool)], at_ms: u64, width: u64) -> Reading {
    let now = START_MS + at_ms;
    let told = state.breaker(TENANT, PROVIDER).map(|cell| cell.lock().breaker.view(Stamp(now)).window);
    let told = told.unwrap_or_default();
    let kept = all.iter().filter(|(at, _)| at / width + BUCKETS > now / width);
    Reading {
        at_ms,
        told: Counted { requests: told.requests.into(), failures: told.failures.into() },
        recount: Counted {
            requests: kept.clone().count() as u64,
            failures: kept.filter(|(_, failed)| *failed).count() as u64,
        },
    }
}

fn outcome(failed: bool, n: u64) -> Outcome<'static> {
    let status = if failed { Status::Error } else { Status::Success };
    Outcome { latency_ms: Some(0), ..Outcome::of(TENANT, PROVIDER, status, n) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_tells_what_a_recount_tells_and_opens_at_its_threshold() {
        let watched = watch(30, 100, 0.6);
        assert_eq!(watched.opened_at, None);
        assert_eq!(watched.readings.len(), 20);
        for reading in &watched.readings {
            assert_eq!(reading.told, reading.recount, "{reading:?}");
        }
        let after_one = watched.readings[9];
        assert!(after_one.told.requests >= 270 && after_one.told.is_half());
        assert_eq!(watched.readings[19].told.failures, 0);
        assert_eq!(watch(30, 100, 0.5).opened_at, Some(10), "from minimum_requests on");
    }
}
