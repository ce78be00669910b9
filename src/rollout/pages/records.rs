use std::collections::BTreeMap;

use super::calendar::Day;
use super::sums::Sums;
use super::text::{code, escaped};
use super::words;
use crate::domain::{Stamp, TenantId};
use crate::log::{OverlaySettings, StepEntry};
use crate::rollout::controller::{
    CriterionStatus, EvidenceStatus, Figures, History, Kind, Span, Status, TenantHistory, TenantState, Verb,
};
use crate::rollout::plan::Plan;

/// An accepted command and who gave it. Texts of records are ready for a page.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) sequence: u64,
    pub(super) verb: Verb,
    pub(super) actor: String,
    pub(super) reason: String,
}

/// A plan or a command that was accepted.
#[derive(Clone, Debug)]
pub(super) struct Action {
    pub(super) sequence: u64,
    pub(super) stamp: Stamp,
    pub(super) actor: String,
    pub(super) reason: String,
    pub(super) what: String,
    /// Whether it gives a phase more time.
    pub(super) extends: bool,
    /// Whether it is about a customer's issue.
    pub(super) issue: bool,
}

impl Action {
    pub(super) fn of(order: &Order, stamp: Stamp) -> Self {
        let Order { sequence, verb, actor, reason } = order;
        Self {
            sequence: *sequence,
            stamp,
            actor: actor.clone(),
            reason: reason.clone(),
            what: words::verb(verb),
            extends: matches!(verb, Verb::Extend { .. }),
            issue: matches!(verb, Verb::Issue { .. }),
        }
    }
}

/// A step that a decision made.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepRecord {
    pub(super) number: u64,
    /// Tenants whose share is 0, and those whose share is greater; `None` where nothing is laid over policies.
    pub(super) tenants: Option<[u64; 2]>,
}

impl StepRecord {
    pub(super) fn of(step: &StepEntry) -> Self {
        let count = |overlay: &OverlaySettings| {
            let at_zero = overlay.tenants.values().filter(|share| share.percent == 0).count();
            let above = overlay.tenants.len().saturating_sub(at_zero);
            [at_zero, above].map(|count| u64::try_from(count).unwrap_or(u64::MAX))
        };
        Self { number: step.number.n, tenants: step.overlay.as_ref().map(count) }
    }
}

/// A decision that took effect.
#[derive(Clone, Debug)]
pub(super) struct DecisionRecord {
    pub(super) sequence: u64,
    pub(super) stamp: Stamp,
    pub(super) n: u64,
    pub(super) kind: Kind,
    pub(super) what: String,
    /// The actor of the command that ordered it, or the controller.
    pub(super) who: String,
    pub(super) why: String,
    /// Whether a command ordered it.
    pub(super) is_ordered: bool,
    pub(super) figures: Figures,
    /// The state before and after it.
    pub(super) from: String,
    pub(super) to: String,
    /// As of the place at which it became due.
    pub(super) criteria: Vec<CriterionStatus>,
    pub(super) step: Option<StepRecord>,
}

impl DecisionRecord {
    /// The decision in a line.
    pub(super) fn reference(&self) -> String {
        format!("decision {}: {}, by {}, {}", self.n, self.what, self.who, self.why)
    }
}

/// A phase from its first step on.
#[derive(Clone, Debug)]
pub(super) struct PhaseRecord {
    pub(super) index: usize,
    /// Of its first step.
    pub(super) sequence: u64,
    pub(super) since: Stamp,
    /// Those who came in with it, by id.
    pub(super) tenants: Vec<TenantId>,
    /// The decision that ended it, as a place in the journal's list.
    pub(super) end: Option<usize>,
}

/// From a plan to its deletion.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) plan: Plan,
    /// The newest plan, and the start, as places in the journal's lists.
    pub(super) put: usize,
    pub(super) start: Option<usize>,
    pub(super) histories: Vec<HistoryRecord>,
    /// What the newest history knows of the cohort.
    pub(super) cohort: BTreeMap<TenantId, TenantHistory>,
    pub(super) already_enforced: Vec<TenantId>,
    pub(super) phases: Vec<PhaseRecord>,
    /// The decisions for the final bake and for its end, likewise.
    pub(super) bake: Option<usize>,
    pub(super) complete: Option<usize>,
    pub(super) deleted: bool,
}

