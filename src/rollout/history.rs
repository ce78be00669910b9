//! What the log knows of tenants before a phase: how many units each had, and how many of them failed.
//!
//! A unit is one request id, from its first result until `settle` later. Results that come later are passed over for as
//! long as it is remembered, as in [`evidence`](super::evidence). Its tenant's share plays no part. Replies without a
//! provider are not known for a tenant that nothing watches, so they are not counted: a tenant whose requests fail
//! because a breaker refuses them looks better than it is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::domain::{Stamp, Status, TenantId, arm_hash};
use crate::rollout::controller::{History, HistoryWanted, Span, TenantHistory};
use crate::rollout::evidence::REMEMBERED;

/// Units that are open at a time: those of a busy deployment in the longest `settle`. Of more, the oldest is counted
/// early. As many that are settled are remembered; of more, the oldest is forgotten.
const MAX_OPEN: usize = 1 << 20;
const MINUTE_MS: u64 = 60_000;

/// What is known of a tenant besides its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantFacts {
    /// Who.
    pub tenant: TenantId,
    /// Whether a document of the tenant enforces refusals already.
    pub already_enforced: bool,
    /// Whether every policy has a fallback for a refused request.
    pub fallback: bool,
    /// The longest open time of its policies.
    pub timeout_ms: u64,
}

/// Counts units of results in the order of the log.
#[derive(Debug)]
pub struct HistoryCount {
    settle_ms: u64,
    /// The place of each tenant in `counted`.
    tenants: BTreeMap<String, usize>,
    counted: Vec<Counted>,
    open: BTreeMap<Key, Unit>,
    /// Open units by their first result.
    order: VecDeque<(Stamp, Key)>,
    settled: BTreeSet<Key>,
    /// Settled units by their first result.
    settled_order: VecDeque<(Stamp, Key)>,
}

/// A unit: the place of its tenant, and the hash of its request id.
type Key = (usize, u64);

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    units: u64,
    failures: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Unit {
    succeeded: bool,
    failed: bool,
}

impl HistoryCount {
    /// Nothing yet; a unit is complete after `settle_ms`.
    #[must_use]
    pub fn new(settle_ms: u64) -> Self {
        Self {
            settle_ms,
            tenants: BTreeMap::new(),
            counted: Vec::new(),
            open: BTreeMap::new(),
            order: VecDeque::new(),
            settled: BTreeSet::new(),
            settled_order: VecDeque::new(),
        }
    }

    /// Takes a result. One without a request id is of no unit; a cancelled call says nothing.
    pub fn result(&mut self, tenant_id: &str, request_id: Option<&str>, status: Status, at: Stamp) {
        let due = at.minus(self.settle_ms);
        self.settle(|began, open| began < due || open >= MAX_OPEN);
        self.forget(at.minus(self.settle_ms.saturating_mul(REMEMBERED)));
        let Some(request_id) = request_id else { return };
        let key = (self.place(tenant_id), arm_hash(request_id));
        if self.settled.contains(&key) {
            return;
        }
        let unit = self.open.entry(key).or_insert_with(|| {
            self.order.push_back((at, key));
            Unit::default()
        });
        match status {
            Status::Success => unit.succeeded = true,
            Status::Error | Status::Timeout => unit.failed = true,
            Status::Cancelled => {}
        }
    }

    fn settle(&mut self, is_due: impl Fn(Stamp, usize) -> bool) {
        while let Some((began, key)) = self.order.front()
            && is_due(*began, self.open.len())
        {
            if let Some(unit) = self.open.remove(key)
                && (unit.succeeded || unit.failed)
                && let Some(counted) = self.counted.get_mut(key.0)
            {
                counted.units += 1;
                counted.failures += u64::from(!unit.succeeded);
            }
            self.settled.insert(*key);
            self.settled_order.push_back((*began, *key));
            self.order.pop_front();
        }
    }

    /// Forgets settled units that began before a moment.
    fn forget(&mut self, before: Stamp) {
        while let Some((began, key)) = self.settled_order.front()
            && (*began < before || self.settled_order.len() > MAX_OPEN)
        {
            self.settled.remove(key);
            self.settled_order.pop_front();
        }
    }

