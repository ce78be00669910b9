use serde_json::{Value, json};

use crate::domain::Tick;
use crate::rollout::controller::{Status, TenantState};

/// The rollout.
pub(super) const ROLLOUT: &str = "demo";
/// In the order in which they come in.
pub(super) const TENANTS: [&str; 8] = ["acme", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven"];
/// Whose fallback is broken.
pub(super) const HARMED: &str = "delta";

/// How long the provider is down for everybody.
const OUTAGE_MS: u64 = 8_000;
/// A person looks at a phase that has passed for this long.
const LOOK_MS: u64 = 2_000;

/// Three phases of seconds.
pub(super) fn plan() -> Value {
    let phase = |name: &str, tenants: Value, ladder: Value, min: &str| json!({"name": name, "tenants": tenants, "ladder": ladder, "bake": "2s", "min": min, "max": "10m"});
    json!({
        "kind": "PolicyRollout",
        "id": ROLLOUT,
        "history": "1m",
        "circuit_breaker": {
            "failure_threshold": 5, "timeout_ms": 1000, "success_threshold": 3, "error_rate_window_seconds": 5,
        },
        "cohort": {"order": "listed", "include": TENANTS},
        "analysis": {
            "block": "1s", "settle": "500ms", "max_stale": "30s", "exercise": "no",
            "safe": {"margin": 0.05}, "latency": {"quantiles": []},
        },
        "phases": [
            phase("canary", json!({"count": 1}), json!([0, 10, 50]), "4s"),
            phase("limited", json!({"min": 5, "max": 5}), json!([50]), "5s"),
            phase("all", json!({"percent": 100}), json!([50]), "5s"),
        ],
        "final_bake": "3s",
    })
}

/// A policy that says nothing of breakers: all to one provider, and what its breaker refuses to another.
pub(super) fn policy() -> Value {
    json!({
        "policy_id": "default",
        "providers": [{"name": "openai", "weight": 100}],
        "fallbacks": [{"when": {"status": ["circuit_breaker_open"]}, "to": "local"}],
    })
}

/// How providers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Providers {
    /// One call in a hundred fails.
    #[default]
    Well,
    /// `openai` is down for everybody.
    Outage,
    /// For [`HARMED`], `openai` fails more than half of the calls, and `local` nearly all.
    BrokenFallback,
}

/// What the demo does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Say(&'static str),
    Set(Providers),
    Approve,
}

/// How far the demo is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    /// The canary, until the second phase is at its step.
    #[default]
    Canary,
    /// Until then the provider is down.
    Outage(Tick),
    /// Until the tenant is rolled back.
    BrokenFallback,
    /// Nothing more happens.
    Rest,
}

/// What happens when.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Course {
    part: Part,
    /// Since when a phase waits for approval.
    waits: Option<Tick>,
}

impl Course {
    /// What there is to do, given how the rollout stands.
    pub(super) fn next(&mut self, status: &Status, now: Tick) -> Vec<Action> {
        let mut actions = Vec::new();
        let in_limited = status.phase.as_ref().is_some_and(|phase| phase.as_str() == "limited");
        let harmed = status.tenants.iter().find(|tenant| tenant.tenant_id.as_str() == HARMED);
        match self.part {
            Part::Canary if in_limited && status.percent > 0 => {
                self.part = Part::Outage(Tick(now.0.saturating_add(OUTAGE_MS)));
                actions.push(Action::Say(
                    "openai is down for every tenant: both arms meet it, so nobody is rolled back",
                ));
                actions.push(Action::Set(Providers::Outage));
            }
            Part::Outage(until) if now >= until => {
                self.part = Part::BrokenFallback;
                actions.push(Action::Say(
                    "openai is well again, but for delta, whose fallback is broken: there a refusal does harm",
                ));
                actions.push(Action::Set(Providers::BrokenFallback));
            }
            Part::BrokenFallback if harmed.is_some_and(|it| it.state == TenantState::RolledBack) => {
                self.part = Part::Rest;
                actions.push(Action::Say("delta is out; its provider is mended. The others go on"));
                actions.push(Action::Set(Providers::Well));
            }
            Part::Canary | Part::Outage(_) | Part::BrokenFallback | Part::Rest => {}
        }
        let may_approve = !in_limited || self.part == Part::Rest;
        // A circuit that is still to close holds a phase that has passed.
        if may_approve && status.next.needs == ["approve"] {
            let since = *self.waits.get_or_insert(now);
            if now.since(since) >= LOOK_MS {
                self.waits = None;
                actions.push(Action::Approve);
            }
        } else {
            self.waits = None;
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: &str, phase: &str, percent: u8, harmed: &str) -> Status {
        serde_json::from_value(json!({
            "rollout": "demo", "seq": 1, "state": state, "reasons": [], "phase": phase, "step": 0,
            "percent": percent,
            "tenants": [{"tenant_id": HARMED, "state": harmed, "percent": percent, "units": 1, "log_e": 0}],
            "already_enforced": [], "criteria": [], "qualified_ms": 0, "min_ms": 0, "max_ms": 0,
            "next": {"when": null, "needs": if state == "awaiting_approval" { vec!["approve"] } else { Vec::new() }},
            "evidence": {"harm_e": 0, "safe_e": 0, "units": 0, "needed": 0,
                "harm_threshold": 0, "safe_threshold": 0},
            "pending": null, "issues": [], "graduating": false,
        }))
        .unwrap()
    }

    #[test]
    fn the_plan_and_the_policies_are_sound() {
        crate::rollout::plan::parse(&plan()).unwrap();
        crate::policy::parse(&policy()).unwrap();
    }

    #[test]
    fn actions_follow_the_rollout() {
        let mut course = Course::default();
        let mut at = |state: &str, phase: &str, percent: u8, harmed: &str, ms: u64| {
            let actions = course.next(&status(state, phase, percent, harmed), Tick(ms));
            actions.into_iter().filter(|action| !matches!(action, Action::Say(_))).collect::<Vec<_>>()
        };
        assert_eq!(at("running", "canary", 50, "waiting", 0), []);
        assert_eq!(at("awaiting_approval", "canary", 50, "waiting", 1_000), []);
        assert_eq!(at("awaiting_approval", "canary", 50, "waiting", 3_000), [Action::Approve]);
        assert_eq!(at("running", "limited", 50, "on_ladder", 5_000), [Action::Set(Providers::Outage)]);
        assert_eq!(at("awaiting_approval", "limited", 50, "on_ladder", 12_000), []);
        let broken = [Action::Set(Providers::BrokenFallback)];
        assert_eq!(at("awaiting_approval", "limited", 50, "on_ladder", 13_000), broken);
        assert_eq!(at("awaiting_approval", "limited", 50, "on_ladder", 20_000), [], "not before it is out");
        let well = [Action::Set(Providers::Well)];
        assert_eq!(at("awaiting_approval", "limited", 50, "rolled_back", 21_000), well);
        assert_eq!(at("awaiting_approval", "limited", 50, "rolled_back", 24_000), [Action::Approve]);
    }
}
