use std::sync::Arc;

use super::*;
use crate::breaker::{Settings, SettingsDraft};
use crate::domain::{Outcome, Stamp, Status, arm_hash};

mod figures;
mod logs;

const START: u64 = 1_800_000_000_000;
const MOST: usize = 100_000;

fn settings(change: impl FnOnce(&mut SettingsDraft)) -> Arc<Settings> {
    let mut draft = SettingsDraft { enabled: true, ..SettingsDraft::default() };
    change(&mut draft);
    Arc::new(Settings::try_new(&draft).unwrap())
}

fn empty(share: u8) -> Calls {
    Calls::new("acme", ["openai", "other"], settings(|_| {}), share, MOST)
}

/// A call of 100 ms that ended so many milliseconds after the start.
fn call(calls: &mut Calls, tenant: &str, at_ms: u64, status: Status) {
    let (id, at) = (format!("r{at_ms}"), Stamp(START + at_ms));
    let outcome = Outcome {
        request_id: Some(id.into()),
        latency_ms: Some(100),
        ..Outcome::of(tenant, "openai", status, 0)
    };
    calls.at(at);
    calls.result(&outcome, at.minus(100), at);
}

/// One call a second of the tenant; `fails` says which fail.
fn log(seconds: u64, fails: impl Fn(u64) -> bool) -> Calls {
    let mut calls = empty(0);
    for second in 0..seconds {
        let status = if fails(second) { Status::Error } else { Status::Success };
        call(&mut calls, "acme", second * 1_000, status);
    }
    calls
}

/// The row of these thresholds.
fn row(found: &Recommendation, failures: u64, error_rate: f64, minimum: u64, timeout_ms: u64) -> &Row {
    let is = |row: &&Row| {
        let draft = row.settings.to_draft();
        draft.failure_threshold == failures
            && (draft.error_rate_threshold - error_rate).abs() < 1e-6
            && draft.minimum_requests == minimum
            && draft.timeout_ms == timeout_ms
    };
    found.rows.iter().find(is).unwrap()
}
