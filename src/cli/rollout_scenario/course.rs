use super::plan::{Form, HARMED};
use crate::domain::Tick;
use crate::rollout::controller::{Status, TenantState};

/// The tenants of the second phase are watched for so long before the outage: for two blocks of the plan at least.
const CALM_MS: u64 = 2_500;
/// Proof of harm takes some seconds; without any by then, the rollout goes on as it is.
const PATIENCE_MS: u64 = 30_000;
/// The harmed tenant's fallback stays broken for this long after the rollback, while its circuit is open: what is not
/// refused then is let through by the rollback alone.
const AFTER_MS: u64 = 3_000;

/// How providers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) enum Providers {
    /// One call in a hundred fails.
    #[default]
    Well,
    /// The primary provider is down for everybody.
    Outage,
    /// For [`HARMED`], most calls to the fallback fail.
    BrokenFallback,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Say(&'static str),
    Set(Providers),
    Approve,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    /// The canary, until the second phase is at its step.
    #[default]
    Canary,
    /// Until then all is well. A circuit that opens later is judged by how its provider was before.
    Calm(Tick),
    /// Until then the provider is down.
    Outage(Tick),
    /// Until the tenant is rolled back, at most until then.
    BrokenFallback(Tick),
    /// The tenant is rolled back, and its fallback is broken until then.
    RolledBack(Tick),
    /// Nothing more happens.
    Rest,
}

/// What happens when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    form: Form,
    part: Part,
    /// Since when a phase waits for approval.
    waits: Option<Tick>,
}

impl Course {
    pub(super) const fn new(form: Form) -> Self {
        Self { form, part: Part::Canary, waits: None }
    }

    /// What there is to do, given how the rollout stands.
    pub(super) fn next(&mut self, status: &Status, now: Tick) -> Vec<Action> {
        let mut actions = Vec::new();
        let in_limited = status.phase.as_ref().is_some_and(|phase| phase.as_str() == "limited");
        let mut harmed = status.tenants.iter().filter(|tenant| tenant.tenant_id.as_str() == HARMED);
        let later = |ms: u64| Tick(now.0.saturating_add(ms));
        match self.part {
            Part::Canary if in_limited && status.percent > 0 => {
                self.part = Part::Calm(later(CALM_MS));
            }
            Part::Calm(until) if now >= until => {
                self.part = Part::Outage(later(self.form.outage_ms()));
                actions.push(Action::Say(
                    "openai is down for every tenant: both arms meet it, so nobody is rolled back",
                ));
                actions.push(Action::Set(Providers::Outage));
            }
            Part::Outage(until) if now >= until => {
                self.part = Part::BrokenFallback(later(PATIENCE_MS));
                actions.push(Action::Say(
                    "openai is well again. The circuit of delta is still open, and its fallback is broken: there a refusal does harm",
                ));
                actions.push(Action::Set(Providers::BrokenFallback));
            }
            Part::BrokenFallback(_) if harmed.any(|it| it.state == TenantState::RolledBack) => {
                self.part = Part::RolledBack(later(AFTER_MS));
                actions.push(Action::Say("delta is out: its circuit is open, and refuses nothing any more"));
            }
            Part::BrokenFallback(until) if now >= until => {
                self.part = Part::Rest;
                actions.push(Action::Say("delta is not rolled back; its fallback is mended"));
                actions.push(Action::Set(Providers::Well));
            }
            Part::RolledBack(until) if now >= until => {
                self.part = Part::Rest;
                actions.push(Action::Say("the fallback of delta is mended. The others go on"));
                actions.push(Action::Set(Providers::Well));
            }
            Part::Canary
            | Part::Calm(_)
            | Part::Outage(_)
            | Part::BrokenFallback(_)
            | Part::RolledBack(_)
            | Part::Rest => {}
        }
        let may_approve = !in_limited || self.part == Part::Rest;
        // A circuit that is still to close holds a phase that has passed.
        if may_approve && status.next.needs == ["approve"] {
            let since = *self.waits.get_or_insert(now);
            if now.since(since) >= self.form.look_ms() {
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
    use serde_json::json;

    use super::*;

    fn status(state: &str, phase: &str, percent: u8, harmed: &str) -> Status {
        serde_json::from_value(json!({
            "rollout": "breakers", "seq": 1, "state": state, "reasons": [], "phase": phase, "step": 0,
            "percent": percent,
            "tenants": [{"tenant_id": HARMED, "state": harmed, "percent": percent, "units": 1, "log_e": 0}],
            "already_enforced": [], "criteria": [], "qualified_ms": 0, "min_ms": 0, "max_ms": 0,
            "next": {"when": null, "needs": if state == "awaiting_approval" { vec!["approve"] } else { Vec::new() }},
            "evidence": {"harm_e": 0, "safe_e": 0, "units": 0, "needed": 0},
            "pending": null, "issues": [], "graduating": false,
        }))
        .unwrap()
    }

    /// What is done at a moment, without words.
    fn done(course: &mut Course, state: &str, phase: &str, harmed: &str, ms: u64) -> Vec<Action> {
        let actions = course.next(&status(state, phase, 50, harmed), Tick(ms));
        actions.into_iter().filter(|action| !matches!(action, Action::Say(_))).collect()
    }

    const WAITS: &str = "awaiting_approval";

    #[test]
    fn actions_follow_the_rollout() {
        let mut course = Course::new(Form::Short);
        let mut at = |state, phase, harmed, ms| done(&mut course, state, phase, harmed, ms);
        assert_eq!(at("running", "canary", "waiting", 0), []);
        assert_eq!(at(WAITS, "canary", "waiting", 1_000), []);
        assert_eq!(at(WAITS, "canary", "waiting", 2_000), [Action::Approve]);
        assert_eq!(at("running", "limited", "on_ladder", 2_500), []);
        assert_eq!(at("running", "limited", "on_ladder", 4_999), [], "how providers are is not known yet");
        assert_eq!(at("running", "limited", "on_ladder", 5_000), [Action::Set(Providers::Outage)]);
        assert_eq!(at(WAITS, "limited", "on_ladder", 9_000), []);
        let broken = [Action::Set(Providers::BrokenFallback)];
        assert_eq!(at(WAITS, "limited", "on_ladder", 10_000), broken);
        assert_eq!(at(WAITS, "limited", "on_ladder", 20_000), [], "not before it is out");
        assert_eq!(at(WAITS, "limited", "rolled_back", 21_000), []);
        assert_eq!(at(WAITS, "limited", "rolled_back", 23_000), [], "its circuit is open");
        assert_eq!(at(WAITS, "limited", "rolled_back", 24_000), [Action::Set(Providers::Well)]);
        assert_eq!(at(WAITS, "limited", "rolled_back", 25_000), [Action::Approve]);
    }

    #[test]
    fn a_rollback_that_does_not_come_does_not_hold_the_rollout() {
        let mut course = Course::new(Form::Short);
        let mut at = |state, ms| done(&mut course, state, "limited", "on_ladder", ms);
        assert_eq!(at("running", 0), []);
        assert_eq!(at("running", 2_500), [Action::Set(Providers::Outage)]);
        assert_eq!(at("running", 7_500), [Action::Set(Providers::BrokenFallback)]);
        assert_eq!(at(WAITS, 37_499), []);
        assert_eq!(at(WAITS, 37_500), [Action::Set(Providers::Well)]);
        assert_eq!(at(WAITS, 38_500), [Action::Approve]);
    }
}
