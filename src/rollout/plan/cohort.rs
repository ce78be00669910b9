//! Who is in a rollout, and from which phase on: a pure choice from the plan and the tenants' history.
//!
//! The cohort is every tenant that `include` matches and `exclude` does not, without those whose documents
//! enforce already. It has one order. Each phase has the tenants of the phases before it and then the next
//! ones in that order; a phase with conditions passes over those that do not meet them, which come in
//! later. A share that earlier phases have reached already adds nobody. So the tenants in the order in
//! which they come in, and how many of them each phase has, are the whole choice: no tenant is twice in
//! it, and none leaves with a later phase.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::domain::{PhaseName, TenantId};

use super::model::{Cohort, Plan};
use super::pattern::Pattern;
use super::selection::TenantSelection;
use super::words::Order;

/// A tenant that the choice is made among.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tenant {
    /// Who it is.
    pub id: TenantId,
    /// Units of the history per minute, in thousandths.
    pub milli_per_minute: u64,
    /// Whether a document of the tenant enforces refusals already.
    pub already_enforced: bool,
}

/// The tenants of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    tenants: Vec<TenantId>,
    /// How many of them each phase has; these numbers never fall.
    ends: Vec<usize>,
    already_enforced: Vec<TenantId>,
}

/// A phase that does not find the tenants that it needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("phase {phase} {unmet}")]
pub struct UnmetPhase {
    /// Its place in the plan.
    pub index: usize,
    /// Its name.
    pub phase: PhaseName,
    /// What is lacking.
    pub unmet: Unmet,
}

/// What a phase lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// Not enough tenants meet its conditions.
    #[error("needs {count} tenants that meet its conditions, and {found} of {cohort} in the cohort do")]
    Count {
        /// As the plan wants it.
        count: u32,
        /// Those of earlier phases, and those that qualify.
        found: usize,
        /// All in the cohort.
        cohort: usize,
    },
    /// The cohort has fewer tenants than the phase's `min`.
    #[error("needs at least {min} tenants, and the cohort has {cohort}")]
    Min {
        /// As the plan wants it.
        min: u32,
        /// All in the cohort.
        cohort: usize,
    },
    /// There is no tenant at all.
    #[error("has no tenant: the cohort is empty")]
    Empty,
}

impl Members {
    /// The cohort, in the order in which its tenants come in; those that no phase has stand last.
    #[must_use]
    pub fn cohort(&self) -> &[TenantId] {
        &self.tenants
    }

    /// The tenants of a phase, those of earlier phases first; empty where there is no such phase.
    #[must_use]
    pub fn phase(&self, index: usize) -> &[TenantId] {
        let end = self.ends.get(index).copied().unwrap_or(0);
        self.tenants.get(..end).unwrap_or_default()
    }

    /// The tenants that come in with a phase.
    #[must_use]
    pub fn new_in(&self, index: usize) -> &[TenantId] {
        let before = index.checked_sub(1).map_or(0, |before| self.phase(before).len());
        self.phase(index).get(before..).unwrap_or_default()
    }

    /// Tenants that the plan means and that are not taken in, since a document of theirs enforces already;
    /// by id.
    #[must_use]
    pub fn already_enforced(&self) -> &[TenantId] {
        &self.already_enforced
    }
}

/// Chooses the tenants of each phase. The order of `tenants` has no effect; where one id stands there
/// twice, the entry that is greater counts.
///
/// # Errors
/// Every phase that does not find the tenants that it needs.
pub fn choose(plan: &Plan, tenants: &[Tenant]) -> Result<Members, Vec<UnmetPhase>> {
    let (enforced, cohort) = meant(&plan.cohort, tenants);
    let mut waiting = ordered(&plan.cohort, cohort);
    let mut chosen: Vec<&Tenant> = Vec::with_capacity(waiting.len());
    let cohort = waiting.len();
    let mut ends = Vec::with_capacity(plan.phases.len());
    let mut unmet_phases = Vec::new();
    for (index, phase) in plan.phases.iter().enumerate() {
        let unmet = enter(&phase.tenants, plan, &mut waiting, &mut chosen, cohort);
        unmet_phases.extend(unmet.map(|unmet| UnmetPhase { index, phase: phase.name.clone(), unmet }));
        ends.push(chosen.len());
    }
    if !unmet_phases.is_empty() {
        return Err(unmet_phases);
    }
    chosen.append(&mut waiting);
    let ids = |list: Vec<&Tenant>| list.into_iter().map(|tenant| tenant.id.clone()).collect();
    Ok(Members { tenants: ids(chosen), ends, already_enforced: ids(enforced) })
}