    fn place(&mut self, tenant_id: &str) -> usize {
        if let Some(place) = self.tenants.get(tenant_id) {
            return *place;
        }
        self.counted.push(Counted::default());
        let place = self.counted.len().saturating_sub(1);
        self.tenants.insert(tenant_id.to_owned(), place);
        place
    }

    /// The history of these tenants. `from` is the first stamp that the log still held.
    #[must_use]
    pub fn finish(
        mut self,
        wanted: &HistoryWanted,
        from: Stamp,
        facts: impl IntoIterator<Item = TenantFacts>,
    ) -> History {
        self.settle(|_, _| true);
        let span = Span { from: from.max(wanted.from).min(wanted.to), to: wanted.to };
        let length_ms = span.to.since(span.from).max(1);
        let tenant = |facts: TenantFacts| {
            let place = self.tenants.get(facts.tenant.as_str());
            let Counted { units, failures } =
                place.and_then(|place| self.counted.get(*place)).copied().unwrap_or_default();
            let per_minute = u128::from(units) * u128::from(1_000 * MINUTE_MS) / u128::from(length_ms);
            TenantHistory {
                tenant: facts.tenant,
                units,
                failures,
                milli_per_minute: u64::try_from(per_minute).unwrap_or(u64::MAX),
                already_enforced: facts.already_enforced,
                fallback: facts.fallback,
                timeout_ms: facts.timeout_ms,
            }
        };
        let tenants = facts.into_iter().map(tenant).collect();
        History { rollout: wanted.rollout.clone(), phase: wanted.phase, span, tenants }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RolloutId;

    fn counted(results: &[(&str, Option<&str>, Status, u64)]) -> (u64, u64, u64) {
        let mut count = HistoryCount::new(1_000);
        for (tenant, request, status, at) in results {
            count.result(tenant, *request, *status, Stamp(*at));
        }
        let wanted = HistoryWanted {
            rollout: RolloutId::try_new("cb").unwrap(),
            phase: 1,
            from: Stamp(0),
            to: Stamp(120_000),
        };
        let facts = |name| TenantFacts {
            tenant: TenantId::try_new(name).unwrap(),
            already_enforced: false,
            fallback: true,
            timeout_ms: 30_000,
        };
        let history = count.finish(&wanted, Stamp(60_000), [facts("a"), facts("silent")]);
        assert_eq!(history.span, Span { from: Stamp(60_000), to: Stamp(120_000) });
        assert_eq!((history.phase, history.tenants[1].units), (1, 0));
        let a = &history.tenants[0];
        (a.units, a.failures, a.milli_per_minute)
    }

    #[test]
    fn retries_of_a_request_are_one_unit_that_succeeds_if_any_does() {
        let results = [
            ("a", Some("r1"), Status::Error, 60_000),
            ("a", Some("r1"), Status::Success, 60_500),
            ("a", Some("r2"), Status::Error, 60_600),
            ("a", Some("r2"), Status::Timeout, 60_700),
            ("b", Some("r1"), Status::Error, 60_800),
        ];
        assert_eq!(counted(&results), (2, 1, 2_000));
    }

    #[test]
    fn results_of_a_settled_unit_are_passed_over_until_it_is_forgotten() {
        let result = |status, at| ("a", Some("r"), status, at);
        let first = result(Status::Error, 60_000);
        assert_eq!(counted(&[first, result(Status::Success, 61_000)]), (1, 0, 1_000));
        assert_eq!(counted(&[first, result(Status::Success, 61_001)]), (1, 1, 1_000));
        assert_eq!(counted(&[first, result(Status::Success, 70_000)]), (1, 1, 1_000));
        assert_eq!(counted(&[first, result(Status::Success, 70_001)]), (2, 1, 2_000));
    }

    #[test]
    fn cancelled_calls_and_results_without_a_request_are_no_units() {
        let results = [("a", Some("r"), Status::Cancelled, 60_000), ("a", None, Status::Error, 60_000)];
        assert_eq!(counted(&results), (0, 0, 0));
    }
}