impl Run {
    pub(super) const fn new(plan: Plan, put: usize) -> Self {
        Self {
            plan,
            put,
            start: None,
            histories: Vec::new(),
            cohort: BTreeMap::new(),
            already_enforced: Vec::new(),
            phases: Vec::new(),
            bake: None,
            complete: None,
            deleted: false,
        }
    }

    /// A history that was taken.
    pub(super) fn take(&mut self, history: &History, status: &Status) {
        for tenant in &history.tenants {
            if status.tenants.iter().any(|member| member.tenant_id == tenant.tenant) {
                self.cohort.insert(tenant.tenant.clone(), tenant.clone());
            }
        }
        self.already_enforced.clone_from(&status.already_enforced);
        let sum = |of: fn(&TenantHistory) -> u64| self.cohort.values().map(of).fold(0, u64::saturating_add);
        let (units, failures) = (sum(|tenant| tenant.units), sum(|tenant| tenant.failures));
        self.histories.push(HistoryRecord { span: history.span, units, failures });
    }
}

/// A history of the cohort.
#[derive(Clone, Copy, Debug)]
pub(super) struct HistoryRecord {
    pub(super) span: Span,
    pub(super) units: u64,
    pub(super) failures: u64,
}

/// How the rollout stands at the end of a day.
#[derive(Clone, Debug)]
pub(super) struct StatusSummary {
    pub(super) at: Stamp,
    pub(super) place: String,
    pub(super) evidence: EvidenceStatus,
    pub(super) qualified_ms: u64,
    pub(super) min_ms: u64,
    pub(super) max_ms: u64,
    pub(super) criteria: Vec<CriterionStatus>,
    pub(super) issues: Vec<String>,
    /// Tenants by state.
    pub(super) tenants: BTreeMap<&'static str, u64>,
    pub(super) needs: String,
    pub(super) when: Option<u64>,
}

impl StatusSummary {
    pub(super) fn new(status: Status, at: Stamp) -> Self {
        let mut tenants: BTreeMap<&'static str, u64> = BTreeMap::new();
        for tenant in &status.tenants {
            super::sums::increase(tenants.entry(words::tenant_state(tenant.state)).or_default(), 1);
        }
        Self {
            at,
            place: place(&status),
            tenants,
            evidence: status.evidence,
            qualified_ms: status.qualified_ms,
            min_ms: status.min_ms,
            max_ms: status.max_ms,
            needs: words::listed(&status.next.needs),
            when: status.next.when,
            criteria: status.criteria,
            issues: status.issues.iter().map(|issue| escaped(issue)).collect(),
        }
    }
}

/// Where a rollout stands, in a line.
pub(super) fn place(status: &Status) -> String {
    let mut place = code(&status.state);
    if let Some(phase) = &status.phase {
        place.push_str(&format!(", phase {}", code(phase)));
    }
    if let Some(step) = status.step {
        place.push_str(&format!(", step {} at {} %", step.saturating_add(1), status.percent));
    }
    if !status.reasons.is_empty() {
        place.push_str(&format!(" ({})", words::listed(&status.reasons)));
    }
    place
}

/// One day.
#[derive(Clone, Debug, Default)]
pub(super) struct DayRecord {
    pub(super) sums: Sums,
    pub(super) day_end: Option<StatusSummary>,
    /// What was not expected, and how often.
    pub(super) notes: BTreeMap<&'static str, u64>,
    pub(super) left: Vec<(TenantId, TenantState)>,
    /// Pauses by the controller that ended by themselves.
    pub(super) cleared: u64,
}

impl DayRecord {
    /// Whether a window is there.
    pub(super) const fn has_data(&self) -> bool {
        self.sums.windows > 0
    }
}

/// The days that have pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: Day,
    pub(super) last: Day,
}
