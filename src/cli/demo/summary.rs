//! What the demo says at its end, and whether all happened that must. Pure.

use std::time::Duration;

use super::board::Board;
use super::frame::{long_transition_text, seconds};
use super::stage::{Agreement, Told};
use super::story::{Due, Story};
use super::tally::Ending;
use super::tenants::TENANTS;
use crate::breaker::State;

/// Transitions that are listed; the whole of one round, and more.
const LISTED: usize = 40;

/// What was shown.
#[derive(Debug)]
pub(super) struct Ended<'a> {
    pub(super) board: &'a Board,
    pub(super) told: &'a Told,
    /// What it ran on.
    pub(super) cast: &'a str,
    /// How long requests were made.
    pub(super) lasted: Duration,
    /// Whether every worker ended with exit status 0 when it was asked to.
    pub(super) drained: bool,
    /// Whether transitions are listed: not where each was told when it came.
    pub(super) listed: bool,
}

/// The summary, line by line.
pub(super) fn summary(ended: &Ended<'_>) -> Vec<String> {
    let board = ended.board;
    let mut lines = vec![format!("beamline-router demo, {} s: {}", seconds(ended.lasted, 1), ended.cast)];
    let mut row = |name: &str, text: String| lines.push(format!("{name:<13} {text}"));
    let rate = board.total.all() as f64 / ended.lasted.as_secs_f64().max(0.001);
    row(
        "requests",
        format!(
            "{}, {rate:.0} a second; decide p50 {}, p99 {} as the clients saw it",
            board.total.all(),
            board.latencies.shown(50),
            board.latencies.shown(99)
        ),
    );
    for ending in Ending::ALL {
        let count = board.total.of(ending);
        let usual = !matches!(ending, Ending::Refused | Ending::Unanswered);
        if usual || count > 0 {
            row("", format!("{count:>7}  {}", ending.label()));
        }
    }
    let unreported = match board.unreported_calls {
        0 => String::new(),
        n => format!("; the broker did not take {n} results"),
    };
    row(
        "calls",
        format!(
            "{} simulated, {} of them for pushed assignments, {} failed{unreported}",
            board.calls, board.pushed_calls, board.failed_calls
        ),
    );
    row("probes", format!("{} requests were let through as probes", board.probes));
    row("transitions", (board.transitions.len() as u64 + board.forgotten).to_string());
    let first = board.transitions.len().saturating_sub(if ended.listed { LISTED } else { 0 });
    if ended.listed && (first > 0 || board.forgotten > 0) {
        row("", format!("the last {LISTED} of them:"));
    }
    for transition in board.transitions.iter().skip(first) {
        row("", format!("{:>7} s  {}", seconds(transition.at, 2), long_transition_text(transition)));
    }
    row("opening", opening(board));
    let mut answered = ended.told.decisions.iter().map(|(name, n)| format!("{name} answered {n}"));
    row("workers", answered.by_ref().collect::<Vec<_>>().join(", "));
    row("", agreement(&ended.told.agreement, ended.told.decisions.len()));
    row(
        "",
        match ended.drained {
            true => "all drained and ended with exit status 0; nothing is left running".to_owned(),
            false => "not all drained in time; those were killed, nothing is left running".to_owned(),
        },
    );
    lines
}

/// What must have happened and did not; `run` is how long the story went on, if it was not cut short.
pub(super) fn missing(ended: &Ended<'_>, story: &Story, run: Option<Duration>) -> Vec<String> {
    let board = ended.board;
    let mut missing = Vec::new();
    if board.total.decided() == 0 {
        missing.push("no request was decided".to_owned());
    }
    match &ended.told.agreement {
        Agreement::Same { .. } => {}
        Agreement::Differ { .. } => {
            missing.push("the workers do not agree on the state of the breakers".to_owned())
        }
        Agreement::Unknown => missing.push("the workers could not be compared".to_owned()),
    }
    if !ended.drained {
        missing.push("a worker did not drain and end with exit status 0".to_owned());
    }
    let Some(run) = run else { return missing };
    let due = story.due(run);
    // What is no longer kept cannot be judged.
    let kept_from = match (board.forgotten, board.transitions.front()) {
        (1.., Some(oldest)) => oldest.at,
        _ => Duration::ZERO,
    };
    for due in due.iter().filter(|due| due.from >= kept_from) {
        for tenant in TENANTS.iter().filter(|t| t.providers.iter().any(|(name, _)| *name == due.provider)) {
            if let Some(lacking) = lacking(board, tenant.id, due) {
                let from = seconds(due.from, 0);
                missing.push(format!(
                    "{}/{} {lacking} after its failures from {from} s on",
                    tenant.id, due.provider
                ));
            }
        }
    }
    if !due.is_empty() {
        for (ending, what) in
            [(Ending::FailFast, "fail-fast reply"), (Ending::BreakerFallback, "fallback for an open circuit")]
        {
            if board.total.of(ending) == 0 {
                missing.push(format!("no {what} was seen"));
            }
        }
    }
    missing
}

/// The first of open, half-open and closed that did not follow, in this order, in an incident.
fn lacking(board: &Board, tenant: &str, due: &Due) -> Option<&'static str> {
    let mut states = board
        .transitions
        .iter()
        .filter(|t| t.tenant == tenant && t.provider == due.provider && t.at >= due.from && t.at < due.until)
        .map(|t| t.to);
    let steps = [
        (State::Open, "did not open"),
        (State::HalfOpen, "was not probed"),
        (State::Closed, "did not close"),
    ];
    steps.into_iter().find(|(state, _)| !states.any(|to| to == *state)).map(|(_, lacking)| lacking)
}

fn opening(board: &Board) -> String {
    let mut times: Vec<Duration> = board.transitions.iter().filter_map(|t| t.after).collect();
    times.sort_unstable();
    match (times.first(), times.get(times.len() / 2), times.last()) {
        (Some(least), Some(middle), Some(most)) => format!(
            "{} s from the first failure to open ({} circuits, {} to {} s)",
            seconds(*middle, 2),
            times.len(),
            seconds(*least, 2),
            seconds(*most, 2)
        ),
        _ => "no circuit opened".to_owned(),
    }
}

fn agreement(agreement: &Agreement, workers: usize) -> String {
    match agreement {
        Agreement::Same { position, digest } if workers == 1 => {
            format!("at log position {position} its state digest is {digest}")
        }
        Agreement::Same { position, digest } => {
            format!("at log position {position} all have state digest {digest}: they agree")
        }
        Agreement::Differ { position, digests } => {
            format!("at log position {position} they differ: state digests {}", digests.join(", "))
        }
        Agreement::Unknown => "they did not come to one log position, or did not answer".to_owned(),
    }
}

#[cfg(test)]
mod tests;
