//! The same without a screen: a table for people and pipes, or a document for machines.

use serde_json::{Value, json};

use super::breaker::{Key, Known};
use super::model::Model;
use super::words::{age, next, rate, state};
use crate::cli::output::{Output, Table};
use crate::domain::Tick;

/// Says what is known.
pub(super) fn tell(model: &Model, now: Tick, wall_ms: u64, rows: Option<usize>, out: Output) {
    let shown = model.shown(now);
    let shown = shown.get(..rows.unwrap_or(usize::MAX).min(shown.len())).unwrap_or(&shown);
    if out.is_json() {
        out.body(&document(model, shown, now));
        return;
    }
    let (load, count) = (model.load(), model.count());
    let rates = load
        .rates
        .map_or(String::new(), |(all, refused)| format!(", {all:.0} decisions/s, {refused:.0} refused/s"));
    let states = format!("{} open, {} half-open, {} closed", count.open, count.half_open, count.closed);
    out.line(&format!("workers: {}{rates}; breakers: {states}; shown: {}", load.workers, shown.len()));
    let mut table = Table::new(&[
        "TENANT",
        "PROVIDER",
        "STATE",
        "FOR",
        "NEXT",
        "RATE",
        "FAILED/ALL",
        "TRIPS",
        "REFUSED",
        "POLICY",
    ]);
    for ((tenant, provider), known) in shown {
        let next = next(known, now);
        table.row([
            tenant.clone(),
            provider.clone(),
            state(known.state).to_owned(),
            age(wall_ms.saturating_sub(known.since_ms)),
            if next.is_empty() { "-".to_owned() } else { next },
            rate(known),
            format!("{}/{}", known.window_failures, known.window_requests),
            known.trips.to_string(),
            known.refusals().to_string(),
            known.policy_id.clone(),
        ]);
    }
    out.table(&table);
}

fn document(model: &Model, shown: &[(&Key, &Known)], now: Tick) -> Value {
    let (load, count) = (model.load(), model.count());
    let workers: Vec<_> = model
        .workers()
        .map(|w| {
            json!({
                "id": w.id, "name": w.name, "version": w.version, "requests": w.requests, "refused": w.refused,
            })
        })
        .collect();
    let breakers: Vec<_> = shown
        .iter()
        .map(|((tenant_id, provider_id), known)| {
            json!({
                "tenant_id": tenant_id, "provider_id": provider_id, "policy_id": known.policy_id,
                "state": known.state.as_str(), "forced": known.forced, "flag_off": known.flag_off,
                "since": known.since_ms, "error_rate": known.error_rate,
                "window_requests": known.window_requests, "window_failures": known.window_failures,
                "failure_count": known.failures_in_a_row, "half_open_in_flight": known.probing,
                "timeout_remaining_ms": known.remaining_ms(now), "trips": known.trips,
                "refused": known.refusals(),
            })
        })
        .collect();
    json!({
        "workers": workers,
        "decisions_per_second": load.rates.map(|(all, _)| all),
        "refused_per_second": load.rates.map(|(_, refused)| refused),
        "open": count.open, "half_open": count.half_open, "closed": count.closed,
        "breakers": breakers,
    })
}
