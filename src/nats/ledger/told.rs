//! What an applied entry makes known: to those who wait for it, in metrics, logs, events and traces.

use beamline_nats::MessageRef;

use super::reader::Report;
use crate::breaker::{Cause, State};
use crate::domain::{Disposition, Outcome};
use crate::ledger::{Applied, Moved, PolicyChange, What};
use crate::log::{At, Entry, FlagEntry, PolicyEntry, Scope};
use crate::nats::Worker;
use crate::nats::events::Event;
use crate::nats::headers::incoming;
use crate::rollout::evidence::{Losses, Lost};
use crate::telemetry::labels::EvidenceLost;
use crate::telemetry::{Facts, Message as Told, Metrics, TraceParent};

/// Makes an entry known. Of one that is history only its claim, were it ours.
pub(super) fn tell(
    worker: &Worker,
    message: &MessageRef<'_>,
    entry: &Entry<'_>,
    at: At,
    applied: &Applied,
    report: Report,
) {
    let live = report == Report::All;
    if matches!(entry, Entry::Policy(_) | Entry::Flag(_) | Entry::Force(_) | Entry::Reset(_)) {
        worker.ledger.note_change(at.position, &applied.what);
    }
    match (entry, &applied.what) {
        (Entry::Result(outcome), What::Result { disposition, .. }) => {
            if live {
                worker.metrics.results.inc(Some(outcome.status), *disposition);
            }
            ended(worker, message, outcome, *disposition);
        }
        (_, What::Result { status, disposition }) if live => {
            worker.metrics.results.inc(*status, *disposition)
        }
        (Entry::Ended(ended), _) => {
            worker.assignments.ended(&ended.assignment_id);
        }
        (_, What::Claim { claim, verdict }) => worker.claims.resolve(*claim, *verdict, worker.clock.nanos()),
        (Entry::Policy(entry), What::Policy(change)) if live => policy(worker, entry, change, at),
        (Entry::Flag(entry), What::Flag { newer: true }) if live => flag(worker, entry, at),
        (_, What::Late) if live => {
            let subject = message.subject().unwrap_or_default();
            tracing::warn!(event = "log_entry_late", position = at.position, subject);
        }
        (Entry::FoldVersion(entry), What::FoldVersion { newer: true }) if live => {
            let (version, position) = (entry.version.0, at.position);
            tracing::info!(event = "fold_version_raised", version, position);
        }
        (Entry::Unknown, _) => {
            let subject = message.subject().unwrap_or_default();
            if let Some(stands_for) = worker.line_due("log_entry_unknown", subject) {
                tracing::warn!(event = "log_entry_unknown", position = at.position, subject, stands_for);
            }
        }
        _ => {}
    }
    if live && applied.forgotten_early {
        worker.metrics.results_forgotten_early.inc();
    }
    if live && applied.windows_closed > 0 {
        worker.metrics.rollout_windows_closed.inc_by(applied.windows_closed);
    }
    if live && let Some(lost) = &applied.evidence_lost {
        evidence_lost(&worker.metrics, lost);
    }
    if report != Report::Nothing && !applied.moved.is_empty() {
        let headers = message.headers().unwrap_or_default();
        let parent = headers.get("traceparent").and_then(TraceParent::parse);
        let trace_id = match entry {
            Entry::Result(outcome) => outcome.trace_id.as_deref().map(str::to_owned),
            _ => None,
        }
        .or_else(|| parent.map(|p| p.trace_id_hex()));
        let command = match entry {
            Entry::Force(command) | Entry::Reset(command) => Some(command),
            _ => None,
        };
        for (n, moved) in applied.moved.iter().enumerate() {
            if live {
                log(moved, trace_id.as_deref());
            }
            worker.events.send(Event::transition(at, n, moved, command), &worker.metrics);
        }
    }
}

/// Counts what the evidence of rollouts lost.
fn evidence_lost(metrics: &Metrics, lost: &Lost) {
    let Lost { of_rollouts: Losses { windows, units, settled, opens }, steps, workers } = *lost;
    for (of, count) in [
        (EvidenceLost::Windows, windows),
        (EvidenceLost::Units, units),
        (EvidenceLost::Settled, settled),
        (EvidenceLost::Opens, opens),
        (EvidenceLost::Steps, steps),
        (EvidenceLost::Workers, workers),
    ] {
        metrics.rollout_evidence_lost.add(of, count);
    }
}

