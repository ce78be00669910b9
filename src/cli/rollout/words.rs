//! What words of the router mean, and figures as people read them.

pub(super) use crate::cli::top::words::age;
use crate::rollout::controller::{PAUSED, Status, TenantState, TenantStatus};
use crate::rollout::judge::LogE;

/// What a reason of the judge or of the controller means; nothing for what is no such word.
pub(super) fn explained(word: &str) -> Option<&'static str> {
    Some(match word {
        "harm" => "it is proven that enforced requests fail more",
        "no_data" => "an arm of the comparison has no requests yet",
        "insufficient_sample" => "there are too few requests so far",
        "undecided" => "there are enough requests, and neither harm nor safety is proven",
        "sample_ratio" => {
            "the arms of the comparison do not have their sizes; nothing is enforced until resume"
        }
        "loss_ratio" => "one arm has more requests without an outcome; nothing is enforced until resume",
        "metric_discontinuity" => "part of the evidence is missing",
        "accounts_differ" => "the counts of the workers do not add up",
        "unexpected_open" => "a breaker opened though its provider was well",
        "recovery_overdue" => "a breaker closed late, or should be closed by now",
        "slower" => "enforced requests are slower than the limit",
        "issue_open" => "an issue of a customer is open",
        "stale_telemetry" => "the newest evidence is too old",
        "low_coverage" => "too many requests have no outcome",
        "latency_undecided" => "there are too few requests to compare latency",
        "open_unexplained" => "a breaker opened, and too few calls say whether its provider was well",
        "recovery_pending" => "a breaker is open, and not yet due to close",
        "not_exercised" => "no breaker has opened and closed yet; a drill does it",
        "too_early" => "the shortest time of the step is not over",
        "evidence_suspect" => "two halves that are treated alike differ, so the evidence cannot be trusted",
        "empty_cohort" => "no tenant is left on the ladder",
        "mixed_versions" => "a worker does not support rollouts; nothing is enforced until resume",
        "overridden" => "it is passed over",
        _ => return None,
    })
}

/// What the reasons of a status are for.
pub(super) fn held(status: &Status) -> &'static str {
    if status.state == PAUSED { "paused" } else { "nothing enforced" }
}

/// A reason with what it means.
pub(super) fn reason(word: &str) -> String {
    explained(word).map_or_else(|| word.to_owned(), |meaning| format!("{word}: {meaning}"))
}

pub(super) const fn tenant_state(state: TenantState) -> &'static str {
    match state {
        TenantState::Waiting => "waiting",
        TenantState::OnLadder => "on the ladder",
        TenantState::Passed => "passed",
        TenantState::RolledBack => "rolled back",
        TenantState::LeftOut => "left out",
        TenantState::Deleted => "deleted",
    }
}

/// States of tenants, those first that most needs a look.
const TENANT_STATES: [TenantState; 6] = [
    TenantState::OnLadder,
    TenantState::RolledBack,
    TenantState::LeftOut,
    TenantState::Deleted,
    TenantState::Passed,
    TenantState::Waiting,
];

/// How many tenants are in which state.
pub(super) fn tenant_counts(status: &Status) -> String {
    let count = |state| status.tenants.iter().filter(|tenant| tenant.state == state).count();
    let mut counts: Vec<String> = TENANT_STATES
        .into_iter()
        .filter(|state| count(*state) > 0)
        .map(|state| format!("{} {}", count(state), tenant_state(state)))
        .collect();
    if !status.already_enforced.is_empty() {
        counts
            .push(format!("{} not taken in, since a policy enforces already", status.already_enforced.len()));
    }
    if counts.is_empty() { "none yet".to_owned() } else { counts.join(", ") }
}

/// The tenants, those first that most needs a look: by state, then by the evidence against them.
pub(super) fn tenants(status: &Status) -> Vec<&TenantStatus> {
    let mut tenants: Vec<&TenantStatus> = status.tenants.iter().collect();
    let place = |state| TENANT_STATES.iter().position(|s| *s == state);
    tenants.sort_by_key(|tenant| {
        (place(tenant.state), std::cmp::Reverse(tenant.log_e), tenant.tenant_id.clone())
    });
    tenants
}

/// A line of what comes next: under `next` what happens or what to do, under `missing` what must come before.
pub(super) type Ahead = (&'static str, String);

/// What comes next.
pub(super) fn next(status: &Status) -> Vec<Ahead> {
    let mut lines: Vec<Ahead> = Vec::new();
    let mut add = |text: String| lines.push(("next", text));
    if let Some(n) = status.pending {
        add(format!("decision {n} is due, and not recorded yet"));
    }
    if status.graduating {
        add("the breaker settings are being written into the policies".to_owned());
    }
    let when = status.next.when.map(age);
    if status.next.needs.is_empty() {
        let is_judged = !status.criteria.is_empty() && status.state != PAUSED;
        match &when {
            Some(when) => add(format!("it is completed in {when} at the earliest")),
            None if is_judged && status.pending.is_none() => add("the step is about to end".to_owned()),
            None => {}
        }
    }
    let paused = status.state == PAUSED && !status.next.needs.iter().any(|need| need == "resume");
    if paused {
        add(way_out(status));
    }
    // The reasons of a pause are shown as such.
    let is_reason = |need: &String| status.reasons.contains(need);
    for need in status.next.needs.iter().filter(|need| !is_reason(need)) {
        lines.push(match (need.as_str(), &when) {
            ("history", _) => ("next", "the history of the phase is counted from the log".to_owned()),
            ("too_early", Some(when)) => ("next", format!("the step ends in {when} at the earliest")),
            ("put", _) => ("next", format!("a plan may be put for {} again", status.rollout)),
            (verb @ ("start" | "approve" | "resume" | "graduate" | "delete"), _) => {
                ("next", command(status, verb))
            }
            (word, _) => ("missing", reason(word)),
        });
    }
    lines
}

fn command(status: &Status, verb: &str) -> String {
    format!("beamline-router rollout {verb} {}", status.rollout)
}

/// How a pause ends that nobody ordered.
fn way_out(status: &Status) -> String {
    let any = |words: &[&str]| status.reasons.iter().any(|reason| words.contains(&reason.as_str()));
    if any(&["sample_ratio", "loss_ratio", "evidence_suspect", "mixed_versions"]) {
        format!("{}, where the evidence of the step begins anew", command(status, "resume"))
    } else if any(&["empty_cohort"]) {
        command(status, "abort")
    } else if status.step.is_none() {
        command(status, "resume")
    } else if status.reasons.iter().all(|reason| is_lack(reason)) {
        format!("the longest time is over; {} --by DURATION gives more", command(status, "extend"))
    } else {
        "it goes on by itself once the reasons are gone".to_owned()
    }
}

/// Whether a word says what is missing, and nothing that is wrong.
pub(super) fn is_lack(word: &str) -> bool {
    matches!(
        word,
        "no_data"
            | "insufficient_sample"
            | "undecided"
            | "stale_telemetry"
            | "low_coverage"
            | "latency_undecided"
            | "open_unexplained"
            | "recovery_pending"
            | "not_exercised"
            | "too_early"
    )
}

/// Evidence in nats.
pub(super) fn nats(log_e: LogE) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two decimals for people")]
    let nats = log_e.0 as f64 / 1e9;
    let text = format!("{nats:.2}");
    // What rounds to nothing has no sign.
    if text == "-0.00" { "0.00".to_owned() } else { text }
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
