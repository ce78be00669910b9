use serde_json::Value;

use super::model::{Candidate, Policy};

/// Providers named in one warning; the rest are counted.
const NAMED: usize = 5;

/// What is legal in a document and probably not meant.
pub(super) fn of(policy: &Policy, document: &Value) -> Vec<String> {
    let mut list = Vec::new();
    weights(policy, &mut list);
    targets(policy, &mut list);
    if document.pointer("/sticky/ttl").is_some() {
        list.push(
            "sticky.ttl has no effect: a session's provider follows from its hash, nothing is stored"
                .to_owned(),
        );
    }
    breaker(policy, document, &mut list);
    list
}

fn weights(policy: &Policy, list: &mut Vec<String>) {
    let total = policy.total_weight();
    // What misses the whole by a thousandth was rounded: 33.33 three times.
    let off = |whole: u64| total.abs_diff(whole) > whole / 1_000;
    if policy.candidates.iter().filter(|c| c.listed).count() > 1 && off(100_000_000) && off(1_000_000) {
        let sum = total as f64 / 1_000_000.0;
        list.push(format!(
            "weights sum to {sum}, not 100: a provider's share is its weight divided by the sum"
        ));
    }
    let idle = |index: &usize| {
        policy.candidates.get(*index).is_some_and(|c| c.weight == 0)
            && policy.fallbacks.iter().all(|f| f.to != *index)
    };
    let idle = (0..policy.candidates.len()).filter(idle).filter_map(|index| policy.candidates.get(index));
    if let Some(names) = named(idle) {
        list.push(format!("weight 0 and no fallback to it, so no draw chooses it: {names}"));
    }
}

fn targets(policy: &Policy, list: &mut Vec<String>) {
    if let Some(names) = named(policy.candidates.iter().filter(|c| !c.listed)) {
        list.push(format!(
            "a fallback's target outside providers: no share of the draw, a breaker of its own: {names}"
        ));
    }
}

fn breaker(policy: &Policy, document: &Value, list: &mut Vec<String>) {
    let Some(block) = document.get("circuit_breaker").and_then(Value::as_object) else { return };
    let given = |name| block.contains_key(name);
    let draft = policy.breaker.to_draft();
    let on = draft.enabled;
    let at_most = draft.timeout_ms == draft.max_timeout_ms;
    let cases = [
        (
            !on && !block.is_empty() && !given("enabled"),
            "enabled is absent, which means false: nothing is refused",
        ),
        (
            on && draft.enforce_percent == 0,
            "enforce_percent is 0, shadow mode: all is tracked, nothing is refused",
        ),
        (on && draft.failure_statuses.is_empty(), "failure_statuses is empty: no result is a failure"),
        (
            on && given("slow_call_rate_threshold") && !given("latency_threshold_ms"),
            "slow_call_rate_threshold has no effect without latency_threshold_ms",
        ),
        (
            on && at_most && draft.backoff_multiplier > 1.0,
            "backoff_multiplier has no effect: timeout_ms is max_timeout_ms already",
        ),
        (
            on && at_most && draft.jitter_ratio > 0.0,
            "jitter_ratio only shortens the open time: timeout_ms is max_timeout_ms already",
        ),
    ];
    let told = cases.into_iter().filter_map(|(told, text)| told.then_some(text));
    list.extend(told.map(|text| format!("circuit_breaker.{text}")));
}

fn named<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> Option<String> {
    let names: Vec<_> = candidates.map(|c| c.provider.as_str()).collect();
    let (told, rest) = names.split_at(names.len().min(NAMED));
    match (told, rest.len()) {
        ([], _) => None,
        (told, 0) => Some(told.join(", ")),
        (told, more) => Some(format!("{} and {more} more", told.join(", "))),
    }
}