/// The result of an assignment that this worker pushed: nobody waits for it any more, and its span is
/// linked to the decision's.
fn ended(worker: &Worker, message: &MessageRef<'_>, outcome: &Outcome<'_>, disposition: Disposition) {
    let Some(assignment_id) = outcome.assignment_id.as_deref() else { return };
    let Some(tracked) = worker.assignments.ended(assignment_id) else { return };
    worker.metrics.assignments.inc(crate::telemetry::labels::Assignment::Result);
    if !worker.tracing.is_on() {
        return;
    }
    let Ok(message) = message.read() else { return };
    let told = Told {
        subject: message.subject,
        body_size: message.payload.len(),
        id: message.headers.get("Nats-Msg-Id"),
    };
    if let Some(span) = worker.tracing.result(&incoming(&message.headers), &told, tracked.trace) {
        span.end(&Facts {
            request_id: outcome.request_id.as_deref(),
            tenant_id: Some(&outcome.tenant_id),
            provider_id: Some(&outcome.provider_id),
            assignment_id: Some(assignment_id),
            status: Some(outcome.status),
            disposition: Some(disposition),
            ..Facts::default()
        });
    }
}

fn policy(worker: &Worker, entry: &PolicyEntry, change: &PolicyChange, at: At) {
    let (tenant_id, policy_id) = (entry.tenant_id.as_str(), entry.policy_id.as_str());
    let revision = entry.revision.revision;
    let kind = match change {
        PolicyChange::Stale => return,
        PolicyChange::Put => "put",
        PolicyChange::Deleted => "deleted",
        PolicyChange::Refused(faults) => {
            let faults =
                faults.iter().map(|f| format!("{}: {}", f.path, f.message)).collect::<Vec<_>>().join("; ");
            if let Some(stands_for) = worker.line_due("policy_refused", &format!("{tenant_id}/{policy_id}")) {
                tracing::error!(event = "policy_refused", tenant_id, policy_id, revision, faults, stands_for);
            }
            "refused"
        }
    };
    tracing::info!(
        event = "policy_changed",
        change = kind,
        tenant_id,
        policy_id,
        revision,
        actor = entry.actor,
        authenticated = entry.authenticated.as_ref().map(tracing::field::display)
    );
    worker.events.send(Event::policy(at, kind, entry), &worker.metrics);
}

fn flag(worker: &Worker, entry: &FlagEntry, at: At) {
    let tenant_id = match &entry.scope {
        Scope::Global => None,
        Scope::Tenant { tenant_id } => Some(tenant_id.as_str()),
    };
    let enabled = entry.circuit_breaker_enabled;
    let authenticated = entry.authenticated.as_ref().map(tracing::field::display);
    tracing::warn!(
        event = "circuit_breaker_flag_set",
        tenant_id,
        enabled,
        actor = entry.actor,
        authenticated
    );
    worker.events.send(Event::flag(at, entry), &worker.metrics);
}

/// The contract's log lines.
fn log(moved: &Moved, trace_id: Option<&str>) {
    let (cell, t) = (&moved.cell, &moved.transition);
    let (tenant_id, provider_id) = (cell.tenant_id.as_str(), cell.provider_id.as_str());
    let policy_id = moved.policy_id.as_str();
    let (reason, from) = (t.cause.as_str(), t.from.as_str());
    let (failure_count, error_rate, trips) = (t.failures_in_a_row, t.window.error_rate().as_f64(), t.trips);
    if t.from == t.to {
        let (state, command) = (t.to.as_str(), reason);
        tracing::info!(event = "circuit_breaker_command", tenant_id, provider_id, policy_id, state, command);
        return;
    }
    match t.to {
        State::Open => tracing::warn!(
            event = "circuit_breaker_opened",
            tenant_id,
            provider_id,
            policy_id,
            reason,
            from,
            failure_count,
            error_rate,
            trace_id,
            trips
        ),
        State::HalfOpen => tracing::info!(
            event = "circuit_breaker_half_opened",
            tenant_id,
            provider_id,
            policy_id,
            reason,
            from,
            failure_count,
            error_rate,
            trace_id
        ),
        State::Closed => tracing::info!(
            event = "circuit_breaker_closed",
            tenant_id,
            provider_id,
            policy_id,
            reason,
            from,
            failure_count,
            error_rate,
            trace_id,
            forced = t.cause == Cause::Forced
        ),
    }
}