/// The tenants that the plan means, by id: those that enforce already, and the cohort.
fn meant<'t>(cohort: &Cohort, tenants: &'t [Tenant]) -> (Vec<&'t Tenant>, Vec<&'t Tenant>) {
    let matched = |list: &[Pattern], tenant: &Tenant| list.iter().any(|p| p.matches(tenant.id.as_str()));
    let is_meant = |t: &&Tenant| matched(&cohort.include, t) && !matched(&cohort.exclude, t);
    let mut meant: Vec<_> = tenants.iter().filter(is_meant).collect();
    // Of two entries of one id the greater comes first, and stays.
    meant.sort_unstable_by(|a, b| a.id.cmp(&b.id).then_with(|| b.cmp(a)));
    meant.dedup_by(|later, first| later.id == first.id);
    meant.into_iter().partition(|tenant| tenant.already_enforced)
}

/// The cohort in its order. Ties stay in the order of ids, in which it comes.
fn ordered<'t>(plan: &Cohort, mut cohort: Vec<&'t Tenant>) -> Vec<&'t Tenant> {
    match plan.order {
        // A tenant without traffic proves nothing, so it does not come first.
        Order::Traffic => cohort.sort_by_key(|t| (t.milli_per_minute == 0, t.milli_per_minute)),
        Order::Hash => {
            cohort.sort_by_cached_key(|t| xxh3_64_with_seed(t.id.as_str().as_bytes(), u64::from(plan.seed)));
        }
        Order::Listed => cohort
            .sort_by_cached_key(|t| plan.include.iter().position(|pattern| pattern.matches(t.id.as_str()))),
    }
    cohort
}

/// Moves the tenants that come in with a phase from those that wait to those that are chosen, and says
/// what the phase lacks.
fn enter<'t>(
    selection: &TenantSelection,
    plan: &Plan,
    waiting: &mut Vec<&'t Tenant>,
    chosen: &mut Vec<&'t Tenant>,
    cohort: usize,
) -> Option<Unmet> {
    match *selection {
        TenantSelection::Count { count, max_per_minute, critical } => {
            let least_busy = |t: &Tenant| {
                max_per_minute.is_none_or(|max| t.milli_per_minute <= u64::from(max).saturating_mul(1_000))
            };
            let fits = |t: &Tenant| least_busy(t) && (critical || !plan.is_critical(&t.id));
            take(waiting, chosen, size(count), fits);
            let found = chosen.len();
            (found < size(count)).then_some(Unmet::Count { count, found, cohort })
        }
        TenantSelection::Range { min, max } => {
            take(waiting, chosen, size(max), |_| true);
            (chosen.len() < size(min)).then_some(Unmet::Min { min, cohort })
        }
        TenantSelection::Percent { percent } => {
            let share = cohort.saturating_mul(usize::from(percent)).div_ceil(100);
            take(waiting, chosen, share, |_| true);
            chosen.is_empty().then_some(Unmet::Empty)
        }
    }
}

/// Takes the first of those that wait and fit, until so many are chosen.
fn take<'t>(
    waiting: &mut Vec<&'t Tenant>,
    chosen: &mut Vec<&'t Tenant>,
    target: usize,
    fits: impl Fn(&Tenant) -> bool,
) {
    waiting.retain(|&tenant| {
        let comes_in = chosen.len() < target && fits(tenant);
        if comes_in {
            chosen.push(tenant);
        }
        !comes_in
    });
}

fn size(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
